"""Profiles and actions arrive, also after failures; the sandbox checks them against the documented model."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_moesif import PermanentError, RetryableError
from otel_moesif.exporters.moesif.actions import Actions
from otel_moesif.exporters.moesif.identity import Identity
from otel_moesif.exporters.moesif.mapping import uri
from otel_moesif.exporters.moesif.profiles import Profiles
from otel_moesif.exporters.moesif.settings import ActionSettings, IdentitySettings, ProfileSettings
from otel_moesif.exporters.moesif.side_queue import Bounds, SideQueue
from otel_moesif.settings import RetrySettings
from tests.exporters.side_line import APP, OTHER, Line, came_true, names, sandboxes, user, users
from tests.exporters.test_moesif_profiles import Clock, frame
from tests.processors.events import EVENTS, Counters


@pytest.fixture
def sandbox():
    return sandboxes()


def test_users_companies_and_actions_arrive_each_with_its_application(sandbox):
    async def life():
        async with sandbox() as (server, post):
            line = Line(post, Bounds(linger=0.05))
            line.queue.put("user", APP, [user("a", company_id="acme", metadata={"seats": 5})])
            line.queue.put("user", OTHER, [user("a"), user("b")])
            line.queue.put("company", APP, ['{"company_id":"acme"}'])
            action = {"action_name": "Bought", "request": {"uri": "https://h/x"}}
            line.queue.put("action", APP, [json.dumps(action)] * 2)
            await came_true(lambda: line.counted().get("sent") and len(server.actions) == 2)
            await line.queue.shutdown(5)
            assert server.users_of(APP) == {
                "a": {"user_id": "a", "company_id": "acme", "metadata": {"seats": 5}}
            }
            assert set(server.users_of(OTHER)) == {"a", "b"}
            assert set(server.companies_of(APP)) == {"acme"}
            assert server.actions_of(APP) == [action] * 2
            assert len(line.requests) == 4

    asyncio.run(life())


def test_what_fails_is_tried_again_until_it_arrives(sandbox):
    async def life():
        async with sandbox() as (server, post):
            server.behave(kind="users", status=503, times=2)
            line = Line(post)
            line.queue.put("user", APP, users(3))
            await came_true(lambda: len(server.users_of(APP)) == 3)
            await line.queue.shutdown(5)
            assert line.counted() == {"failed": 6, "sent": 3}
            assert line.forgotten == []

    asyncio.run(life())


def test_retry_after_is_the_least_wait(sandbox):
    async def life():
        async with sandbox() as (server, post):
            server.behave(kind="users", status=429, retry_after=0.3, times=1)
            line = Line(post)
            began = time.monotonic()
            line.queue.put("user", APP, users(1))
            await came_true(lambda: server.users_of(APP))
            assert time.monotonic() - began >= 0.3
            await line.queue.shutdown(5)

    asyncio.run(life())


def test_a_refused_key_is_told_once_and_holds_up_no_other_application(sandbox, caplog):
    async def life():
        async with sandbox() as (server, post):
            server.accept_only([OTHER])
            line = Line(post)
            line.queue.put("user", APP, users(2))
            await came_true(lambda: line.counted().get("failed", 0) >= 6)
            line.queue.put("user", OTHER, users(2))
            await came_true(lambda: len(server.users_of(OTHER)) == 2)
            server.accept_only(None)
            await came_true(lambda: len(server.users_of(APP)) == 2)
            await line.queue.shutdown(5)

    with caplog.at_level(logging.INFO):
        asyncio.run(life())
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == ["moesif: cannot send profiles of users: HTTP 401"]
    assert "application-id" not in caplog.text


def test_of_a_refused_batch_only_the_guilty_profile_is_lost(sandbox):
    async def life():
        async with sandbox() as (server, post):
            line = Line(post, Bounds(linger=0.05))
            line.queue.put("user", APP, [*users(6), user(""), *users(4, first=6)])
            await came_true(lambda: len(server.users_of(APP)) == 10)
            await line.queue.shutdown(5)
            assert line.counted() == {"sent": 10, "refused": 1}
            # it would be refused again and again
            assert line.forgotten == []

    asyncio.run(life())


@settings(max_examples=10, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=3))
def test_the_sandbox_takes_whatever_is_made_of_any_events(batches):
    sandbox = sandboxes()
    metadata = {"api": "apiName", "tier": "property.tier", "at": "requestTimestamp", "size": "responseSize"}
    options = ProfileSettings(enabled=True, metadata=metadata)
    users, companies = Profiles("user", options), Profiles("company", options)
    actions = Actions([ActionSettings(name="Called", where="TRUE", metadata=metadata)], uri)
    identity = Identity(IdentitySettings(company_id=("companyId", "apiName")))

    async def life():
        async with sandbox() as (server, post):
            line = Line(post)
            for events in batches:
                rows = identity.columns(events.frame)
                line.queue.put("user", APP, users.seen(rows, APP))
                line.queue.put("company", APP, companies.seen(rows, APP))
                line.queue.put("action", APP, actions.made(rows))
            await line.queue.shutdown(10)
            assert set(line.counted()) <= {"sent"}
            assert len(server.actions) == sum(map(len, batches))

    asyncio.run(life())


CALLS = st.tuples(st.sampled_from([APP, OTHER]), st.lists(st.sampled_from("abcdex"), min_size=1, max_size=4))
STEPS = st.lists(CALLS | st.floats(1, 40), max_size=20)
OUTCOMES = st.lists(st.sampled_from(["taken", "fails", "taken"]), max_size=30)
INTERVAL = 60


class Moesif:
    """Takes profiles, or not, as told; never ``x``. Keeps book of what was made and what became of it."""

    def __init__(self, outcomes):
        self.clock = Clock()
        self.profiles = Profiles("user", ProfileSettings(enabled=True, interval=f"{INTERVAL}s"), self.clock)
        self.outcomes = outcomes
        self.made, self.ended, self.forgotten = [], [], []
        self.last = {}

    async def post(self, path, content, application_id):
        ids = [item["user_id"] for item in json.loads(content)]
        await asyncio.sleep(0)
        if self.outcomes and self.outcomes.pop() == "fails":
            raise RetryableError("busy")
        if "x" not in ids or len(ids) == 1:
            self.ended.extend((application_id, name) for name in ids)
        if "x" in ids:
            raise PermanentError("HTTP 400")

    def forget(self, application_id, texts):
        self.profiles.forget(application_id, texts)
        self.forgotten.extend((application_id, name) for name in names(texts))

    def call(self, application_id, callers):
        texts = self.profiles.seen(frame(*({"user": name} for name in callers)), application_id)
        for key in ((application_id, name) for name in names(texts)):
            assert self.is_due(key), "sent twice in an interval"
            self.last[key] = (self.clock.now, self.forgotten.count(key))
            self.made.append(key)
        return texts

    def is_due(self, key):
        if key not in self.last:
            return True
        at, forgotten = self.last[key]
        return self.clock.now - at >= INTERVAL or self.forgotten.count(key) > forgotten


@settings(max_examples=40, deadline=None)
@given(STEPS, OUTCOMES)
def test_an_id_is_sent_once_per_interval_and_never_lost_on_failure(steps, outcomes):
    """A profile arrives, or is refused, or its id is due again."""

    async def life(moesif):
        retry = RetrySettings(initial_interval=timedelta(0), max_interval=timedelta(0))
        bounds = Bounds(items=3, linger=0.0)
        queue = SideQueue(moesif.post, {"user": moesif.forget}, retry, Counters().context, bounds)
        for step in steps:
            if isinstance(step, float):
                moesif.clock.now += step
            else:
                queue.put("user", step[0], moesif.call(*step))
            for _ in range(3):
                await asyncio.sleep(0)
        await queue.shutdown(5)

    moesif = Moesif(outcomes)
    asyncio.run(life(moesif))
    assert sorted(moesif.made) == sorted(moesif.ended + moesif.forgotten)
    due = {key: moesif.is_due(key) for key in moesif.last}
    assert {key: bool(moesif.call(key[0], [key[1]])) for key in due} == due
