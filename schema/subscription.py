"""What may be followed. Knows no SQL and no transport."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import strawberry

from resolvers.messages import MessagesFollowing
from resolvers.news import NewsFollowing

from . import ids
from .context import Info
from .events import GroupEvent, group_event
from .types import GroupMessageEvent, OnlyEvents, event_filter, message_event

GroupId = Annotated[strawberry.ID, strawberry.argument(description="The group.")]
AfterPosition = Annotated[
    str | None,
    strawberry.argument(
        description="A stream position: a `headCursor`, or the cursor of the last event that you have. Null: from now "
        "on."
    ),
]
WithSnapshot = Annotated[
    bool | None, strawberry.argument(description="Begin with the whole list, as of the moment that the stream is live.")
]

WithActivity = Annotated[
    bool | None,
    strawberry.argument(description="Also `GroupActivityEvent`: that messages were sent in your groups."),
]


@strawberry.type(
    description="What may be followed, over graphql-transport-ws. A stream ends with an `error` message that says why "
    "and whether to retry."
)
class Subscription:
    @strawberry.subscription(
        description="What happens to the messages of a group: everything after the position, then everything as it "
        "comes, once and in order. "
        "A client that must miss nothing passes `after`. Ends with MEMBERSHIP_ENDED or GROUP_DELETED."
    )
    async def group_messages(
        self, info: Info, group_id: GroupId, after: AfterPosition = None, only: OnlyEvents = None
    ) -> AsyncGenerator[GroupMessageEvent, None]:
        viewer = await info.context.viewer()
        assert info.context.join is not None, "what is followed of a group may be shared"
        following = MessagesFollowing(
            info.context.services, viewer, ids.group(group_id), after, info.context.join, event_filter(only)
        )
        info.context.follow(following)
        async with aclosing(following.events()) as facts:
            async for fact in facts:
                yield message_event(info.context.show(None if info.context.shared else viewer, following), fact)

    @strawberry.subscription(
        description="What happens to your groups and to your place in them, on all your devices. With `snapshot: true` "
        "the first event is the "
        "whole list, and list and stream meet without a gap."
    )
    async def my_group_events(
        self, info: Info, snapshot: WithSnapshot = False, activity: WithActivity = False
    ) -> AsyncGenerator[GroupEvent, None]:
        viewer = await info.context.viewer()
        following = NewsFollowing(info.context.services, viewer, snapshot=bool(snapshot), activity=bool(activity))
        info.context.follow(following)
        async with aclosing(following.events()) as news:
            async for each in news:
                yield group_event(info.context.show(viewer, following), each)
