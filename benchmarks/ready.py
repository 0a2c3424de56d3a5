"""What a Python server could do at most: on each request it writes ready bytes to every socket, and thinks of nothing.

`python -m benchmarks.ready PORT`. It shows what the sockets cost, and what the load itself can take.
"""

import asyncio
import json
import sys
from typing import Any

import uvloop

UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
ACK = b'{"type":"connection_ack"}'
EVENT = json.dumps({"type": "next", "id": "0" * 36, "payload": {"data": {"groupMessages": "x" * 250}}}).encode()
FRAME = b"\x81\x7e" + len(EVENT).to_bytes(2, "big") + EVENT
INIT, SUBSCRIBE = b"connection_init", b'"subscribe"'


class Connection(asyncio.Protocol):
    """A socket, or a connection that posts; nothing is read but what kind of thing came."""

    sockets: dict["Connection", None] = {}  # noqa: RUF012  # those of the process

    def __init__(self) -> None:
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET"):
            self.transport.write(UPGRADED)
        elif data.startswith(b"POST"):
            for each in self.sockets:
                each.transport.write(FRAME)
            self.transport.write(ANSWER)
        elif INIT in data:
            self.transport.write(bytes([0x81, len(ACK)]) + ACK)
        elif SUBSCRIBE in data:
            self.sockets[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.sockets.pop(self, None)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
