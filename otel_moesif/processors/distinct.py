"""Functions that polars does not have, called once per distinct value instead of once per row."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

MOST = 100_000
"""Distinct values of one column that are looked at per batch. A batch has some 8,192 records, so that only
exploded columns (headers, numbers in bodies) can come near; what is beyond counts as the worst case."""


def by_distinct(
    values: pl.Series, function: Callable[[str], str | None], beyond: str | None = None
) -> pl.Series:
    """Put each distinct text through a function of Python's.

    Args:
        values: Texts; null stays null.
        function: Text → text or null.
        beyond: What stands for values beyond the first `MOST` distinct ones.
    """

    def mapped(distinct: pl.Series) -> pl.Series:
        new = [function(text) for text in distinct.head(MOST)]
        return pl.Series([*new, *[beyond] * (len(distinct) - len(new))], dtype=pl.String)

    return on_distinct(values, mapped)


def on_distinct(values: pl.Series, function: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Put the distinct texts through a function of columns, and give each row what its text became."""
    distinct = values.drop_nulls().unique()
    if not len(distinct):
        return values
    new = function(distinct)
    if new.equals(distinct, check_names=False):
        return values
    return values.replace_strict(distinct, new, default=None, return_dtype=pl.String)
