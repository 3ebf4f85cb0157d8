"""How options of processors name the columns of an event, and how values become such columns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import polars as pl

from otel_moesif.errors import Problem
from otel_moesif.schema import BY_NAME, SCHEMA, Place

PROPERTY = "property."
"""What stands before the name of a custom property, so that it is no event column."""

# By it a backend knows a call again on every retry and replay; whoever changes it counts calls twice.
FIXED = frozenset({"transactionId"})
# One JSON object: whoever could write it as a whole could make it none.
_OBJECT = "customProperties"
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")
# What JSON path and JSON text would have to escape.
_NOT_IN_NAMES = frozenset("'\"\\[]\n")


def property_name(column: str) -> str | None:
    """The custom property that an option names; None where it names an event column."""
    return column.removeprefix(PROPERTY) if column.startswith(PROPERTY) else None


def name_problem(column: str) -> str:
    """What is wrong with a name, or nothing.

    Args:
        column: An event column, or ``property.<name>``.
    """
    name = property_name(column)
    if name is None:
        if column in SCHEMA:
            return ""
        return (
            f'no event column "{column}" ({did_you_mean(column)}a custom property is {PROPERTY}<name>; '
            f"columns: {', '.join(SCHEMA)})"
        )
    if not name or _NOT_IN_NAMES & set(name):
        return f'"{column}" is no name of a custom property (no quotes, backslashes and brackets)'
    return ""


def target_problem(column: str) -> str:
    """As `name_problem`, for a column that an option wants to write."""
    name = property_name(column)
    if column in FIXED:
        return f"{column} cannot be changed: by it a backend knows the call again on a retry or replay"
    if column == _OBJECT:
        return f"{column} is the object of all properties: name one of them, {PROPERTY}<name>"
    if name in SCHEMA:
        return f'the event has a field "{name}" already; choose another name for the property'
    return name_problem(column)


def text_problem(column: str) -> str:
    """As `target_problem`, for a column that has to hold text."""
    problem = target_problem(column)
    if not problem and property_name(column) is None and SCHEMA[column] != pl.String:
        return f"{column} is no text ({SCHEMA[column]})"
    return problem


def castable(given: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether values become others by themselves; a moment and a flag only come from their like."""
    if given == pl.Null:
        return True
    if given.is_nested() or given == pl.Binary:
        return False
    if wanted == pl.Boolean:
        return given == pl.Boolean
    return wanted == pl.String or given.is_temporal() == wanted.is_temporal()


def flag(text: pl.Expr) -> pl.Expr:
    """Words as flags; null where it is neither yes nor no. Polars has no cast for that."""
    word = text.str.strip_chars().str.to_lowercase()
    return pl.when(word.is_in(_TRUE)).then(True).when(word.is_in(_FALSE)).then(False)  # noqa: FBT003


def did_you_mean(word: str, known: Iterable[str] = tuple(SCHEMA)) -> str:
    """``did you mean x? `` for the closest known word, whatever its case, or nothing."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f"did you mean {by_lower[close[0]]}? " if close else ""


def problems_of(named: Iterable[tuple[str, str]]) -> list[Problem]:
    """The problems among (path, message), leaving out empty messages."""
    return [Problem(path, message) for path, message in named if message]


def is_unknown(column: str) -> pl.Expr:
    """Whether an event column holds nothing but what stands for a missing value."""
    value, default = pl.col(column), BY_NAME[column].default
    if default is None:
        return value.is_null()
    return value.is_null() | (value == pl.lit(default, SCHEMA[column]))


def completed(frame: pl.DataFrame, changed: Iterable[str]) -> pl.DataFrame:
    """Put defaults where columns that were changed have no value, as `Events` does.

    Args:
        frame: All event columns.
        changed: Those that may have nulls now. A fault has no latencies, so a change of ``eventType``
            concerns them, too.
    """
    names = set(changed)
    if "eventType" in names:
        names |= {field.name for field in BY_NAME.values() if field.place is Place.LATENCY}
    expressions = []
    for name in sorted(names):
        field, value = BY_NAME[name], pl.col(name)
        if field.default is not None:
            value = value.fill_null(pl.lit(field.default, field.dtype))
        if field.place is Place.LATENCY:
            event_type = pl.col("eventType").fill_null(BY_NAME["eventType"].default)
            value = pl.when(event_type == "response").then(value)
        expressions.append(value.alias(name))
    return frame.with_columns(expressions)
