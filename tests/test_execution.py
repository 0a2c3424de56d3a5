"""Fields and documents that are prepared once give what Strawberry and graphql-core give, errors included."""

import asyncio
import gc
import json
import sys
import weakref
from collections.abc import Mapping
from enum import Enum
from typing import Any

import pytest
import strawberry
from graphql import DocumentNode, ExecutionResult, get_operation_ast, parse, validate
from graphql import execute as execute_plainly  # pyright: ignore[reportUnknownVariableType]

from schema.execution import Plan, Planned, Request, execute
from schema.plain import BRANCH, LEAF
from schema.resolving import prepare_resolvers

UNSET = strawberry.UNSET
Info = strawberry.Info[str, None]


@strawberry.enum
class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@strawberry.input
class Part:
    name: str
    colour: Colour | None = UNSET


@strawberry.input
class Order:
    title: str
    note: str | None
    parts: list[Part] = strawberry.field(default_factory=list)
    colours: list[Colour | None] | None = UNSET
    main_part: Part | None = None


@strawberry.interface
class Named:
    name: str


@strawberry.type
class Leafy(Named):
    number: int = 1
    nothing: str | None = None
    missing: strawberry.Private[str | None] = None

    @strawberry.field
    def doubled(self) -> int:
        return self.number * 2

    @strawberry.field
    def colour(self) -> Colour:
        return Colour.BLUE

    @strawberry.field
    def must(self) -> str:
        return self.missing  # pyright: ignore[reportReturnType]  # what must not be null, and is

    @strawberry.field
    def broken(self) -> str | None:
        raise ValueError("broken")

    @strawberry.field
    def broken_too(self) -> str:
        raise ValueError("broken, too")

    @strawberry.field
    def too_large(self) -> int | None:
        return 2**40

    @strawberry.field
    async def later(self) -> str:
        await asyncio.sleep(0)
        return f"{self.name}, later"

    @strawberry.field
    def numbers(self) -> list[int]:
        return [1, 2, 3]

    @strawberry.field
    def itself(self) -> "Leafy":
        return self

    @strawberry.field
    def nowhere(self) -> "Leafy | None":
        return None

    @strawberry.field
    def lost(self) -> "Leafy | None":
        raise ValueError("lost")

    @strawberry.field
    def stranger(self) -> "Leafy":
        return 5  # pyright: ignore[reportReturnType]  # what is of another type

    @strawberry.field
    def path(self, info: Info) -> str:
        return f"{info.context} {info.field_name} {info.path.key}"

    @strawberry.field
    def context(self, info: Info) -> str:
        return str(info.context)

    @strawberry.field
    def near(self, info: Info) -> "Leafy":
        return Leafy(name=f"near {info.context}")

    @strawberry.field
    def far(self, info: Info) -> "Leafy":  # noqa: ARG002
        return far_from(self)  # pyright: ignore[reportReturnType]  # what has to be waited for

    @strawberry.field
    def shade(self, info: Info) -> "Shade":
        return shade_of(self) if self.number == 1 else Shade(name=f"in {info.context}")  # pyright: ignore[reportReturnType]  # as above

    @strawberry.field
    def nearby(self, info: Info) -> "Leafy | None":  # noqa: ARG002
        return None


@strawberry.type
class Shade:
    name: str


async def shade_of(leafy: Leafy) -> Shade:
    await asyncio.sleep(0)
    return Shade(name=f"of {leafy.name}")


async def far_from(leafy: Leafy) -> Leafy:
    await asyncio.sleep(0)
    return Leafy(name=f"far from {leafy.name}")


@strawberry.type
class Query:
    @strawberry.field
    async def leafy(self, info: Info, name: str = "a") -> Leafy:
        await asyncio.sleep(0)
        return Leafy(name=name, missing=None if info.context else "")

    @strawberry.field
    def named(self) -> Named:
        return Leafy(name="an interface")

    @strawberry.field
    def all(self, info: Info) -> list[Leafy | None]:  # noqa: ARG002
        return [Leafy(name="one"), None, Leafy(name="two")]

    @strawberry.field
    def order(self, info: Info, given: Order, also: list[int] | None = None) -> str:  # noqa: ARG002
        given.parts.append(Part(name="added"))
        return f"{given} {also} {given.note is UNSET} {given.colours is UNSET}"

    @strawberry.field
    def perhaps(self, info: Info, it: strawberry.Maybe[str | None]) -> str:  # noqa: ARG002
        return repr(it)

    @strawberry.field
    def without_info(self, number: int = 7) -> int:
        return number


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def first(self, info: Info) -> Leafy | None:  # noqa: ARG002
        return Leafy(name="first")

    @strawberry.mutation
    async def third(self, info: Info, number: int) -> Leafy:  # noqa: ARG002
        if number < 0:
            raise ValueError("below zero")
        return Leafy(name="third", number=number)

    @strawberry.mutation
    def second(self, info: Info) -> Leafy | None:  # noqa: ARG002
        return Leafy(name="second")


