"""What the demo shows: calls arriving as events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.json import JSON
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LINE_SECONDS = 2.0
"""How often a line is printed where nothing can be refreshed (CI, a file)."""


@dataclass(frozen=True)
class Snapshot:
    """The state of the demo at one moment.

    Attributes:
        seconds: Since the first call.
        sent: Calls sent.
        arrived: Of those, how many arrived as events.
        repeated: Events that arrived more than once.
        by_api: API name, then status, then the number of events.
        by_type: Event type, then the number of events.
        sample: One event as Moesif gets it.
    """

    seconds: float
    sent: int
    arrived: int
    repeated: int
    by_api: Mapping[str, Mapping[str, int]]
    by_type: Mapping[str, int]
    sample: Mapping[str, Any] | None


class View:
    """Shows snapshots: refreshed in place on a terminal, as occasional lines elsewhere.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._last_line = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, snapshot: Snapshot) -> None:
        """Show the state as it is now."""
        if self._live is not None:
            self._live.update(_page(snapshot), refresh=True)
        elif snapshot.seconds - self._last_line >= LINE_SECONDS:
            self._last_line = snapshot.seconds
            self._console.print(_line(snapshot), soft_wrap=True)

    def finish(self, snapshot: Snapshot) -> None:
        """Show the last state, in full."""
        if self._live is not None:
            self._live.update(_page(snapshot), refresh=True)
        else:
            self._console.print(_page(snapshot))


def _line(snapshot: Snapshot) -> str:
    types = ", ".join(f"{count} {name}" for name, count in sorted(snapshot.by_type.items()))
    arrived = f"{snapshot.arrived} arrived as events{f' ({types})' if types else ''}"
    return f"{snapshot.seconds:5.0f} s: {snapshot.sent} calls sent, {arrived}"


def _page(snapshot: Snapshot) -> RenderableType:
    progress = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=max(snapshot.sent, 1), completed=snapshot.arrived, width=40)
    progress.add_row(f"{snapshot.seconds:.0f} s", bar, f"{snapshot.arrived} of {snapshot.sent} calls arrived")
    parts: list[RenderableType] = [progress, _counts(snapshot.by_api), _types(snapshot)]
    if snapshot.sample is not None:
        event = JSON.from_data(snapshot.sample)
        event.text.no_wrap = False  # a full event is a full event, on narrow terminals too
        parts.append(Panel(event, title="One event, as Moesif gets it", title_align="left", expand=False))
    return Group(*parts)


def _counts(by_api: Mapping[str, Mapping[str, int]]) -> Table:
    statuses = sorted({status for counts in by_api.values() for status in counts})
    table = Table(title="Events by API and status", title_justify="left")
    table.add_column("API")
    for status in statuses:
        table.add_column(status, justify="right", style=_style(status))
    table.add_column("all", justify="right")
    for api, counts in sorted(by_api.items()):
        cells = [str(counts.get(status, "")) for status in statuses]
        table.add_row(api, *cells, str(sum(counts.values())))
    return table


def _types(snapshot: Snapshot) -> Text:
    types = snapshot.by_type
    text = f"{types.get('response', 0)} response events, {types.get('fault', 0)} fault events"
    return Text(f"{text}, {snapshot.repeated} repeated")


def _style(status: str) -> str:
    return {"2": "green", "4": "yellow", "5": "red"}.get(status[:1], "")
