"""What events cost on their way to Moesif: ``python -m tests.exporters.measure`` prints CPU µs per event.

CPU time of the whole process with polars' threads, the best of many runs: other work on the machine makes it
longer, never shorter. Run it on an idle machine all the same: caches and memory are shared.
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
from otel_moesif.exporters.moesif.identity import Identity
from otel_moesif.exporters.moesif.limits import parts
from otel_moesif.exporters.moesif.mapping import Mapping
from otel_moesif.exporters.moesif.preparation import Preparation
from otel_moesif.exporters.moesif.settings import MoesifSettings
from otel_moesif.schema import SCHEMA

RUNS = 100
SIZES = (100, 500, 1000, 2000, 5000)
WIDTHS = (9, 7, 9, 7, 7)
AGENTS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1",
    "okhttp/4.12.0",
    "python-httpx/0.28.1",
]


def sample(size: int, headers: int = 1) -> Events:
    """Events of 20 APIs, one in 20 a fault, with what gateways usually know; see benchmarks/spans.py."""
    dice = random.Random(size)  # noqa: S311 - always the same events
    start = datetime(2025, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    rows: list[dict[str, Any]] = []
    for number in range(size):
        api, fault = dice.randrange(20), dice.random() < 0.05
        row: dict[str, Any] = {
            "apiId": f"43d030dc-427f-4678-98e3-87b7d988{api:04}",
            "apiMethod": dice.choice(["GET", "GET", "GET", "POST", "PUT", "DELETE"]),
            "apiName": f"Api{api}",
            "apiContext": f"/api{api}/v1",
            "apiResourceTemplate": f"/api{api}/v1/orders/{{id}}",
            "apiVersion": "v1",
            "correlationId": dice.randbytes(16).hex(),
            "destination": "http://10.1.2.3:8281/services/backend",
            "eventType": "fault" if fault else "response",
            "gatewayType": "ENVOY",
            "proxyResponseCode": 429 if fault else dice.choice([200, 200, 200, 201, 204, 404, 500]),
            "targetResponseCode": -1 if fault else 200,
            "requestTimestamp": start + timedelta(milliseconds=7 * number),
            "responseTimestamp": start + timedelta(milliseconds=7 * number + dice.randrange(300)),
            "requestUri": (
                f"https://api{api}.example.org/api{api}/v1/orders/{dice.randrange(10**6)}?page={number % 50}"
            ),
            "userAgent": dice.choice(["Chrome", "Mobile Safari"]),
            "platform": dice.choice(["Windows", "iOS"]),
            "userAgentHeader": dice.choice(AGENTS),
            "userIp": f"198.51.100.{dice.randrange(255)}",
            "userName": f"user-{dice.randrange(5000)}",
            "responseContentType": "application/json",
            "responseSize": dice.randrange(65536),
            "requestSize": dice.randrange(4096),
            "transactionId": str(uuid.UUID(int=dice.getrandbits(128))),
            "traceId": f"{dice.getrandbits(128):032x}",
            "spanId": f"{dice.getrandbits(64):016x}",
            "parentSpanId": dice.choice([None, f"{dice.getrandbits(64):016x}"]),
            "requestHeaders": [
                {"key": f"x-header-{place}", "value": dice.randbytes(16).hex()} for place in range(headers)
            ]
            or None,
        }
        if fault:
            row |= {"errorCode": 900803, "errorMessage": "LIMIT_EXCEEDED", "errorType": "THROTTLED"}
        else:
            backend = dice.randrange(200)
            row |= {"backendLatency": backend, "responseLatency": backend + 30, "requestMediationLatency": 10}
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return Events(pl.DataFrame(rows, schema={name: SCHEMA[name] for name in names}))


def cost(function: Callable[[], object], runs: int = RUNS) -> float:
    """CPU seconds of the whole process, the best of so many runs."""
    best = float("inf")
    for _ in range(runs):
        before = time.process_time()
        function()
        best = min(best, time.process_time() - before)
    return best


def main() -> None:
    """Print a table; ``all`` is what the exporter does with a batch before it is posted."""
    settings = MoesifSettings(application_id="unused")  # type: ignore[arg-type]
    preparation, identity, mapping = (
        Preparation(settings),
        Identity(settings.identity),
        Mapping(settings, ","),
    )
    now = datetime(2025, 1, 2, 3, 6, tzinfo=UTC)
    print(f"{'rows':>6}{'headers':>9}{'bytes':>7}{'to_json':>9}{'ids':>7}{'mapping':>9}{'gzip':>7}{'all':>7}")
    for size in SIZES:
        for headers in (0, 1, 8):
            events = sample(size, headers)
            frame = identity.columns(events.frame)
            text = b"".join(parts(mapping.encode(frame), 10**9))
            steps: list[Callable[[], object]] = [
                lambda events=events: events.to_json(),
                lambda events=events: identity.columns(events.frame),
                lambda frame=frame: mapping.encode(frame),
                lambda text=text: preparation.compressed(text),
                lambda events=events: preparation.prepare(events, {}, now),
            ]
            spent = "".join(
                f"{cost(step) / size * 1e6:{width}.2f}" for step, width in zip(steps, WIDTHS, strict=True)
            )
            print(f"{size:6}{headers:9}{len(text) / size:7.0f}{spent}")


if __name__ == "__main__":
    main()
