"""The effective configuration as YAML, with all defaults and without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from typing import Any

import yaml
from pydantic import BaseModel, SecretBytes, SecretStr

from otel_moesif.component import ComponentId
from otel_moesif.config.build import Config
from otel_moesif.config.components import Configured
from otel_moesif.settings import format_duration

REDACTED = "[REDACTED]"
"""What stands for a secret (opentelemetry-collector config/configopaque)."""

# To the last @ before the path, as URLs are read: a password may have one.
_USER_INFO = re.compile(r"(?<=://)[^/?#\s]+(?=@)")


def redacted(config: Config) -> dict[str, Any]:
    """The whole configuration as plain data: defaults filled in, secrets as ``[REDACTED]``."""
    return {
        "receivers": _section(config.receivers),
        "processors": _section(config.processors),
        "exporters": _section(config.exporters),
        "extensions": _section(config.extensions),
        "service": show(config.service),
    }


def to_yaml(config: Config) -> str:
    """`redacted` as YAML text."""
    return yaml.safe_dump(redacted(config), sort_keys=False, allow_unicode=True, width=100)


def show(value: Any) -> Any:
    """A checked value as it would be written in the configuration, without secrets."""
    match value:
        case SecretStr() | SecretBytes():
            shown: Any = REDACTED
        case BaseModel():
            fields = {name: field.alias or name for name, field in type(value).model_fields.items()}
            shown = {key: show(getattr(value, name)) for name, key in fields.items()}
        case Mapping():
            shown = {str(key): show(item) for key, item in value.items()}
        case set() | frozenset():
            shown = sorted((show(item) for item in value), key=str)
        case list() | tuple():
            shown = [show(item) for item in value]
        case timedelta():
            shown = format_duration(value)
        case Enum():
            shown = show(value.value)
        case None | bool() | int() | float():
            shown = value
        case _:
            # A password in a URL is a secret, whatever the option's type is.
            shown = _USER_INFO.sub(REDACTED, str(value))
    return shown


def _section(components: Mapping[ComponentId, Configured]) -> dict[str, Any]:
    return {str(id_): show(configured.settings) for id_, configured in components.items()}
