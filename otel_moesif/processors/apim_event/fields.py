"""``apim_event::fields``: any field of the event from what a gateway sends under names of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from pydantic import Field, model_validator

from otel_moesif.dialects.dialect import Lookup
from otel_moesif.schema import BY_NAME, SCHEMA
from otel_moesif.settings import Settings

# Columns on the way: what the configured attributes say, what a token claims.
PREFIX, CLAIM = "field:", "claim:"
# What makes an event what it is: whoever could set it could make two calls one.
_OURS = frozenset({"transactionId", "traceId", "spanId", "parentSpanId", "eventType", "errorCodeInferred"})


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
    """Refuse names that the event does not have, and expressions that cannot be computed.

    Raises:
        ValueError: What is wrong with which field.
    """
    for name, source in fields.items():
        if name not in SCHEMA or name in _OURS:
            raise ValueError(f"{name}: is no field of the event that can be set")
        if source.sql is None:
            continue
        try:
            dtype = SCHEMA.to_frame().select(pl.sql_expr(source.sql).alias(name)).schema[name]
            pl.Series([], dtype=dtype).cast(BY_NAME[name].dtype)
        except Exception as error:  # noqa: BLE001 - polars and its SQL parser have many
            first = str(error).splitlines()[0][:200]
            raise ValueError(
                f"{name}: {source.sql!r} is no expression over the event's fields ({first})"
            ) from None


def lookups(fields: Mapping[str, FieldSettings], lookup: Lookup) -> list[pl.Expr]:
    """Columns ``field:<name>`` of what the attributes say."""
    columns = []
    for name, source in fields.items():
        if source.from_:
            found = pl.coalesce(
                *(pl.coalesce(lookup.text(key), lookup.resource(key)) for key in source.from_)
            )
            columns.append(found.cast(BY_NAME[name].dtype, strict=False).alias(f"{PREFIX}{name}"))
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
    computed = [
        pl.sql_expr(source.sql).cast(BY_NAME[name].dtype, strict=False).alias(name)
        for name, source in fields.items()
        if source.sql is not None
    ]
    return events.with_columns(computed) if computed else events
