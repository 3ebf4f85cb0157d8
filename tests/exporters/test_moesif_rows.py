"""Defects of Moesif's own integrations in delivery (moesif.md section 3.2, by row): none of them here.

Rows of the mapping stand in test_moesif_mapping.py, those of the connection in test_moesif_client.py and
test_moesif_answer.py, those of the sampling in test_moesif_sampling.py.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time

import jwt
import polars as pl
import pytest
from opentelemetry import metrics
from otel_moesif_sandbox import Behavior

from otel_moesif import ComponentId, Context, Events
from otel_moesif.exporters.moesif.app_config import AppConfig
from otel_moesif.exporters.moesif.mapping import to_moesif
from otel_moesif.exporters.moesif.rates import rates
from otel_moesif.processors.apim_event.claims import JwtSettings, from_tokens
from otel_moesif.processors.redact.processor import FACTORY as REDACT
from tests.exporters.delivery import calls, until


def test_row_b_a_stop_sends_what_still_waits_for_a_full_batch_and_does_not_spin(deliver):
    async def body(sandbox, delivery):
        sent = delivery.put(calls(5))
        await asyncio.sleep(0)
        assert not sandbox.events  # a minute is what the batch would wait for more
        began, cpu = time.monotonic(), time.process_time()
        await delivery.stop()
        assert set(sandbox.transaction_ids) == sent
        assert time.monotonic() - began < 5
        assert time.process_time() - cpu < 2

    deliver(body, batch={"flush_timeout": "60s"})


def test_row_c_thousands_of_events_a_second_are_no_matter_of_ticks(deliver):
    async def body(sandbox, delivery):
        began = time.monotonic()
        sent = set().union(*(delivery.put(calls(1000)) for _ in range(10)))
        await until(lambda: sent == set(sandbox.transaction_ids), 20)
        assert len(sent) / (time.monotonic() - began) > 1000  # that integration does 100

    deliver(body)


def test_row_d_masks_reach_the_bodies_of_answers(tmp_path):
    context = Context(ComponentId("redact"), logging.getLogger("test"), metrics.get_meter("test"))
    redact = REDACT.build(REDACT.config(json_paths=["$.password"]), context)
    body = '{"user": "u", "password": "hunter2"}'
    masked = redact.process(calls(1, responseBody=body, requestBody=body))
    (text,) = to_moesif(masked)
    assert "hunter2" not in text
    assert text.count('"user"') == 2


def test_row_e_a_user_is_read_from_a_token_with_the_letters_of_base64url():
    claims = {"sub": "ÿþ?>alice", "iss": "~~~"}
    token = jwt.encode(claims, "0" * 32, algorithm="HS256")
    assert set("-_") & set(token.split(".")[1])
    (names,) = from_tokens(pl.Series([f"Bearer {token}"]), JwtSettings(claims={"userName": "sub"}))
    assert names.to_list() == [claims["sub"]]


def test_row_i_a_trickle_of_calls_does_not_put_off_the_flush(deliver):
    async def body(sandbox, delivery):
        began = time.monotonic()
        while not sandbox.events:
            delivery.put(calls(1))
            await asyncio.sleep(0.05)  # more often than the flush
            assert time.monotonic() - began < 5
        assert time.monotonic() - began < 2

    deliver(body, batch={"flush_timeout": "300ms"})


def test_row_i_a_stop_returns_when_the_answers_are_there(deliver):
    async def body(sandbox, delivery):
        sandbox.behave(delay=0.5)
        delivery.put(calls(3))
        await delivery.stop()
        assert sandbox.stats["requests"]["by_status"] == {"201": 1}
        assert delivery.journal.backlog() == {}

    deliver(body)


def test_row_j_a_poisonous_event_is_found_and_the_others_arrive(deliver):
    async def body(sandbox, delivery):
        sandbox.behave(reject_where={"metadata.apiName": "Poison"})
        good = delivery.put(calls(40))
        bad = delivery.put(calls(1, apiName="Poison"))
        more = delivery.put(calls(40))
        await until(lambda: good | more == set(sandbox.transaction_ids) and delivery.letters())
        (letter,) = delivery.letters()
        assert set(Events.from_ipc(letter.body).frame["transactionId"]) == bad
        assert "HTTP 400" in letter.reason
        requests = sandbox.stats["requests"]["total"]
        await asyncio.sleep(0.3)
        assert sandbox.stats["requests"]["total"] == requests  # and it is not sent for ever

    deliver(body)


@pytest.mark.parametrize("status", [200, 202, 204])
def test_row_p_another_2xx_is_no_failure_to_be_queued_again(deliver, status):
    async def body(sandbox, delivery):
        sandbox.behave(status=status)
        delivery.put(calls(3))
        await until(lambda: delivery.journal.backlog() == {})
        assert sandbox.stats["requests"]["total"] == 1

    deliver(body)


def test_row_q_a_malformed_record_kills_nobody(deliver):
    async def body(sandbox, delivery):
        odd = calls(1, requestBody="%%% no base64 %%%", requestBodyEncoding="base64", requestUri="::no uri::")
        sent = delivery.put(odd) | delivery.put(calls(1))
        await until(lambda: sent == set(sandbox.transaction_ids))

    deliver(body)


def test_row_a_and_r_a_batch_is_posted_again_after_an_error_and_once_after_a_success(deliver):
    async def body(sandbox, delivery):
        sandbox.behave_in_turn([Behavior(status=500, times=1), Behavior(status=429, times=1)])
        sent = delivery.put(calls(20))
        await until(lambda: sent == set(sandbox.transaction_ids))
        await asyncio.sleep(0.2)
        assert sandbox.stats["requests"]["by_status"] == {"500": 1, "429": 1, "201": 1}
        assert len(sandbox.transaction_ids) == 20

    deliver(body)


def test_row_h_a_retry_has_the_same_ids_and_the_same_bytes(deliver):
    async def body(sandbox, delivery):
        sandbox.behave(drop_connection=True, times=2)  # stored, but the acknowledgement is lost
        sent = delivery.put(calls(7))
        await until(lambda: len(sandbox.events) == 21)
        assert set(sandbox.transaction_ids) == sent
        events = sandbox.events
        assert events[:7] == events[7:14] == events[14:]
        assert sandbox.stats["unique_transaction_ids"] == 7

    deliver(body)


def rate_of(regex_config, **call) -> float:
    """The rate of one call under these rules, with 77 for whom none fits."""
    config = AppConfig.parse(json.dumps({"sample_rate": 77, "regex_config": regex_config}).encode(), "tag")
    row = {
        "user_id": None,
        "company_id": None,
        "verb": "GET",
        "uri": "https://h/orders",
        "ip_address": "10.0.0.1",
    }
    frame = pl.DataFrame([{**row, "status": 200, **call}])
    frame = frame.with_columns(pl.col("user_id", "company_id").cast(pl.String))
    return rates(frame, config, "docs_min").item()


def test_row_f_a_rule_about_something_unknown_does_not_switch_off_the_others():
    unknown = {"conditions": [{"path": "request.nonsense", "value": "x"}], "sample_rate": 1}
    known = {"conditions": [{"path": "request.route", "value": "orders"}], "sample_rate": 20}
    assert rate_of([unknown, known]) == 20
    assert rate_of([unknown, known], uri="https://h/other") == 77


def test_row_g_all_conditions_of_a_rule_have_to_hold():
    both = [{"path": "request.verb", "value": "GET"}, {"path": "response.status", "value": "500"}]
    rule = {"conditions": both, "sample_rate": 20}
    assert rate_of([rule], status=500) == 20
    assert rate_of([rule], status=200) == 77  # the last one alone does not win
    assert rate_of([rule], status=500, verb="POST") == 77


def test_row_n_what_is_sampled_carries_its_weight(deliver):
    async def body(sandbox, delivery):
        sandbox.set_config({"sample_rate": 10})
        delivery.put(calls(300))
        await until(lambda: delivery.journal.backlog() == {} and sandbox.events)
        assert {event["weight"] for event in sandbox.events} == {10}

    deliver(body)
