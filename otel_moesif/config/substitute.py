"""``${env:VAR}``, ``${env:VAR:-default}``, ``${VAR}``, ``${file:path}`` and ``$$``.

Rules of opentelemetry-collector confmap/README.md and confmap/expand.go, with three that are stricter:

- An unset variable without default is a mistake (the Collector warns and goes on with null).
- In what a variable or a file holds, ``$$`` and ``${VAR}`` are left alone and only references that name
  their scheme (``${env:VAR}``) are followed: a password with a dollar sign stays what it is.
- An opening ``${`` without its ``}`` is a mistake; ``$${`` writes one on purpose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from otel_moesif.config.findings import Finding, Loc
from otel_moesif.config.text import Text
from otel_moesif.config.yaml_source import parse_value

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?!-)(.*)", re.DOTALL)
_EXPLICIT = re.compile(r"\$\{(?=env:|file:)")
_ANY = re.compile(r"\$\$|\$\{")
_DEEPEST = 100
"""confmap/README.md: "up to 100 levels" of nested expansion."""


class _Broken:
    """Stands where no value could be found, so that nothing more is said about that place."""

    def __repr__(self) -> str:
        return "<broken reference>"


BROKEN: Final = _Broken()


def substitute(data: Any, environ: Mapping[str, str]) -> tuple[Any, list[Finding]]:
    """Replace every reference in every text of a tree; keys are left alone.

    Args:
        data: Dicts, lists and scalars, as read from YAML.
        environ: The variables.

    Returns:
        A new tree, in which a value from outside is a `Text` and one that could not be found is `BROKEN`,
        and what was wrong.
    """
    expander = _Expander(environ)
    return expander.tree(data, (), ()), expander.findings


class _NotFoundError(Exception):
    """Says why a reference has no value."""


class _Expander:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self.findings: list[Finding] = []
        self._environ = environ

    def tree(self, value: Any, loc: Loc, trail: tuple[str, ...]) -> Any:
        """Expand what stands at ``loc``; ``trail`` is the references that led here, outermost first."""
        if isinstance(value, dict):
            return {key: self.tree(item, (*loc, key), trail) for key, item in value.items()}
        if isinstance(value, list):
            return [self.tree(item, (*loc, index), trail) for index, item in enumerate(value)]
        if isinstance(value, str):
            try:
                return self._scalar(value, loc, trail)
            except _NotFoundError as error:
                self.findings += [Finding(loc, line) for line in str(error).splitlines()]
                return BROKEN
        return value

    def _scalar(self, text: str, loc: Loc, trail: tuple[str, ...]) -> Any:
        pieces = list(_pieces(text, _ANY))
        if not any(reference for reference, _ in pieces):
            result = "".join(piece for _, piece in pieces)
            return Text(result, parse_value(result)) if isinstance(text, Text) else result
        result, followed = self._join(pieces, trail)
        if len(pieces) > 1 and not isinstance(text, Text):
            return Text(result, result)
        value = parse_value(result)
        if followed and isinstance(value, dict | list):
            value = self.tree(value, loc, followed)
        return Text(result, value)

    def _join(self, pieces: list[tuple[bool, str]], trail: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        """The text of all pieces, and the trail into the file if they are one reference to a file."""
        texts, problems = [], []
        followed: tuple[str, ...] = ()
        for reference, piece in pieces:
            try:
                text, followed = self._reference(piece, trail) if reference else (piece, ())
                texts.append(text)
            except _NotFoundError as error:
                problems.append(str(error))
        if problems:
            raise _NotFoundError("\n".join(problems))
        return "".join(texts), followed if len(pieces) == 1 else ()

    def _text(self, text: str, trail: tuple[str, ...], pattern: re.Pattern[str] = _ANY) -> str:
        return self._join(list(_pieces(text, pattern)), trail)[0]

    def _reference(self, body: str, trail: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        if len(trail) >= _DEEPEST:
            raise _NotFoundError(f"references are nested more than {_DEEPEST} levels deep")
        match = _SCHEME.fullmatch(body)
        scheme, rest = match.groups() if match else ("env", body)
        if scheme == "env":
            return self._variable(rest, trail), ()
        if scheme == "file":
            return self._file(self._text(rest, (*trail, "")), trail)
        raise _NotFoundError(f'unknown scheme "{scheme}" in a reference (allowed: env, file)')

    def _variable(self, body: str, trail: tuple[str, ...]) -> str:
        before, has_default, default = _split_default(body)
        name = self._text(before, (*trail, ""))
        if not _NAME.fullmatch(name):
            raise _NotFoundError("a variable's name has letters, digits and _ only, as in ${env:NAME}")
        step = f"env:{name}"
        if step in trail:
            raise _NotFoundError(f"environment variable {name} refers to itself")
        if name in self._environ:
            return self._text(self._environ[name], (*trail, step), _EXPLICIT)
        if has_default:
            return self._text(default, (*trail, ""))
        raise _NotFoundError(
            f"environment variable {name} is not set (set it, or give a default: ${{env:{name}:-default}})"
        )

    def _file(self, name: str, trail: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        step = f"file:{name}"
        if step in trail:
            raise _NotFoundError(f'file "{name}" includes itself')
        try:
            # A secret's file ends with a newline that is not part of the secret.
            text = Path(name).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise _NotFoundError(f'cannot read file "{name}": {error.strerror}') from None
        except UnicodeDecodeError:
            raise _NotFoundError(f'cannot read file "{name}": it is not UTF-8') from None
        except ValueError:  # a NUL in it
            raise _NotFoundError(f'cannot read file "{name}": no file has such a name') from None
        trail = (*trail, step)
        # A subtree is configuration, with all that belongs to it; anything else is somebody's data.
        if isinstance(parse_value(text), dict | list):
            return text, trail
        return self._text(text, trail, _EXPLICIT), ()


def _pieces(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[bool, str]]:
    """Cut a text into (is it a reference, its content); ``$$`` becomes a piece of text that is one ``$``."""
    literal, start = "", 0
    while match := pattern.search(text, start):
        literal += text[start : match.start()]
        if match[0] == "$$":
            literal, start = literal + "$", match.end()
            continue
        end = _closing(text, match.end())
        if literal:
            yield False, literal
        yield True, text[match.end() : end]
        literal, start = "", end + 1
    literal += text[start:]
    if literal:
        yield False, literal


def _closing(text: str, start: int) -> int:
    """Where the ``}`` is that closes a ``${`` whose content begins at ``start``; braces inside are paired."""
    depth = 1
    for index in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if not depth:
            return index
    raise _NotFoundError("a ${ has no closing } (write $${ for a literal ${)")


def _split_default(body: str) -> tuple[str, bool, str]:
    """Cut at the first ``:-`` that is not inside a nested reference."""
    depth = 0
    for index, char in enumerate(body):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if not depth and body.startswith(":-", index):
            return body[:index], True, body[index + 2 :]
    return body, False, ""
