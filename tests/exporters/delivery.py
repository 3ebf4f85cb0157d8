"""The way of events from the journal to a Moesif, for tests: a real sender, exporter and HTTP connection."""

from __future__ import annotations

import asyncio
import logging
import uuid
from datetime import UTC, datetime

import polars as pl
from opentelemetry import metrics
from otel_moesif_sandbox import Sandbox

from otel_moesif import ComponentId, Context, Events
from otel_moesif.config.model import MetricsSettings
from otel_moesif.event_log import EventLog
from otel_moesif.exporters.moesif import FACTORY
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.rows import Conversion, NewChunk
from otel_moesif.journal.settings import JournalSettings
from otel_moesif.journal.visitor import Visitor
from otel_moesif.schema import SCHEMA
from otel_moesif.sender import Sender
from otel_moesif.telemetry import Telemetry

ID = "eyJhcHAiOiJ0ZXN0In0.secret-part-wxyz"
QUICK = {"initial_interval": "10ms", "max_interval": "50ms"}


def calls(count: int, **columns) -> Events:
    row = {"apiMethod": "GET", "apiName": "Pizza", "proxyResponseCode": 200, **columns}
    rows = {
        **{name: pl.Series([value] * count, dtype=SCHEMA[name]) for name, value in row.items()},
        "requestTimestamp": [datetime.now(UTC)] * count,
        "transactionId": [str(uuid.uuid4()) for _ in range(count)],
    }
    return Events(pl.DataFrame(rows))


class Delivery:
    """The way from the journal to the sandbox: a real sender, exporter and HTTP connection."""

    def __init__(self, directory, sandbox: Sandbox, **options) -> None:
        self.journal = Journal(JournalSettings(directory=directory / "journal"))
        self.log = EventLog(self.journal)
        batch = {"flush_timeout": "50ms", **options.pop("batch", {})}
        given = {"endpoint": sandbox.url, "application_id": ID, "retry_on_failure": QUICK, **options}
        settings = FACTORY.config(**given, sending_queue={"batch": batch})
        context = Context(ComponentId("moesif"), logging.getLogger("test"), metrics.get_meter("test"))
        self.exporter = FACTORY.build(settings, context)
        telemetry = Telemetry(MetricsSettings(level="none", address=None), {})
        self.sender = Sender("moesif", self.exporter, settings, self.log, self.journal, telemetry)

    async def __aenter__(self):
        self.log.start()
        cursor = self.journal.register(["moesif"])["moesif"]
        await self.exporter.start()
        self._task = asyncio.create_task(self.sender.run(cursor))
        return self

    async def __aexit__(self, *_):
        await self.stop()
        self.journal.close()

    def put(self, events: Events) -> set[str]:
        """Events as the converter would hand them over; gives their ids."""
        ids, _ = self.journal.convert(Conversion(chunks=[NewChunk(["moesif"], len(events), events.to_ipc())]))
        self.log.publish([(ids[0], ["moesif"], events)])
        return set(events.frame["transactionId"])

    async def stop(self) -> None:
        self.sender.stop()
        await self._task
        await self.exporter.shutdown()

    def letters(self):
        with Visitor(self.journal.database.directory) as visitor:
            return list(visitor.dead_letters())


async def until(condition, seconds=60):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
