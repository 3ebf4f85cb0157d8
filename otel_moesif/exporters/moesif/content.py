"""Headers and bodies, as Moesif's event model wants them (apidocs ``_events-api.md``)."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from otel_moesif.json_columns import any_to_escape, in_one_thread, json_value
from otel_moesif.processors.distinct import on_distinct

_ODD = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: spreads row numbers over all of 64 bits


def captured_headers(lists: pl.Series, column: str, names: Sequence[str] = ()) -> list[pl.Series]:
    """Encode lists of headers as members of JSON objects; values of one name are joined by comma.

    Args:
        lists: Per event a list of (key, value); the type is `otel_moesif.schema.HEADERS`.
        column: What to name the result.
        names: Of headers, in lower case, of which it matters whether an event has them.

    Returns:
        ``column``: texts ``"name":"value","other":"value"``, what stands in the JSON object without braces;
        null where an event has no headers. ``column name``: whether the event has the header of
        this name, only for names that any event has. Nothing when no event has any header.
    """
    if lists.null_count() == len(lists):
        return []
    key, value = _parts(lists)
    distinct, one_each = key.unique(), _is_one_each(lists, key)
    if not _is_regular(lists, key, value, distinct, one_each=one_each):
        lists = _made_regular(lists)
        key, value = _parts(lists)
        distinct, one_each = key.unique(), _is_one_each(lists, key)
    if key.null_count() == len(key):
        return []
    as_it_is = not any_to_escape(pl.concat([distinct, value.alias("key")]))
    if one_each:  # no lists are needed
        member = _member(pl.col("key"), pl.col("value"), as_it_is=as_it_is).alias(column)
        found = [pl.DataFrame([key, value]).select_seq(member, *in_one_thread())[column]]
    else:
        name, text = (pl.element().struct.field(field) for field in ("key", "value"))
        members = lists.list.eval(_member(name, text, as_it_is=as_it_is)).list.join(",").alias(column)
        found = [members.set(members == "", None)]
    for wanted in names:
        if (key == wanted).any():
            has = lists.list.eval(pl.element().struct.field("key") == wanted).list.any()
            found.append(has.fill_null(value=False).alias(f"{column} {wanted}"))
    return found


def _member(name: pl.Expr, text: pl.Expr, *, as_it_is: bool) -> pl.Expr:
    if as_it_is:
        return pl.format('"{}":"{}"', name, text)
    member = pl.format("{}:{}", json_value(name, "key"), json_value(text, "value"))
    return pl.when(name.is_not_null()).then(member)


def _parts(lists: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Names and values of all headers; null in both where an event has no list, no row where it is empty."""
    long = lists.explode().struct.unnest()
    return long["key"], long["value"]


def _is_one_each(lists: pl.Series, key: pl.Series) -> bool:
    """Whether `_parts` has exactly one row per event."""
    return len(key) == len(lists) and lists.list.len().max() == 1


def _is_regular(
    lists: pl.Series, key: pl.Series, value: pl.Series, distinct: pl.Series, *, one_each: bool
) -> bool:
    """Whether each name is in lower case and stands once in its list, and neither names nor values are null.

    Args:
        lists: The headers of each event.
        key: What `_parts` makes of them.
        value: The same.
        distinct: The names.
        one_each: What `_is_one_each` says.
    """
    text = "".join(filter(None, distinct.to_list()))
    if text != text.lower():
        return False
    if one_each:
        # one without a name and a value is none
        return not (key.null_count() or value.null_count()) or bool((key.is_null() == value.is_null()).all())
    without = len(key) - int(lists.list.len().sum())
    if not key.null_count() == value.null_count() == without:
        return False
    rows = lists.alias("header").to_frame().with_row_index("row").explode("header")
    same = pl.col("header").struct.field("key").hash() + pl.col("row").cast(pl.UInt64) * _ODD
    return bool(rows.select_seq(same.n_unique()).item() == rows.height)


