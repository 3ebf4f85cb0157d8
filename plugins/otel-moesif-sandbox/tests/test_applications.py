"""Several applications (tenants) at one sandbox: each with its own events, failures and app config."""

from __future__ import annotations

import pytest

FIRST, SECOND = "application-of-the-first", "application-of-the-second"


def of(application):
    return {"X-Moesif-Application-Id": application}


def test_shows_the_events_of_each_application(run, event):
    async def scenario(sandbox, client):
        one, two, three = event(), event(), event()
        await client.post("/v1/events/batch", json=[one, two], headers=of(FIRST))
        await client.post("/v1/events/batch", json=[three, one], headers=of(SECOND))
        assert sandbox.events_of(FIRST) == [one, two]
        assert sandbox.events_of(SECOND) == [three, one]
        assert sandbox.events == [one, two, three, one]
        stats = sandbox.stats
        assert stats["events_by_application"] == {
            "…irst": {"events": 2, "repeated": 0},
            "…cond": {"events": 2, "repeated": 0},  # an id is known to one application, not to all
        }
        assert (stats["unique_transaction_ids"], stats["repeated"]) == (4, 0)
        for wanted in ("cond", "…cond", SECOND):
            page = (await client.get("/sandbox/events", params={"application": wanted, "limit": 1})).json()
            assert page == {"total": 2, "offset": 0, "next_offset": 1, "events": [three]}
        both = {"application": "irst", "transaction_id": one["transaction_id"]}
        assert (await client.get("/sandbox/events", params=both)).json()["total"] == 1

    run(scenario)


def test_accepts_only_the_applications_it_is_told(run, event):
    async def scenario(sandbox, client):
        for path, body in (("events", event()), ("users", {"user_id": "u1"})):
            assert (await client.post(f"/v1/{path}", json=body, headers=of(FIRST))).status_code == 201
            assert (await client.post(f"/v1/{path}", json=body, headers=of(SECOND))).status_code == 401
        assert (await client.get("/v1/config", headers=of(SECOND))).status_code == 401
        assert len(sandbox.events) == 1

        sandbox.accept_only([SECOND])
        assert (await client.post("/v1/events", json=event(), headers=of(FIRST))).status_code == 401
        assert (await client.get("/v1/config", headers=of(SECOND))).status_code == 200

        told = await client.put("/sandbox/applications", json=[FIRST])
        assert told.json() == {"applications": ["…irst"]}
        assert (await client.get("/v1/config", headers=of(SECOND))).status_code == 401
        told = await client.put("/sandbox/applications", content=b"null")
        assert told.json() == {"applications": None}
        assert (await client.get("/v1/config", headers=of(SECOND))).status_code == 200
        assert (await client.put("/sandbox/applications", json="x")).status_code == 400
        assert (await client.put("/sandbox/applications", content=b"{")).status_code == 400

    run(scenario, applications=[FIRST])


def test_one_application_fails_while_others_work(run, event):
    async def scenario(sandbox, client):
        async def status(application):
            return (await client.post("/v1/events", json=event(), headers=of(application))).status_code

        sandbox.behave(application_id=FIRST, status=401, times=2)
        assert [await status(FIRST), await status(SECOND), await status(FIRST)] == [401, 201, 401]
        assert await status(FIRST) == 201  # and then it is treated like all others
        sandbox.behave(status=503)
        sandbox.behave(application_id=SECOND)
        assert [await status(FIRST), await status(SECOND)] == [503, 201]
        sandbox.behave()
        assert [await status(FIRST), await status(SECOND)] == [201, 201]

    run(scenario)


def test_each_application_may_have_a_config_of_its_own(run, event):
    async def scenario(sandbox, client):
        async def ask(application, **headers):
            return await client.get("/v1/config", headers=of(application) | headers)

        sandbox.set_config({"sample_rate": 10}, FIRST)
        first, second = await ask(FIRST), await ask(SECOND)
        assert (first.json()["sample_rate"], second.json()["sample_rate"]) == (10, 100)
        tag = first.headers["X-Moesif-Config-ETag"]
        assert tag != second.headers["X-Moesif-Config-ETag"]
        posted = await client.post("/v1/events", json=event(), headers=of(FIRST))
        assert posted.headers["X-Moesif-Config-ETag"] == tag
        for named in (tag, f'"{tag}"', f'W/"{tag}"', f'"other", "{tag}"'):
            assert (await ask(FIRST, **{"If-None-Match": named})).status_code == 304
        assert (await ask(SECOND, **{"If-None-Match": tag})).status_code == 200
        assert sandbox.stats["config_requests"] == {"200": 3, "304": 4}

        sandbox.set_config({"sample_rate": 10}, FIRST)  # the same content is the same config
        assert (await ask(FIRST, **{"If-None-Match": tag})).status_code == 304
        sandbox.set_config({"sample_rate": 20})
        assert (await ask(SECOND)).json()["sample_rate"] == 20
        assert (await ask(FIRST)).json()["sample_rate"] == 10

    run(scenario)


def test_a_config_can_be_read_and_set_without_being_counted(run):
    async def scenario(sandbox, client):
        which = {"application_id": FIRST}
        put = await client.put("/sandbox/config", params=which, json={"sample_rate": 5})
        assert put.json()["sample_rate"] == 5
        own = await client.get("/sandbox/config", params=which)
        assert own.json() == put.json()
        assert own.headers["X-Moesif-Config-ETag"] == put.headers["X-Moesif-Config-ETag"]
        assert (await client.get("/sandbox/config")).json()["sample_rate"] == 100
        assert sandbox.stats["config_requests"] == {}

    run(scenario)


def test_the_config_can_fail_alone(run, event):
    async def scenario(sandbox, client):
        sandbox.behave(kind="config", status=503, retry_after=1, times=1)
        failed = await client.get("/v1/config")
        assert (failed.status_code, failed.headers["Retry-After"]) == (503, "1")
        assert "X-Moesif-Config-ETag" not in failed.headers
        assert (await client.post("/v1/events", json=event())).status_code == 201
        assert (await client.get("/v1/config")).status_code == 200
        assert sandbox.stats["config_requests"] == {"503": 1, "200": 1}

    run(scenario)


@pytest.mark.parametrize("where", ["stats", "behavior", "applications"])
def test_shows_no_more_of_an_application_id_than_four_characters(run, event, where):
    async def scenario(sandbox, client):
        sandbox.accept_only([FIRST])
        sandbox.behave(application_id=FIRST, status=503)
        await client.post("/v1/events", json=event(), headers=of(FIRST))
        await client.post("/v1/events", json=event(), headers=of(SECOND))
        shown = (await client.get(f"/sandbox/{where}")).text
        assert "of-the" not in shown
        assert "irst" in shown

    run(scenario)
