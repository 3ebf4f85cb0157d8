"""What another process asks for: dead letters to be tried again, kept requests to be converted again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from otel_moesif.component import Signal
from otel_moesif.config.model import DeduplicateSettings
from otel_moesif.errors import InvalidData
from otel_moesif.events import Events
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.rows import Conversion, DeadLetter, InboxItem, RawRequest, ReplayPart
from otel_moesif.lanes import Lanes
from otel_moesif.pipeline import Pipeline
from otel_moesif.stream import Converted, Stream
from otel_moesif.telemetry import Telemetry

logger = logging.getLogger(__name__)

# How often the journal is asked: a query of some microseconds.
_LOOK_SECONDS = 1.0
# A part of a replay, small beside what comes in, so that fresh calls do not wait for it.
_PART_BYTES = 4 << 20
REPLAY = "replay,"


class TakeUp:
    """Takes up what the command line left in the journal; part by part, between two batches of fresh calls.

    Args:
        journal: Where it is.
        pipelines: All of them.
        deduplicate: Also within a replay, each call makes one event.
        telemetry: Counts what makes no event.
        lanes: Who delivers what.
    """

    def __init__(
        self,
        journal: Journal,
        pipelines: Sequence[Pipeline],
        deduplicate: DeduplicateSettings,
        telemetry: Telemetry,
        lanes: Lanes,
    ) -> None:
        self._journal = journal
        self._pipelines = {pipeline.id: pipeline for pipeline in pipelines}
        self._exporters = {name for pipeline in pipelines for name in pipeline.exporters}
        self._lanes = lanes
        self._deduplicate = deduplicate
        self._telemetry = telemetry
        self._replay: tuple[int, Stream] | None = None
        self._is_tidy = False
        self._held: list[tuple[int, str, bytes]] = []
        self._look = time.monotonic()

    def load(self, pieces: Sequence[tuple[int, str, bytes]]) -> list[tuple[int, str, bytes]]:
        """Keep the held rows of replays that an earlier run began; gives those of others."""
        self._held = [piece for piece in pieces if piece[1].startswith(REPLAY)]
        return [piece for piece in pieces if not piece[1].startswith(REPLAY)]

    def seconds_left(self) -> float:
        """Until the next look."""
        return self._look - time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to look."""
        return self.seconds_left() <= 0

    def work(self, store: Callable[[Converted], Sequence[int]]) -> None:
        """Look, and take up one part.

        Args:
            store: Puts what a part became into the journal.
        """
        self._look = time.monotonic() + _LOOK_SECONDS
        items = self._journal.inbox(_PART_BYTES)
        for item in items:
            store(self._again(item))
        part = self._journal.next_replay(_PART_BYTES)
        if self._replay and (part is None or part.id != self._replay[0]):
            self._replay, self._is_tidy = None, False
        if not self._is_tidy:  # an earlier run may have left some, too
            self._journal.forget_replays()
            self._is_tidy = True
        if part:
            self._go_on(part, store)
        if items or part:
            self._look = time.monotonic()

    # -- dead letters ---------------------------------------------------------------------------------

    def _again(self, item: InboxItem) -> Converted:
        """One dead letter: events to their exporter, a raw request through its pipeline."""
        made = Converted(Conversion(inbox=[item.id]), time.monotonic_ns())
        try:
            if item.damaged:
                raise InvalidData("damaged in the journal")  # noqa: TRY301
            if item.kind == "events":
                self._deliver(item, made)
            else:
                self._convert(item, made)
        except InvalidData as problem:
            made.step.dead_letters = [
                DeadLetter(
                    item.origin, item.kind, str(problem), item.body, count=item.count, receiver=item.receiver
                )
            ]
        return made

    def _deliver(self, item: InboxItem, made: Converted) -> None:
        exporter = self._lanes.owner(item.origin)
        if exporter not in self._exporters:
            raise InvalidData(f"no pipeline has the exporter {exporter}")
        made.events.append(([exporter], Events.from_ipc(item.body)))

    def _convert(self, item: InboxItem, made: Converted) -> None:
        """A request goes where it failed; if no pipeline took it then, where one takes it now."""
        raw = RawRequest(item.receiver, Signal(item.kind), item.body)
        failed = self._pipelines.get(item.origin)
        pipelines = [failed] if failed else [x for x in self._pipelines.values() if x.takes(raw)]
        if not pipelines:
            raise InvalidData(f"no pipeline takes {raw.signal} of receiver {raw.receiver}")
        for pipeline in pipelines:
            outcome = pipeline.run([raw], {}, made.now, ending=True)
            made.step.dead_letters += outcome.dead_letters
            made.events += [(pipeline.exporters, events) for events in outcome.events]

    # -- replay ---------------------------------------------------------------------------------------

    def _go_on(self, part: ReplayPart, store: Callable[[Converted], Sequence[int]]) -> None:
        """The next part of a replay; with the last one, what waits for others leaves."""
        now = time.monotonic_ns()
        stream = self._stream(part, now)
        made = stream.convert(part.requests, now, ending=not part.requests)
        made.only = part.exporters
        made.step.done = ()  # kept requests stay until their time is over
        if part.requests:
            made.step.replay = (part.id, part.last, len(part.requests))
        else:
            made.step.replayed = part.id
        stream.stored(made, store(made))
        if not part.requests:
            logger.info("replay %d: done", part.id)

    def _stream(self, part: ReplayPart, now: int) -> Stream:
        if self._replay is None or self._replay[0] != part.id:
            prefix = f"{REPLAY}{part.id},"
            stream = Stream(
                list(self._pipelines.values()),
                self._deduplicate,
                self._telemetry,
                prefix,
                [*map(self._lanes.owner, part.exporters)],
            )
            stream.load([piece for piece in self._held if piece[1].startswith(prefix)], now)
            self._replay = part.id, stream
        return self._replay[1]
