"""What hostile clients do beside those who talk: too much, half of it, nothing that anybody understands."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from settings import Settings
from tests.chaos.clients import Sender
from tests.chaos.faults.nodes import victim
from tests.chaos.report import percentiles
from tests.chaos.scene import Scene, Talk
from tests.chaos.wire import HOST, Caller, Place, acknowledged, opened
from tests.harness import Json

TYPENAME = "{ __typename }"
REFUSED_SECONDS = 10.0
HANGING = 60  # half-sent requests at once
CUT_SECONDS = 6.0  # after two, which the launcher makes of fifteen
DEFAULTS = Settings.model_fields
MOST_BODY, MOST_FRAME = (int(DEFAULTS[name].default) for name in ("max_body_bytes", "max_frame_bytes"))
# Right to left, a family joined by zero-width joiners, and as many combining marks as fit.
ODD = "\u202e\u05e9\u05dc\u05d5\u05dd \U0001f469\u200d\U0001f469\u200d\U0001f467 e" + "\u0301" * 500
NEWEST_CONTENT = "query ($id: ID!) { group(id: $id) { messages(last: 50) { nodes { content clientMessageId } } } }"


# Over HTTP


def _post(body: bytes, *more: str, length: int | None = None) -> bytes:
    lines = (f"Host: {HOST}", f"Content-Length: {len(body) if length is None else length}", *more)
    kind = () if any(line.startswith("Content-Type") for line in more) else ("Content-Type: application/json",)
    return "\r\n".join(("POST /graphql HTTP/1.1", *lines, *kind, "", "")).encode() + body


GOOD = _post(json.dumps({"query": TYPENAME}).encode())
HOSTILE: Mapping[str, tuple[bytes, int]] = {
    "nothing": (_post(b""), 400),
    "half an object": (_post(b'{"query": '), 400),
    "no UTF-8": (_post(b'{"query": "\xff"}'), 400),
    "a batch": (_post(b"[]"), 400),
    "very deep lists": (_post(b"[" * 100_000), 400),
    "an integer of 5,000 digits": (_post(b"9" * 5_000), 400),
    "a form": (_post(b"query=x", "Content-Type: application/x-www-form-urlencoded"), 415),
    "no media type": (_post(b"{}", "Content-Type: "), 415),
    "gzip": (_post(b"{}", "Content-Encoding: gzip"), 415),
    "another method": (f"DELETE /graphql HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode(), 405),
    "another path": (f"GET /../etc/passwd HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode(), 404),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64 + b"\r\n\r\n", 400),
    "a length that is none": (_post(b"{}").replace(b"Content-Length: 2", b"Content-Length: two"), 400),
    "a body that is too large": (_post(b" " * (MOST_BODY + 1)), 413),
    "a body of 20 MiB": (_post(b" " * 100_000, length=20 * 2**20), 413),
}


async def _status(place: Place, request: bytes) -> int:
    """Of the answer, whatever becomes of the connection; 0 without one."""
    reader, writer = await asyncio.open_connection(HOST, place.port)
    try:
        async with asyncio.timeout(REFUSED_SECONDS):
            with suppress(OSError):  # it does not read on what it has refused
                writer.write(request)
            line = await reader.readline()
    finally:
        writer.transport.abort()
    return int(line.split()[1]) if line else 0


async def hostile_http(scene: Scene, talk: Talk) -> None:
    """Requests that are none: each is refused with its status, and the next one is served."""
    scene.strike("hostile requests")
    took = list[float]()
    for name, (request, status) in HOSTILE.items():
        for place in scene.places:
            began = time.monotonic()
            if (found := await _status(place, request)) != status:
                raise AssertionError(f"{name} was answered with {found}, not {status}")
            took.append(time.monotonic() - began)
            if (found := await _status(place, GOOD)) != 200:
                raise AssertionError(f"after {name} a good request was answered with {found}")
    _said(scene, "requests refused", took)


def _said(scene: Scene, what: str, took: Sequence[float]) -> None:
    scene.note(what, f"{len(took)}, the slowest in {1_000 * max(took):.0f} ms")
    scene.evidence.append(f"{len(took)} {what}")
    scene.heal()


# On sockets


def _subscribe(query: str = TYPENAME, id: str = "1") -> str:
    return json.dumps({"type": "subscribe", "id": id, "payload": {"query": query}})


INIT = '{"type": "connection_init"}'
ENDLESS = _subscribe("subscription { myGroupEvents { __typename } }")
MALFORMED: Mapping[str, tuple[tuple[str | bytes, ...], int]] = {
    "no JSON": ((INIT, "["), 4400),
    "no object": ((INIT, "[]"), 4400),
    "an unknown type": ((INIT, '{"type": "start"}'), 4400),
    "a server's next": ((INIT, '{"type": "next", "id": "1", "payload": {"data": {}}}'), 4400),
    "a binary message": ((INIT, b"{}"), 4400),
    "a subscribe without a query": ((INIT, '{"type": "subscribe", "id": "1", "payload": {}}'), 4400),
    "an operation before connection_init": ((_subscribe(),), 4401),
    "a bad token": (('{"type": "connection_init", "payload": {"authorization": "Bearer x"}}',), 4403),
    "two connection_inits": ((INIT, INIT), 4429),
    "a message that is too large": ((INIT, " " * (MOST_FRAME + 1)), 1009),
}
BROKEN: Mapping[str, tuple[bytes, int]] = {
    "a frame of 2^63 bytes": (b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xffabcd", 1009),
    "a frame of 17 MiB": (b"\x81\xff" + (17 * 2**20).to_bytes(8, "big") + b"abcd", 1009),
    "an unknown opcode": (b"\x83\x80abcd", 1002),
    "no mask": (b"\x81\x02ab", 1002),
    "no UTF-8": (b"\x81\x82\0\0\0\0\xff\xfe", 1007),
}


async def malformed_frames(scene: Scene, talk: Talk) -> None:
    """Messages that are none: each socket is closed with its code, and those beside it are not."""
    scene.strike("malformed messages")
    took = list[float]()
    for place in scene.places:
        for name, (frames, code) in MALFORMED.items():
            async with opened(place) as connection:
                began = time.monotonic()
                for frame in frames:
                    await connection.send(frame)
                await _closes_with(code, connection, name)
                took.append(time.monotonic() - began)
        for name, (sent, code) in BROKEN.items():
            async with opened(place) as connection:
                began = time.monotonic()
                connection.transport.write(sent)
                await _closes_with(code, connection, name)
                took.append(time.monotonic() - began)
        async with acknowledged(place, talk.owner.token) as connection:
            for _ in range(2):
                await connection.send(ENDLESS)
            await _closes_with(4409, connection, "an id that is taken")
    _said(scene, "sockets closed", took)


async def _closes_with(code: int, connection: ClientConnection, name: str) -> None:
    try:
        async with asyncio.timeout(REFUSED_SECONDS):
            while True:
                await connection.recv()
    except ConnectionClosed:
        if connection.close_code != code:
            raise AssertionError(f"{name} was closed with {connection.close_code}, not {code}") from None


# Large and odd, but allowed


async def large_payloads(scene: Scene, talk: Talk) -> None:
    """Bodies and frames beyond their bounds are refused; odd text within them comes back as it was sent."""
    scene.strike("large and odd payloads")
    took = list[float]()
    for place in scene.places:
        for name in ("a body that is too large", "a body of 20 MiB"):
            request, status = HOSTILE[name]
            began = time.monotonic()
            if (found := await _status(place, request)) != status:
                raise AssertionError(f"{name} was answered with {found}")
            took.append(time.monotonic() - began)
        async with acknowledged(place, talk.owner.token) as connection:
            began = time.monotonic()
            await connection.send(" " * (MOST_FRAME + 1))
            await _closes_with(1009, connection, "a message that is too large")
            took.append(time.monotonic() - began)
        await _sends_odd_text(scene, talk, place)
    _said(scene, "payloads refused", took)


async def _sends_odd_text(scene: Scene, talk: Talk, place: Place) -> None:
    sender = talk.client(Sender, "odd", talk.members[0], places=[place], secret=ODD)
    key = f"odd-{scene.number()}"
    if not await sender.send(key):
        raise AssertionError("odd text was refused")
    if await replace(sender, secret="\0").send(f"{key}-nul"):
        raise AssertionError("a NUL was taken")
    answer = await sender.desk.ask(NEWEST_CONTENT, {"id": talk.group}, talk.owner.token)
    sender.desk.close()
    found: Mapping[str, str] = {each["clientMessageId"]: each["content"] for each in answer.value["messages"]["nodes"]}
    if found.get(key) != f"{ODD} {key}":
        raise AssertionError(f"odd text came back as {found.get(key)!r}")


# Half of a request


async def half_sent(scene: Scene, talk: Talk) -> None:
    """Bodies that do not go on: each is refused in time, and whoever talks notices nothing."""
    place = victim(scene).place
    half = _post(b'{"query":', length=1_000)
    since = time.monotonic()
    scene.strike(f"{HANGING} half-sent requests")
    streams = [await asyncio.open_connection(HOST, place.port) for _ in range(HANGING)]
    try:
        for _, writer in streams:
            writer.write(half)
        began, took = time.monotonic(), list[float]()

        async def cut(reader: asyncio.StreamReader) -> None:
            if b" 408 " not in await reader.readline():
                raise AssertionError("half of a request was answered with something else than 408")
            took.append(time.monotonic() - began)

        async with asyncio.timeout(CUT_SECONDS + REFUSED_SECONDS):
            await asyncio.gather(*(cut(reader) for reader, _ in streams))
    finally:
        for _, writer in streams:
            writer.transport.abort()
    if max(took) > CUT_SECONDS:
        raise AssertionError(f"a half-sent request was refused after {max(took):.1f} s")
    p50, p99 = percentiles(scene.delays(since))
    scene.note("deliveries meanwhile", f"p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    _said(scene, "half-sent requests refused", took)


# Documents that cost more than they may

DEEP = "{ group(id: 1) { " + "lastMessage { group { " * 20 + "id" + " } }" * 20 + " } }"
WIDE = "{ " + " ".join(f"f{number}: __typename" for number in range(2_000)) + " }"
SAME = "{ " + "__typename " * 5_000 + "}"
TOKENS = "{" + " a" * 20_000 + "}"
PAGES = "{ " + " ".join(
    f"{alias}: myGroups(first: 100) {{ nodes {{ messages(first: 100) {{ nodes {{ id }} }} }} }}" for alias in "abc"
) + " }"  # fmt: skip
FRAGMENTS = "{ ...F0 } " + " ".join(
    f"fragment F{number} on Query {{ ...F{number + 1} ...F{number + 1} }}" for number in range(30)
) + " fragment F30 on Query { __typename }"  # fmt: skip
EXPENSIVE: Mapping[str, str] = {
    "depth": DEEP, "fields": WIDE, "one name": SAME, "tokens": TOKENS, "pages": PAGES, "fragments": FRAGMENTS,
}  # fmt: skip


async def expensive_documents(scene: Scene, talk: Talk) -> None:
    """Each is refused before it is executed, over HTTP and on a socket that lives on."""
    scene.strike("expensive documents")
    took = list[float]()
    for place in scene.places:
        caller = Caller(place)
        for name, document in EXPENSIVE.items():
            began = time.monotonic()
            answer = await caller.run(document, {}, talk.owner.token)
            took.append(time.monotonic() - began)
            if answer.code != "QUERY_TOO_COMPLEX":
                raise AssertionError(f"{name} was answered with {answer}")
        caller.close()
        async with acknowledged(place, talk.owner.token) as connection:
            for name, document in EXPENSIVE.items():
                await connection.send(_subscribe(document, name))
                frame: Json = json.loads(await connection.recv())
                if frame["type"] != "error" or frame["payload"][0]["extensions"]["code"] != "QUERY_TOO_COMPLEX":
                    raise AssertionError(f"{name} on a socket was answered with {frame}")
    _said(scene, "documents refused", took)
