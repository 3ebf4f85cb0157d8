r"""Regular expressions that come from outside and meet texts that any caller can choose.

Moesif's integrations search with Java's or Python's engine, which backtrack: ``(\w+/?)*$`` needs years for
some forty characters of a path. So a pattern runs on polars' engine, whose time grows with the text only.
What that one does not know (lookaround, back references) runs on Python's, if its form bounds the time.
"""

from __future__ import annotations

import logging
import math
import re
import time
from typing import Protocol

import polars as pl

from otel_moesif.exporters.moesif.distinct_values import per_distinct

logger = logging.getLogger(__name__)

LONGEST_PATTERN = 4096
LONGEST_BACKTRACKED = 256
"""Of longer texts Python's engine sees the beginning."""

# Ways in which Python's engine may try to match from one place, as a power of two: a search takes seconds at
# the very worst, and once, as the pattern has used up its time then.
_MOST_WAYS = 26
_WAYS_OF_REPEAT = 8  # 256 lengths
_SECONDS_PER_PASS = 0.25
_PIECE = 16  # texts between two looks at the clock


class Pattern(Protocol):
    """A pattern that can be searched for, anywhere in a text, whatever the case of its letters."""

    def found_in(self, texts: pl.Series) -> pl.Series:
        """Whether it is found, for each text: Boolean, null for null."""


def compiled(text: str) -> Pattern:
    """Choose an engine for a pattern.

    Letters match in either case, as in moesifapi-java (``Pattern.CASE_INSENSITIVE``); Python's SDK tells
    cases apart. A real configuration (java_config_regex_and_entities.json) has ``post`` for the verb, which
    would never match otherwise. ``(?-i:…)`` makes a part of a pattern sensitive again.

    Raises:
        ValueError: It cannot be used; says why, without the pattern.
    """
    if len(text) > LONGEST_PATTERN:
        raise ValueError(f"a pattern is longer than {LONGEST_PATTERN} characters")
    try:
        return _Linear(text)
    except pl.exceptions.ComputeError:
        return _Backtracking(text)


class _Linear:
    """On polars' engine (Rust's regex crate)."""

    def __init__(self, text: str) -> None:
        self._text = f"(?i){text}"
        self.found_in(pl.Series(["polars looks at a pattern when it is used"]))

    def found_in(self, texts: pl.Series) -> pl.Series:
        return texts.str.contains(self._text)


class _Backtracking:
    """On Python's engine."""

    def __init__(self, text: str) -> None:
        try:
            self._search = re.compile(text, re.IGNORECASE).search
        except (re.error, OverflowError, RecursionError):
            raise ValueError("a pattern is not a regular expression") from None
        if not _is_bounded(text):
            raise ValueError("a pattern could take very long: lookaround beside repeats within repeats")
        self._given_up = False

    def found_in(self, texts: pl.Series) -> pl.Series:
        return per_distinct(texts, self._searched, pl.Boolean)

    def _searched(self, texts: list[str]) -> list[bool]:
        found: list[bool] = []
        # of the thread: a busy machine is not the pattern's fault
        end = time.thread_time() + _SECONDS_PER_PASS
        for start in range(0, len(texts), _PIECE):
            if self._given_up:
                return [False] * len(texts)
            piece = texts[start : start + _PIECE]
            found += [self._search(text[:LONGEST_BACKTRACKED]) is not None for text in piece]
            if time.thread_time() > end:
                self._given_up = True
                logger.warning("a regex rule of Moesif's sampling takes too long; it matches nothing now")
        return found


_PART = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]"  # an escape or a class: one character of the text
    r"|\(\?#[^)]*\)|\(\?|[()|]|[*+?]|\{\d*,?\d*\}|.",
    re.DOTALL,
)
_EXACT = re.compile(r"\{\d+\}")
_RANGE = re.compile(r"\{(?:\d+,\d*|,\d+)\}")
_VERBOSE = re.compile(r"\(\?[a-zA-Z]*x")  # allows comments that would have to be understood


def _is_bounded(text: str) -> bool:
    """Whether backtracking is bounded by a small power of the text's length.

    It grows exponentially where a part that can match in several ways is repeated, and with the number of
    choices that follow one another. `text` is a valid pattern.
    """
    if _VERBOSE.search(text):
        return False
    ways = 0.0
    alternatives = [1]  # of each open group
    several = [False]  # whether it can match in several ways
    closed = False  # whether the group that just ended could
    after_repeat = False
    for part in _PART.findall(text):
        group, closed = closed, False
        repeated, after_repeat = after_repeat, False
        exact, repeat = bool(_EXACT.fullmatch(part)), part in {"*", "+"} or bool(_RANGE.fullmatch(part))
        if part in {"(", "(?"}:
            alternatives.append(1)
            several.append(False)
        elif part == ")":
            ways += math.log2(alternatives.pop())
            closed = several.pop()
            several[-1] |= closed
        elif part == "|":
            alternatives[-1] += 1
            several[-1] = True
        elif part == "?" or repeat or exact:
            if repeated:  # then it says how eager the repeat is
                continue
            if group and part != "?":
                return False
            ways += _WAYS_OF_REPEAT if repeat else part == "?"
            several[-1] |= not exact
            after_repeat = True
    return ways + math.log2(alternatives.pop()) <= _MOST_WAYS
