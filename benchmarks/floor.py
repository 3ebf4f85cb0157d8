"""The floor: a bare grpc.aio server that answers the same requests at once, with bytes in and bytes out.

What it costs, no Python OTLP receiver on gRPC can save; what ours costs beyond it is our own. Prints its
port and serves until it is killed.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from load import METHOD


async def _answer(_request: bytes, _context: Any) -> bytes:
    return b""  # an ExportTraceServiceResponse without partial_success


async def main() -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    service, _, method = METHOD.strip("/").partition("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(_answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
