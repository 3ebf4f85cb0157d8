"""Random misbehavior: the same each time, and never at the cost of an event."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import get_args

import httpx
import pytest
from otel_moesif_sandbox import Chaos
from otel_moesif_sandbox.chaos import ChaosKind
from pydantic import ValidationError


def drawn(chaos, count):
    draws = chaos.draws()
    return [next(draws) for _ in range(count)]


def test_the_same_seed_draws_the_same():
    chaos = Chaos(seed=7, share=0.5)
    assert drawn(chaos, 500) == drawn(chaos, 500)
    assert drawn(chaos, 500) != drawn(Chaos(seed=8, share=0.5), 500)


def test_a_smaller_share_spares_requests_and_changes_nothing_else():
    much, little = drawn(Chaos(seed=7, share=0.8), 500), drawn(Chaos(seed=7, share=0.2), 500)
    assert all(few is None or few == many for few, many in zip(little, much, strict=True))
    assert 500 - much.count(None) > 300
    assert 60 < 500 - little.count(None) < 140


def test_draws_every_kind_and_nothing_that_blames_an_event():
    found = [one for one in drawn(Chaos(seed=1, share=1, max_delay=3), 2000) if one]
    names = Counter(one.name.removesuffix(" with Retry-After") for one in found)
    assert set(names) == set(get_args(ChaosKind))
    assert min(names.values()) > 150  # of about 222
    statuses = {one.changes.get("status") for one in found}
    assert statuses == {None, 429, 500, 502, 503, 504}
    assert any("retry_after" in one.changes for one in found)
    assert any("status" in one.changes and "retry_after" not in one.changes for one in found)
    delays = [one.changes["delay"] for one in found if one.name == "delay"]
    assert 0 <= min(delays) < 0.3
    assert 2.7 < max(delays) <= 3


@pytest.mark.parametrize("wrong", [{"share": 1.1}, {"kinds": []}, {"kinds": ["400"]}, {"max_delay": -1}])
def test_refuses_chaos_that_it_does_not_know(wrong):
    with pytest.raises(ValidationError):
        Chaos(**{"seed": 1, "share": 0.5} | wrong)


def test_whoever_tries_again_delivers_everything(run, event):
    """Four clients at once, as an exporter sends; each event is there once by its transaction id."""
    sent = [[event() for _ in range(3)] for _ in range(40)]

    async def scenario(sandbox, client):
        sandbox.behave(chaos=Chaos(seed=11, share=0.6, max_delay=0.02, retry_after=0))
        seen = Counter()

        async def deliver(batches):
            for batch in batches:
                for _ in range(50):
                    try:
                        answer = await client.post("/v1/events/batch", json=batch)
                    except httpx.TransportError as error:
                        seen[type(error).__name__] += 1
                        continue
                    seen[answer.status_code] += 1
                    if answer.is_success:
                        break
                else:
                    raise AssertionError("chaos without end")

        await asyncio.gather(*(deliver(sent[number::4]) for number in range(4)))
        stats = (await client.get("/sandbox/stats")).json()
        assert set(sandbox.transaction_ids) == {one["transaction_id"] for batch in sent for one in batch}
        assert stats["unique_transaction_ids"] == 120
        # Acknowledgements were lost, so there were repetitions.
        assert stats["repeated"] == 3 * (stats["chaos"]["drop_after"] + stats["chaos"]["truncate"])
        assert sum(stats["chaos"].values()) > 30
        assert 400 not in seen
        lost = sum(stats["chaos"][kind] for kind in ("drop_before", "drop_after", "truncate"))
        assert sum(count for what, count in seen.items() if isinstance(what, str)) == lost
        sandbox.clear()
        assert sandbox.stats["chaos"] == {}

    run(scenario)


def test_chaos_of_one_application_leaves_the_others_alone(run, event):
    async def scenario(sandbox, client):
        chaos = {"seed": 1, "share": 1, "kinds": ["503"]}
        told = {"application_id": "application-of-the-first", "chaos": chaos, "times": 2}
        assert (await client.post("/sandbox/behavior", json=told)).status_code == 200
        first = {"X-Moesif-Application-Id": "application-of-the-first"}
        assert (await client.post("/v1/events", json=event())).status_code == 201
        statuses = [
            (await client.post("/v1/events", json=event(), headers=first)).status_code for _ in range(3)
        ]
        assert statuses == [503, 503, 201]

    run(scenario)
