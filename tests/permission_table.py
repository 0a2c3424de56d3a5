"""The table of permissions as the documents show it, made from the one in the code. Knows no server."""

from collections.abc import Mapping

from db.records import MemberRole, MembershipStatus
from resolvers.access import ALLOWED, Operation

SHOWN: Mapping[Operation, str] = {
    Operation.READ: "`group` and all that is under it, `groupMessages`",
    Operation.MARK: "`markGroupRead`, `markGroupUnread`, `markThreadRead`",
    Operation.FOLLOW: "`followThread`, `unfollowThread`",
    Operation.SEND: "`sendGroupMessage`",
    Operation.CHANGE_OWN_MESSAGE: "`editMessage` and `deleteMessage` of one's own message, its `revisions`",
    Operation.DELETE_ANY_MESSAGE: "`deleteMessage` of anybody's message, its `revisions`",
    Operation.REACT: "`addReaction`, `removeReaction`",
    Operation.ADD_MEMBER: "`addMember`",
    Operation.INVITE_MEMBER: "`inviteMember`",
    Operation.REMOVE_MEMBER: "`removeMember`",
    Operation.CHANGE_ROLE: "`changeMemberRole`",
    Operation.UPDATE_GROUP: "`updateGroup`",
    Operation.DELETE_GROUP: "`deleteGroup`",
    Operation.LEAVE: "`leaveGroup`",
    Operation.ANSWER_INVITATION: "`answerInvitation`",
}
OUTSIDE = (MembershipStatus.PENDING, MembershipStatus.REJECTED)
YES, NO = "yes", "no"


def permission_table() -> str:
    """A Markdown table: a row for each operation, a column for each standing; its last line ends without a newline."""
    head = ["Operation", "not a member", *(status.value for status in OUTSIDE), *(role.value for role in MemberRole)]
    lines = [head, ["---"] * len(head), *(_row(operation) for operation in Operation)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _row(operation: Operation) -> list[str]:
    outside = [_whatever_the_role(operation, status) for status in OUTSIDE]
    inside = [(MembershipStatus.ACCEPTED, role) in ALLOWED[operation] for role in MemberRole]
    return [SHOWN[operation], NO, *(YES if allowed else NO for allowed in (*outside, *inside))]


def _whatever_the_role(operation: Operation, status: MembershipStatus) -> bool:
    """One column for all roles, which mean nothing to who is not a member. Raises ValueError where they do."""
    answers = {(status, role) in ALLOWED[operation] for role in MemberRole}
    if len(answers) != 1:
        raise ValueError(f"{operation.name} differs by role for {status.value}: give each role its column")
    return answers.pop()
