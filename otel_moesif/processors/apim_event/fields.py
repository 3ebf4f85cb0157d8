"""``apim_event::fields``: any field of the event from what a gateway sends under names of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import polars as pl
from pydantic import Field, model_validator

from otel_moesif.dialects.dialect import Lookup
from otel_moesif.errors import ConfigError
from otel_moesif.processors.columns import castable, completed, flag
from otel_moesif.processors.properties import COLUMN, with_properties
from otel_moesif.processors.sql import Sql
from otel_moesif.schema import BY_NAME, SCHEMA
from otel_moesif.settings import Settings

# Columns on the way: what the configured attributes say, what a token claims.
PREFIX, CLAIM = "field:", "claim:"
OURS = frozenset({"transactionId", "traceId", "spanId", "parentSpanId", "eventType", "errorCodeInferred"})
"""What makes an event what it is: whoever could set it could make two calls one."""


class FieldSettings(Settings):
    """Where one field comes from: exactly one of ``from``, ``value`` and ``sql``."""

    from_: tuple[str, ...] = Field(
        (), alias="from", description="Attribute keys in order, of span or log record, then of the resource"
    )
    value: str | int | float | bool | None = Field(None, description="The same for all calls")
    sql: str | None = Field(
        None, description="SQL expression over the event's fields, as in: upper(apiName) || '-' || apiVersion"
    )
    default: str | int | float | bool | None = Field(
        None,
        description="With from: what the field is where neither these keys nor the gateway's dialect say it",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """A key or a list of keys alone."""
        if isinstance(value, str):
            return {"from": [value]}
        return {"from": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _one(self) -> FieldSettings:
        given = sum([bool(self.from_), self.value is not None, self.sql is not None])
        if given != 1:
            raise ValueError("needs exactly one of from (attribute keys), value (a constant) and sql")
        if self.default is not None and not self.from_:
            raise ValueError("default goes with from")
        return self


def check_fields(fields: Mapping[str, FieldSettings]) -> None:
    """Refuse names that the event does not have, values that a field cannot have, and wrong expressions.

    Raises:
        ValueError: What is wrong with which fields.
    """
    problems = [f"{name}: {problem}" for name, x in fields.items() if (problem := _problem(name, x))]
    if problems:
        raise ValueError("; ".join(problems))


def _problem(name: str, source: FieldSettings) -> str:
    if name not in SCHEMA or name in OURS:
        return "is no field of the event that can be set"
    if name == COLUMN:
        return "is the object of all properties; use apim_event::properties"
    dtype = SCHEMA[name]
    if dtype.is_nested():
        return "is a list and cannot be set"
    if source.sql is not None:
        return _sql_problem(name, source.sql)
    if dtype.is_temporal() or name == "responseLatency":
        return "is the call's own; only sql can change it"
    wrong = [x for x in (source.value, source.default) if not _is_value(x, dtype)]
    return f"is {dtype}, which {wrong[0]!r} is not" if wrong else ""


def _sql_problem(name: str, text: str) -> str:
    try:
        dtype = _computation(name, text).dtype
    except ConfigError as error:
        return error.problems[0].message
    return (
        ""
        if castable(dtype, SCHEMA[name])
        else f"is {SCHEMA[name]}, but the expression gives {dtype} (in: {text})"
    )


def _is_value(constant: object, dtype: pl.DataType) -> bool:
    try:
        pl.Series([constant]).cast(dtype)
    except (pl.exceptions.PolarsError, OverflowError):
        return False
    return True


@lru_cache(256)
def _computation(name: str, text: str) -> Sql:
    return Sql(text, name)


def lookups(fields: Mapping[str, FieldSettings], lookup: Lookup) -> list[pl.Expr]:
    """Columns ``field:<name>`` of what the attributes say."""
    columns = []
    for name, source in fields.items():
        if source.from_:
            found = pl.coalesce(
                *(pl.coalesce(lookup.text(key), lookup.resource(key)) for key in source.from_)
            )
            dtype = SCHEMA[name]
            value = flag(found) if dtype == pl.Boolean else found.cast(dtype, strict=False)
            columns.append(value.alias(f"{PREFIX}{name}"))
    return columns


def with_fields(calls: pl.DataFrame, fields: Mapping[str, FieldSettings]) -> pl.DataFrame:
    """Put the values of attributes, claims and constants in their places, before calls are classified.

    A constant counts most, then what the configured attributes say, what a token claims, what the dialect
    found, and the configured default.
    """
    looked_up = [name for name in calls.columns if name.startswith((PREFIX, CLAIM))]
    names = dict.fromkeys([*fields, *(name.partition(":")[2] for name in looked_up)])
    set_ = []
    for name in names:
        dtype, source = BY_NAME[name].dtype, fields.get(name)
        own = [pl.col(x) for x in (f"{PREFIX}{name}", f"{CLAIM}{name}", name) if x in calls.columns]
        constants = (source.value, *own, source.default) if source else own
        found = [x if isinstance(x, pl.Expr) else pl.lit(x) for x in constants if x is not None]
        if found:
            set_.append(pl.coalesce([x.cast(dtype, strict=False) for x in found]).alias(name))
    return calls.with_columns(set_).drop(looked_up)


def with_computed(events: pl.DataFrame, fields: Mapping[str, FieldSettings]) -> pl.DataFrame:
    """Put the values of expressions in their places, once the event has all its fields."""
    computed = {name: _computation(name, x.sql) for name, x in fields.items() if x.sql is not None}
    if not computed:
        return events
    view = with_properties(events, {name for sql in computed.values() for name in sql.properties})
    values = [
        sql.evaluate(view).cast(SCHEMA[name], strict=False).alias(name) for name, sql in computed.items()
    ]
    return completed(events.with_columns(values), computed)