def _made_regular(lists: pl.Series) -> pl.Series:
    """Bring headers into the form that `_is_regular` describes.

    Names come from outside, so they never become columns: the headers become a long table with one row per
    header, and lists again.
    """
    frame = lists.alias("header").to_frame().with_row_index("row")
    long = frame.explode("header").unnest("header").filter(pl.col("key").is_not_null())
    lower = on_distinct(long["key"], lambda names: names.str.to_lowercase())
    joined = _joined(long.with_columns(lower, pl.col("value").fill_null("")))
    new = joined.group_by("row", maintain_order=True).agg(pl.struct("key", "value").alias("header"))
    return frame.select("row").join(new, on="row", how="left", maintain_order="left")["header"]


def _joined(long: pl.DataFrame) -> pl.DataFrame:
    """Put the values of one name together where its first one stood."""
    values = long.group_by("row", "key", maintain_order=True).agg("value")
    return values.with_columns(pl.col("value").list.join(","))


def bodies(frame: pl.DataFrame, way: str, most: int) -> list[pl.Series]:
    """Make JSON texts of captured bodies.

    What claims to be JSON and is not (cut off, or plain text) would make the whole batch unreadable. It goes
    as base64, which is what Moesif's SDKs do with any body that is not a JSON object or array. A body that is
    too long is cut and goes as base64, as Moesif itself truncates (apidocs ``_errors.md``): a cut body is no
    JSON any more, and a cut between the bytes of a character is no text.

    Args:
        frame: The events.
        way: ``request`` or ``response``.
        most: Bytes that a body may have, as it is sent; 0: bodies are left out.

    Returns:
        ``_requestBody``: JSON texts, ``_requestEncoding``: ``json`` or ``base64``, ``_requestWhole``: bytes
        that the body had before it was cut, null where it was not. Nothing when no event has a body.
    """
    column, encoding = f"{way}Body", f"{way}BodyEncoding"
    if not most or frame[column].null_count() == frame.height:
        return []
    whole = pl.col(column)
    rows = frame.select_seq(
        whole.alias("text"),
        pl.col(encoding).eq_missing("base64").alias("is_base64"),
        whole.str.len_bytes().alias("size"),
    )
    text, binary, size = pl.col("text"), pl.col("text").cast(pl.Binary), pl.col("size")
    # json_path_match gives null for what it cannot parse
    is_json = (
        (size <= most)
        & ~pl.col("is_base64")
        & text.str.contains(r"^\s*[\[{]")
        & text.str.json_path_match("$").is_not_null()
    )
    encoded = pl.col("is_base64") & text.str.decode("base64", strict=False).is_not_null()
    rows = rows.with_columns_seq(is_json=is_json.fill_null(value=False), encoded=encoded)
    text_most = most // 4 * 4  # base64 makes four characters of three bytes
    # of base64 itself the characters count; they stay whole groups of four, so it stays decodable
    already = text.str.slice(0, text_most)
    fresh = binary.bin.slice(0, text_most // 4 * 3).bin.encode("base64")
    base64 = pl.when("encoded").then(already).otherwise(fresh)
    padding = size - text.str.strip_chars_end("=").str.len_bytes()
    was = pl.when("encoded").then((size - padding) * 3 // 4).otherwise(size)
    sent = pl.when("encoded").then(size).otherwise((size + 2) // 3 * 4)
    cut = ~pl.col("is_json") & (sent > text_most)
    some = text.is_not_null()
    value = pl.when("is_json").then(text).when(some).then(pl.format('"{}"', base64))
    name = pl.when("is_json").then(pl.lit("json")).when(some).then(pl.lit("base64"))
    return rows.select_seq(
        value.alias(f"_{way}Body"),
        name.alias(f"_{way}Encoding"),
        pl.when(cut).then(was).alias(f"_{way}Whole"),
    ).get_columns()
