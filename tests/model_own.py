"""What a group is to each of its members alone: how far they have read it and its threads, which they follow, and whom
they are shown to have seen what. In plain Python, by looking at everything. Knows no Python of Parley.
"""

from collections.abc import Sequence

from tests.harness import Json
from tests.model_acts import Act
from tests.model_groups import ModelGroup

SEEN_BY_MEMBERS = 3


def read_seq(group: ModelGroup, who: int) -> int:
    """How far a member has read: at least what was there before they joined."""
    return max(group.people[who].joined, group.marks.get(who, 0))


def mark(act: Act, group: ModelGroup, seq: int) -> bool:
    """A member marks the group read up to this message, or unread from it on. Whether that is another place."""
    before = read_seq(group, act.who)
    wanted = max(before, seq) if act.name == "markGroupRead" else max(group.people[act.who].joined, seq - 1)
    if wanted != before:
        group.marks[act.who] = wanted
    return wanted != before


def follow_by_reply(group: ModelGroup, who: int, reply: Json) -> list[int]:
    """Who replied follows the thread from there on, and who began it with the first reply, if they are a member. Those
    who did not before.
    """
    root = group.message(reply["threadRoot"]["id"])
    starts = {who: reply["seq"]}
    if group.replies[root["id"]] == [reply["id"]]:
        starts |= {each: root["seq"] for each in group.members() if is_by(group, root, each) and each != who}
    follows = group.follows.setdefault(root["id"], {})
    new = [each for each in starts if each not in follows]
    follows.update({each: starts[each] for each in new})
    return new


def follow(act: Act, group: ModelGroup, root_id: str, up_to: int) -> bool:
    """A member follows a thread, ends that, or marks it read. Whether that changes anything."""
    before = followed(group, act.who).get(root_id)
    follows = group.follows.setdefault(root_id, {})
    match act.name:
        case "followThread" if before is None:
            follows[act.who] = group.head
        case "unfollowThread" if before is not None:
            del follows[act.who]
        case "markThreadRead" if before is not None and up_to > before:
            follows[act.who] = up_to
        case _:
            return False
    return True


def refusal_of_following(act: Act, group: ModelGroup, root_id: str, up_to: int) -> str | None:
    """The code with which that is refused to a member."""
    if act.name == "followThread" and root_id not in group.replies:
        return "CONFLICT"
    return "BAD_USER_INPUT" if act.name == "markThreadRead" and up_to > group.head else None


def followed(group: ModelGroup, who: int) -> dict[str, int]:
    """The threads that a member follows, by the ids of their roots, and how far they have read each."""
    joined = group.people[who].joined
    return {root_id: max(joined, follows[who]) for root_id, follows in group.follows.items() if who in follows}


def own_thread(group: ModelGroup, who: int, root_id: str) -> Json | None:
    if root_id not in group.replies:
        return None
    seq = followed(group, who).get(root_id)
    replies = [group.message(reply_id) for reply_id in group.replies[root_id]]
    unread = [
        reply
        for reply in replies
        if seq is not None and reply["seq"] > seq and not is_by(group, reply, who) and reply["deletedAt"] is None
    ]
    return {"viewerFollows": seq is not None, "readSeq": seq, "unreadCount": len(unread)}


def own_message(group: ModelGroup, who: int, message: Json, shares: Sequence[bool]) -> Json:
    """The message as nobody else may be shown it."""
    return {
        "id": message["id"],
        "seenBy": _seen_by(group, message, shares) if shares[who] and len(group.members()) <= SEEN_BY_MEMBERS else None,
        "thread": own_thread(group, who, message["id"]),
        "reactions": [
            {
                "emoji": emoji,
                "viewerHasReacted": who in people,
                "users": {"nodes": [{"id": group.everybody[each].id} for each in people]},
            }
            for emoji, people in group.reactions(message).items()
        ],
    }


def _seen_by(group: ModelGroup, message: Json, shares: Sequence[bool]) -> list[Json]:
    """The members who said that they had read as far, and share it, but its sender, in the order of their joining."""
    members = sorted(group.members(), key=lambda who: group.people[who].joined)
    return [
        {"id": group.everybody[who].id}
        for who in members
        if shares[who] and group.marks.get(who, 0) >= message["seq"] and not is_by(group, message, who)
    ]


def is_by(group: ModelGroup, message: Json, who: int) -> bool:
    return message["sender"]["id"] == group.everybody[who].id


def newest_reply(group: ModelGroup, root_id: str) -> Json:
    """Deleted or not."""
    return group.message(group.replies[root_id][-1])
