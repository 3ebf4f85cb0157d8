"""Values that come from outside the file, and remember how they were written."""

from __future__ import annotations

from typing import Any, Self


class Text(str):
    """A value of a variable, a file or the command line: its text, and what it means as YAML.

    The Collector parses such a value as YAML but keeps the text for a target that is a string, so that
    ``0123`` stays ``0123`` (confmap/README.md, "Type Casting"). Which of the two is wanted is known only
    when the target is: see `otel_moesif.config.shape`. It may be a secret, so messages never quote its text.
    """

    __slots__ = ("value",)

    value: Any

    def __new__(cls, text: str, value: Any) -> Self:
        new = super().__new__(cls, text)
        new.value = plain(value)
        return new


def plain(value: Any) -> Any:
    """What a value means as YAML, where no string is expected."""
    return value.value if isinstance(value, Text) else value
