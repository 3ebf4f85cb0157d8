"""What leaves beside the events: profiles and actions, in the background and in memory only.

Each kind of each application id waits in a lane of its own with a task of its own, which has one request on
its way at a time: a wrong key, or an endpoint that fails or hangs, holds up nobody else, and no event at all.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, TypeAlias

from otel_moesif import Context, PausedError, PermanentError, RetryableError
from otel_moesif.errors import OtelMoesifError
from otel_moesif.settings import RetrySettings

Kind: TypeAlias = Literal["user", "company", "action"]
Post: TypeAlias = Callable[[str, bytes, str], Awaitable[None]]
Forget: TypeAlias = Callable[[str, Sequence[str]], None]

COUNTER = "otelcol_exporter_moesif_upserts"

_NAMES: dict[Kind, str] = {
    "user": "profiles of users",
    "company": "profiles of companies",
    "action": "actions",
}
_PATHS: dict[Kind, str] = {
    "user": "/v1/users/batch",
    "company": "/v1/companies/batch",
    "action": "/v1/actions/batch",
}
# Of one request. Moesif takes 15 MB of actions (apidocs _actions-api.md) and names no bound for profiles;
# small ones cost little when one of them is refused.
_BATCH_ITEMS, _BATCH_BYTES = 100, 1_000_000


@dataclass(frozen=True)
class Bounds:
    """How much waits, and how long.

    Attributes:
        items: Most items that wait, of each kind.
        bytes: Most bytes that wait, of each kind.
        linger: Seconds that the first of a batch waits for others.
    """

    items: int = 10_000
    bytes: int = 32 << 20
    linger: float = 1.0


@dataclass
class _Lane:
    """What waits of one kind for one application id.

    Attributes:
        waiting: JSON objects, the oldest first.
        size: Their bytes.
        parts: What the lane's task has taken out of there, in batches; the last one is on its way.
        full: Set when there is a whole batch.
        failures: Attempts that failed since the last one that did not.
        failing_since: When the first of these was, seconds of the monotonic clock.
        told: What stands in the log already.
    """

    kind: Kind
    application_id: str
    waiting: deque[bytes] = field(default_factory=deque)
    size: int = 0
    parts: list[list[bytes]] = field(default_factory=list)
    full: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    failures: int = 0
    failing_since: float = 0.0
    told: set[str] = field(default_factory=set)

    @property
    def is_full(self) -> bool:
        return len(self.waiting) >= _BATCH_ITEMS or self.size >= _BATCH_BYTES

    def add(self, items: Sequence[bytes]) -> None:
        self.waiting.extend(items)
        self.size += sum(map(len, items))

    def pop(self) -> bytes:
        item = self.waiting.popleft()
        self.size -= len(item)
        return item

    def take(self) -> None:
        """Take a batch from the oldest end; an item that is too large for one goes alone."""
        batch: list[bytes] = []
        room = _BATCH_BYTES
        while self.waiting and len(batch) < _BATCH_ITEMS and (len(self.waiting[0]) < room or not batch):
            batch.append(self.pop())
            room -= len(batch[-1]) + 1  # and a comma
        self.parts = [batch] if batch else []

    def give_back(self) -> None:
        """What is not sent yet is the oldest again."""
        while self.parts:
            part = self.parts.pop(0)
            self.waiting.extendleft(reversed(part))
            self.size += sum(map(len, part))


class SideQueue:
    """Posts profiles and actions in batches, tries again what fails, and never lets anybody wait.

    Everything happens in the event loop in which `put` is called. The counter `COUNTER` tells items by
    ``kind`` and ``result``: ``sent``; ``failed``, each time that an attempt failed; ``refused``, which Moesif
    will never take; ``dropped``, which were the oldest when a bound was reached, could not be sent at the
    end, or are not to be tried any longer (``retry_on_failure``).

    Args:
        post: Called with path, JSON array and application id. Returns when Moesif has the items; raises what
            ``export()`` raises.
        forget: Per kind, told application id and texts of what was dropped.
        retry: Backoff between the attempts of a lane.
        context: Identity, logger and meter.
        bounds: How much waits, and how long.
        jitter: Gives a number from 0 to 1.
    """

    def __init__(
        self,
        post: Post,
        forget: Mapping[Kind, Forget],
        retry: RetrySettings,
        context: Context,
        bounds: Bounds = Bounds(),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._post = post
        self._forget = forget
        self._retry = retry
        self._bounds = bounds
        self._jitter = jitter
        self._name = str(context.id)
        self._logger = context.logger
        self._counter = context.meter.create_counter(
            COUNTER, description="Profiles and actions, by what became of them"
        )
        self._lanes: dict[tuple[Kind, str], _Lane] = {}
        self._stopping = asyncio.Event()

    def put(self, kind: Kind, application_id: str, texts: Sequence[str]) -> None:
        """Send these some time; returns at once.

        Args:
            kind: What they are.
            application_id: Whose they are.
            texts: JSON objects.
        """
        if not texts:
            return
        lane = self._lanes.setdefault((kind, application_id), _Lane(kind, application_id))
        lane.add([text.encode() for text in texts])
        if self._stopping.is_set():
            self._drop(lane, len(lane.waiting))
            return
        self._keep_within_bounds(kind)
        if lane.is_full:
            lane.full.set()
        if lane.waiting and (lane.task is None or lane.task.done()):
            lane.task = asyncio.create_task(self._work(lane), name=f"{self._name} {kind}")

    def waiting(self, kind: Kind) -> list[tuple[str, list[str]]]:
        """What is not sent yet, also what is on its way: application ids, each with its texts."""
        lanes = [lane for lane in self._lanes.values() if lane.kind == kind]
        items = ((lane.application_id, chain(*lane.parts, lane.waiting)) for lane in lanes)
        return [(application_id, [item.decode() for item in texts]) for application_id, texts in items]

    async def shutdown(self, deadline: float) -> None:
        """Send what is there once more, and drop what is left then; safe twice.

        Args:
            deadline: Seconds that this may take.
        """
        self._stopping.set()
        for lane in self._lanes.values():
            lane.full.set()
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=deadline)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for lane in self._lanes.values():
            lane.give_back()
            self._drop(lane, len(lane.waiting))

    # -- one lane ---------------------------------------------------------------------------------------

    async def _work(self, lane: _Lane) -> None:
        """Send until nothing waits any more."""
        while lane.waiting:
            if not lane.is_full and not lane.failures and not self._stopping.is_set():
                lane.full.clear()
                await _set_within(lane.full, self._bounds.linger)
            lane.take()
            failure = await self._send(lane)
            if failure is not None:
                lane.give_back()
                self._keep_within_bounds(lane.kind)
                await _set_within(self._stopping, self._wait(lane, failure))

    async def _send(self, lane: _Lane) -> Exception | None:
        """Send what was taken, a refused batch in halves; gives why the rest has to be tried again."""
        while lane.parts:
            part = lane.parts[-1]
            try:
                await self._post(_PATHS[lane.kind], b"[" + b",".join(part) + b"]", lane.application_id)
            except PermanentError as error:
                lane.parts[-1:] = self._innocent(lane, part, error)
            except Exception as error:  # noqa: BLE001 - counted; whatever it is, it concerns this lane only
                self._fail(lane, len(part), error)
                if not self._is_over(lane):
                    return error
                lane.parts.pop()
                self._lose(lane, part)
            else:
                lane.parts.pop()
                self._succeed(lane, len(part))
        return None

    def _is_over(self, lane: _Lane) -> bool:
        """Whether what failed is not to be tried again."""
        longest = self._retry.max_elapsed_time.total_seconds()
        too_old = bool(longest) and time.monotonic() - lane.failing_since >= longest
        return self._stopping.is_set() or not self._retry.enabled or too_old

    def _wait(self, lane: _Lane, failure: Exception) -> float:
        """Seconds until the next attempt: full jitter, and no less than Moesif asks for."""
        growth = self._retry.multiplier ** min(lane.failures - 1, 64)
        bound = min(
            self._retry.max_interval.total_seconds(), self._retry.initial_interval.total_seconds() * growth
        )
        floor = failure.retry_after if isinstance(failure, RetryableError) else None
        return max(self._jitter() * bound, floor or 0.0)

    def _innocent(self, lane: _Lane, part: list[bytes], error: PermanentError) -> list[list[bytes]]:
        """What of a refused batch is to be sent again; who is guilty is counted."""
        guilty = {row for row in error.rows if row < len(part)}
        if not guilty and len(part) > 1:
            middle = len(part) // 2
            return [part[middle:], part[:middle]]
        rest = [item for row, item in enumerate(part) if guilty and row not in guilty]
        self._count(lane, "refused", len(part) - len(rest))
        # not forgotten: the same again would be refused again
        self._tell(lane, "refused", self._logger.error, "Moesif refuses some of the %s: %s", error)
        return [rest] if rest else []

    # -- what became of it ------------------------------------------------------------------------------

    def _succeed(self, lane: _Lane, count: int) -> None:
        self._count(lane, "sent", count)
        if lane.failures:
            self._logger.info("%s: sending %s again", self._name, _NAMES[lane.kind])
        lane.failures = 0
        lane.told -= {"failing", "dropped"}

    def _fail(self, lane: _Lane, count: int, error: Exception) -> None:
        self._count(lane, "failed", count)
        if not lane.failures:
            lane.failing_since = time.monotonic()
        lane.failures += 1
        log = self._logger.error if isinstance(error, PausedError) else self._logger.warning
        self._tell(lane, "failing", log, "cannot send %s: %s", error)

    def _keep_within_bounds(self, kind: Kind) -> None:
        """Drop the oldest, of whoever has most: a tenant that does not work costs the others nothing."""
        lanes = [lane for lane in self._lanes.values() if lane.kind == kind]
        while (excess := sum(len(lane.waiting) for lane in lanes) - self._bounds.items) > 0:
            longest = max(lanes, key=lambda lane: len(lane.waiting))
            self._drop(longest, min(excess, 1 + len(longest.waiting) // 2))
        while sum(lane.size for lane in lanes) > self._bounds.bytes:
            self._drop(max(lanes, key=lambda lane: lane.size), 1)

    def _drop(self, lane: _Lane, count: int) -> None:
        if count:
            self._lose(lane, [lane.pop() for _ in range(count)])

    def _lose(self, lane: _Lane, items: Sequence[bytes]) -> None:
        self._count(lane, "dropped", len(items))
        if "dropped" not in lane.told:
            lane.told.add("dropped")
            self._logger.warning(
                "%s: %s are lost, see the counter %s", self._name, _NAMES[lane.kind], COUNTER
            )
        if forget := self._forget.get(lane.kind):
            forget(lane.application_id, [item.decode() for item in items])

    def _count(self, lane: _Lane, result: str, count: int) -> None:
        self._counter.add(count, {"exporter": self._name, "kind": lane.kind, "result": result})

    def _tell(self, lane: _Lane, what: str, log: Callable[..., None], message: str, error: Exception) -> None:
        """Write into the log, once until it is over."""
        if what not in lane.told:
            lane.told.add(what)
            reason = str(error) if isinstance(error, OtelMoesifError) else type(error).__name__
            log(f"%s: {message}", self._name, _NAMES[lane.kind], reason[:300])


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
