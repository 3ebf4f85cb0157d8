"""Tries every exporter of a configuration, and shows what came of it."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from otel_moesif.cli.letter import one_line
from otel_moesif.component import Exporter, Extension, Kind
from otel_moesif.connection import Checkable, Checked
from otel_moesif.errors import OtelMoesifError, describe
from otel_moesif.graph import Graph

logger = logging.getLogger(__name__)

# What a component gets to close its connections.
_CLOSE_SECONDS = 1.0


@dataclass(frozen=True)
class Verdict:
    """What came of one connection.

    Attributes:
        kind: ``exporters``, ``extensions``.
        id: Of the component.
        ok: None where nothing can be said.
        subject: What was tried.
        verdict: What came of it.
        remedy: What to do about it.
    """

    kind: Kind
    id: str
    ok: bool | None
    subject: str = ""
    verdict: str = ""
    remedy: str = ""


async def find_verdicts(graph: Graph, unused: Sequence[str], seconds: float) -> list[Verdict]:
    """Start extensions, then try all exporters side by side; everything is stopped again.

    Args:
        graph: The built components; its receivers are left alone.
        unused: Exporters that are in no pipeline, to be named.
        seconds: That each may take.

    Returns:
        Extensions of which there is something to say, then exporters; of one with several tenants several.
    """
    found: list[Verdict] = []
    running: list[Extension] = []
    try:
        for id_, extension in graph.extensions.items():
            running.append(extension)
            found += await _start_extension(id_, extension, seconds)
        tries = [_try_exporter(id_, exporter, seconds) for id_, exporter in graph.exporters.items()]
        for verdicts in await asyncio.gather(*tries):
            found += verdicts
    finally:
        for extension in reversed(running):
            await _stop(extension)
    reason = "in no pipeline, not tried"
    return found + [Verdict(Kind.EXPORTER, id_, ok=None, verdict=reason) for id_ in unused]


def as_lines(verdicts: Sequence[Verdict]) -> str:
    """For people: one line that begins with the verdict, and below it what there is to know."""
    lines = [line for verdict in verdicts for line in _lines(verdict)]
    if not any(verdict.kind is Kind.EXPORTER for verdict in verdicts):
        lines.append("there are no exporters to check")
    return "\n".join(lines)


def as_json(verdicts: Sequence[Verdict]) -> str:
    """For programs: a list of objects."""
    return json.dumps([dataclasses.asdict(verdict) for verdict in verdicts], indent=2)


def _lines(verdict: Verdict) -> Iterator[str]:
    mark = {True: "ok", False: "NOT OK", None: "-"}[verdict.ok]
    name = verdict.id if verdict.kind is Kind.EXPORTER else f"{verdict.kind}::{verdict.id}"
    texts = [one_line(text) for text in (verdict.subject, verdict.verdict) if text]
    yield f"{mark:<8}{name}: {texts[0] if texts else ''}".rstrip(": ")
    yield from (f"{'':<8}{text}" for text in texts[1:])
    if verdict.remedy:
        yield f"{'':<8}→ {one_line(verdict.remedy)}"


async def _try_exporter(id_: str, exporter: Exporter, seconds: float) -> list[Verdict]:
    try:
        async with asyncio.timeout(seconds):
            await exporter.start()
            if not isinstance(exporter, Checkable):
                return [Verdict(Kind.EXPORTER, id_, ok=None, verdict="has no check")]
            return _of(Kind.EXPORTER, id_, await exporter.check())
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises is the verdict
        return [Verdict(Kind.EXPORTER, id_, ok=False, verdict=_failed(error, seconds))]
    finally:
        await _stop(exporter)


async def _start_extension(id_: str, extension: Extension, seconds: float) -> list[Verdict]:
    """An exporter may need it: the sandbox, for example, answers in Moesif's place."""
    try:
        async with asyncio.timeout(seconds):
            await extension.start()
            return (
                _of(Kind.EXTENSION, id_, await extension.check()) if isinstance(extension, Checkable) else []
            )
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises is the verdict
        if _is_in_use(error):
            remedy = "nothing, if a collector is running here: then its own answers below"
            return [Verdict(Kind.EXTENSION, id_, ok=None, verdict=_failed(error, seconds), remedy=remedy)]
        return [Verdict(Kind.EXTENSION, id_, ok=False, verdict=_failed(error, seconds))]


async def _stop(component: Exporter | Extension) -> None:
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await component.shutdown()
    except Exception as error:  # noqa: BLE001 - there is a verdict already
        logger.warning("a component failed to stop: %s", describe(error))


def _of(kind: Kind, id_: str, found: Sequence[Checked]) -> list[Verdict]:
    return [Verdict(kind, id_, one.ok, one.subject, one.verdict, one.remedy) for one in found]


def _failed(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no verdict within {seconds:g} s"
    return str(error) if isinstance(error, OtelMoesifError) else describe(error)


def _is_in_use(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            return True
        error = error.__cause__ or error.__context__
    return False
