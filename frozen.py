"""What holds values and never changes. Knows nothing of the rooms."""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(made: type[T]) -> type[T]:
    """A dataclass with slots whose fields nobody sets again: the type checker sees to it.

    With `frozen=True` the interpreter would see to it too, and to make one of twelve fields would cost 0.9 µs instead
    of 0.15. A send makes twenty.
    """
    return dataclass(slots=True, unsafe_hash=True)(made)
