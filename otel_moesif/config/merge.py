"""Several sources into one tree: files in their order, then ``--set``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_moesif.config.text import Text
from otel_moesif.config.yaml_source import parse_value


def merge(base: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Put ``later`` over ``base``: maps merge deeply, anything else (lists, scalars, null) replaces.

    Source: opentelemetry-collector confmap/README.md, "Merging". Neither argument is changed; keys keep the
    place they first had.
    """
    merged = dict(base)
    for key, value in later.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def parse_override(text: str) -> dict[str, Any]:
    """Read the argument of one ``--set``: ``exporters.moesif/eu.endpoint=http://localhost:9500``.

    The value is YAML. A name that has a dot in it is reached with ``::`` between the keys
    (``exporters::moesif/eu.west::endpoint=…``), which is what the Collector turns the dots into.

    Raises:
        ValueError: It is not of that form; the message does not quote the value, which may be a secret.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split("::" if "::" in path else ".")
    if not equals or not all(key.strip() for key in keys):
        raise ValueError("must look like key.key=value, for example exporters.debug.verbosity=detailed")
    parsed = parse_value(value)
    # A list keeps its text too: [::1]:9500 is an endpoint, and [::1] alone is YAML's list of one map.
    tree: Any = parsed if isinstance(parsed, dict) else Text(value, parsed)
    for key in reversed(keys):
        tree = {key.strip(): tree}
    result: dict[str, Any] = tree
    return result
