"""A batch of analytics events: one row per API call."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, TypeAlias

import polars as pl

from otel_moesif.schema import FIELDS, SCHEMA, Field, Place


class Events:
    """Immutable table of analytics events; its columns and their meaning are `otel_moesif.schema.FIELDS`.

    Args:
        frame: Any subset of the columns. Missing columns and values get the documented defaults.
    """

    __slots__ = ("frame",)

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame if frame.schema == SCHEMA else _complete(frame)

    def __len__(self) -> int:
        return self.frame.height

    def __repr__(self) -> str:
        return f"<Events: {len(self)}>"

    @classmethod
    def concat(cls, parts: Iterable[Events]) -> Events:
        """Put batches one after another."""
        frames = [part.frame for part in parts]
        return cls(pl.concat(frames, rechunk=True) if frames else SCHEMA.to_frame())

    def slice(self, offset: int, length: int | None = None) -> Events:
        """Rows ``offset`` to ``offset + length``; no data is copied."""
        return Events(self.frame.slice(offset, length))

    def to_ipc(self) -> bytes:
        """Serialize for the journal: Arrow IPC, LZ4."""
        buffer = io.BytesIO()
        self.frame.write_ipc(buffer, compression="lz4")
        return buffer.getvalue()

    @classmethod
    def from_ipc(cls, data: bytes) -> Events:
        """Read what `to_ipc` wrote, of this version or an older one (unknown columns are left out)."""
        frame = pl.read_ipc(io.BytesIO(data))
        return cls(frame.select(name for name in frame.columns if name in SCHEMA))

    def to_json(self) -> pl.Series:
        """Each event as the guide documents it, one line of JSON per row; missing values are left out.

        Response events carry no error fields, fault events no latencies. Times are ISO 8601 UTC with
        milliseconds and ``Z``.
        """
        return json_text(self.frame, _guide())

    def to_dicts(self) -> list[dict[str, Any]]:
        """Each event as a dict, in the shape of `to_json`: for exporters that want rows."""
        return [json.loads(text) for text in self.to_json()]


def _complete(frame: pl.DataFrame) -> pl.DataFrame:
    """Add missing columns, fill missing values and cast to the schema's types."""
    return frame.select(_completion(tuple(frame.columns))) if frame.width else SCHEMA.to_frame()


@lru_cache(maxsize=64)
def _completion(columns: tuple[str, ...]) -> list[pl.Expr]:
    """What `_complete` selects; kept, since making 55 expressions costs more than running them."""
    unknown = [name for name in columns if name not in SCHEMA]
    if unknown:
        raise ValueError(f"events have no column {', '.join(unknown)} (see otel_moesif.schema.FIELDS)")
    kind = pl.col("eventType").fill_null("response") if "eventType" in columns else pl.lit("response")
    expressions = []
    for field in FIELDS:
        column = pl.col(field.name).cast(field.dtype) if field.name in columns else pl.lit(None, field.dtype)
        if field.default is not None:
            column = column.fill_null(pl.lit(field.default, field.dtype))
        if field.place is Place.LATENCY:
            column = pl.when(kind == "response").then(column)
        expressions.append(column.alias(field.name))
    return expressions


@cache
def _guide() -> Shape:
    # between the tokens of a JSON text a line break is a space, and within them there is none
    one_line = pl.col("customProperties").str.replace_all("\n", " ", literal=True)
    properties: Shape = {
        **{field.name: documented(field) for field in FIELDS if field.place is Place.PROPERTIES},
        "userName": pl.col("userName"),
        "customProperties": Verbatim(one_line, spread=True),
    }
    event = {field.name: documented(field) for field in FIELDS if field.place in {Place.EVENT, Place.LATENCY}}
    return {**event, "properties": properties}


def documented(field: Field) -> pl.Expr:
    """A field's values in those events whose kind carries it by the guide; times as text."""
    value = iso(field.name) if isinstance(field.dtype, pl.Datetime) else pl.col(field.name)
    if field.response and field.fault:
        return value
    return pl.when((pl.col("eventType") == "fault") == field.fault).then(value)


def iso(column: str) -> pl.Expr:
    """A timestamp column as ``2022-01-20T03:34:36.451Z``."""
    return pl.col(column).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")


