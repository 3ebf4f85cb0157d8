"""JSON values as protobuf's wire format, by the descriptors of the messages.

Straight to bytes, without messages in between: that takes a fraction of ``json_format.ParseDict``'s time, and
a record that is wrong can be left out alone. What a value may look like is protobuf's JSON mapping
(protobuf.dev/programming-guides/json) with what OTLP changes in it: see `otel_moesif.otlp.transcode`.
"""

from __future__ import annotations

import binascii
import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from otel_moesif.otlp.json_text import NOT_UTF8

# Fields that OTLP has in hex and not in base64.
IDS = frozenset({"trace_id", "span_id", "parent_span_id"})
# Message levels that protobuf's own parsers go down; who is deeper could not be read by anybody.
MAX_DEPTH = 100

_LENGTHS = tuple(bytes([length]) for length in range(128))
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_SURROGATE = re.compile("[\ud800-\udfff]")


class WrongValue(Exception):  # noqa: N818 - says which field, never what stands there
    """A value that its field cannot take.

    Attributes:
        fields: From the outermost to the guilty one.
        reason: What is wrong with it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.fields: list[str] = []
        self.reason = reason

    def __str__(self) -> str:
        return f"{'.'.join(self.fields)}{': ' if self.fields else ''}{self.reason}"


@dataclass
class LeftOut:
    """What was left out so far, without the errors: they would hold whatever they came through.

    Attributes:
        records: How many.
        first: What is wrong with the first, or with what it is in; empty: nothing is.
    """

    records: int = 0
    first: str = ""


# Value, message levels above it, and what was left out so far; None: nothing may be.
Encode: TypeAlias = Callable[[Any, int, LeftOut | None], bytes]
# How many records a value holds that is to be left out.
Count: TypeAlias = Callable[[Any], int]


class Encoders:
    """Makes one function per message type; types may contain themselves.

    Args:
        optional: Full names of messages that may be left out of a list when something in them is wrong.
            Whatever else is wrong makes everything around it wrong, up to the next that may be left out.
    """

    def __init__(self, optional: Mapping[str, Count]) -> None:
        self._optional = optional
        self._messages: dict[str, Encode] = {}

    def message(self, descriptor: Descriptor) -> Encode:
        """From a JSON object to the bytes of such a message.

        The function takes the object, 0, and where to note what it leaves out (None: nothing may be left
        out). It raises `WrongValue`.
        """
        if descriptor.full_name in self._messages:
            return self._messages[descriptor.full_name]
        fields: dict[str, tuple[str, Encode]] = {}

        def encode(value: Any, depth: int, left_out: LeftOut | None) -> bytes:
            if value.__class__ is not dict:
                raise WrongValue("must be an object")
            if depth >= MAX_DEPTH:
                raise WrongValue(f"is nested more than {MAX_DEPTH} levels deep")
            parts = []
            for key, item in value.items():
                if item is not None and (field := fields.get(key)):
                    try:
                        parts.append(field[1](item, depth + 1, left_out))
                    except WrongValue as error:
                        error.fields.insert(0, field[0])
                        raise
            return b"".join(parts)

        self._messages[descriptor.full_name] = encode
        for field in descriptor.fields:
            fields[field.name] = fields[field.json_name] = (field.json_name, self._field(field))
        return encode

    def _field(self, field: FieldDescriptor) -> Encode:
        records = None
        if field.message_type:
            one = _delimited(field, self.message(field.message_type))
            records = self._optional.get(field.message_type.full_name)
        elif field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}:
            one = _delimited(field, _payload(field))
        else:
            one = _number(field)
        return _repeated(one, field.json_name, records) if field.is_repeated else one


def _repeated(one: Encode, name: str, records: Count | None) -> Encode:
    """Elements one by one; protobuf takes numbers that are not packed as well."""

    def encode(value: Any, depth: int, left_out: LeftOut | None) -> bytes:
        if value.__class__ is not list:
            raise WrongValue("must be a list")
        if records is None or left_out is None:
            return b"".join([one(item, depth, left_out) for item in value])
        parts = []
        for item in value:
            before, first = left_out.records, left_out.first
            try:
                parts.append(one(item, depth, left_out))
            except WrongValue as error:  # with whatever was left out of it already
                error.fields.insert(0, name)
                left_out.records, left_out.first = before + records(item), first or str(error)
        return b"".join(parts)

    return encode


def _delimited(field: FieldDescriptor, payload: Encode) -> Encode:
    tag = _tag(field, _LENGTH)
    short = tuple(tag + length for length in _LENGTHS)

    def encode(value: Any, depth: int, left_out: LeftOut | None) -> bytes:
        data = payload(value, depth, left_out)
        length = len(data)
        return (short[length] if length < 128 else tag + varint(length)) + data

    return encode


def _payload(field: FieldDescriptor) -> Encode:
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text
    return _hex if field.name in IDS else _bytes


def _text(value: Any, _: int, __: LeftOut | None) -> bytes:
    if value.__class__ is not str:
        raise WrongValue("must be a text")
    try:
        return bytes(value.encode())
    except UnicodeEncodeError:
        if NOT_UTF8 in value:
            raise WrongValue("is not UTF-8") from None
        # JavaScript cuts texts in the middle of a character, and says so in JSON: half of a surrogate pair.
        return _SURROGATE.sub("\ufffd", value).encode()


def _hex(value: Any, _: int, __: LeftOut | None) -> bytes:
    if value.__class__ is not str:
        raise WrongValue("must be a text")
    try:
        return binascii.unhexlify(value)
    except ValueError:
        raise WrongValue("is not hex") from None


def _bytes(value: Any, _: int, __: LeftOut | None) -> bytes:
    if value.__class__ is not str:
        raise WrongValue("must be a text")
    value = value.translate({ord("-"): "+", ord("_"): "/"})
    if not _BASE64.fullmatch(value):
        raise WrongValue("is not base64")
    value = value.rstrip("=")
    try:
        return binascii.a2b_base64(value + "=" * (-len(value) % 4))
    except ValueError:
        raise WrongValue("is not base64") from None


def _number(field: FieldDescriptor) -> Encode:
    kind = field.type
    if kind == FieldDescriptor.TYPE_DOUBLE:
        tag, pack = _tag(field, _FIXED64), struct.Struct("<d").pack
        return lambda value, _, __: tag + pack(_double(value))
    if kind == FieldDescriptor.TYPE_BOOL:
        no, yes = (_tag(field, _VARINT) + truth for truth in (b"\0", b"\1"))

        def encode(value: Any, _: int, __: LeftOut | None) -> bytes:
            if value.__class__ is not bool:
                raise WrongValue("must be true or false")
            return yes if value else no

        return encode
    if kind == FieldDescriptor.TYPE_ENUM:
        return _enum(field)
    return _integer(field)


def _integer(field: FieldDescriptor) -> Encode:
    low, high, wire, form = {
        FieldDescriptor.TYPE_INT32: (-(1 << 31), (1 << 31) - 1, _VARINT, ""),
        FieldDescriptor.TYPE_INT64: (-(1 << 63), (1 << 63) - 1, _VARINT, ""),
        FieldDescriptor.TYPE_UINT32: (0, (1 << 32) - 1, _VARINT, ""),
        FieldDescriptor.TYPE_UINT64: (0, (1 << 64) - 1, _VARINT, ""),
        FieldDescriptor.TYPE_FIXED32: (0, (1 << 32) - 1, _FIXED32, "<I"),
        FieldDescriptor.TYPE_FIXED64: (0, (1 << 64) - 1, _FIXED64, "<Q"),
    }[field.type]
    tag = _tag(field, wire)
    pack = struct.Struct(form).pack if form else varint

    def encode(value: Any, _: int, __: LeftOut | None) -> bytes:
        number = _whole(value)
        if not low <= number <= high:
            raise WrongValue(f"is not between {low} and {high}")
        return tag + pack(number)

    return encode


def _whole(value: Any) -> int:
    """An integer; may be a text, and may be written with a point or an exponent."""
    kind = value.__class__
    if kind is int:
        return int(value)
    if kind is str and _INTEGER.fullmatch(value):
        return int(value)
    if kind is str or kind is float:
        try:
            if (number := float(value)).is_integer():
                return int(number)
        except ValueError:
            pass
    raise WrongValue("must be an integer")


def _double(value: Any) -> float:
    if value.__class__ in {int, float, str}:
        try:
            return float(value)
        except OverflowError:
            return math.copysign(math.inf, 1 if int(value) > 0 else -1)
        except ValueError:
            pass
    raise WrongValue("must be a number")


def _enum(field: FieldDescriptor) -> Encode:
    """A number, or a name: ``SPAN_KIND_SERVER``, ``SERVER``, ``Server``. Unknown names are unknown values."""
    tag = _tag(field, _VARINT)
    names = {value.name: value.number for value in field.enum_type.values}
    # The prefix of all names is the enum's own name: SpanKind.SPAN_KIND_SERVER, StatusCode.STATUS_CODE_OK.
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", field.enum_type.name).upper() + "_"
    names |= {name.removeprefix(prefix): number for name, number in names.items()}

    def encode(value: Any, _: int, __: LeftOut | None) -> bytes:
        if value.__class__ is str and not _INTEGER.fullmatch(value):
            number = names.get(value.upper())
            return b"" if number is None else tag + varint(number)
        number = _whole(value)
        if not -(1 << 31) <= number < 1 << 31:
            raise WrongValue("is no number of an enum")
        return tag + varint(number)

    return encode


def _tag(field: FieldDescriptor, wire: int) -> bytes:
    return varint(field.number << 3 | wire)


def varint(number: int) -> bytes:
    """Protobuf's variable-length integer (protobuf.dev/programming-guides/encoding); negative: 64 bits."""
    if 0 <= number < 128:
        return _LENGTHS[number]
    number &= (1 << 64) - 1
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)
