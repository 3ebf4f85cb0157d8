"""``filter``: events that nobody wants to pay for leave."""

from __future__ import annotations

import polars as pl
from pydantic import Field, model_validator

from otel_moesif.component import Context, ProcessorFactory
from otel_moesif.errors import ConfigError, Problem
from otel_moesif.events import Events
from otel_moesif.processors.properties import with_properties
from otel_moesif.processors.sql import Sql
from otel_moesif.settings import Settings

FILTERED = "otelcol_processor_filtered_items"


class FilterSettings(Settings):
    """Which events leave, and which stay."""

    drop: list[str] = Field(
        default_factory=list, description="SQL conditions; an event that meets one of them leaves"
    )
    keep: list[str] = Field(
        default_factory=list, description="SQL conditions; an event that meets none of them leaves"
    )

    @model_validator(mode="after")
    def _says_something(self) -> FilterSettings:
        if not self.drop and not self.keep:
            raise ValueError("needs conditions under drop or keep")
        return self


class Filter:
    """Lets events go by conditions; one that cannot be decided (null) counts as not met.

    Args:
        settings: The conditions.
        context: Identity and meter.

    Raises:
        ConfigError: A condition cannot be used; all that cannot are told.
    """

    def __init__(self, settings: FilterSettings, context: Context) -> None:
        problems: list[Problem] = []
        self._drop = _conditions(settings.drop, "drop", problems)
        self._keep = _conditions(settings.keep, "keep", problems)
        if problems:
            raise ConfigError(problems)
        self._properties = {
            name for sql in (*self._drop.values(), *self._keep.values()) for name in sql.properties
        }
        self._filtered = context.meter.create_counter(FILTERED, description="Events that were not wanted")
        self._attributes = {"processor": str(context.id)}

    def process(self, events: Events) -> Events:
        """The events that stay, in their order."""
        view = with_properties(events.frame, self._properties)
        stays = pl.repeat(value=True, n=view.height, dtype=pl.Boolean, eager=True)
        for reason, sql in self._drop.items():
            stays = self._let_go(stays, sql.holds(view), reason)
        if self._keep:
            wanted = pl.DataFrame([sql.holds(view).alias(reason) for reason, sql in self._keep.items()])
            stays = self._let_go(stays, ~wanted.select(pl.any_horizontal(pl.all())).to_series(), "not kept")
        return events if stays.all() else Events(events.frame.filter(stays))

    def _let_go(self, stays: pl.Series, leaves: pl.Series, reason: str) -> pl.Series:
        if gone := int((stays & leaves).sum()):
            self._filtered.add(gone, {**self._attributes, "reason": reason})
        return stays & ~leaves


def _conditions(texts: list[str], option: str, problems: list[Problem]) -> dict[str, Sql]:
    conditions = {}
    for number, text in enumerate(texts):
        path = f"{option}[{number}]"
        try:
            conditions[path] = Sql(text, path, boolean=True)
        except ConfigError as error:
            problems += error.problems
    return conditions


FACTORY = ProcessorFactory(
    "filter",
    FilterSettings,
    Filter,
    signature={Events: Events},
    description="Lets events go by SQL conditions over their columns",
)
