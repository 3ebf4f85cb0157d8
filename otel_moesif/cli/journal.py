"""``otel-moesif journal``: what is in the journal, and what may leave it."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_moesif.cli.visit import (
    AsJson,
    Directory,
    Files,
    Overrides,
    Yes,
    configured_exporters,
    confirmed,
    open_journal,
    refused,
)

if TYPE_CHECKING:
    from otel_moesif.journal.status import Status

app = typer.Typer(
    help="Look into the journal, and make room in it.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def status(
    *,
    as_json: AsJson = False,
    config: Files = None,
    set_: Overrides = None,
    directory: Directory = None,
) -> None:
    """Show what is in the journal, whether the collector runs or not."""
    from otel_moesif.cli.tables import status_table  # noqa: PLC0415

    with open_journal(config, set_, directory) as journal:
        found = journal.status()
    configured = configured_exporters(config, set_, directory)
    if as_json:
        print(json.dumps(_plain(found, configured), indent=2))
    else:
        status_table(found, configured)


@app.command()
def prune(
    exporter: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Events that wait for this exporter, in no pipeline any more.",
            show_default=False,
        ),
    ] = None,
    kept: Annotated[bool, typer.Option("--kept", help="Requests that are kept for a replay.")] = False,
    give_back: Annotated[
        bool, typer.Option("--give-back", help="Nothing; give free room inside the file back to the disk.")
    ] = False,
    *,
    yes: Yes = False,
    config: Files = None,
    set_: Overrides = None,
    directory: Directory = None,
) -> None:
    """Drop from the journal what nobody needs any more; the collector may run."""
    from otel_moesif.cli.tables import size  # noqa: PLC0415

    if [exporter is not None, kept, give_back].count(True) != 1:
        raise refused("say what to prune: one of --exporter ID, --kept, --give-back")
    with open_journal(config, set_, directory) as journal:
        if exporter is not None:
            waiting = sum(x.events for x in journal.status().backlogs if x.exporter == exporter)
            if waiting and not confirmed(f"Drop {waiting} events that wait for {exporter}?", yes=yes):
                print("nothing dropped")
                return
            print(f"{journal.prune_exporter(exporter)} events for {exporter} dropped")
        elif kept:
            count = journal.status().kept
            if count and not confirmed(f"Drop {count} requests that are kept for a replay?", yes=yes):
                print("nothing dropped")
                return
            print(f"{journal.prune_kept()} kept requests dropped")
        else:
            print(f"{size(journal.give_back())} given back to the disk")


def _plain(status: Status, configured: frozenset[str] | None) -> dict[str, Any]:
    from otel_moesif.cli.tables import is_configured  # noqa: PLC0415

    found = dataclasses.asdict(status)
    for backlog, plain in zip(status.backlogs, found["backlogs"], strict=True):
        plain["configured"] = is_configured(backlog, configured)
    for old in found["set_aside"]:
        old["path"] = str(old["path"])
    return found
