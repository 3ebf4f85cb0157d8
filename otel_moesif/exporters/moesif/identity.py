"""Whose call it was: Moesif's ids out of the columns that are configured for them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from otel_moesif.errors import Problem
from otel_moesif.exporters.moesif.settings import IdentitySettings
from otel_moesif.processors.columns import PROPERTY, name_problem, problems_of, property_name
from otel_moesif.processors.properties import COLUMN, with_properties
from otel_moesif.schema import BY_NAME, SCHEMA, UNKNOWN

SUFFIX = {"none": "", "wso2": "@carbon.super"}
"""What WSO2's reporter takes off user names (``SimpleMoesifClient.java``), by ``compatibility``. Sampling
rates, profiles and actions are about the same users as the events."""

IDS = ("user_id", "company_id", "subscription_id", "session_token")
"""The columns that `Identity.columns` adds, under Moesif's names (apidocs ``_events-api.md``)."""

_NONE = pl.lit(None, pl.String)


class Identity:
    """Finds user, company, subscription and session of each call.

    Args:
        settings: For each of them event columns or ``property.<name>``, in order.
        suffix: What is taken off a user's id where it ends so.
    """

    def __init__(self, settings: IdentitySettings, suffix: str = "") -> None:
        self._suffix = suffix
        self._sources: dict[str, tuple[str, ...]] = {name: getattr(settings, name) for name in IDS}
        named = [column for columns in self._sources.values() for column in columns]
        self._properties = sorted({name for column in named if (name := property_name(column)) is not None})

    def problems(self) -> list[Problem]:
        """Names that are no columns, or hold lists; paths are relative to the exporter's configuration."""
        return problems_of(
            (f"identity::{name}::{number}", _problem(column))
            for name, columns in self._sources.items()
            for number, column in enumerate(columns)
        )

    def columns(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Add the four columns of `IDS`, texts, null where nothing is known.

        A value counts as unknown when it is empty, ``UNKNOWN``, or what stands for a missing value of its
        column. Of numbers the decimal text is taken.

        Args:
            frame: All event columns.
        """
        extended, wanted = frame, self._properties
        if wanted:
            if frame[COLUMN].null_count() == frame.height:
                extended = frame.with_columns_seq(_NONE.alias(f"{PROPERTY}{name}") for name in wanted)
            else:
                extended = with_properties(frame, wanted)
        ids = [_first(extended, columns).alias(name) for name, columns in self._sources.items()]
        if self._suffix:
            ids[0] = ids[0].str.strip_suffix(self._suffix)
        extended = extended.with_columns_seq(ids)
        return extended.drop(f"{PROPERTY}{name}" for name in wanted) if wanted else extended


def _problem(column: str) -> str:
    problem = name_problem(column)
    if not problem and property_name(column) is None and SCHEMA[column].is_nested():
        texts = [name for name, dtype in SCHEMA.items() if not dtype.is_nested()]
        return f"{column} holds a list, which is no id (columns: {', '.join(texts)}, {PROPERTY}<name>)"
    return problem


def _first(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Expr:
    """The first known value; columns without any value take no part, so that most need no work."""
    some = [column for column in columns if frame[column].null_count() < frame.height]
    known = [_known(column) for column in some]
    if not known:
        return _NONE
    return known[0] if len(known) == 1 else pl.coalesce(known)


def _known(column: str) -> pl.Expr:
    field = BY_NAME.get(column)
    value = pl.col(column)
    text = value if field is None or field.dtype == pl.String else value.cast(pl.String)
    is_known = (text != "") & (text != UNKNOWN)
    if field is not None and field.default not in {None, UNKNOWN}:
        is_known &= value != pl.lit(field.default, field.dtype)
    return pl.when(is_known).then(text)
