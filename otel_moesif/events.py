"""A batch of analytics events: one row per API call."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from otel_moesif.schema import FIELDS, SCHEMA, Place


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
        """Each event as the guide documents it, one JSON text per row; missing values are left out.

        Response events carry no error fields, fault events no latencies. Times are ISO 8601 UTC with
        milliseconds and ``Z``.
        """
        fault = pl.col("eventType") == "fault"
        rows = self.frame.with_row_index("row")
        parts = [_to_json(rows.filter(~fault), "response"), _to_json(rows.filter(fault), "fault")]
        return pl.concat(parts).sort("row")["json"]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Each event as a dict, in the shape of `to_json`: for exporters that want rows."""
        return [json.loads(text) for text in self.to_json()]


def _complete(frame: pl.DataFrame) -> pl.DataFrame:
    """Add missing columns, fill missing values and cast to the schema's types."""
    unknown = [name for name in frame.columns if name not in SCHEMA]
    if unknown:
        raise ValueError(f"events have no column {', '.join(unknown)} (see otel_moesif.schema.FIELDS)")
    columns = []
    for field in FIELDS:
        present = field.name in frame.columns
        column = (
            pl.col(field.name).cast(field.dtype) if present else pl.lit(None, field.dtype).alias(field.name)
        )
        if field.default is not None:
            column = column.fill_null(pl.lit(field.default, field.dtype))
        if field.place is Place.LATENCY:
            column = pl.when(_event_type(frame) == "response").then(column)
        columns.append(column.alias(field.name))
    return frame.select(columns) if frame.width else SCHEMA.to_frame()


def _event_type(frame: pl.DataFrame) -> pl.Expr:
    return pl.col("eventType").fill_null("response") if "eventType" in frame.columns else pl.lit("response")


def iso(column: str) -> pl.Expr:
    """A timestamp column as ``2022-01-20T03:34:36.451Z``."""
    return pl.col(column).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")


def json_object(frame: pl.DataFrame, columns: Sequence[pl.Expr]) -> pl.Series:
    """Encode columns as one JSON object per row, leaving nulls out.

    Columns that have a value in every row are encoded in one pass; each of the others becomes a member of
    its own, put in where it is not null. (Cutting nulls out of the text by regex costs several times more.)
    """
    selected = frame.select(columns)
    full = [name for name in selected.columns if not selected[name].null_count()]
    some = [name for name in selected.columns if 0 < selected[name].null_count() < selected.height]
    members = [pl.when(pl.col(name).is_not_null()).then(_object(name)) for name in some]
    if full:
        members.insert(0, _object(*full))
    return selected.select(splice(members).alias("json")).to_series() if members else _empty(selected.height)


def splice(objects: Sequence[pl.Expr]) -> pl.Expr:
    """Merge JSON objects, given as texts (null: nothing), into one; their keys must differ."""
    inner = [text.str.strip_prefix("{").str.strip_suffix("}") for text in objects]
    members = [pl.when(text != "").then(text) for text in inner]
    return pl.concat_str(pl.lit("{"), pl.concat_str(members, separator=",", ignore_nulls=True), pl.lit("}"))


def _object(*names: str) -> pl.Expr:
    return pl.struct(names).struct.json_encode()


def _empty(height: int) -> pl.Series:
    return pl.repeat("{}", height, dtype=pl.String, eager=True).alias("json")


def _to_json(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    carried = [field for field in FIELDS if (field.response if kind == "response" else field.fault)]
    event = [
        iso(field.name) if isinstance(field.dtype, pl.Datetime) else pl.col(field.name)
        for field in carried
        if field.place in {Place.EVENT, Place.LATENCY}
    ]
    properties = [pl.col(field.name) for field in carried if field.place is Place.PROPERTIES]
    texts = rows.select("row", "customProperties").with_columns(
        json_object(rows, event).alias("event"),
        json_object(rows, [*properties, pl.col("userName")]).alias("properties"),
    )
    nested = pl.concat_str(
        pl.lit('{"properties":'), splice([pl.col("properties"), pl.col("customProperties")]), pl.lit("}")
    )
    return texts.select("row", splice([pl.col("event"), nested]).alias("json"))
