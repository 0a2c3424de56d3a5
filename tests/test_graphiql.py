"""The GraphiQL page over HTTP: what is served, with which headers, and that nothing in it comes from elsewhere."""

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

import pytest
from graphql import GraphQLSchema, OperationDefinitionNode, build_schema, parse, validate
from graphql.execution.values import get_variable_values
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from app import create
from schema import graphiql
from settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "web" / "graphiql"
VENDOR = PAGE / "vendor"
OPERATIONS = "/graphql/assets/operations.json"
HTML = "text/html,application/xhtml+xml,*/*;q=0.8"  # what a browser says that it can show


def graphql(request: Request) -> Response:
    return graphiql.page() if graphiql.wanted(request) else PlainTextResponse("not the page")


@pytest.fixture
def browser() -> Iterator[TestClient]:
    app = Starlette(routes=[Route("/graphql", graphql, methods=["GET", "POST"]), *graphiql.routes])
    with TestClient(app, headers={"accept": HTML}) as client:
        yield client


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text inside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str]]] = []
        self.inline = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.inline += data.strip() if self.cdata_elem else ""


def addresses(html: str) -> list[str]:
    """Everything the page loads, in its order."""
    kinds = {"href", "src", "data-welcome", "data-operations"}
    return [value for _, attributes in Elements(html).all for name, value in attributes.items() if name in kinds]


def named(browser: TestClient) -> list[str]:
    return [f"/{address}" for address in addresses(browser.get("/graphql").text)]


def policy(response_header: str) -> dict[str, str]:
    return dict(directive.split(" ", 1) for directive in response_header.split("; "))


def test_a_browser_that_opens_the_endpoint_gets_the_page(browser: TestClient) -> None:
    response = browser.get("/graphql")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["vary"] == "accept"
    assert response.headers["cache-control"] == "no-cache"
    assert "<title>Parley</title>" in response.text


@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/graphql-response+json"])
def test_a_client_that_names_no_html_does_not_get_the_page(browser: TestClient, accept: str) -> None:
    assert browser.get("/graphql", headers={"accept": accept}).text == "not the page"


def test_a_query_in_the_address_is_not_answered_with_the_page(browser: TestClient) -> None:
    assert browser.get("/graphql", params={"query": "{ viewer { id } }"}).text == "not the page"


def test_a_post_is_not_answered_with_the_page(browser: TestClient) -> None:
    assert browser.post("/graphql").text == "not the page"


