"""The sandbox counts and shows what it got, and fails in documented ways when told to."""

from __future__ import annotations

import asyncio

import httpx
import pytest


def test_counts_repeated_transaction_ids_once(run, event):
    """Moesif's own example (apidocs _overview.md, Idempotency): batches AB, C and ACD are 4 events."""

    async def scenario(sandbox, client):
        a, b, c, d = (event() for _ in range(4))
        a_again = a | {"transaction_id": a["transaction_id"].upper()}
        for batch in ([a, b], [c], [a_again, c, d]):
            await client.post("/v1/events/batch", json=batch)
        stats = (await client.get("/sandbox/stats")).json()
        assert (stats["events"], stats["unique_transaction_ids"], stats["repeated"]) == (6, 4, 2)
        assert stats["by_api"] == {"PizzaShack": {"200": 4}}
        assert stats["by_event_type"] == {"response": 4}
        found = await client.get("/sandbox/events", params={"transaction_id": c["transaction_id"]})
        assert found.json() == {"total": 2, "offset": 0, "next_offset": 2, "events": [c, c]}

    run(scenario)


def test_counts_by_api_status_type_and_application(run, event):
    async def scenario(sandbox, client):
        fault = {"response.status": 429, "metadata.eventType": "fault", "metadata.apiName": "Orders"}
        await client.post("/v1/events/batch", json=[event(), event({"response.status": 404}), event(fault)])
        await client.post("/v1/events", json=event({"metadata": ..., "response": ...}))
        await client.post("/v1/events", json=event({"weight": 0}))
        stats = sandbox.stats
        assert stats["by_api"] == {
            "PizzaShack": {"200": 1, "404": 1},
            "Orders": {"429": 1},
            "(none)": {"(none)": 1},
        }
        assert stats["by_event_type"] == {"response": 2, "fault": 1, "(none)": 1}
        assert stats["requests"] == {"total": 3, "by_status": {"201": 2, "400": 1}}
        (reason,) = stats["rejected"]
        assert reason.startswith("400 an event is not valid (weight: ")
        assert stats["by_application"] == {"…wxyz": 3}

    run(scenario)


def test_pages_through_the_events(run, event):
    async def scenario(sandbox, client):
        events = [event() for _ in range(5)]
        await client.post("/v1/events/batch", json=events)
        page = (await client.get("/sandbox/events?limit=3")).json()
        assert page == {"total": 5, "offset": 0, "next_offset": 3, "events": events[:3]}
        rest = (await client.get("/sandbox/events", params={"offset": page["next_offset"]})).json()
        assert rest["events"] == events[3:]
        assert (await client.get("/sandbox/events?offset=99")).json()["events"] == []
        assert (await client.get("/sandbox/events?limit=x")).status_code == 400
        assert (await client.get("/sandbox/events?offset=-1")).status_code == 400

    run(scenario)


def test_keeps_the_newest_and_counts_all(run, event):
    async def scenario(sandbox, client):
        events = [event() for _ in range(5)]
        await client.post("/v1/events/batch", json=events)
        assert sandbox.events == events[-2:]
        assert sandbox.transaction_ids == [one["transaction_id"] for one in events[-2:]]
        stats = sandbox.stats
        assert (stats["events"], stats["kept"], stats["left"], stats["repeated"]) == (5, 2, 3, 0)
        # A number stays an event's own when older ones leave.
        assert (await client.get("/sandbox/events?offset=4")).json()["events"] == events[4:]
        assert (await client.get("/sandbox/events?offset=0")).json()["offset"] == 3
        assert (await client.delete("/sandbox/events")).status_code == 204
        assert (sandbox.events, sandbox.stats["events"]) == ([], 0)

    run(scenario, max_events=2)


def test_answers_an_error_for_the_next_requests(run, event):
    async def scenario(sandbox, client):
        told = await client.post("/sandbox/behavior", json={"status": 503, "retry_after": 2, "times": 2})
        assert told.json()["times"] == 2
        answers = [await client.post("/v1/events", json=event()) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [503, 503, 201]
        assert [answer.headers.get("Retry-After") for answer in answers] == ["2", "2", None]
        assert len(sandbox.events) == 1
        assert sandbox.stats["rejected"] == {"503 told to answer 503": 2}
        assert (await client.get("/health/probe")).status_code == 200

    run(scenario)


def test_rejects_a_batch_for_one_event(run, event):
    async def scenario(sandbox, client):
        good, bad = event(), event()
        sandbox.behave(reject_transaction_id=bad["transaction_id"])
        answer = await client.post("/v1/events/batch", json=[good, bad])
        assert (answer.status_code, answer.json()["faults"][0]["index"]) == (400, 1)
        assert (await client.post("/v1/events/batch", json=[good])).status_code == 201
        sandbox.behave()
        assert (await client.post("/v1/events/batch", json=[bad])).status_code == 201

    run(scenario)


def test_loses_the_acknowledgement_of_what_it_stored(run, event):
    async def scenario(sandbox, client):
        one = event()
        sandbox.behave(drop_connection=True, times=1)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/v1/events", json=one)
        assert sandbox.events == [one]
        assert (await client.post("/v1/events", json=one)).status_code == 201
        assert sandbox.stats["repeated"] == 1
        assert sandbox.stats["requests"]["by_status"] == {"dropped": 1, "201": 1}

        sandbox.behave(drop_connection=True, status=503, times=1)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/v1/events", json=event())
        assert sandbox.stats["events"] == 2

    run(scenario)


def test_answers_late_what_it_stored(run, event):
    async def scenario(sandbox, client):
        sandbox.behave(delay=30)
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/events", json=event(), timeout=0.3)
        assert len(sandbox.events) == 1
        # Others are served meanwhile.
        assert (await asyncio.wait_for(client.get("/health/probe"), 5)).status_code == 200

    run(scenario)


@pytest.mark.parametrize("body", ["{", '{"status": "x"}', '{"stauts": 503}', '{"status": 199}', "[]"])
def test_refuses_a_behavior_that_it_does_not_know(run, body):
    async def scenario(sandbox, client):
        answer = await client.post("/sandbox/behavior", content=body)
        assert answer.status_code == 400
        assert answer.json()["problems"]

    run(scenario)
