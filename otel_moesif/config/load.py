"""Files, ``--set`` and variables to one tree of plain data; what it means is `validate`'s business."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otel_moesif.config.findings import Finding, in_file_order
from otel_moesif.config.merge import merge, parse_override
from otel_moesif.config.substitute import substitute
from otel_moesif.config.yaml_source import YamlError, parse
from otel_moesif.errors import ConfigError, Problem, StartError


@dataclass(frozen=True)
class Raw:
    """The configuration before its meaning is known.

    Attributes:
        data: The merged tree with all references replaced; may hold secrets.
        findings: Mistakes that did not stand in the way of reading on, for `validate` to report with its own.
        sources: The files it came from, for messages.
    """

    data: dict[str, Any]
    findings: tuple[Finding, ...] = ()
    sources: tuple[str, ...] = ()


def load(
    paths: Sequence[Path], overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> Raw:
    """Read and merge YAML files in order, apply ``--set`` arguments, replace references.

    Args:
        paths: The files; a later one wins.
        overrides: ``a.b=value``, applied last.
        environ: The variables for ``${env:VAR}``.

    Returns:
        The tree. Duplicate keys and references without a value are in its ``findings``, and `validate`
        reports them together with everything else.

    Raises:
        StartError: A file is missing or unreadable.
        ConfigError: A file is no YAML map, or an override is not of the form ``key=value``: all problems
            found so far.
    """
    broken: list[Problem] = []
    findings: list[Finding] = []
    data: dict[str, Any] = {}
    for path, text in _read_all(paths):
        try:
            tree, found = parse(text, str(path))
        except YamlError as error:
            broken.append(error.problem)
            continue
        findings += found
        if isinstance(tree, dict):
            data = merge(data, tree)
        elif tree is not None:
            broken.append(Problem(str(path), "must be a map at the top (receivers, exporters, service …)"))
    for override in overrides:
        try:
            data = merge(data, parse_override(override))
        except ValueError as error:
            broken.append(Problem(_name(override), str(error)))
    data, found = substitute(data, environ)
    findings += found
    if broken:
        raise ConfigError([*broken, *in_file_order(findings, data)])
    return Raw(data, tuple(findings), tuple(str(path) for path in paths))


def _name(override: str) -> str:
    """What to call a ``--set``; without an equals sign nobody knows where a secret begins."""
    key, equals, _ = override.partition("=")
    return f"--set {key}" if equals else "--set"


def _read_all(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    texts, unreadable, missing = [], [], False
    for path in paths:
        try:
            texts.append((path, path.read_text(encoding="utf-8-sig")))
        except OSError as error:
            unreadable.append(f"{path}: {error.strerror}")
            missing = missing or isinstance(error, FileNotFoundError)
        except UnicodeDecodeError:
            unreadable.append(f"{path}: not a UTF-8 text")
    if unreadable:
        remedy = " (--config FILE names it, `otel-moesif init` writes one)" if missing else ""
        raise StartError(f"cannot read the configuration: {'; '.join(unreadable)}{remedy}")
    return texts
