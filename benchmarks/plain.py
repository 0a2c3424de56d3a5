"""The same small chat as Strawberry's documentation leads one to write it: nobody logs in, everybody may read and send.

`python -m benchmarks.plain PORT DATABASE`. Knows nothing of Parley.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import strawberry
import uvicorn
from broadcaster import Broadcast, Event  # noqa: TID251
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import Field, SQLModel, UniqueConstraint, func, select
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute
from strawberry.asgi import GraphQL

engine = create_async_engine(f"sqlite+aiosqlite:///{sys.argv[2]}")
broadcast = Broadcast("memory://")
one_writer = asyncio.Lock()  # SQLite has one; it keeps the next number and its insert together


@event.listens_for(engine.sync_engine, "connect")
def faster(connection: Any, _: object) -> None:
    """A sync to the disk now and then, where Parley waits for one with each commit."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


class PlainUser(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str


class PlainMessage(SQLModel, table=True):
    __table_args__ = (UniqueConstraint("group_id", "seq"),)

    id: int | None = Field(default=None, primary_key=True)
    group_id: str
    seq: int
    content: str
    created_at: datetime
    sender_id: int


@strawberry.type
class User:
    id: strawberry.ID
    display_name: str


@strawberry.type
class Message:
    id: strawberry.ID
    seq: int
    content: str
    created_at: datetime
    sender: User


@strawberry.type
class MessageEvent:
    cursor: str
    message: Message


def shown(row: PlainMessage, name: str) -> Message:
    sender = User(id=strawberry.ID(str(row.sender_id)), display_name=name)
    return Message(
        id=strawberry.ID(str(row.id)), seq=row.seq, content=row.content, created_at=row.created_at, sender=sender
    )


@strawberry.type
class Query:
    @strawberry.field
    def hello(self) -> str:
        return "hello"


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def send_group_message(self, group_id: str, content: str) -> Message:
        async with one_writer, AsyncSession(engine, expire_on_commit=False) as session:
            user = await session.get_one(PlainUser, 1)
            last = select(func.coalesce(func.max(PlainMessage.seq), 0)).where(PlainMessage.group_id == group_id)
            seq = (await session.exec(last)).one() + 1
            row = PlainMessage(group_id=group_id, seq=seq, content=content, created_at=datetime.now(UTC), sender_id=1)
            session.add(row)
            await session.commit()
        await broadcast.publish(group_id, json.dumps({"row": row.model_dump(mode="json"), "name": user.name}))
        return shown(row, user.name)


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def group_messages(self, group_id: str) -> AsyncGenerator[MessageEvent, None]:
        async with broadcast.subscribe(group_id) as events:
            async for each in cast("AsyncIterator[Event]", events):
                heard = json.loads(each.message)
                row = PlainMessage.model_validate(heard["row"])
                yield MessageEvent(cursor=str(row.seq), message=shown(row, heard["name"]))


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncGenerator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(SQLModel.metadata.create_all)
    async with AsyncSession(engine) as session:
        session.add(PlainUser(id=1, name="Ada"))
        await session.commit()
    async with broadcast:
        yield


graphql = GraphQL[None, None](strawberry.Schema(Query, Mutation, Subscription))
app = Starlette(routes=[Route("/graphql", graphql), WebSocketRoute("/graphql", graphql)], lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False, backlog=2048)
