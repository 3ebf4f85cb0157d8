"""``otel-moesif check``: does every exporter reach its backend, and is it let in?"""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

import typer

from otel_moesif.cli.exits import FAILED
from otel_moesif.cli.visit import AsJson, Files, Overrides, checked_config, refused


def check(
    *,
    config: Files = None,
    set_: Overrides = None,
    timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="Longest that any of them may take.")
    ] = "15s",
    as_json: AsJson = False,
) -> None:
    """Try the connection of every exporter; no events are sent. Exit code 1 if one is not well."""
    from otel_moesif.cli.logs import configure  # noqa: PLC0415
    from otel_moesif.cli.verdicts import as_json as to_json  # noqa: PLC0415
    from otel_moesif.cli.verdicts import as_lines, find_verdicts  # noqa: PLC0415
    from otel_moesif.config.model import LogLevel  # noqa: PLC0415
    from otel_moesif.graph import try_out  # noqa: PLC0415

    seconds = _seconds(timeout)
    checked, registry = checked_config(config, set_)
    configure(checked.service.telemetry.logs.model_copy(update={"level": LogLevel.WARN}))
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_no_verdict)
    graph = try_out(checked, registry)
    unused = [str(id_) for id_ in checked.exporters if str(id_) not in graph.exporters]
    found = asyncio.run(find_verdicts(graph, unused, seconds))
    print(to_json(found) if as_json else as_lines(found))
    if any(verdict.ok is False for verdict in found):
        raise typer.Exit(FAILED)


def _is_no_verdict(record: logging.LogRecord) -> bool:
    """Whether a line tells more than the verdict will: exporters say, too, whom they do not reach."""
    return record.levelno >= logging.ERROR or not record.name.startswith("otel_moesif.exporters.")


def _seconds(text: str) -> float:
    from otel_moesif.settings import parse_duration  # noqa: PLC0415

    try:
        seconds = parse_duration(text).total_seconds()
    except ValueError as error:
        raise refused(f"--timeout: {error}") from None
    if not seconds:
        raise refused("--timeout: must be longer than zero")
    return seconds
