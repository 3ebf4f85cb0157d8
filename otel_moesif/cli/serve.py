"""Runs the collector service until it is told to stop, or fails."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from otel_moesif.cli import process
from otel_moesif.cli.exits import FAILED, complain
from otel_moesif.cli.logs import configure
from otel_moesif.component import Kind
from otel_moesif.config import Config, load, validate
from otel_moesif.errors import describe
from otel_moesif.plugins import Registry

Result = TypeVar("Result")

_LOG = logging.getLogger("otel_moesif.cli")
_SANDBOX = "moesif_sandbox"


def serve(config: Config, registry: Registry) -> int:
    """Run the service in the foreground; returns the exit code.

    Raises:
        StartError: It could not start.
    """
    configure(config.service.telemetry.logs)
    process.prepare()
    return asyncio.run(_serve(config, registry))


def sandbox_config(registry: Registry, endpoint: str) -> Config | None:
    """A configuration that runs the sandbox and nothing else; None if that plugin is not installed.

    Raises:
        ConfigError: The endpoint is none.
    """
    if registry.factory(Kind.EXTENSION, _SANDBOX) is None:
        return None
    overrides = [
        f"extensions.{_SANDBOX}.endpoint={endpoint}",
        f"service.extensions=[{_SANDBOX}]",
        # Beside a collector on the same machine, which has that port.
        "service.telemetry.metrics.address=null",
    ]
    return validate(load([], overrides, {}), registry)


async def _serve(config: Config, registry: Registry) -> int:
    from otel_moesif.service import Service  # noqa: PLC0415

    service = Service(config, registry)
    with _stop_signals() as stop:
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await _unless(stopped, service.start())
            failure = None if stop.is_set() else await _unless(stopped, service.wait_failed())
            if failure is None:
                return 0
            said = " ".join(describe(failure).split())
            complain(f"stopping, because a part of the collector failed: {said}")
            return FAILED
        finally:
            stopped.cancel()
            await service.shutdown()


async def _unless(stopped: asyncio.Future[Any], work: Coroutine[Any, Any, Result]) -> Result | None:
    """The result of ``work``, or None if ``stopped`` came first; then ``work`` is cancelled."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait({task})
    return None


@contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM or SIGINT sets; a second signal ends the process at once.

    Plain signal handlers, not the loop's: a second signal has to work also when the loop is stuck.
    """
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    got: list[int] = []

    def handle(signum: int, _frame: FrameType | None) -> None:
        got.append(signum)
        if len(got) > 1:
            os.write(2, b"otel-moesif: stopped at once by a second signal\n")
            os._exit(128 + signum)
        loop.call_soon_threadsafe(begin, signum)

    def begin(signum: int) -> None:
        _LOG.info("%s: stopping; a second signal stops at once", signal.Signals(signum).name)
        event.set()

    before = {signum: signal.signal(signum, handle) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
