"""The GraphiQL page over HTTP: what is served, with which headers, and that nothing in it comes from elsewhere."""

import gzip
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from graphql import build_schema, parse, validate
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from schema import graphiql

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "web" / "graphiql"
VENDOR = PAGE / "vendor"


def graphql(request: Request) -> Response:
    return graphiql.page() if graphiql.wanted(request) else PlainTextResponse("not the page")


@pytest.fixture
def browser() -> Iterator[TestClient]:
    app = Starlette(routes=[Route("/graphql", graphql, methods=["GET", "POST"]), *graphiql.routes])
    with TestClient(app, headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}) as client:
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
    kinds = {"href", "src", "data-welcome"}
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
    assert len(found) == 9
    assert [address for address in found if not re.fullmatch(r"graphql/assets/[\w./-]+\?v=[0-9a-f]{16}", address)] == []


def test_every_file_that_the_page_names_is_served_whole_and_kept_for_ever(browser: TestClient) -> None:
    types = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "graphql": "text/plain"}
    for address in named(browser):
        response = browser.get(address)
        name = address.removeprefix("/graphql/assets/").partition("?")[0]
        assert response.content == (PAGE / name).read_bytes()
        assert response.headers["content-type"].split(";")[0] == types[name.rpartition(".")[2]]
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"


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


def test_the_vendored_files_are_what_their_packages_hold() -> None:
    lines = [line.split("  ") for line in (VENDOR / "SHA256SUMS").read_text().splitlines()]
    listed = {name: digest for digest, name in lines}
    found = {path.name: path.read_bytes() for path in VENDOR.iterdir() if path.suffix in {".js", ".css"}}
    assert listed == {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}


def test_our_own_files_name_no_other_host() -> None:
    own = [path for path in PAGE.iterdir() if path.is_file()]
    text = "".join(path.read_text("utf-8") for path in own)
    assert set(re.findall(r"\w+://[^\s\"'`]+", text)) == {"http://www.w3.org/2000/svg"}


def test_what_the_page_shows_first_is_valid_against_the_schema() -> None:
    schema = build_schema((ROOT / "graphql" / "schema.graphql").read_text("utf-8"))
    assert validate(schema, parse((PAGE / "welcome.graphql").read_text("utf-8"))) == []


def test_what_the_bar_sends_is_valid_against_the_schema() -> None:
    schema = build_schema((ROOT / "graphql" / "schema.graphql").read_text("utf-8"))
    sent = re.findall(r'query: "(.+)"', (PAGE / "parley.js").read_text("utf-8"))
    assert len(sent) == 4
    assert [error for document in sent for error in validate(schema, parse(document))] == []
