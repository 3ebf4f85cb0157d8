"""Lists of headers, as one long table with a row per header: names come from outside and are no columns."""

from __future__ import annotations

import polars as pl

from otel_moesif.processors.distinct import on_distinct
from otel_moesif.processors.redact.texts import Rule
from otel_moesif.processors.redact.values import MASK


def redacted(lists: pl.Series, names: str, rule: Rule) -> pl.Series:
    """Mask the values of some headers, and apply a rule to those of the others.

    Args:
        lists: Per event a list of (key, value), or null.
        names: Expression for whole names, in lower case and with dashes.
        rule: For the values.

    Returns:
        The same lists; those in which nothing was found are untouched.
    """
    if lists.null_count() == len(lists):
        return lists
    rows = lists.alias("header").to_frame().with_row_index("row")
    long = rows.filter(pl.col("header").list.len() > 0).explode("header").unnest("header")
    if not long.height:
        return lists
    known = long["key"].unique()
    # gateways that write headers as variables (CGI's, NGINX's) have underscores for dashes
    name = known.str.strip_chars().str.to_lowercase().str.replace_all("_", "-", literal=True)
    secrets = known.filter(name.str.contains(f"^(?:{names})$").fill_null(value=False))
    secret = long["key"].is_in(secrets.implode()).fill_null(value=False)
    values = on_distinct(long["value"].set(secret, None), rule)
    values = values.set(secret & long["value"].is_not_null(), MASK)
    long = long.with_columns(new=values)
    changed = long.filter(pl.col("new").ne_missing(pl.col("value")))["row"].unique()
    if not len(changed):
        return lists
    header = pl.struct("key", value="new").alias("new")
    some = long.filter(pl.col("row").is_in(changed.implode()))
    remade = some.select("row", header).group_by("row", maintain_order=True).agg("new")
    joined = rows.join(remade, on="row", how="left", maintain_order="left")
    return joined.select(pl.coalesce("new", "header").alias(lists.name)).to_series()