@dataclass(frozen=True)
class Verbatim:
    """A member whose value is JSON text already; null leaves the member out.

    Attributes:
        text: The JSON texts.
        spread: They are objects, and their members join the object that this one stands in. Its key is
            then only a name in the shape; the keys of its members must differ from those of the others.
    """

    text: pl.Expr
    spread: bool = False


@dataclass(frozen=True)
class Always:
    """An object that is there even when none of its members is."""

    shape: Shape


Shape: TypeAlias = "Mapping[str, pl.Expr | Verbatim | Always | Shape]"


def json_text(frame: pl.DataFrame, shape: Shape) -> pl.Series:
    """Encode each row as one JSON object of a given shape, leaving nulls out.

    The whole object goes through one `pl.format`, whose template is made for this batch: members that every
    row has are part of its text, members that are null in the same rows are put in together, and only a
    column that holds something to escape is escaped. That costs half of what ``struct.json_encode`` does
    for the same members, and no nulls have to be cut out of the text.

    Args:
        frame: The rows.
        shape: Members by key: an expression, JSON text as it stands, or a nested object. A null leaves its
            member out, and an object in which no member is left is left out itself, unless it is `Always`.

    Returns:
        One JSON text per row, named ``json``; without line breaks unless a `Verbatim` text has some.
    """
    leaves: list[pl.Expr | Verbatim] = []
    tree = _numbered(shape, leaves, always=True)
    texts = [leaf.text if isinstance(leaf, Verbatim) else leaf for leaf in leaves]
    # with_columns, not select: of nothing but literals that makes a single row
    rows = frame.with_columns(text.alias(str(number)) for number, text in enumerate(texts))
    whole = _template(tree, _columns(rows, leaves))
    if not whole.values:
        constant = whole.text.replace("{{", "{").replace("}}", "}")
        return pl.repeat(constant, frame.height, dtype=pl.String, eager=True).alias("json")
    return rows.select(pl.format(whole.text, *whole.values).alias("json")).to_series()


def json_object(frame: pl.DataFrame, columns: Sequence[pl.Expr]) -> pl.Series:
    """Encode columns as one flat JSON object per row, leaving nulls out."""
    return json_text(frame, {column.meta.output_name(): column for column in columns})


def json_value(column: str) -> pl.Expr:
    """A column's values as JSON, whatever their type; null is ``null``."""
    return (
        pl.struct(column)
        .struct.json_encode()
        .str.slice(len(f"{{{json.dumps(column, ensure_ascii=False)}:"))
        .str.strip_suffix("}")
    )


def splice(objects: Sequence[pl.Expr]) -> pl.Expr:
    """Merge JSON objects, given as texts (null: nothing), into one; their keys must differ."""
    inner = [_inside(text) for text in objects]
    members = [pl.when(text != "").then(text) for text in inner]
    return pl.concat_str(pl.lit("{"), pl.concat_str(members, separator=",", ignore_nulls=True), pl.lit("}"))


def _inside(text: pl.Expr) -> pl.Expr:
    """What stands between the braces of an object; slicing is a view, cutting a prefix off is a copy."""
    return text.str.slice(1).str.strip_suffix("}")


@dataclass(frozen=True)
class _Node:
    """An object of a shape, with the number of its column in place of each leaf."""

    members: dict[str, int | _Node]
    always: bool


def _numbered(shape: Shape, leaves: list[pl.Expr | Verbatim], *, always: bool) -> _Node:
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
class _Column:
    """How a column's values get into a template.

    Attributes:
        slot: What stands in the template: quoted or not.
        value: What fills the slot.
        group: Number of the first column that is null in exactly the same rows; None when it has no nulls,
            `_NOWHERE` when it has nothing else.
        spread: Its members join its parent.
    """

    slot: str
    value: pl.Expr
    group: int | None
    spread: bool


_NOWHERE = -1


