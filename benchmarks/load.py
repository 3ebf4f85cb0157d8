"""The client: sends at a fixed rate over gRPC, whatever the server does, and measures the acknowledgements.

Open loop: request *n* is due at ``start + n / rate`` and its latency counts from then, so a server that
stalls is charged for every request that it kept waiting (no coordinated omission). Runs as a process of
its own (``python load.py TARGET RATE CALLS SECONDS``) and prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import grpc
from spans import Template

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
CHANNELS = 4
"""Connections, as from four gateway workers."""


@dataclass
class Result:
    """What the client saw.

    Attributes:
        requests: How many were acknowledged.
        calls: Spans in them.
        refused: How many were answered with an error, by status code; there are no retries here.
        seconds: From the first due time to the last acknowledgement.
        ack_ms: Latency of every acknowledgement, from its due time.
        late_ms: How late the client itself sent each request; large values mean that *it* was the limit.
        request_bytes: Size of one request before gRPC.
    """

    requests: int = 0
    calls: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    seconds: float = 0
    ack_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    request_bytes: int = 0


def _stub(target: str) -> Any:
    # A pool of its own per channel: else gRPC shares one connection among equal channels.
    channel = grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
    return channel.unary_unary(METHOD)  # no serializers: bytes in, bytes out


async def _send(stub: Any, request: bytes, due: float, calls: int, result: Result) -> None:
    try:
        await stub(request, timeout=30)
    except grpc.aio.AioRpcError as error:
        name = error.code().name
        result.refused[name] = result.refused.get(name, 0) + 1
    else:
        result.ack_ms.append((time.perf_counter() - due) * 1000)
        result.requests += 1
        result.calls += calls


async def run(target: str, rate: float, calls: int, seconds: float) -> Result:
    """Send ``rate`` requests per second of ``calls`` spans each, for ``seconds``."""
    stubs = [_stub(target) for _ in range(CHANNELS)]
    # Enough different values that neither compression nor a cache meets the same call all the time.
    templates = [Template(calls, seed) for seed in range(max(4, min(64, 1000 // calls)))]
    await asyncio.gather(*(_send(stub, b"", 0, 0, Result()) for stub in stubs))  # connects; empty is valid
    result = Result(request_bytes=len(templates[0]))
    start = time.perf_counter() + 0.1
    async with asyncio.TaskGroup() as group:
        for number in range(round(rate * seconds)):
            due = start + number / rate
            if (ahead := due - time.perf_counter()) > 0:
                await asyncio.sleep(ahead)
            request = templates[number % len(templates)].fresh()
            result.late_ms.append((time.perf_counter() - due) * 1000)
            group.create_task(_send(stubs[number % CHANNELS], request, due, calls, result))
    result.seconds = time.perf_counter() - start
    return result


if __name__ == "__main__":
    target, rate, calls, seconds = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    outcome = asyncio.run(run(target, rate, calls, seconds))
    json.dump(asdict(outcome), sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # open channels would make gRPC's interpreter shutdown wait
