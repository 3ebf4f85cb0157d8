"""Answers that depend on a value alone are found once per distinct value, and spread over the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl


def per_distinct(values: pl.Series, answer: Callable[[list[str]], Sequence[Any]], dtype: Any) -> pl.Series:
    """Give each row what its value is answered with; null stays null.

    Positions are those within an Enum of the batch's own values: half of what a join or ``replace_strict``
    costs at 1,000 rows.

    Args:
        values: Texts, one per row.
        answer: Distinct texts → as many answers.
        dtype: The answers' polars type.

    Returns:
        One answer per row.
    """
    distinct = values.drop_nulls().unique()
    if not len(distinct):
        return constant(None, len(values), dtype)
    answers = pl.Series(answer(distinct.to_list()), dtype=dtype)
    return answers.gather(values.cast(pl.Enum(distinct)).to_physical())


def constant(value: object, rows: int, dtype: Any) -> pl.Series:
    """The same value in so many rows (``pl.repeat`` takes ten times as long)."""
    return pl.Series([value], dtype=dtype).new_from_index(0, rows)
