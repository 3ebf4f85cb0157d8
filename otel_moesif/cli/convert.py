"""``otel-moesif convert``: what becomes of these spans and log records, for whoever sets up a mapping."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_moesif.cli.exits import FAILED, complain, heed_interrupts, let_go_of_output

if TYPE_CHECKING:
    from otel_moesif.cli.conversion import Conversion
    from otel_moesif.events import Events

Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE…",
        help="OTLP (JSON, also one per line, or protobuf) or a text log, each line a record; - is stdin.",
        show_default=False,
    ),
]


def convert(
    files: Inputs,
    gateway: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Dialect of all senders. [default: as configured, or detected per sender]",
            show_default=False,
        ),
    ] = None,
    *,
    moesif: Annotated[bool, typer.Option("--moesif", help="As Moesif gets the events.")] = False,
    config: Annotated[
        list[Path] | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="Take the processors of this configuration's pipelines. [default: apim_event alone]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show which events spans and log records in files become, one JSON object per line; nothing is sent."""
    from otel_moesif.cli.conversion import Conversion  # noqa: PLC0415

    conversion = Conversion(config, gateway)
    for file in files:
        _take(conversion, file)
    events = conversion.run()
    _print(events, moesif=moesif)
    complain(conversion.summary(len(events)))
    if conversion.failed:
        raise typer.Exit(FAILED)


def _take(conversion: Conversion, file: Path) -> None:
    """Give a file's requests to the conversion; ends the program if nothing can be made of one."""
    from otel_moesif.errors import InvalidData  # noqa: PLC0415
    from otel_moesif.otlp.files import requests_in  # noqa: PLC0415

    try:
        heed_interrupts()
        data = sys.stdin.buffer.read() if file == Path("-") else file.read_bytes()
        for signal, body in requests_in(data, time.time_ns()):
            conversion.take(signal, body)
    except (OSError, InvalidData) as error:
        complain(f"{file}: {error.strerror if isinstance(error, OSError) else error}")
        raise typer.Exit(FAILED) from None


def _print(events: Events, *, moesif: bool) -> None:
    if moesif:
        from otel_moesif.exporters.moesif.mapping import to_moesif  # noqa: PLC0415

        lines = to_moesif(events)
    else:
        lines = events.to_json()
    try:
        for line in lines:
            print(line)
        print(end="", flush=True)
    except BrokenPipeError:  # `| head` has seen enough; the summary is still for people
        let_go_of_output()