PLAIN = strawberry.Schema(Query, Mutation, types=[Leafy])._schema  # pyright: ignore[reportPrivateUsage]
PREPARED = strawberry.Schema(Query, Mutation, types=[Leafy])._schema  # pyright: ignore[reportPrivateUsage]
prepare_resolvers(PREPARED)

ALL = "name number nothing doubled colour later numbers"
DOCUMENTS: list[tuple[str, list[dict[str, Any]]]] = [
    (f"{{ leafy {{ {ALL} path __typename itself {{ itself {{ name }} a: path }} }} __typename }}", [{}]),
    ("query($n: String!) { leafy(name: $n) { name doubled } }", [{"n": "x"}, {"n": "y"}, {"n": None}, {"n": 5}, {}]),
    ('query($n: String = "d") { leafy(name: $n) { name } }', [{"n": "x"}, {}, {"other": 1}, {"n": None}, {"n": [1]}]),
    (("query($s: Boolean!) { leafy { name @skip(if: $s) number @include(if: $s) ...A @skip(if: $s) } } "
     "fragment A on Leafy { doubled }"), [{"s": True}, {"s": False}, {"s": True}]),
    (("{ leafy { ...A ... on Named { name } } } fragment A on Leafy { name number ...B } "
     "fragment B on Leafy { itself { number } itself { doubled } }"), [{}]),
    ("{ leafy { name broken number } }", [{}]),
    ("{ leafy { name tooLarge } }", [{}]),
    ("{ leafy { name brokenToo number } }", [{}]),
    ("{ leafy { name itself { must } } }", [{}]),
    ("{ all { name must } }", [{}]),
    ("{ all { name itself { later number } } }", [{}]),
    ("{ named { __typename name ... on Leafy { number broken } } }", [{}]),
    ("mutation { first { name } second { name broken } last: first { itself { brokenToo } } }", [{}]),
    ("{ leafy { name nowhere { name } itself { lost { name } name } } }", [{}]),
    ("{ leafy { name itself { stranger { name } } } }", [{}]),
    ("{ all { name itself { later itself { must } } } }", [{}]),
    ("{ leafy { a: nothing later b: context near { name c: context __typename } number nearby { name } } }", [{}]),
    ("{ leafy { far { name far { number near { path later } } } d: nothing near { itself { far { name } } } } }", [{}]),
    ("{ leafy { name shade { name } number } }", [{}]),
    ("mutation($n: Int!) { third(number: $n) { name shade { name } number } }", [{"n": 1}, {"n": 2}]),
    ("{ leafy { near { name itself { itself { brokenToo } } } name } }", [{}]),
    ("{ all { near { name tooLarge } itself { itself { nothing missing: must } } } }", [{}]),
    ("mutation($n: Int!) { first { name } third(number: $n) { number } }", [{"n": 1}, {"n": -1}, {"n": "x"}, {}]),
    ("mutation { third(number: -5) { number } }", [{}]),
    ("query A { leafy { name } } query B { withoutInfo } ", [{}]),
    ("query($o: Order!, $a: [Int!]) { order(given: $o, also: $a) withoutInfo(number: 3) }", [
        {"o": {"title": "t"}}, {"o": {"title": "t", "note": None, "parts": []}, "a": [1, 2]},
        {"o": {"title": "t", "parts": [{"name": "p"}, {"name": "q", "colour": "RED"}], "mainPart": {"name": "m"}}},
        {"o": {"title": "t", "colours": ["RED", None]}, "a": None}, {"o": {"title": 3}}, {"o": None}, {},
    ]),
    ('{ order(given: {title: "t", colours: [BLUE], mainPart: {name: "m", colour: null}}, also: []) }', [{}, {}]),
    ('{ a: perhaps b: perhaps(it: null) c: perhaps(it: "x") }', [{}]),
]  # fmt: skip


def told(result: ExecutionResult) -> tuple[Any, list[Any]]:
    return result.data, [(error.message, error.path, error.locations) for error in result.errors or []]


async def plainly(document: Any, name: str | None, variables: Mapping[str, Any]) -> ExecutionResult:
    result: Any = execute_plainly(
        PLAIN, document, context_value="context", variable_values=dict(variables), operation_name=name
    )
    return result if isinstance(result, ExecutionResult) else await result


def request(
    document: DocumentNode,
    plan: Plan,
    name: str | None = None,
    variables: dict[str, Any] | None = None,
    context: object = "context",
) -> Request:
    operation = get_operation_ast(document, name)
    assert operation is not None
    return Request(PREPARED, document, operation, plan, variables, context)


@pytest.mark.parametrize(("text", "requests"), DOCUMENTS)
async def test_a_planned_document_answers_as_graphql_core_does_each_time(
    text: str, requests: list[dict[str, Any]]
) -> None:
    document = parse(text)
    assert not validate(PLAIN, document)
    plan = Plan(document)
    names = ["A", "B"] if text.startswith("query A") else [None]
    for _ in range(2):
        for name in names:
            for variables in requests:
                expected = told(await plainly(document, name, variables))
                got = told(await execute(request(document, plan, name, variables)))
                assert got == expected
                assert json.dumps(got[0]) == json.dumps(expected[0])  # in the same order, at every depth


