"""One stream of batches: what the pipelines make of them, what waits between two of them, and where it goes.

There is one stream of what comes in, and one for each replay: what waits, and which calls are known, is the
stream's own.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import polars as pl

from otel_moesif.component import Signal
from otel_moesif.config.model import DeduplicateSettings, Prefer
from otel_moesif.events import Events
from otel_moesif.held import Change, HeldRows, from_ipc, to_ipc
from otel_moesif.journal.rows import Conversion, DeadLetter, RawRequest
from otel_moesif.one_call import Admitted, OneCall
from otel_moesif.pipeline import Pipeline
from otel_moesif.renamed import Renamed
from otel_moesif.schema import SCHEMA
from otel_moesif.telemetry import Telemetry

logger = logging.getLogger(__name__)

# Slots of the stream's own; those of processors begin with a pipeline's id. No id has a comma.
KNOWN, _WAITING = "known,", "waiting,"


@dataclass(frozen=True)
class Destination:
    """Exporters that get the same events, since the same pipelines feed them.

    Attributes:
        name: The pipelines' ids, joined by comma.
        pipelines: The same.
        exporters: Who gets the events.
    """

    name: str
    pipelines: frozenset[str]
    exporters: tuple[str, ...]


@dataclass
class Converted:
    """What a batch became.

    Attributes:
        step: For the journal; all of it but the events.
        events: Who gets them, and what.
        change: What is kept back from now on.
        due: When what waits wants to leave, by who keeps it; nanoseconds of the monotonic clock.
        admitted: By destination, how calls that come twice were treated.
        known: Which calls are known from now on, by destination, as the last of the step's held rows say.
        now: When.
        only: Exporters, or lanes of theirs, that shall get them; nobody named: whoever they are for.
    """

    step: Conversion
    now: int
    events: list[tuple[Sequence[str], Events]] = field(default_factory=list)
    change: Change = field(default_factory=Change)
    due: dict[str, int] = field(default_factory=dict)
    admitted: dict[str, Admitted] = field(default_factory=dict)
    known: list[tuple[str, pl.Series]] = field(default_factory=list)
    only: Collection[str] = ()


class Stream:
    """Runs batches through all pipelines.

    Args:
        pipelines: All of them.
        settings: How calls that come twice are treated.
        telemetry: Counts what makes no event.
        prefix: Put before the names of its slots in the journal.
        exporters: Who gets events; nobody named: whoever the pipelines name.
    """

    def __init__(
        self,
        pipelines: Sequence[Pipeline],
        settings: DeduplicateSettings,
        telemetry: Telemetry,
        prefix: str = "",
        exporters: Collection[str] = (),
    ) -> None:
        self._pipelines = pipelines
        self._telemetry = telemetry
        self._prefix = prefix
        self._destinations = _destinations(pipelines, exporters)
        self._calls: dict[str, OneCall] = {}
        if settings.prefer is not Prefer.OFF:
            signals = {pipeline.id: pipeline.signal for pipeline in pipelines}
            for destination in self._destinations:
                both = len({signals[id_] for id_ in destination.pipelines}) > 1
                self._calls[destination.name] = OneCall(settings, both=both)
        self._held = HeldRows()
        self._due: dict[str, int] = {}
        self._renamed = Renamed(pipelines)
        # Known calls that the journal has under an older name: number, destination, Arrow IPC.
        self._moved: list[tuple[int, str, bytes]] = []

    @property
    def due(self) -> int | None:
        """When something that waits wants to leave, nanoseconds of the monotonic clock."""
        return min(self._due.values(), default=None)

    def load(self, pieces: Iterable[tuple[int, str, bytes]], now: int) -> list[tuple[int, str, bytes]]:
        """Take up what an earlier run kept back.

        Args:
            pieces: Of the journal: id, slot, Arrow IPC.
            now: When their time begins anew.

        Returns:
            Those pieces that nobody here understands (any more).
        """
        found = [(id_, slot.removeprefix(self._prefix), body) for id_, slot, body in pieces]
        self._renamed = Renamed(self._pipelines, [id_ for _, slot, _ in found for id_ in _pipelines_of(slot)])
        parts: dict[str, list[tuple[int, pl.DataFrame]]] = {}
        moved: dict[int, tuple[str, str]] = {}
        strange = []
        for id_, before, body in found:
            slot = self._home(before)
            if slot is None:
                strange.append((id_, f"{self._prefix}{before}", body))
                continue
            if slot != before:
                moved[id_] = before, slot
            if slot.startswith(KNOWN):
                name = slot.removeprefix(KNOWN)
                self._calls[name].remember(from_ipc(body).to_series(), id_, now)
                self._moved += [(id_, name, body)] if id_ in moved else []
            else:
                parts.setdefault(slot, []).append((id_, from_ipc(body)))
        for names in dict.fromkeys(moved.values()):
            logger.info("what was kept back as %s goes on as %s", *names)
        for slot, frames in parts.items():
            self._held.load(slot, frames, now, [id_ for id_, _ in frames if id_ in moved])
            if slot.startswith(_WAITING):
                self._calls[slot.removeprefix(_WAITING)].comes_both_ways(now)
            # whoever owns it says, with the first batch, when it is due
            owners = [pipeline.id for pipeline in self._pipelines if pipeline.owns(slot)]
            self._due |= dict.fromkeys(owners or [slot], now)
        return strange

    def convert(self, batch: Sequence[RawRequest], now: int, *, ending: bool = False) -> Converted:
        """Make events of a batch. What this changes in memory counts only after `stored`.

        Args:
            batch: Requests; may be empty, when only something that waits is due.
            now: Nanoseconds of the monotonic clock.
            ending: Nothing comes any more: what waits has to leave.
        """
        made = Converted(Conversion(done=[raw.id for raw in batch]), now, due=dict(self._due))
        held = dict(self._held.frames)
        produced: dict[str, list[tuple[Signal, Events]]] = {}
        taken: set[int] = set()
        for pipeline in self._pipelines:
            requests = [raw for raw in batch if pipeline.takes(raw)]
            taken.update(raw.id for raw in requests)
            if not (requests or ending or self._is_due(pipeline.id, now)):
                continue
            mine = {slot: held.pop(slot) for slot in list(held) if pipeline.owns(slot)}
            outcome = pipeline.run(requests, mine, now, ending=ending)
            held |= outcome.held
            _set(made.due, pipeline.id, outcome.due)
            made.step.dead_letters += outcome.dead_letters
            produced[pipeline.id] = [(pipeline.signal, events) for events in outcome.events]
        made.step.dead_letters += [_unwanted(raw) for raw in batch if raw.id not in taken]
        for destination in self._destinations:
            incoming = [x for id_ in destination.pipelines for x in produced.get(id_, ())]
            batches = self._once(made, destination.name, incoming, held, ending=ending)
            made.events += [(destination.exporters, events) for events in batches if len(events)]
        made.change = self._held.change(held, now)
        slots_and_bodies = zip(made.change.fresh, made.change.bodies, strict=True)
        made.step.held[:0] = [(f"{self._prefix}{slot}", body) for slot, body in slots_and_bodies]
        made.step.released += made.change.released
        for id_, name, body in self._moved:
            made.known.append((name, pl.Series(dtype=pl.UInt128)))  # they are remembered already
            made.step.held.append((f"{self._prefix}{KNOWN}{name}", body))
            made.step.released.append(id_)
        return made

    def stored(self, made: Converted, pieces: Sequence[int]) -> None:
        """The journal has what `convert` gave.

        Args:
            made: That.
            pieces: The ids of the step's held rows.
        """
        fresh = len(made.change.fresh)
        self._held.stored(made.change, pieces[:fresh])
        self._due = made.due
        for (name, ids), piece in zip(made.known, pieces[fresh:], strict=True):
            self._calls[name].remember(ids, piece, made.now)
        self._moved.clear()
        for name, admitted in made.admitted.items():
            self._calls[name].released()
            for reason, count in (("known call", admitted.known), ("reported twice", admitted.twice)):
                if count:
                    self._telemetry.dropped_reports.add(count, {"reason": reason})

    def waited(self, slot: str, body: bytes) -> tuple[Sequence[str], Events] | None:
        """Events that waited for the preferred report of a call, where nobody waits any more.

        Args:
            slot: A strange one: which pipelines feed an exporter, or what is preferred, was changed.
            body: Of that piece, Arrow IPC.

        Returns:
            Who gets them, and they; None if it is something else, or nobody would get them.
        """
        if not slot.startswith(_WAITING):
            return None
        fed = {*self._renamed.destination(slot.removeprefix(_WAITING)).split(",")}
        exporters = [x for to in self._destinations if fed & to.pipelines for x in to.exporters]
        rows = from_ipc(body)
        if not exporters or not {*SCHEMA.names()} <= {*rows.columns}:
            return None
        return exporters, Events(rows.select(SCHEMA.names()))

    # -- inside ---------------------------------------------------------------------------------------

    def _home(self, slot: str) -> str | None:
        """Under which slot this stream takes rows; None: it cannot."""
        for kind in (KNOWN, _WAITING):
            if slot.startswith(kind):
                name = self._renamed.destination(slot.removeprefix(kind))
                return f"{kind}{name}" if name in self._calls else None
        if any(pipeline.knows(slot) for pipeline in self._pipelines):
            return slot
        return self._renamed.slot(slot)

    def _is_due(self, owner: str, now: int) -> bool:
        return self._due.get(owner, now + 1) <= now

    def _once(
        self,
        made: Converted,
        name: str,
        incoming: Sequence[tuple[Signal, Events]],
        held: dict[str, pl.DataFrame],
        *,
        ending: bool,
    ) -> list[Events]:
        """One event per call, of those that come and those that wait."""
        call = self._calls.get(name)
        slot = f"{_WAITING}{name}"  # a pipeline of its own name has a time of its own
        waiting = held.get(slot)
        if call is None or not (incoming or waiting is not None):
            return [events for _, events in incoming]
        made.step.released += call.expire(made.now)
        admitted = call.admit(incoming, waiting, made.now, ending=ending)
        made.admitted[name] = admitted
        held[slot] = admitted.waiting
        _set(made.due, slot, admitted.due)
        if len(admitted.ids) and not ending:
            made.known.append((name, admitted.ids))
            made.step.held.append((f"{self._prefix}{KNOWN}{name}", to_ipc(admitted.ids.to_frame())))
        return [admitted.events]


def _set(due: dict[str, int], owner: str, when: int | None) -> None:
    due.pop(owner, None)
    if when is not None:
        due[owner] = when


def _destinations(pipelines: Sequence[Pipeline], only: Collection[str]) -> list[Destination]:
    """Group the exporters by the set of pipelines that feed them."""
    feeding: dict[str, list[str]] = {}
    for pipeline in pipelines:
        for exporter in pipeline.exporters:
            if not only or exporter in only:
                feeding.setdefault(exporter, []).append(pipeline.id)
    groups: dict[tuple[str, ...], list[str]] = {}
    for exporter, ids in feeding.items():
        groups.setdefault(tuple(sorted(ids)), []).append(exporter)
    return [Destination(",".join(ids), frozenset(ids), tuple(names)) for ids, names in groups.items()]


def _pipelines_of(slot: str) -> list[str]:
    """Ids of the pipelines whose rows a slot holds."""
    for kind in (KNOWN, _WAITING):
        if slot.startswith(kind):
            return slot.removeprefix(kind).split(",")
    return [slot.partition(",")[0]]


def _unwanted(raw: RawRequest) -> DeadLetter:
    """For a request that was accepted under another configuration: kept, since it was acknowledged."""
    reason = f"no pipeline takes {raw.signal} of receiver {raw.receiver} any more"
    return DeadLetter(raw.receiver, raw.signal.value, reason, raw.body, receiver=raw.receiver)
