"""Users: registering, logging in and out, passwords, tokens and their ends, and what people say about themselves."""

import asyncio
import hashlib
import re
import secrets
import string
import threading
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import argon2
import pytest
from sqlalchemy import text

from db.engine import utc_now
from delivery.bus import Bus
from delivery.stream import Streams
from resolvers import users
from resolvers.passwords import Hasher
from resolvers.reader import LogReader
from resolvers.services import Services
from tests.conftest import OwnServer
from tests.harness import GraphQLFailure, Json, Person, Server, Socket, SocketClosed, World, eventually, refused
from tests.harness.client import JsonValue
from tests.harness.world import PASSWORD
from tests.inside import database_of

NUL, HALF = "a\x00bcdefgh", "a\ud800bcdefgh"
ASTRONAUT, FULL_WIDTH_ADA = "\U0001f9d1\u200d\U0001f680", "\uff41\uff44\uff41"
ODD_TEXTS = [ASTRONAUT, "שלום עולם", "e\u0301 is not é", "İstanbul", "<b>&amp;", "\\u0041", "a\u200bb"]


def account(**changes: Any) -> Json:
    """Input for register with a username that is free."""
    free = f"ada-{uuid.uuid4().hex[:12]}"
    return {"username": free, "password": PASSWORD, "firstName": "Ada", "lastName": "Lovelace"} | changes


async def register(server: Server, **changes: Any) -> Json:
    return await server.client().run("Register", input=account(**changes))


async def login(server: Server, username: str, password: str = PASSWORD) -> Json:
    return await server.client().run("Login", input={"username": username, "password": password})


async def by_socket(socket: Socket, name: str, **variables: Any) -> JsonValue:
    """One query or mutation on a socket, which carries every text that JSON can write, halves of pairs included."""
    return await (await socket.follow(name, **variables)).event()


@pytest.fixture
async def socket(server: Server) -> AsyncIterator[Socket]:
    """A socket of nobody."""
    async with server.socket() as socket:
        yield socket


@asynccontextmanager
async def services_beside(server: Server, *, behind: timedelta = timedelta()) -> AsyncGenerator[Services]:
    """The use cases on the database of a running server, with a clock that is behind."""
    hasher = Hasher(server.settings)
    async with database_of(server, clock=lambda: utc_now() - behind) as database:
        try:
            yield Services(server.settings, database, Streams(Bus("memory://"), LogReader(database), 5.0), hasher)
        finally:
            hasher.stop()


# Registering


