"""What another process asks for: dead letters to be tried again, kept requests to be converted again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence

import polars as pl

from otel_moesif.component import Signal
from otel_moesif.config.model import DeduplicateSettings
from otel_moesif.errors import InvalidData, describe
from otel_moesif.events import Events
from otel_moesif.held import PIECE, SINCE, from_ipc
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.rows import Conversion, DeadLetter, InboxItem, RawRequest, ReplayPart
from otel_moesif.lanes import Lanes
from otel_moesif.pipeline import FAILURES, Pipeline
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
        stream: The one of what comes in.
    """

    def __init__(
        self,
        journal: Journal,
        pipelines: Sequence[Pipeline],
        deduplicate: DeduplicateSettings,
        telemetry: Telemetry,
        lanes: Lanes,
        stream: Stream,
    ) -> None:
        self._stream = stream
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
        for group in self._together(items):
            for made in self._again(group):
                store(made)
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

    def _together(self, items: Sequence[InboxItem]) -> Iterable[list[InboxItem]]:
        """Each by itself, but rows that one pipeline had kept back at once: they may belong together."""
        groups: dict[object, list[InboxItem]] = {}
        for item in items:
            owner = self._owner(item.origin) if item.kind == "held" and not item.damaged else None
            groups.setdefault(owner or item.id, []).append(item)
        return groups.values()

    def _again(self, items: Sequence[InboxItem]) -> list[Converted]:
        """Events to their exporter, a raw request through its pipeline, rows to who had kept them back."""
        made = Converted(Conversion(inbox=[item.id for item in items]), time.monotonic_ns())
        item = items[0]
        try:
            if item.damaged:
                raise InvalidData("damaged in the journal")  # noqa: TRY301
            if item.kind == "events":
                self._deliver(item, made)
            elif item.kind == "held":
                self._take_back(items, made)
            else:
                self._convert(item, made)
        except InvalidData as problem:
            made.step.dead_letters = [
                DeadLetter(x.origin, x.kind, str(problem), x.body, count=x.count, receiver=x.receiver)
                for x in items
            ]
        if made.step.dead_letters and len(items) > 1:  # one of them is guilty
            return [again for item in items for again in self._again([item])]
        return [made]

    def _owner(self, slot: str) -> Pipeline | None:
        """Whose processor takes these rows back."""
        return next((pipeline for pipeline in self._pipelines.values() if pipeline.knows(slot)), None)

    def _take_back(self, items: Sequence[InboxItem], made: Converted) -> None:
        """Whoever could complete what waited has come long since: it waits no more."""
        slot = items[0].origin
        try:
            if owner := self._owner(slot):
                _go_on_in(owner, items, made)
            elif events := self._stream.waited(slot, items[0].body):
                made.events.append(events)
            else:
                raise InvalidData(f"nobody takes back what waited as {slot}")  # noqa: TRY301
        except InvalidData:
            raise
        except FAILURES as error:  # rows of another version
            raise InvalidData(describe(error)) from None

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
        stream = self._stream_of(part, now)
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

    def _stream_of(self, part: ReplayPart, now: int) -> Stream:
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


def _go_on_in(pipeline: Pipeline, items: Sequence[InboxItem], made: Converted) -> None:
    """Rows go on in the pipeline that had kept them back."""
    found: dict[str, list[pl.DataFrame]] = {}
    for item in items:
        found.setdefault(item.origin, []).append(from_ipc(item.body).drop(SINCE, PIECE, strict=False))
    since = [pl.lit(made.now, pl.Int64).alias(SINCE), pl.lit(None, pl.Int64).alias(PIECE)]
    rows = {
        slot: pl.concat(parts, how="diagonal_relaxed").with_columns(since) for slot, parts in found.items()
    }
    outcome = pipeline.run([], rows, made.now, ending=True)
    if any(kept.height for kept in outcome.held.values()):
        raise InvalidData("what kept it back does not let go of it")
    made.step.dead_letters += outcome.dead_letters
    made.events += [(pipeline.exporters, events) for events in outcome.events]
