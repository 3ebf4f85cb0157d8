"""Times as ISO 8601, at a fifth of what ``dt.strftime`` costs, which formats each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import polars as pl

from otel_moesif.schema import TIMESTAMP

_SECOND = '"%Y-%m-%dT%H:%M:%S'


def iso_json(times: Sequence[pl.Series]) -> list[pl.Series]:
    """Write times as JSON texts: ``"2022-01-20T03:34:36.451Z"``, quotes included.

    A batch spans few seconds, so each of them is written once and looked up, as are the milliseconds.

    Args:
        times: Columns of `otel_moesif.schema.TIMESTAMP`, of the same length; null stays null.

    Returns:
        As many columns of texts, without names.
    """
    together = pl.concat([time.alias("") for time in times]).cast(pl.Int64)
    first, last = together.min(), together.max()
    if not isinstance(first, int) or not isinstance(last, int):
        texts = pl.Series("", [None], dtype=pl.String).new_from_index(0, len(together))
    else:
        start = first // 1000
        seconds = last // 1000 - start + 1
        since = together - start * 1000
        millisecond = since % 1000
        if seconds <= len(together):
            # as floats, since whole numbers take three times as long to divide; all of this is exact
            second = ((since - millisecond) / 1000).cast(pl.UInt32)
            second_texts = _seconds(pl.int_range(start, start + seconds, eager=True))[second]
        else:
            second_texts = _seconds(together // 1000)
        texts = second_texts + _milliseconds()[millisecond.cast(pl.UInt32)]
    rows = len(times[0])
    return [texts.slice(number * rows, rows) for number in range(len(times))]


def _seconds(since_1970: pl.Series) -> pl.Series:
    return (since_1970 * 1000).cast(TIMESTAMP).dt.strftime(_SECOND)


@cache
def _milliseconds() -> pl.Series:
    """The end of the text for each millisecond of a second."""
    return pl.Series("", [f'.{number:03}Z"' for number in range(1000)])
