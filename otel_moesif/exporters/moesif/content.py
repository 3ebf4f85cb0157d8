"""Headers and bodies, as Moesif's event model wants them (apidocs ``_events-api.md``)."""

from __future__ import annotations

import polars as pl

from otel_moesif.events import json_value

_NONE = pl.lit(None, pl.String)


def headers(frame: pl.DataFrame, column: str) -> pl.Expr | None:
    """Encode lists of headers as JSON objects of texts; values of one name are joined by comma.

    Names come from outside, so they never become columns: those events that have headers at all become a
    long table with one row per header.

    Args:
        frame: The events.
        column: The column that holds lists of (key, value).

    Returns:
        One JSON object per event, null where it has no headers; None when no event has any.
    """
    if frame[column].null_count() == frame.height:
        return None
    row = pl.int_range(pl.len()).alias("row")
    some = frame.select(row, column).filter(pl.col(column).list.len() > 0)
    if not some.height:
        return None
    long = some.explode(column).unnest(column).filter(pl.col("key").is_not_null())
    # collected, then joined: str.join() within agg() is called once per group, at three times the cost
    merged = long.group_by("row", pl.col("key").str.to_lowercase(), maintain_order=True).agg("value")
    merged = merged.with_columns(pl.col("value").list.join(","))
    members = merged.select("row", pl.format("{}:{}", json_value("key"), json_value("value")).alias("member"))
    objects = members.group_by("row", maintain_order=True).agg("member")
    texts = frame.select(row).join(objects, on="row", how="left", maintain_order="left")
    return pl.lit(texts.select(pl.format("{{{}}}", pl.col("member").list.join(","))).to_series())


def has_header(column: str, name: str) -> pl.Expr:
    """Whether a list of headers has one of this name, given in lower case."""
    key = pl.element().struct.field("key").str.to_lowercase()
    return pl.col(column).list.eval(key == name).list.any().fill_null(value=False)


def body(frame: pl.DataFrame, column: str, encoding: str) -> tuple[pl.Expr, pl.Expr]:
    """A captured body as JSON text, and its ``transfer_encoding``.

    What claims to be JSON and is not (cut off, or plain text) would make the whole batch unreadable. It
    goes as base64, which is what Moesif's SDKs do with any body that is not a JSON object or array.

    Args:
        frame: The events.
        column: The column that holds the body.
        encoding: The column that says ``json`` or ``base64``; null means json.

    Returns:
        Two columns, null where there is no body.
    """
    if frame[column].null_count() == frame.height:
        return _NONE, _NONE
    text = pl.col(column)
    is_base64 = pl.col(encoding).eq_missing("base64")
    # json_path_match gives null for what it cannot parse
    is_json = ~is_base64 & text.str.contains(r"^\s*[\[{]") & text.str.json_path_match("$").is_not_null()
    is_encoded = is_base64 & text.str.decode("base64", strict=False).is_not_null()
    base64 = pl.when(is_encoded).then(text).otherwise(text.str.encode("base64"))
    value = pl.when(is_json).then(text).otherwise(pl.format('"{}"', base64))
    name = pl.when(is_json).then(pl.lit("json")).otherwise(pl.lit("base64"))
    return value, pl.when(text.is_not_null()).then(name)
