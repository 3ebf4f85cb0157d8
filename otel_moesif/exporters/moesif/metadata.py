"""The ``metadata`` of a profile or an action: configured columns, with native types."""

from __future__ import annotations

import json
from collections.abc import Mapping

import polars as pl

from otel_moesif.errors import Problem
from otel_moesif.events import iso
from otel_moesif.json_shape import Shape, Verbatim, json_value
from otel_moesif.processors.columns import name_problem, problems_of, property_name
from otel_moesif.processors.properties import COLUMN, read_property
from otel_moesif.schema import SCHEMA, UNKNOWN

# What stands for a missing text in an event (`otel_moesif.schema`); N/A is for a certificate's name.
_NOTHING = ("", UNKNOWN, "N/A")
# JSON that is no text (RFC 8259); a null does not get here, to json_path_match it is a missing member.
_SCALAR = r"^(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false)$"
_NESTED = r"^[\[{]"


def known(text: pl.Expr) -> pl.Expr:
    """Texts, null where they only say that there is nothing."""
    # is_in would cost three times as much
    return pl.when(pl.all_horizontal(text != nothing for nothing in _NOTHING)).then(text)


class Metadata:
    """Which columns become which members.

    Args:
        columns: Member → event field or ``property.<name>``.
        path: The option that says so.
    """

    def __init__(self, columns: Mapping[str, str], path: str) -> None:
        self._columns = columns
        self._problems = problems_of(
            (f"{path}::{member}", _problem(member, column)) for member, column in columns.items()
        )
        self._places = {f"metadata {number}": column for number, column in enumerate(columns.values())}
        # made once: that costs more than running them
        usable = {} if self._problems else self._places
        self._values = [_value(column).alias(place) for place, column in usable.items()]
        names = {place: property_name(column) for place, column in usable.items()}
        self._as_json = [_as_json(place, name) for place, name in names.items() if name is not None]

    def problems(self) -> list[Problem]:
        """What is wrong with the names, all of it; with any, there are no values."""
        return list(self._problems)

    @property
    def columns(self) -> set[str]:
        """The event columns that `added_to` reads."""
        return {COLUMN if property_name(column) is not None else column for column in self._columns.values()}

    @property
    def places(self) -> list[str]:
        """The columns that `added_to` adds, one per member."""
        return list(self._places)

    def added_to(self, rows: pl.DataFrame, *others: pl.Expr) -> pl.DataFrame:
        """Events with the members' values beside them, null where they are unknown.

        Args:
            rows: Events.
            others: Further columns to add; every pass over few rows costs 0.1 ms, whatever it adds.
        """
        rows = rows.with_columns_seq(*self._values, *others)
        return rows.with_columns_seq(self._as_json) if self._as_json else rows

    def shape(self) -> Shape:
        """The object that `places` make; `json_text` leaves it out where nothing is known."""
        return {
            member: pl.col(place) if property_name(column) is None else Verbatim(pl.col(place))
            for (member, column), place in zip(self._columns.items(), self._places, strict=True)
        }


def _problem(member: str, column: str) -> str:
    if not member.strip():
        return "needs a name"
    problem = name_problem(column)
    if not problem and column in SCHEMA and SCHEMA[column].is_nested():
        return f"{column} is a list; choose a column that holds one value"
    return problem


def _value(column: str) -> pl.Expr:
    name = property_name(column)
    if name is not None:
        return known(read_property(name))
    if SCHEMA[column].is_temporal():
        return iso(column)
    return known(pl.col(column)) if SCHEMA[column] == pl.String else pl.col(column)


def _as_json(place: str, name: str) -> pl.Expr:
    """A custom property's text as JSON.

    `read_property` does not tell the text "5" from the number 5. What can be read as a number, a flag, an
    object or a list is one, unless the properties have a text of this name that reads alike. They are written
    without spaces by our processors, and by others with one behind the colon.
    """
    value, properties = pl.col(place), pl.col(COLUMN)
    nested = value.str.contains(_NESTED)
    # what is nested has its quotes escaped in a text, so that only its beginning can be compared
    begin = pl.when(nested).then(value.str.head(1)).otherwise(value + '"')
    labels = {json.dumps(name, ensure_ascii=ascii_only) for ascii_only in (False, True)}
    texts = [pl.concat_str(pl.lit(f'{label}:{space}"'), begin) for label in labels for space in ("", " ")]
    is_text = pl.any_horizontal(properties.str.contains(text, literal=True) for text in texts)
    # json_path_match gives null for what it cannot parse
    is_json = value.str.contains(_SCALAR) | (nested & value.str.json_path_match("$").is_not_null())
    json_text = pl.when(is_json & ~is_text).then(place).otherwise(json_value(place))
    return pl.when(value.is_not_null()).then(json_text).alias(place)
