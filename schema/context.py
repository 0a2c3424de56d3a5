"""What one operation carries: whose it is, and how nested fields are loaded. Knows no SQL and no transport."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import strawberry

from db.records import Group, User
from resolvers.access import Viewer, ViewerDoor
from resolvers.following import Following
from resolvers.messages import Join
from resolvers.refusals import ErrorCode, Refusal, unauthenticated
from resolvers.services import Services
from resolvers.users import Session

from .loaders import Loaders

# What differs from viewer to viewer. A field that asks for the viewer and is not here fails in every cohort.
VIEWER_FIELDS = frozenset(
    {
        "viewerMembership",
        "viewerHasReacted",
        "viewerFollows",
        "revisions",
        "seenBy",
        "readSeq",
        "unreadCount",
        "mentionCount",
        "firstUnread",
        "sharesReadPositions",
    }
)

# And the arguments that do: their values may stand in a variable, and so be known only when it is too late.
VIEWER_ARGUMENTS = frozenset({"around"})

Authenticate = Callable[[], Coroutine[Any, Any, Session | None]]


@dataclass
class Context:
    """The token's row is read when the first field asks for the viewer, once for an operation: what needs nobody costs
    nothing.
    """

    services: Services
    authenticate: Authenticate
    join: Join | None = None  # how a subscription's live part finds its cohort, where it may be shared
    shared: bool = False  # what a subscription shows may be shown to others: it has no viewer then
    following: Following[Any] | None = None
    stopped: bool = False
    _session: Session | None = None
    _asked: bool = False
    _loaders: Loaders | None = field(default=None)

    async def viewer(self) -> Viewer:
        """Raises UNAUTHENTICATED."""
        if not self._asked:
            self._session = await self.authenticate()
            self._asked = True
        if self._session is None:
            raise unauthenticated()
        return self._session.viewer

    async def is_viewer(self, user_id: UUID) -> bool:
        """Whether that is who asks. Raises LookupError in an event that is shown to many."""
        try:
            return (await self.loaders()).viewer.id == user_id
        except Refusal as refusal:
            if refusal.code is ErrorCode.UNAUTHENTICATED:
                return False
            raise

    @property
    def people(self) -> Mapping[UUID, User]:
        """Who was read already."""
        return self._loaders.people if self._loaders is not None else {}

    @property
    def groups(self) -> Mapping[UUID, Group]:
        """And which groups."""
        return self._loaders.groups if self._loaders is not None else {}

    async def loaders(self) -> Loaders:
        if self._loaders is None:
            viewer = await self.viewer()
            self._loaders = Loaders(self.services, viewer, ViewerDoor(viewer.id))
        return self._loaders

    def begin_mutation(self) -> None:
        """What was read for the mutation before in the same request may be different now."""
        self._loaders = None

    def stop(self) -> None:
        """Whoever asked wants no more of it."""
        self.stopped = True
        if self.following is not None:
            self.following.stop()

    def follow(self, following: Following[Any]) -> None:
        """The subscription that this operation is."""
        self.following = following
        if self.stopped:
            following.stop()

    def show(self, viewer: Viewer | None, following: Following[Any]) -> Loaders:
        """New loaders behind the door of the event that is shown now: nothing that is remembered outlives an event."""
        self._loaders = Loaders(self.services, viewer, following.door)
        return self._loaders

    def forget(self) -> None:
        """The event was sent: let go of what was loaded for it."""
        self._loaders = None


Info = strawberry.Info[Context, None]
