"""Which subscriptions look the same to many, by their document. Knows no SQL, and nothing of who subscribes."""

from dataclasses import dataclass
from typing import cast

from graphql import (
    ArgumentNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    Visitor,
    visit,
)

from .context import VIEWER_ARGUMENTS, VIEWER_FIELDS

SHARED = "groupMessages"
BESIDE_MESSAGE = frozenset({"group", "thread", "threadRoot"})
OWN_ARGUMENT = "after"  # of `groupMessages`: where a subscriber begins, nothing else
DEFINED_AND_USED = 2


class _Uses(Visitor):
    """Counts how often each variable is used, and looks for what depends on the viewer."""

    def __init__(self) -> None:
        super().__init__()
        self.variables: dict[str, int] = {}
        self.of_viewer = False
        self.of_group = False

    def enter_variable(self, node: VariableNode, *_: object) -> None:
        self.variables[node.name.value] = self.variables.get(node.name.value, 0) + 1

    def enter_field(self, node: FieldNode, *_: object) -> None:
        self.of_viewer = self.of_viewer or node.name.value in VIEWER_FIELDS
        self.of_group = self.of_group or node.name.value in BESIDE_MESSAGE

    def enter_argument(self, node: ArgumentNode, *_: object) -> None:
        self.of_viewer = self.of_viewer or node.name.value in VIEWER_ARGUMENTS


@dataclass(frozen=True, slots=True)
class Sharing:
    """With whom an operation's events may be shared. `own` is the variable that says only where a subscriber begins:
    used once, as the argument of the root field.
    """

    own: str | None
    of_viewer: bool
    of_group: bool  # it shows something of the group besides the message


def sharing(document: DocumentNode, operation: OperationDefinitionNode) -> Sharing | None:
    """None for an operation whose events are made for one subscriber."""
    root = _root(document, operation.selection_set)
    if root.name.value != SHARED:
        return None
    uses = _Uses()
    visit(document, uses)
    given = next((each.value for each in root.arguments or () if each.name.value == OWN_ARGUMENT), None)
    name = given.name.value if isinstance(given, VariableNode) else ""
    own = name if uses.variables.get(name) == DEFINED_AND_USED else None
    return Sharing(own, uses.of_viewer, uses.of_group)


def _root(document: DocumentNode, selections: SelectionSetNode) -> FieldNode:
    """The one root field of a valid subscription; several nodes for it ask for the same."""
    first = selections.selections[0]
    if isinstance(first, FieldNode):
        return first
    if isinstance(first, InlineFragmentNode):
        return _root(document, first.selection_set)
    fragments = (each for each in document.definitions if isinstance(each, FragmentDefinitionNode))
    name = cast("FragmentSpreadNode", first).name.value
    return _root(document, next(each.selection_set for each in fragments if each.name.value == name))
