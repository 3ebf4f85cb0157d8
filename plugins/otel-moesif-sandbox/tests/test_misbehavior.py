"""What a sandbox does to a client that asks for trouble: answers cut, slow or huge, and failures in turn."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from otel_moesif_sandbox import Behavior


def test_behaves_in_turn(run, event):
    async def scenario(sandbox, client):
        sandbox.behave_in_turn(
            [Behavior(status=503, times=2), Behavior(times=1), Behavior(status=429, retry_after=1, times=1)]
        )
        statuses = [(await client.post("/v1/events", json=event())).status_code for _ in range(6)]
        assert statuses == [503, 503, 201, 429, 201, 201]

        turns = [{"status": 500, "times": 1}, {"status": 401, "kind": "config"}, {"status": 502}]
        told = (await client.post("/sandbox/behavior", json=turns)).json()
        assert (told["status"], told["times"]) == (500, 1)
        assert [turn["status"] for turn in told["then"]] == [502]
        assert [(turn["kind"], turn["status"]) for turn in told["others"]] == [("config", 401)]
        statuses = [(await client.post("/v1/events", json=event())).status_code for _ in range(3)]
        assert statuses == [500, 502, 502]
        assert (await client.get("/v1/config")).status_code == 401

    run(scenario)


@pytest.mark.parametrize("turns", [[], [{"status": 503}, {"status": 500}], [{"stauts": 503}]])
def test_refuses_turns_that_never_come(run, turns):
    async def scenario(sandbox, client):
        answer = await client.post("/sandbox/behavior", json=turns)
        assert answer.status_code == 400
        assert answer.json()["problems"]

    run(scenario)


def test_refuses_them_in_python_too(run):
    async def scenario(sandbox, client):
        with pytest.raises(ValueError, match="times is needed"):
            sandbox.behave_in_turn([Behavior(status=503), Behavior()])

    run(scenario)


@pytest.mark.parametrize("status", [200, 202, 204])
def test_takes_events_under_any_status_of_success(run, event, status):
    async def scenario(sandbox, client):
        sandbox.behave(status=status)
        answer = await client.post("/v1/events", json=event())
        assert (answer.status_code, answer.content) == (status, b"")
        assert "X-Moesif-Config-ETag" in answer.headers
        assert (await client.post("/v1/events", json=event({"weight": 0}))).status_code == 400
        assert len(sandbox.events) == 1

    run(scenario)


@pytest.mark.parametrize("status", [302, 401, 402, 403, 408, 413])
def test_stores_nothing_under_any_other_status(run, event, status):
    async def scenario(sandbox, client):
        sandbox.behave(status=status)
        assert (await client.post("/v1/events", json=event())).status_code == status
        assert sandbox.events == []

    run(scenario)


def test_cuts_the_answer_in_its_middle(run, event):
    async def scenario(sandbox, client):
        one = event()
        sandbox.behave(truncate=True, times=1)
        async with client.stream("POST", "/v1/events", json=one) as answer:
            assert answer.status_code == 201  # the head is whole
            with pytest.raises(httpx.RemoteProtocolError):
                await answer.aread()
        assert sandbox.events == [one]
        assert (await client.post("/v1/events", json=one)).status_code == 201
        sandbox.behave(truncate=True, status=503, times=1)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/v1/events", json=event())
        assert sandbox.stats["events"] == 2
        assert sandbox.stats["requests"]["by_status"] == {"201": 2, "503": 1}

    run(scenario)


def test_lets_the_answer_trickle(run, event):
    async def scenario(sandbox, client):
        sandbox.behave(slow_body=1.2)
        before = time.monotonic()
        async with client.stream("POST", "/v1/events", json=event(), timeout=1) as answer:
            # No single read takes long, all of them together do.
            pieces = [piece async for piece in answer.aiter_raw()]
        assert time.monotonic() - before >= 1.1
        assert len(pieces) > 3
        sandbox.behave(slow_body=0.1, status=503)
        assert (await client.post("/v1/events", json=event())).json()["error"] == "told to answer 503"

    run(scenario)


@pytest.mark.parametrize("status", [None, 503])
def test_answers_with_as_much_garbage_as_told(run, event, status):
    async def scenario(sandbox, client):
        sandbox.behave(garbage=3_000_000, status=status)
        answer = await client.post("/v1/events", json=event())
        assert (answer.status_code, len(answer.content)) == (status or 201, 3_000_000)
        assert len(sandbox.events) == (0 if status else 1)

    run(scenario)


def test_a_client_that_has_enough_of_the_garbage_does_no_harm(run, event):
    async def scenario(sandbox, client):
        sandbox.behave(garbage=1_000_000_000, times=1)
        async with client.stream("POST", "/v1/events", json=event()) as answer:
            async for _ in answer.aiter_raw():
                break
        assert (await client.post("/v1/events", json=event())).status_code == 201

    run(scenario)


def test_rejects_events_by_their_values(run, event):
    async def scenario(sandbox, client):
        deletion = event({"request.verb": "DELETE"})
        sandbox.behave(reject_where={"request.verb": "DELETE"})
        answer = await client.post("/v1/events/batch", json=[event(), deletion])
        assert answer.status_code == 400
        (fault,) = answer.json()["faults"]
        assert (fault["index"], fault["field"]) == (1, "request.verb")
        assert (await client.post("/v1/events/batch", json=[event()])).status_code == 201
        sandbox.behave(reject_where={"request.verb": "DELETE", "metadata.apiName": "Orders"})
        assert (await client.post("/v1/events", json=deletion)).status_code == 201
        orders = event({"request.verb": "DELETE", "metadata.apiName": "Orders"})
        assert (await client.post("/v1/events", json=orders)).status_code == 400
        assert (await client.post("/v1/events", json=event({"metadata": ...}))).status_code == 201

    run(scenario)


def test_rejects_events_that_are_too_old_when_told(run, event):
    def ago(**span):
        return (datetime.now(UTC) - timedelta(**span)).isoformat(timespec="milliseconds")

    async def scenario(sandbox, client):
        async def status(when):
            answer = await client.post("/v1/events/batch", json=[event({"request.time": when})])
            return answer.status_code, [
                fault["field"] for fault in answer.json()["faults"]
            ] if answer.content else []

        refused = (400, ["request.time"])
        assert await status(ago(days=31)) == refused
        assert await status(ago(days=29)) == (201, [])
        # Without a zone it is UTC.
        assert await status(ago(days=30, minutes=1).removesuffix("+00:00")) == refused
        assert await status(ago(days=30, minutes=-1).removesuffix("+00:00")) == (201, [])
        assert await status(ago(days=29).replace("+00:00", "Z")) == (201, [])
        assert await status("2024-02-31T00:00:00Z") == refused
        action = {"action_name": "a", "request": {"uri": "https://a/", "time": ago(days=31)}}
        assert (
            await client.post("/v1/actions", json=action)
        ).status_code == 201  # documented for events only

    run(scenario, reject_older_than=30 * 86_400)


def test_takes_events_of_any_age_by_default(run, event):
    async def scenario(sandbox, client):
        old = event({"request.time": "1999-01-01T00:00:00Z"})
        assert (await client.post("/v1/events", json=old)).status_code == 201

    run(scenario)
