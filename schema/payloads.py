"""What mutations give: one whole payload each, or an error. Knows no SQL."""

from datetime import datetime

import strawberry

from .nodes import User
from .types import Group, Membership, Message, MessageEdge, message_edge

VIEWER = "You."
GROUP = "The group as it is now."
ROOT = "The root of the thread as it is now."
MEMBERSHIP = "The membership as it is now."


@strawberry.type(description="You are registered and logged in.")
class RegisterPayload:
    viewer: User = strawberry.field(description=VIEWER)
    token: str = strawberry.field(description="Send it as `Authorization: Bearer TOKEN`. It is shown this once.")
    expires_at: datetime = strawberry.field(description="When the token ends by itself.")


@strawberry.type(description="You are logged in.")
class LoginPayload:
    viewer: User = strawberry.field(description=VIEWER)
    token: str = strawberry.field(description="Send it as `Authorization: Bearer TOKEN`. It is shown this once.")
    expires_at: datetime = strawberry.field(description="When the token ends by itself.")


@strawberry.type(description="The token of this request has ended.")
class LogoutPayload:
    logged_out: bool = strawberry.field(description="Always true.")


@strawberry.type(description="The password is changed; every other token of yours has ended.")
class ChangePasswordPayload:
    viewer: User = strawberry.field(description=VIEWER)


@strawberry.type(description="You, changed.")
class UpdateViewerPayload:
    viewer: User = strawberry.field(description=VIEWER)


@strawberry.type(description="The group is created; you are its admin.")
class CreateGroupPayload:
    group: Group = strawberry.field(description=GROUP)


@strawberry.type(description="The group, changed.")
class UpdateGroupPayload:
    group: Group = strawberry.field(description=GROUP)


@strawberry.type(description="The group is deleted.")
class DeleteGroupPayload:
    group_id: strawberry.ID = strawberry.field(description="The group that was.")


@strawberry.type(description="The user is a member.")
class AddMemberPayload:
    membership: Membership = strawberry.field(description=MEMBERSHIP)


@strawberry.type(description="The user is neither member nor invited.")
class RemoveMemberPayload:
    group_id: strawberry.ID = strawberry.field(description="Which group.")
    group: Group | None = strawberry.field(description="The group as it is now; null if you removed yourself.")


@strawberry.type(description="The member has the role.")
class ChangeMemberRolePayload:
    membership: Membership = strawberry.field(description=MEMBERSHIP)


@strawberry.type(description="You have left.")
class LeaveGroupPayload:
    group_id: strawberry.ID = strawberry.field(description="The group that you left.")


@strawberry.type(description="The user is invited.")
class InviteMemberPayload:
    membership: Membership = strawberry.field(description=MEMBERSHIP)


@strawberry.type(description="The invitation is answered.")
class AnswerInvitationPayload:
    membership: Membership = strawberry.field(description=MEMBERSHIP)


@strawberry.type(description="The group is read up to there, or was read further already.")
class MarkGroupReadPayload:
    group: Group = strawberry.field(description=GROUP)


@strawberry.type(description="The group is unread from there on.")
class MarkGroupUnreadPayload:
    group: Group = strawberry.field(description=GROUP)


@strawberry.type(description="You follow the thread.")
class FollowThreadPayload:
    root: Message = strawberry.field(description=ROOT)


@strawberry.type(description="You do not follow the thread.")
class UnfollowThreadPayload:
    root: Message = strawberry.field(description=ROOT)


@strawberry.type(description="The thread is read up to there, or was read further already, or you do not follow it.")
class MarkThreadReadPayload:
    root: Message = strawberry.field(description=ROOT)


@strawberry.type(
    description="The message is in the group's log, for ever. Not a stream position: messages of others may lie below "
    "it."
)
class SendGroupMessagePayload:
    message: Message = strawberry.field(description="The message.")
    replayed: bool = strawberry.field(
        description="Whether an earlier request with this `clientMessageId` had sent it already."
    )

    @strawberry.field(description="The message as an edge of `Group.messages`, for clients that keep connections.")
    def message_edge(self) -> MessageEdge:
        return message_edge(self.message)


@strawberry.type(description="The message says this now, for everybody.")
class EditMessagePayload:
    message: Message = strawberry.field(description="The message as it is now.")


@strawberry.type(description="The content of the message is gone for ever.")
class DeleteMessagePayload:
    message: Message = strawberry.field(description="The message as it is now: a tombstone in its place.")


@strawberry.type(description="You have reacted.")
class AddReactionPayload:
    message: Message = strawberry.field(description="The message as it is now.")


@strawberry.type(description="Your reaction is not there any more.")
class RemoveReactionPayload:
    message: Message = strawberry.field(description="The message as it is now.")
