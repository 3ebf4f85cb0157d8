"""Rows as JSON texts of a given shape, by columns: no Python object per row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import polars as pl

from otel_moesif.json_columns import NOWHERE, Columns, State, in_one_thread, json_value

__all__ = [
    "Always",
    "JsonShape",
    "Members",
    "Shape",
    "Verbatim",
    "json_object",
    "json_text",
    "json_value",
    "splice",
]


@dataclass(frozen=True)
class Verbatim:
    """A member whose value is JSON text already; null leaves the member out.

    Attributes:
        text: The JSON texts: a column's name or an expression.
        spread: They are objects, and their members join the object that this one stands in. Its key is
            then only a name in the shape; the keys of its members must differ from those of the others.
    """

    text: pl.Expr | str
    spread: bool = False


@dataclass(frozen=True)
class Members:
    """Members of the object that this stands in, as JSON text without braces, at least one; null: none.

    What `Verbatim.spread` is for whole objects. The key is only a name in the shape.
    """

    text: pl.Expr | str


@dataclass(frozen=True)
class Always:
    """An object that is there even when none of its members is."""

    shape: Shape


Leaf: TypeAlias = "pl.Expr | str | Verbatim | Members"
Shape: TypeAlias = "Mapping[str, Leaf | Always | Shape]"

_BLANK = " \t\r\n"  # what may stand between the tokens of a JSON text (RFC 8259 section 2)
_DERIVED = "json:"  # before the names of columns that are made for a shape
_TEMPLATES = 64
"""Templates that are kept of one shape; batches of one gateway need a few."""


class JsonShape:
    """A shape of JSON objects, made ready once for any number of tables.

    The whole object goes through one `pl.format`, whose template is made for the batch: values that all rows
    share are part of its text, members that are null in the same rows are put in together, and only a column
    that holds something to escape is escaped. That costs a third of what ``struct.json_encode`` does for the
    same members, and no nulls have to be cut out of the text.

    Args:
        shape: Members by key: the name of a column, an expression, JSON text as it stands, or a nested
            object. A null, or a column that a table does not have, leaves its member out, and an object in
            which no member is left is left out itself, unless it is `Always`.
        end: What stands after each object: a comma makes it an element of an array, without another copy.
    """

    def __init__(self, shape: Shape, end: str = "") -> None:
        self._end = end
        self._leaves: list[Leaf] = []
        self._tree = _numbered(shape, self._leaves, always=True)
        self._ready = [isinstance(leaf, (Verbatim, Members)) for leaf in self._leaves]
        self._names: list[str] = []
        self._derived: list[pl.Expr] = []
        for number, leaf in enumerate(self._leaves):
            text = leaf.text if isinstance(leaf, (Verbatim, Members)) else leaf
            if isinstance(text, pl.Expr):
                self._derived.append(text.alias(f"{_DERIVED}{number}"))
                text = f"{_DERIVED}{number}"
            self._names.append(text)
        self._templates: dict[tuple[State, ...], pl.Expr | str] = {}

    def texts(self, frame: pl.DataFrame) -> pl.Series:
        """Encode each row.

        Returns:
            One JSON text per row and what shall stand after it, named ``json``; without line breaks unless a
            `Verbatim` text has some.
        """
        # one after the other: a thread pool costs more than the work. Not select, which makes a single row
        # of nothing but literals
        rows = frame.with_columns_seq(self._derived) if self._derived else frame
        columns = Columns(rows, self._names, self._ready)
        states = columns.states()
        template = self._templates.get(states)
        if template is None:
            template = self._template(states)
            if len(self._templates) >= _TEMPLATES:
                self._templates.clear()
            self._templates[states] = template
        if isinstance(template, str):
            return pl.repeat(template, frame.height, dtype=pl.String, eager=True).alias("json")
        rows = columns.with_numbers_as_text(states)
        return rows.select_seq(template, *in_one_thread()).get_column("json")

    def _template(self, states: Sequence[State]) -> pl.Expr | str:
        members = [
            _member(name, leaf, state)
            for name, leaf, state in zip(self._names, self._leaves, states, strict=True)
        ]
        whole = _template(self._tree, members)
        if not whole.values:
            return whole.text.replace("{{", "{").replace("}}", "}") + self._end
        return pl.format(whole.text + _as_format(self._end), *whole.values).alias("json")


def json_text(frame: pl.DataFrame, shape: Shape) -> pl.Series:
    """Encode each row as one JSON object of a shape that is used once; see `JsonShape`."""
    return JsonShape(shape).texts(frame)


def json_object(frame: pl.DataFrame, columns: Sequence[pl.Expr]) -> pl.Series:
    """Encode columns as one flat JSON object per row, leaving nulls out."""
    return json_text(frame, {column.meta.output_name(): column for column in columns})


def splice(objects: Sequence[pl.Expr]) -> pl.Expr:
    """Merge JSON objects, given as texts (null: nothing), into one; their keys must differ."""
    inner = [_inside(text) for text in objects]
    members = [pl.when(text != "").then(text) for text in inner]
    return pl.concat_str(pl.lit("{"), pl.concat_str(members, separator=",", ignore_nulls=True), pl.lit("}"))


def _inside(text: pl.Expr) -> pl.Expr:
    """What stands between the braces of an object; slicing is a view, cutting a prefix off is a copy."""
    text = text.str.strip_chars(_BLANK)
    return text.str.slice(1).str.strip_suffix("}").str.strip_chars(_BLANK)


@dataclass(frozen=True)
class _Node:
    """An object of a shape, with the number of its column in place of each leaf."""

    members: dict[str, int | _Node]
    always: bool


def _numbered(shape: Shape, leaves: list[Leaf], *, always: bool) -> _Node:
    members: dict[str, int | _Node] = {}
    for key, member in shape.items():
        if isinstance(member, Always):
            members[key] = _numbered(member.shape, leaves, always=True)
        elif isinstance(member, Mapping):
            members[key] = _numbered(member, leaves, always=False)
        else:
            members[key] = len(leaves)
            leaves.append(member)
    return _Node(members, always)


@dataclass(frozen=True)
class _Member:
    """How a column gets into a template.

    Attributes:
        slot: What stands in the template: a place for its value, quoted or not; or a constant.
        values: What fills the slot; nothing if it is a constant.
        group: As `_null_groups` has it.
        spread: It is text of members, which join the parent.
        may_be_empty: That text may have no members.
    """

    slot: str
    values: tuple[pl.Expr, ...]
    group: int | None
    spread: bool
    may_be_empty: bool = False


def _member(name: str, leaf: Leaf, state: State) -> _Member:
    is_object = isinstance(leaf, Verbatim) and leaf.spread
    spread = is_object or isinstance(leaf, Members)
    if state is None:
        return _Member("", (), NOWHERE, spread)
    if isinstance(state, str):
        text = state.strip(_BLANK)[1:].removesuffix("}").strip(_BLANK) if is_object else state
        return _Member(_as_format(text), (), None, spread)
    group, how = state
    value = _inside(pl.col(name)) if is_object else pl.col(name)
    if how == "encoded":
        value = pl.when(value.is_not_null()).then(json_value(name))
    return _Member('"{}"' if how == "quoted" else "{}", (value,), group, spread, is_object)


def _as_format(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


@dataclass(frozen=True)
class _Template:
    """A format for one object and what fills it; `always` says that every row has the object."""

    text: str
    values: list[pl.Expr]
    always: bool


def _template(node: _Node, columns: Sequence[_Member]) -> _Template:
    fixed: list[str] = []
    values: list[pl.Expr] = []
    grouped: dict[int, tuple[list[str], list[pl.Expr]]] = {}
    optional: list[pl.Expr] = []
    for key, member in node.members.items():
        label = _as_format(json.dumps(key, ensure_ascii=False)) + ":"
        if isinstance(member, _Node):
            inner = _template(member, columns)
            if inner.always:
                fixed.append(label + inner.text)
                values += inner.values
            elif inner.values:
                text = pl.format(inner.text, *inner.values)
                optional.append(pl.when(text != "{}").then(pl.format(f",{label}{{}}", text)))
            continue
        column = columns[member]
        if column.group == NOWHERE:
            continue
        if column.spread and column.group is None and not column.may_be_empty:
            fixed += [column.slot] if column.slot else []
            values += column.values
        elif column.spread:
            text = pl.format(",{}", *column.values)
            optional.append(pl.when(column.values[0] != "").then(text) if column.may_be_empty else text)
        elif column.group is None:
            fixed.append(label + column.slot)
            values += column.values
        else:
            members, of_members = grouped.setdefault(column.group, ([], []))
            members.append(f",{label}{column.slot}")
            of_members += column.values
    optional += [pl.format("".join(members), *of_members) for members, of_members in grouped.values()]
    rest = [text.fill_null("") for text in optional]
    always = node.always or bool(fixed)
    if fixed or not rest:
        return _Template(f"{{{{{','.join(fixed)}{'{}' * len(rest)}}}}}", values + rest, always)
    return _Template("{{{}}}", [pl.concat_str(rest).str.strip_prefix(",")], always)
