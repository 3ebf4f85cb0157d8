"""Tables of what is in the journal."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from otel_moesif.cli.letter import header, iso, one_line, printable
from otel_moesif.journal.rows import DeadLetter
from otel_moesif.journal.status import Backlog, Status

_WIDE = 160
"""Columns where nobody looks: rich's 80 would fold what a program reads."""
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def letters_table(letters: Sequence[DeadLetter], total: int) -> None:
    """One line per dead letter, and how many there are at all."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("id", "time", "origin", "kind", "count", "attempts"):
        number = title in {"id", "count", "attempts"}
        table.add_column(title, no_wrap=True, justify="right" if number else "left")
    table.add_column("reason", overflow="fold")
    for letter in letters:
        table.add_row(
            str(letter.id),
            iso(letter.time),
            Text(one_line(letter.origin)),
            Text(one_line(letter.kind)),
            str(letter.count),
            str(letter.attempts),
            Text(one_line(letter.reason)),
        )
    if letters:
        _console().print(table, highlight=False)
    hidden = total - len(letters)
    said = f"{total} dead letter{'' if total == 1 else 's'}"
    print(f"{said}; {hidden} older ones are not shown (--limit)" if hidden > 0 else said)


def letter_table(letter: DeadLetter) -> None:
    """Everything about a dead letter but its body."""
    table = _pairs()
    for name, value in header(letter).items():
        if value != "":
            table.add_row(name, Text(printable(str(value))))
    _console().print(table, highlight=False)


def status_table(status: Status, configured: frozenset[str] | None) -> None:
    """What is in the journal.

    Args:
        status: That.
        configured: Exporters of the pipelines; None if that is not known.
    """
    table = _pairs()
    table.add_row("collector", "running" if status.running else "not running")
    free = f"{size(status.bytes_free)} of it free inside"
    table.add_row("on disk", f"{size(status.bytes_on_disk)}, {free}; {size(status.bytes_reserve)} in reserve")
    table.add_row("requests to convert", _aged(status.raw, status.oldest_raw, "the oldest"))
    for backlog in status.backlogs:
        waiting = _aged(backlog.events, backlog.oldest, "the oldest")
        table.add_row(
            Text(f"events for {backlog.exporter}"), Text(f"{waiting}; {place(backlog, configured)}")
        )
    table.add_row("requests kept", _aged(status.kept, status.kept_since, "since"))
    holding = f" ({status.dead_letters} events and requests)" if status.letters else ""
    table.add_row("dead letters", f"{status.letters}{holding}")
    table.add_row("to be tried again", str(status.inbox))
    for replay in status.replays:
        whom = f" for {', '.join(replay.exporters)}" if replay.exporters else ""
        table.add_row(f"replay {replay.id}", Text(f"{replay.done} of {replay.total} requests done{whom}"))
    for old in status.set_aside:
        table.add_row("damaged, set aside", Text(f"{old.path.name}, {size(old.bytes)}"))
    _console().print(table, highlight=False)


def place(backlog: Backlog, configured: frozenset[str] | None) -> str:
    """Whether an exporter is still in the configuration."""
    if is_configured(backlog, configured):
        return "in a pipeline"
    return f"in no pipeline (`otel-moesif journal prune --exporter {backlog.exporter}` drops them)"


def is_configured(backlog: Backlog, configured: frozenset[str] | None) -> bool:
    """The configuration says so; where none is at hand, the run that was last does."""
    return backlog.active if configured is None else backlog.exporter in configured


def size(count: int) -> str:
    """Bytes for people: ``1.5 MiB``."""
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def _aged(count: int, since: float | None, word: str) -> str:
    if since is None:
        return str(count)
    if word == "since":
        return f"{count}, since {iso(since)}"
    return f"{count}, {word} {_long(max(0.0, time.time() - since))} old ({iso(since)})"


def _long(seconds: float) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


def _pairs() -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    return table


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)
