"""Nothing of a group in any answer or frame to who may not see it: with every field, argument, mutation and stream of
the schema, for nobody, for outsiders of every kind and for members of every role.
"""

import json
import re
from collections.abc import Iterator

import pytest
from graphql import OperationType

from tests.everything import all_arguments, all_fields, everything, texts
from tests.harness import Server, World
from tests.harness.client import JsonValue
from tests.standings import ADMIN, INVITED, Standing
from tests.telling import (
    GONE,
    INSIDE,
    MESSAGES,
    MUTATIONS,
    NEWS,
    NOBODY,
    OUTSIDE,
    OWN_MATTERS,
    SAID,
    STREAMS,
    Telling,
    tell,
)

# There by their type, and never to be shown to anybody.
EMPTY = {
    *(f"GroupsSnapshotEvent.{name}" for name in ("actor", "group", "groupId")),
    *(
        f"{event}.group"
        for event in ("GroupDeletedEvent", "InvitedToGroupEvent", "InvitationEndedEvent", "RemovedFromGroupEvent")
    ),
}
# One's own name and membership without its group, and one's own open invitation.
OWN = {f"data.{of}" for of in ("node.__typename", "node.id", "node.createdAt", "viewer.id", "viewer.username")}
OWN_INVITATION = {f"{of}.{name}" for of in ("data.myInvitations", "invitations")
                  for name in ("groupName", "groupDescription", "createdAt")}  # fmt: skip


@pytest.fixture(scope="session")
async def telling(server: Server) -> Telling:
    """All that was heard. Nobody of it is connected any more: other tests count the sockets of this server."""
    async with World(server) as world:
        return await tell(world)


def named(standing: Standing) -> str:
    return standing.name


def all_said(telling: Telling, standing: Standing) -> str:
    """Everything that was sent to them in the end, as one text."""
    return json.dumps([telling.after[standing], telling.heard[standing]])


# That it is everything


def test_every_argument_is_given_in_some_document() -> None:
    given = {name for kind in OperationType for each in everything(kind, varied=True) for name in each.given}
    assert all_arguments() - given == set()


async def test_every_field_of_every_type_shows_something_to_somebody(telling: Telling) -> None:
    assert all_fields() - telling.fields == EMPTY


@pytest.mark.parametrize("standing", INSIDE, ids=named)
async def test_a_member_is_refused_nothing_that_can_be_asked(telling: Telling, standing: Standing) -> None:
    errors = [error for answer in telling.after[standing].values() for error in json.loads(answer).get("errors", ())]
    refused = {(error["path"][-1], error["extensions"]["code"]) for error in errors}
    assert refused <= {("users", "CURSOR_INVALID")}, "what is a cursor for one reaction is none for others"


# What each may see


@pytest.mark.parametrize("standing", [*OUTSIDE, GONE, *INSIDE], ids=named)
async def test_what_is_said_in_a_group_is_shown_to_those_who_may_see_it_and_to_nobody_else(
    telling: Telling, standing: Standing
) -> None:
    seen = all_said(telling, standing) if standing is not GONE else json.dumps(telling.after[standing])
    shown = {what for what in SAID if re.search(rf"{telling.secret(what)}\b(?!-)", seen)}
    assert shown == {what for what, may_see in SAID.items() if standing in may_see}
    if standing not in INSIDE:
        assert telling.secret("") not in seen


@pytest.mark.parametrize("standing", [*OUTSIDE, GONE], ids=named)
async def test_no_text_that_only_members_are_shown_is_in_an_answer_to_an_outsider(
    telling: Telling, standing: Standing
) -> None:
    """Not even a cursor, a date or an id, but for what is the outsider's own."""
    public = {text for _, text in texts_of(telling, OUTSIDE[1])} | {telling.scene.group_id}
    hidden = {text for path, text in texts_of(telling, ADMIN) if not path.startswith("errors")} - public
    found = {(path, text) for path, text in texts_of(telling, standing) if text in hidden}
    own = OWN | (OWN_INVITATION if standing is INVITED else set[str]())
    assert {(path, text) for path, text in found if path not in own} == set()


def texts_of(telling: Telling, standing: Standing) -> Iterator[tuple[str, str]]:
    for answer in telling.after[standing].values():
        yield from texts(json.loads(answer))


@pytest.mark.parametrize("standing", OUTSIDE, ids=named)
async def test_no_byte_that_an_outsider_gets_depends_on_what_happens_in_the_group(
    telling: Telling, standing: Standing
) -> None:
    before, after = telling.before[standing], telling.after[standing]
    differing = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
    assert not differing, differing
    assert len(before) == len(after)


@pytest.mark.parametrize("standing", OUTSIDE, ids=named)
async def test_a_stream_gives_an_outsider_a_refusal_or_their_own_list_and_then_nothing(
    telling: Telling, standing: Standing
) -> None:
    lists = [event["data"]["myGroupEvents"]["__typename"] for event in telling.heard[standing]]
    assert lists == [] if standing is NOBODY else ["GroupsSnapshotEvent"] * sum(each.root == NEWS for each in STREAMS)
    code = "UNAUTHENTICATED" if standing is NOBODY else "FORBIDDEN"
    answers = telling.after[standing]
    assert all(f'"code": "{code}"' in answers[each.text] for each in STREAMS if each.root == MESSAGES)


@pytest.mark.parametrize("standing", OUTSIDE, ids=named)
async def test_every_mutation_in_the_group_is_refused_to_an_outsider(telling: Telling, standing: Standing) -> None:
    tried = [json.loads(telling.after[standing][name]) for name in MUTATIONS if name not in OWN_MATTERS]
    code = "UNAUTHENTICATED" if standing is NOBODY else "FORBIDDEN"
    assert {(each["errors"][0]["extensions"]["code"], *each["data"].values()) for each in tried} == {(code, None)}


# Removed


async def test_whoever_is_removed_gets_the_end_of_every_stream_and_nothing_that_came_after(telling: Telling) -> None:
    heard = telling.heard[GONE]
    assert telling.secret("content") in json.dumps(heard), "they were a member until then"
    assert telling.secret("after-the-removal") not in json.dumps(heard)
    assert {each["extensions"]["code"] for each in telling.ends} == {"MEMBERSHIP_ENDED"}
    assert len(telling.ends) == sum(each.root == MESSAGES for each in STREAMS)
    assert max(numbers(heard)) <= telling.removed_at


def numbers(value: JsonValue) -> Iterator[int]:
    """Every place in the log that is in it."""
    return (int(found) for found in re.findall(r'"(?:seq|version|lastSeq)": (\d+)', json.dumps(value)))


async def test_whoever_declines_is_shown_their_own_membership_and_nothing_of_the_group(telling: Telling) -> None:
    assert telling.declined["membership"]["group"] is None
    assert telling.secret("") not in json.dumps(telling.declined)
