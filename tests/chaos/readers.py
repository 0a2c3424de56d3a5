"""People of a run who read: by polling, by following over every disconnect, and without any right to. Know no fault."""

import asyncio
import itertools
import json
import random
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.chaos.authors import COPY
from tests.chaos.clients import OVER, SEND, Client, Position, pauses
from tests.chaos.history import Copy
from tests.chaos.wire import Answer, Refused, acknowledged
from tests.harness import Json, operation

FOLLOW = f"""subscription ($groupId: ID!, $after: String) {{
  groupMessages(groupId: $groupId, after: $after) {{ cursor seq kind message {{ {COPY} }} }} }}"""
# What is nested is read when the event is shown: it must not show more than the reader may see.
FOLLOW_NESTED = f"""subscription ($groupId: ID!, $after: String) {{ groupMessages(groupId: $groupId, after: $after) {{
  cursor seq kind message {{ {COPY} group {{ memberCount lastMessage {{ seq {COPY} }} }} }} }} }}"""
POLL = f"""query ($id: ID!, $after: String!) {{ group(id: $id) {{
  messageEvents(after: $after, first: 100) {{ events {{ seq message {{ {COPY} }} }} cursor hasMore }} }} }}"""
NEWEST = f"""query ($id: ID!) {{ group(id: $id) {{
  messages(last: 20) {{ nodes {{ seq {COPY} }} pageInfo {{ hasPreviousPage }} }} }} }}"""
FETCH = f"""query ($id: ID!, $before: String) {{ group(id: $id) {{
  messages(last: 100, before: $before) {{ nodes {{ {COPY} }} pageInfo {{ hasPreviousPage startCursor }} }} }} }}"""
FETCH_PAGES, FETCH_ATTEMPTS = 5, 20

PING_SECONDS = 0.5
PATIENCE_SECONDS = 3.0  # after so long without a word a client takes its socket for dead
LOGGED_OUT = 4403


@dataclass
class Poller(Client):
    """Reads on with its cursor at one node after the other, and looks at the newest page in between."""

    cursor: str = ""
    seq: int = 0
    pause: float = 0.05
    _after: int = 0

    async def run(self) -> None:
        for number in itertools.count():
            if self.stopped:
                break
            document = NEWEST if number % 3 == 2 else POLL
            answer = await self._read(document)
            if answer.code in OVER:
                break
            self.desk.move()
            await asyncio.sleep(random.uniform(0, 2 * self.pause))
        self.desk.close()

    async def _read(self, document: str) -> Answer:
        """A page of the newest is written down as a read after the one before its first."""
        op = self.history.number()
        asked = {"client": self.name, "node": self.desk.place.name}
        of = "messages" if document == NEWEST else "events"
        begun = {"op": op, "kind": "read", "key": of, "user": self.person.id, "group": self.group, **asked}
        moment = len(self.history.happenings)
        self.history.add("invoke", after=self.seq, **begun)
        answer = await self.desk.ask(document, {"id": self.group, "after": self.cursor}, self.person.token)
        if answer.kind != "ok":
            self.history.add(answer.kind, op=op, code=answer.code, text=answer.text, **asked)
            return answer
        if document == NEWEST:
            page: Json = answer.value["messages"]
            seqs = tuple(node["seq"] for node in page["nodes"])
            after = seqs[0] - 1 if page["pageInfo"]["hasPreviousPage"] else 0
            self.history.correct(moment, after=after)
            self.history.add("ok", op=op, seqs=seqs, copies=tuple(map(Copy.of, page["nodes"])), **asked)
        else:
            events: Json = answer.value["messageEvents"]
            seqs = tuple(event["seq"] for event in events["events"])
            self.cursor, self.seq = events["cursor"], max(self.seq, *seqs, 0)
            copies = tuple(Copy.of(event["message"]) for event in events["events"])
            self.history.add("ok", op=op, seqs=seqs, copies=copies, more=events["hasMore"], **asked)
        return answer


