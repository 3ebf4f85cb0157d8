"""Many analytics events of WSO2 at once: texts that differ from one another in their values alone.

A gateway writes the same members in the same order, call after call. So one text of a batch is read by
`event_columns` with a marker in the place of each value; where the markers come out again says what becomes
of these values, and the texts like it are read by columns. What an event means is therefore written down
once. A text counts as read only if what was read of it, put in the places of the markers, gives the text
again, letter by letter: nothing that is damaged or not in its plainest spelling is guessed at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

import polars as pl

from otel_moesif.dialects.wso2_event_text import LINE, SHAPE, event_columns
from otel_moesif.schema import HEADERS

_BLANK = " \t\n\r"  # between the tokens of a JSON text (RFC 8259 section 2)
_AROUND = f":,{{}}[]{_BLANK}"  # what stands around a number or a flag, between two quotes
_BARE = re.compile(r"[^\s:,{}\[\]]+")
_METRICS = "apimMetrics"
_JSON = "json "  # before the name of a column of strings that are still as a JSON text has them
_KEPT = 128  # forms that are known

# Their values decide how others are read, so within a form they do not differ.
_DECIDING = frozenset({_METRICS, "eventType", "properties", "subType", "subtype"})

# A marker tells by its digits which value it stands for. A text that has the like in a name has no form; so
# has one with an escape there, which could be the like.
_MARKER = re.compile("\ue000([0-9]{3})\ue001|10{32}([0-9]{3})")
_LIKE_MARKERS = ("\ue000", "0" * 30, "\\")
_MOST = 1000

# Where Python (and so everything that is read without a form) writes a float without an exponent.
_PLAIN = (1e-4, 1e15)


class _Kind(Enum):
    TEXT = None
    WHOLE = re.compile(r"-?\d{1,18}")
    DECIMAL = re.compile(r"-?\d{1,15}\.\d{1,17}")
    FLAG = re.compile("true|false")

    @classmethod
    def of(cls, bare: str) -> _Kind | None:
        kinds = (kind for kind in cls if kind.value and kind.value.fullmatch(bare))
        return next(kinds, None)

    def fits(self, dtype: Any) -> bool:
        """Whether a column of the event is read from it by polars alone as by way of a Python object."""
        return dtype == pl.String or self is (_Kind.FLAG if dtype == pl.Boolean else _Kind.WHOLE)


@dataclass(frozen=True)
class _Value:
    """One value of a text: the piece between two quotes that it is, or what a piece has between its ends."""

    piece: int
    kind: _Kind
    before: str = ""
    after: str = ""

    def marked(self, number: int) -> str:
        marker = f"\ue000{number:03}\ue001" if self.kind is _Kind.TEXT else f"1{'0' * 32}{number:03}"
        return f"{self.before}{marker}{self.after}"

    def read(self, pieces: int) -> pl.Expr:
        """It of every text; something else or null where a text has a value of another kind there."""
        piece = pl.col("piece").gather_every(pieces, self.piece)
        bare = piece.str.strip_chars(_AROUND)
        match self.kind:
            case _Kind.TEXT:
                return piece
            case _Kind.WHOLE:
                return bare.cast(pl.Int64, strict=False)
            case _Kind.FLAG:
                return bare == "true"
        number = bare.cast(pl.Float64, strict=False)
        return pl.when(number.abs().is_between(*_PLAIN) | (number == 0)).then(number)


@dataclass(frozen=True)
class Form:
    """What texts have in common that differ in their values alone.

    Attributes:
        pieces: How many pieces a text has, cut at its quotes.
        reads: The columns that are made of the pieces: ``first``, and each value under its number.
        same: Whether these, put in their places, give the text.
        texts: The columns of strings.
        as_json: Those that a field has in the middle of a JSON text, for which they stay as they are there.
        fields: `SHAPE`, made of the columns.
    """

    pieces: int
    reads: Sequence[pl.Expr]
    same: pl.Expr
    texts: Sequence[str]
    as_json: Sequence[str]
    fields: Sequence[pl.Expr]

    def read(self, rows: pl.DataFrame, pieces: pl.Series) -> pl.DataFrame:
        """Read the texts that have this form.

        Args:
            rows: ``row`` and ``text``, one per text of as many pieces, without control characters.
            pieces: The pieces of all of them, one text's after the other's.

        Returns:
            ``row`` of those that have this form, and the columns of `SHAPE`.
        """
        frame = pieces.alias("piece").to_frame().select_seq(self.reads)
        frame = frame.with_columns_seq(rows["row"], rows["text"])
        same = frame.select_seq(self.same).to_series()
        if not same.all(ignore_nulls=False):
            frame = frame.filter(same)
        return self._decoded(frame, pieces).select_seq("row", *self.fields)

    def _decoded(self, frame: pl.DataFrame, pieces: pl.Series) -> pl.DataFrame:
        """The strings without escapes."""
        frame = frame.with_columns_seq(pl.col(name).alias(_JSON + name) for name in self.as_json)
        if not frame["text"].str.contains("\\", literal=True).any():
            return frame
        escaped = pieces.filter(pieces.str.contains("\\", literal=True)).unique()
        plain = [_unescaped(piece) for piece in escaped]
        as_json = [None if text is None else json.dumps(text, ensure_ascii=False)[1:-1] for text in plain]
        json_names = [_JSON + name for name in self.as_json]
        frame = frame.with_columns_seq(
            pl.col(self.texts).replace(escaped, pl.Series(plain, dtype=pl.String)),
            pl.col(json_names).replace(escaped, pl.Series(as_json, dtype=pl.String)),
        )
        return frame.drop_nulls([*self.texts, *json_names])


def form_of(text: str) -> Form | None:
    """The form of one text.

    Returns:
        None if the text is no event, or has a value of a type that WSO2 does not give it there.
    """
    pieces = text.split('"')
    if len(pieces) % 2 == 0 or len(pieces) > _MOST:
        return None
    line = LINE.search(pieces[0])
    if line:
        pieces[0] = pieces[0][line.start() :]
    values = tuple(_values(pieces))
    for value in values:
        pieces[value.piece] = value.before + value.after
    if any(mark in piece for mark in _LIKE_MARKERS for piece in pieces):
        return None
    for number, value in enumerate(values):
        pieces[value.piece] = value.marked(number)
    return _learned('"'.join(pieces), values, is_line=line is not None)


@lru_cache(maxsize=_KEPT)
def _learned(marked: str, values: tuple[_Value, ...], *, is_line: bool) -> Form | None:
    found = {name: value for name, value in event_columns(marked).items() if value is not None}
    columns: dict[str, pl.Expr] = {}
    for name, dtype in SHAPE.items():
        column = _column(found.get(name), dtype, values)
        if column is None:
            return None
        columns[name] = column.cast(dtype, strict=False).alias(name)
    if not found:
        return None
    pieces = marked.count('"') + 1
    used = {name for column in columns.values() for name in column.meta.root_names()}
    texts = [f"{number}" for number, value in enumerate(values) if value.kind is _Kind.TEXT]
    return Form(
        pieces,
        [
            pl.col("piece").gather_every(pieces).alias("first"),
            *(value.read(pieces).alias(f"{number}") for number, value in enumerate(values)),
        ],
        _same(marked, is_line=is_line),
        texts,
        [name for name in texts if _JSON + name in used],
        list(columns.values()),
    )


def _same(marked: str, *, is_line: bool) -> pl.Expr:
    if not is_line:
        return _spliced(marked) == pl.col("text")
    head, quote, rest = marked.partition('"')
    first = pl.col("first")
    return (
        (_spliced(quote + rest) == pl.col("text").str.strip_prefix(first))
        # what stands before the event is of no account, unless it could be taken for one
        & first.str.ends_with(head)
        & (first.str.count_matches(_METRICS, literal=True) == 1)
        & (first.str.count_matches("{", literal=True) == 1)
    )


def _values(pieces: Sequence[str]) -> Iterator[_Value]:
    """The values of a text that may differ within its form: not null, and no two numbers side by side."""
    key = ""
    for number, piece in enumerate(pieces[1:], start=1):
        if number % 2 and pieces[number + 1].lstrip(_BLANK).startswith(":"):
            key = piece
        elif key in _DECIDING:
            continue
        elif number % 2:
            yield _Value(number, _Kind.TEXT)
        elif len(found := list(_BARE.finditer(piece))) == 1 and (kind := _Kind.of(found[0][0])):
            yield _Value(number, kind, piece[: found[0].start()], piece[found[0].end() :])


def _column(found: Any, dtype: Any, values: Sequence[_Value]) -> pl.Expr | None:
    """What a field is, from what it was when markers stood for the values; None: nothing that is foreseen."""
    if found is None:
        return pl.lit(None)
    if dtype == HEADERS:
        pairs = [
            pl.struct(_header(one["key"]).alias("key"), _header(one["value"], values).alias("value"))
            for one in found
        ]
        return pl.concat_list(pairs) if pairs else _constant([], HEADERS)
    text = str(found)
    marker = _MARKER.fullmatch(text)
    if marker:
        return pl.col(_name(marker)) if values[int(_name(marker))].kind.fits(dtype) else None
    if _MARKER.search(text):
        return _spliced(text, values) if dtype == pl.String else None
    return _constant(found, dtype)


def _header(text: str | None, values: Sequence[_Value] = ()) -> pl.Expr:
    if text is None:
        return pl.lit(None, pl.String)
    marker = _MARKER.fullmatch(text)
    return pl.col(_name(marker)).cast(pl.String) if marker else _spliced(text, values)


def _constant(value: Any, dtype: Any) -> pl.Expr:
    return pl.lit(pl.Series([value], dtype=dtype, strict=False)).first()


def _name(marker: re.Match[str]) -> str:
    """The column of the value that a marker stands for."""
    return f"{int(marker[1] or marker[2])}"


def _spliced(text: str, as_json: Sequence[_Value] = ()) -> pl.Expr:
    """A text with the values in the places of their markers; of those that are given, as JSON has them."""

    def column(marker: re.Match[str]) -> pl.Expr:
        name = _name(marker)
        return pl.col(_JSON + name if as_json and as_json[int(name)].kind is _Kind.TEXT else name)

    columns = [column(marker) for marker in _MARKER.finditer(text)]
    return pl.format(_MARKER.sub("{}", text.replace("{", "{{").replace("}", "}}")), *columns)


def _unescaped(piece: str) -> str | None:
    """What a JSON string stands for, given without its quotes; None where it is none."""
    try:
        text: str = json.loads(f'"{piece}"')
    except ValueError:
        return None
    return text.encode(errors="replace").decode()  # half of a surrogate pair cannot be written
