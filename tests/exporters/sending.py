"""Requests of one Moesif client, for tests."""

from __future__ import annotations

import asyncio

import pytest

from otel_moesif.exporters.moesif.client import make_client, post
from otel_moesif.exporters.moesif.settings import MoesifSettings
from otel_moesif.exporters.moesif.unreachable import UnreachableError

APPLICATION_ID = "eyJhcHAiOiJ0ZXN0In0.secret-part-wxyz"
BATCH = "/v1/events/batch"


def settings_for(url, **options):
    return MoesifSettings.model_validate({"endpoint": url, "timeout": "5s", **options})


async def send(url, *, path=BATCH, content=b"[]", times=1, **options):
    """The answers to so many requests of one client, one after the other."""
    settings = settings_for(url, **options)
    async with make_client(settings) as client:
        return [await post(client, path, content, APPLICATION_ID, settings) for _ in range(times)]


async def unreachable(url, **options):
    """Why there was no answer."""
    with pytest.raises(UnreachableError) as caught:
        await send(url, **options)
    return caught.value


async def until(condition, seconds=30.0):
    """Wait for what must come true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
