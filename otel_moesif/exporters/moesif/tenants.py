"""Which application (environment, tenant) of Moesif an event belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import polars as pl

from otel_moesif import Events, PermanentError, Problem
from otel_moesif.exporters.moesif.settings import MoesifSettings
from otel_moesif.processors.columns import name_problem, property_name
from otel_moesif.processors.properties import with_properties
from otel_moesif.schema import SCHEMA

DEFAULT = ""


@dataclass(frozen=True)
class Share:
    """The part of a batch that belongs to one application.

    Attributes:
        application_id: The secret itself.
        frame: Its events.
        rows: Their positions in the batch.
    """

    application_id: str
    frame: pl.DataFrame
    rows: pl.Series


class Tenants:
    """The routing table.

    Several values may lead to one application id: they are one route, named after the first of them, so that
    its events are shipped together.

    Args:
        settings: ``application_id`` and ``routing``.
    """

    def __init__(self, settings: MoesifSettings) -> None:
        self._settings = settings
        self._ids: dict[str, str] = {}
        """Route → application id."""
        self._routes: dict[str, str] = {}
        """Value of the column → route."""
        by_id: dict[str, str] = {}
        if settings.application_id is not None:
            self._ids[DEFAULT] = settings.application_id.get_secret_value()
            by_id[self._ids[DEFAULT]] = DEFAULT
        for value, secret in (settings.routing.table if settings.routing else {}).items():
            id_ = secret.get_secret_value()
            route = by_id.setdefault(id_, _route_name(value))
            self._ids[route] = id_
            self._routes[value] = route

    def problems(self) -> list[Problem]:
        """What is wrong with the options, seen together."""
        found = []
        routing = self._settings.routing
        if routing and (problem := name_problem(routing.from_column)):
            found.append(Problem("routing::from", problem))
        elif routing and SCHEMA.get(routing.from_column, pl.String()).is_nested():
            problem = f"{routing.from_column} is a list; choose a column that holds one value"
            found.append(Problem("routing::from", problem))
        if self._settings.application_id is None and not (routing and routing.unknown == "dead_letter"):
            message = "is required: the Collector Application Id that Moesif's settings page shows"
            if routing:
                message += " (or set routing::unknown: dead_letter, so that no event needs a default)"
            found.append(Problem("application_id", message))
        return found

    @property
    def application_ids(self) -> Mapping[str, str]:
        """Route → application id; the default one is `DEFAULT`."""
        return self._ids

    @property
    def routes(self) -> Sequence[str]:
        """The routes beside the default one."""
        return [route for route in self._ids if route != DEFAULT]

    def route(self, events: Events) -> pl.Series:
        """The route of each event; null: the default one, or none at all."""
        routing = self._settings.routing
        if routing is None:
            return pl.Series([None], dtype=pl.String).new_from_index(0, len(events))
        name = property_name(routing.from_column)
        frame = with_properties(events.frame, [name]) if name is not None else events.frame
        values = frame[routing.from_column].cast(pl.String)
        return values.replace_strict(self._routes, default=None, return_dtype=pl.String)

    def shares(self, events: Events) -> list[Share]:
        """Split a batch by application; nearly always it is of one.

        Raises:
            PermanentError: Events belong to none, and shall go to the dead letters.
        """
        routing = self._settings.routing
        every = pl.int_range(len(events), dtype=pl.UInt32, eager=True)
        if routing is None:
            return [Share(self._ids[DEFAULT], events.frame, every)]
        routes = self.route(events)
        if routing.unknown == "dead_letter" and routes.null_count():
            raise PermanentError(
                f"no application id for its {routing.from_column} (routing::table)",
                rows=routes.is_null().arg_true().to_list(),
            )
        routes = routes.fill_null(DEFAULT)
        distinct = routes.unique(maintain_order=True).to_list()
        if len(distinct) == 1:
            return [Share(self._ids[distinct[0]], events.frame, every)]
        found = []
        for route in distinct:
            rows = (routes == route).arg_true()
            found.append(Share(self._ids[route], events.frame[rows], rows))
        return found


def _route_name(value: str) -> str:
    """The value itself, if it can stand in a lane's name; else a digest of it, whatever stands beside it.

    What waits in a lane is delivered by its name: another tenant must never have had it.
    """
    usable = value and "," not in value and value.isprintable() and len(value) <= 100
    return value if usable else f"route-{sha256(value.encode(errors='replace')).hexdigest()[:16]}"
