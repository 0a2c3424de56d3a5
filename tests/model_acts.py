"""What people do in groups, as Hypothesis draws it: who, where and to what, by number. Knows no Python of Parley."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.harness import Json

NAMES = ("ada", "bob", "cyd", "dan", "eve")
ADA, BOB, CYD, DAN = range(4)
MEMBER, MODERATOR, ADMIN = "MEMBER", "MODERATOR", "ADMIN"
KINDS = ("SENT", "EDITED", "DELETED", "REACTED")
MARKING = ("markGroupRead", "markGroupUnread")
THREADING = ("followThread", "unfollowThread", "markThreadRead")
REACTING = ("addReaction", "removeReaction")
SAYING = ("sendGroupMessage", "editMessage")
TOUCHING = ("editMessage", "deleteMessage", *REACTING)


@dataclass(frozen=True)
class Only:
    """A filter by its field: of these kinds, or of a person or a message by number."""

    field: str
    kinds: tuple[str, ...] = ()
    number: int = 0


@dataclass(frozen=True)
class Act:
    """Somebody does something; people, groups and messages by number. What does not belong to the operation is not
    looked at.
    """

    name: str
    who: int
    group: int = 0
    whom: int = 0
    role: str = MEMBER
    text: str = ""
    client_id: str | None = None
    accept: bool = True
    message: int = 0
    reply_to: int | None = None
    place: int = 0
    with_whom: tuple[int, ...] = ()
    only: Only | None = None

    def __repr__(self) -> str:
        input = {key: value for key, value in self.input(list(NAMES)).items() if value is not None}
        return f"{NAMES[self.who]}: {self.name}(group {self.group}, {input})"

    def input(self, people: Sequence[str]) -> Json:
        """The input of the mutation, without the group."""
        subject = {"userId": people[self.whom]}
        return {
            "createGroup": {"name": self.text, "memberIds": [people[number] for number in self.with_whom]},
            "updateGroup": {"name" if self.accept else "description": self.text},
            "addMember": subject | {"role": self.role},
            "changeMemberRole": subject | {"role": self.role},
            "inviteMember": subject,
            "removeMember": subject,
            "answerInvitation": {"accept": self.accept},
            "sendGroupMessage": {"content": self.text, "clientMessageId": self.client_id},
            "editMessage": {"content": self.text},
            "addReaction": {"emoji": self.text},
            "removeReaction": {"emoji": self.text},
            "updateViewer": {"sharesReadPositions": self.accept},
        }.get(self.name, {})


# The creator of most groups acts most often, or nearly everything would be refused.
WHO = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4])
WHOM = st.sampled_from([1, 2, 3, 4, 0])
GROUP = st.sampled_from([0, 0, 0, 1, 1, 2, 3])
ROLE = st.sampled_from([MEMBER, MODERATOR, ADMIN])
TEXT = st.sampled_from(["a", "b", "ü👋"])
# With the usernames of people, by number.
SAID = st.sampled_from(["a", "ü👋", "@all", "ü👋 @{1}", "@{0}, @{1}", "@{2} @all @{3} @{1}"])
ACCEPT = st.booleans()
EMOJI = st.sampled_from(["👍", "tada"])
# From the first on, or from the last back.
SENT_BEFORE = st.integers(-2, 3)
IN_THREAD = st.sampled_from([0, 0, 1, 2, -1, -2])
PLACE = st.integers(0, 3)  # of the replies from the last back, or 0: beyond all
REPLY_TO = st.sampled_from([None, None, 0, -1, -2])
ONLY = st.one_of(
    st.none(),
    st.builds(Only, st.just("kinds"), st.sets(st.sampled_from(KINDS), min_size=1).map(sorted).map(tuple)),
    st.builds(Only, st.sampled_from(["sender", "mentions", "thread"]), number=st.integers(0, 2)),
)
CLIENT_ID = st.sampled_from([None, None, "1", "2"])


def act(name: str, **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Act]:
    return st.builds(Act, st.just(name), WHO, GROUP, **parts)


CHANGES = (
    # Several times: a sequence in which little is said shows little.
    *(act("sendGroupMessage", text=SAID, client_id=CLIENT_ID, reply_to=REPLY_TO) for _ in range(5)),
    *(act("editMessage", message=SENT_BEFORE, text=SAID, accept=ACCEPT) for _ in range(2)),
    act("deleteMessage", message=SENT_BEFORE),
    act("addReaction", message=SENT_BEFORE, text=EMOJI),
    act("removeReaction", message=SENT_BEFORE, text=EMOJI),
    *(act("markGroupRead", message=SENT_BEFORE) for _ in range(2)),
    act("markGroupUnread", message=SENT_BEFORE),
    act("followThread", message=IN_THREAD),
    act("unfollowThread", message=IN_THREAD),
    *(act("markThreadRead", message=IN_THREAD, place=PLACE) for _ in range(2)),
    *(act("updateViewer", accept=ACCEPT) for _ in range(2)),
    act("addMember", whom=WHOM, role=ROLE),
    act("inviteMember", whom=WHOM),
    act("answerInvitation", accept=ACCEPT),
    act("removeMember", whom=WHOM),
    act("leaveGroup"),
    act("changeMemberRole", whom=WHOM, role=ROLE),
    act("updateGroup", text=TEXT, accept=ACCEPT),
    act("createGroup", text=TEXT, with_whom=st.lists(WHOM, max_size=3).map(tuple)),
    act("deleteGroup"),
)
ACTS = st.one_of(
    *CHANGES,
    *(act("follow", only=ONLY) for _ in range(3)),
    act("unfollow"),
    act("look"),
    act("ask", message=SENT_BEFORE),
    act("reconnect"),
)
