"""The checklist of moesif.md section 8, item by item, against the sandbox."""

from __future__ import annotations

import asyncio
import re
import uuid
from datetime import timedelta

import pytest

from otel_moesif import PausedError, PermanentError, RetryableError
from otel_moesif.exporters.moesif import FACTORY
from otel_moesif.exporters.moesif.answer import failure
from otel_moesif.exporters.moesif.preparation import REQUEST_BYTES
from otel_moesif.exporters.moesif.settings import BODY_BYTES, EVENT_BYTES
from tests.exporters.delivery import ID, calls, until


def test_item_1_a_gzipped_post_of_json_as_ourselves_and_any_2xx_will_do(backend, context):
    async def life():
        exporter = FACTORY.build(FACTORY.config(endpoint=backend.url, application_id=ID), context)
        await exporter.start()
        for status in (200, 201, 202, 204, 206):
            backend.answers = [(status, b"", {})]
            assert await exporter.export(calls(2)) == 2
        await exporter.shutdown()

    asyncio.run(life())
    posts = [request for request in backend.requests if request.path == "/v1/events/batch"]
    assert len(posts) == 5
    for request in posts:
        assert request.headers["content-encoding"] == "gzip"
        assert request.headers["content-type"] == "application/json"
        assert request.headers["user-agent"].startswith("otel-moesif/")


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ((408, 429, 500, 502, 503, 504), RetryableError),
        ((401, 402, 403), PausedError),
        ((400, 413), PermanentError),
        ((404,), RetryableError),  # not the events' fault: kept, where the checklist would give them up
    ],
)
def test_item_2_what_each_status_means(statuses, kind):
    for status in statuses:
        error = failure(status, "", 7.0)
        assert type(error) is kind
        if isinstance(error, RetryableError):
            assert error.retry_after == 7.0


def test_item_2_retry_after_is_honoured(deliver):
    async def body(sandbox, delivery):
        sandbox.behave(status=503, retry_after=1, times=1)
        began = asyncio.get_running_loop().time()
        delivery.put(calls(1))
        await until(lambda: sandbox.events)
        assert asyncio.get_running_loop().time() - began >= 1

    deliver(body)


def test_item_2_a_wrong_key_pauses_keeps_everything_and_resumes_by_itself(deliver):
    async def body(sandbox, delivery):
        sandbox.accept_only([])
        sent = delivery.put(calls(5))
        await until(lambda: delivery.sender.health.status == "paused")
        assert "check application_id" in delivery.sender.health.reason
        assert delivery.letters() == []
        sandbox.accept_only(None)
        await until(lambda: set(sandbox.transaction_ids) == sent)
        await until(lambda: delivery.sender.health.status == "ok")

    deliver(body)


def test_item_3_a_retry_has_the_same_transaction_ids_of_36_characters(deliver):
    async def body(sandbox, delivery):
        sandbox.behave(drop_connection=True, times=1)
        sent = delivery.put(calls(3))
        await until(lambda: len(sandbox.events) == 6)
        assert sandbox.events[:3] == sandbox.events[3:]
        assert set(sandbox.transaction_ids) == sent
        assert {str(uuid.UUID(id_)) for id_ in sent} == sent
        assert {len(id_) for id_ in sent} == {36}

    deliver(body)


def test_item_4_what_an_event_looks_like(deliver):
    async def body(sandbox, delivery):
        headers = [{"key": "accept", "value": "a"}, {"key": "Accept", "value": "b"}]
        delivery.put(calls(1, requestHeaders=headers, parentSpanId="00f067aa0ba902b7", weight=0))
        await until(lambda: sandbox.events)
        (event,) = sandbox.events
        time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
        assert re.fullmatch(time, event["request"]["time"])
        assert re.fullmatch(time, event["response"]["time"])
        assert re.match(r"https?://[^/]+/", event["request"]["uri"])
        assert event["request"]["headers"]["accept"] == "a,b"
        assert event["request"]["ip_address"]
        assert event["weight"] == 1
        assert event["direction"] == "Incoming"
        assert event["span"]["parent_id"] == "00f067aa0ba902b7"

    deliver(body)


def test_item_5_rates_are_polled_with_if_none_match_and_asked_for_when_an_answer_names_others(deliver):
    async def body(sandbox, delivery):
        delivery.put(calls(1))
        await until(lambda: sandbox.events)
        assert sandbox.stats["config_requests"] == {"200": 1}
        await until(lambda: sandbox.stats["config_requests"].get("304"), 15)
        sandbox.set_config({"sample_rate": 50})
        delivery.put(calls(1))
        await until(lambda: sandbox.stats["config_requests"]["200"] == 2, 15)

    deliver(body, sampling={"refresh_interval": "2s"})


def test_item_5_without_rates_everything_is_kept(deliver):
    async def body(sandbox, delivery):
        sandbox.behave(kind="config", status=500)
        sent = delivery.put(calls(20))
        await until(lambda: set(sandbox.transaction_ids) == sent)

    deliver(body)


def test_item_6_bounds_by_default():
    settings = FACTORY.config(application_id=ID)
    assert settings.sending_queue.batch.max_size <= 2000  # 100 in the checklist; see benchmarks/README.md
    assert settings.sending_queue.batch.flush_timeout <= timedelta(seconds=2)
    assert REQUEST_BYTES <= 5_000_000
    assert (BODY_BYTES, EVENT_BYTES) == (450_000, 1_000_000)
