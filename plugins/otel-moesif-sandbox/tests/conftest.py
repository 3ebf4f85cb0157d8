"""What all tests here need: a sandbox on a free port, and a real client."""

from __future__ import annotations

import asyncio
import copy
import uuid

import httpx
import pytest
from otel_moesif_sandbox import Sandbox

APPLICATION_ID = "eyJhcHAiOiJzYW5kYm94In0.secret-part-wxyz"

EVENT = {
    "request": {
        "time": "2024-10-30T04:45:42.914Z",
        "uri": "https://api.example.com/pizzas/7?size=xl",
        "verb": "GET",
        "headers": {"host": "api.example.com", "user-agent": "curl/8.5.0"},
        "ip_address": "203.0.113.7",
        "api_version": "1.0.0",
    },
    "response": {
        "time": "2024-10-30T04:45:43.020Z",
        "status": 200,
        "headers": {"content-type": "text/plain"},
    },
    "direction": "Incoming",
    "weight": 1,
    "metadata": {"apiName": "PizzaShack", "eventType": "response", "backendLatency": 90},
}


@pytest.fixture
def event():
    """Make an event; ``event({"request.uri": "/x"})`` sets one field, ``...`` takes it out."""

    def make(changes=None):
        made = copy.deepcopy(EVENT)
        made["transaction_id"] = str(uuid.uuid4())
        for path, value in (changes or {}).items():
            *parents, last = path.split(".")
            place = made
            for parent in parents:
                place = place.setdefault(parent, {})
            if value is ...:
                del place[last]
            else:
                place[last] = value
        return made

    return make


@pytest.fixture
def run():
    """Run ``scenario(sandbox, client)`` against a sandbox that listens on a free port."""

    def go(scenario, **options):
        async def main():
            async with (
                Sandbox("127.0.0.1:0", **options) as sandbox,
                httpx.AsyncClient(
                    base_url=sandbox.url, headers={"X-Moesif-Application-Id": APPLICATION_ID}, trust_env=False
                ) as client,
            ):
                return await scenario(sandbox, client)

        return asyncio.run(main())

    return go