async def test_registering_makes_a_user_and_logs_in(server: Server) -> None:
    before = datetime.now(UTC)
    given = account(nickname="Countess", avatarUrl="https://example.org/ada.png")
    payload = await server.client().run("Register", input=given)
    viewer = payload["viewer"]
    del given["password"]
    assert {name: viewer[name] for name in given} == given
    assert viewer == await server.client(payload["token"]).run("Viewer")
    lifetime = datetime.fromisoformat(payload["expiresAt"]) - before
    assert timedelta(days=30) <= lifetime < timedelta(days=30, minutes=1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", payload["expiresAt"])


async def test_a_token_has_256_bits_and_is_kept_as_a_digest(server: Server) -> None:
    given = account()
    token: str = (await server.client().run("Register", input=given))["token"]
    assert len(token) >= 43, "43 characters of base64 carry 256 bits"
    async with services_beside(server) as services, services.read() as transaction:
        digests = list((await transaction.execute(text("SELECT digest FROM tokens"))).scalars())
        kept = str((await transaction.execute(text("SELECT * FROM users"))).all())
    assert hashlib.sha256(token.encode()).digest() in digests
    assert token.encode() not in digests
    assert "$argon2id$" in kept
    assert given["password"] not in kept


@pytest.mark.parametrize("length", [3, 32])
async def test_usernames_of_3_to_32_known_characters_are_taken(server: Server, length: int) -> None:
    for characters in (string.ascii_lowercase, string.digits + "._-", "._-" + string.ascii_lowercase):
        username = "b" + "".join(secrets.choice(characters) for _ in range(length - 1))
        try:
            assert (await register(server, username=username))["viewer"]["username"] == username
        except GraphQLFailure as failure:
            assert failure.code == "CONFLICT", "short ones can be taken already"  # noqa: PT017


@pytest.mark.parametrize(
    "username",
    [
        "",
        "ab",
        "a" * 33,
        "ada lovelace",
        " ada",
        "ada\n",
        "adá",
        "ada@b",
        FULL_WIDTH_ADA,
        "ad🧑",
        "a/b",
        "aİb",
        NUL,
        HALF,
    ],
)
async def test_other_usernames_are_refused(socket: Socket, username: str) -> None:
    with refused("BAD_USER_INPUT") as refusal:
        await by_socket(socket, "Register", input=account(username=username))
    assert refusal.value.extensions["field"] == "username"


@pytest.mark.parametrize("username", ["all", "ALL", "All.", "all_", "all-.-", "all" + "." * 29])
async def test_nobody_is_named_as_everybody_is(socket: Socket, username: str) -> None:
    with refused("BAD_USER_INPUT") as refusal:
        await by_socket(socket, "Register", input=account(username=username))
    assert refusal.value.extensions["field"] == "username"


async def test_capitals_in_a_username_are_lowered_wherever_it_is_given(world: World, server: Server) -> None:
    given = account()
    shouted = given["username"].upper()
    viewer = (await register(server, username=shouted))["viewer"]
    assert viewer["username"] == given["username"]
    assert (await login(server, shouted))["viewer"] == viewer
    assert await (await world.user()).run("User", username=shouted) == viewer


async def test_a_username_is_given_once(server: Server) -> None:
    taken = (await register(server))["viewer"]["username"]
    for username in (taken, taken.upper()):
        with refused("CONFLICT"):
            await register(server, username=username, password="another password")
    await login(server, taken)


async def test_of_many_who_register_one_username_at_once_one_gets_it(server: Server) -> None:
    given = account()
    done = await asyncio.gather(
        *(server.client().run("Register", input=given) for _ in range(6)), return_exceptions=True
    )
    failures = [each for each in done if isinstance(each, GraphQLFailure)]
    assert [each.code for each in failures] == ["CONFLICT"] * 5


@pytest.mark.parametrize("password", ["8 bytes.", "éééé", "x" * 1024, "é" * 512, " " * 8, "🧑🧑", "line\nbreak\t"])
async def test_a_password_of_8_to_1024_bytes_logs_in(server: Server, password: str) -> None:
    viewer = (await register(server, password=password))["viewer"]
    assert (await login(server, viewer["username"], password))["viewer"] == viewer


@pytest.mark.parametrize("password", ["", "7 bytes", "ééé", "x" * 1025, "é" * 513, NUL, HALF])
async def test_any_other_password_is_refused(socket: Socket, password: str) -> None:
    with refused("BAD_USER_INPUT") as refusal:
        await by_socket(socket, "Register", input=account(password=password))
    assert refusal.value.extensions["field"] == "password"


async def test_a_password_is_compared_byte_for_byte(server: Server) -> None:
    username = (await register(server, password=" Pass é word "))["viewer"]["username"]
    for other in ("Pass é word", " pass é word ", " Pass e\u0301 word ", " Pass é word", " Pass é word  "):
        with refused("UNAUTHENTICATED"):
            await login(server, username, other)
    await login(server, username, " Pass é word ")


# What people say about themselves


@pytest.mark.parametrize("name", ["firstName", "lastName"])
async def test_a_name_has_1_to_100_code_points_after_trimming(world: World, name: str) -> None:
    ada = await world.user()
    for given, kept in (
        (" x ", "x"),
        ("🧑" * 100, "🧑" * 100),
        ("\u3000Zoë\n", "Zoë"),
        (" " * 50 + "y" * 100, "y" * 100),
    ):
        assert (await ada.run("UpdateViewer", input={name: given}))["viewer"][name] == kept
        assert (await register(server_of(world), **{name: given}))["viewer"][name] == kept
    socket = await ada.socket()
    for given in ("", "   ", "x" * 101, "🧑" * 101, NUL, HALF, None):
        with refused("BAD_USER_INPUT") as refusal:
            await by_socket(socket, "UpdateViewer", input={name: given})
        assert refusal.value.extensions["field"] == name
        with refused("BAD_USER_INPUT"):
            await by_socket(socket, "Register", input=account(**{name: given}))
    assert (await ada.run("Viewer"))[name] == "y" * 100


def server_of(world: World) -> Server:
    assert isinstance(world.server, Server)
    return world.server


async def test_a_nickname_has_up_to_100_code_points_and_blank_is_none(world: World) -> None:
    ada = await world.user()
    for given, kept in (
        (" Zed ", "Zed"),
        ("🧑" * 100, "🧑" * 100),
        ("  ", None),
        ("x", "x"),
        ("", None),
        ("y", "y"),
        (None, None),
    ):
        assert (await ada.run("UpdateViewer", input={"nickname": given}))["viewer"]["nickname"] == kept
    socket = await ada.socket()
    for given in ("x" * 101, NUL, HALF):
        with refused("BAD_USER_INPUT") as refusal:
            await by_socket(socket, "UpdateViewer", input={"nickname": given})
        assert refusal.value.extensions["field"] == "nickname"


async def test_a_picture_is_an_http_address_or_a_path_of_this_site(world: World) -> None:
    ada = await world.user()
    long = "https://example.org/" + "a" * 2_028
    for given in ("https://example.org/a.png?b=c#d", "http://example.org", "/pictures/ada.png", "/", long, None):
        assert (await ada.run("UpdateViewer", input={"avatarUrl": given}))["viewer"]["avatarUrl"] == given
    socket = await ada.socket()
    scripts = ("javascript:alert(1)", "data:text/html,x", "//example.org/a.png", "ftp://example.org/a.png", "https://")
    for given in (*scripts, "", "a.png", "https://example.org/a b", "https://[", long + "a", "/a\nb", "/" + NUL, HALF):
        with refused("BAD_USER_INPUT") as refusal:
            await by_socket(socket, "UpdateViewer", input={"avatarUrl": given})
        assert refusal.value.extensions["field"] == "avatarUrl"


@pytest.mark.parametrize("odd", ODD_TEXTS)
async def test_names_come_back_byte_for_byte(world: World, odd: str) -> None:
    ada, other = await world.users("ada", "other")
    given = {"firstName": odd, "lastName": odd, "nickname": odd}
    assert (await ada.run("UpdateViewer", input=given))["viewer"].items() >= given.items()
    assert (await other.run("User", username=ada.username)).items() >= given.items()


async def test_the_name_to_show_is_the_nickname_or_else_the_first_and_last_name(world: World) -> None:
    ada = await world.user()
    changed = await ada.run("UpdateViewer", input={"firstName": "Ada", "lastName": "Lovelace", "nickname": "Countess"})
    assert changed["viewer"]["displayName"] == "Countess"
    changed = await ada.run("UpdateViewer", input={"nickname": None})
    assert changed["viewer"]["displayName"] == "Ada Lovelace"


async def test_what_is_left_out_of_an_update_stays(world: World) -> None:
    ada = await world.user()
    whole: Json = {"firstName": "A", "lastName": "L", "nickname": "N", "avatarUrl": "/a.png"}
    await ada.run("UpdateViewer", input=whole)
    for name, value in (("firstName", "B"), ("lastName", "M"), ("nickname", None), ("avatarUrl", None)):
        whole[name] = value
        assert (await ada.run("UpdateViewer", input={name: value}))["viewer"].items() >= whole.items()
    assert (await ada.run("UpdateViewer", input={}))["viewer"].items() >= whole.items()
    with refused("BAD_USER_INPUT"):
        await ada.run("UpdateViewer", input={"firstName": "C", "lastName": ""})
    assert (await ada.run("Viewer")).items() >= whole.items()


async def test_a_change_of_names_is_seen_in_groups_and_messages_at_once(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    await world.send(ada, group_id)
    await ada.run("UpdateViewer", input={"nickname": "Countess"})
    shown = await bob.run("Group", id=group_id)
    assert shown["createdBy"]["nickname"] == "Countess"
    assert shown["lastMessage"]["sender"]["displayName"] == "Countess"


async def test_people_find_each_other_by_username_and_by_id(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    found = await ada.run("User", username=bob.username)
    assert found["id"] == bob.id
    assert await ada.run("Node", id=bob.id) == {"__typename": "User"} | found
    for username in ("", "nobody-of-that-name", "not a username", "x" * 10_000, "a\x00b"):
        assert await ada.run("User", username=username) is None


# Logging in


async def test_each_login_gives_a_token_of_its_own(server: Server) -> None:
    first = await register(server)
    second = await login(server, first["viewer"]["username"])
    assert second["viewer"] == first["viewer"]
    assert second["token"] != first["token"]
    for payload in (first, second):
        assert await server.client(payload["token"]).run("Viewer") == first["viewer"]


async def test_an_unknown_user_gets_the_answer_of_a_wrong_password_after_the_same_work(
    server: Server, world: World, socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, gone = await world.users("ada", "gone")
    async with services_beside(server) as services:
        assert await users.disable(services, gone.username)
    runs: list[argon2.Parameters] = []
    verify = argon2.PasswordHasher.verify

    def counted(self: argon2.PasswordHasher, known: str, password: str) -> bool:
        runs.append(argon2.extract_parameters(known))
        return verify(self, known, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted)
    answers: list[list[Json]] = []
    tries = [(ada.username, "wrong password"), ("nobody-of-that-name", PASSWORD), (gone.username, PASSWORD)]
    tries += [
        ("", PASSWORD),
        ("not a username", PASSWORD),
        (NUL, PASSWORD),
        (ada.username, ""),
        (ada.username, "x" * 9_999),
    ]
    tries += [(ada.username, NUL), (ada.username, HALF), ("nobody-of-that-name", HALF)]
    for username, password in tries:
        with refused("UNAUTHENTICATED") as refusal:
            await by_socket(socket, "Login", input={"username": username, "password": password})
        answers.append(refusal.value.errors)
    assert all(answer == answers[0] for answer in answers)
    assert len(runs) == len(tries), "one run of argon2 for each"
    assert set(map(str, runs)) == {str(runs[0])}, "all of the same cost"


async def test_hashing_is_bounded_and_never_stalls_others(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await own_server(argon2_threads=1, argon2_waiting=1)
    payload = await register(server)
    go_on, verify = threading.Event(), argon2.PasswordHasher.verify

    def held(self: argon2.PasswordHasher, known: str, password: str) -> bool:
        assert go_on.wait(10)
        return verify(self, known, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", held)
    tries = [asyncio.create_task(login(server, payload["viewer"]["username"])) for _ in range(3)]
    (one_too_many,), waiting = await asyncio.wait(tries, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    with refused("SERVICE_UNAVAILABLE") as refusal:
        await one_too_many
    assert refusal.value.extensions["committed"] is False
    assert await server.client(payload["token"]).run("Viewer") == payload["viewer"]
    go_on.set()
    assert len({each["token"] for each in await asyncio.gather(*waiting)}) == 2


@pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer", "Basic YTpi", "nonsense", "Bearer " + "x" * 999])
async def test_a_token_that_is_no_good_fails_only_what_needs_a_viewer(server: Server, header: str) -> None:
    client, headers = server.client(), {"Authorization": header}

    async def answer(name: str, document: str, **variables: Any) -> Json:
        return (await client.raw(document, variables, headers=headers)).json()

    (error,) = (await answer("viewer", "{ viewer { id } }"))["errors"]
    assert error["extensions"]["code"] == "UNAUTHENTICATED"
    assert await answer("introspection", "{ __typename }") == {"data": {"__typename": "Query"}}
    given = account()
    document = "mutation ($input: RegisterInput!) { register(input: $input) { token } }"
    assert (await answer("register", document, input=given))["data"]["register"]["token"]
    document = "mutation ($input: LoginInput!) { login(input: $input) { token } }"
    given = {name: given[name] for name in ("username", "password")}
    assert (await answer("login", document, input=given))["data"]["login"]["token"]


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
async def test_the_scheme_of_a_token_may_be_written_in_any_case(server: Server, scheme: str) -> None:
    payload = await register(server)
    response = await server.client().raw("{ viewer { id } }", headers={"Authorization": scheme + payload["token"]})
    assert response.json() == {"data": {"viewer": {"id": payload["viewer"]["id"]}}}


# The end of a token


async def is_ended(server: Server, token: str) -> bool:
    """Whether the token is felt to be no good, by requests and by new sockets alike."""
    try:
        await server.client(token).run("Viewer")
    except GraphQLFailure as failure:
        if failure.code != "UNAUTHENTICATED":
            raise
        with pytest.raises(SocketClosed) as closed:
            async with server.socket(token):
                pass
        return closed.value.code == 4403
    return False


async def test_logging_out_ends_the_token_of_the_request_and_no_other(server: Server, world: World) -> None:
    ada = await world.user()
    other = await login(server, ada.username)
    assert await ada.run("Logout") == {"loggedOut": True}
    assert await is_ended(server, ada.token)
    with refused("UNAUTHENTICATED"):
        await ada.run("Logout")
    assert not await is_ended(server, other["token"])
    await login(server, ada.username)


async def test_a_token_expires_after_the_days_of_the_setting(server: Server, world: World) -> None:
    ada, days = await world.user(), server.settings.token_days
    for age, ended in ((timedelta(days, hours=-1), False), (timedelta(days, seconds=1), True)):
        async with services_beside(server, behind=age) as services:
            user = await users.by_username(services, ada.username)
            assert user is not None
            issued = await users.issue_token(services, user, days)
        assert await is_ended(server, issued.token) is ended


async def test_beyond_so_many_tokens_of_a_user_the_oldest_ends(own_server: OwnServer) -> None:
    server = await own_server(max_tokens_per_user=2)
    first = await register(server)
    later = [(await login(server, first["viewer"]["username"]))["token"] for _ in range(2)]
    assert [await is_ended(server, token) for token in (first["token"], *later)] == [True, False, False]


async def test_changing_the_password_ends_every_other_token(server: Server, world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    others = [(await login(server, ada.username))["token"] for _ in range(2)]
    changed = {"currentPassword": PASSWORD, "newPassword": "another password"}
    viewer = await ada.run("Viewer")
    assert (await ada.run("ChangePassword", input=changed))["viewer"] == viewer
    assert [await is_ended(server, token) for token in (*others, ada.token, bob.token)] == [True, True, False, False]
    with refused("UNAUTHENTICATED"):
        await login(server, ada.username)
    assert (await login(server, ada.username, "another password"))["viewer"] == viewer


async def test_a_password_is_changed_only_by_who_knows_it_and_only_to_a_good_one(server: Server, world: World) -> None:
    ada = await world.user()
    other = (await login(server, ada.username))["token"]
    socket = await ada.socket()
    for current in ("wrong password", "", "x" * 9_999, NUL, HALF):
        with refused("BAD_USER_INPUT") as refusal:
            await by_socket(socket, "ChangePassword", input={"currentPassword": current, "newPassword": "good enough"})
        assert refusal.value.extensions["field"] == "currentPassword"
    for new in ("7 bytes", "x" * 1025, NUL, HALF):
        with refused("BAD_USER_INPUT") as refusal:
            await by_socket(socket, "ChangePassword", input={"currentPassword": PASSWORD, "newPassword": new})
        assert refusal.value.extensions["field"] == "newPassword"
    assert not await is_ended(server, other)
    await login(server, ada.username)


async def test_a_login_with_the_old_password_does_not_outlive_a_change_that_comes_between(
    server: Server, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await world.user()
    verified, go_on, verify = threading.Event(), threading.Event(), argon2.PasswordHasher.verify

    def held(self: argon2.PasswordHasher, known: str, password: str) -> bool:
        matches = verify(self, known, password)
        if not verified.is_set():
            verified.set()
            assert go_on.wait(10)
        return matches

    monkeypatch.setattr(argon2.PasswordHasher, "verify", held)
    trying = asyncio.create_task(login(server, ada.username))
    await eventually(verified.is_set)
    await ada.run("ChangePassword", input={"currentPassword": PASSWORD, "newPassword": "another password"})
    go_on.set()
    with refused("UNAUTHENTICATED"):
        await trying


async def test_of_two_changes_of_one_password_at_once_one_is_done(server: Server, world: World) -> None:
    ada = await world.user()
    other = server.client((await login(server, ada.username))["token"])
    new = [secrets.token_urlsafe(), secrets.token_urlsafe()]
    done = await asyncio.gather(
        *(
            client.run("ChangePassword", input={"currentPassword": PASSWORD, "newPassword": password})
            for client, password in zip((ada.client, other), new, strict=True)
        ),
        return_exceptions=True,
    )
    won = [password for password, answer in zip(new, done, strict=True) if not isinstance(answer, GraphQLFailure)]
    assert len(won) == 1
    await login(server, ada.username, won[0])


async def test_a_disabled_user_is_gone_for_others_but_what_they_wrote_stays(server: Server, world: World) -> None:
    ada, gone = await world.users("ada", "gone")
    group_id = await world.group(ada, gone)
    await world.send(gone, group_id, "I was here")
    async with services_beside(server) as services:
        assert await users.disable(services, gone.username)
        assert not await users.disable(services, gone.username)
    assert await is_ended(server, gone.token)
    assert await ada.run("User", username=gone.username) is None
    shown = (await ada.run("Group", id=group_id))["lastMessage"]
    assert (shown["content"], shown["sender"]["id"]) == ("I was here", gone.id)
    for name in ("AddMember", "InviteMember"):
        other_group = await world.group(ada)
        with refused("NOT_FOUND"):
            await ada.run(name, input={"groupId": other_group, "userId": gone.id})
    with refused("NOT_FOUND"):
        await ada.run("CreateGroup", input={"name": "Chess", "memberIds": [gone.id]})


async def test_a_user_shows_no_secret_in_any_field(world: World) -> None:
    ada: Person = await world.user()
    fields = await ada.client.execute('{ __type(name: "User") { fields { name } } }')
    shown = {field["name"] for field in fields["__type"]["fields"]}
    names = {"username", "firstName", "lastName", "nickname", "displayName"}
    assert shown == {"id", "avatarUrl", "sharesReadPositions"} | names
