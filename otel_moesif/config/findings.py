"""What is wrong, and where: collected everywhere, shown once, in the order of the file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from otel_moesif.config.text import plain
from otel_moesif.errors import Problem

Loc: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top: ``("exporters", "moesif", "timeout")``."""


@dataclass(frozen=True)
class Finding:
    """One mistake, before it is put in order and shown as a `Problem`."""

    loc: Loc
    message: str

    def problem(self) -> Problem:
        """With its path joined as the Collector does (``::``, confmap.KeyDelimiter)."""
        return Problem("::".join(str(part) for part in self.loc), " ".join(self.message.split()))


def in_file_order(findings: Iterable[Finding], data: Any) -> list[Problem]:
    """Sort by where the path stands in ``data`` (missing keys at their parent); repetitions are left out."""
    order: dict[Loc, int] = {}
    _number(data, (), order)

    def position(finding: Finding) -> int:
        loc = finding.loc
        while loc not in order:
            loc = loc[:-1]
        return order[loc]

    return list(dict.fromkeys(finding.problem() for finding in sorted(findings, key=position)))


def _number(value: Any, loc: Loc, order: dict[Loc, int]) -> None:
    order[loc] = len(order)
    value = plain(value)
    if isinstance(value, dict):
        for key, item in value.items():
            _number(item, (*loc, key), order)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _number(item, (*loc, index), order)


def unknown_key(key: str, allowed: Sequence[str]) -> str:
    """Say that a key is unknown, which one was perhaps meant, and which there are."""
    if not allowed:
        return f'unknown key "{key}" (there are no options here)'
    return f'unknown key "{key}" ({did_you_mean(key, allowed)}allowed: {", ".join(allowed)})'


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """``did you mean x? `` for the closest known word, or nothing."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}? " if close else ""
