"""``transform``: columns and custom properties set, renamed and deleted, step by step."""

from __future__ import annotations

from typing import Any

import polars as pl
from pydantic import Field, model_validator

from otel_moesif.component import Context, ProcessorFactory
from otel_moesif.errors import ConfigError, Problem
from otel_moesif.events import Events
from otel_moesif.processors.columns import (
    PROPERTY,
    castable,
    completed,
    name_problem,
    property_name,
    target_problem,
)
from otel_moesif.processors.properties import COLUMN, as_json, edited, with_members, with_properties, without
from otel_moesif.processors.sql import Sql
from otel_moesif.schema import SCHEMA
from otel_moesif.settings import Settings


class StepSettings(Settings):
    """One step: its expressions see the event as it came into the step; then it sets, renames, deletes."""

    where: str | None = Field(None, description="SQL condition; events that do not meet it stay as they are")
    set: dict[str, str] = Field(
        default_factory=dict,
        description="Column or property.<name> → SQL expression; null means the default, or no property",
    )
    rename: dict[str, str] = Field(
        default_factory=dict, description="property.<name> → its new name, property.<name>"
    )
    delete: list[str] = Field(
        default_factory=list,
        description="Columns that get their default, and properties (property.<name>) that go",
    )

    @model_validator(mode="after")
    def _does_something(self) -> StepSettings:
        if not (self.set or self.rename or self.delete):
            raise ValueError("needs set, rename or delete")
        return self


class TransformSettings(Settings):
    """What changes, in order."""

    steps: list[StepSettings] = Field(min_length=1, description="One after the other")


class Transform:
    """Changes events; none leaves and none is added.

    Args:
        settings: The steps.
        context: Not used: nothing can go wrong that would have to be counted.

    Raises:
        ConfigError: An expression, a column or a type is wrong; all that are wrong are told.
    """

    def __init__(self, settings: TransformSettings, context: Context) -> None:  # noqa: ARG002
        problems: list[Problem] = []
        self._steps = [_Step(step, f"steps[{n}]", problems) for n, step in enumerate(settings.steps)]
        if problems:
            raise ConfigError(problems)

    def process(self, events: Events) -> Events:
        """The same events, changed."""
        frame = events.frame
        for step in self._steps if len(events) else ():
            frame = step.apply(frame)
        return Events(frame)


class _Step:
    def __init__(self, settings: StepSettings, path: str, problems: list[Problem]) -> None:
        self._problems = problems
        self._where = self._sql(settings.where, f"{path}::where", boolean=True) if settings.where else None
        self._set: dict[str, Sql] = {}
        self._members: dict[str, Sql] = {}
        for target, text in settings.set.items():
            self._add(target, text, f"{path}::set::{target}")
        self._rename = {
            self._property(old, f"{path}::rename"): self._property(new, f"{path}::rename::{old}")
            for old, new in settings.rename.items()
        }
        self._gone: set[str] = set()
        self._cleared: list[str] = []
        for number, name in enumerate(settings.delete):
            self._say("" if name == COLUMN else target_problem(name), f"{path}::delete[{number}]")
            member = property_name(name)
            if member is None:
                self._cleared.append(name)
            else:
                self._gone.add(member)
        expressions = [*self._set.values(), *self._members.values(), *([self._where] if self._where else [])]
        self._needed = {name for sql in expressions for name in sql.properties}

    def apply(self, frame: pl.DataFrame) -> pl.DataFrame:
        view = with_properties(frame, self._needed)
        everywhere = pl.repeat(value=True, n=frame.height, dtype=pl.Boolean, eager=True)
        where = self._where.holds(view) if self._where else everywhere
        if not where.any():
            return frame
        columns = {
            name: sql.evaluate(view).cast(SCHEMA[name], strict=False) for name, sql in self._set.items()
        }
        columns |= {
            name: pl.Series([None], dtype=SCHEMA[name]).new_from_index(0, frame.height)
            for name in self._cleared
        }
        members = {name: as_json(sql.evaluate(view)) for name, sql in self._members.items()}
        changed = [
            pl.when(pl.lit(where)).then(pl.lit(value)).otherwise(name).alias(name)
            for name, value in columns.items()
        ]
        frame = completed(frame.with_columns(changed), columns) if changed else frame
        return frame.with_columns(self._properties(frame[COLUMN], members, where))

    def _properties(self, texts: pl.Series, members: dict[str, pl.Series], where: pl.Series) -> pl.Series:
        new = with_members(texts, members, where) if members else texts
        if self._rename or self._gone:
            mine = new.set(~where, None)
            if self._rename:
                mine = edited(mine, self._rename, self._renamed)
            if self._gone:
                mine = without(mine, self._gone)
            new = pl.select(pl.when(where).then(mine).otherwise(new)).to_series()
        return new.alias(COLUMN)

    def _renamed(self, members: dict[str, Any]) -> dict[str, Any]:
        """A property that had the new name before gives way."""
        taken = {self._rename[key] for key in members if key in self._rename}
        return {
            self._rename.get(key, key): value
            for key, value in members.items()
            if key in self._rename or key not in taken
        }

    def _add(self, target: str, text: str, path: str) -> None:
        problem = target_problem(target)
        self._say(problem, path)
        sql = self._sql(text, path)
        if problem or not sql:
            return
        member = property_name(target)
        if member is not None:
            self._members[member] = sql
        elif SCHEMA[target].is_nested():
            self._say(f"{target} is a list and cannot be set, only deleted", path)
        elif not castable(sql.dtype, SCHEMA[target]):
            self._say(
                f"{target} is {SCHEMA[target]}, but the expression gives {sql.dtype} (in: {text})", path
            )
        else:
            self._set[target] = sql

    def _property(self, name: str, path: str) -> str:
        member = property_name(name)
        if member is None:
            self._say(f'only custom properties can be renamed: "{name}" has to begin with {PROPERTY}', path)
            return name
        self._say(target_problem(name) or name_problem(name), path)
        return member

    def _sql(self, text: str, path: str, *, boolean: bool = False) -> Sql | None:
        try:
            return Sql(text, path, boolean=boolean)
        except ConfigError as error:
            self._problems += error.problems
            return None

    def _say(self, message: str, path: str) -> None:
        if message:
            self._problems.append(Problem(path, message))


FACTORY = ProcessorFactory(
    "transform",
    TransformSettings,
    Transform,
    signature={Events: Events},
    description="Sets, renames and deletes columns and custom properties with SQL expressions",
)
