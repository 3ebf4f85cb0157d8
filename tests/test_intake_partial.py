"""A partly bad request: its good records are stored first, then the receipt says what was not."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_moesif import intake as intake_module
from otel_moesif.component import Receipt, Signal
from otel_moesif.config.model import IntakeSettings, MetricsSettings
from otel_moesif.errors import InvalidData, Refused, TooLarge
from otel_moesif.intake import Intake
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.settings import JournalSettings
from otel_moesif.otlp.decode import decode_spans
from otel_moesif.otlp.limits import DEFAULT, Limits
from otel_moesif.telemetry import Telemetry
from tests.fuzz.payloads import TIME, of_bytes, of_fixed64

MiB = 1 << 20


def span(name: bytes, *, trace: bytes = b"t" * 16) -> bytes:
    return b"".join((of_bytes(1, trace), of_bytes(2, b"s" * 8), of_bytes(5, name), of_fixed64(7, TIME)))


def request(*spans: bytes, resource: bytes | None = None) -> bytes:
    own = b"" if resource is None else of_bytes(1, resource)
    return of_bytes(1, own + of_bytes(2, b"".join(of_bytes(2, one) for one in spans)))


PARTLY = request(span(b"good"), span(b"bad \xff"), span(b"bad", trace=b"x"), span(b"good too"))
GOOD = request(span(b"good"), span(b"good too"))
PARTLY_SAID = Receipt(2, "2 of 4 spans were not taken: 1 invalid UTF-8, 1 bad trace or span id")


class Counted(Telemetry):
    """Telemetry that a test can read."""

    def __init__(self) -> None:
        super().__init__(MetricsSettings(level="none", address=None), {})
        self._reader = InMemoryMetricReader()
        self.provider.add_metric_reader(self._reader)

    def values(self, name: str, *by: str) -> dict[tuple[str, ...], int]:
        data = self._reader.get_metrics_data()
        found: Counter[tuple[str, ...]] = Counter()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == f"otelcol_receiver_{name}":
                        for point in metric.data.data_points:
                            found[tuple(str(point.attributes[key]) for key in by)] += point.value
        return dict(found)


@pytest.fixture
def journal(tmp_path):
    journal = Journal(JournalSettings(directory=tmp_path / "journal"))
    yield journal
    journal.close()


@pytest.fixture
def telemetry():
    counted = Counted()
    yield counted
    counted.shutdown()


@asynccontextmanager
async def running(journal, telemetry, limits=DEFAULT, max_bytes=64 * MiB, stored=lambda *_: None):
    intake = Intake(journal, telemetry, max_bytes, stored, limits=limits)
    intake.start()
    try:
        yield intake.bind("otlp", frozenset(Signal))
    finally:
        await intake.shutdown()


def accept(journal, telemetry, *bodies, signal=Signal.TRACES, metadata=None, **options):
    """Hand all bodies over at once; gives the receipt or the exception of each."""

    async def run():
        async with running(journal, telemetry, **options) as intake:
            return await asyncio.gather(
                *(intake.accept(signal, body, transport="test", metadata=metadata) for body in bodies),
                return_exceptions=True,
            )

    return asyncio.run(run())


def stored(journal) -> list[bytes]:
    return [raw.body for raw in journal.raw(0, 1 << 40, 1 << 30)]


def test_good_records_are_stored_and_the_receipt_says_what_was_not(journal, telemetry):
    assert accept(journal, telemetry, PARTLY, GOOD) == [PARTLY_SAID, Receipt()]
    assert stored(journal) == [GOOD, GOOD]


def test_the_counters_say_what_was_taken_and_what_was_not(journal, telemetry):
    log = of_bytes(1, of_bytes(2, of_bytes(2, of_fixed64(1, TIME))))
    accept(journal, telemetry, PARTLY, GOOD, request(span(b"\xff")), log, b"\xff\xff")
    accept(journal, telemetry, request(), b"", log, signal=Signal.LOGS)
    assert telemetry.values("accepted_spans", "receiver", "transport") == {("otlp", "test"): 4}
    assert telemetry.values("accepted_log_records", "transport") == {("test",): 1}
    assert telemetry.values("rejected_records", "receiver", "transport", "signal", "reason") == {
        ("otlp", "test", "traces", "invalid UTF-8"): 2,
        ("otlp", "test", "traces", "bad trace or span id"): 2,
    }
    assert telemetry.values("rejected_requests", "transport", "reason") == {
        ("test", "no good record"): 1,
        ("test", "of another signal"): 1,
        ("test", "malformed"): 1,
    }


def test_a_receipt_is_given_only_after_the_commit(journal, telemetry):
    seen = []

    async def run():
        def note(requests, counts):
            # Called by the worker after the commit: nobody is answered yet.
            seen.append((answer.done(), stored(journal), counts))

        async with running(journal, telemetry, stored=note) as intake:
            answer = asyncio.ensure_future(intake.accept(Signal.TRACES, PARTLY, transport="test"))
            return await answer

    assert asyncio.run(run()) == PARTLY_SAID
    assert seen == [(False, [GOOD], [2])]


def test_a_journal_that_fails_gives_no_receipt_and_counts_nothing_as_taken_or_rejected(journal, telemetry):
    with sqlite3.connect(journal.database.path, isolation_level=None) as other:
        other.execute("create trigger full before insert on raw begin select raise(abort, 'disk full'); end")
        answers = accept(journal, telemetry, PARTLY, GOOD, b"\xff\xff")
        assert [type(answer) for answer in answers] == [Refused, Refused, InvalidData]
        assert stored(journal) == []
        assert not telemetry.values("accepted_spans")
        assert not telemetry.values("rejected_records")
        other.execute("drop trigger full")
    assert accept(journal, telemetry, PARTLY) == [PARTLY_SAID]
    assert stored(journal) == [GOOD]


def test_a_request_beyond_the_bounds_is_too_large_and_told_so_at_once(journal, telemetry):
    large = request(*[span(b"x")] * 10)
    size, parts = Limits(request_bytes=len(large) - 1), Limits(parts=10)
    (answer,) = accept(journal, telemetry, large, limits=size)
    assert isinstance(answer, TooLarge)
    (answer,) = accept(journal, telemetry, large, limits=parts)
    assert isinstance(answer, TooLarge)
    # What can never fit among what waits would otherwise be sent again for ever.
    (answer,) = accept(journal, telemetry, large, max_bytes=len(large) - 1)
    assert isinstance(answer, TooLarge)
    assert telemetry.values("rejected_requests", "reason") == {("too large",): 2, ("too many records",): 1}
    assert stored(journal) == []


def test_a_bug_of_ours_costs_one_request_an_attempt_and_nobody_waits_for_ever(
    journal, telemetry, monkeypatch
):
    real = intake_module.check

    def buggy(signal, body, limits):
        if body == PARTLY:
            raise ZeroDivisionError
        return real(signal, body, limits)

    monkeypatch.setattr(intake_module, "check", buggy)
    bad, good = accept(journal, telemetry, PARTLY, GOOD)
    assert isinstance(bad, Refused)
    assert good == Receipt()
    assert stored(journal) == [GOOD]


# -- metadata -----------------------------------------------------------------------------------------


def attribute(key: bytes, value: bytes) -> bytes:
    return of_bytes(1, of_bytes(1, key) + of_bytes(2, of_bytes(1, value)))


ORIGIN = {"otel_moesif.client.address": "10.1.2.3", "tenant": "real"}
CLAIMED = (
    attribute(b"tenant", b"false") + attribute(b"otel_moesif.auth.subject", b"root") + attribute(b"a", b"b")
)


def resources(body: bytes) -> list[dict[str, str]]:
    return [dict(source.resource) for source in decode_spans([body]).sources]


def test_metadata_is_set_on_every_resource_whatever_the_client_says(journal, telemetry):
    body = (
        request(span(b"1"), resource=CLAIMED)
        + request(span(b"2"))
        + request(span(b"bad \xff"), span(b"3"), resource=b"")
    )
    (receipt,) = accept(journal, telemetry, body, metadata=ORIGIN)
    assert receipt.rejected == 1
    (kept,) = stored(journal)
    assert resources(kept) == [{"a": "b", **ORIGIN}, ORIGIN]
    assert decode_spans([kept]).frame["name"].to_list() == ["1", "2", "3"]


def test_metadata_of_nothing_still_takes_what_a_client_must_not_say(journal, telemetry):
    accept(journal, telemetry, request(span(b"1"), resource=CLAIMED), metadata={})
    assert resources(stored(journal)[0]) == [{"tenant": "false", "a": "b"}]


def test_without_metadata_requests_stay_byte_for_byte_as_they_are(journal, telemetry):
    accept(journal, telemetry, GOOD)
    assert stored(journal) == [GOOD]


def test_without_metadata_a_client_cannot_claim_any_either(journal, telemetry):
    accept(journal, telemetry, request(span(b"1"), resource=CLAIMED))
    (attributes,) = resources(stored(journal)[0])
    assert not any(name.startswith("otel_moesif.") for name in attributes)


def test_metadata_that_utf8_cannot_say_is_no_obstacle(journal, telemetry):
    (receipt,) = accept(journal, telemetry, GOOD, metadata={"otel_moesif.auth.subject": "half \ud83d"})
    assert receipt == Receipt()
    assert resources(stored(journal)[0]) == [{"otel_moesif.auth.subject": "half ?"}]


def test_metadata_reaches_log_records_too(journal, telemetry):
    log = of_bytes(
        1, of_bytes(1, attribute(b"tenant", b"false")) + of_bytes(2, of_bytes(2, of_fixed64(1, TIME)))
    )
    accept(journal, telemetry, log, signal=Signal.LOGS, metadata=ORIGIN)
    (kept,) = stored(journal)
    assert b"false" not in kept
    assert b"10.1.2.3" in kept


# -- settings -----------------------------------------------------------------------------------------


def test_the_settings_are_the_limits():
    assert IntakeSettings().limits == DEFAULT
    settings = IntakeSettings(
        max_request_size="4MiB",
        max_records_per_request=10,
        max_attributes_per_record=20,
        max_attribute_length="1KiB",
    )
    assert settings.limits == Limits(4 * MiB, 10, 20, 1024)
