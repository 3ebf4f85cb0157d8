"""Profiles and actions on their way: in batches, tried again, within bounds, and nobody waits for them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter

import pytest

from otel_moesif import PermanentError, RetryableError
from otel_moesif.exporters.moesif.side_queue import COUNTER, Bounds
from otel_moesif.settings import RetrySettings
from tests.exporters.side_line import APP, OTHER, Line, came_true, names, user, users

LATER = Bounds(linger=60.0)


async def accept(path, content, application_id):
    pass


async def never(path, content, application_id):
    await asyncio.Event().wait()


# -- batches -----------------------------------------------------------------------------------------------


def test_a_batch_has_at_most_a_hundred_items_and_a_megabyte():
    async def life():
        line = Line(accept, Bounds(linger=0.02))
        line.queue.put("user", APP, users(250))
        line.queue.put("action", APP, [user(number, pad="é" * 150_000) for number in range(7)])
        line.queue.put("company", APP, [user("large", pad="x" * 1_500_000), user("small")])
        await came_true(lambda: line.counted() and len(line.requests) == 3 + 3 + 2)
        await line.queue.shutdown(5)
        return line.requests

    requests = asyncio.run(life())
    sizes = {path: [] for path, _, _ in requests}
    for path, content, _ in requests:
        batch = json.loads(content)
        assert len(batch) <= 100
        assert len(content) <= 1_000_002 or len(batch) == 1
        sizes[path].append(len(batch))
    assert sizes["/v1/users/batch"] == [100, 100, 50]
    assert sizes["/v1/actions/batch"] == [3, 3, 1]


def test_the_first_of_a_batch_waits_for_others_but_a_whole_batch_does_not():
    async def life():
        line = Line(accept, LATER)
        line.queue.put("user", APP, users(60))
        await asyncio.sleep(0.02)
        assert line.requests == []
        line.queue.put("user", APP, users(40, first=60))
        await came_true(lambda: line.requests)
        await line.queue.shutdown(5)
        return [len(json.loads(content)) for _, content, _ in line.requests]

    assert asyncio.run(life()) == [100]


def test_the_guilty_are_taken_out_at_once_when_the_answer_names_them():
    async def post(path, content, application_id):
        rows = [row for row, item in enumerate(json.loads(content)) if item.get("bad")]
        if rows:
            raise PermanentError("HTTP 400", rows=rows)

    async def life():
        line = Line(post, Bounds(linger=0.02))
        line.queue.put("user", APP, [user("a"), user("b", bad=1), user("c"), user("d", bad=1)])
        await came_true(lambda: line.counted().get("sent") == 2)
        await line.queue.shutdown(5)
        assert line.counted() == {"sent": 2, "refused": 2}
        assert len(line.requests) == 2

    asyncio.run(life())


# -- nobody waits, and nothing grows -----------------------------------------------------------------------


def test_an_endpoint_that_hangs_holds_up_no_other_kind_and_no_caller():
    async def post(path, content, application_id):
        await (never if "users" in path else accept)(path, content, application_id)

    async def life():
        line = Line(post)
        began = time.monotonic()
        for number in range(50):
            line.queue.put("user", APP, users(100, first=100 * number))
        assert time.monotonic() - began < 1.0
        line.queue.put("action", APP, ["{}"])
        await came_true(lambda: line.counted().get("sent") == 1)
        await line.queue.shutdown(0.05)

    asyncio.run(life())


def test_a_tenant_whose_endpoint_hangs_holds_up_no_other_one_also_at_the_end():
    async def post(path, content, application_id):
        await (never if application_id == APP else accept)(path, content, application_id)

    async def life():
        line = Line(post)
        for kind in ("user", "company", "action"):
            line.queue.put(kind, APP, users(1))
        await came_true(lambda: len(line.requests) == 3)
        line.queue.put("user", OTHER, users(2))
        await came_true(lambda: line.counted().get("sent") == 2)
        line.queue.put("user", OTHER, users(5))
        await line.queue.shutdown(2.0)
        assert line.counted()["sent"] == 7
        assert line.forgotten == names(users(1))

    asyncio.run(life())


def test_each_lane_has_one_request_at_a_time():
    now, most = Counter(), Counter()
    lanes = [(kind, f"application {number}") for kind in ("user", "action") for number in range(3)]
    all_at_once = asyncio.Event()

    async def post(path, content, application_id):
        lane = path, application_id
        now[lane] += 1
        most[lane] = max(most[lane], now[lane])
        if len(now) == len(lanes):
            all_at_once.set()
        await all_at_once.wait()
        await asyncio.sleep(0.002)
        now[lane] -= 1

    async def life():
        line = Line(post)
        for kind, application_id in lanes:
            line.queue.put(kind, application_id, users(250))
        await came_true(lambda: len(line.requests) == 3 * len(lanes))
        await line.queue.shutdown(5)

    asyncio.run(life())
    assert set(most.values()) == {1}
    assert len(most) == len(lanes)


def test_beyond_the_bound_the_oldest_are_dropped_counted_and_forgotten():
    async def life():
        line = Line(accept, Bounds(items=10, linger=60.0))
        line.queue.put("user", APP, users(4))
        line.queue.put("user", APP, users(12, first=4))
        line.queue.put("company", APP, ["{}"] * 10)
        assert line.counted() == {"dropped": 6}
        assert line.forgotten == names(users(6))
        await line.queue.shutdown(5)
        [sent] = [json.loads(content) for path, content, _ in line.requests if "users" in path]
        assert [item["user_id"] for item in sent] == names(users(10, first=6))

    asyncio.run(life())


def test_bytes_are_bounded_too():
    async def life():
        line = Line(accept, Bounds(bytes=10_000, linger=60.0))
        line.queue.put("user", APP, [user(number, pad="é" * 1000) for number in range(9)])
        assert line.forgotten == names(users(5))
        await line.queue.shutdown(5)

    asyncio.run(life())


def test_who_has_most_waiting_pays_for_the_bound():
    async def life():
        line = Line(accept, Bounds(items=10, linger=60.0))
        line.queue.put("user", OTHER, [user("of the small one")])
        line.queue.put("user", APP, users(30))
        assert line.forgotten == names(users(21))
        await line.queue.shutdown(5)

    asyncio.run(life())


def test_what_failed_is_the_oldest_again():
    async def fail(path, content, application_id):
        raise RetryableError("down")

    async def life():
        line = Line(fail, Bounds(items=150, linger=0.0))
        line.queue.put("user", APP, users(150))
        await came_true(lambda: line.counted().get("failed", 0) >= 200)
        line.queue.put("user", APP, users(150, first=150))
        await came_true(lambda: len(line.forgotten) == 150)
        assert sorted(line.forgotten, key=int) == names(users(150))
        await line.queue.shutdown(5)
        assert sorted(line.forgotten, key=int) == names(users(300))

    asyncio.run(life())


def test_without_retries_what_fails_is_dropped():
    async def fail(path, content, application_id):
        raise RetryableError("down")

    async def life():
        line = Line(fail, Bounds(linger=0.0), RetrySettings(enabled=False))
        line.queue.put("user", APP, users(2))
        await came_true(lambda: line.counted().get("dropped") == 2)
        assert line.counted() == {"failed": 2, "dropped": 2}
        assert line.forgotten == names(users(2))
        await line.queue.shutdown(5)

    asyncio.run(life())


@pytest.mark.parametrize("error", [OSError("gone"), TimeoutError(), ValueError("a bug")])
def test_whatever_is_raised_the_items_are_tried_again(error):
    raised = [error]

    async def post(path, content, application_id):
        if raised:
            raise raised.pop()

    async def life():
        line = Line(post)
        line.queue.put("user", APP, users(1))
        await came_true(lambda: line.counted().get("sent") == 1)
        await line.queue.shutdown(5)

    asyncio.run(life())


# -- the end -----------------------------------------------------------------------------------------------


def test_at_the_end_what_waits_is_sent_at_once():
    async def life():
        line = Line(accept, LATER)
        line.queue.put("user", APP, users(250))
        line.queue.put("action", OTHER, ["{}"])
        await line.queue.shutdown(5)
        assert line.counters.read(COUNTER, "kind") == {"user": 250, "action": 1}
        assert sum(len(json.loads(content)) for _, content, _ in line.requests) == 251

    asyncio.run(life())


def test_the_end_does_not_wait_for_a_backoff_and_tries_everything_once():
    async def fail(path, content, application_id):
        raise RetryableError("down", retry_after=60)

    async def life():
        line = Line(fail)
        line.queue.put("user", APP, users(150))
        await came_true(lambda: line.requests)
        before = len(line.requests)
        await line.queue.shutdown(5)
        assert len(line.requests) - before == 2
        assert line.counted()["dropped"] == 150
        assert sorted(line.forgotten, key=int) == names(users(150))

    asyncio.run(life())


def test_the_end_has_a_bound_and_what_is_left_is_counted():
    async def life():
        line = Line(never)
        line.queue.put("user", APP, users(150))
        await came_true(lambda: line.requests)
        began = time.monotonic()
        await line.queue.shutdown(0.1)
        assert time.monotonic() - began < 2
        assert line.counted() == {"dropped": 150}
        await line.queue.shutdown(0.1)
        line.queue.put("user", APP, users(1))
        assert line.counted() == {"dropped": 151}

    asyncio.run(life())


def test_a_queue_that_was_never_used_ends_at_once():
    asyncio.run(Line(accept).queue.shutdown(5))
