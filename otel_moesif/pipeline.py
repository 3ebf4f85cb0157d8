"""One pipeline: from raw requests to events, through its processors."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import polars as pl

from otel_moesif.component import HoldingProcessor, Processor, Signal
from otel_moesif.events import Events
from otel_moesif.journal import DeadLetter, RawRequest
from otel_moesif.otlp.decode import decode_logs, decode_spans
from otel_moesif.telemetry import Telemetry

logger = logging.getLogger(__name__)

_DECODE: Mapping[Signal, Callable[[Sequence[bytes]], Any]] = {
    Signal.TRACES: decode_spans,
    Signal.LOGS: decode_logs,
}


class Held(NamedTuple):
    """Rows that one processor keeps back, and where they are stored."""

    slot: str
    rows: pl.DataFrame


@dataclass
class Outcome:
    """What a batch became.

    Attributes:
        events: In order; one item per part of a bisected batch.
        held: By slot, what waits now.
        dead_letters: Requests that made a processor fail.
    """

    events: list[Events] = field(default_factory=list)
    held: dict[str, pl.DataFrame] = field(default_factory=dict)
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
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - the design's word
        signal: Signal,
        receivers: frozenset[str],
        processors: Sequence[tuple[str, Processor]],
        exporters: tuple[str, ...],
        telemetry: Telemetry,
    ) -> None:
        self.id = id
        self.signal = signal
        self.receivers = receivers
        self.exporters = exporters
        self._telemetry = telemetry
        # A processor may stand twice in a pipeline; its place makes the slot of what it holds unique.
        self._processors = [(f"{id}:{place}:{name}", name, p) for place, (name, p) in enumerate(processors)]
        self._known_failures: set[tuple[str, str]] = set()

    @property
    def slots(self) -> list[str]:
        """Under which names its processors keep rows."""
        return [slot for slot, _, processor in self._processors if isinstance(processor, HoldingProcessor)]

    def run(self, requests: Sequence[RawRequest], held: Mapping[str, pl.DataFrame]) -> Outcome:
        """Convert a batch.

        A batch that makes a processor fail is bisected: the guilty request goes to the dead letters, raw,
        and its neighbours go on.

        Args:
            requests: Raw requests of this pipeline's signal.
            held: By slot, what its processors kept back.
        """
        try:
            events, still = self._process([raw.body for raw in requests], held)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises must not stop the others
            if len(requests) == 1:
                return Outcome(held=dict(held), dead_letters=[self._dead_letter(requests[0], error)])
            middle = len(requests) // 2
            first = self.run(requests[:middle], held)
            second = self.run(requests[middle:], first.held)
            return Outcome(
                first.events + second.events, second.held, first.dead_letters + second.dead_letters
            )
        return Outcome([events] if len(events) else [], still)

    def _process(
        self, bodies: list[bytes], held: Mapping[str, pl.DataFrame]
    ) -> tuple[Events, dict[str, pl.DataFrame]]:
        batch = _DECODE[self.signal](bodies)
        still = dict(held)
        counted = []
        for slot, name, processor in self._processors:
            before = len(batch)
            if isinstance(processor, HoldingProcessor):
                processed = processor.process_held(batch, held.get(slot))
                batch = processed.batch
                still.pop(slot, None)
                if processed.held is not None and processed.held.height:
                    still[slot] = processed.held
            else:
                batch = processor.process(batch)
            counted.append((name, before, len(batch)))
        for name, before, after in counted:  # only now: a batch that fails is run again in halves
            attributes = {"pipeline": self.id, "processor": name}
            self._telemetry.incoming.add(before, attributes)
            self._telemetry.outgoing.add(after, attributes)
        return batch, still

    def _dead_letter(self, raw: RawRequest, error: Exception) -> DeadLetter:
        reason = f"{type(error).__name__}: {error}"[:500]
        kind = (type(error).__name__, str(error)[:100])
        if kind not in self._known_failures:
            self._known_failures.add(kind)
            logger.error(
                "%s: a request cannot be converted and goes to the dead letters: %s", self.id, reason
            )
        self._telemetry.dead_requests.add(1, {"pipeline": self.id, "error": type(error).__name__})
        return DeadLetter(self.id, raw.signal.value, reason, raw.body)


def to_ipc(frame: pl.DataFrame) -> bytes:
    """Held rows for the journal: Arrow IPC, LZ4."""
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="lz4")
    return buffer.getvalue()


def from_ipc(data: bytes) -> pl.DataFrame:
    """The reverse of `to_ipc`."""
    return pl.read_ipc(io.BytesIO(data))
