"""What may be done: each field hands its input to one use case. Knows no SQL."""

from typing import Annotated, TypeVar

import strawberry

from db import records
from resolvers import follows, groups, memberships, messages, reactions, revisions, unread, users

from . import ids, inputs, payloads
from .context import Info
from .enums import MemberRole
from .inputs import given
from .nodes import User
from .types import Group, Membership, Message

T = TypeVar("T")
Input = Annotated[T, strawberry.argument(description="What to do it with.")]


@strawberry.type(
    description="What may be done. A field gives its whole payload or an error; mutations of one request run one after "
    "the other, "
    "and a refusal does not undo the others."
)
class Mutation:
    @strawberry.mutation(description="Register a user and log in. Needs no token.")
    async def register(self, info: Info, input: Input[inputs.RegisterInput]) -> payloads.RegisterPayload | None:
        registration = users.Registration(
            input.username,
            input.password,
            input.first_name,
            input.last_name,
            **given(nickname=input.nickname, avatar_url=input.avatar_url),
        )
        done = await users.register(info.context.services, registration)
        return payloads.RegisterPayload(viewer=User(record=done.user), token=done.token, expires_at=done.expires_at)

    @strawberry.mutation(
        description="Log in. Needs no token. UNAUTHENTICATED for a wrong password and for an unknown user alike."
    )
    async def login(self, info: Info, input: Input[inputs.LoginInput]) -> payloads.LoginPayload | None:
        done = await users.login(info.context.services, username=input.username, password=input.password)
        return payloads.LoginPayload(viewer=User(record=done.user), token=done.token, expires_at=done.expires_at)

    @strawberry.mutation(
        description="End the token of this request; the sockets that were opened with it close with 4403."
    )
    async def logout(self, info: Info) -> payloads.LogoutPayload | None:
        await users.logout(info.context.services, await info.context.viewer())
        return payloads.LogoutPayload(logged_out=True)

    @strawberry.mutation(description="Change your password. Every other token of yours ends.")
    async def change_password(
        self, info: Info, input: Input[inputs.ChangePasswordInput]
    ) -> payloads.ChangePasswordPayload | None:
        viewer = await info.context.viewer()
        await users.change_password(
            info.context.services, viewer, current=input.current_password, new=input.new_password
        )
        return payloads.ChangePasswordPayload(viewer=User(record=viewer.user))

    @strawberry.mutation(description="Change what others see of you.")
    async def update_viewer(
        self, info: Info, input: Input[inputs.UpdateViewerInput]
    ) -> payloads.UpdateViewerPayload | None:
        fields = given(
            first_name=input.first_name,
            last_name=input.last_name,
            nickname=input.nickname,
            avatar_url=input.avatar_url,
            shares_read_positions=input.shares_read_positions,
        )
        user = await users.update(info.context.services, await info.context.viewer(), fields)
        return payloads.UpdateViewerPayload(viewer=User(record=user))

    @strawberry.mutation(description="Create a group. You are its admin; the given users are members at once.")
    async def create_group(
        self, info: Info, input: Input[inputs.CreateGroupInput]
    ) -> payloads.CreateGroupPayload | None:
        group = await groups.create(
            info.context.services,
            await info.context.viewer(),
            name=input.name,
            description=input.description or "",
            member_ids=[ids.user(user_id) for user_id in input.member_ids or ()],
        )
        return payloads.CreateGroupPayload(group=Group(record=group))

    @strawberry.mutation(description="Change the name or the description of a group. For admins.")
    async def update_group(
        self, info: Info, input: Input[inputs.UpdateGroupInput]
    ) -> payloads.UpdateGroupPayload | None:
        viewer, fields = await info.context.viewer(), given(name=input.name, description=input.description)
        group = await groups.update(info.context.services, viewer, ids.group(input.group_id), given=fields)
        return payloads.UpdateGroupPayload(group=Group(record=group))

    @strawberry.mutation(description="Delete a group for everybody. For admins. Its streams end with GROUP_DELETED.")
    async def delete_group(
        self, info: Info, input: Input[inputs.DeleteGroupInput]
    ) -> payloads.DeleteGroupPayload | None:
        await groups.delete(info.context.services, await info.context.viewer(), ids.group(input.group_id))
        return payloads.DeleteGroupPayload(group_id=input.group_id)

    @strawberry.mutation(
        description="Make a user a member at once, also one that is invited or has declined. For admins."
    )
    async def add_member(self, info: Info, input: Input[inputs.AddMemberInput]) -> payloads.AddMemberPayload | None:
        viewer, role = await info.context.viewer(), records.MemberRole((input.role or MemberRole.MEMBER).value)
        membership = await memberships.add(
            info.context.services, viewer, ids.group(input.group_id), ids.user(input.user_id), role
        )
        return payloads.AddMemberPayload(membership=Membership(record=membership))

    @strawberry.mutation(
        description="Remove a member, or take an invitation back. For admins; moderators remove those with the role "
        "MEMBER."
    )
    async def remove_member(
        self, info: Info, input: Input[inputs.RemoveMemberInput]
    ) -> payloads.RemoveMemberPayload | None:
        viewer = await info.context.viewer()
        group = await memberships.remove(
            info.context.services, viewer, ids.group(input.group_id), ids.user(input.user_id)
        )
        return payloads.RemoveMemberPayload(group_id=input.group_id, group=Group(record=group) if group else None)

    @strawberry.mutation(
        description="Give a member another role. For admins. A group with members keeps at least one admin."
    )
    async def change_member_role(
        self, info: Info, input: Input[inputs.ChangeMemberRoleInput]
    ) -> payloads.ChangeMemberRolePayload | None:
        viewer, role = await info.context.viewer(), records.MemberRole(input.role.value)
        membership = await memberships.change_role(
            info.context.services, viewer, ids.group(input.group_id), ids.user(input.user_id), role
        )
        return payloads.ChangeMemberRolePayload(membership=Membership(record=membership))

    @strawberry.mutation(description="Leave a group. The last admin cannot leave while other members remain.")
    async def leave_group(self, info: Info, input: Input[inputs.LeaveGroupInput]) -> payloads.LeaveGroupPayload | None:
        await memberships.leave(info.context.services, await info.context.viewer(), ids.group(input.group_id))
        return payloads.LeaveGroupPayload(group_id=input.group_id)

    @strawberry.mutation(
        description="Invite a user, who then accepts or declines. For admins and moderators. Inviting twice changes "
        "nothing."
    )
    async def invite_member(
        self, info: Info, input: Input[inputs.InviteMemberInput]
    ) -> payloads.InviteMemberPayload | None:
        viewer = await info.context.viewer()
        membership = await memberships.invite(
            info.context.services, viewer, ids.group(input.group_id), ids.user(input.user_id)
        )
        return payloads.InviteMemberPayload(membership=Membership(record=membership))

    @strawberry.mutation(description="Accept or decline your open invitation to a group.")
    async def answer_invitation(
        self, info: Info, input: Input[inputs.AnswerInvitationInput]
    ) -> payloads.AnswerInvitationPayload | None:
        viewer = await info.context.viewer()
        membership = await memberships.answer(
            info.context.services, viewer, ids.group(input.group_id), accept=input.accept
        )
        return payloads.AnswerInvitationPayload(membership=Membership(record=membership))

    @strawberry.mutation(description="Send a message. When this answers, the message is in the group's log for ever.")
    async def send_group_message(
        self, info: Info, input: Input[inputs.SendGroupMessageInput]
    ) -> payloads.SendGroupMessagePayload | None:
        sent = await messages.send(
            info.context.services,
            await info.context.viewer(),
            ids.group(input.group_id),
            content=input.content,
            client_message_id=given(id=input.client_message_id).get("id"),
            reply_to_id=ids.message(input.reply_to_id) if isinstance(input.reply_to_id, str) else None,
        )
        return payloads.SendGroupMessagePayload(message=Message(record=sent.message), replayed=sent.replayed)

    @strawberry.mutation(
        description="Edit a message of your own. Its place stays; what it says already makes no event, so a repeat is "
        "harmless."
    )
    async def edit_message(
        self, info: Info, input: Input[inputs.EditMessageInput]
    ) -> payloads.EditMessagePayload | None:
        viewer, message_id = await info.context.viewer(), ids.message(input.message_id)
        message = await revisions.edit(info.context.services, viewer, message_id, content=input.content)
        return payloads.EditMessagePayload(message=Message(record=message))

    @strawberry.mutation(
        description="Delete a message: your own, or as a moderator or admin anybody's. Its content is gone for ever, "
        "its place stays. Deleting it again changes nothing."
    )
    async def delete_message(
        self, info: Info, input: Input[inputs.DeleteMessageInput]
    ) -> payloads.DeleteMessagePayload | None:
        viewer, message_id = await info.context.viewer(), ids.message(input.message_id)
        message = await revisions.delete(info.context.services, viewer, message_id)
        return payloads.DeleteMessagePayload(message=Message(record=message))

    @strawberry.mutation(
        description="React to a message with an emoji or a short name. Adding what is there already changes nothing."
    )
    async def add_reaction(
        self, info: Info, input: Input[inputs.AddReactionInput]
    ) -> payloads.AddReactionPayload | None:
        viewer, message_id = await info.context.viewer(), ids.message(input.message_id)
        message = await reactions.add(info.context.services, viewer, message_id, input.emoji)
        return payloads.AddReactionPayload(message=Message(record=message))

    @strawberry.mutation(description="Take a reaction of your own back. Removing what is not there changes nothing.")
    async def remove_reaction(
        self, info: Info, input: Input[inputs.RemoveReactionInput]
    ) -> payloads.RemoveReactionPayload | None:
        viewer, message_id = await info.context.viewer(), ids.message(input.message_id)
        message = await reactions.remove(info.context.services, viewer, message_id, input.emoji)
        return payloads.RemoveReactionPayload(message=Message(record=message))

    @strawberry.mutation(
        description="Say that you have read a group up to a place, on all your devices. It never goes back: send it "
        "again, or late, without harm."
    )
    async def mark_group_read(
        self, info: Info, input: Input[inputs.MarkGroupReadInput]
    ) -> payloads.MarkGroupReadPayload | None:
        viewer = await info.context.viewer()
        group = await unread.mark_read(info.context.services, viewer, ids.group(input.group_id), input.up_to)
        return payloads.MarkGroupReadPayload(group=Group(record=group))

    @strawberry.mutation(
        description="Say that a message and everything after it is unread, on all your devices. What was sent before "
        "you joined stays read."
    )
    async def mark_group_unread(
        self, info: Info, input: Input[inputs.MarkGroupUnreadInput]
    ) -> payloads.MarkGroupUnreadPayload | None:
        viewer, message_id = await info.context.viewer(), ids.message(input.message_id)
        group = await unread.mark_unread(info.context.services, viewer, ids.group(input.group_id), message_id)
        return payloads.MarkGroupUnreadPayload(group=Group(record=group))

    @strawberry.mutation(
        description="Follow a thread, on all your devices. What was said in it so far counts as read. Following twice "
        "changes nothing."
    )
    async def follow_thread(
        self, info: Info, input: Input[inputs.FollowThreadInput]
    ) -> payloads.FollowThreadPayload | None:
        viewer, message_id = await info.context.viewer(), ids.message(input.message_id)
        root = await follows.follow(info.context.services, viewer, message_id)
        return payloads.FollowThreadPayload(root=Message(record=root))

    @strawberry.mutation(
        description="Follow a thread no more, on all your devices, until you reply in it again. Doing it twice changes "
        "nothing."
    )
    async def unfollow_thread(
        self, info: Info, input: Input[inputs.UnfollowThreadInput]
    ) -> payloads.UnfollowThreadPayload | None:
        viewer, message_id = await info.context.viewer(), ids.message(input.message_id)
        root = await follows.unfollow(info.context.services, viewer, message_id)
        return payloads.UnfollowThreadPayload(root=Message(record=root))

    @strawberry.mutation(
        description="Say that you have read a thread that you follow up to a place, on all your devices. It never goes "
        "back: send it again, or late, without harm. What is unread in the group stays so."
    )
    async def mark_thread_read(
        self, info: Info, input: Input[inputs.MarkThreadReadInput]
    ) -> payloads.MarkThreadReadPayload | None:
        viewer, message_id = await info.context.viewer(), ids.message(input.message_id)
        root = await follows.mark_read(info.context.services, viewer, message_id, input.up_to)
        return payloads.MarkThreadReadPayload(root=Message(record=root))
