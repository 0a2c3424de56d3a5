"""The closed sets of the API, each value described. Their names are those of the records."""

from enum import Enum, EnumMeta
from typing import cast

import strawberry

from resolvers.refusals import ErrorCode as Code


@strawberry.enum(description="What a user is in a group.")
class MembershipStatus(Enum):
    PENDING = strawberry.enum_value(
        "PENDING", description="Invited, not answered yet. Reads and sends nothing; answer with `answerInvitation`."
    )
    ACCEPTED = strawberry.enum_value("ACCEPTED", description="A member: reads the whole log and sends.")
    REJECTED = strawberry.enum_value(
        "REJECTED", description="Declined an invitation. Reads and sends nothing; can be invited or added again."
    )


@strawberry.enum(description="What a member may do besides reading and sending.")
class MemberRole(Enum):
    MEMBER = strawberry.enum_value("MEMBER", description="Reads, sends and leaves.")
    MODERATOR = strawberry.enum_value(
        "MODERATOR", description="Also invites people and removes those with the role MEMBER."
    )
    ADMIN = strawberry.enum_value(
        "ADMIN", description="May do everything in the group. While a group has members it has at least one admin."
    )


@strawberry.enum(
    description="What happened to a message. More kinds will come: keep a default branch that shows `message` as it is."
)
class MessageEventKind(Enum):
    SENT = strawberry.enum_value(
        "SENT",
        description="A new message. Add it, and let it replace your own optimistic copy with the same "
        "`clientMessageId`.",
    )
    EDITED = strawberry.enum_value(
        "EDITED",
        description="Its sender changed the content. Keep the copy with the higher `version`, and add no message.",
    )
    DELETED = strawberry.enum_value(
        "DELETED", description="The message was deleted: its content is gone, its place stays. Show a tombstone."
    )
    REACTED = strawberry.enum_value(
        "REACTED",
        description="Somebody added or removed a reaction. Keep the copy with the higher `version`, and add no "
        "message.",
    )


@strawberry.enum(description="Why an invitation is no longer open.")
class InvitationEnd(Enum):
    ACCEPTED = strawberry.enum_value(
        "ACCEPTED", description="You accepted it, on this device or another, or an admin added you."
    )
    DECLINED = strawberry.enum_value("DECLINED", description="You declined it, on this device or another.")
    TAKEN_BACK = strawberry.enum_value("TAKEN_BACK", description="The group took it back.")
    GROUP_DELETED = strawberry.enum_value("GROUP_DELETED", description="The group was deleted.")


@strawberry.enum(
    description="What changed in a group. More actions may come: keep a default branch that takes `group` as it is."
)
class GroupUpdateAction(Enum):
    DETAILS_CHANGED = strawberry.enum_value(
        "DETAILS_CHANGED", description="The name or the description; `user` is null."
    )
    MEMBER_ADDED = strawberry.enum_value("MEMBER_ADDED", description="An admin made `user` a member.")
    MEMBER_JOINED = strawberry.enum_value("MEMBER_JOINED", description="`user` accepted an invitation.")
    MEMBER_LEFT = strawberry.enum_value("MEMBER_LEFT", description="`user` left.")
    MEMBER_REMOVED = strawberry.enum_value("MEMBER_REMOVED", description="`user` was removed by `actor`.")
    MEMBER_PROMOTED = strawberry.enum_value("MEMBER_PROMOTED", description="`user` has a higher role now.")
    MEMBER_DEMOTED = strawberry.enum_value("MEMBER_DEMOTED", description="`user` has a lower role now.")


CODE_DESCRIPTIONS = {
    Code.UNAUTHENTICATED: "No token, or one that is not good. Log in.",
    Code.FORBIDDEN: "You may not do this in this group; `extensions.membershipStatus` is your own status there, or "
    "null.",
    Code.NOT_FOUND: "The id names nothing that exists. Forget it.",
    Code.BAD_USER_INPUT: "The document or an argument is wrong; `extensions.field` names it where there is one. Mend "
    "the request.",
    Code.CONFLICT: "It does not fit the present state, or a bound is reached. The message says what to do; fetch anew.",
    Code.RATE_LIMITED: "Too many requests. Wait `extensions.retryAfter` seconds.",
    Code.QUERY_TOO_COMPLEX: "The document asks for too much. Ask for smaller pages or fewer levels.",
    Code.CURSOR_INVALID: "The cursor names no row of this log. Fetch the group anew and subscribe with its "
    "`headCursor`.",
    Code.CURSOR_EXPIRED: "The row that the cursor names is no longer kept. Fetch the group anew and subscribe with "
    "its `headCursor`.",
    Code.MEMBERSHIP_ENDED: "Your membership ended; the stream ended with it. Drop the group from your list.",
    Code.SESSION_EXPIRED: "The token of this socket ended. Log in and connect again.",
    Code.GROUP_DELETED: "The group was deleted. Drop it from your list.",
    Code.SERVICE_UNAVAILABLE: "It cannot be done right now. Try again; `extensions.committed: false` says that "
    "nothing was written.",
    Code.INTERNAL_ERROR: "A defect of the server. Report `extensions.correlationId`.",
}


_CODES = {code.name: strawberry.enum_value(code.value, description=CODE_DESCRIPTIONS[code]) for code in Code}
ErrorCode: EnumMeta = strawberry.enum(
    cast("EnumMeta", Enum("ErrorCode", _CODES)),
    description="The values of `extensions.code`: one closed set for queries, mutations and subscriptions.",
)
