"""Who sent a request, and from where, as resource attributes: what a receiver's ``include_metadata`` adds."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otel_moesif.errors import InvalidData
from otel_moesif.otlp.wire import LEN, CorruptError, fields, wrapped
from otel_moesif.reserved import RESERVED

# opentelemetry-proto: a request's resources, and the resource itself in each of them; both have one number.
_FIRST = 1


def with_attributes(body: bytes, attributes: Mapping[str, str]) -> bytes:
    """Set attributes on every resource of a request; all else stays byte for byte as it is.

    Attributes of the same name are replaced, and those under `RESERVED` go: a client cannot say who it is.

    Args:
        body: A request that was checked.
        attributes: Names and values.

    Raises:
        InvalidData: There are groups in it so large that nobody could have sent them in good faith.
    """
    named: dict[bytes, bytes] = {}  # most requests say the same resource again and again
    parts: list[bytes] = []
    try:
        for number, wire, begin, start, end in fields(body, 0, len(body)):
            if number == _FIRST and wire == LEN:
                parts.append(_part(body, start, end, attributes, named))
            else:
                parts.append(body[begin:end])
    except CorruptError:
        raise InvalidData("not a valid request: unknown groups are too large") from None
    return b"".join(parts)


def _part(
    body: bytes, start: int, end: int, attributes: Mapping[str, str], named: dict[bytes, bytes]
) -> bytes:
    """One resource with its scopes; if it is given twice, protobuf joins the two, as concatenation does."""
    given: list[bytes] = []
    rest: list[bytes] = []
    for number, wire, begin, value, stop in fields(body, start, end):
        if number == _FIRST and wire == LEN:
            given.append(body[value:stop])
        else:
            rest.append(body[begin:stop])
    resource = b"".join(given)
    if resource not in named:
        named[resource] = _named(resource, attributes)
    return wrapped(_FIRST, wrapped(_FIRST, named[resource]), *rest)


def _named(resource: bytes, attributes: Mapping[str, str]) -> bytes:
    message = Resource.FromString(resource)
    kept = [
        item
        for item in message.attributes
        if item.key not in attributes and not item.key.startswith(RESERVED)
    ]
    made = [KeyValue(key=key, value=AnyValue(string_value=_sound(text))) for key, text in attributes.items()]
    del message.attributes[:]
    message.attributes.extend([*kept, *made])
    return bytes(message.SerializeToString())


def _sound(text: str) -> str:
    """Without what UTF-8 cannot say: a token's claim may hold half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode()
