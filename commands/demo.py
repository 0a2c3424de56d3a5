"""The demo world of `serve --demo`, told through the use cases from demo.txt. Knows nothing of SQL or GraphQL."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from commands.common import services
from db.records import MemberRole, Message, User
from resolvers import groups, memberships, messages, reactions, revisions, unread, users
from resolvers.access import Viewer
from resolvers.services import Services
from resolvers.users import Registration
from settings import Settings

FILE = Path(__file__).with_name("demo.txt")
PASSWORD = "parley-demo"  # noqa: S105  # everybody's, and printed

PERSON = re.compile(r"person (?P<username>\w+) (?P<first>\w+) (?P<last>\w+)(?: \((?P<nickname>\w+)\))?: (?P<about>.+)")
GROUP = re.compile(r"group (?P<name>[^:]+): (?P<description>.+)")
WHEN = re.compile(r"(?P<days>\d+) days? ago, (?P<hours>\d\d):(?P<minutes>\d\d)")
DEED = re.compile(r"\* (?P<who>\w+) (?P<verb>\w+)(?: (?P<whom>\w+)(?: (?P<role>[A-Z]+))?)?")
EDIT = re.compile(r"\* (?P<who>\w+) edits: (?P<content>.+)")
REACTION = re.compile(r"\* (?P<who>\w+) reacts (?P<emoji>\S+)")
MESSAGE = re.compile(r"(?P<who>\w+)(?: to (?P<whom>\w+))?: (?P<content>.+)")

PAUSE, KEYSTROKE = timedelta(seconds=15), timedelta(seconds=0.2)


class OtherData(Exception):
    """The database holds users, and they are not the demo world's."""


class Person(NamedTuple):
    username: str
    registration: Registration
    about: str


class Step(NamedTuple):
    """What somebody did in a group; `verb` is `says` for a message, and `whom` then who it is a reply to."""

    at: datetime
    group: str
    who: str
    verb: str
    whom: str = ""
    text: str = ""


@dataclass(slots=True)
class Story:
    """Who there is, and all that happened, in the order of time."""

    people: list[Person] = field(default_factory=list[Person])
    steps: list[Step] = field(default_factory=list[Step])


async def ensure(given: Settings, now: datetime) -> str:
    """Fill an empty database, and leave one that holds the demo world as it is; what to print of it.

    Raises OtherData.
    """
    story = read(FILE.read_text("utf-8"), now)
    clock = Clock(now)
    async with services(given, clock) as made:
        if await _is_told(made, story.people):
            return introduced(story.people, "there already, and left as it is")
        await Teller(made, clock).tell(story)
    return introduced(story.people, "made just now")


async def _is_told(made: Services, people: Sequence[Person]) -> bool:
    """The last person is in no group and registers when all else is there: who finds everybody finds everything."""
    if all([await users.by_username(made, each.username) for each in people]):
        return True
    if await users.exists(made):
        raise OtherData
    return False


def introduced(people: Sequence[Person], state: str) -> str:
    """The log-ins, and what to try with them."""
    names = [each.username for each in people]
    return "\n".join(
        [
            f"Demo world: {state}. Whoever reaches this server can log in as {', '.join(names)}.",
            f"  password of each: {PASSWORD}",
            *(f"  {each.username}: {each.about}" for each in people),
            "  try: sign in as ada in one browser tab and as bob in another. Ada runs MyGroups and GroupMessages, bob",
            "       MyGroups and SendGroupMessage. GroupHistory pages back: set `before` to pageInfo.startCursor.",
            "       In Book club there are reactions, a thread and a deleted message, and ada has not read everything.",
        ]
    )


# --- reading ---------------------------------------------------------------------------------------------------------


def read(text: str, now: datetime) -> Story:
    """The story of a text like demo.txt, which says at its top how it is written. Raises ValueError for any other."""
    reader = _Reader(now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0))
    story = text[text.index("\nperson ") :]
    for line in filter(None, story.splitlines()):
        reader.read(line)
    reader.story.steps.sort(key=lambda step: step.at)
    return reader.story


