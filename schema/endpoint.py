"""GraphQL over HTTP: one POST, one JSON answer, whatever the client sends. Knows no SQL.

Follows the GraphQL-over-HTTP draft: `application/graphql-response+json` answers 400 where nothing was executed,
`application/json` answers 200 for every well-formed request.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import orjson
from graphql import GraphQLError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from resolvers import users
from resolvers.refusals import ErrorCode, Refusal, bad_input, unavailable
from resolvers.services import Services
from resolvers.users import Session

from .context import Context
from .documents import Prepared, Rejected, prepare
from .errors import present, present_all, present_refusal
from .operations import OperationLine, log_of
from .schema import schema
from .wire import whole_body

JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"
BEARER = "bearer "
BODY_SECONDS = 15.0


class BadRequest(Exception):
    """A request that is not GraphQL over HTTP: its status, and the refusal to show."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.refusal = bad_input(message)


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    query: str
    operation_name: str | None
    variables: Mapping[str, Any] | None


def bearer(value: object) -> str | None:
    """The token of an Authorization value, None for anything that is not a bearer token."""
    if not isinstance(value, str) or value[: len(BEARER)].lower() != BEARER:
        return None
    return value[len(BEARER) :].strip() or None


def write_json(value: object) -> bytes:
    """JSON in UTF-8.

    What orjson refuses (halves of surrogate pairs that a client sent and an error repeats) is escaped.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def read_json(raw: bytes | str) -> Any:
    """Raises ValueError.

    What orjson refuses is read again: a lone surrogate is a matter for the field that it stands in.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        text = raw.decode() if isinstance(raw, bytes) else raw
        try:
            return json.loads(text, parse_constant=_refuse_constant)
        except RecursionError:
            raise ValueError from None


def _refuse_constant(name: str) -> None:
    """NaN and Infinity are Python's, not JSON's."""
    raise ValueError(name)


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a JSON value is an object."""
    return isinstance(value, dict)


def graphql_request(payload: object) -> GraphQLRequest:
    """The parts of a request, checked. Raises a refusal that names the part."""
    if not is_object(payload):
        raise bad_input("The request must be a JSON object with a query; batches are not supported.")
    query, name, variables = payload.get("query"), payload.get("operationName"), payload.get("variables")
    if not isinstance(query, str) or not query.strip():
        raise bad_input("query must be a string with a GraphQL document.", field="query")
    if name is not None and not isinstance(name, str):
        raise bad_input("operationName must be a string or null.", field="operationName")
    if variables is not None and not is_object(variables):
        raise bad_input("variables must be an object or null.", field="variables")
    if payload.get("extensions") is not None and not isinstance(payload["extensions"], dict):
        raise bad_input("extensions must be an object or null.", field="extensions")
    return GraphQLRequest(query, name or None, variables)


class ClientGone(Exception):
    """Nobody waits for an answer."""


def headers_of(scope: Scope) -> dict[str, str]:
    """Each header once, in lower case: the first of those that came twice."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


async def read_body(headers: Mapping[str, str], receive: Receive, most: int) -> bytes:
    """The body, read only as far as it may go. Raises BadRequest, ClientGone."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise BadRequest(415, "The body must not be compressed.")
    media_type, _, parameters = headers.get("content-type", "").partition(";")
    if media_type.strip().lower() != JSON or ("charset" in parameters and "utf-8" not in parameters.lower()):
        raise BadRequest(415, "The Content-Type must be application/json, in UTF-8.")
    length = headers.get("content-length", "0")
    if length.isdigit() and int(length) > most:
        raise _too_large(most)
    body = whole_body(receive)
    if body is None:
        body = await _received(receive, most)
    if len(body) > most:
        raise _too_large(most)
    return body


async def _received(receive: Receive, most: int) -> bytes:
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more and len(body) <= most:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                body += message.get("body", b"")
                more = message.get("more_body", False)
    except TimeoutError:
        raise BadRequest(408, "The body did not come in time.") from None
    return bytes(body)


def _too_large(most: int) -> BadRequest:
    return BadRequest(413, f"The body must be at most {most:,} bytes.")


class Endpoint:
    """POST /graphql for one process: an ASGI app, because Starlette's requests and responses would cost 30 µs more."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._log = log_of("http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        media_type = GRAPHQL_JSON if GRAPHQL_JSON in headers.get("accept", "") else JSON
        line = OperationLine(self._log)
        try:
            status, answer = await self._answer(headers, receive, line)
            if media_type == JSON:
                status = 200
        except BadRequest as error:
            line.failed(error.refusal.code)
            status, answer = error.status, {"errors": [present_refusal(error.refusal)]}
        except asyncio.CancelledError:  # the server ends; a write goes on, and nobody can say what becomes of it
            line.failed(ErrorCode.SERVICE_UNAVAILABLE)
            refusal = unavailable(committed=None if line.may_have_written else False)
            status, answer = 503, {"errors": [present_refusal(refusal)]}
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  # it is logged whole and masked
            unexpected = GraphQLError("", original_error=error)
            line.errors([unexpected])
            status, answer = 500, {"errors": [present(unexpected)]}
        line.write()
        body = write_json(answer)
        described = [(b"content-length", b"%d" % len(body)), (b"content-type", media_type.encode())]
        if status == 408:  # noqa: PLR2004  # the rest of the body is still under way
            described.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": described})
        await send({"type": "http.response.body", "body": body})

    async def _answer(
        self, headers: Mapping[str, str], receive: Receive, line: OperationLine
    ) -> tuple[int, dict[str, Any]]:
        body = await read_body(headers, receive, self._services.settings.max_body_bytes)
        try:
            asked = graphql_request(read_json(body))
        except ValueError:
            raise BadRequest(400, "The body must be JSON in UTF-8.") from None
        except Refusal as refusal:
            raise BadRequest(400, refusal.message) from None
        try:
            prepared = prepare(schema.core, asked.query, asked.operation_name)
        except Rejected as rejected:
            line.errors(rejected.errors)
            return 400, {"errors": present_all(rejected.errors)}
        line.started(prepared)
        if prepared.is_subscription:
            refusal = bad_input(
                "Subscriptions need a WebSocket with the subprotocol graphql-transport-ws at this address."
            )
            line.failed(refusal.code)
            return 400, {"errors": [present_refusal(refusal)]}
        return await self._executed(asked, prepared, bearer(headers.get("authorization")), line)

    async def _executed(
        self, asked: GraphQLRequest, prepared: Prepared, token: str | None, line: OperationLine
    ) -> tuple[int, dict[str, Any]]:
        async def authenticate() -> Session | None:
            return await users.authenticate(self._services, token) if token else None

        context = Context(self._services, authenticate)
        result = await schema.answer(prepared, asked.variables, context)
        answer: dict[str, Any] = {}
        if result.errors:
            line.errors(result.errors)
            answer["errors"] = present_all(result.errors)
        never_began = result.data is None and not any(error.path for error in result.errors or ())
        if not never_began:
            answer["data"] = result.data
        return (400 if never_began else 200), answer


def not_yet() -> Response:
    """The answer to every request before the process serves."""
    return Response(write_json({"errors": [present_refusal(unavailable())]}), 503, media_type=JSON)


def not_allowed() -> Response:
    """The answer to every other method, and to a GET that does not ask for a page."""
    refusal = Refusal(ErrorCode.BAD_USER_INPUT, "Send GraphQL as POST with Content-Type: application/json.")
    return Response(write_json({"errors": [present_refusal(refusal)]}), 405, {"allow": "GET, POST"}, media_type=JSON)