@dataclass
class Follower(Client):
    """Follows the group's messages over every disconnect, each time from its last cursor and at the next node."""

    position: Position = field(default_factory=lambda: Position(""))
    nested: bool = False
    received: int = 0
    ended: str = ""
    leaves: bool = False
    patience: float = PATIENCE_SECONDS
    _sub: int = 0
    _connection: ClientConnection | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None and not self.ended

    async def run(self) -> None:
        waits = pauses()
        while not self.stopped and not self.ended:
            before = self.received
            await self._follow_once()
            if self.received > before:
                waits = pauses()
            if not self.stopped and not self.ended:
                self.desk.move()
                await asyncio.sleep(next(waits))
        if self.stopped and not self.ended:
            self.history.add("sub_left" if self.leaves else "sub_close", sub=self._sub, client=self.name)

    def stop(self) -> None:
        """It says that it has everything, unless it leaves: stop it once it has."""
        self.stopped = True
        if self._connection is not None:
            self._connection.transport.abort()

    def drop(self) -> bool:
        """Lose the connection, as by a bad network; whether there was one."""
        if self._connection is not None:
            self._connection.transport.abort()
        return self._connection is not None

    async def _follow_once(self) -> None:
        try:
            async with acknowledged(self.desk.place, self.person.token) as connection:
                self._connection = connection
                await self._subscribe(connection)
                async with asyncio.TaskGroup() as group:
                    pinging = group.create_task(self._ping(connection))
                    try:
                        await self._read(connection)
                    finally:
                        pinging.cancel()
        except Refused as refused:
            if refused.code == LOGGED_OUT:
                self._end("UNAUTHENTICATED")
        finally:
            self._connection = None

    async def _subscribe(self, connection: ClientConnection) -> None:
        self._sub = self.history.number()
        self.history.add(
            "sub_open", sub=self._sub, client=self.name, user=self.person.id, group=self.group,
            after=self.position.seq, id=self.position.message_id, node=self.desk.place.name,
        )  # fmt: skip
        variables = {"groupId": self.group, "after": self.position.cursor}
        payload = {"query": FOLLOW_NESTED if self.nested else FOLLOW, "variables": variables}
        try:
            await connection.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        except ConnectionClosed:
            return  # the read says so

    async def _ping(self, connection: ClientConnection) -> None:
        try:
            while True:
                await asyncio.sleep(PING_SECONDS)
                await connection.send('{"type":"ping"}')
        except ConnectionClosed:
            return

    async def _read(self, connection: ClientConnection) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.patience) as patience:
                while not self.stopped:
                    frame = json.loads(await connection.recv())
                    patience.reschedule(loop.time() + self.patience)
                    if frame["type"] == "ping":
                        await connection.send('{"type":"pong"}')
                    elif not self._take(frame):
                        return
        except TimeoutError:
            self._closed("dead")
        except ConnectionClosed:
            self._closed(str(connection.close_code or 1006))

    def _closed(self, code: str) -> None:
        if not self.stopped:
            self.history.add("conn_close", sub=self._sub, client=self.name, code=code, node=self.desk.place.name)
        if code == str(LOGGED_OUT):
            self._end("SESSION_EXPIRED")

    def _take(self, frame: Json) -> bool:
        """Whether the subscription goes on."""
        match frame:
            case {"type": "next", "payload": {"data": {"groupMessages": {"message": _}}}}:
                self._take_event(frame["payload"]["data"]["groupMessages"])
            case {"type": "error", "payload": [{"extensions": extensions}, *_] as errors}:
                code = extensions.get("code", "")
                self.history.add("sub_end", sub=self._sub, client=self.name, code=code, text=json.dumps(errors))
                self._end(code)
                return False
            case {"type": "pong"}:
                self.history.add("beat", sub=self._sub)
            case _:
                self.history.add("sub_end", sub=self._sub, client=self.name, code="?", text=json.dumps(frame))
                return False
        return True

    def _take_event(self, event: Json) -> None:
        message: Json = event["message"]
        nested = (message["group"]["lastMessage"],) if self.nested else ()
        self.position = Position(event["cursor"], event["seq"], message["id"])
        self.received += 1
        self.history.add(
            "recv", sub=self._sub, seq=event["seq"], id=message["id"], kind=event["kind"],
            seqs=tuple(each["seq"] for each in nested), copies=tuple(map(Copy.of, (message, *nested))),
        )  # fmt: skip

    def _end(self, code: str) -> None:
        if code in OVER or code.startswith("CURSOR"):
            self.ended = code


@dataclass
class Fetcher(Client):
    """Asks anew what the newest messages are, when nobody changes them any more."""

    _before: str | None = None

    async def run(self) -> None:
        for _ in range(FETCH_PAGES):
            variables = {"id": self.group, "before": self._before}
            answer, _ = await self.insist(FETCH, variables, FETCH_ATTEMPTS, kind="fetch")
            if answer.kind != "ok" or not answer.value["messages"]["pageInfo"]["hasPreviousPage"]:
                break
            self._before = answer.value["messages"]["pageInfo"]["startCursor"]
        self.desk.close()

    def shown(self, answer: Answer) -> dict[str, Any]:
        return {"copies": tuple(map(Copy.of, answer.value["messages"]["nodes"]))}


@dataclass
class Stranger(Client):
    """Is no member, and tries: whatever holds the group's secret is written down."""

    secret: str = ""
    pause: float = 0.1

    async def run(self) -> None:
        asked = [
            (NEWEST, {"id": self.group}),
            (SEND, {"input": {"groupId": self.group, "content": "let me in", "clientMessageId": "stranger"}}),
            (operation("GroupMessages"), {"groupId": self.group}),
            (operation("Group"), {"id": self.group}),
        ]
        for number in itertools.count():
            if self.stopped:
                break
            document, variables = asked[number % len(asked)]
            answer = await self.attempt(document, variables, kind="try")
            text = answer.text + json.dumps(answer.data)
            if self.secret in text:
                self.history.add("saw", client=self.name, user=self.person.id, group=self.group, text=text[:300])
            self.desk.move()
            await asyncio.sleep(self.pause)
        self.desk.close()
