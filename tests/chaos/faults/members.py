"""What happens to memberships and tokens while messages flow: whoever is out gets nothing from that very event on."""

import asyncio
import json
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import psutil
from websockets.exceptions import ConnectionClosed

from commands.common import services
from resolvers import users
from settings import Settings
from tests.chaos.clients import PASSWORD, Person, Position, Sender
from tests.chaos.control import ROWS
from tests.chaos.faults import BEFORE, Fault
from tests.chaos.faults.nodes import restart_armed
from tests.chaos.readers import FOLLOW, LOGGED_OUT, Follower
from tests.chaos.scene import Scene, Talk, Void
from tests.chaos.wire import Caller, Place, acknowledged
from tests.harness import eventually, operation

LAST_SECONDS = 4.0  # that a token lives which is about to expire
ENDED_SECONDS = 15.0  # generous: what it took is a figure, not a verdict
Ending = Callable[[Scene, Talk, Person], Coroutine[Any, Any, object]]


async def removed(scene: Scene, talk: Talk, person: Person) -> None:
    await talk.changer().change("RemoveMember", "remove", person)


async def left(scene: Scene, talk: Talk, person: Person) -> None:
    changer = talk.changer()
    changer.person = person
    op = scene.history.number()
    said = {"client": changer.name, "group": talk.group}
    scene.history.add("invoke", op=op, kind="leave", key=person.id, user=person.id, **said)
    answer = await changer.desk.ask_until_answered(
        operation("LeaveGroup"), {"input": {"groupId": talk.group}}, person.token
    )
    scene.history.add("ok" if answer.kind == "ok" else "fail", op=op, code=answer.code, **said)


async def removed_without_broker(scene: Scene, talk: Talk, person: Person) -> None:
    """No hint travels: the streams end by the head check."""
    for node in scene.rig.nodes:
        await node.tell(drop=1.0)
    try:
        await removed(scene, talk, person)
        await _wait_for_ends(talk, person)
    finally:
        for node in scene.rig.nodes:
            await node.tell(drop=0)


def ends(how: Ending) -> Fault:
    """A member who follows at every node, sends and reads loses the membership; the others go on."""

    async def fault(scene: Scene, talk: Talk) -> None:
        person = (await _joined(scene, talk, "victim"))[0]
        streams = [talk.follow(person, number, nested=number % 2 == 0) for number in range(4)]
        sender = talk.send(person)
        await eventually(lambda: all(each.received >= BEFORE for each in streams) and sender.sent, 20)
        scene.strike(f"a member is {how.__name__}")
        began = time.monotonic()
        await how(scene, talk, person)
        await _wait_for_ends(talk, person)
        scene.note("removal to end", f"{time.monotonic() - began:.2f} s")
        scene.evidence.append(f"{len(streams)} streams of that member ended")
        await talk.ended(sender)
        await _comes_back_in_vain(talk, person, streams[0].position)
        scene.heal()

    return fault


async def _wait_for_ends(talk: Talk, person: Person) -> None:
    streams = [each for each in talk.followers if each.person.id == person.id]
    await eventually(lambda: all(each.ended for each in streams), ENDED_SECONDS)


async def _comes_back_in_vain(talk: Talk, person: Person, position: Position) -> None:
    """With the last cursor, and to read: neither shows anything."""
    again = talk.client(Follower, "again", person, position=position)
    talk.begin(again)
    await eventually(lambda: again.ended, ENDED_SECONDS)
    sender = talk.send(person)
    await talk.ended(sender)
    if sender.sent:
        raise AssertionError("somebody who is no member could send")


async def _joined(scene: Scene, talk: Talk, name: str) -> list[Person]:
    person = (await scene.people(name))[0]
    await talk.changer().change("AddMember", "add", person)
    return [person]


async def removed_while_paused(scene: Scene, talk: Talk) -> None:
    """The victim's node stands still while messages, the removal and more messages are committed elsewhere; then it
    reads all of them, in several batches, and shows the first when the last are there already.
    """
    node = scene.rig.nodes[-1]
    person = (await _joined(scene, talk, "victim"))[0]
    here, elsewhere = [node.place], scene.places[:1]
    stream = talk.client(
        Follower, "victim", person, places=here, nested=True, patience=20.0, position=Position(talk.start)
    )
    talk.begin(stream)
    await talk.quiet()
    scene.strike("SIGSTOP")
    node.send(signal.SIGSTOP)
    await scene.happened("a node stood still", lambda: node.status == psutil.STATUS_STOPPED)
    await _sent(scene, talk, elsewhere, 4 * ROWS)
    await removed(scene, talk, person)
    await _sent(scene, talk, elsewhere, ROWS)
    node.send(signal.SIGCONT)
    scene.heal()
    await eventually(lambda: stream.ended, ENDED_SECONDS)
    talk.send(talk.members[0])