def test_the_page_may_load_only_from_its_own_origin_and_be_framed_by_nobody(browser: TestClient) -> None:
    headers = browser.get("/graphql").headers
    rules = policy(headers["content-security-policy"])
    assert rules["default-src"] == rules["script-src"] == rules["connect-src"] == "'self'"
    assert rules["base-uri"] == rules["frame-ancestors"] == rules["form-action"] == rules["object-src"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_the_page_holds_no_inline_script_and_no_inline_style(browser: TestClient) -> None:
    elements = Elements(browser.get("/graphql").text)
    assert elements.inline == ""
    assert [tag for tag, _ in elements.all if tag == "style"] == []
    assert [tag for tag, attributes in elements.all if tag == "script" and "src" not in attributes] == []
    assert [name for _, attributes in elements.all for name in attributes if name == "style" or name[:2] == "on"] == []


def test_every_address_in_the_page_is_relative_so_that_a_prefix_in_front_works(browser: TestClient) -> None:
    found = addresses(browser.get("/graphql").text)
    assert len(found) == 12
    assert [address for address in found if not re.fullmatch(r"graphql/assets/[\w./-]+\?v=[0-9a-f]{16}", address)] == []


def test_every_file_that_the_page_names_is_served_whole_and_kept_for_ever(browser: TestClient) -> None:
    types = {
        "js": "text/javascript",
        "css": "text/css",
        "svg": "image/svg+xml",
        "graphql": "text/plain",
        "json": "application/json",
    }
    for address in named(browser):
        response = browser.get(address)
        name = address.removeprefix("/graphql/assets/").partition("?")[0]
        assert response.status_code == 200
        assert name == "operations.json" or response.content == (PAGE / name).read_bytes()
        assert response.headers["content-type"].split(";")[0] == types[name.rpartition(".")[2]]
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"


def test_every_module_that_the_script_imports_is_served_and_asked_for_anew_each_time(browser: TestClient) -> None:
    seen, waiting = set[str](), ["parley.js"]
    while waiting:
        name = waiting.pop()
        response = browser.get(f"/graphql/assets/{name}")
        assert (response.status_code, response.headers["cache-control"]) == (200, "no-cache"), name
        assert response.headers["content-type"].startswith("text/javascript")
        seen.add(name)
        waiting += set(re.findall(r'(?:from|import) "\./([\w./-]+)"', response.text)) - seen
    assert seen == {path.name for path in PAGE.glob("*.js")}


def test_a_file_asked_for_with_another_hash_is_not_kept(browser: TestClient) -> None:
    for address in ("/graphql/assets/parley.js", "/graphql/assets/parley.js?v=0123456789abcdef"):
        response = browser.get(address)
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-cache"


def test_a_file_that_the_browser_has_is_not_sent_again(browser: TestClient) -> None:
    first = browser.get("/graphql/assets/parley.js")
    again = browser.get("/graphql/assets/parley.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    other = browser.get("/graphql/assets/parley.css", headers={"if-none-match": first.headers["etag"]})
    assert other.status_code == 200


def test_files_are_compressed_for_whoever_accepts_it(browser: TestClient) -> None:
    path = "/graphql/assets/vendor/graphiql.min.js"
    with browser.stream("GET", path, headers={"accept-encoding": "gzip"}) as response:
        sent = b"".join(response.iter_raw())
    assert response.headers["content-encoding"] == "gzip"
    assert gzip.decompress(sent) == (VENDOR / "graphiql.min.js").read_bytes()
    assert len(sent) < 400_000
    plain = browser.get(path, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert response.headers["vary"] == plain.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize(
    "name",
    [
        "index.html",
        "vendor/README.md",
        "vendor/LICENSE.react",
        "operations/Login.graphql",
        "vendor/SHA256SUMS",
        "vendor/",
        "",
        "..%2f..%2fsettings.py",
        "vendor/%2e%2e/%2e%2e/%2e%2e/settings.py",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "parley.js%00.css",
    ],
)
def test_no_other_file_is_served(browser: TestClient, name: str) -> None:
    response = browser.get(f"/graphql/assets/{name}")
    assert response.status_code == 404
    assert response.headers["x-content-type-options"] == "nosniff"


def test_a_file_cannot_be_written(browser: TestClient) -> None:
    assert browser.post("/graphql/assets/parley.js").status_code == 405


@pytest.mark.parametrize(("setting", "statuses"), [("on", (200, 200)), ("off", (405, 404))])
def test_graphiql_and_its_files_are_served_unless_they_are_turned_off(
    setting: Literal["on", "off"], statuses: tuple[int, int]
) -> None:
    settings = Settings(graphiql=setting)
    browser = TestClient(create(settings), headers={"accept": HTML})  # not entered: nothing is started
    addresses = ("/graphql", "/graphql/assets/parley.js")
    assert tuple(browser.get(address).status_code for address in addresses) == statuses


def test_the_vendored_files_are_what_their_packages_hold() -> None:
    lines = [line.split("  ") for line in (VENDOR / "SHA256SUMS").read_text().splitlines()]
    listed = {name: digest for digest, name in lines}
    found = {path.name: path.read_bytes() for path in VENDOR.iterdir() if path.suffix in {".js", ".css"}}
    assert listed == {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}


def test_our_own_files_name_no_other_host() -> None:
    own = [path for path in PAGE.iterdir() if path.is_file()]
    text = "".join(path.read_text("utf-8") for path in own)
    assert set(re.findall(r"\w+://[^\s\"'`]+", text)) == {"http://www.w3.org/2000/svg"}


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    return build_schema((ROOT / "graphql" / "schema.graphql").read_text("utf-8"))


def prepared(browser: TestClient) -> list[dict[str, Any]]:
    """The operations of the pane, in its order."""
    return [operation for section in browser.get(OPERATIONS).json() for operation in section["operations"]]


def test_the_pane_holds_every_document_of_the_folder_as_it_is_kept_there(browser: TestClient) -> None:
    shown = [(each["name"], each["document"]) for each in prepared(browser)]
    kept = [(path.stem, path.read_text("utf-8")) for path in (ROOT / "graphql" / "operations").glob("*.graphql")]
    assert sorted(shown) == sorted(kept), "web/graphiql/operations.json says where each stands, and its variables"


def test_each_operation_is_prepared_with_variables_that_its_document_takes(
    browser: TestClient, schema: GraphQLSchema
) -> None:
    for each in prepared(browser):
        (operation, *_) = parse(each["document"]).definitions
        assert isinstance(operation, OperationDefinitionNode)
        definitions = operation.variable_definitions or ()
        assert set(each["variables"]) <= {definition.variable.name.value for definition in definitions}, each["name"]
        assert not isinstance(get_variable_values(schema, definitions, each["variables"]), list), each["name"]


def test_what_stands_for_an_id_is_something_that_the_page_learns_from_answers(browser: TestClient) -> None:
    learned = set(re.findall(r'^  ("<[\w ]+>"):', (PAGE / "variables.js").read_text("utf-8"), re.MULTILINE))
    used = set(re.findall(r'"<[\w ]+>"', json.dumps([each["variables"] for each in prepared(browser)])))
    assert used == learned


def test_the_tabs_of_the_start_are_operations_of_the_pane(browser: TestClient) -> None:
    (listed,) = re.findall(r"\[welcome, \.\.\.(\[.+?\])\.map", (PAGE / "parley.js").read_text("utf-8"))
    assert set(json.loads(listed)) <= {each["name"] for each in prepared(browser)}


def test_what_the_page_shows_first_is_valid_against_the_schema(schema: GraphQLSchema) -> None:
    assert validate(schema, parse((PAGE / "welcome.graphql").read_text("utf-8"))) == []


def test_what_the_bar_sends_is_valid_against_the_schema(schema: GraphQLSchema) -> None:
    text = "".join(path.read_text("utf-8") for path in PAGE.glob("*.js"))
    sent = re.findall(r'query: "(.+)"', text)
    assert len(sent) == 4
    assert [error for document in sent for error in validate(schema, parse(document))] == []
