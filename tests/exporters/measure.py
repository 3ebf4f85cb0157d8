"""What JSON costs: ``python tests/exporters/measure.py`` prints CPU µs per event, the best of many runs.

Run it on an idle machine: memory that is touched for the first time dominates large batches on a busy one.
"""

# ruff: noqa: T201 - printing is what it is for
from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from otel_moesif import Events
from otel_moesif.exporters.moesif.exporter import gzipped
from otel_moesif.exporters.moesif.mapping import to_moesif
from otel_moesif.schema import SCHEMA

RUNS = 60
AGENTS = ["Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120", "curl/8.5.0"]
HEADERS = [{"key": f"x-header-{number}", "value": "some value"} for number in range(8)]


def sample(size: int, *, headers: bool) -> Events:
    """Events of 20 APIs, one in 20 a fault, with what gateways usually know."""
    chance = random.Random(size)  # noqa: S311 - always the same events
    start = datetime(2025, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    rows: list[dict[str, Any]] = []
    for number in range(size):
        api, fault = chance.randrange(20), chance.random() < 0.05
        row: dict[str, Any] = {
            "apiId": f"43d030dc-427f-4678-98e3-87b7d988{api:04}",
            "apiMethod": chance.choice(["GET", "POST"]),
            "apiName": f"Api{api}",
            "apiContext": f"/api{api}/1.0.0",
            "apiResourceTemplate": "/orders/{id}",
            "apiVersion": "1.0.0",
            "applicationName": "DefaultApplication",
            "correlationId": str(uuid.UUID(int=chance.getrandbits(128))),
            "destination": "http://10.1.2.3:8281/services/backend",
            "eventType": "fault" if fault else "response",
            "proxyResponseCode": 429 if fault else 200,
            "targetResponseCode": -1 if fault else 200,
            "requestTimestamp": start + timedelta(milliseconds=7 * number),
            "responseTimestamp": start + timedelta(milliseconds=7 * number + 55),
            "requestUri": f"https://api.example.com/api{api}/1.0.0/orders/{chance.randrange(10**6)}?x=1",
            "userAgent": chance.choice(AGENTS),
            "userIp": f"10.0.0.{chance.randrange(255)}",
            "userName": chance.choice(["alice", "UNKNOWN"]),
            "responseSize": chance.randrange(10_000),
            "requestSize": chance.choice([None, 100]),
            "transactionId": str(uuid.UUID(int=chance.getrandbits(128))),
            "traceId": f"{chance.getrandbits(128):032x}",
            "spanId": f"{chance.getrandbits(64):016x}",
            "parentSpanId": chance.choice([None, f"{chance.getrandbits(64):016x}"]),
            "requestHeaders": HEADERS if headers else None,
        }
        if fault:
            row |= {"errorCode": 900803, "errorMessage": "LIMIT_EXCEEDED", "errorType": "THROTTLED"}
        else:
            row |= {"backendLatency": 40, "responseLatency": 55, "requestMediationLatency": 10}
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return Events(pl.DataFrame(rows, schema={name: SCHEMA[name] for name in names}))


def cost(function: Callable[[], object]) -> float:
    """CPU seconds of the whole process, the best of `RUNS`."""
    best = float("inf")
    for _ in range(RUNS):
        before = time.process_time()
        function()
        best = min(best, time.process_time() - before)
    return best


def main() -> None:
    """Print a table."""
    print(f"{'':24}{'rows':>6}{'ms per call':>13}{'µs per event':>14}")
    for size in (3, 1000, 8000):
        for name, headers in (("", False), (", 8 headers", True)):
            events = sample(size, headers=headers)
            for what, function in (
                ("to_json", lambda events=events: events.to_json()),
                ("to_moesif", lambda events=events: to_moesif(events)),
                (
                    "… join, gzip",
                    lambda events=events: gzipped("[", to_moesif(events).str.join(",").item(), "]"),
                ),
            ):
                seconds = cost(function)
                print(f"{what + name:24}{size:6}{seconds * 1e3:13.2f}{seconds / size * 1e6:14.2f}")


if __name__ == "__main__":
    main()
