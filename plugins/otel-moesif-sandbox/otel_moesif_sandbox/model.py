"""Moesif's event model: which fields an event must have and of which types they are.

Source: apidocs ``_events-api.md`` (table of the event model); the fields marked "SDK" stand only in the
models of Moesif's own SDKs. Unknown fields are let through, as Moesif does. ``null`` counts as absent
where a field is optional: several SDKs send it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from otel_moesif_sandbox.refusal import Fault

FAULTS_SHOWN = 20
"""How many faults an answer lists; the first one says enough to mend an exporter."""

# Ranges are checked by the pattern itself, because a datetime parser would also take "1730263542" or "2024".
IsoTime = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
        r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?(Z|[+-][0-9]{2}:?[0-9]{2})?$"
    ),
]
AbsoluteUri = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#]+[^\s]*$")]
# Documented is an absolute one. Paths alone, and N/A, are what WSO2's own reporter has always sent.
EventUri = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z][A-Za-z0-9+.-]*://[^\s/?#]+[^\s]*|/[^\s]*|N/A)$")
]
Uuid = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
    ),
]
Verb = Annotated[str, StringConstraints(min_length=1)]
Headers = dict[str, str]
# "unset = json"; the documented example sends an empty string.
TransferEncoding = Literal["json", "base64", ""]

# The patterns say nothing to a reader, these do.
_EXPLAINED = {
    "time": "must be an ISO 8601 date and time, for example 2024-10-30T04:45:42.914Z",
    "uri": "must be an absolute URI: protocol, host, path and query string",
    "transaction_id": "must be a UUID of 36 characters",
}


class Strict(BaseModel):
    """What all models here share."""

    # Strict: "200" is not a status. The parsed copy is thrown away, so unknown fields need no copy either.
    model_config = ConfigDict(strict=True, extra="ignore")


class Request(Strict):
    """``request`` of an event."""

    time: IsoTime
    uri: EventUri
    verb: Verb
    headers: Headers
    api_version: str | None = None
    ip_address: str | None = None
    body: Any = None
    transfer_encoding: TransferEncoding | None = None
    content_length: int | None = None  # SDK (go)


class Response(Strict):
    """``response`` of an event; an event without one is a call that was never answered."""

    time: IsoTime
    status: int = Field(ge=0, le=999)
    headers: Headers
    ip_address: str | None = None
    body: Any = None
    transfer_encoding: TransferEncoding | None = None


class Span(Strict):
    """``span`` of an event."""

    id: str | None = None
    parent_id: str | None = None
    links: list[Any] | None = None
    status: int | None = None


class Event(Strict):
    """One API call."""

    request: Request
    response: Response | None = None
    transaction_id: Uuid | None = None
    trace_id: str | None = None
    span: Span | None = None
    action_name: str | None = None
    session_token: str | None = None
    user_id: str | None = None
    company_id: str | None = None
    subscription_id: str | None = None
    direction: Literal["Incoming", "Outgoing", "Internal"] | None = None
    weight: int | None = Field(None, ge=1)
    metadata: dict[str, Any] | None = None
    blocked_by: str | None = None  # SDK
    tags: str | None = None  # SDK


EVENTS: TypeAdapter[Any] = TypeAdapter(list[Event])


def faults(items: Sequence[Any], first: int = 0, model: TypeAdapter[Any] = EVENTS) -> list[Fault]:
    """Check events, or other things that Moesif documents, against their model.

    Args:
        items: Parsed JSON.
        first: Position of ``items[0]`` in its batch.
        model: Of a list of such things.

    Returns:
        The first `FAULTS_SHOWN` faults; empty when all is well.
    """
    try:
        model.validate_python(items)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        return [
            _fault(detail["loc"], detail["type"], detail["msg"], first) for detail in details[:FAULTS_SHOWN]
        ]
    return []


def _fault(location: tuple[int | str, ...], kind: str, message: str, first: int) -> Fault:
    index, *path = location
    name = str(path[-1]) if path else ""
    text = _EXPLAINED.get(name, message) if kind == "string_pattern_mismatch" else message
    return Fault(first + int(index), ".".join(map(str, path)), text[:1].lower() + text[1:])
