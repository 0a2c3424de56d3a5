"""GraphQL over WebSockets: graphql-transport-ws. Knows no SQL, and not how frames are read and written.

Close codes say what a client should do: 4400 and other fatal ones only for what breaks the protocol, 4403 log in again,
1012 and 1013 try again. A mistake in a document is an `error` message, and the socket lives.

A socket that is quiet holds no task. A subscription that is in a cohort holds none either.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from contextvars import Context as Variables
from contextvars import copy_context
from functools import partial
from typing import Any

import structlog
from graphql import ExecutionResult, GraphQLError
from starlette.types import Scope
from starlette.websockets import WebSocket
from strawberry.http.websocket_origin import is_same_origin
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL

from delivery.cohort import Member
from delivery.events import Event, Wants
from delivery.feed import EndReason
from delivery.stream import Seat
from resolvers import users
from resolvers.access import Viewer
from resolvers.following import end_of
from resolvers.messages import Join, live_end
from resolvers.refusals import ErrorCode, Lagging, Refusal
from resolvers.services import Services
from resolvers.sessions import SessionWatch, session_expired
from resolvers.users import Session

from .cohorts import Asked, Cohorts, shareable
from .context import Context
from .documents import Prepared, Rejected, prepare
from .endpoint import GraphQLRequest, bearer, graphql_request, write_json
from .errors import is_fault, present, present_all, present_refusal, refusal_of
from .frames import AsgiPipe, BadMessage, Outbox, Pipe, Stalled, read_message
from .heartbeat import Heartbeat
from .operations import OperationLine, log_of
from .replays import Replaying, Replays
from .schema import schema
from .wire import Departures, Gone, protocol_of

POLICY, TOO_BIG, TRY_AGAIN = 1008, 1009, 1013
BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NO_SUBPROTOCOL, NOT_BEGUN, TAKEN, TOO_MANY = (
    4400, 4401, 4403, 4406, 4408, 4409, 4429
)  # fmt: skip
ACK, PING, PONG = b'{"type":"connection_ack"}', b'{"type":"ping"}', b'{"type":"pong"}'
LAST_WORDS_SECONDS = 5.0  # for what is under way when a session or a socket ends

log = structlog.get_logger("parley.sockets")


class SocketOperation:
    """One operation of a socket. Once a cohort has its events it is their outlet, and its task has ended."""

    __slots__ = ("_cursor", "_next", "_socket", "id", "is_over", "is_shared", "line", "running")

    def __init__(self, socket: "Socket", operation_id: str) -> None:
        self._socket = socket
        self._next = b'{"type":"next","id":%b,"payload":' % write_json(operation_id)
        self._cursor: str | None = None
        self.id = operation_id
        self.line = OperationLine(socket.log)
        self.running: Context | Member | None = None  # what can be stopped of it
        self.is_shared = False  # a cohort has its events, and tells of their end
        self.is_over = False  # nothing more is sent for it

    # What its task sends

    async def next(self, result: ExecutionResult) -> None:
        payload = {"data": result.data} | ({"errors": present_all(result.errors)} if result.errors else {})
        await self._say(b"%b%b}" % (self._next, write_json(payload)))

    async def complete(self) -> None:
        await self._say_last(b'{"type":"complete","id":%b}' % write_json(self.id))

    async def refuse(self, refusal: Refusal) -> None:
        if not self.is_over:
            self.line.failed(refusal.code)
        await self.error([present_refusal(refusal)])

    async def error(self, errors: list[dict[str, Any]]) -> None:
        await self._say_last(self._error(write_json(errors)))

    def _error(self, errors: bytes) -> bytes:
        return b'{"type":"error","id":%b,"payload":%b}' % (write_json(self.id), errors)

    async def _say(self, text: bytes) -> None:
        await self._socket.outbox.emptied()
        if not self.is_over:
            await self._socket.outbox.send(text)

    async def _say_last(self, text: bytes) -> None:
        if not self.is_over:
            self._silence()
            await self._socket.outbox.send(text)

    def _silence(self) -> None:
        """Its id is free before the last message goes out."""
        self.is_over = True
        self._socket.forget(self)

    # What its cohort says

    def join(self, member: Member, cursor: str | None) -> None:
        """`cursor` is the last one that was sent before."""
        self.running, self._cursor, self.is_shared = member, cursor, True

    def send(self, payload: bytes) -> None:
        if not self.is_over:
            self.line.events += 1
            self._socket.outbox.push(b"%b%b}" % (self._next, payload))

    def fail(self, errors: bytes) -> None:
        self._push_last(ErrorCode.BAD_USER_INPUT, errors)

    def end(self, why: Event | EndReason, last: Event | None) -> None:
        if refusal := live_end(why, self._cursor, last):
            self.refuse_at_once(refusal)
        self.close()

    def refuse_at_once(self, refusal: Refusal) -> None:
        """From this call on nothing else is sent for it, however slow the peer is."""
        self._push_last(refusal.code, write_json([present_refusal(refusal)]))

    def _push_last(self, code: ErrorCode, errors: bytes) -> None:
        if not self.is_over:
            self.line.failed(code)
            self._silence()
            self._socket.outbox.push(self._error(errors))

    # The end

    def stop(self) -> None:
        """Nothing more is sent for it. It ends by itself, soon.

        Cancelled in the middle of an execution, graphql-core leaves coroutines that were never awaited, and a database
        driver a connection that is of no more use.
        """
        self._silence()
        if self.running is not None:
            self.running.stop()

    def close(self) -> None:
        """Nothing of it is left."""
        self._silence()
        self.running = None  # which refers to it: the garbage collector comes late to what lived long
        self._socket.write(self.line)


def _let_go(result: ExecutionResult, context: Context, replaying: Replaying | None) -> None:
    """The frames that wait for the next event would hold this one: 7 KiB for each group of a snapshot."""
    if replaying is not None and context.following is not None:
        replaying.keep(context.following, result)
    elif result.data is not None:
        result.data.clear()
    context.forget()


def _refusal_of(result: ExecutionResult) -> Refusal | None:
    """Why a subscription did not begin, where it is a refusal and not a mistake in the document."""
    return next((refusal for error in result.errors or () if (refusal := refusal_of(error))), None)


class Socket:
    """One socket after its handshake. It listens to whatever reads it, and ends once: everything with it."""

    __slots__ = (
        "_ending", "_endpoint", "_expecting", "_heartbeat", "_is_begun", "_is_over", "_is_ready", "_pipe", "_session",
        "_tasks", "_token", "_variables", "_waiting", "_watch", "begins", "log", "operations", "outbox",
    )  # fmt: skip

    def __init__(self, endpoint: "SocketEndpoint", pipe: Pipe) -> None:
        settings = endpoint.services.settings
        self._endpoint = endpoint
        self.log = endpoint.log
        self._pipe = pipe
        self._variables: Variables = copy_context()  # with the id of this socket, for log lines
        self._token: str | None = None
        self._session: Session | None = None
        self._watch: SessionWatch | None = None
        self._is_begun = self._is_ready = self._is_over = False
        self.begins: asyncio.Task[None] | None = None  # connection_init is being answered
        self._waiting: list[str | None] = []  # what came meanwhile
        self._ending: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.operations: dict[str, SocketOperation] = {}
        self.outbox = Outbox(pipe, settings.max_waiting_events, self.give_up)
        self._heartbeat = Heartbeat(
            settings.ping_seconds, settings.pong_seconds, partial(self.outbox.push, PING), self._vanished
        )
        loop = asyncio.get_running_loop()
        self._expecting: asyncio.TimerHandle | None = loop.call_later(settings.connection_init_seconds, self._not_begun)

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work, context=self._variables.copy())

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """What has some seconds to end when the socket does."""
        task = self._own(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # In

    def hear(self, text: str | None) -> None:
        if self.begins is not None:
            self._waiting.append(text)
        elif not self._is_over:
            self._handle(text)

    def _handle(self, text: str | None) -> None:
        if text is not None and len(text.encode(errors="replace")) > self._endpoint.services.settings.max_frame_bytes:
            self.end(TOO_BIG, "Message too big")
            return
        try:
            message = read_message(text)
        except BadMessage as bad:
            self.end(BAD_REQUEST, str(bad))
            return
        self._heartbeat.heard()
        if self._ending is None:
            self._do(message)

    def _do(self, message: Mapping[str, Any]) -> None:
        match message["type"]:
            case "connection_init":
                self._handle_connection_init(message.get("payload", {}))
            case "ping":
                self.outbox.push(PONG)
            case "subscribe":
                self._handle_subscribe(message["id"], message["payload"])
            case "complete" if operation := self.operations.get(message["id"]):
                operation.stop()
            case _:
                pass  # a pong, and the end of what has ended: that they were heard is all

    def _handle_connection_init(self, payload: Mapping[str, Any]) -> None:
        if self._is_begun:
            self.end(TOO_MANY, "Too many initialisation requests")
            return
        self._is_begun = True
        self._stop_expecting()
        self._pipe.hold()
        self.begins = self._run(self._begin(payload))

    def _handle_subscribe(self, operation_id: str, payload: Mapping[str, Any]) -> None:
        most = self._endpoint.services.settings.max_operations_per_socket
        if not self._is_ready:
            self.end(UNAUTHORIZED, "Unauthorized")
        elif operation_id in self.operations:
            self.end(TAKEN, f"Subscriber for {operation_id} already exists")
        elif len(self.operations) >= most:
            text = f"At most {most} operations run at once on one socket."
            refused = present_refusal(Refusal(ErrorCode.RATE_LIMITED, text, retryAfter=1))
            self.outbox.push(write_json({"type": "error", "id": operation_id, "payload": [refused]}))
        else:
            operation = self.operations[operation_id] = SocketOperation(self, operation_id)
            self._run(self._run_operation(operation, payload))

    # The log-in

    def _not_begun(self) -> None:
        self.end(NOT_BEGUN, "Connection initialisation timeout")

    def _stop_expecting(self) -> None:
        if self._expecting is not None:
            self._expecting.cancel()
            self._expecting = None

    async def _begin(self, payload: Mapping[str, Any]) -> None:
        try:
            if not await self._log_in(payload):
                self.end(FORBIDDEN, "Forbidden")
            if self._is_over:
                return
            self._is_ready = True
            self.outbox.push(ACK)
            self._heartbeat.begin()
            if self._session is not None:
                self._watch = SessionWatch(self._endpoint.services, self._session, self._session_ended)
                await self._watch.begin()
        except Refusal as refusal:
            self._session_ended(refusal)
        except Exception:
            log.exception("socket_failed")
            self.end(TRY_AGAIN, "Try again later")
        finally:
            self.begins = None
            self._catch_up()

    def _catch_up(self) -> None:
        for text in self._waiting:
            if not self._is_over:
                self._handle(text)
        self._waiting.clear()
        self._pipe.go_on()

    async def _log_in(self, payload: Mapping[str, Any]) -> bool:
        """Whether the token of connection_init is good, if there is one."""
        given = next((value for key, value in payload.items() if key.lower() == "authorization"), None)
        if given is None:
            return True
        self._token = bearer(given)
        self._session = await users.authenticate(self._endpoint.services, self._token) if self._token else None
        return self._session is not None

    async def _authenticate(self) -> Session | None:
        """The token is read again for each operation: a later request feels its end even if no event told of it."""
        token = self._token
        session = await users.authenticate(self._endpoint.services, token) if token else None
        if token and session is None:
            refusal = session_expired()
            self._session_ended(refusal)
            raise refusal
        return session

    def _session_ended(self, refusal: Refusal) -> None:
        if self._ending is None and not self._is_over:
            self._ending = self._own(self._end_session(refusal))

    async def _end_session(self, refusal: Refusal) -> None:
        """Each operation gets its `error`, all of them now, then the socket closes.

        What is being written now is answered first: it may be this log-out. Where nothing is, the close goes out with
        the errors: a client that leaves at its last error hears 4403 all the same.
        """
        for operation in [each for each in self.operations.values() if each.running is not None]:
            operation.refuse_at_once(refusal)
            operation.stop()
        if self.operations:
            await asyncio.wait(self._tasks, timeout=LAST_WORDS_SECONDS)
        for operation in list(self.operations.values()):
            operation.refuse_at_once(refusal)
        await self.outbox.emptied()
        expired = refusal.code is session_expired().code
        self.end(FORBIDDEN if expired else TRY_AGAIN, "Session expired" if expired else "Try again later")

    # The end

    def lost(self) -> None:
        self.end(None)

    def give_up(self) -> None:
        """The peer does not read."""
        self.end(TRY_AGAIN, "Too slow")

    def _vanished(self) -> None:
        """The peer answers nothing."""
        self.end(TRY_AGAIN, "No answer", self.outbox.cut)

    def end(
        self, code: int | None, reason: str = "", close: Callable[[int, str], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        """Say why, if somebody is still there, and stop everything. Only the first call counts."""
        if not self._is_over:
            self._is_over = True
            if code is not None:
                self.outbox.push_close(code, reason)
            self._stop_expecting()
            self._heartbeat.stop()
            for operation in tuple(self.operations.values()):
                operation.stop()
            say = partial(close or self.outbox.close, code, reason) if code is not None else None
            self._pipe.keep(self._own(self._finish(say)))

    async def _finish(self, say: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
        try:
            if say is not None:
                await say()
            await self._last_words()
            if self._watch is not None:
                self._watch.stop()
            await self.outbox.end()
        finally:
            self._endpoint.closed()

    async def _last_words(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        if under_way := {*self._tasks, *([self._ending] if self._ending else [])}:
            _, late = await asyncio.wait(under_way, timeout=LAST_WORDS_SECONDS)
            for task in late:
                task.cancel()

    # Operations

    def forget(self, operation: SocketOperation) -> None:
        """Its id is free."""
        if self.operations.get(operation.id) is operation:
            del self.operations[operation.id]

    def write(self, line: OperationLine) -> None:
        """Log an operation's line, whoever ends the operation, as one of this socket."""
        self._variables.copy().run(line.write)

    async def _run_operation(self, operation: SocketOperation, payload: Mapping[str, Any]) -> None:
        line = operation.line
        try:
            await self._answer(operation, payload)
        except Stalled:
            line.failed(ErrorCode.SERVICE_UNAVAILABLE)
            self.give_up()
        except Gone:
            pass
        except Lagging as lagging:
            line.failed(lagging.code)
            self.give_up()
        except Exception as error:  # noqa: BLE001  # it is logged whole and masked
            unexpected = GraphQLError("", original_error=error)
            line.errors([unexpected])
            with suppress(Gone):
                await operation.error([present(unexpected)])
            operation.stop()
        finally:
            if not operation.is_shared:
                operation.close()

    async def _answer(self, operation: SocketOperation, payload: Mapping[str, Any]) -> None:
        try:
            asked = graphql_request(payload)
            prepared = prepare(schema.core, asked.query, asked.operation_name)
        except Refusal as refusal:
            await operation.refuse(refusal)
            return
        except Rejected as rejected:
            operation.line.errors(rejected.errors)
            await operation.error(present_all(rejected.errors))
            return
        operation.line.started(prepared)
        if operation.is_over:
            return
        context = Context(self._endpoint.services, self._authenticate)
        if prepared.is_subscription:
            await self._follow(operation, asked, prepared, context)
        else:
            await self._execute(operation, asked, prepared, context)

    async def _execute(
        self, operation: SocketOperation, asked: GraphQLRequest, prepared: Prepared, context: Context
    ) -> None:
        """A query's or a mutation's one answer, as over HTTP; what did not begin is an `error`."""
        result = await schema.answer(prepared, asked.variables, context)
        errors = result.errors or []
        operation.line.errors(errors)
        if result.data is None and not any(error.path for error in errors):
            await operation.error(present_all(errors))
        else:
            await operation.next(result)
            await operation.complete()

    async def _follow(
        self, operation: SocketOperation, request: GraphQLRequest, prepared: Prepared, context: Context
    ) -> None:
        operation.running = context
        asked = shareable(prepared, request.query, request.operation_name, request.variables or {})
        context.join = self._join(operation, asked) if asked else None
        replays = self._endpoint.replays
        replaying = Replaying(replays, asked) if asked and not asked.shared.of_viewer else None
        context.shared, recall = replaying is not None, replaying.recall if replaying else None
        async with aclosing(schema.follow(prepared, request.variables, context, recall)) as results:
            async for result in results:
                goes_on = await self._send_event(operation, result, context, replaying)
                if not goes_on or operation.is_over:
                    return
        if not operation.is_shared:
            await operation.complete()

    def _join(self, operation: SocketOperation, asked: Asked) -> Join:
        def join(seat: Seat, viewer: Viewer, wants: Wants, cursor: str | None) -> None:
            operation.join(self._endpoint.cohorts.join(asked, seat, viewer, wants, operation), cursor)

        return join

    async def _send_event(
        self, operation: SocketOperation, result: ExecutionResult, context: Context, replaying: Replaying | None
    ) -> bool:
        """One event, once it is settled. False when the operation has ended. Raises Lagging."""
        following, errors = context.following, result.errors or []
        if operation.is_over:
            return False
        try:
            if refused := following.refusal if following is not None else _refusal_of(result):
                raise refused
            if (
                following is not None
                and following.is_shown
                and not await following.settle(faulty=any(map(is_fault, errors)))
            ):
                return True
        except Lagging:
            raise
        except Refusal as refusal:
            await operation.refuse(end_of(refusal))
            return False
        if result.data is None:
            operation.line.errors(errors)
            await operation.error(present_all(errors))
            return False
        operation.line.events += 1
        await operation.next(result)
        _let_go(result, context, replaying)
        return True


