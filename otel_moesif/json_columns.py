"""What the template of a JSON object has to know of a table's columns, and texts of single values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Literal, TypeAlias

import polars as pl

State: TypeAlias = "str | tuple[int | None, Literal['quoted', 'plain', 'encoded']] | None"
"""What a template knows of a column.

None: it has nothing but nulls. A text: every row has this JSON. Else the number of the first column that is
null in exactly the same rows (None: no nulls), and how its values are written: quoted but as they are, as
they are, or through `json_value`.
"""

NOWHERE = -1
"""Stands for the group of a column that has nothing but nulls."""

_MANY = 256
"""Rows from which on it pays to look closer at a column: to ask whether all values are the same costs 7 µs
a column, and now and then a new template, and saves 15 ns a row."""
_as_json = json.JSONEncoder(ensure_ascii=False).encode  # what `json.dumps` makes anew at every call
_NUMBERS = 100_000
"""Whole numbers below this are looked up: that is five times as fast as writing them."""


_INTEGERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)
_KINDS: dict[type[pl.DataType], str] = {
    pl.String: "text",
    pl.Boolean: "flag",
    **dict.fromkeys(_INTEGERS, "number"),
}


class Columns:
    """The columns of a table that have a place in a shape.

    Args:
        rows: The table.
        names: Of columns; those that the table does not have count as null.
        ready: Whether a column is JSON text already.
    """

    def __init__(self, rows: pl.DataFrame, names: Sequence[str], ready: Sequence[bool]) -> None:
        self._rows, self._names, self._ready = rows, names, ready
        positions = {name: position for position, name in enumerate(rows.columns)}
        self._positions = [positions.get(name) for name in names]
        columns, dtypes = rows.get_columns(), rows.dtypes
        self._values = [None if position is None else columns[position] for position in self._positions]
        # by class: to compare types costs ten times as much, and there are seventy columns
        self._kinds = [
            None if position is None else _KINDS.get(type(dtypes[position])) for position in self._positions
        ]

    def states(self) -> tuple[State, ...]:
        """What a template has to know of each column."""
        groups = self._null_groups()
        alike = self._may_be_all_the_same()
        states: list[State] = []
        texts: dict[str, pl.Series] = {}
        for number, (value, kind, is_json, group) in enumerate(
            zip(self._values, self._kinds, self._ready, groups, strict=True)
        ):
            if value is None or group == NOWHERE:
                states.append(None)
            elif group is None and alike[number] and _all_the_same(value, kind):
                states.append(value.item(0) if is_json else _as_json(value.item(0)))
            elif is_json or kind in {"number", "flag"}:  # `pl.format` writes them as JSON does
                states.append((group, "plain"))
            elif kind == "text":
                texts[self._names[number]] = value
                states.append((group, "quoted"))
            else:
                states.append((group, "encoded"))
        unsafe = _to_escape(list(texts.values()))
        for number in range(len(states)) if unsafe else ():
            if self._names[number] in unsafe and states[number] == (groups[number], "quoted"):
                states[number] = (groups[number], "encoded")
        return tuple(states)

    def with_numbers_as_text(self, states: Sequence[State]) -> pl.DataFrame:
        """The table with its small whole numbers as text; `pl.format` would write each by itself."""
        rows = self._rows
        if rows.height < _MANY:
            return rows
        rows = rows.clone()
        for value, kind, state, position in zip(
            self._values, self._kinds, states, self._positions, strict=True
        ):
            if value is None or position is None or kind != "number" or not isinstance(state, tuple):
                continue
            least, most = value.min(), value.max()
            if isinstance(least, int) and isinstance(most, int) and least >= 0 and most < _NUMBERS:
                text = _number_texts()[value.cast(pl.UInt32)]
                rows.replace_column(position, text.alias(value.name))
        return rows

    def _null_groups(self) -> list[int | None]:
        """For each column the number of the first one that is null in exactly the same rows; None: no nulls.

        Only columns that have as many nulls are compared, and all of them at once with the first: where one
        of them differs, each is taken for itself. A match that is missed costs a few nanoseconds per row,
        nothing else.
        """
        groups: list[int | None] = [None] * len(self._values)
        alike: dict[int, list[int]] = {}
        for number, value in enumerate(self._values):
            if value is None or (nulls := value.null_count()) == self._rows.height:
                groups[number] = NOWHERE
            elif nulls:
                groups[number] = number
                alike.setdefault(nulls, []).append(number)
        several = {nulls: numbers for nulls, numbers in alike.items() if len(numbers) > 1}
        if several:
            common = [
                _null_in_all(tuple(self._names[number] for number in numbers)) for numbers in several.values()
            ]
            for nulls, found in zip(several, self._rows.select_seq(common).row(0), strict=True):
                for number in several[nulls] if found == nulls else ():
                    groups[number] = several[nulls][0]
        return groups

    def _may_be_all_the_same(self) -> Sequence[bool]:
        """For each column whether a look at three rows leaves that open; of few rows none is looked at."""
        height = self._rows.height
        if height < _MANY:
            return [False] * len(self._values)
        first, middle, last = (self._rows.row(number) for number in (0, height // 2, -1))
        return [
            kind is not None
            and position is not None
            and first[position] == middle[position] == last[position]
            for kind, position in zip(self._kinds, self._positions, strict=True)
        ]


def _all_the_same(value: pl.Series, kind: str | None) -> bool:
    if kind == "number":
        return bool(value.min() == value.max())
    if kind == "flag":
        return value.all() or not value.any()
    return bool((value == value.item(0)).all())


@cache
def in_one_thread() -> Sequence[pl.Expr]:
    """What to select beside a single expression of several parts, so that one thread does it all.

    Polars hands the parts of an expression to its pool of threads, unless there are as many expressions as
    threads; with a few thousand rows, waking and feeding the pool costs more than it saves.
    """
    return [pl.lit(0).alias(f"{number}") for number in range(1, pl.thread_pool_size())]


@cache
def _number_texts() -> pl.Series:
    return pl.int_range(_NUMBERS, eager=True).cast(pl.String)


def _to_escape(texts: Sequence[pl.Series]) -> set[str]:
    """The names of the columns that hold something to escape; which, is asked only when there is any."""
    if not texts or not any_to_escape(pl.concat(texts)):
        return set()
    return {text.name for text in texts if any_to_escape(text)}


@lru_cache(maxsize=256)
def _null_in_all(columns: tuple[str, ...]) -> pl.Expr:
    """In how many rows all these columns are null."""
    return pl.all_horizontal(pl.col(name).is_null() for name in columns).sum().alias(columns[0])


def json_value(column: str | pl.Expr, name: str = "value") -> pl.Expr:
    """A column's values as JSON, whatever their type; null is ``null``.

    Args:
        column: Its name, or an expression.
        name: Any name for what an expression gives.
    """
    if isinstance(column, str):
        return json_value(pl.col(column), column)
    return (
        pl.struct(column.alias(name))
        .struct.json_encode()
        .str.slice(len(f"{{{json.dumps(name, ensure_ascii=False)}:"))
        .str.strip_suffix("}")
    )


def any_to_escape(texts: pl.Series) -> bool:
    """Whether any of these texts has a quote, a backslash or a control character (RFC 8259 section 7).

    They are looked for in the bytes of all texts at once, at the speed of memory; a regex would take five
    times as long. Joined they are first because ``explode`` is slow where a list is missing.
    """
    content = _bytes(texts)
    least = content.min()
    if not isinstance(least, int):
        return False
    return least < ord(" ") or bool((content == ord('"')).any() or (content == ord("\\")).any())


def all_visible(texts: pl.Series) -> bool:
    """Whether there is nothing in these texts but visible ASCII: no blank, no control character.

    Looked for as in `any_to_escape`, which takes a third of the time of a regex.
    """
    content = _bytes(texts)
    least, most = content.min(), content.max()
    if not isinstance(least, int) or not isinstance(most, int):
        return True
    return least > ord(" ") and most <= ord("~")


def _bytes(texts: pl.Series) -> pl.Series:
    return texts.alias("").to_frame().select_seq(_BYTES).to_series()


_BYTES = pl.col("").str.join("").cast(pl.Binary).cast(pl.List(pl.UInt8)).explode()
