"""What is true of groups, in plain Python: who may do what in them, and what became of their messages. Knows no Python
of Parley.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.harness import Json, Person
from tests.model_acts import ADMIN, MEMBER, MODERATOR, REACTING, Act, Only

PENDING, ACCEPTED, REJECTED = "PENDING", "ACCEPTED", "REJECTED"
EVERYBODY = {MEMBER, MODERATOR, ADMIN}
ROLES_THAT_MAY = {
    "sendGroupMessage": EVERYBODY,
    "editMessage": EVERYBODY,
    "deleteMessage": EVERYBODY,
    "addReaction": EVERYBODY,
    "removeReaction": EVERYBODY,
    "markGroupRead": EVERYBODY,
    "markGroupUnread": EVERYBODY,
    "followThread": EVERYBODY,
    "unfollowThread": EVERYBODY,
    "markThreadRead": EVERYBODY,
    "leaveGroup": EVERYBODY,
    "groupMessages": EVERYBODY,
    "inviteMember": {MODERATOR, ADMIN},
    "removeMember": {MODERATOR, ADMIN},
    "addMember": {ADMIN},
    "changeMemberRole": {ADMIN},
    "updateGroup": {ADMIN},
    "deleteGroup": {ADMIN},
}


@dataclass
class Standing:
    status: str
    role: str = MEMBER
    joined: int = 0  # the seq of the event that made them a member


@dataclass
class ModelGroup:
    """What is true of one group; people by number."""

    id: str
    start: str
    name: str
    everybody: Sequence[Person]
    head: int
    description: str = ""
    deleted: bool = False
    people: dict[int, Standing] = field(default_factory=dict[int, Standing])
    messages: list[Json] = field(default_factory=list[Json])
    # Every event about a message, with the message as the event made it.
    log: list[tuple[str, Json]] = field(default_factory=list[tuple[str, Json]])
    # Everything that a message has been; an event of a reply makes something of its root as well.
    been: list[Json] = field(default_factory=list[Json])

    # The replies to a message, by its id, and which message each of them was sent to.
    replies: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    targets: dict[str, str | None] = field(default_factory=dict[str, str | None])

    # Who reacted to a message with what, by its id, in the order in which they did.
    reacted: dict[str, list[tuple[str, int]]] = field(default_factory=dict[str, list[tuple[str, int]]])

    # Whom a message has mentioned in its life, by its id: a user's id or None for everybody, since which event.
    mentioned: dict[str, dict[str | None, int]] = field(default_factory=dict[str, dict[str | None, int]])

    # Up to which seq somebody said they had read, over the end of their membership: of the group, and of each thread
    # that they follow by the id of its root.
    marks: dict[int, int] = field(default_factory=dict[int, int])
    follows: dict[str, dict[int, int]] = field(default_factory=dict[str, dict[int, int]])

    def mentions(self, act: Act) -> list[Json]:
        """Whom their text mentions, by who is a member now, and where in UTF-16 code units."""
        known: dict[str, Json | None] = {
            self.everybody[who].username: {"id": self.everybody[who].id} for who in self.members()
        }
        if self.people[act.who].role != MEMBER:
            known["all"] = None
        return [
            {
                "start": len(act.text[: word.start()].encode("utf-16-le")) // 2,
                "length": len(word[0]),
                "user": known[word[1]],
            }
            for word in re.finditer(r"@([\w-]+)", act.text)
            if word[1] in known
        ]

    def says(self, message: Json, act: Act) -> None:
        """A member gave the message this text, by the event that is its version."""
        assert message["mentions"] == self.mentions(act)
        assert message["mentionsAll"] == (None in whom(message))
        since = self.mentioned.setdefault(message["id"], {})
        for each in whom(message):
            since.setdefault(each, message["version"])

    def mentioned_late(self) -> list[str]:
        """Whom an edit mentioned first: their filter begins in the middle of what happened to a message."""
        return [
            user_id
            for message in self.messages
            for user_id, since in self.mentioned[message["id"]].items()
            if user_id is not None and since > message["seq"]
        ]

    def mentioning(self, who: int) -> list[Json]:
        """The messages of others that mention the member: by name, and with everybody since they joined."""
        person = self.everybody[who]
        return [
            message
            for message in self.messages
            if message["sender"]["id"] != person.id
            and (person.id in whom(message) or (None in whom(message) and message["seq"] > self.people[who].joined))
        ]

    def only(self, only: Only | None) -> Json | None:
        """The filter as it is asked for. By the thread of no message: none."""
        match only:
            case Only("kinds", kinds):
                return {"kinds": list(kinds)}
            case Only("thread", number=number) if self.messages:
                return {"thread": root_of(self.messages[number % len(self.messages)])}
            case Only("sender" | "mentions" as field, number=number):
                return {field: self.everybody[number].id}
            case _:
                return None

    def shown(self, only: Json | None) -> list[tuple[str, Json]]:
        """The part of the log that a filter shows."""
        return [each for each in self.log if self.shows(only, *each)]

    def shows(self, only: Json | None, kind: str, message: Json) -> bool:
        match only:
            case {"kinds": kinds}:
                return kind in kinds
            case {"sender": user_id}:
                return message["sender"]["id"] == user_id
            case {"thread": root_id}:
                return root_of(message) == root_id
            case {"mentions": user_id}:
                since = self.mentioned[message["id"]]
                by_then = any(since.get(each, message["version"] + 1) <= message["version"] for each in (None, user_id))
                return by_then and message["sender"]["id"] != user_id
            case _:
                return True

    def reactions(self, message: Json) -> dict[str, list[int]]:
        """Who reacted to it, by emoji."""
        found: dict[str, list[int]] = {}
        for emoji, who in self.reacted.get(message["id"], ()):
            found.setdefault(emoji, []).append(who)
        return found

    def happened(self, kind: str, message: Json) -> None:
        """The next event of the group made this of a message."""
        self.head += 1
        assert message["version"] == self.head
        self.log.append((kind, message))
        if kind == "SENT":
            self.messages.append(message)
        self.became(message)
        if kind in ("SENT", "DELETED") and message["threadRoot"]:
            root = self.message(message["threadRoot"]["id"])
            changed = {"version": message["version"], "updatedAt": message["updatedAt"]}
            self.became(root | changed | {"thread": self.thread(root)})

    def became(self, message: Json) -> None:
        self.been.append(message)
        self.messages = [message if each["id"] == message["id"] else each for each in self.messages]

    def message(self, message_id: str) -> Json:
        return next(each for each in self.messages if each["id"] == message_id)

    def thread(self, root: Json) -> Json | None:
        """What is counted of the replies to it."""
        if root["id"] not in self.replies:
            return None
        kept = [each for each in self.replies[root["id"]] if self.message(each)["deletedAt"] is None]
        return {"replyCount": len(kept), "lastReply": {"id": kept[-1]} if kept else None}

    def target(self, act: Act) -> Json | None:
        """The message to reply to."""
        if act.reply_to is None or not self.messages:
            return None
        return self.messages[act.reply_to % len(self.messages)]

    def first_content(self, message: Json) -> str:
        return next(each["content"] for _, each in self.log if each["id"] == message["id"])

    def refusal_of_change(self, act: Act, message: Json, is_own: bool) -> str | None:
        """The code with which editing, deleting or reacting is refused to a member."""
        if act.name in REACTING:
            return "CONFLICT" if act.name == "addReaction" and message["deletedAt"] else None
        deletes_any = act.name == "deleteMessage" and self.people[act.who].role in (MODERATOR, ADMIN)
        if not is_own and not deletes_any:
            return "FORBIDDEN"
        return "CONFLICT" if act.name == "editMessage" and message["deletedAt"] else None

    def members(self) -> dict[int, Standing]:
        return {who: each for who, each in self.people.items() if each.status == ACCEPTED}

    def is_last_admin(self, who: int) -> bool:
        admins = [number for number, each in self.members().items() if each.role == ADMIN]
        return admins == [who] and len(self.members()) > 1

    def refusal(self, act: Act) -> str | None:
        """The code with which this is refused, by what is true now."""
        own = self.people.get(act.who)
        if self.deleted:
            return "GROUP_DELETED" if own and own.status == ACCEPTED else "NOT_FOUND"
        if act.name == "answerInvitation":
            return {PENDING: None, ACCEPTED: "CONFLICT"}.get(own.status if own else "", "FORBIDDEN")
        if own is None or own.status != ACCEPTED or own.role not in ROLES_THAT_MAY[act.name]:
            return "FORBIDDEN"
        return self._refusal_of_subject(act, own, self.people.get(act.whom, Standing("")))

    def _refusal_of_subject(self, act: Act, own: Standing, subject: Standing) -> str | None:
        """What stands in the way of somebody whose role allows it."""
        is_member, is_last_admin = subject.status == ACCEPTED, self.is_last_admin(act.whom)
        ranks_above = own.role == ADMIN or subject.role == MEMBER or act.whom == act.who
        obstacles = {
            "addMember": {"CONFLICT": is_member},
            "inviteMember": {"CONFLICT": is_member},
            "removeMember": {
                "NOT_FOUND": subject.status not in (PENDING, ACCEPTED),
                "FORBIDDEN": not ranks_above,
                "CONFLICT": is_last_admin,
            },
            "changeMemberRole": {
                "NOT_FOUND": not is_member,
                "CONFLICT": is_last_admin and subject.role != act.role,
            },
            "leaveGroup": {"CONFLICT": self.is_last_admin(act.who)},
        }
        return next((code for code, stands in obstacles.get(act.name, {}).items() if stands), None)

    def apply(self, act: Act) -> None:
        """Make true what was done."""
        self.head += self.changes(act)
        match act.name:
            case "addMember":
                self.people[act.whom] = Standing(ACCEPTED, act.role, self.head)
            case "inviteMember":
                self.people[act.whom] = Standing(PENDING)
            case "answerInvitation":
                self.people[act.who] = Standing(ACCEPTED if act.accept else REJECTED, joined=self.head)
            case "removeMember":
                self.go(act.whom)
            case "leaveGroup":
                self.go(act.who)
            case "changeMemberRole":
                self.people[act.whom].role = act.role
            case "updateGroup" if act.accept:
                self.name = act.text
            case "updateGroup":
                self.description = act.text
            case "deleteGroup":
                self.deleted = True
                self.end_invitations()
            case _:
                pass

    def changes(self, act: Act) -> bool:
        """Whether that is an event of the group: what is so already is none."""
        subject = self.people.get(act.whom, Standing(""))
        return {
            "inviteMember": subject.status != PENDING,
            "changeMemberRole": subject.role != act.role,
            "updateGroup": act.text != (self.name if act.accept else self.description),
        }.get(act.name, True)

    def go(self, who: int) -> None:
        del self.people[who]
        if not self.members():
            self.end_invitations()

    def end_invitations(self) -> None:
        self.people = {who: each for who, each in self.people.items() if each.status != PENDING}


def whom(message: Json) -> list[str | None]:
    """Whose ids it mentions, None for everybody."""
    return [each["user"] and each["user"]["id"] for each in message["mentions"]]


def root_of(target: Json | None) -> str | None:
    """The root of the thread that a reply to this message is in."""
    return (target["threadRoot"] or target)["id"] if target else None


def is_gone(group: ModelGroup, target: Json | None) -> bool:
    """Whether it was deleted before anybody replied."""
    return target is not None and target["deletedAt"] is not None and root_of(target) not in group.replies


def status(group: ModelGroup, who: int) -> str | None:
    return group.people[who].status if who in group.people else None
