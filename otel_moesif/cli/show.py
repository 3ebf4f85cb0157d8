"""What the commands print that takes more than a line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from otel_moesif.config import Config
from otel_moesif.plugins import Component

_WIDE = 160
"""Columns where nobody looks: rich's 80 would cut names that a program reads."""


def summary(config: Config) -> str:
    """What a configuration runs: ``2 pipelines: logs, traces; extensions: moesif_sandbox``."""
    count = len(config.pipelines)
    pipelines = ", ".join(str(id_) for id_ in config.pipelines)
    said = f"{count} pipeline{'' if count == 1 else 's'}{': ' if count else ''}{pipelines}"
    if config.service.extensions:
        said += f"; extensions: {', '.join(str(id_) for id_ in config.service.extensions)}"
    return said


def components_table(components: Sequence[Component]) -> None:
    """Print one line per component."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("kind", "type", "plugin", "version"):
        table.add_column(title, no_wrap=True)
    table.add_column("description", overflow="fold")
    for component in components:
        table.add_row(
            component.kind.value,
            component.type,
            f"{component.distribution}:{component.entry_point}",
            component.version,
            component.description,
        )
    console.print(table, markup=False, highlight=False)


def components_json(components: Sequence[Component]) -> str:
    """The components as a JSON list of objects."""
    return json.dumps([dataclasses.asdict(component) for component in components], indent=2)
