"""YAML text to plain data, with a position for every mistake.

Plain scalars follow the YAML 1.2 core schema: ``yes`` and ``on`` are texts (a bool option takes them all the
same), ``12:30`` is no number and ``2026-01-01`` no date. That is what the Collector's parser does with an
untyped value (go-yaml v3 README, "Compatibility"), and what people expect of ``name: no``.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from otel_moesif.config.findings import Finding, Loc
from otel_moesif.config.text import Text
from otel_moesif.errors import Problem

_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Knows the scalars below, and none of YAML 1.1's."""


_Loader.yaml_implicit_resolvers = {}


def _resolve(tag: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(
        _TAG + tag, re.compile(f"(?:{pattern})$"), [*first, ""] if tag == "null" else [*first]
    )


# https://yaml.org/spec/1.2.2/#1032-tag-resolution, and the merge key, which everybody uses.
_resolve("null", r"~|null|Null|NULL|", "~nN")
_resolve("bool", r"true|True|TRUE|false|False|FALSE", "tTfF")
_resolve("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789")
_resolve(
    "float",
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "-+.0123456789",
)
_resolve("merge", r"<<", "<")

# PyYAML quotes names of anchors, tags and directives, and a password may begin with * or !.
_QUOTED = re.compile(r" '(?![<\\])[^']{2,}'")
_MEANT_AS_TEXT = "; a text that begins with *, & or ! has to be in quotes"


class YamlError(Exception):
    """The text cannot be read as YAML; ``problem`` says where and why, without quoting the text."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def parse(text: str, name: str) -> tuple[Any, list[Finding]]:
    """Read one YAML document.

    Args:
        text: The document.
        name: What to call it in messages: the file's path.

    Returns:
        The data (dicts have text keys only) and the problems that do not stand in the way of going on, such
        as duplicate keys.

    Raises:
        YamlError: It is no YAML; the problem has line and column.
    """
    reader = _Reader(name)
    return reader.value(_compose(text, name), ()), reader.findings


def parse_value(text: str) -> Any:
    """Read a value that came from outside: `Text` for scalars, its plain text if it is no YAML."""
    reader = _Reader("", remember=True)
    try:
        value = reader.value(_compose(text, ""), ())
    except YamlError:
        return text
    return text if reader.findings else value


def _compose(text: str, name: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        said = ", ".join(part for part in (error.context, error.problem) if part)
        named = _QUOTED.sub("", said)
        raise YamlError(
            Problem(place, f"not valid YAML: {named}{_MEANT_AS_TEXT if named != said else ''}")
        ) from None
    except RecursionError:
        raise YamlError(Problem(name, "not valid YAML: nested too deeply")) from None
    except yaml.reader.ReaderError as error:
        raise YamlError(
            Problem(name, f"not valid YAML: {error.reason} at character {error.position}")
        ) from None


class _Reader:
    """Builds data from nodes; PyYAML's own constructor lets the last of two equal keys win in silence."""

    def __init__(self, name: str, *, remember: bool = False) -> None:
        self.findings: list[Finding] = []
        self._name = name
        self._remember = remember
        self._open: set[int] = set()

    def value(self, node: yaml.Node | None, path: Loc) -> Any:
        if node is None:
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            self._finding(path, "refers to itself", node)
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._map(node, path)
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        finally:
            self._open.remove(id(node))

    def _map(self, node: yaml.MappingNode, path: Loc) -> dict[str, Any]:
        result: dict[str, Any] = {}
        own: dict[str, yaml.Node] = {}
        for key, item in node.value:
            if key.tag == _TAG + "merge":
                for part in item.value if isinstance(item, yaml.SequenceNode) else [item]:
                    inherited = self.value(part, path)
                    if isinstance(inherited, dict):
                        result = inherited | result
                    else:
                        self._finding(path, "<< takes a map or a list of maps", key)
            elif not isinstance(key, yaml.ScalarNode):
                self._finding(path, "a key must be a text", key)
            else:
                if key.value in own:
                    first = own[key.value].start_mark.line + 1
                    self._finding((*path, key.value), f"is set twice, first in line {first}", key)
                own[key.value] = key
                result[key.value] = self.value(item, (*path, key.value))
        return result

    def _scalar(self, node: yaml.ScalarNode, path: Loc) -> Any:
        text = str(node.value)
        match node.tag.removeprefix(_TAG):
            case "str" | "merge":
                return text
            case "null":
                value: Any = None
            case "bool":
                value = text.lower() == "true"
            case "int" | "float":
                value = _number(text)
            case _:
                self._finding(path, f"has a tag that is not known here{_MEANT_AS_TEXT}", node)
                return None
        return Text(text, value) if self._remember else value

    def _finding(self, path: Loc, message: str, node: yaml.Node) -> None:
        place = f"{self._name}, line {node.start_mark.line + 1}"
        self.findings.append(Finding(path, f"{message} ({place})"))


def _number(text: str) -> int | float | str:
    """Read a number; a text that only claims to be one (``!!int x``) stays a text."""
    try:
        if base := {"0o": 8, "0x": 16}.get(text[:2]):
            return int(text, base)
        return (
            int(text)
            if re.fullmatch(r"[-+]?[0-9]+", text)
            else float(re.sub(r"\.(?=[in])", "", text.lower()))
        )
    except ValueError:
        return text