class SocketEndpoint:
    """The sockets of one process at /graphql."""

    def __init__(self, services: Services, is_origin_allowed: Callable[[str, Scope], bool]) -> None:
        self.services = services
        self.log = log_of("websocket")
        self.cohorts = Cohorts(services)
        self.replays = Replays()
        self._departures = Departures()
        self._is_origin_allowed = is_origin_allowed
        self._open = 0

    async def handle_socket(self, websocket: WebSocket) -> None:
        """One socket from its handshake on, to its end where its connection cannot be taken over."""
        if not self._may_come(websocket):
            await websocket.close(POLICY)  # before it is accepted: status 403
        elif self._open >= self.services.settings.max_sockets:
            await self.turn_away(websocket, "Too many connections")
        elif GRAPHQL_TRANSPORT_WS_PROTOCOL not in websocket["subprotocols"]:
            await websocket.accept()
            await websocket.close(NO_SUBPROTOCOL, "Subprotocol not acceptable")
        else:
            await websocket.accept(GRAPHQL_TRANSPORT_WS_PROTOCOL)
            self._open += 1
            if protocol := protocol_of(websocket.scope):
                protocol.take_over(self._departures, partial(Socket, self))
            else:
                await _serve(websocket, self)

    async def stop(self) -> None:
        """After the last socket is over: return when nothing is shown any more."""
        await self.cohorts.stop()

    def closed(self) -> None:
        """One socket is over, and nothing of it is left."""
        self._open -= 1

    async def turn_away(self, websocket: WebSocket, reason: str) -> None:
        await websocket.accept(GRAPHQL_TRANSPORT_WS_PROTOCOL)
        await websocket.close(TRY_AGAIN, reason)

    def _may_come(self, websocket: WebSocket) -> bool:
        """A page of another origin only by the rule; who names no origin is no page."""
        origin = websocket.headers.get("origin")
        return (
            origin is None
            or is_same_origin(origin, websocket.headers.get("host"))
            or self._is_origin_allowed(origin, websocket.scope)
        )


async def _serve(websocket: WebSocket, endpoint: SocketEndpoint) -> None:
    """One socket under any server, until it is over."""
    pipe = AsgiPipe(websocket)
    socket = Socket(endpoint, pipe)
    reading = asyncio.create_task(_read(websocket, socket))
    try:
        await pipe.over.wait()
    except asyncio.CancelledError:  # by a server that ends, which has closed the socket with 1012 already
        socket.lost()
        await pipe.over.wait()
    finally:
        reading.cancel()
        await asyncio.wait([reading])


async def _read(websocket: WebSocket, socket: Socket) -> None:
    while (event := await websocket.receive())["type"] != "websocket.disconnect":
        socket.hear(event.get("text"))
        if socket.begins is not None:
            await asyncio.wait([socket.begins])
    socket.lost()