async def test_requests_at_once_share_a_plan_and_nothing_else() -> None:
    document = parse("query($n: String!) { leafy(name: $n) { name later itself { path name } } }")
    plan = Plan(document)
    answers = await asyncio.gather(
        *(execute(request(document, plan, None, {"n": str(n)}, f"context {n}")) for n in range(20))
    )
    for number, answer in enumerate(answers):
        assert answer.data == {
            "leafy": {
                "name": str(number),
                "later": f"{number}, later",
                "itself": {"path": f"context {number} path path", "name": str(number)},
            }
        }


def test_an_executor_that_begins_from_another_shares_nothing_that_executing_changes() -> None:
    document = parse("{ leafy { name } }")
    built = request(document, Plan(document)).executor()
    assert isinstance(built, Planned)
    begun = vars(built.again("another", built.variable_values))
    assert begun.keys() == vars(built).keys()
    shared = {
        name for name, value in vars(built).items() if isinstance(value, dict | set | list) and begun[name] is value
    }
    assert shared == {"fragments", "fragment_definitions"}
    assert begun["collected_errors"] is not built.collected_errors


@strawberry.type
class Slow:
    @strawberry.field
    async def one(self, info: Info) -> int:  # noqa: ARG002  # with it the field is prepared
        return 1

    @strawberry.field
    async def two(self, info: Info) -> int:  # noqa: ARG002
        return 2

    @strawberry.field
    def further(self) -> "Slow":
        return self

    @strawberry.field
    async def later(self, info: Info) -> "Slow":  # noqa: ARG002
        return self


@strawberry.type
class Racing:
    @strawberry.field
    async def slow(self, info: Info, turns: int) -> Slow:  # noqa: ARG002
        for _ in range(turns):
            await asyncio.sleep(0)
        return Slow()

    @strawberry.field
    async def fails(self, info: Info, turns: int) -> int:  # noqa: ARG002
        for _ in range(turns):
            await asyncio.sleep(0)
        raise ValueError("fails")


@pytest.mark.parametrize("below", ["one two", "further { one two further { one } }", "later { later { one } two } one"])
async def test_what_is_dropped_before_it_has_begun_is_no_mistake(monkeypatch: pytest.MonkeyPatch, below: str) -> None:
    """A field is refused in every turn in which those beside it may be."""
    told: list[str] = []

    def tell(raised: "sys.UnraisableHookArgs") -> None:
        told.append(repr(raised.object))

    monkeypatch.setattr(sys, "unraisablehook", tell)
    schema = strawberry.Schema(Racing)._schema  # pyright: ignore[reportPrivateUsage]
    prepare_resolvers(schema)
    for slow in range(4):
        for fails in range(12):
            document = parse(f"{{ slow(turns: {slow}) {{ {below} }} fails(turns: {fails}) }}")
            operation = get_operation_ast(document)
            assert operation is not None
            answer = await execute(Request(schema, document, operation, Plan(document), None, None))
            assert answer.data is None
            assert [error.message for error in answer.errors or ()] == ["fails"]
    gc.collect()  # what was never begun would be told now
    assert told == []


class Asker:
    """A context that can be watched."""


async def test_nothing_of_a_request_is_kept_with_its_document() -> None:
    document = parse("query($n: String!) { leafy(name: $n) { name } }")
    plan, asker = Plan(document), Asker()
    gone = weakref.ref(asker)
    await execute(request(document, plan, None, {"n": "secret"}, asker))
    del asker
    gc.collect()
    assert gone() is None
    (kept,) = plan.executors.values()
    assert kept.variable_values.coerced == {}
    assert "secret" not in repr(kept.variable_values)


def test_a_plan_stays_as_large_as_its_document() -> None:
    document = parse("{ named { name ... on Leafy { itself { number } } } }")
    plan = Plan(document)
    sizes: set[tuple[int, ...]] = set()
    for _ in range(5):
        asyncio.run(execute(request(document, plan)))
        sizes.add((len(plan.executors), len(plan.roots), len(plan.below), len(plan.selections)))
    assert len(sizes) == 1


def test_what_waits_or_asks_for_more_is_not_plain() -> None:
    fields = PREPARED.type_map["Leafy"].fields  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownMemberType]
    leaves = {name for name, each in fields.items() if LEAF in each.extensions}  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    assert leaves == {
        "name", "number", "nothing", "doubled", "colour", "must", "broken", "brokenToo", "tooLarge", "path", "context",
    }  # fmt: skip
    branches = {name for name, each in fields.items() if BRANCH in each.extensions}  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    assert branches == {"itself", "nowhere", "lost", "stranger", "near", "far", "nearby", "shade"}
