"""``sample``: a share of the events stands for all of them; which, depends on nothing but the call."""

from __future__ import annotations

import polars as pl
import polars_hash as plh
from pydantic import Field

from otel_moesif.component import Context, ProcessorFactory
from otel_moesif.errors import ConfigError, Problem
from otel_moesif.events import Events
from otel_moesif.processors.columns import PROPERTY, is_unknown, name_problem, property_name
from otel_moesif.processors.filter import FILTERED
from otel_moesif.processors.properties import with_properties
from otel_moesif.processors.sql import Sql
from otel_moesif.schema import SCHEMA
from otel_moesif.settings import Settings

# How many hex digits make a number between 0 and 1. The last twelve of a UUIDv5 and the first eight are
# hash, and independent of each other (RFC 9562 section 5.5).
_SHARE, _DICE = 12, 8
_MAX_WEIGHT = 2**31 - 1


class SampleSettings(Settings):
    """How many events stay, and of which."""

    percentage: float = Field(ge=0, le=100, description="How many of a hundred events stay")
    where: str | None = Field(None, description="SQL condition; events that do not meet it all stay")
    per: str | None = Field(
        None,
        description="Column or property.<name> whose values stay or leave as a whole, not single calls",
    )
    keep_faults: bool = Field(default=False, description="Whether all fault events stay")
    seed: str = Field(
        "", description="Makes another choice; needed by a second sample processor behind a first one"
    )


class Sample:
    """Keeps a share of the events, and lets their ``weight`` say how many calls each stands for.

    An event that stays weighs 100 / percentage times as much. Weights are whole numbers, so a part of the
    events gets the next larger one, such that the sum is right on average: at 30 % (3.33) one in three
    weighs 4, the others 3.

    Args:
        settings: How many.
        context: Identity and meter.

    Raises:
        ConfigError: ``where`` or ``per`` cannot be used.
    """

    def __init__(self, settings: SampleSettings, context: Context) -> None:
        self._settings = settings
        problems: list[Problem] = []
        self._where: Sql | None = None
        try:
            self._where = Sql(settings.where, "where", boolean=True) if settings.where else None
        except ConfigError as error:
            problems += error.problems
        if settings.per and (problem := _per_problem(settings.per)):
            problems.append(Problem("per", problem))
        if problems:
            raise ConfigError(problems)
        self._properties = set(self._where.properties if self._where else ())
        if settings.per and (name := property_name(settings.per)):
            self._properties.add(name)
        self._filtered = context.meter.create_counter(FILTERED, description="Events that were not wanted")
        self._attributes = {"processor": str(context.id), "reason": "sampled"}

    def process(self, events: Events) -> Events:
        """The events that stay, in their order; those that were not asked for keep their weight."""
        if self._settings.percentage == 100 or not len(events):
            return events
        view = with_properties(events.frame, self._properties)
        asked = self._where.holds(view) if self._where else view["transactionId"].is_null() | True
        if self._settings.keep_faults:
            asked &= (view["eventType"] != "fault").fill_null(value=True)
        share = view.select(self._share()).to_series()
        asked &= share.is_not_null()  # without any identity it has to stay
        leaves = asked & (share >= self._settings.percentage / 100)
        if gone := int(leaves.sum()):
            self._filtered.add(gone, self._attributes)
        if not self._settings.percentage:
            return Events(events.frame.filter(~leaves))
        rows = events.frame.with_columns(_weight(100 / self._settings.percentage, asked))
        return Events(rows.filter(~leaves))

    def _share(self) -> pl.Expr:
        """A number from 0 to below 1 for each event: the same wherever and whenever it is asked for.

        Polars' own hash differs between versions, so it is digits of the call's UUID, or of SHA-256.
        """
        identity = pl.col("transactionId").str.to_lowercase()
        if not self._settings.per and not self._settings.seed:
            return _number(identity.str.tail(_SHARE), _SHARE)
        seed = pl.lit(f"{self._settings.seed}:")
        key = pl.coalesce(_known(self._settings.per), identity) if self._settings.per else identity
        hashed: pl.Expr = plh.CryptographicHashingNameSpace(pl.concat_str(seed, key)).sha2_256()
        return _number(hashed.str.tail(_SHARE), _SHARE)


def _per_problem(column: str) -> str:
    problem = name_problem(column)
    if not problem and not column.startswith(PROPERTY) and SCHEMA[column].is_nested():
        return f"{column} is a list; choose a column that holds one value"
    return problem


def _known(column: str) -> pl.Expr:
    """The values as text, null where nothing is known: those who have no name are not one person."""
    value = pl.col(column).cast(pl.String)
    return value if column.startswith(PROPERTY) else pl.when(~is_unknown(column)).then(value)


def _number(digits: pl.Expr, length: int) -> pl.Expr:
    whole: pl.Expr = digits.str.to_integer(base=16, strict=False, dtype=pl.Int64).cast(pl.Float64)
    return whole / float(16**length)


def _weight(factor: float, asked: pl.Series) -> pl.Expr:
    exact = pl.col("weight").fill_null(1).clip(1) * factor
    dice = _number(pl.col("transactionId").str.head(_DICE), _DICE)
    larger = (dice < exact - exact.floor()).fill_null(exact - exact.floor() >= 0.5)
    weight = (exact.floor() + larger.cast(pl.Float64)).clip(1, _MAX_WEIGHT).cast(pl.Int32)
    return pl.when(pl.lit(asked)).then(weight).otherwise("weight").alias("weight")


FACTORY = ProcessorFactory(
    "sample",
    SampleSettings,
    Sample,
    signature={Events: Events},
    description="Keeps a share of the events, chosen by the call's own id, and weighs them accordingly",
)
