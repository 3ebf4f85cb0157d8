"""Custom properties: members of one JSON object per event, read and written by columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import polars as pl

from otel_moesif.json_shape import json_value, splice
from otel_moesif.processors.columns import PROPERTY
from otel_moesif.processors.distinct import by_distinct

COLUMN = "customProperties"


def with_properties(frame: pl.DataFrame, names: Collection[str]) -> pl.DataFrame:
    """Add a text column ``property.<name>`` for each of these properties.

    A text is itself, anything else its JSON; a property that an event does not have is null.
    """
    return frame.with_columns(read_property(name).alias(f"{PROPERTY}{name}") for name in names)


def read_property(name: str) -> pl.Expr:
    """One property as text."""
    return pl.col(COLUMN).str.json_path_match(f"$['{name}']")


def as_json(values: pl.Series) -> pl.Series:
    """Values of any type as JSON texts; null stays null."""
    name = "value"
    frame = values.alias(name).to_frame()
    return frame.select(pl.when(pl.col(name).is_not_null()).then(json_value(name))).to_series()


def with_members(texts: pl.Series, members: Mapping[str, pl.Series], where: pl.Series) -> pl.Series:
    """Set properties.

    Args:
        texts: The column `COLUMN`.
        members: Property → its value per event as JSON; null takes the property away.
        where: In which events; the others stay as they are.
    """
    if not where.any():
        return texts
    concerned = texts.set(~where, None)
    rest = without(concerned, members)
    rows = pl.DataFrame({"old": texts, "rest": rest, "where": where})
    rows = rows.with_columns(value.alias(f"+{name}") for name, value in members.items())
    pieces = [pl.format(f"{_label(name)}{{}}", pl.col(f"+{name}")) for name in members]
    added = pl.concat_str(pieces, separator=",", ignore_nulls=True)
    whole = splice([pl.col("rest"), pl.format("{{{}}}", added)])
    empty = (whole == "{}") & pl.col("old").is_null()
    return rows.select(
        pl.when(~pl.col("where")).then("old").when(~empty).then(whole).alias(COLUMN)
    ).to_series()


def _label(name: str) -> str:
    return (json.dumps(name, ensure_ascii=False) + ":").replace("{", "{{").replace("}", "}}")


def without(texts: pl.Series, names: Collection[str]) -> pl.Series:
    """Take properties away."""

    def edit(members: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in members.items() if key not in names}

    return edited(texts, names, edit)


def edited(
    texts: pl.Series, names: Collection[str], edit: Callable[[dict[str, Any]], dict[str, Any]]
) -> pl.Series:
    """Change the objects that have one of these properties, each distinct object once.

    What is no JSON object, which no component should have made one of, becomes an empty one.
    """
    # a key may be written with escapes; where there are any, the parser has to decide
    quoted = [json.dumps(name, ensure_ascii=False) for name in names]
    has = texts.str.contains_any([*quoted, "\\"]).fill_null(value=False)
    if not has.any():
        return texts

    def rewrite(text: str) -> str:
        try:
            members = json.loads(text)
        except (ValueError, RecursionError):
            return "{}"
        return compact(edit(members)) if isinstance(members, dict) else "{}"

    new = by_distinct(texts.set(~has, None), rewrite, beyond="{}")
    return new.set(~has, None).fill_null(texts.set(has, None)) if not has.all() else new


def compact(value: Any) -> str:
    """JSON without spaces; a lone surrogate, which no UTF-8 text can hold, stays an escape."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return text
