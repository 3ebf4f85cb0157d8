"""``otel-moesif replay``: kept requests are converted and delivered once more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from otel_moesif.cli.exits import FAILED, INTERRUPTED, complain
from otel_moesif.cli.visit import Directory, Files, Overrides, moment, open_journal, refused

if TYPE_CHECKING:
    from otel_moesif.journal.visitor import Visitor

_LOOK_SECONDS = 0.2
# Seldom: whoever looks whether a collector runs may get in the way of one that starts.
_LOOK_RUNNING_SECONDS = 2.0


def replay(
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help="From when on: ISO 8601 (without a zone: local time), or so long ago (30m, 2h, 1d).",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Up to when. [default: now]", show_default=False)
    ] = None,
    exporter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID", help="Only for this exporter; repeatable. [default: all]", show_default=False
        ),
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is done.")] = False,
    cancel: Annotated[
        int | None,
        typer.Option(metavar="N", help="Instead: do no more of replay N.", show_default=False),
    ] = None,
    *,
    config: Files = None,
    set_: Overrides = None,
    directory: Directory = None,
) -> None:
    """Convert and deliver accepted calls again, under the same ids (service.journal.keep_raw)."""
    if cancel is not None:
        if since or until or exporter:
            raise refused("--cancel goes with no other option")
        with open_journal(config, set_, directory) as journal:
            journal.cancel(cancel)
        print(f"replay {cancel}: cancelled")
        return
    if since is None:
        raise refused("say from when on: --since 2h, or --since 2026-01-20T10:00:00Z")
    begin, end = moment(since, "--since"), moment(until, "--until")
    end = time.time() if end is None else end
    if begin is None or begin >= end:
        raise refused("--since must be before --until (or before now)")
    with open_journal(config, set_, directory) as journal:
        number, total = journal.replay(begin, end, exporter or ())
        if not journal.running:
            print(f"replay {number}: {_requests(total)} will be converted again when the collector starts")
            print("no collector runs on this journal now")
        elif no_wait:
            print(f"replay {number}: {_requests(total)} to convert again; {_how_to_look(number)}")
        else:
            _wait(journal, number, total)


def _wait(journal: Visitor, number: int, total: int) -> None:
    try:
        over = _follow(journal, number, total)
    except KeyboardInterrupt:
        complain(f"replay {number} goes on; {_how_to_look(number)}")
        raise typer.Exit(INTERRUPTED) from None
    if not over:
        complain(f"the collector has stopped; replay {number} goes on when it starts again")
        raise typer.Exit(FAILED)
    print(f"replay {number}: {_requests(total)} converted again; their events are being delivered")


def _follow(journal: Visitor, number: int, total: int) -> bool:
    """Show how far it is until it is done; False if the collector stopped before."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    look_running = time.monotonic() + _LOOK_RUNNING_SECONDS
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"replay {number}", total=total)
        while not (progress := journal.progress(number)).over:
            bar.update(task, completed=progress.done)
            if time.monotonic() >= look_running:
                if not journal.running:
                    return False
                look_running = time.monotonic() + _LOOK_RUNNING_SECONDS
            time.sleep(_LOOK_SECONDS)
    return True


def _how_to_look(number: int) -> str:
    return f"`otel-moesif journal status` shows how far it is, `otel-moesif replay --cancel {number}` ends it"


def _requests(count: int) -> str:
    return f"{count} request{'' if count == 1 else 's'}"
