"""``otel-moesif dead-letters``: what could not be processed or delivered, and what becomes of it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from otel_moesif.cli.visit import (
    AsJson,
    Directory,
    Files,
    Overrides,
    Yes,
    confirmed,
    moment,
    open_journal,
    refused,
)

if TYPE_CHECKING:
    from otel_moesif.journal.visitor import Letters, Visitor

app = typer.Typer(
    help="What could not be processed or delivered: look at it, save it, try it again, or drop it.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# So many events are shown of one dead letter, and so many dead letters of a long list.
_SHOWN_EVENTS = 20
_LISTED = 50

Origin = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Only those of this exporter or pipeline.", show_default=False),
]
Before = Annotated[
    str | None,
    typer.Option(
        metavar="WHEN",
        help="Only those that were given up before: ISO 8601, or so long ago (30m, 2h, 1d).",
        show_default=False,
    ),
]
Ids = Annotated[list[int] | None, typer.Argument(metavar="ID", help="Only these.", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="All of them.")]


@app.command("list")
def list_(
    origin: Origin = None,
    before: Before = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help=f"The newest N. [default: {_LISTED}; all as JSON]"),
    ] = None,
    *,
    as_json: AsJson = False,
    config: Files = None,
    set_: Overrides = None,
    directory: Directory = None,
) -> None:
    """List dead letters, the newest last."""
    from otel_moesif.cli.letter import header  # noqa: PLC0415
    from otel_moesif.cli.tables import letters_table  # noqa: PLC0415

    which = _which(origin, before, None)
    with open_journal(config, set_, directory) as journal:
        total = journal.count_letters(which)
        newest = limit if limit or as_json else _LISTED
        found = list(journal.dead_letters(which, newest=newest, bodies=False))
    if as_json:
        print(json.dumps([header(letter) for letter in found], indent=2))
    else:
        letters_table(found, total)


@app.command()
def show(
    id_: Annotated[int, typer.Argument(metavar="ID")],
    *,
    as_json: AsJson = False,
    config: Files = None,
    set_: Overrides = None,
    directory: Directory = None,
) -> None:
    """Show everything about one dead letter."""
    from otel_moesif.cli.letter import UnreadableError, contents, whole  # noqa: PLC0415
    from otel_moesif.cli.tables import letter_table  # noqa: PLC0415
    from otel_moesif.journal.visitor import VisitError  # noqa: PLC0415

    with open_journal(config, set_, directory) as journal:
        letter = next(journal.dead_letters(_which(None, None, [id_])), None)
    if letter is None:
        raise VisitError(f"there is no dead letter {id_}")
    if as_json:
        print(json.dumps(whole(letter), indent=2))
        return
    letter_table(letter)
    try:
        found = contents(letter)
    except UnreadableError as error:
        print(f"what it holds cannot be read: {error}")
        return
    more = 0
    for name, content in found.items():
        items = content if isinstance(content, list) else [content]
        more = max(more, len(items) - _SHOWN_EVENTS)
        print(f"{name}:")
        print("\n".join(json.dumps(item, indent=2) for item in items[:_SHOWN_EVENTS]))
    if more:
        print(f"{more} more are not shown: `otel-moesif dead-letters export {id_}` writes all of them")


@app.command()
def export(
    ids: Ids = None,
    origin: Origin = None,
    before: Before = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to; `-` is standard output.")
    ] = "-",
    *,
    config: Files = None,
    set_: Overrides = None,
    directory: Directory = None,
) -> None:
    """Write dead letters as JSON lines, each with its events or its request; they stay."""
    from otel_moesif.cli.letter import whole  # noqa: PLC0415

    which = _which(origin, before, ids)
    with open_journal(config, set_, directory) as journal, _writer(output) as file:
        _see_to_ids(journal, which)
        count = 0
        for letter in journal.dead_letters(which):
            file.write(f"{json.dumps(whole(letter))}\n")
            count += 1
    print(f"{_letters(count)} written", file=sys.stderr)


@app.command()
def replay(
    ids: Ids = None,
    origin: Origin = None,
    all_: All = False,
    *,
    config: Files = None,
    set_: Overrides = None,
    directory: Directory = None,
) -> None:
    """Have dead letters tried again; what fails again becomes a dead letter again."""
    which = _which(origin, None, ids, all_=all_)
    with open_journal(config, set_, directory) as journal:
        _see_to_ids(journal, which)
        total = journal.count_letters(which)
        count = journal.try_again(which)
        when = "now" if journal.running else "when the collector starts; it does not run now"
    print(f"{_letters(count)} will be tried again{f' {when}' if count else ''}")
    if total > count:
        print(f"{_letters(total - count)} cannot be tried again and stay (damaged)")


@app.command()
def purge(
    ids: Ids = None,
    origin: Origin = None,
    before: Before = None,
    all_: All = False,
    *,
    yes: Yes = False,
    config: Files = None,
    set_: Overrides = None,
    directory: Directory = None,
) -> None:
    """Delete dead letters."""
    which = _which(origin, before, ids, all_=all_)
    with open_journal(config, set_, directory) as journal:
        _see_to_ids(journal, which)
        count = journal.count_letters(which)
        if count and not confirmed(f"Delete {_letters(count)} for good?", yes=yes):
            print("nothing deleted")
            return
        print(f"{_letters(journal.purge(which))} deleted")


def _which(
    origin: str | None, before: str | None, ids: list[int] | None, *, all_: bool | None = None
) -> Letters:
    """Which dead letters are meant; ``all_`` is None where no harm is done to all of them."""
    from otel_moesif.journal.visitor import Letters  # noqa: PLC0415

    if all_ is False and not (origin or before or ids):
        raise refused("say which dead letters: ids, a filter, or --all")
    return Letters(origin, tuple(dict.fromkeys(ids or ())), moment(before, "--before"))


def _see_to_ids(journal: Visitor, which: Letters) -> None:
    """Refuse ids that do not exist: somebody may have mistyped one."""
    from otel_moesif.journal.visitor import Letters, VisitError  # noqa: PLC0415

    if which.ids:
        there = {letter.id for letter in journal.dead_letters(Letters(ids=which.ids), bodies=False)}
        if missing := [str(id_) for id_ in which.ids if id_ not in there]:
            raise VisitError(f"there is no dead letter {', '.join(missing)}")


@contextmanager
def _writer(output: str) -> Iterator[IO[str]]:
    """Standard output, or a file that appears when it is complete."""
    from otel_moesif.journal.visitor import VisitError  # noqa: PLC0415

    if output == "-":
        yield sys.stdout
        return
    target = Path(output).resolve()
    try:
        if target.exists() and not target.is_file():  # a device, a pipe
            with target.open("w") as file:
                yield file
            return
        with _temporary(target.parent) as (file, path):
            yield file
            file.flush()
            os.fsync(file.fileno())
            path.replace(target)
    except OSError as error:
        raise VisitError(f"cannot write {output}: {error.strerror or error}") from None


@contextmanager
def _temporary(directory: Path) -> Iterator[tuple[IO[str], Path]]:
    descriptor, name = tempfile.mkstemp(prefix=".dead-letters-", dir=directory)
    with open(descriptor, "w") as file:  # noqa: PTH123 - not a path
        try:
            yield file, Path(name)
        finally:
            with suppress(FileNotFoundError):  # it has its name
                Path(name).unlink()


def _letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"
