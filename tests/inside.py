"""What a deep test sees of the server in its event loop: the process behind it, and all that is logged. No fixture."""
# pyright: reportPrivateUsage=false

import json
from uuid import UUID

import pytest

from app import Process
from delivery.feed import EndReason
from delivery.stream import Stream
from tests.harness import Endpoint, Json, Server

TROUBLE = ("Traceback", "unexpected_error", '"level":"error"', "ERROR")


def process_of(server: Endpoint) -> Process:
    """What the server holds while it lives."""
    assert isinstance(server, Server), "this server is not in this process"
    return server.app.state.process


def _streams(server: Endpoint) -> dict[UUID, Stream]:
    return {log.id: stream for log, stream in process_of(server).streams._streams.items()}


def followed(server: Endpoint) -> set[UUID]:
    """The owners of the logs that somebody follows at this server: groups and users."""
    return set(_streams(server))


def followers(server: Endpoint, owner: UUID) -> int:
    """How many follow the log of this group or user at this server."""
    stream = _streams(server).get(owner)
    return len(stream._seats) if stream else 0


def break_log(server: Endpoint, owner: UUID) -> None:
    """Tell everybody who follows the log that it cannot be read any more."""
    for seat in tuple(_streams(server)[owner]._seats):
        seat.end(EndReason.FAULT)


def open_sockets(server: Endpoint) -> int:
    """How many sockets the server counts as open."""
    return process_of(server).sockets._open


def cohorts(server: Endpoint) -> dict[int, int]:
    """How many are in each cohort of the server."""
    return {id(cohort): len(cohort) for cohort in process_of(server).sockets.cohorts._cohorts.values()}


class LogBook:
    """What was logged since the test began: our own lines, and what libraries say."""

    def __init__(self, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
        self._capsys = capsys
        self._caplog = caplog
        self._written: list[str] = []

    @property
    def text(self) -> str:
        self._read()
        return "".join(self._written)

    def lines(self, event: str) -> list[Json]:
        """Our lines of one event, oldest first."""
        written = [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]
        return [line for line in written if line["event"] == event]

    def check(self) -> None:
        """Fail on anything new that an operator would have to look into."""
        new = self._read()
        for word in TROUBLE:
            assert word not in new, new[-4_000:]

    def _read(self) -> str:
        """What is new, and kept from now on."""
        captured = self._capsys.readouterr()
        new = captured.out + captured.err + self._caplog.text
        self._caplog.clear()
        self._written.append(new)
        return new
