"""Statements that are compiled once for each database and then run on its driver. Knows nothing of the other rooms.

To build a select of one row, run it and read the row costs 80 µs with Core, 24 µs where the statement was built before,
and 8 µs so: SQLite's driver takes 5, the columns that are no plain text or number the rest. A send with an
id of its sender runs ten.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import accumulate
from typing import Any, TypeVar
from uuid import UUID

import orjson
from sqlalchemy import JSON, BindParameter, Column, Delete, Dialect, Insert, Select, Update, bindparam
from sqlalchemy.types import TypeEngine, Uuid

from .tables import UtcDateTime

T = TypeVar("T")
Values = Mapping[str, Any]
Row = Sequence[Any]
Convert = Callable[[Any], Any]


PLACE = re.compile(r"\$(\d+)")  # of a parameter; our statements hold no other text
COUNTS_REMEMBERED = 64
IDS_REMEMBERED = 8_192  # 2 MB
MOMENTS_REMEMBERED = 64


def parameters(column: Column[Any], count: int) -> list[BindParameter[Any]]:
    """So many parameters of a column's type, for `column.in_(...)`; `numbered` gives them their values."""
    return [bindparam(f"{column.name}_{number}", type_=column.type) for number in range(count)]


def numbered(column: Column[Any], values: Iterable[Any]) -> dict[str, Any]:
    return {f"{column.name}_{number}": value for number, value in enumerate(values)}


def padded(values: Iterable[T]) -> list[T]:
    """The values, the last of them again and again up to a power of two: there are few statements for so many."""
    known = list(values)
    return known + known[-1:] * ((1 << (len(known) - 1).bit_length()) - len(known))


class Prepared:
    """One statement in the words of one database: its text, what becomes of its parameters and of its rows."""

    def __init__(self, statement: "Select[Any] | Insert | Update | Delete", dialect: Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)
        binds = {name: compiled.binds[name] for name in compiled.positiontup}
        self.text: str = compiled.string
        self.width = len(compiled.positiontup)
        self.names = frozenset(compiled.positiontup)
        self._constants = {name: bind.value for name, bind in binds.items() if not bind.required}
        self._take = _tuple_of([(name, _writing(binds[name].type, dialect)) for name in compiled.positiontup])
        types = (column.type for column in statement.exported_columns)
        self.row = _tuple_of([(place, _reading(kind, dialect)) for place, kind in enumerate(types)])
        """A row of the driver with Python's ids and moments."""

    def parameters(self, values: Values) -> tuple[Any, ...]:
        """The values in the order of the text, as the driver takes them."""
        return self._take({**self._constants, **values} if self._constants else values)


def _tuple_of(items: Sequence[tuple[str | int, Convert | None]]) -> Callable[[Any], tuple[Any, ...]]:
    """A function that takes these items of a mapping or a row, each through its conversion.

    It is written out, as one would by hand: for a message of 15 columns it takes 1.0 µs, a loop over them 1.4.
    """
    converts = {f"convert_{place}": convert for place, (_, convert) in enumerate(items)}
    written = (f"convert_{n}(of[{item!r}])" if convert else f"of[{item!r}]" for n, (item, convert) in enumerate(items))
    return eval(f"lambda of: ({''.join(f'{each}, ' for each in written)})", converts)  # noqa: S307  # our own columns


class Statement:
    """A statement of Core whose parameters are named; every value comes when it runs."""

    def __init__(self, statement: "Select[Any] | Insert | Update | Delete") -> None:
        self.table = None if isinstance(statement, Select) else statement.table
        """What it changes."""
        self._statement = statement
        self._prepared: dict[str, Prepared] = {}

    def on(self, dialect: Dialect) -> Prepared:
        prepared = self._prepared.get(dialect.name)
        if prepared is None:
            prepared = self._prepared[dialect.name] = Prepared(self._statement, dialect)
        return prepared


@lru_cache(COUNTS_REMEMBERED)
def together(parts: Sequence[Prepared]) -> str:
    """One text for several statements that give no rows, with the parameters of all of them in their order."""
    offsets = accumulate((part.width for part in parts), initial=0)
    *first, last = (_renumbered(part.text, offset) for part, offset in zip(parts, offsets, strict=False))
    named = ", ".join(f"part_{number} AS ({text})" for number, text in enumerate(first))
    return f"WITH {named} {last}" if first else last


def _renumbered(text: str, offset: int) -> str:
    return PLACE.sub(lambda place: f"${int(place[1]) + offset}", text)


def _writing(kind: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    if isinstance(kind, JSON):
        return write_data
    if dialect.name == "sqlite" and isinstance(kind, UtcDateTime):
        return write_moment
    if dialect.name == "sqlite" and isinstance(kind, Uuid):
        return write_id
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _reading(kind: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    if dialect.name == "sqlite" and isinstance(kind, UtcDateTime):
        return read_moment
    if dialect.name == "sqlite" and isinstance(kind, Uuid):
        return read_id
    return kind.dialect_impl(dialect).result_processor(dialect, None)


def write_data(data: Mapping[str, Any]) -> str:
    """What an event is told besides, as JSON."""
    return orjson.dumps(data, default=dict).decode()


def write_id(known: UUID | None) -> str | None:
    return known.hex if known is not None else None


@lru_cache(MOMENTS_REMEMBERED)
def write_moment(moment: datetime | None) -> str | None:
    """As SQLAlchemy keeps moments in SQLite, in a fifth of the time: 2 µs. A send writes the same one four times."""
    return moment and moment.astimezone(UTC).isoformat(" ", "microseconds")[: len("2000-01-01 00:00:00.000000")]


def read_moment(kept: str | None) -> datetime | None:
    """0.2 µs, where SQLAlchemy takes 1.6; a send reads ten of them."""
    return datetime.fromisoformat(f"{kept}Z") if kept is not None else None


@lru_cache(IDS_REMEMBERED)
def read_id(kept: str | None) -> UUID | None:
    """0.1 µs for one of the people and groups that are read again and again, where to make it takes 1.4."""
    return UUID(kept) if kept is not None else None
