"""What mutations take, one input each, and what lists are asked with. Knows no SQL."""

from datetime import datetime
from typing import Any

import strawberry

from .enums import MemberRole, MessageEventKind

UNSET = strawberry.UNSET
GROUP_ID = "The group."
USER_ID = "The user."
THREAD_ID = "The root of the thread, or a reply in it."


def given(**fields: Any) -> dict[str, Any]:
    """The fields that the client gave, null included."""
    return {name: value for name, value in fields.items() if value is not UNSET}


@strawberry.input(description="Who is to be registered.")
class RegisterInput:
    username: str = strawberry.field(
        description="3 to 32 of a-z, 0-9, `_`, `.`, `-`; capitals are lowered. It must be free, and not `all`, which "
        "means everybody, with or without `_`, `.` or `-` after it."
    )
    password: str = strawberry.field(description="8 to 1,024 bytes.")
    first_name: str = strawberry.field(description="1 to 100 characters.")
    last_name: str = strawberry.field(description="1 to 100 characters.")
    nickname: str | None = strawberry.field(default=UNSET, description="Up to 100 characters.")
    avatar_url: str | None = strawberry.field(
        default=UNSET, description="An http(s) URL or a path that begins with `/`, up to 2,048 characters."
    )


@strawberry.input(description="Who logs in.")
class LoginInput:
    username: str = strawberry.field(description="The username; capitals are lowered.")
    password: str = strawberry.field(description="The password.")


@strawberry.input(description="The old password and the new one.")
class ChangePasswordInput:
    current_password: str = strawberry.field(
        description="The password as it is: a stolen token alone cannot change it."
    )
    new_password: str = strawberry.field(description="8 to 1,024 bytes.")


@strawberry.input(description="What to change about yourself. What is left out stays.")
class UpdateViewerInput:
    first_name: str | None = strawberry.field(default=UNSET, description="1 to 100 characters; not null.")
    last_name: str | None = strawberry.field(default=UNSET, description="1 to 100 characters; not null.")
    nickname: str | None = strawberry.field(default=UNSET, description="Up to 100 characters; null removes it.")
    avatar_url: str | None = strawberry.field(
        default=UNSET, description="An http(s) URL or a path that begins with `/`; null removes it."
    )
    shares_read_positions: bool | None = strawberry.field(
        default=UNSET,
        description="Whether others see in `seenBy` how far you have read, and you see it of them; not null.",
    )


@strawberry.input(description="The group to create.")
class CreateGroupInput:
    name: str = strawberry.field(description="1 to 100 characters after trimming.")
    description: str | None = strawberry.field(default="", description="Up to 2,000 characters.")
    member_ids: list[strawberry.ID] | None = strawberry.field(
        default_factory=list,
        description="Up to 100 users that are members from the start. Duplicates and your own id are ignored.",
    )


@strawberry.input(description="What to change about a group. What is left out stays.")
class UpdateGroupInput:
    group_id: strawberry.ID = strawberry.field(description=GROUP_ID)
    name: str | None = strawberry.field(default=UNSET, description="1 to 100 characters after trimming; not null.")
    description: str | None = strawberry.field(
        default=UNSET, description="Up to 2,000 characters; not null, but may be empty."
    )


@strawberry.input(description="The group to delete.")
class DeleteGroupInput:
    group_id: strawberry.ID = strawberry.field(description=GROUP_ID)


@strawberry.input(description="Whom to make a member.")
class AddMemberInput:
    group_id: strawberry.ID = strawberry.field(description=GROUP_ID)
    user_id: strawberry.ID = strawberry.field(description=USER_ID)
    role: MemberRole | None = strawberry.field(default=MemberRole.MEMBER, description="The role to begin with.")


@strawberry.input(description="Whom to remove, or whose invitation to take back.")
class RemoveMemberInput:
    group_id: strawberry.ID = strawberry.field(description=GROUP_ID)
    user_id: strawberry.ID = strawberry.field(description=USER_ID)


@strawberry.input(description="Whose role to change.")
class ChangeMemberRoleInput:
    group_id: strawberry.ID = strawberry.field(description=GROUP_ID)
    user_id: strawberry.ID = strawberry.field(description=USER_ID)
    role: MemberRole = strawberry.field(description="The new role.")


@strawberry.input(description="The group to leave.")
class LeaveGroupInput:
    group_id: strawberry.ID = strawberry.field(description=GROUP_ID)


