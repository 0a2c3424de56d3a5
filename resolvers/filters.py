"""Which events of a group's messages somebody wants to see. Knows nothing of SQL or GraphQL."""

from uuid import UUID

from db.records import MESSAGE_KINDS, GroupEventKind
from delivery.events import Event
from frozen import frozen

from .mentions import has_mentioned
from .reader import Shown

WINDOW = 10_000  # events of a log that one read looks at, however few it shows: 6 ms on SQLite at most


@frozen
class Filter:
    """Message events of these kinds, and only about messages of this sender, or about this message and the replies to
    it, or about messages of others that had mentioned this user by then, if one is given.
    """

    kinds: frozenset[GroupEventKind] = MESSAGE_KINDS
    sender_id: UUID | None = None
    thread_id: UUID | None = None
    mentioned_id: UUID | None = None

    def shows(self, event: Event) -> bool:
        """The same that `db.events` reads: an event's kind, its message's sender and thread, and whom the message had
        mentioned by then, never change.
        """
        fact: Shown = event.fact
        message = fact.message
        if message is None or fact.event.kind not in self.kinds:
            return False
        if self.thread_id is not None and self.thread_id not in (message.id, message.thread_root_id):
            return False
        if self.mentioned_id is not None and not has_mentioned(message, self.mentioned_id, fact.event.seq):
            return False
        return self.sender_id is None or message.sender_id == self.sender_id


EVERY_EVENT = Filter()
