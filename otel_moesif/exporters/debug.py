"""The ``debug`` exporter: says in the collector's log what comes out of a pipeline."""

from __future__ import annotations

from typing import Literal

import polars as pl
from pydantic import Field

from otel_moesif import Context, Events, ExporterConfig, ExporterFactory

MOST_EVENTS = 100
"""Events of one batch that are written; a busy gateway would fill the log's disk otherwise."""

# What a terminal or a log shipper might take for more than text.
_CONTROL = r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"


class DebugSettings(ExporterConfig):
    """How much to say."""

    verbosity: Literal["basic", "normal", "detailed"] = Field(
        "basic", description="Counts of a batch, one line per event, or each event as JSON"
    )


class DebugExporter:
    """Writes to the collector's log; never a header or a body, which the documented event has not.

    Args:
        settings: How much to say.
        context: Where to say it.
    """

    def __init__(self, settings: DebugSettings, context: Context) -> None:
        self._verbosity = settings.verbosity
        self._logger = context.logger

    async def start(self) -> None:
        """Nothing to open."""

    def export(self, events: Events) -> None:
        """Write one batch to the log."""
        faults = events.frame.select((pl.col("eventType") == "fault").sum()).item()
        self._logger.info("%d events: %d responses, %d faults", len(events), len(events) - faults, faults)
        if self._verbosity == "basic":
            return
        shown = events.slice(0, MOST_EVENTS)
        for line in shown.to_json() if self._verbosity == "detailed" else _lines(shown):
            self._logger.info("%s", line)
        if len(events) > len(shown):
            self._logger.info("… and %d more", len(events) - len(shown))

    async def shutdown(self) -> None:
        """Nothing to close."""


def _lines(events: Events) -> pl.Series:
    latency = pl.format("{} ms", "responseLatency").fill_null("-")
    status = pl.col("proxyResponseCode").cast(pl.String)
    fields = ["eventType", "apiMethod", "apiName", "apiResourceTemplate", status, latency]
    text = pl.concat_str(
        [pl.col(field) if isinstance(field, str) else field for field in fields], separator=" "
    )
    return events.frame.select(text.str.replace_all(_CONTROL, "?")).to_series()


FACTORY = ExporterFactory(
    type="debug",
    config=DebugSettings,
    build=DebugExporter,
    description="Writes counts or events to the collector's log",
)
