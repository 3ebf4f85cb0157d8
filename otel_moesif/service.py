"""The collector: built from a checked configuration, started in order, stopped in order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Coroutine, Iterable, Mapping

from otel_moesif.config.build import Config
from otel_moesif.converter import Converter
from otel_moesif.errors import describe
from otel_moesif.event_log import EventLog
from otel_moesif.graph import build
from otel_moesif.health import Health, Status
from otel_moesif.housekeeping import Housekeeping
from otel_moesif.intake import Intake
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.rows import Position
from otel_moesif.lanes import Lanes
from otel_moesif.own_thread import in_own_thread
from otel_moesif.plugins import Registry
from otel_moesif.sender import Sender
from otel_moesif.telemetry import Telemetry

logger = logging.getLogger(__name__)

# The last conversion gets half of what is left of the budget, so that the senders get some too.
_CONVERT_SHARE = 0.5
# What exporters and extensions get to close their connections, beyond the budget for the data.
_CLOSE_SECONDS = 1.0


class Service:
    """Runs one configuration.

    Building does no I/O; `start` is called once, `shutdown` is safe unstarted and twice.

    Args:
        config: The checked configuration.
        registry: What the plugins brought.

    Raises:
        ConfigError: A component refuses its options; all of them are asked.
    """

    def __init__(self, config: Config, registry: Registry) -> None:
        self._settings = config.service
        self.telemetry = Telemetry(self._settings.telemetry.metrics, self._settings.telemetry.resource)
        directory = self._settings.journal.directory / "components"
        self.graph = build(config, registry, self.telemetry, directory)
        self._lanes = Lanes()
        self._journal: Journal | None = None
        self._intake: Intake | None = None
        self._converter: Converter | None = None
        self._housekeeping: Housekeeping | None = None
        self._senders: list[Sender] = []
        self._deliveries: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[BaseException] | None = None

    async def start(self) -> None:
        """Start everything, the receivers last, so that whoever takes data can pass it on.

        Raises:
            StartError: Something cannot start; what was started is stopped again.
        """
        self._failed = asyncio.get_running_loop().create_future()
        try:
            self.telemetry.start()
            for extension in self.graph.extensions.values():
                await extension.start()
            if self.graph.pipelines:
                await self._start_pipelines(await in_own_thread(Journal, self._settings.journal))
        except BaseException:
            await self.shutdown()
            raise
        logger.info("ready")

    async def _start_pipelines(self, journal: Journal) -> None:
        self._journal = journal
        self._lanes = Lanes(self.graph.exporters)
        log = EventLog(journal)
        log.start()
        cursors = journal.register(self._lanes.owners)
        _say_what_waits(journal.backlog(), self._lanes.owners)
        await self._start_exporters(journal, log, cursors)
        self._converter = Converter(
            journal, self.graph.pipelines, log, self._settings.deduplicate, self.telemetry, self._lanes
        )
        self._intake = Intake(
            journal,
            self.telemetry,
            self._settings.intake.max_bytes,
            self._converter.stored,
            log.forget,
            self._settings.intake.limits,
        )
        self._observe(journal)
        self._housekeeping = Housekeeping(journal, self._settings.journal)
        self._housekeeping.start()
        self._converter.start()
        self._intake.start()
        for name, receiver in self.graph.receivers.items():
            await receiver.start(self._intake.bind(name, self.graph.signals[name]))

    async def _start_exporters(
        self, journal: Journal, log: EventLog, cursors: Mapping[str, Position]
    ) -> None:
        for exporter in self.graph.exporters.values():
            await exporter.start()
        for lane, name in self._lanes.owners.items():
            exporter, settings = self.graph.exporters[name], self.graph.delivery[name]
            sender = Sender(lane, exporter, settings, log, journal, self.telemetry)
            self._senders.append(sender)
            self._deliveries.append(self._watched(sender.run(cursors[lane]), f"sender-{lane}"))

    async def shutdown(self) -> None:
        """Stop in the order of the data, within ``service.shutdown_timeout``; what is left stays stored."""
        end = time.monotonic() + self._settings.shutdown_timeout.total_seconds()
        await _bounded((x.shutdown() for x in self.graph.receivers.values()), end)
        if self._intake:
            await self._intake.shutdown()
        if self._converter:
            await in_own_thread(self._converter.shutdown, _left(end) * _CONVERT_SHARE)
        await self._stop_senders(end)
        await _bounded((x.shutdown() for x in self.graph.exporters.values()), end + _CLOSE_SECONDS)
        await _bounded((x.shutdown() for x in self.graph.extensions.values()), end + _CLOSE_SECONDS)
        if self._journal:
            self._say_what_is_left(self._journal)
        if self._housekeeping:
            self._housekeeping.shutdown()
        await in_own_thread(self.telemetry.shutdown)  # its last push still asks the journal
        if self._journal:
            self._journal.close()
            self._journal = None

    def _say_what_is_left(self, journal: Journal) -> None:
        try:
            waiting = journal.backlog()
        except Exception as error:  # noqa: BLE001 - a disk that fails shall not stand in the way of the rest
            logger.error("journal: cannot read what is left: %s", describe(error))  # noqa: TRY400
            return
        for name, count in waiting.items():
            if count:
                logger.warning("%s: %d events are left in the journal for the next start", name, count)

    async def _stop_senders(self, end: float) -> None:
        for sender in self._senders:
            sender.stop()
        if self._deliveries:
            _, late = await asyncio.wait(self._deliveries, timeout=_left(end))
            for task in late:
                task.cancel()
            await asyncio.gather(*self._deliveries, return_exceptions=True)
            self._deliveries = []

    @property
    def health(self) -> Mapping[str, Health]:
        """How it stands with the delivery to each exporter, by lane."""
        return {sender.name: sender.health for sender in self._senders}

    async def wait_failed(self) -> BaseException:
        """Return when a part of the collector died that must not: what it died of."""
        if self._failed is None:
            raise RuntimeError("the service was not started")
        return await asyncio.shield(self._failed)

    def _watched(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Run in the background; if it dies, the collector says so and stops."""

        def ended(task: asyncio.Task[None]) -> None:
            if (
                not task.cancelled()
                and (error := task.exception())
                and self._failed
                and not self._failed.done()
            ):
                self._failed.set_result(error)

        task = asyncio.create_task(work, name=name)
        task.add_done_callback(ended)
        return task

    def _observe(self, journal: Journal) -> None:
        """Gauges over the journal; read only when somebody asks for the metrics."""

        def waiting() -> dict[tuple[tuple[str, str], ...], float]:
            backlog = journal.backlog()
            return {(("exporter", name),): float(backlog.get(name, 0)) for name in self._lanes.owners}

        def health() -> dict[tuple[tuple[str, str], ...], float]:
            return {
                (("exporter", sender.name), ("status", status)): float(sender.health.status is status)
                for sender in self._senders
                for status in Status
            }

        self.telemetry.gauge("otelcol_exporter_queue_size", "{events}", waiting)
        self.telemetry.gauge("otelcol_exporter_status", "1", health)
        self.telemetry.gauge("otelcol_journal_size", "By", lambda: {(): float(journal.size())})
        self.telemetry.counter(
            "otelcol_journal_salvages",
            "How often the journal was damaged and made anew from what was readable",
            lambda: {(): float(journal.database.salvages)},
        )
        self.telemetry.counter(
            "otelcol_journal_unreadable_rows",
            "Rows that were lost when the journal was damaged",
            lambda: {(): float(journal.database.unreadable)},
        )


def _left(end: float) -> float:
    return max(0.0, end - time.monotonic())


async def _bounded(stops: Iterable[Awaitable[None]], end: float) -> None:
    """Let several stop side by side; one that fails or hangs is named and left behind."""
    tasks = [asyncio.ensure_future(stop) for stop in stops]
    if not tasks:
        return
    done, late = await asyncio.wait(tasks, timeout=_left(end))
    for task in late:
        task.cancel()
        logger.warning("a component did not stop in time")
    for task in done:
        if error := task.exception():
            logger.warning("a component failed to stop: %s", describe(error))


def _say_what_waits(backlog: Mapping[str, int], exporters: Iterable[str]) -> None:
    for name, count in backlog.items():
        if count and name in exporters:
            logger.info("%s: resuming with %d events from an earlier run", name, count)
        elif count:
            logger.warning(
                "%s: is no longer in a pipeline, but %d events wait for it in the journal; they stay there "
                "until it is back (`otel-moesif journal prune --exporter %s` drops them)",
                name,
                count,
                name,
            )
