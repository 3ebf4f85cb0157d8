"""JSON paths: values inside JSON texts, masked.

The part of RFC 9535 that names members: ``$.a.b``, ``$['a b']``, ``$.list[0]``, ``$.list[*].a``, ``$.*``,
``$..a``. No filters and slices.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import polars as pl

from otel_moesif.processors.properties import compact
from otel_moesif.processors.redact.values import MASK

Step: TypeAlias = "tuple[bool, str | int | None]"
"""Whether at any depth; and the member, the position, or None for each of them."""
Path: TypeAlias = tuple[Step, ...]

_STEP = re.compile(
    r"""(?P<deep>\.\.)?(?:(?(deep)|\.)(?P<name>[^.\[\]*'"\s]+|\*)
      | \[(?P<index>\d+|\*)\]
      | \['(?P<single>[^']+)'\]
      | \["(?P<double>[^"]+)"\])""",
    re.VERBOSE,
)


def parse_path(text: str) -> Path:
    """Read a path.

    Raises:
        ValueError: It is none of those that are understood.
    """
    steps: list[Step] = []
    position = 1
    while text.startswith("$") and (match := _STEP.match(text, position)):
        deep, index = bool(match["deep"]), match["index"]
        name = match["name"] or match["single"] or match["double"]
        if "*" in {match["name"], index}:
            steps.append((deep, None))
        else:
            steps.append((deep, int(index) if index else name))
        position = match.end()
    if not steps or position != len(text):
        raise ValueError("must be a JSON path such as $.user.email, $.cards[*].number or $..password")
    return tuple(steps)


def may_have(texts: pl.Series, paths: Sequence[Path]) -> pl.Series:
    """Which JSON texts have to be parsed: not those without the names, as long as none hides in escapes."""
    names = [next((step for _, step in path if isinstance(step, str)), None) for path in paths]
    if None in names:
        return texts.is_not_null()
    quoted = [json.dumps(name, ensure_ascii=False) for name in names]
    return texts.str.contains_any([*quoted, "\\"]).fill_null(value=False)


def masked(text: str, paths: Sequence[Path], beyond: str = MASK) -> str:
    """A JSON text with the values masked that paths lead to.

    Args:
        text: JSON.
        paths: Where to; one to any depth goes on in strings that are JSON themselves.
        beyond: What stands for a text that cannot be read.
    """
    try:
        value = json.loads(text)
        changed = [_mask(value, path) for path in paths]
        return compact(value) if any(changed) else text
    except ValueError:
        return beyond
    except RecursionError:
        return MASK


def _mask(value: Any, path: Path) -> bool:
    """Mask in place; whether there was something."""
    if not isinstance(value, dict | list):
        return False
    (deep, wanted), rest = path[0], path[1:]
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    found = False
    for key in keys:
        if deep and isinstance(value[key], dict | list):
            found |= _mask(value[key], path)
        elif deep and isinstance(value[key], str) and value[key].lstrip()[:1] in {"{", "["}:
            inside = masked(value[key], [path], beyond=value[key])
            found |= inside != value[key]
            value[key] = inside
        if wanted is None or (key == wanted and isinstance(key, type(wanted))):
            if rest:
                found |= _mask(value[key], rest)
            else:
                value[key] = MASK
                found = True
    return found
