"""The circuit breaker by itself; what it means for delivery is in test_sender.py."""

from __future__ import annotations

import asyncio
import time

import pytest

from otel_moesif.circuit import Circuit
from otel_moesif.errors import RetryableError
from otel_moesif.settings import RetrySettings


def test_a_batch_that_was_on_its_way_makes_the_wait_of_the_probe_longer():
    async def busy_at_once():
        raise RetryableError("HTTP 503", 0.2)

    async def busy_later():
        await asyncio.sleep(0.1)
        raise RetryableError("HTTP 503", 0.5)

    async def well():
        return 1

    async def run():
        circuit = Circuit(RetrySettings(), asyncio.Event(), lambda: 0.0)
        on_its_way = asyncio.create_task(circuit.call(busy_later))
        await asyncio.sleep(0)
        with pytest.raises(RetryableError):
            await circuit.call(busy_at_once)
        probe = asyncio.create_task(circuit.call(well))
        with pytest.raises(RetryableError):
            await on_its_way
        failed = time.monotonic()
        assert await probe == 1
        assert time.monotonic() - failed > 0.45

    asyncio.run(run())


def test_a_stop_ends_the_wait_of_the_probe():
    async def busy():
        raise RetryableError("HTTP 503", 3600)

    async def well():
        return 1

    async def run():
        stopping = asyncio.Event()
        circuit = Circuit(RetrySettings(), stopping, lambda: 0.0)
        with pytest.raises(RetryableError):
            await circuit.call(busy)
        probe = asyncio.create_task(circuit.call(well))
        await asyncio.sleep(0.01)
        stopping.set()
        assert await asyncio.wait_for(probe, 30) == 1

    asyncio.run(run())
