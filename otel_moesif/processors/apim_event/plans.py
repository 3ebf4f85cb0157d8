"""A dialect's tables as plans, kept: making some hundred expressions costs more than running them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import polars as pl

from otel_moesif.attributes import Records
from otel_moesif.dialects.dialect import Dialect, Lookup
from otel_moesif.processors.apim_event.assembly import LogPlan, SpanPlan
from otel_moesif.processors.apim_event.fields import FieldSettings, lookups

Plan = TypeVar("Plan", LogPlan, SpanPlan)
TOKEN = "token"  # noqa: S105 - the name of a column

# Combinations of attribute keys for which plans are kept. A gateway has a handful; one that sends ever new
# keys only makes its plans be made anew.
_KEPT = 256


class Plans:
    """Plans by dialect and by the keys that a batch has.

    Args:
        properties: Further properties of an event: name, and the attribute keys to take it from, in order.
        fields: Fields of the event that come from other attributes than the dialect knows.
        tokens: Attribute keys that may hold a JWT; none: nobody asks for its claims.
    """

    def __init__(
        self,
        properties: Mapping[str, str | list[str]],
        fields: Mapping[str, FieldSettings],
        tokens: Sequence[str],
    ) -> None:
        self._properties = properties
        self._fields = fields
        self._tokens = tokens
        self._kept: dict[object, tuple[Any, list[pl.Expr], Mapping[str, Callable[[Records], pl.Series]]]] = {}

    def get(
        self, dialect: Dialect, lookup: Lookup, make: Callable[[Lookup], Plan]
    ) -> tuple[Plan, list[pl.Expr]]:
        """The plan for a batch, and the columns that every call gets besides.

        Args:
            dialect: Whose.
            lookup: Over the batch; has all columns of the plan afterwards.
            make: Asks the dialect's table.
        """
        key = (dialect.name, *lookup.keys)
        if key in self._kept:
            plan, extra, loads = self._kept[key]
            lookup.replay(loads)
            return plan, extra
        plan, extra = make(lookup), self._extra(dialect, lookup)
        own = {expression.meta.output_name() for expression in plan.call}
        extra = [column for column in extra if column.meta.output_name() not in own]
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        self._kept[key] = plan, extra, lookup.loads()
        return plan, extra

    def _extra(self, dialect: Dialect, lookup: Lookup) -> list[pl.Expr]:
        properties = [
            lookup.plain_or_resource(*([keys] if isinstance(keys, str) else keys)).alias(f"property:{name}")
            for name, keys in self._properties.items()
        ]
        tokens = [lookup.text(*self._tokens).alias(TOKEN)] if self._tokens else []
        gateway = pl.lit(dialect.gateway_type).alias("gatewayType")
        return [gateway, *properties, *lookups(self._fields, lookup), *tokens]
