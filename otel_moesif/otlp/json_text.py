"""JSON from somebody who cannot be trusted, as Python's objects.

Where `json.loads` would give up a whole document for what stands in one place of it, that place is marked, or
left out, so that it costs no more than the record that it is in: a text that is not UTF-8, what is nested too
deeply, a number of thousands of digits.
"""

from __future__ import annotations

import json
import re
from typing import Any

from otel_moesif.errors import InvalidData

NOT_UTF8 = "\udfff\udbff"
"""In place of bytes that are not UTF-8: halves of two characters, in the wrong order. A text that was cut in
the middle of a character can have one of them."""

# Levels that are read; what is below is null. Python's own bound is its stack: fewer than a thousand
# (`sys.getrecursionlimit`). Of OTLP not even a hundred messages can be within each other (`json_wire`), and
# no message takes more than two levels, so this is below any field that is known.
_DEEPEST = 400
# Digits of an integer that Python reads without being asked (sys.set_int_max_str_digits).
_MOST_DIGITS = 640

# What takes room as an object beside texts: a member or an element each.
_VALUES = "{[,"
# A text, or the beginning of one. Here and below nothing is tried twice, whatever stands there.
_TEXT = r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
_TEXTS = re.compile(_TEXT, re.DOTALL)
# So many texts, or characters, are looked at at once; in between, others may have Python's global lock.
_PIECE_TEXTS, _PIECE_LENGTH = 4096, 64 << 10
_PIECE = re.compile(rf'[^"]*+(?:{_TEXT}[^"]*+){{0,{_PIECE_TEXTS}}}+', re.DOTALL)
_BRACKET = re.compile(
    rf'[^"\[\]{{}}]*+(?:{_TEXT}[^"\[\]{{}}]*+){{0,{_PIECE_TEXTS}}}+(?P<bracket>[\[\]{{}}]?)', re.DOTALL
)
# What "surrogateescape" makes of bytes that are not UTF-8; nothing else becomes this.
_ESCAPED = re.compile("[\udc80-\udcff]+")


def decode(document: bytes) -> str:
    """The document as text, with `NOT_UTF8` where it is none; JSON has no other encoding (RFC 8259 8.1)."""
    try:
        return document.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = document.decode("utf-8-sig", "surrogateescape")
        pieces = (text[start : start + _PIECE_LENGTH] for start in range(0, len(text), _PIECE_LENGTH))
        return "".join([_ESCAPED.sub(NOT_UTF8, piece) for piece in pieces])


def has_more_values(text: str, most: int) -> bool:
    """Whether there are more objects, lists, members and elements than so many."""
    if _count(text) <= most:  # most documents, with what their texts hold
        return False
    count = 0
    for piece in _PIECE.finditer(text):
        count += _count(_TEXTS.sub("", piece[0]))
        if count > most:
            return True
    return False


def _count(text: str) -> int:
    return sum(map(text.count, _VALUES))


def load(text: str) -> Any:
    """What the text stands for.

    Raises:
        InvalidData: It is no JSON; says where, but nothing of what is in it.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidData(f"not valid JSON: {error.msg} at character {error.pos}") from None
    except (RecursionError, ValueError):
        pass
    try:
        return json.loads(_without_depths(text), parse_int=_integer)
    except (RecursionError, ValueError):
        raise InvalidData("not valid JSON: nested too deeply, or too large a number") from None


def _without_depths(text: str) -> str:
    """The same with null for all that is nested too deeply; it is not looked at any further."""
    parts: list[str] = []
    start = depth = 0
    for found in _BRACKET.finditer(text):
        bracket = found["bracket"]
        if bracket in {"[", "{"}:
            depth += 1
            if depth == _DEEPEST + 1:
                parts += text[start : found.start("bracket")], "null"
        elif bracket:
            if depth == _DEEPEST + 1:
                start = found.end()
            depth -= 1
            if depth <= 0:
                break
    if depth <= _DEEPEST:  # else it does not end
        parts.append(text[start:])
    return "".join(parts)


def _integer(digits: str) -> int | float:
    """One of more digits is infinite, which no field for integers takes."""
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)
