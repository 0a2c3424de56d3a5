"""Runs what a document shows, from its first block to its last, against a server. Knows no Python of Parley.

    ```sh                   commands, all in one shell
    ```json  or  ```http    right after them: what they print
    ```text socket NAME     a graphql-transport-ws connection: → what the client sends, ← what comes,
                            "→ close" and "← closed 4403 Reason" for its end; indented lines go on with the line
                            before, also within a string that is sent

In what comes, `…` stands for anything and `<NAME>` for a text that later blocks use as `$NAME`. In an object the key
`…` stands for every key that is not named.
"""

import json
import os
import re
import shlex
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import Any, TypeAlias

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

Value: TypeAlias = Any  # JSON

ROOT = Path(__file__).resolve().parent.parent
SHOWN_ADDRESS = "127.0.0.1:8000"
DEADLINE = 20
ANYTHING = "…"
LONGEST_OUTPUT = 1 << 20
FENCE = re.compile(r"^```(?P<info>[^\n`]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
SPECIAL = re.compile(r"…|<([A-Z][A-Z0-9_]*)>")
NAMED = re.compile(r"\$([A-Z][A-Z0-9_]*)")
CURL = "import runpy, sys; sys.argv[0] = 'curl'; runpy.run_module('tests.curl', run_name='__main__')"


@dataclass(frozen=True)
class Block:
    """A fenced block of a document: its language, what follows that, its text, and where it stands."""

    language: str
    rest: tuple[str, ...]
    text: str
    line: int


def blocks(document: str) -> list[Block]:
    """Every fenced block of a Markdown text, in order."""
    found: list[Block] = []
    for match in FENCE.finditer(document):
        language, *rest = match["info"].split()
        found.append(Block(language, tuple(rest), match["body"], document.count("\n", 0, match.start()) + 1))
    return found


def kind(value: Value) -> str:
    """What a JSON value is: `1`, `1.0` and `true` are three things."""
    return value.__class__.__name__


class Differs(AssertionError):
    """What came is not what the document shows."""


@dataclass
class Expectation:
    """Compares what came with what is shown, and keeps the values that the document names."""

    kept: dict[str, str] = field(default_factory=dict[str, str])

    def json(self, shown: str, came: str) -> None:
        """Compare two JSON texts. Raises Differs."""
        try:
            value = json.loads(came)
        except ValueError:
            raise Differs(f"no JSON but {came!r}") from None
        self._value(json.loads(_quoted(shown)), value, "")

    def text(self, shown: str, came: str) -> None:
        """Compare two texts line by line; a line `…` stands for any lines, also for none. Raises Differs."""
        pattern = "\n".join(self._pattern(line) if line != ANYTHING else r"(?s:.*)" for line in shown.split("\n"))
        self._match(pattern, came, shown)

    def _value(self, shown: Value, came: Value, path: str) -> None:
        one, other = kind(shown), kind(came)
        if shown == ANYTHING:
            return
        if one == other == "dict":
            self._object(shown, came, path)
        elif one == other == "list" and len(shown) == len(came):
            for number, pair in enumerate(zip(shown, came, strict=True)):
                self._value(*pair, f"{path}[{number}]")
        elif one == other == "str":
            self._match(self._pattern(shown), came, f"{path}: {shown}")
        elif shown != came or one != other:
            raise Differs(f"{path}: shown {shown!r}, came {came!r}")

    def _object(self, shown: dict[str, Value], came: dict[str, Value], path: str) -> None:
        if missing := shown.keys() - came.keys() - {ANYTHING}:
            raise Differs(f"{path}: {sorted(missing)} did not come, only {sorted(came)}")
        if ANYTHING not in shown and (more := came.keys() - shown.keys()):
            raise Differs(f"{path}: {sorted(more)} came and is not shown")
        for key in shown.keys() - {ANYTHING}:
            self._value(shown[key], came[key], f"{path}.{key}")

    def _pattern(self, shown: str) -> str:
        parts, end = list[str](), 0
        for special in SPECIAL.finditer(shown):
            parts.append(re.escape(shown[end : special.start()]))
            parts.append(self._group(special[1]) if special[1] else ".*")
            end = special.end()
        return "".join([*parts, re.escape(shown[end:])])

    def _group(self, name: str) -> str:
        return re.escape(self.kept[name]) if name in self.kept else f"(?P<{name}>.+)"

    def _match(self, pattern: str, came: str, shown: str) -> None:
        match = re.fullmatch(pattern, came)
        if match is None:
            raise Differs(f"shown {shown!r}, came {came!r}")
        self.kept |= match.groupdict()

    def filled(self, text: str) -> str:
        """The text with its `$NAME`s replaced by what was kept."""
        return NAMED.sub(lambda name: self.kept.get(name[1], name[0]), text)


def _quoted(shown: str) -> str:
    """JSON in which a bare `…` has become the text "…"."""
    parts = re.split(r'("(?:[^"\\]|\\.)*")', shown)
    return "".join(part if number % 2 else part.replace(ANYTHING, f'"{ANYTHING}"') for number, part in enumerate(parts))


class Shell:
    """One `sh` that runs block after block and keeps its variables and functions in between."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in = process.stdin
        self._out = BufferedByteReceiveStream(process.stdout)

    @classmethod
    @asynccontextmanager
    async def opened(cls, folder: Path) -> AsyncGenerator["Shell"]:
        """A shell whose last resort for `curl` is one of ours: not every machine has it."""
        script = folder / "curl"
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "{CURL}" "$@"\n')
        script.chmod(0o755)
        environment = os.environ | {"PATH": f"{os.environ['PATH']}{os.pathsep}{folder}", "no_proxy": "*"}
        async with await anyio.open_process(
            ["sh"], stdin=PIPE, stdout=PIPE, stderr=None, cwd=ROOT, env=environment
        ) as sh:
            try:
                yield cls(sh)
            finally:
                sh.kill()

    async def run(self, commands: str) -> str:
        """What the commands print. Raises Differs when the last one fails."""
        await self._in.send(f"{commands}\nprintf '\\n%s\\0' \"$?\"\n".encode())
        output = (await self._out.receive_until(b"\0", LONGEST_OUTPUT)).decode()
        printed, _, code = output.rpartition("\n")
        if code != "0":
            raise Differs(f"exit code {code}, printed {printed!r}")
        return printed


class Transcript:
    """The state of a document that is being run."""

    def __init__(self, shell: Shell, address: str, connections: AsyncExitStack) -> None:
        self.expectation = Expectation()
        self._shell = shell
        self._address = address
        self._connections = connections
        self._sockets: dict[str, ClientConnection] = {}
        self._printed: str | None = None

    async def block(self, block: Block) -> None:
        """Run one block. Raises Differs."""
        if block.language == "sh":
            kept = "".join(f"{name}={shlex.quote(value)}\n" for name, value in self.expectation.kept.items())
            self._printed = await self._shell.run(kept + block.text.replace(SHOWN_ADDRESS, self._address))
        elif block.language in ("json", "http") and self._printed is not None:
            compare = self.expectation.json if block.language == "json" else self.expectation.text
            compare(block.text.strip("\n"), self._printed.replace("\r\n", "\n").strip("\n"))
            self._printed = None
        elif block.rest[:1] == ("socket",):
            for line in re.split(r"\n(?=[→←])", block.text.strip()):
                await self._line(block.rest[1], line)

    async def _line(self, name: str, line: str) -> None:
        arrow, text = line[0], line[1:].strip()
        if arrow == "→" and text == "close":
            await self._sockets.pop(name).close()
        elif arrow == "→":
            socket = await self._socket(name)
            await socket.send(json.dumps(json.loads(self.expectation.filled(text), strict=False)))
        elif text.startswith("closed"):
            await self._closed(name, text)
        else:
            came = await (await self._socket(name)).recv()
            assert isinstance(came, str), f"a binary frame: {came}"
            self.expectation.json(self.expectation.filled(text), came)

    async def _closed(self, name: str, shown: str) -> None:
        socket = self._sockets.pop(name)
        try:
            came = await socket.recv()
        except ConnectionClosed:
            self.expectation.text(shown, f"closed {socket.close_code} {socket.close_reason}".strip())
        else:
            raise Differs(f"not closed, but {came!r}")

    async def _socket(self, name: str) -> ClientConnection:
        if name not in self._sockets:
            opening = connect(
                f"ws://{self._address}/graphql", subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None
            )
            self._sockets[name] = await self._connections.enter_async_context(opening)
        return self._sockets[name]


async def run(document: str, url: str, folder: Path) -> None:
    """Run every block of the document, in order. Fails with the line of the first block that shows something else."""
    async with Shell.opened(folder) as shell, AsyncExitStack() as connections:
        transcript = Transcript(shell, url.removeprefix("http://"), connections)
        await _run(transcript, blocks(document))


async def _run(transcript: Transcript, shown: Sequence[Block]) -> None:
    for block in shown:
        try:
            with anyio.fail_after(DEADLINE):
                await transcript.block(block)
        except (Differs, TimeoutError, ConnectionClosed, ValueError) as error:
            raise AssertionError(f"the block at line {block.line}: {error or type(error).__name__}") from error
