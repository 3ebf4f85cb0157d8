"""One pipeline: from raw requests to events, through its processors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from otel_moesif.component import Held, HoldingProcessor, Processor, Signal
from otel_moesif.deferred import DeferredMeter
from otel_moesif.errors import describe
from otel_moesif.events import Events
from otel_moesif.held import to_ipc
from otel_moesif.journal.rows import DeadLetter, RawRequest
from otel_moesif.logs import SCHEMA as LOG_SCHEMA
from otel_moesif.logs import Logs
from otel_moesif.otlp.decode import decode_logs, decode_spans
from otel_moesif.spans import SCHEMA as SPAN_SCHEMA
from otel_moesif.spans import Spans
from otel_moesif.telemetry import Telemetry

logger = logging.getLogger(__name__)

# polars' own failures are no `Exception`, nor is the `exit()` of a plugin; but no reason to stop either.
FAILURES = (Exception, pl.exceptions.PanicException, SystemExit)
# When what waits is given to a processor again that fails without any request.
_AGAIN_NS = 1_000_000_000
# Kinds of failure are logged once each, and no more than this many; the counter knows all.
_KNOWN_FAILURES = 100

_DECODE: Mapping[Signal, Callable[[Sequence[bytes]], Any]] = {
    Signal.TRACES: decode_spans,
    Signal.LOGS: decode_logs,
}


# What stands for a batch when nothing came, and only something that waits is due.
_EMPTY: Mapping[Signal, Any] = {
    Signal.TRACES: Spans(SPAN_SCHEMA.to_frame(), {}, (), 0),
    Signal.LOGS: Logs(LOG_SCHEMA.to_frame(), {}, (), 0),
}


@dataclass
class Outcome:
    """What a batch became.

    Attributes:
        events: In order; one item per part of a bisected batch.
        held: By slot, what waits now.
        due: When the first of it has waited long enough, nanoseconds of the monotonic clock.
        dead_letters: Requests that made a processor fail.
    """

    events: list[Events] = field(default_factory=list)
    held: dict[str, pl.DataFrame] = field(default_factory=dict)
    due: int | None = None
    dead_letters: list[DeadLetter] = field(default_factory=list)


class Pipeline:
    """Runs batches through processors, one after the other.

    Args:
        id: ``traces[/name]`` or ``logs[/name]``.
        signal: What goes in.
        receivers: Ids of the receivers whose requests it takes.
        processors: Ids and processors, in order.
        exporters: Ids of the exporters that get its events.
        telemetry: Counts rows in and out.
        meter: That of its processors; None: they count for themselves.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - the design's word
        signal: Signal,
        receivers: frozenset[str],
        processors: Sequence[tuple[str, Processor]],
        exporters: tuple[str, ...],
        telemetry: Telemetry,
        meter: DeferredMeter | None = None,
    ) -> None:
        self.id = id
        self.signal = signal
        self.receivers = receivers
        self.exporters = exporters
        self._telemetry = telemetry
        self._meter = meter or DeferredMeter(telemetry.meter)
        self._processors = processors
        # A slot is "pipeline,processor,name": no id has a comma, and a processor stands in a pipeline once.
        self._slots = {name: f"{id},{name}," for name, _ in processors}
        self._known_failures: set[tuple[str, str]] = set()

    def takes(self, raw: RawRequest) -> bool:
        """Whether a request goes through this pipeline."""
        return raw.signal is self.signal and raw.receiver in self.receivers

    def owns(self, slot: str) -> bool:
        """Whether rows kept under this name are this pipeline's."""
        return slot.startswith(f"{self.id},")

    def knows(self, slot: str) -> bool:
        """Whether they are one of its processors' that can take them back."""
        return any(slot.startswith(self._slots[name]) for name in self.holders)

    @property
    def holders(self) -> list[str]:
        """Ids of the processors that keep rows back."""
        return [name for name, processor in self._processors if isinstance(processor, HoldingProcessor)]

    def run(
        self,
        requests: Sequence[RawRequest],
        held: Mapping[str, pl.DataFrame],
        now: int,
        *,
        ending: bool = False,
    ) -> Outcome:
        """Convert a batch.

        A batch that makes a processor fail is bisected: the guilty request goes to the dead letters, raw,
        and its neighbours go on. So does, at once, a request that the disk has damaged.

        Args:
            requests: Raw requests of this pipeline's signal; may be empty.
            held: By slot, what its processors kept back.
            now: Nanoseconds of the monotonic clock.
            ending: Nothing comes any more: what waits has to leave.
        """
        damaged = [self._dead_letter(raw, "damaged in the journal") for raw in requests if raw.damaged]
        if damaged:
            logger.error(
                "%s: %d requests are damaged in the journal: to the dead letters", self.id, len(damaged)
            )
        outcome = self._run([raw for raw in requests if not raw.damaged], Held(held, now, ending))
        outcome.dead_letters += damaged
        return outcome

    def _run(self, requests: Sequence[RawRequest], held: Held) -> Outcome:
        try:
            return self._process([raw.body for raw in requests], held)
        except FAILURES as error:  # whatever a plugin raises must not stop the others
            if len(requests) <= 1:
                return self._blame(requests, held, error)
        middle = len(requests) // 2
        first = self._run(requests[:middle], replace(held, ending=False))
        second = self._run(requests[middle:], replace(held, rows=first.held))
        letters = first.dead_letters + second.dead_letters
        return Outcome(first.events + second.events, second.held, second.due, letters)

    def _blame(self, requests: Sequence[RawRequest], held: Held, error: BaseException) -> Outcome:
        """Find out whether the request is guilty, or what waited; that goes to the dead letters."""
        reason = describe(error)[:500]
        self._say(error, reason)
        if held.rows:
            with suppress(*FAILURES):
                outcome = self._process([raw.body for raw in requests], replace(held, rows={}))
                outcome.dead_letters += [
                    DeadLetter(slot, "held", reason, to_ipc(rows), count=rows.height)
                    for slot, rows in held.rows.items()
                ]
                return outcome
        letters = [self._dead_letter(raw, reason) for raw in requests]
        # called again for what waits: at once, without the guilty one
        due = held.now if requests else held.now + _AGAIN_NS
        return Outcome([], dict(held.rows), due if held.rows else None, letters)

    def _process(self, bodies: list[bytes], held: Held) -> Outcome:
        batch = _DECODE[self.signal](bodies) if bodies else _EMPTY[self.signal]
        outcome = Outcome()
        counted, dues = [], []
        self._meter.forget()
        for name, processor in self._processors:
            before = len(batch)
            if isinstance(processor, HoldingProcessor):
                slot = self._slots[name]
                mine = {x.removeprefix(slot): rows for x, rows in held.rows.items() if x.startswith(slot)}
                processed = processor.process_held(batch, replace(held, rows=mine))
                batch = processed.batch
                outcome.held |= {f"{slot}{x}": rows for x, rows in processed.held.items()}
                dues += [processed.due] if processed.due is not None else []
            else:
                batch = processor.process(batch)
            counted.append((name, before, len(batch)))
        for name, before, after in counted:  # only now: a batch that fails is run again in halves
            attributes = {"pipeline": self.id, "processor": name}
            self._telemetry.incoming.add(before, attributes)
            self._telemetry.outgoing.add(after, attributes)
        self._meter.commit()
        outcome.events = [batch] if len(batch) else []
        outcome.due = min(dues, default=None)
        return outcome

    def _say(self, error: BaseException, reason: str) -> None:
        kind = (type(error).__name__, reason[:100])
        if kind not in self._known_failures and len(self._known_failures) < _KNOWN_FAILURES:
            self._known_failures.add(kind)
            logger.error("%s: cannot convert, what is guilty goes to the dead letters: %s", self.id, reason)

    def _dead_letter(self, raw: RawRequest, reason: str) -> DeadLetter:
        error = "damaged" if raw.damaged else reason.partition(":")[0]
        self._telemetry.dead_requests.add(1, {"pipeline": self.id, "error": error})
        return DeadLetter(self.id, raw.signal.value, reason, raw.body, receiver=raw.receiver)
