"""WSO2's own Moesif settings, from deployment.toml: what is carried over, and what becomes of the rest.

Keys, defaults and what they do: apim-analytics-publisher (``Constants``, ``MoesifReporter``), carbon-apimgt
(``CommonRequestDataCollector``, ``AnalyticsPayloadUtil``), docs-apim ``monitoring/api-analytics``. A value is
repeated only if it is one of those that are carried over; the rest of the file may hold secrets.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

CARRIED, STAYS, REPLACED, NONE = "carried over", "stays there", "replaced", "no counterpart"

_JOURNAL = "the journal keeps what is not delivered, on disk, up to service.journal.max_size"
_RETRY = (
    "exporters.moesif.retry_on_failure: for ever by default, with one batch as a probe while Moesif is down"
)
_SAMPLING = "exporters.moesif.sampling: Moesif's rates are applied by default, and asked for every 60 s"
_FALLBACK = "until Moesif's rates are known every call is kept; after that the last known ones hold"
_BODIES = "spans have no bodies; the analytics log has them (`init --gateway wso2`, way 2), so keep it there"
_HEADERS = (
    "spans have no headers; the analytics log has them (`init --gateway wso2`, way 2), so keep it there"
)
_PROXY = "WSO2's Moesif client never read it; the collector takes HTTPS_PROXY of its environment"
_JAVA = "a Java class; a plugin of otel-moesif does the same (README, Write an exporter)"

# Key below [apim.analytics.properties] (regular expression): what becomes of it, and why.
_PROPERTIES: tuple[tuple[str, str, str], ...] = (
    (r"send_headers", STAYS, _HEADERS),
    (r"send_payloads|payload_size_limit|capture_payloads_without_content_length", STAYS, _BODIES),
    (r"build_response_message", STAYS, "the gateway's own: it makes responseSize known"),
    (r"queue\.size", REPLACED, _JOURNAL),
    (r"worker\.thread\.count", REPLACED, f"{_JOURNAL}; exporters.moesif.sending_queue.num_consumers send"),
    (r"client\.flushing\.delay", NONE, "WSO2 uses it for Choreo only; batches go out at once here"),
    (r"sampling_refresh_interval_ms", REPLACED, _SAMPLING),
    (r"sampling_fallback_rate", REPLACED, _FALLBACK),
    (r"retry_buffer_(enabled|size)", REPLACED, _JOURNAL),
    (r"retry_.+", REPLACED, _RETRY),
    (r"publisher\.reporter\d*\.class", NONE, _JAVA),
    (
        r"publisher\.custom\.data\.provider\.class",
        STAYS,
        "a Java class; what it adds comes with the analytics log. For attributes: apim_event.properties",
    ),
    (r"proxy_config_.+|keystore_.+", NONE, _PROXY),
    (r"type", NONE, "where events go is said by the pipelines here"),
)
_UNKNOWN = "not known to otel-moesif"

# Columns of the event for what can be masked; userId stands in for a user without a name there.
_MASKABLE = {
    "userIp": "userIp",
    "userName": "userName",
    "userId": "userName",
    "applicationOwner": "applicationOwner",
    "userAgent": "userAgent",
}
_HEADER_MASKS = ("request_headers", "response_headers")
_KINDS = ("IPV4", "IPV6", "EMAIL")
# Placeholders of deployment.toml (docs-apim, install-and-setup: configuring with environment variables).
_REFERENCE = re.compile(r"\$(env|sys|ref|secret)\{")
# What needs no escape, neither in YAML nor within ${env:…:-default}.
_PLAIN_URL = re.compile(r"https?://[\w.\-:\[\]/]+", re.ASCII)


@dataclass(frozen=True)
class Row:
    """What becomes of one setting.

    Attributes:
        setting: Its key in deployment.toml, from the root.
        outcome: ``carried over``, ``stays there``, ``replaced`` or ``no counterpart``.
        note: Where it is now, or why it is not.
    """

    setting: str
    outcome: str
    note: str


@dataclass
class Analytics:
    """What a deployment.toml says about analytics.

    Attributes:
        rows: Every setting that is there, in the order of the file.
        endpoint: Base URL of Moesif's collector API, or None.
        fields: Constants for the event.
        mask: Column → IPV4, IPV6, EMAIL or STRING.
        masked_headers: Names, in lower case.
        has_key: Whether there is a Moesif application id.
        samples: Whether Moesif's sampling rates shall be applied, if it is said.
    """

    rows: list[Row] = field(default_factory=list)
    endpoint: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    mask: dict[str, str] = field(default_factory=dict)
    masked_headers: list[str] = field(default_factory=list)
    samples: bool | None = None
    has_key: bool = False


def read_analytics(text: str, *, redact: bool) -> Analytics:
    """Read ``[apim.analytics]`` and what lies below it.

    Args:
        text: Content of deployment.toml.
        redact: Whether the processor ``redact`` is installed; masks need it.

    Raises:
        ValueError: The text is no TOML; says where, and repeats nothing of it but a key.
    """
    root: Any = tomllib.loads(text)
    for name in ("apim", "analytics"):
        root = root.get(name) if isinstance(root, dict) else None
    found = Analytics()
    for key, value in root.items() if isinstance(root, dict) else ():
        if key == "properties" and isinstance(value, dict):
            _read_properties(found, value)
        elif key == "mask" and isinstance(value, dict):
            _read_masks(found, value, redact=redact)
        elif key == "enable":
            note = "turn it off once the collector runs, or calls count twice; way 2 needs it, with type elk"
            _add(found, key, STAYS, note)
        elif key == "type":
            _add(found, key, STAYS, "elk for way 2; moesif as well means that calls count twice")
        else:
            _add(found, key, NONE, _UNKNOWN)
    return found


def _read_properties(found: Analytics, table: Mapping[str, Any]) -> None:
    for key, value in _flat(table):
        name = f"properties.{key}"
        if key == "moesifKey":
            found.has_key = True
            note = (
                "exporters.moesif.application_id: from the variable MOESIF_APPLICATION_ID, which you export"
            )
            _add(found, name, CARRIED, note)
        elif key == "moesif_base_url":
            found.endpoint = _base_url(value)
            usable = found.endpoint is not None
            note = f"exporters.moesif.endpoint: {found.endpoint}" if usable else "is no base URL of an API"
            _add(found, name, CARRIED if usable else NONE, note)
        elif key == "sampling_enabled":
            found.samples = {"true": True, "false": False}.get(str(value).strip().lower())
            said = f"exporters.moesif.sampling.enabled: {str(found.samples).lower()}"
            problem = "is neither true nor false; Moesif's rates are applied, as by default"
            usable = found.samples is not None
            _add(found, name, CARRIED if usable else NONE, said if usable else problem)
        elif key == "apim.gw.region" and _REFERENCE.search(str(value)):
            note = "refers to a value elsewhere; set it by hand: processors.apim_event.fields.regionId"
            _add(found, name, NONE, note)
        elif key == "apim.gw.region" and isinstance(value, str):
            found.fields["regionId"] = value
            _add(found, name, CARRIED, "processors.apim_event.fields.regionId")
        else:
            fitting = (row[1:] for row in _PROPERTIES if re.fullmatch(row[0], key))
            _add(found, name, *next(fitting, (NONE, _UNKNOWN)))


def _read_masks(found: Analytics, table: Mapping[str, Any], *, redact: bool) -> None:
    missing = "" if redact else "; NOT MASKED until the processor redact is installed, see collector.yaml"
    outcome = CARRIED if redact else NONE
    for key, value in table.items():
        name, column = f"mask.{key}", _MASKABLE.get(key)
        if column:
            # WSO2 masks the whole value where it does not know the type, so nothing is masked less here.
            kind = next(
                (kind for kind in _KINDS if isinstance(value, str) and value.upper() == kind), "STRING"
            )
            note = f"processors.redact.mask.{column}"
            if key == column or column not in found.mask:
                found.mask[column] = kind
            if key != column:
                note += " (WSO2 gives the id where a user has no name)"
            _add(found, name, outcome, f"{note}{missing}")
        elif key in _HEADER_MASKS:
            names = _header_names(value)
            found.masked_headers += [one for one in names or () if one not in found.masked_headers]
            note = f"processors.redact.headers, for requests and responses alike{missing}"
            problem = "is no JSON list of names (WSO2 masks nothing then, either)"
            _add(found, name, NONE if names is None else outcome, problem if names is None else note)
        else:
            _add(found, name, NONE, "the event has no such field; see the columns that redact can mask")


def _add(found: Analytics, key: str, outcome: str, note: str) -> None:
    found.rows.append(Row(f"apim.analytics.{key}", outcome, note))


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """``queue.size`` is a key with a dot where it is quoted, and a table in a table where it is not."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _base_url(value: Any) -> str | None:
    """The URL as the exporter takes it; None for one that it refuses, for example with a password in it."""
    from pydantic import ValidationError  # noqa: PLC0415 - slow

    from otel_moesif.exporters.moesif.settings import MoesifSettings  # noqa: PLC0415

    try:
        url = MoesifSettings.model_validate({"endpoint": value, "application_id": "any"}).endpoint
    except ValidationError:
        return None
    return url if _PLAIN_URL.fullmatch(url) else None


def _header_names(value: Any) -> list[str] | None:
    """A JSON list in a text (as WSO2 documents it), or a TOML list; None if it is neither."""
    try:
        names = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        return None
    return [name.lower() for name in names]
