"""GraphQL over WebSockets: graphql-transport-ws, read strictly in front of Strawberry's handler. Knows no SQL.

Close codes say what a client should do: 4400 and other fatal ones only for what breaks the protocol, 4403 log in again,
1012 and 1013 try again. A mistake in a document is an `error` message, and the socket lives.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from datetime import timedelta
from functools import partial
from typing import Any, cast

from graphql import ExecutionResult, GraphQLError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler, Operation
from strawberry.types.unset import UNSET, UnsetType

from resolvers import users
from resolvers.following import end_of
from resolvers.messages import Join
from resolvers.refusals import ErrorCode, Lagging, Refusal
from resolvers.services import Services
from resolvers.sessions import SessionWatch, session_expired
from resolvers.users import Session

from .cohorts import Asked, Cohorts, shareable
from .context import Context
from .documents import Prepared, Rejected, prepare
from .endpoint import bearer, graphql_request, write_json
from .errors import is_fault, present, present_all, present_refusal, refusal_of
from .frames import BadMessage, SocketAdapter, Stalled, TooBig, checked
from .heartbeat import Heartbeat
from .operations import OperationLine
from .replays import Replaying, Replays
from .schema import schema

TOO_BIG, TRY_AGAIN, FORBIDDEN = 1009, 1013, 4403
PING = b'{"type":"ping"}'
LAST_WORDS_SECONDS = 5.0  # for what is under way when a session or a socket ends


class SocketContext:
    """What one socket carries: the connection_init payload (Strawberry puts it here) and the log-in that it named."""

    def __init__(self) -> None:
        self.connection_params: dict[str, Any] = {}
        self.token: str | None = None
        self.session: Session | None = None


SocketOperation = Operation[SocketContext, None]


class SocketOutlet:
    """One operation's place on its socket."""

    __slots__ = ("_adapter", "_line", "_next", "_operation")

    def __init__(self, adapter: SocketAdapter, operation: SocketOperation, line: OperationLine) -> None:
        self._adapter = adapter
        self._operation = operation
        self._line = line
        self._next = b'{"type":"next","id":' + write_json(operation.id) + b',"payload":'

    def send(self, payload: bytes) -> None:
        if not self._operation.completed:
            self._line.events += 1
            self._adapter.push(b"%b%b}" % (self._next, payload))

    def fail(self, errors: bytes) -> None:
        if not self._operation.completed:
            self._operation.completed = True
            self._operation.handler.forget_id(self._operation.id)
            self._line.failed(ErrorCode.BAD_USER_INPUT)
            self._adapter.push(b'{"type":"error","id":%b,"payload":%b}' % (write_json(self._operation.id), errors))


def _task(operation: SocketOperation) -> asyncio.Task[None] | None:
    return cast("asyncio.Task[None] | None", operation.task)


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