@strawberry.input(description="Whom to invite.")
class InviteMemberInput:
    group_id: strawberry.ID = strawberry.field(description=GROUP_ID)
    user_id: strawberry.ID = strawberry.field(description=USER_ID)


@strawberry.input(description="The answer to an invitation.")
class AnswerInvitationInput:
    group_id: strawberry.ID = strawberry.field(description="The group that invited you: `Invitation.groupId`.")
    accept: bool = strawberry.field(description="true: become a member. false: decline.")


@strawberry.input(description="How far a group is read.")
class MarkGroupReadInput:
    group_id: strawberry.ID = strawberry.field(description=GROUP_ID)
    up_to: int = strawberry.field(
        description="The `seq` of the last message or event that was shown. A lower one than `readSeq` changes nothing."
    )


@strawberry.input(description="From where on a group is unread.")
class MarkGroupUnreadInput:
    group_id: strawberry.ID = strawberry.field(description=GROUP_ID)
    message_id: strawberry.ID = strawberry.field(description="The first message that is to be unread.")


@strawberry.input(description="Which thread to follow.")
class FollowThreadInput:
    message_id: strawberry.ID = strawberry.field(description=THREAD_ID)


@strawberry.input(description="Which thread to follow no more.")
class UnfollowThreadInput:
    message_id: strawberry.ID = strawberry.field(description=THREAD_ID)


@strawberry.input(description="How far a thread is read.")
class MarkThreadReadInput:
    message_id: strawberry.ID = strawberry.field(description=THREAD_ID)
    up_to: int = strawberry.field(
        description="The `seq` of the last reply or event that was shown. A lower one than `readSeq` changes nothing."
    )


@strawberry.input(description="What to send.")
class SendGroupMessageInput:
    group_id: strawberry.ID = strawberry.field(description=GROUP_ID)
    content: str = strawberry.field(
        description="1 to 4,000 characters that are not only white space. It comes back byte for byte."
    )
    client_message_id: str | None = strawberry.field(
        default=UNSET,
        description="Your own id for this message, up to 64 characters, visible to all members. Make one for each "
        "message and send it again with "
        "every retry: the message is then in the log exactly once, whatever happened to the answers.",
    )
    reply_to_id: strawberry.ID | None = strawberry.field(
        default=UNSET,
        description="The message of this group to reply to. A reply to a reply is one in the same thread.",
    )


@strawberry.input(description="What to say instead.")
class EditMessageInput:
    message_id: strawberry.ID = strawberry.field(description="A message of your own.")
    content: str = strawberry.field(description="1 to 4,000 characters that are not only white space.")


@strawberry.input(description="What to react to, and how.")
class AddReactionInput:
    message_id: strawberry.ID = strawberry.field(description="The message.")
    emoji: str = strawberry.field(
        description="An emoji of up to 32 code points, kept byte for byte, or a short name of 1 to 32 of the "
        "characters a-z, 0-9, `_`, `+` and `-`, with or without colons around it; it is shown without."
    )


@strawberry.input(description="Which of your reactions to take back.")
class RemoveReactionInput:
    message_id: strawberry.ID = strawberry.field(description="The message.")
    emoji: str = strawberry.field(description="What you reacted with, as in `Reaction.emoji`.")


@strawberry.input(description="What to delete.")
class DeleteMessageInput:
    message_id: strawberry.ID = strawberry.field(description="The message.")


@strawberry.input(one_of=True, description="The place in a group's messages to jump to: one of these.")
class MessagesAround:
    message_id: strawberry.ID | None = strawberry.field(default=UNSET, description="A message of this group.")
    date: datetime | None = strawberry.field(
        default=UNSET,
        description="The first message at or after this moment. The newest page if there is none.",
    )
    first_unread: bool | None = strawberry.field(
        default=UNSET,
        description="true: the first message that you have not read. The newest page if you have read everything.",
    )


@strawberry.input(one_of=True, description="Which events of a group's messages to show: one of these.")
class MessageEventFilter:
    kinds: list[MessageEventKind] | None = strawberry.field(
        default=UNSET, description="Events of these kinds; at least one."
    )
    sender: strawberry.ID | None = strawberry.field(
        default=UNSET, description="What happens to the messages that this user sent, whoever does it."
    )
    thread: strawberry.ID | None = strawberry.field(
        default=UNSET, description="What happens to this message and to the replies to it: the root of a thread."
    )
    mentions: strawberry.ID | None = strawberry.field(
        default=UNSET,
        description="What happens to the messages of others that mention this user, by name or with `@all`: everything "
        "from the event on that first makes a message do so, also what takes the mention away again.",
    )
