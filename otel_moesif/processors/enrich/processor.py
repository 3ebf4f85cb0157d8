"""The processor: events joined with tables, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
from pydantic import Field, field_validator

from otel_moesif.component import Context, ProcessorFactory
from otel_moesif.errors import ConfigError, Problem
from otel_moesif.events import Events
from otel_moesif.processors.columns import (
    PROPERTY,
    completed,
    flag,
    is_unknown,
    name_problem,
    problems_of,
    property_name,
    target_problem,
)
from otel_moesif.processors.enrich.table import JSON, TEXT, Table
from otel_moesif.processors.properties import COLUMN, read_property, with_members, with_properties
from otel_moesif.schema import SCHEMA, UNKNOWN
from otel_moesif.settings import Settings


class TableSettings(Settings):
    """One file, and what it says about which events."""

    file: Path = Field(
        description="CSV with a header line, or JSON or YAML with a list of maps; read again when it changes"
    )
    match: dict[str, str] = Field(
        min_length=1,
        description="Event column or property.<name> → column of the file (a list where the names are the "
        "same); all have to be equal",
    )
    set: dict[str, str] = Field(
        min_length=1, description="Event column or property.<name> → column of the file"
    )
    overwrite: bool = Field(
        default=False, description="Also where the event has a value already, not only where it is unknown"
    )

    @field_validator("match", mode="before")
    @classmethod
    def _same_names(cls, match: object) -> object:
        if isinstance(match, list) and all(isinstance(name, str) for name in match):
            return {name: name.removeprefix(PROPERTY) for name in match}
        return match


class EnrichSettings(Settings):
    """The tables."""

    tables: list[TableSettings] = Field(
        min_length=1, description="One after the other; a later one can look up what an earlier one found"
    )


class Enrich:
    """Adds to events what tables say about them; an event of which they say nothing stays as it is.

    Reads the files when it is built, so that a missing one stops the start and not the traffic.

    Args:
        settings: The tables.
        context: Identity, meter and logger.
        clock: Seconds, for looking at the files at most once a second.

    Raises:
        ConfigError: A file or a column cannot be used; all that cannot are told.
    """

    def __init__(
        self, settings: EnrichSettings, context: Context, clock: Callable[[], float] = time.monotonic
    ) -> None:
        failures = context.meter.create_counter(
            "otelcol_processor_enrich_reload_failures",
            description="Times that a file changed and could not be used; the table before stays in use",
        )
        attributes = {"processor": str(context.id)}
        problems: list[Problem] = []
        self._lookups: list[_Lookup] = []
        for number, one in enumerate(settings.tables):
            path = f"tables[{number}]"
            found = _problems(one, path)
            problems += found
            if found:
                continue
            try:
                table = Table(
                    one.file,
                    list(one.match.values()),
                    list(one.set.values()),
                    context.logger,
                    lambda: failures.add(1, attributes),
                    clock,
                )
            except ValueError as error:
                problems.append(Problem(f"{path}::file", str(error)))
            else:
                self._lookups.append(_Lookup(one, table))
        if problems:
            raise ConfigError(problems)

    def process(self, events: Events) -> Events:
        """The same events, with what is known about them."""
        frame = events.frame
        for lookup in self._lookups if len(events) else ():
            frame = lookup.apply(frame)
        return Events(frame)


class _Lookup:
    def __init__(self, settings: TableSettings, table: Table) -> None:
        self._settings, self._table = settings, table
        self._properties = [name for name in map(property_name, settings.match) if name is not None]

    def apply(self, frame: pl.DataFrame) -> pl.DataFrame:
        rows = self._table.rows()
        match = self._settings.match
        keys = [pl.col(column).cast(pl.String).alias(str(n)) for n, column in enumerate(match)]
        wanted = with_properties(frame, self._properties).select(keys)
        rows = rows.with_columns(
            pl.col(f"{TEXT}{name}").alias(str(n)) for n, name in enumerate(match.values())
        )
        found = wanted.join(rows, on=wanted.columns, how="left", maintain_order="left")
        columns: list[pl.Expr] = []
        members: dict[str, pl.Series] = {}
        for target, name in self._settings.set.items():
            member = property_name(target)
            if member is None:
                value = found.select(_typed(f"{TEXT}{name}", SCHEMA[target])).to_series()
                columns.append(self._where(target, value))
            else:
                members[member] = found[f"{JSON}{name}"]
        names = [column.meta.output_name() for column in columns]
        frame = completed(frame.with_columns(columns), names) if columns else frame
        texts = frame[COLUMN]
        for member, value in members.items():
            mine = value.is_not_null()
            if not self._settings.overwrite:
                current = frame.select(read_property(member)).to_series()
                mine &= (current.is_null() | (current == UNKNOWN)).fill_null(value=True)
            texts = with_members(texts, {member: value}, mine)
        return frame.with_columns(texts.alias(COLUMN))

    def _where(self, target: str, value: pl.Series) -> pl.Expr:
        new = pl.lit(value)
        there = new.is_not_null()
        if not self._settings.overwrite:
            there &= is_unknown(target)
        return pl.when(there).then(new).otherwise(target).alias(target)


def _typed(name: str, dtype: pl.DataType) -> pl.Expr:
    """Cells as values of a column; what cannot be one is null, so that the event keeps its own."""
    return flag(pl.col(name)) if dtype == pl.Boolean else pl.col(name).cast(dtype, strict=False)


def _problems(settings: TableSettings, path: str) -> list[Problem]:
    named = [(f"{path}::match::{name}", name_problem(name) or _list_problem(name)) for name in settings.match]
    named += [(f"{path}::set::{name}", target_problem(name) or _list_problem(name)) for name in settings.set]
    return problems_of(named)


def _list_problem(name: str) -> str:
    dtype = SCHEMA.get(name, pl.String())
    return f"{name} is no text, number or flag" if dtype.is_nested() or dtype.is_temporal() else ""


FACTORY = ProcessorFactory(
    "enrich",
    EnrichSettings,
    Enrich,
    signature={Events: Events},
    description="Looks up what events do not say in CSV, JSON or YAML files",
)
