"""`python -m tests.clients.nodes`: two nodes on PostgreSQL and Redis, for a project that kills what they stand on.

Says on stdout `{"ports": […]}`, the nodes', and then obeys stdin, a line each: `kill NAME` (SIGKILL) and `start NAME`,
answered by the line itself once it is done. Ends with stdin, and leaves nothing behind.
"""

# ruff: noqa: T201  (its reader is the project)

import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path

from tests.engines import Engine, Postgres, Redis
from tests.harness import Node, Stack, as_environment


async def obey(mortal: Mapping[str, Engine | Node]) -> None:
    """Children are started from the main thread, so only the reading is done by another."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, name = line.split()
        match verb, mortal[name]:
            case "kill", victim:
                victim.kill()
            case "start", Node() as node:
                await node.start()
            case "start", Engine() as engine:
                engine.start()
            case _:
                raise ValueError(line)
        print(line, end="", flush=True)


async def main() -> None:
    async with AsyncExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="parley-nodes-")))
        postgres, redis = held.enter_context(closing(Postgres())), held.enter_context(closing(Redis()))
        postgres.start()
        redis.start()
        environment = as_environment(held.enter_context(Stack(folder, postgres, redis).fresh()))
        names = ("one", "two")
        one, two = [await held.enter_async_context(Node(environment, folder / f"{name}.log")) for name in names]
        print(json.dumps({"ports": [one.port, two.port]}), flush=True)
        await obey({"postgres": postgres, "redis": redis, "one": one, "two": two})


if __name__ == "__main__":
    asyncio.run(main())
