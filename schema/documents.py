"""Documents: parsed and validated once for each text, within limits. Knows no SQL and no transport.

A small mutation costs 1,600 µs when its document is parsed and validated each time, 136 µs with both remembered.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
    Visitor,
    get_operation_ast,
    parse,
    validate,
    visit,
)

from resolvers.mentions import MOST_MENTIONS
from resolvers.pages import DEFAULT_PAGE, LARGEST_PAGE
from resolvers.reactions import MOST_EMOJI
from resolvers.refusals import ErrorCode, Refusal, bad_input
from resolvers.revisions import MOST_REVISIONS
from settings import MOST_SEEN_BY

from .execution import Plan
from .sharing import Sharing, sharing

REMEMBERED = 512
LARGEST_REMEMBERED = 16 * 1024
MAX_TOKENS = 4_000
MAX_FIELDS = 500  # with spreads; validation compares fields of one name in pairs: 0.2 s of CPU at worst
MAX_SAME_NAME = 50
MAX_DEPTH = 20
MAX_OBJECTS = 50_000
ABORTED = ("Parsing aborted", "Maximum introspection depth exceeded")  # graphql-core, beyond limits of its own
LONGEST_SIZE = 9  # digits; int() is slow for thousands of them
LONGEST_INTEGER = 20
MAX_LITERAL_PARTS = 200
MAX_ERRORS = 10
PAGE_ARGUMENTS = ("first", "last")
PAGES = frozenset({"myGroups", "myMentions", "members", "messages", "messageEvents", "myThreads", "replies", "users"})
# How many objects a list without page arguments can give; the whole schema is a list as well.
LISTS = {
    "groups": 1_000,
    "invitations": 100,
    "mentions": MOST_MENTIONS,
    "myInvitations": 100,
    "reactions": MOST_EMOJI,
    "revisions": MOST_REVISIONS,
    "seenBy": MOST_SEEN_BY,
    "__schema": 500,
    "__type": 100,
}


def too_complex(message: str) -> Refusal:
    return Refusal(ErrorCode.QUERY_TOO_COMPLEX, message)


class Cost(NamedTuple):
    """What a selection set can cost at most, if every page is full."""

    depth: int = 0
    fields: int = 0
    objects: int = 0


class Complexity:
    """The cost of a document's operations. Fragments count where they are spread."""

    def __init__(self, document: DocumentNode) -> None:
        fragments = (each for each in document.definitions if isinstance(each, FragmentDefinitionNode))
        self._fragments = {each.name.value: each for each in fragments}
        self._known: dict[str, Cost] = {}
        self._open: set[str] = set()

    def of(self, selections: SelectionSetNode | None, names: Counter[str] | None = None) -> Cost:
        """Raises QUERY_TOO_COMPLEX beyond a limit. `names` are of the set that an inline fragment flattens into."""
        depth = fields = objects = 0
        names = Counter() if names is None else names
        for selection in selections.selections if selections else ():
            below = self._of_selection(selection, names)
            depth, fields, objects = max(depth, below.depth), fields + below.fields, objects + below.objects
            _limit(Cost(depth, fields, objects))
        return Cost(depth, fields, objects)

    def _of_selection(self, selection: SelectionNode, names: Counter[str]) -> Cost:
        if isinstance(selection, InlineFragmentNode):
            return self.of(selection.selection_set, names)
        _count_name(names, selection)
        if isinstance(selection, FragmentSpreadNode):
            inner = self._of_fragment(selection.name.value)
            return inner._replace(fields=inner.fields + 1)
        if not isinstance(selection, FieldNode) or selection.selection_set is None:
            return Cost(1, 1)
        depth, fields, objects = self.of(selection.selection_set)
        return Cost(depth + 1, fields + 1, (1 + objects) * _most_objects(selection))

    def _of_fragment(self, name: str) -> Cost:
        """A fragment that does not exist, or spreads itself, is another rule's error."""
        if name not in self._known:
            fragment = self._fragments.get(name)
            if fragment is None or name in self._open:
                return Cost()
            self._open.add(name)
            self._known[name] = self.of(fragment.selection_set)
            self._open.discard(name)
        return self._known[name]


def _count_name(names: Counter[str], selection: SelectionNode) -> None:
    """Validation compares what has one name in pairs."""
    name = (selection.alias or selection.name).value if isinstance(selection, FieldNode) else "..."
    names[name] += 1
    if names[name] > MAX_SAME_NAME:
        raise too_complex(f"A selection has more than {MAX_SAME_NAME} entries of one name.")


def _limit(cost: Cost) -> None:
    if cost.depth > MAX_DEPTH:
        raise too_complex(f"The document is more than {MAX_DEPTH} levels deep.")
    if cost.fields > MAX_FIELDS:
        raise too_complex(f"The document selects more than {MAX_FIELDS} fields.")
    if cost.objects > MAX_OBJECTS:
        raise too_complex(f"The document can ask for more than {MAX_OBJECTS:,} objects. Ask for smaller pages.")