async def _sent(scene: Scene, talk: Talk, places: Sequence[Place], number: int) -> None:
    """So many messages at once, by one member each at one of these places."""
    senders = [
        talk.client(Sender, "hurried", talk.members[0], places=places, secret=talk.secret) for _ in range(number)
    ]
    await asyncio.gather(*(each.send(each.name) for each in senders))
    for each in senders:
        each.desk.close()


async def sends_while_the_removal_holds_the_lock(scene: Scene, talk: Talk) -> None:
    """The removal stands still just before its commit, with the group locked; the victim sends at the other node."""
    node = scene.rig.nodes[-1]
    person = (await _joined(scene, talk, "victim"))[0]
    await talk.quiet()
    await restart_armed(node, "before_commit=pause@1")
    scene.strike("SIGSTOP before the commit of a removal")
    removal = talk.client(type(talk.changer()), "owner", talk.owner, places=[node.place])
    removing = asyncio.create_task(removal.change("RemoveMember", "remove", person))
    await scene.happened("the removal stands still", lambda: node.status == psutil.STATUS_STOPPED)
    sender = talk.client(Sender, "victim", person, places=[scene.rig.nodes[0].place], secret=talk.secret)
    sending = asyncio.create_task(sender.send(f"{sender.name}-late"))
    await asyncio.sleep(0.3)  # it waits for the lock; had it not begun to, the run would only prove less
    node.send(signal.SIGCONT)
    await removing
    was_sent = await sending
    sender.desk.close()
    scene.heal()
    scene.evidence.append(f"the victim's send was {'taken' if was_sent else 'refused'}")
    talk.send(talk.members[0])


async def removed_in_a_replay(scene: Scene, talk: Talk) -> None:
    """A node stands still in the middle of the victim's replay; meanwhile the victim is removed."""
    node = scene.rig.nodes[-1]
    person = (await _joined(scene, talk, "victim"))[0]
    await eventually(lambda: talk.newest > 60, 30)
    await talk.quiet()  # nobody else replays, and no lock is held when the node stands still
    await restart_armed(node, "mid_replay=pause@30")
    scene.strike("SIGSTOP in a replay")
    stream = talk.client(Follower, "victim", person, places=[node.place], position=Position(talk.start))
    talk.begin(stream)
    await scene.happened("a node stood still", lambda: node.status == psutil.STATUS_STOPPED, 20)
    await removed(scene, talk, person)
    node.send(signal.SIGCONT)
    scene.heal()
    await eventually(lambda: stream.ended, ENDED_SECONDS)
    talk.send(talk.members[0])


async def comes_and_goes(scene: Scene, talk: Talk) -> None:
    """Somebody is removed and added again while messages flow; each time the stream goes on from its cursor."""
    person = (await _joined(scene, talk, "guest"))[0]
    position = Position(talk.start)
    scene.strike("a member comes and goes")
    for _ in range(3):
        stream = talk.client(Follower, "guest", person, position=position)
        talk.begin(stream)
        await eventually(lambda stream=stream: stream.received >= 3, 20)
        await removed(scene, talk, person)
        await eventually(lambda stream=stream: stream.ended, ENDED_SECONDS)
        position = stream.position
        await talk.changer().change("AddMember", "add", person)
    talk.begin(talk.client(Follower, "guest", person, position=position))
    scene.evidence.append("three streams ended")
    scene.heal()


async def changes_roles(scene: Scene, talk: Talk) -> None:
    """Promotions and demotions take numbers between the messages, and end nothing."""
    changer, following = talk.changer(), talk.following
    scene.strike("roles change")
    for role in ("MODERATOR", "ADMIN", "MEMBER") * 3:
        await changer.change("ChangeMemberRole", "role", talk.members[1], role=role)
    if any(each.ended for each in following):
        raise AssertionError("a change of role ended a stream")
    scene.evidence.append("nine changes of role")
    scene.heal()


async def group_deleted(scene: Scene, talk: Talk) -> None:
    """Every stream of everybody ends at the deletion; nothing is accepted after it."""
    other = await scene.another_talk(talk)
    await eventually(lambda: all(each.received >= BEFORE for each in other.followers), 20)
    scene.strike("a group is deleted")
    await other.changer().change("DeleteGroup", "delete")
    await eventually(lambda: all(each.ended for each in other.followers), ENDED_SECONDS)
    scene.evidence.append("all its streams ended")
    for sender in other.senders:
        await other.ended(sender)
    scene.heal()


# Tokens


