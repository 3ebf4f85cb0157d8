"""Lanes: an exporter that ships for several tenants has one cursor and one sender for each of its routes.

A lane is named ``id@route``; the default one has the exporter's own id. To which lane an event belongs is
asked once, before it is stored: asked again after a restart, it could be one that has passed the batch.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

import polars as pl

from otel_moesif.component import Exporter, RoutingExporter
from otel_moesif.errors import StartError, describe
from otel_moesif.events import Events
from otel_moesif.pipeline import FAILURES

logger = logging.getLogger(__name__)


class Lanes:
    """Which lanes there are, and which events belong to which.

    Args:
        exporters: All of them, by id; those that are no `RoutingExporter` have one lane.

    Raises:
        StartError: An exporter has the name of another one's lane.
    """

    def __init__(self, exporters: Mapping[str, Exporter] | None = None) -> None:
        exporters = exporters or {}
        self._routing = {id_: x for id_, x in exporters.items() if isinstance(x, RoutingExporter)}
        self._owner = {
            lane: id_
            for id_, exporter in self._routing.items()
            for lane in (f"{id_}@{route}" for route in exporter.routes)
        }
        if twice := sorted(self._owner.keys() & exporters.keys()):
            raise StartError(
                f"exporter {twice[0]}: has the name of a route of {self._owner[twice[0]]}; rename it"
            )
        self._owner |= {id_: id_ for id_ in exporters}
        self._said: set[str] = set()

    @property
    def owners(self) -> Mapping[str, str]:
        """Every lane and the id of its exporter."""
        return self._owner

    def owner(self, lane: str) -> str:
        """The exporter of a lane, also of one that is configured no more."""
        return self._owner.get(lane) or lane.partition("@")[0]

    def split(
        self, exporters: Sequence[str], events: Events, only: Collection[str] = ()
    ) -> list[tuple[list[str], Events]]:
        """Who gets which events of a batch.

        Args:
            exporters: Ids of those that it is for.
            events: The batch.
            only: Exporters or lanes that are meant; nobody named: all.

        Returns:
            Batches to store, each with those that get all of it.
        """
        whole: list[str] = []
        parts: list[tuple[list[str], Events]] = []
        for id_ in exporters:
            if id_ not in self._routing:
                whole.append(id_)
                continue
            lanes = self._lanes(id_, events)
            if len(names := lanes.unique().sort().to_list()) == 1:
                whole += names
            else:
                parts += [([name], Events(events.frame.filter(lanes == name))) for name in names]
        meant = [
            ([x for x in names if self._is_meant(x, only)], part) for names, part in [(whole, events), *parts]
        ]
        return [(names, part) for names, part in meant if names]

    def _is_meant(self, lane: str, only: Collection[str]) -> bool:
        return not only or lane in only or self.owner(lane) in only

    def _lanes(self, id_: str, events: Events) -> pl.Series:
        """For each event its lane: asks the exporter."""
        exporter = self._routing[id_]
        try:
            routes = exporter.route(events).cast(pl.String)
            if len(routes) != len(events):
                raise ValueError(f"route() gave {len(routes)} values for {len(events)} events")
        except FAILURES as error:  # a plugin's: its default lane takes them
            if id_ not in self._said:
                self._said.add(id_)
                logger.error("%s: cannot route, the default route takes what comes: %s", id_, describe(error))  # noqa: TRY400
            routes = pl.Series([None], dtype=pl.String).new_from_index(0, len(events))
        names = {route: f"{id_}@{route}" for route in exporter.routes}
        return routes.replace_strict(names, default=id_, return_dtype=pl.String).fill_null(id_)