def _most_objects(field: FieldNode) -> int:
    """How many objects a field can give: a variable, or what is no page size, may stand for the largest page."""
    if field.name.value not in PAGES:
        return LISTS.get(field.name.value, 1)
    for argument in field.arguments or ():
        if argument.name.value in PAGE_ARGUMENTS:
            size = argument.value.value if isinstance(argument.value, IntValueNode) else ""
            return (
                max(1, min(int(size), LARGEST_PAGE)) if size.isdigit() and len(size) <= LONGEST_SIZE else LARGEST_PAGE
            )
    return DEFAULT_PAGE


def check_complexity(document: DocumentNode) -> None:
    """Raises QUERY_TOO_COMPLEX for a document beyond the limits, fragments that nothing spreads included."""
    complexity = Complexity(document)
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode | FragmentDefinitionNode):
            complexity.of(definition.selection_set)


class LiteralCheck(Visitor):
    """Counts the parts of literals: validation prints a whole literal into each error about it."""

    def __init__(self) -> None:
        super().__init__()
        self._parts = 0

    def enter_object_field(self, *_: object) -> None:
        self._count(1)

    def enter_list_value(self, node: ListValueNode, *_: object) -> None:
        self._count(len(node.values))

    def enter_int_value(self, node: IntValueNode, *_: object) -> None:
        if len(node.value) > LONGEST_INTEGER:
            raise bad_input("A number of the document is not a 32-bit integer.")

    def _count(self, parts: int) -> None:
        self._parts += parts
        if self._parts > MAX_LITERAL_PARTS:
            raise too_complex(f"The literals of the document have more than {MAX_LITERAL_PARTS} parts. Use variables.")


class Checked(NamedTuple):
    """A document within the limits, why it may not be executed, and how it is."""

    document: DocumentNode
    errors: tuple[GraphQLError, ...]
    plan: Plan


def _check(schema: GraphQLSchema, text: str) -> Checked:
    document = parse(text, max_tokens=MAX_TOKENS)
    visit(document, LiteralCheck())
    check_complexity(document)
    errors = validate(schema, document, max_errors=MAX_ERRORS)
    # Whatever caused them, they are the client's mistakes.
    return Checked(document, tuple(GraphQLError(error.message, error.nodes) for error in errors), Plan(document))


_remembered = lru_cache(REMEMBERED)(_check)  # by the text: to hash a small document costs as much as to read a row


def check(schema: GraphQLSchema, text: str) -> Checked:
    """The document of this text. Raises GraphQLError for bad syntax, QUERY_TOO_COMPLEX beyond the limits."""
    return (_remembered if len(text) <= LARGEST_REMEMBERED else _check)(schema, text)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document that may be executed, and which of its operations."""

    document: DocumentNode
    operation: OperationDefinitionNode
    plan: Plan

    @property
    def is_subscription(self) -> bool:
        return self.operation.operation is OperationType.SUBSCRIPTION

    @property
    def sharing(self) -> Sharing | None:
        """With whom a subscription's events may be shared; None where they are made for one subscriber."""
        known, key = self.plan.sharing, id(self.operation)
        if key not in known:
            known[key] = sharing(self.document, self.operation)
        return known[key]


class Rejected(Exception):
    """A document that is not executed, with every reason."""

    def __init__(self, errors: Sequence[GraphQLError]) -> None:
        super().__init__(errors[0].message)
        self.errors = errors


def prepare(schema: GraphQLSchema, text: str, operation_name: str | None) -> Prepared:
    """Raises Rejected: bad syntax, beyond the limits, not valid, or no such operation."""
    try:
        document, errors, plan = check(schema, text)
    except RecursionError:
        raise Rejected([_error(too_complex("The document is nested too deeply."))]) from None
    except Refusal as refusal:
        raise Rejected([_error(refusal)]) from None
    except GraphQLError as error:
        raise Rejected([_honest(error)]) from None
    if errors:
        raise Rejected([_honest(error) for error in errors])
    operation = get_operation_ast(document, operation_name)
    if operation is None:
        raise Rejected([GraphQLError("operationName must name one operation of the document.")])
    return Prepared(document, operation, plan)


def _honest(error: GraphQLError) -> GraphQLError:
    """What graphql-core refuses beyond its own limits is QUERY_TOO_COMPLEX, like what we refuse beyond ours."""
    return _error(too_complex(error.message)) if any(words in error.message for words in ABORTED) else error


def _error(refusal: Refusal) -> GraphQLError:
    return GraphQLError(refusal.message, original_error=refusal)
