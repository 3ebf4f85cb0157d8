"""Moesif's dynamic sampling, by columns: which rate a call has, whether it is kept, what it weighs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import polars as pl
import polars_hash as plh

from otel_moesif.exporters.moesif.app_config import EVERYTHING, AppConfig
from otel_moesif.exporters.moesif.distinct_values import constant, per_distinct

Precedence: TypeAlias = Literal["docs_min", "first_match"]

MAX_WEIGHT = 2**31 - 1
# Any number: it makes the choice independent of that of other samplers who hash the same ids.
_SEED = 0x6D6F_6573_6966
_PERCENT = 100 / 2**64  # of a 64-bit hash


@dataclass(frozen=True)
class Sampled:
    """What became of a batch.

    Attributes:
        keep: Boolean, one per call.
        weight: Int32, how many calls each stands for, if it is kept; at least 1.
    """

    keep: pl.Series
    weight: pl.Series


def sample(calls: pl.DataFrame, config: AppConfig, precedence: Precedence) -> Sampled:
    """Decide about a batch; the same calls and the same config give the same answer.

    A call without a transaction id cannot be decided upon alike twice: it is kept and stands for itself,
    unless its rate is 0.

    Args:
        calls: As for `rates`; also ``transaction_id`` (String) and ``weight`` (Int32, nulls count as 1).
        config: What Moesif set.
        precedence: As for `rates`.
    """
    rate = rates(calls, config, precedence)
    ids = calls["transaction_id"]
    if ids.null_count():
        rate = rate.set(ids.is_null() & (rate > 0), EVERYTHING)
    return Sampled(keep(ids, rate), weights(rate, calls["weight"]))


def rates(calls: pl.DataFrame, config: AppConfig, precedence: Precedence) -> pl.Series:
    """The rate of each call.

    A user's own rate counts before the company's. ``docs_min``: the least of that and of the first regex
    rule that matches (Moesif's guide "How To Use Dynamic Sampling"; moesifapi-java ``getSampleRateToUse``).
    ``first_match``: regex, user, company, whichever is first (moesifwsgi ``app_config.py``, Moesif's
    Firehose function). Where nothing fits, the global rate. See moesif.md §2.1.

    Args:
        calls: One row per call: ``user_id``, ``company_id``, ``verb``, ``uri``, ``ip_address`` (String) and
            ``status`` (Int); for rules about them ``request_headers``, ``response_headers`` (lists of key and
            value) and ``request_body`` (JSON text). Rules about columns that are not there never match.
        config: What Moesif set.
        precedence: Which of several rates counts.

    Returns:
        Float64, percent, no nulls.
    """
    if config.keeps_everything:
        return constant(EVERYTHING, calls.height, pl.Float64)
    found = pl.DataFrame(
        {
            "user": _looked_up(calls["user_id"], config.user_sample_rate),
            "company": _looked_up(calls["company_id"], config.company_sample_rate),
            "regex": config.regex_config.first_match(calls),
        }
    )
    if precedence == "docs_min":
        # of what is known: the least of one is that one
        first = [pl.min_horizontal(pl.coalesce("user", "company"), "regex")]
    else:
        first = [pl.col("regex"), pl.col("user"), pl.col("company")]
    return found.select(pl.coalesce(*first, pl.lit(config.sample_rate)).alias("rate")).to_series()


def weights(rate: pl.Series, own: pl.Series) -> pl.Series:
    """How many calls a kept call stands for.

    Moesif's share is 1 at rate 0, else floor(100 / rate) (all SDKs but litellm, moesif.md §2.2), which is
    exact for 1, 2, 4, 5, 10, 20, 25, 50 and 100. Between them the weighted sum is too small, on average by
    rate · floor(100 / rate) / 100: 30 → 90 %, 40 → 80 %, 60 → 60 %, 51 → 51 %, 99 → 99 %. What OpenTelemetry
    sampled before is multiplied, where Moesif's Firehose function overwrites it.

    Args:
        rate: Float64, percent.
        own: How many calls each stands for already, at least 1; null counts as 1.

    Returns:
        Int32, from 1 to `MAX_WEIGHT`.
    """
    of_each = pl.col("own").cast(pl.Float64).fill_null(1).clip(1)
    share = pl.when(pl.col("rate") > 0).then((EVERYTHING / pl.col("rate")).floor()).otherwise(1.0)
    weight = (share * of_each).clip(1, MAX_WEIGHT).cast(pl.Int32).alias("weight")
    return pl.DataFrame([rate.alias("rate"), own.alias("own")]).select(weight).to_series()


def keep(transaction_id: pl.Series, rate: pl.Series) -> pl.Series:
    """Whether each call is kept: the same wherever and whenever it is asked for.

    Moesif's SDKs draw a random number, so that each retry decides anew. Here it is a hash of the id (XXH64,
    whose values are fixed, while polars' own may change with its version), seeded, so that it is
    independent of the digits that the ``sample`` processor goes by: what is left there is sampled evenly.

    Args:
        transaction_id: String; calls without one are kept, unless their rate is 0.
        rate: Float64, percent.

    Returns:
        Boolean, no nulls.
    """
    whole = rate >= EVERYTHING  # the largest hashes round to 100 %
    if whole.all():  # then nothing has to be hashed
        return whole.alias("keep")
    lower = pl.col("id").str.to_lowercase()
    hashed: pl.Expr = plh.NonCryptographicHashingNameSpace(lower).xxhash64(seed=_SEED)
    drawn = hashed.cast(pl.Float64) * _PERCENT < pl.col("rate")
    kept = pl.when(pl.col("id").is_null()).then(pl.col("rate") > 0).otherwise(drawn)
    frame = pl.DataFrame([rate.alias("rate"), transaction_id.cast(pl.String).alias("id")])
    return whole | frame.select(kept.alias("keep")).to_series()


def _looked_up(ids: pl.Series, table: Mapping[str, float]) -> pl.Series:
    """The rate of each id, null where it has none."""
    if not table:
        return constant(None, len(ids), pl.Float64)
    return per_distinct(
        ids.cast(pl.String), lambda distinct: [table.get(id_) for id_ in distinct], pl.Float64
    )