class _Reader:
    """Reads line by line; `at` is when the line happened, `today` the midnight from which days are counted."""

    def __init__(self, today: datetime) -> None:
        self.story = Story()
        self._today = self._at = today
        self._group = self._description = ""

    def read(self, line: str) -> None:
        if found := PERSON.fullmatch(line):
            username, first, last, nickname, about = found.groups()
            registration = Registration(username, PASSWORD, first, last, nickname)
            self.story.people.append(Person(username, registration, about))
        elif found := GROUP.fullmatch(line):
            self._group, self._description = found.groups()
        elif found := WHEN.fullmatch(line):
            days, hours, minutes = map(int, found.groups())
            self._at = self._today + timedelta(days=-days, hours=hours, minutes=minutes)
        elif found := REACTION.fullmatch(line):
            self._add(found["who"], "reacts", text=found["emoji"])
        elif found := DEED.fullmatch(line):
            self._deed(**found.groupdict(""))
        elif found := EDIT.fullmatch(line):
            self._add(found["who"], "edits", text=found["content"])
        elif found := MESSAGE.fullmatch(line):
            self._add(found["who"], "says", found["whom"] or "", found["content"])
        else:
            raise ValueError(f"{FILE.name} has a line that says nothing: {line}")

    def _deed(self, who: str, verb: str, whom: str, role: str) -> None:
        self._add(who, verb, whom, self._description if verb == "creates" else role)

    def _add(self, who: str, verb: str, whom: str = "", text: str = "") -> None:
        self._at += PAUSE + KEYSTROKE * len(text)
        self.story.steps.append(Step(self._at, self._group, who, verb, whom, text))


# --- telling ---------------------------------------------------------------------------------------------------------


class Clock:
    """Shows the moment that it was set to."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment


class Teller:
    """Lets the people of a story do what it says, each step in its own time."""

    def __init__(self, made: Services, clock: Clock) -> None:
        self._made = made
        self._clock = clock
        self._users: dict[str, User] = {}
        self._groups: dict[str, UUID] = {}
        self._last: dict[tuple[UUID, str], Message] = {}  # of each person in a group, and under "" of anybody

    async def tell(self, story: Story) -> None:
        *early, last = story.people
        end, self._clock.moment = self._clock.moment, story.steps[0].at
        await self._register(early)
        for step in story.steps:
            self._clock.moment = step.at
            await self._do(step)
        self._clock.moment = end
        await self._register([last])

    async def _register(self, people: Sequence[Person]) -> None:
        registered = await asyncio.gather(*(users.create(self._made, each.registration) for each in people))
        self._users |= {user.username: user for user in registered}

    async def _do(self, step: Step) -> None:
        made, viewer = self._made, Viewer(self._users[step.who], token_id=UUID(int=0))
        if step.verb == "creates":
            group = await groups.create(made, viewer, name=step.group, description=step.text, member_ids=[])
            self._groups[step.group] = group.id
            return
        group_id = self._groups[step.group]
        match step.verb:
            case "says":
                await self._say(viewer, group_id, step)
            case "edits" | "deletes" | "reacts" | "reads":
                await self._come_back_to_it(viewer, group_id, step)
            case "accepts" | "declines":
                await memberships.answer(made, viewer, group_id, accept=step.verb == "accepts")
            case _:
                await self._do_to(viewer, group_id, step)

    async def _say(self, viewer: Viewer, group_id: UUID, step: Step) -> None:
        to = self._last[group_id, step.whom].id if step.whom else None
        sent = await messages.send(
            self._made, viewer, group_id, content=step.text, client_message_id=None, reply_to_id=to
        )
        self._last[group_id, step.who] = self._last[group_id, ""] = sent.message

    async def _come_back_to_it(self, viewer: Viewer, group_id: UUID, step: Step) -> None:
        last = self._last[group_id, step.who if step.verb in ("edits", "deletes") else ""]
        match step.verb:
            case "edits":
                await revisions.edit(self._made, viewer, last.id, content=step.text)
            case "deletes":
                await revisions.delete(self._made, viewer, last.id)
            case "reacts":
                await reactions.add(self._made, viewer, last.id, step.text)
            case _:
                await unread.mark_read(self._made, viewer, group_id, last.seq)

    async def _do_to(self, viewer: Viewer, group_id: UUID, step: Step) -> None:
        user_id = self._users[step.whom].id
        match step.verb:
            case "adds":
                await memberships.add(self._made, viewer, group_id, user_id, MemberRole.MEMBER)
            case "invites":
                await memberships.invite(self._made, viewer, group_id, user_id)
            case "makes":
                await memberships.change_role(self._made, viewer, group_id, user_id, MemberRole(step.text))
            case verb:
                raise ValueError(f"{FILE.name} has a verb that nobody knows: {verb}")