class SocketHandler(BaseGraphQLTransportWSHandler[SocketContext, None]):
    """One socket.

    Strawberry's handler keeps the protocol's states; what is read, executed and ended is decided here.
    """

    view: "SocketEndpoint"
    websocket: SocketAdapter

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.websocket.max_bytes = self.view.services.settings.max_frame_bytes
        self.websocket.max_outbox = self.view.services.settings.max_waiting_events
        self.websocket.give_up = self._give_up
        self._watch: SessionWatch | None = None
        self._ending: asyncio.Task[None] | None = None
        self._subscriptions: dict[SocketOperation, tuple[Context, OperationLine]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._life = asyncio.timeout(None)
        self._is_given_up = False
        self._is_lost = False
        settings = self.view.services.settings
        ask = partial(self.websocket.push, PING)
        self._heartbeat = Heartbeat(settings.ping_seconds, settings.pong_seconds, ask, self._lost)

    async def handle(self) -> None:
        try:
            async with self._life:
                await super().handle()
        except TooBig:
            await self.websocket.close(TOO_BIG, "Message too big")
        except TimeoutError:
            if not self._is_lost:
                await self.websocket.close(TRY_AGAIN, "Too slow")

    def _give_up(self) -> None:
        """End the socket of a peer that does not read, whatever it is doing."""
        if not self._is_given_up:
            self._is_given_up = True
            self._life.reschedule(asyncio.get_running_loop().time())

    def _lost(self) -> None:
        """The peer answers nothing."""
        self._is_lost = True
        self._give_up()

    async def shutdown(self) -> None:
        self._is_given_up = True
        self._heartbeat.stop()
        if self._is_lost:  # first: operations may wait for it to read
            await self.websocket.cut(TRY_AGAIN, "No answer")
        if self._watch is not None:
            self._watch.stop()
        if self._ending is not None and self._ending is not asyncio.current_task():
            self._ending.cancel()
        for operation_id in tuple(self.operations):
            await self.cleanup_operation(operation_id)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=LAST_WORDS_SECONDS)
            for task in late:
                task.cancel()
        await self.websocket.end()
        await super().shutdown()

    async def handle_message(self, message: object) -> None:
        try:
            known = checked(message)
        except BadMessage as bad:
            await self.handle_invalid_message(str(bad))
            return
        self._heartbeat.heard()
        if self._ending is None:
            await super().handle_message(cast("Any", known))

    async def handle_connection_init(self, message: Any) -> None:
        try:
            await super().handle_connection_init(message)
            session = self.context.session
            if self.connection_acknowledged:
                self._heartbeat.begin()
            if self.connection_acknowledged and session is not None and self._watch is None:
                self._watch = SessionWatch(self.view.services, session, self._session_ended)
                await self._watch.begin()
        except Refusal as refusal:
            self._session_ended(refusal)

    async def handle_subscribe(self, message: Any) -> None:
        most = self.view.services.settings.max_operations_per_socket
        if self.connection_acknowledged and message["id"] not in self.operations and len(self.operations) >= most:
            refusal = Refusal(
                ErrorCode.RATE_LIMITED, f"At most {most} operations run at once on one socket.", retryAfter=1
            )
            await self.send_message(
                cast("Any", {"id": message["id"], "type": "error", "payload": [present_refusal(refusal)]})
            )
            return
        await super().handle_subscribe(message)
        operation = self.operations.get(message["id"])
        if operation is not None and (task := _task(operation)):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def forget_id(self, id: str) -> None:
        self.operations.pop(id, None)

    async def cleanup_operation(self, operation_id: str) -> None:
        """Nothing more is sent for it."""
        operation = self.operations.pop(operation_id, None)
        if operation is not None:
            operation.completed = True
            self._stop(operation)

    def _stop(self, operation: SocketOperation) -> None:
        """It ends by itself, soon.

        Cancelled in the middle of an execution, graphql-core leaves coroutines that were never awaited, and a database
        driver a connection that is of no more use.
        """
        if running := self._subscriptions.get(operation):
            context, _ = running
            context.stop()

    # The end of the session

    def _session_ended(self, refusal: Refusal) -> None:
        if self._ending is None:
            self._ending = asyncio.create_task(self._end_session(refusal))

    async def _end_session(self, refusal: Refusal) -> None:
        """Each operation gets its `error`, then the socket closes.

        What is being written now is answered first: it may be this log-out.
        """
        with suppress(WebSocketDisconnected):
            for operation in [each for each in self.operations.values() if each in self._subscriptions]:
                await self._refuse(operation, refusal)
            tasks = [task for each in self.operations.values() if (task := _task(each))]
            if tasks:
                await asyncio.wait(tasks, timeout=LAST_WORDS_SECONDS)
            for operation in list(self.operations.values()):
                await self._refuse(operation, refusal)
        expired = refusal.code is session_expired().code
        await self.websocket.close(
            FORBIDDEN if expired else TRY_AGAIN, "Session expired" if expired else "Try again later"
        )

    async def _refuse(self, operation: SocketOperation, refusal: Refusal) -> None:
        _, line = self._subscriptions.get(operation, (None, None))
        if line is not None:
            line.failed(refusal.code)
        await self._send_errors(operation, [present_refusal(refusal)])
        self._stop(operation)

    # Operations

    async def run_operation(self, operation: SocketOperation) -> None:
        line = OperationLine("websocket")
        try:
            await self._run(operation, line)
        except Stalled:
            line.failed(ErrorCode.SERVICE_UNAVAILABLE)
            self._give_up()
        except WebSocketDisconnected:
            pass
        except Lagging as lagging:
            line.failed(lagging.code)
            self._give_up()
        except Exception as error:  # noqa: BLE001  # it is logged whole and masked
            unexpected = GraphQLError("", original_error=error)
            line.errors([unexpected])
            with suppress(WebSocketDisconnected):
                await self._send_errors(operation, [present(unexpected)])
        finally:
            if self.operations.get(operation.id) is operation:
                self.forget_id(operation.id)
            self._subscriptions.pop(operation, None)
            line.write()

    async def _run(self, operation: SocketOperation, line: OperationLine) -> None:
        try:
            asked = graphql_request(
                {"query": operation.query, "operationName": operation.operation_name, "variables": operation.variables}
            )
            prepared = prepare(schema.core, asked.query, asked.operation_name)
        except Refusal as refusal:
            line.failed(refusal.code)
            await self._send_errors(operation, [present_refusal(refusal)])
            return
        except Rejected as rejected:
            line.errors(rejected.errors)
            await self._send_errors(operation, present_all(rejected.errors))
            return
        line.started(prepared)
        await self._execute(operation, prepared, line)

    async def _execute(self, operation: SocketOperation, prepared: Prepared, line: OperationLine) -> None:
        if operation.completed:
            return
        context = Context(self.view.services, self._authenticate)
        if not prepared.is_subscription:
            result = await schema.answer(prepared, operation.variables, context)
            if not await self._send_answer(operation, result, line) or operation.completed:
                return
        else:
            self._subscriptions[operation] = context, line
            asked = shareable(prepared, operation.query, operation.operation_name, operation.variables or {})
            context.join = self._join(operation, asked, line) if asked else None
            replaying = Replaying(self.view.replays, asked) if asked and not asked.shared.of_viewer else None
            context.shared, recall = replaying is not None, replaying.recall if replaying else None
            async with aclosing(schema.follow(prepared, operation.variables, context, recall)) as results:
                async for result in results:
                    goes_on = await self._send_event(operation, result, context, line, replaying)
                    if not goes_on or operation.completed:
                        return
        await operation.send_operation_message({"id": operation.id, "type": "complete"})

    def _join(self, operation: SocketOperation, asked: Asked, line: OperationLine) -> Join:
        outlet = SocketOutlet(self.websocket, operation, line)
        return lambda seat, viewer, wants: self.view.cohorts.join(asked, seat, viewer, wants, outlet)

    async def _authenticate(self) -> Session | None:
        """The token is read again for each operation: a later request feels its end even if no event told of it."""
        token = self.context.token
        session = await users.authenticate(self.view.services, token) if token else None
        if token and session is None:
            refusal = session_expired()
            self._session_ended(refusal)
            raise refusal
        return session

    async def _send_answer(self, operation: SocketOperation, result: ExecutionResult, line: OperationLine) -> bool:
        """A query's or a mutation's one answer, as over HTTP; what did not begin is an `error`."""
        errors = result.errors or []
        line.errors(errors)
        if result.data is None and not any(error.path for error in errors):
            await self._send_errors(operation, present_all(errors))
            return False
        await self._send_next(operation, result)
        return True

    async def _send_event(
        self,
        operation: SocketOperation,
        result: ExecutionResult,
        context: Context,
        line: OperationLine,
        replaying: Replaying | None,
    ) -> bool:
        """One event, once it is settled. False when the operation has ended. Raises Lagging."""
        following, errors = context.following, result.errors or []
        if operation.completed:
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
            line.failed(refusal.code)
            await self._send_errors(operation, [present_refusal(end_of(refusal))])
            return False
        if result.data is None:
            line.errors(errors)
            await self._send_errors(operation, present_all(errors))
            return False
        line.events += 1
        await self._send_next(operation, result)
        _let_go(result, context, replaying)
        return True

    async def _send_next(self, operation: SocketOperation, result: ExecutionResult) -> None:
        payload = {"data": result.data} | ({"errors": present_all(result.errors)} if result.errors else {})
        await operation.send_operation_message({"id": operation.id, "type": "next", "payload": cast("Any", payload)})

    async def _send_errors(self, operation: SocketOperation, errors: list[dict[str, Any]]) -> None:
        await operation.send_operation_message({"id": operation.id, "type": "error", "payload": cast("Any", errors)})


