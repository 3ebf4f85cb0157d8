"""Users, companies, subscriptions and actions: checked as documented, merged as Moesif merges them."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parents[4] / "shared" / "fixtures" / "moesif"

USER = {"user_id": "u1", "company_id": "c1", "metadata": {"email": "a@example.com", "plan": {"name": "Free"}}}
SUBSCRIPTION = {"subscription_id": "s1", "company_id": "c1", "status": "active"}
ACTION = {"action_name": "Signed Up", "request": {"uri": "https://example.com/pricing"}, "user_id": "u1"}


def without(thing, path):
    thing = copy.deepcopy(thing)
    *parents, last = path.split(".")
    place = thing
    for parent in parents:
        place = place[parent]
    del place[last]
    return thing


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("apidocs_user", "users"),
        ("apidocs_users_batch", "users/batch"),
        ("apidocs_company", "companies"),
        ("apidocs_companies_batch", "companies/batch"),
        ("apidocs_subscription", "subscriptions"),
        ("apidocs_subscriptions_batch", "subscriptions/batch"),
        ("apidocs_action_single", "actions"),
        ("apidocs_actions_batch", "actions/batch"),
    ],
)
def test_takes_and_shows_what_moesif_documents(run, name, path):
    fixture = FIXTURES / f"{name}.json"
    if not fixture.exists():
        pytest.skip("the captured payloads are not here")
    body = json.loads(fixture.read_text())
    sent = body if isinstance(body, list) else [body]
    kind = path.split("/")[0]

    async def scenario(sandbox, client):
        answer = await client.post(f"/v1/{path}", json=body)
        assert answer.status_code == 201, answer.text
        kept = getattr(sandbox, kind)
        assert (list(kept.values()) if isinstance(kept, dict) else kept) == sent
        page = (await client.get(f"/sandbox/{kind}", params={"limit": 1})).json()
        assert page == {"total": len(sent), "offset": 0, "next_offset": 1, kind: sent[:1]}
        count = len(sent)
        assert sandbox.stats[kind] == {"received": count, "kept": count, "requests": {"201": 1}}
        assert sandbox.stats["requests"]["total"] == 0  # counts event requests

    run(scenario)


@pytest.mark.parametrize(
    ("path", "wrong", "field"),
    [
        ("users", without(USER, "user_id"), "user_id"),
        ("users", USER | {"user_id": ""}, "user_id"),
        ("users", USER | {"user_id": 7}, "user_id"),
        ("users", USER | {"metadata": "text"}, "metadata"),
        ("users", USER | {"campaign": {"utm_source": 7}}, "campaign.utm_source"),
        ("companies", {"company_domain": "example.com"}, "company_id"),
        ("companies", {"company_id": "c1", "modified_time": "yesterday"}, "modified_time"),
        ("subscriptions", without(SUBSCRIPTION, "company_id"), "company_id"),
        ("subscriptions", without(SUBSCRIPTION, "status"), "status"),
        ("subscriptions", SUBSCRIPTION | {"status": "done"}, "status"),
        ("actions", without(ACTION, "action_name"), "action_name"),
        ("actions", without(ACTION, "request"), "request"),
        ("actions", without(ACTION, "request.uri"), "request.uri"),
        ("actions", ACTION | {"request": {"uri": "/pricing"}}, "request.uri"),
        ("actions", ACTION | {"transaction_id": "7"}, "transaction_id"),
    ],
)
def test_names_what_is_wrong_and_takes_nothing(run, path, wrong, field):
    good = {
        "users": USER,
        "companies": {"company_id": "c9"},
        "subscriptions": SUBSCRIPTION,
        "actions": ACTION,
    }

    async def scenario(sandbox, client):
        answer = await client.post(f"/v1/{path}/batch", json=[good[path], wrong])
        assert answer.status_code == 400
        (fault,) = answer.json()["faults"]
        assert (fault["index"], fault["field"]) == (1, field)
        assert not getattr(sandbox, path)
        assert sandbox.stats[path]["requests"] == {"400": 1}

    run(scenario)


def test_profiles_merge_recursively(run):
    """Apidocs: "the new user properties will be merged with the existing properties recursively"."""

    async def scenario(sandbox, client):
        await client.post("/v1/users", json=USER)
        change = {"user_id": "u1", "metadata": {"plan": {"seats": 3}, "tags": ["a"]}}
        await client.post("/v1/users/batch", json=[change, {"user_id": "u1", "metadata": {"tags": ["b"]}}])
        assert sandbox.users == {
            "u1": USER
            | {
                "metadata": {
                    "email": "a@example.com",
                    "plan": {"name": "Free", "seats": 3},
                    "tags": ["b"],
                }
            }
        }
        assert sandbox.stats["users"] == {"received": 3, "kept": 1, "requests": {"201": 2}}
        sandbox.users["u1"]["metadata"].clear()  # a copy: what came cannot be changed
        assert sandbox.users["u1"]["metadata"]["tags"] == ["b"]

    run(scenario)


def test_the_same_id_in_two_applications_is_two_profiles(run):
    async def scenario(sandbox, client):
        for name in ("first", "second"):
            headers = {"X-Moesif-Application-Id": f"an-application-{name}"}
            await client.post("/v1/users", json={"user_id": "u1", "metadata": {name: True}}, headers=headers)
            await client.post("/v1/companies", json={"company_id": name}, headers=headers)
            await client.post("/v1/actions", json=ACTION | {"action_name": name}, headers=headers)
        assert sandbox.users_of("an-application-first") == {
            "u1": {"user_id": "u1", "metadata": {"first": True}}
        }
        assert list(sandbox.companies_of("an-application-second")) == ["second"]
        assert [one["action_name"] for one in sandbox.actions_of("an-application-second")] == ["second"]
        shown = (await client.get("/sandbox/users", params={"application": "cond"})).json()
        assert shown["users"] == [{"user_id": "u1", "metadata": {"second": True}}]
        assert (await client.get("/sandbox/users")).json()["total"] == 2
        sandbox.clear()
        assert (sandbox.users, sandbox.companies, sandbox.actions) == ({}, {}, [])

    run(scenario)


def test_keeps_as_many_profiles_as_events(run):
    async def scenario(sandbox, client):
        await client.post("/v1/users/batch", json=[{"user_id": str(number)} for number in range(5)])
        await client.post("/v1/actions/batch", json=[ACTION] * 5)
        assert list(sandbox.users) == ["3", "4"]
        assert (len(sandbox.actions), sandbox.stats["actions"]["received"]) == (2, 5)

    run(scenario, max_events=2)


def test_a_batch_of_actions_has_at_most_15_mb(run):
    async def scenario(sandbox, client):
        filler = b" " * 15_000_000
        answer = await client.post("/v1/actions/batch", content=b"[" + filler + b"]")
        assert answer.status_code == 413
        assert "15 MB" in answer.json()["error"]
        assert (await client.post("/v1/users/batch", content=b"[" + filler + b"]")).status_code == 201

    run(scenario)


def test_a_behavior_holds_for_one_kind_of_request(run, event):
    async def scenario(sandbox, client):
        sandbox.behave(kind="users", status=503, times=1)
        assert (await client.post("/v1/events", json=event())).status_code == 201
        assert (await client.post("/v1/companies", json={"company_id": "c1"})).status_code == 201
        assert (await client.post("/v1/users", json=USER)).status_code == 503
        assert (await client.post("/v1/users", json=USER)).status_code == 201
        sandbox.behave(kind="actions", reject_where={"action_name": "Signed Up"})
        assert (await client.post("/v1/actions", json=ACTION)).status_code == 400
        sandbox.behave()
        assert (await client.post("/v1/actions", json=ACTION)).status_code == 201

    run(scenario)