def _columns(rows: pl.DataFrame, leaves: Sequence[pl.Expr | Verbatim]) -> list[_Column]:
    values = [rows.get_column(str(number)) for number in range(len(leaves))]
    groups = _null_groups(rows, values)
    plain = {
        value.name
        for value, leaf in zip(values, leaves, strict=True)
        if isinstance(leaf, pl.Expr) and value.dtype == pl.String
    }
    unsafe = _to_escape([value for value in values if value.name in plain])
    columns = []
    for value, leaf, group in zip(values, leaves, groups, strict=True):
        dtype, text = value.dtype, pl.col(value.name)
        if value.name in unsafe or not (dtype in (pl.String, pl.Boolean) or dtype.is_integer()):
            text = pl.when(text.is_not_null()).then(json_value(value.name))
        slot = '"{}"' if value.name in plain - unsafe else "{}"
        columns.append(_Column(slot, text, group, isinstance(leaf, Verbatim) and leaf.spread))
    return columns


def _to_escape(texts: Sequence[pl.Series]) -> set[str]:
    """The names of the columns that hold a quote, a backslash or a control character (RFC 8259 section 7).

    They are looked for in all texts at once, at the speed of memory; which columns it was is asked for only
    when something was found.
    """
    if not texts or not _escapes(pl.concat([text.alias("") for text in texts])):
        return set()
    return {text.name for text in texts if _escapes(text.alias(""))}


def _escapes(texts: pl.Series) -> bool:
    joined = texts.to_frame().select(pl.first().str.join(""))
    text = pl.first()
    # one regex for all three would be six times slower: two single bytes are searched for with SIMD
    quotes = text.str.contains(r'["\\]')
    controls = text.cast(pl.Binary).cast(pl.List(pl.UInt8)).list.min() < ord(" ")
    return bool(joined.select(quotes | controls.fill_null(value=False)).item())


def _null_groups(rows: pl.DataFrame, values: Sequence[pl.Series]) -> list[int | None]:
    """What `_Column.group` says, of all columns.

    Only compared with the first column that has as many nulls: a match that is missed costs a few
    nanoseconds per row, nothing else.
    """
    groups: list[int | None] = [None] * len(values)
    first: dict[int, int] = {}
    same = []
    for number, value in enumerate(values):
        nulls = value.null_count()
        if nulls == rows.height:
            groups[number] = _NOWHERE
        elif nulls:
            groups[number] = number
            other = first.setdefault(nulls, number)
            if other != number:
                equal = pl.col(value.name).is_null() == pl.col(str(other)).is_null()
                same.append(pl.when(equal.all()).then(other).otherwise(number).alias(value.name))
    if same:
        for name, group in rows.select(same).row(0, named=True).items():
            groups[int(name)] = group
    return groups


@dataclass(frozen=True)
class _Template:
    """A format for one object and what fills it; `always` says that every row has the object."""

    text: str
    values: list[pl.Expr]
    always: bool


def _template(node: _Node, columns: Sequence[_Column]) -> _Template:
    fixed: list[str] = []
    values: list[pl.Expr] = []
    grouped: dict[int, tuple[list[str], list[pl.Expr]]] = {}
    optional: list[pl.Expr] = []
    for key, member in node.members.items():
        label = json.dumps(key, ensure_ascii=False).replace("{", "{{").replace("}", "}}") + ":"
        if isinstance(member, _Node):
            inner = _template(member, columns)
            if inner.always:
                fixed.append(label + inner.text)
                values += inner.values
            elif inner.values:
                text = pl.format(inner.text, *inner.values)
                optional.append(pl.when(text != "{}").then(pl.format(f",{label}{{}}", text)))
        elif (column := columns[member]).group == _NOWHERE:
            continue
        elif column.spread:
            inside = _inside(column.value)
            optional.append(pl.when(inside != "").then(pl.format(",{}", inside)))
        elif column.group is None:
            fixed.append(label + column.slot)
            values.append(column.value)
        else:
            members, of_members = grouped.setdefault(column.group, ([], []))
            members.append(f",{label}{column.slot}")
            of_members.append(column.value)
    optional += [pl.format("".join(members), *of_members) for members, of_members in grouped.values()]
    rest = [text.fill_null("") for text in optional]
    always = node.always or bool(fixed)
    if fixed or not rest:
        return _Template(f"{{{{{','.join(fixed)}{'{}' * len(rest)}}}}}", values + rest, always)
    return _Template("{{{}}}", [pl.concat_str(rest).str.strip_prefix(",")], always)