class SocketEndpoint(GraphQL[SocketContext, None]):
    """The sockets of one process at /graphql."""

    graphql_transport_ws_handler_class = SocketHandler
    websocket_adapter_class = SocketAdapter

    def __init__(self, services: Services, is_origin_allowed: Callable[[str, Scope], bool]) -> None:
        settings = services.settings
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            connection_init_wait_timeout=timedelta(seconds=settings.connection_init_seconds),
            max_subscriptions_per_connection=None,
        )
        self.services = services
        self.cohorts = Cohorts(services)
        self.replays = Replays()
        self._is_origin_allowed = is_origin_allowed
        self._open = 0

    async def handle_socket(self, websocket: WebSocket) -> None:
        """One socket from its handshake to its end."""
        if self._open >= self.services.settings.max_sockets:
            await self.turn_away(websocket, "Too many connections")
            return
        self._open += 1
        try:
            await self.run(websocket)
        except asyncio.CancelledError:
            pass  # by a server that ends, which has closed the socket with 1012 already
        finally:
            self._open -= 1

    async def turn_away(self, websocket: WebSocket, reason: str) -> None:
        await websocket.accept(GRAPHQL_TRANSPORT_WS_PROTOCOL)
        await websocket.close(TRY_AGAIN, reason)

    def is_websocket_origin_allowed(self, request: WebSocket, origin: str) -> bool:
        return self._is_origin_allowed(origin, request.scope)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> SocketContext:  # noqa: ARG002
        return SocketContext()

    async def get_root_value(self, request: Request | WebSocket) -> None:  # noqa: ARG002
        return None

    async def on_ws_connect(self, context: SocketContext) -> UnsetType:
        """Read the token of connection_init. Raises ConnectionRejectionError (4403) for one that is not good."""
        given = next(
            (value for key, value in context.connection_params.items() if key.lower() == "authorization"), None
        )
        if given is None:
            return UNSET
        context.token = bearer(given)
        context.session = await users.authenticate(self.services, context.token) if context.token else None
        if context.session is None:
            raise ConnectionRejectionError
        return UNSET
