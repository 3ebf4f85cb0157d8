"""A batch of analytics events: one row per API call."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any

import polars as pl

from otel_moesif.errors import InvalidData
from otel_moesif.json_shape import Shape, Verbatim, json_text
from otel_moesif.schema import FIELDS, SCHEMA, Field, Place


class Events:
    """Immutable table of analytics events; its columns and their meaning are `otel_moesif.schema.FIELDS`.

    Args:
        frame: Any subset of the columns. Missing columns and values get the documented defaults.
    """

    __slots__ = ("__weakref__", "frame")

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame if frame.schema == SCHEMA else _complete(frame)

    def __len__(self) -> int:
        return self.frame.height

    def __repr__(self) -> str:
        return f"<Events: {len(self)}>"

    @classmethod
    def none(cls) -> Events:
        """No events."""
        return cls(SCHEMA.to_frame())

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
        """Read what `to_ipc` wrote, of this version or an older one (unknown columns are left out).

        Raises:
            InvalidData: It is not that, or is damaged.
        """
        try:
            frame = pl.read_ipc(io.BytesIO(data))
            return cls(frame.select(name for name in frame.columns if name in SCHEMA))
        except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001 - whatever polars finds wrong
            raise InvalidData(f"damaged in the journal: {type(error).__name__}") from None

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
