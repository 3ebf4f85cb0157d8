"""A side queue under test: what was posted with it, what was forgotten, and a sandbox to post to."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import pytest

from otel_moesif import PausedError, PermanentError, RetryableError
from otel_moesif.exporters.moesif.side_queue import COUNTER, Bounds, SideQueue
from otel_moesif.settings import RetrySettings
from tests.processors.events import Counters

APP, OTHER = "application-id-one", "application-id-two"
RETRY = RetrySettings(initial_interval=timedelta(milliseconds=5), max_interval=timedelta(milliseconds=20))
SOON = Bounds(linger=0.0)


def user(name, **more):
    return json.dumps({"user_id": str(name), **more}, ensure_ascii=False)


def users(count, first=0):
    return [user(number) for number in range(first, first + count)]


def names(texts):
    return [json.loads(text)["user_id"] for text in texts]


def judged(status, text="", retry_after=None):
    """As the exporter judges an answer."""
    if status in {401, 402, 403}:
        raise PausedError(f"HTTP {status}")
    if status in {400, 413}:
        raise PermanentError(f"HTTP {status}: {text}")
    if status >= 300:
        raise RetryableError(f"HTTP {status}", retry_after)


class Line:
    """A queue, what was posted with it, and what was forgotten."""

    def __init__(self, post, bounds=SOON, retry=RETRY, counters=None):
        self.counters = counters or Counters("moesif")
        self.requests, self.forgotten = [], []
        self._really_post = post
        self.queue = SideQueue(
            self._post, {"user": self._forget}, retry, self.counters.context, bounds, jitter=lambda: 1.0
        )

    async def _post(self, path, content, application_id):
        self.requests.append((path, content, application_id))
        await self._really_post(path, content, application_id)

    def _forget(self, application_id, texts):
        self.forgotten += names(texts)

    def counted(self):
        return self.counters.read(COUNTER, "result")


async def came_true(condition, seconds=30.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


def sandboxes():
    """Starts a sandbox; gives it, and how to post to it."""
    make = pytest.importorskip("otel_moesif_sandbox").Sandbox
    if not hasattr(make, "users_of"):
        pytest.skip("this sandbox takes events only")

    @asynccontextmanager
    async def running():
        async with make("127.0.0.1:0") as server, httpx.AsyncClient(base_url=server.url) as client:

            async def post(path, content, application_id):
                headers = {"X-Moesif-Application-Id": application_id, "Content-Type": "application/json"}
                try:
                    answer = await client.post(path, content=content, headers=headers)
                except httpx.HTTPError as error:
                    raise RetryableError(type(error).__name__) from error
                retry_after = answer.headers.get("Retry-After")
                judged(answer.status_code, answer.text, float(retry_after) if retry_after else None)

            yield server, post

    return running