async def logs_out(scene: Scene, person: Person, token: str) -> None:
    await _at_first_node(scene, operation("Logout"), {}, token)


async def changes_password(scene: Scene, person: Person, token: str) -> None:
    """With another token, which alone lives on."""
    own = await scene.log_in(person)
    given = {"currentPassword": PASSWORD, "newPassword": PASSWORD + "!"}
    await _at_first_node(scene, operation("ChangePassword"), {"input": given}, own)


async def is_disabled(scene: Scene, person: Person, token: str) -> None:
    """By an operator, whose command publishes no hint."""
    async with services(scene.rig.settings) as made:
        await users.disable(made, person.username)


async def expires(scene: Scene, talk: Talk) -> None:
    """A token runs out by the clock while its owner follows and sends: the operation ends with SESSION_EXPIRED, its
    socket closes with 4403, and whatever is asked afterwards is refused.
    """
    person, end = await _about_to_expire(scene)
    await talk.changer().change("AddMember", "add", person)
    streams = [talk.follow(person, number) for number in range(2 * len(scene.places))]
    senders = [talk.send(person, number) for number in range(len(scene.places))]
    watched = [asyncio.create_task(_watched(place, talk, person)) for place in scene.places]
    try:
        await eventually(lambda: all(each.received >= 3 for each in streams), end - time.monotonic())
        scene.strike("a token expires")
        await asyncio.sleep(end - time.monotonic())
        for each in streams:
            scene.history.add("revoked", client=each.name)
        ends = await asyncio.gather(*watched)
    finally:
        for each in watched:
            each.cancel()
        await asyncio.gather(*watched, return_exceptions=True)
    if any((said, code) != ("SESSION_EXPIRED", LOGGED_OUT) for said, code, _ in ends):
        raise AssertionError(f"after its token a socket had ended with {ends}")
    scene.note("expired to closed", ", ".join(f"{max(0, moment - end):.2f} s" for *_, moment in ends))
    await eventually(lambda: all(each.ended for each in streams), ENDED_SECONDS)
    for sender in senders:
        await talk.ended(sender)
    scene.evidence.append(f"{len(ends) + len(streams)} sockets were closed")
    await _comes_back_in_vain(talk, person, streams[0].position)
    scene.heal()


async def _about_to_expire(scene: Scene) -> tuple[Person, float]:
    """Somebody whose token was made nearly thirty days ago, as the nodes' clocks said, and the moment of its end."""
    lifetime = Settings.model_fields["token_days"].default * 24 * 3_600
    try:
        for node in scene.rig.nodes:
            await node.tell(clock_seconds=LAST_SECONDS - lifetime)
        (person,) = await scene.people("victim")
        return person, time.monotonic() + LAST_SECONDS
    finally:
        for node in scene.rig.nodes:
            await node.tell(clock_seconds=0)


async def _watched(place: Place, talk: Talk, person: Person) -> tuple[str, int, float]:
    """Follow on a socket of one's own to its very end: the code of the operation, that of the socket, the moment."""
    said = ""
    async with acknowledged(place, person.token) as connection:
        payload = {"query": FOLLOW, "variables": {"groupId": talk.group}}
        await connection.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        try:
            async with asyncio.timeout(LAST_SECONDS + ENDED_SECONDS):
                while True:
                    frame = json.loads(await connection.recv())
                    if frame["type"] == "error":
                        said = frame["payload"][0]["extensions"]["code"]
        except ConnectionClosed:
            return said, connection.close_code or 1006, time.monotonic()


async def _at_first_node(scene: Scene, document: str, variables: dict[str, Any], token: str) -> None:
    caller = Caller(scene.rig.nodes[0].place)
    answer = await caller.run(document, variables, token)
    caller.close()
    if answer.kind != "ok":
        raise Void(f"the token was not ended: {answer}")


def loses_token(how: Callable[[Scene, Person, str], Coroutine[Any, Any, None]]) -> Fault:
    """The sockets of that token close with 4403 on every node, and nothing comes on them after that."""

    async def fault(scene: Scene, talk: Talk) -> None:
        person = (await _joined(scene, talk, "victim"))[0]
        streams = [talk.follow(person, number) for number in range(2 * len(scene.places))]
        await eventually(lambda: all(each.received >= BEFORE for each in streams), 20)
        scene.strike(f"a token ends: {how.__name__}")
        began = time.monotonic()
        await how(scene, person, person.token)
        for each in streams:
            scene.history.add("revoked", client=each.name)
        await eventually(lambda: all(each.ended for each in streams), ENDED_SECONDS)
        scene.note("revoked to closed", f"{time.monotonic() - began:.2f} s")
        scene.evidence.append(f"{len(streams)} sockets were closed")
        scene.heal()

    return fault
