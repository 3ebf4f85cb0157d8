"""Encodings that gRPC's library does not know: it answers by itself, and what came is counted."""

from __future__ import annotations

import asyncio
import struct

import grpc
import httpx
import pytest

from tests.receivers.doors import TRACES, Door, Recorder, spans


@pytest.mark.parametrize("encoding", ["zstd", "snappy", "GZIP"])
def test_an_unknown_encoding_is_refused_and_counted(encoding):
    """UNIMPLEMENTED by gRPC's compression.md; the library says INTERNAL (1.85.1), and asks nobody."""

    async def run():
        async with Door(recorder := Recorder()) as door:
            headers = {"content-type": "application/grpc", "te": "trailers", "grpc-encoding": encoding}
            body = spans()
            async with httpx.AsyncClient(http1=False, http2=True, timeout=30) as client:
                answer = await client.post(
                    f"http://{door.address}{TRACES}",
                    headers=headers,
                    content=b"\1" + struct.pack(">I", len(body)) + body,
                )
            internal = str(grpc.StatusCode.INTERNAL.value[0])
            assert answer.headers.get("grpc-status", internal) == internal  # httpx shows no trailers
            async with asyncio.timeout(30):
                while door.counters.denied() != {"too large or broken off": 1}:
                    await asyncio.sleep(0.01)
            assert await door.call(spans()) == b""
            assert recorder.requests == [spans()]

    asyncio.run(run())
