"""Parley with Python's gql. Copy it: it knows no framework, only where the documents of graphql/operations/ are."""

# region connect
import asyncio
import random
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from gql import Client, GraphQLRequest
from gql.client import AsyncClientSession
from gql.transport.exceptions import (
    TransportConnectionFailed,
    TransportError,
    TransportQueryError,
    TransportServerError,
)
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close

OPERATIONS = Path(__file__).resolve().parents[3] / "graphql" / "operations"  # or wherever your copy of it is
Json: TypeAlias = dict[str, Any]


def over_http(url: str, token: str | None = None) -> Client:
    """For queries and mutations: `async with over_http(url, token) as session`."""
    return Client(transport=HTTPXAsyncTransport(url, headers={"Authorization": f"Bearer {token}"} if token else None))


def over_socket(url: str, token: str, keep_alive: float = 10) -> Client:
    """For subscriptions, queries and mutations over one connection; make another client for the next connection."""
    transport = WebsocketsTransport(
        url.replace("http", "ws", 1),
        init_payload={"authorization": f"Bearer {token}"},
        connect_args={
            # A connection can die without a word: ask now and then, and give up on silence.
            "ping_interval": keep_alive,
            "ping_timeout": keep_alive / 2,
            "close_timeout": 1,
            # A page of the longest messages is larger than the 1 MiB that the library takes.
            "max_size": 4 * 1024 * 1024,
        },
    )
    return Client(transport=transport)


def request(operation: str, **variables: Any) -> GraphQLRequest:
    """An operation of graphql/operations/, for `session.execute` and `session.subscribe`."""
    return GraphQLRequest(_document(operation), variable_values=variables)


@cache
def _document(operation: str) -> GraphQLRequest:
    return GraphQLRequest((OPERATIONS / f"{operation}.graphql").read_text(encoding="utf-8"))


# endregion


# region ask
async def ask(session: AsyncClientSession, operation: str, **variables: Any) -> Any:
    """The one root field of an answer over HTTP, asked for again while the server cannot be reached.

    For queries, and for a send with its `clientMessageId`: of another mutation nobody knows whether it was done. Put a
    bound to it with `asyncio.timeout`.
    """
    attempt = 0
    while True:
        try:
            answer: Json = await session.execute(request(operation, **variables))
            return next(iter(answer.values()))
        except (TransportError, TimeoutError) as error:
            if not may_pass(error):
                raise
        await asyncio.sleep(backoff(attempt))
        attempt += 1


def may_pass(error: Exception) -> bool:
    """Whether the same can succeed later: over another connection, or because the server says so."""
    match error:
        case TransportQueryError(errors=[{"extensions": {"retry": bool(retry)}}, *_]):
            return retry
        case TransportServerError(code=int(status)):
            return status >= 500
        case TransportConnectionFailed(__cause__=InvalidStatus(response=response)):
            return response.status_code >= 500
        case TransportConnectionFailed(__cause__=ConnectionClosed(rcvd=Close(code=code))):
            return code in {1001, 1011, 1012, 1013, 4408}  # not 4403: a token that has ended never gets better
        case _:
            return isinstance(error, TransportConnectionFailed | TimeoutError)


def backoff(attempt: int) -> float:
    """Seconds."""
    return min(0.25 * 2 ** min(attempt, 10), 30) * random.uniform(0.5, 1.5)


# endregion


# region messages
def keep(messages: dict[str, Json], message: Json) -> None:
    """Keep each message once, whichever of draft, answer, event and page comes first: the higher version stays."""
    own = message["clientMessageId"]
    key = f"{message['sender']['id']} {own}" if own else message["id"]
    if key not in messages or messages[key]["version"] < message["version"]:
        messages[key] = message


def in_order(messages: dict[str, Json]) -> list[Json]:
    """In the order of the log, drafts last."""
    return sorted(messages.values(), key=lambda message: message["seq"])


def draft(sender: Json, content: str, client_message_id: str) -> Json:
    """What a sender shows before the answer: the message at version 0, which is in nobody's log yet."""
    own = {"id": client_message_id, "clientMessageId": client_message_id, "seq": float("inf"), "version": 0}
    return {**own, "content": content, "sender": sender}


# endregion


# region send
async def send(session: AsyncClientSession, group_id: str, content: str, client_message_id: str | None = None) -> Json:
    """Bring a message into the log; it is there once, however often it is sent. Await each before the next."""
    sent = {"groupId": group_id, "content": content, "clientMessageId": client_message_id or str(uuid.uuid4())}
    return (await ask(session, "SendGroupMessage", input=sent))["message"]


# endregion


# region follow
async def follow(url: str, token: str, group_id: str, after: str, keep_alive: float = 10) -> AsyncGenerator[Json]:
    """Every event of a group after the position `after`: each once, in order, over any disconnect.

    Raises TransportQueryError where the stream ends (MEMBERSHIP_ENDED, SESSION_EXPIRED …), and
    TransportConnectionFailed where the token is refused.
    """
    attempt = 0
    while True:
        try:
            async with over_socket(url, token, keep_alive) as session:
                wanted = request("GroupMessages", groupId=group_id, after=after)
                # The socket ends with the stream, so nobody needs gql's farewell; on a lost connection it fails.
                async with aclosing(session.subscribe(wanted, send_stop=False)) as answers:
                    async for answer in answers:
                        event: Json = answer["groupMessages"]
                        attempt, after = 0, event["cursor"]
                        yield event
        except (TransportError, TimeoutError) as error:
            if not may_pass(error):
                raise
            if cancelled():
                raise asyncio.CancelledError from error
        await asyncio.sleep(backoff(attempt))
        attempt += 1


def cancelled() -> bool:
    """Whether this task was cancelled; Python 3.11 can lose the exception while gql closes a lost connection."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


# endregion


# region poll
async def poll(session: AsyncClientSession, group_id: str, after: str, every: float = 3) -> AsyncGenerator[Json]:
    """The same events without a socket, asked for every so many seconds."""
    while True:
        page = (await ask(session, "GroupMessageEvents", id=group_id, after=after))["messageEvents"]
        for event in page["events"]:
            yield event
        after = page["cursor"]
        if not page["hasMore"]:
            await asyncio.sleep(every)


# endregion
