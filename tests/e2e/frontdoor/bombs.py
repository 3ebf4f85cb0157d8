"""Requests that are small to send and large to understand."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable

import zstandard

from tests.e2e.frontdoor.payloads import delimited, nested, span_with, varint

MIB = 1 << 20
# As zlib wants them: gzip, zlib's own, none.
_WBITS = {"gzip": 31, "deflate": 15}
_ATTRIBUTE = 9
_EVENT = 11


def zeros(encoding: str, size: int) -> bytes:
    """So many bytes of nothing, compressed as far as it goes."""
    if encoding == "zstd":
        packer = zstandard.ZstdCompressor(level=19).compressobj()
        return b"".join(packer.compress(bytes(MIB)) for _ in range(size // MIB)) + packer.flush()
    zipper = zlib.compressobj(9, zlib.DEFLATED, _WBITS[encoding])
    return b"".join(zipper.compress(bytes(MIB)) for _ in range(size // MIB)) + zipper.flush()


def packed(content: bytes) -> bytes:
    """Gzip, as fast as it goes."""
    zipper = zlib.compressobj(1, zlib.DEFLATED, 31)
    return zipper.compress(content) + zipper.flush()


def many_members(count: int) -> bytes:
    """A body of so many gzip streams, each of nothing."""
    return packed(b"") * count


def long_string(size: int, *, repeats: int = 1) -> bytes:
    """A call with one text of that size, of which each part of 16 KiB comes so often."""
    choose = random.Random(1)  # noqa: S311 - no secret
    parts = [
        choose.randbytes(4096).hex().encode() * 2 * repeats for _ in range(size // (16384 * repeats) + 1)
    ]
    text = b"".join(parts)[:size]
    return span_with(_attribute(b"text", delimited(1, text)))


def many_attributes(count: int) -> bytes:
    """A call with so many attributes."""
    return span_with(delimited(_ATTRIBUTE, delimited(1, b"k")) * count)


def many_events(count: int) -> bytes:
    """A call with so many span events, all empty."""
    return span_with(delimited(_EVENT, b"") * count)


def many_spans(count: int) -> bytes:
    """Empty spans: two bytes each, a hundred times as much when they are parsed."""
    return delimited(1, delimited(2, delimited(2, b"") * count))


def many_resources(count: int) -> bytes:
    """Empty resources."""
    return delimited(1, b"") * count


def many_values(count: int) -> bytes:
    """A call with one list of so many empty values."""
    return span_with(_attribute(b"list", delimited(5, delimited(1, b"") * count)))


def deep(depth: int) -> bytes:
    """A call with lists in lists in lists."""
    return span_with(_attribute(b"deep", nested(depth)))


def deep_groups(depth: int) -> bytes:
    """Protobuf's groups, which have no length and can be nested at two bytes a level, in an unknown field."""
    start, end = varint(20 << 3 | 3), varint(20 << 3 | 4)
    return span_with(start * depth + end * depth)


def json_deep(depth: int) -> bytes:
    """The same in JSON."""
    return _json_attribute(b'{"arrayValue":{"values":[' * depth + b"]}}" * depth)


def json_brackets(depth: int) -> bytes:
    """Nothing but brackets."""
    return b"[" * depth


def json_attributes(count: int) -> bytes:
    """A million attributes in JSON."""
    return _json_span(b'"attributes":[' + b",".join([b'{"key":"k"}'] * count) + b"]")


def json_digits(count: int) -> bytes:
    """A number that takes quadratic time to read."""
    return _json_span(b'"kind":' + b"9" * count)


def json_string(size: int) -> bytes:
    """One long text."""
    return _json_attribute(b'{"stringValue":"' + b"\\u0041" * (size // 6) + b'"}')


def json_keys(count: int) -> bytes:
    """An object with so many members, all different."""
    return b"{" + b",".join(b'"%d":0' % number for number in range(count)) + b"}"


def noise(size: int) -> bytes:
    """What means nothing."""
    return os.urandom(size)


PROTOBUF: dict[str, Callable[[], bytes]] = {
    "a million attributes": lambda: many_attributes(1_000_000),
    "a million span events": lambda: many_events(1_000_000),
    "a million spans": lambda: many_spans(1_000_000),
    "a million resources": lambda: many_resources(1_000_000),
    "a million values in a list": lambda: many_values(1_000_000),
    "lists in lists": lambda: deep(20_000),
    "groups in groups": lambda: deep_groups(1_000_000),
    "19 MiB of one string": lambda: long_string(19 * MIB),
    "19 MiB of noise": lambda: noise(19 * MIB),
}
JSON: dict[str, Callable[[], bytes]] = {
    "lists in lists": lambda: json_deep(200_000),
    "brackets": lambda: json_brackets(8_000_000),
    "a million attributes": lambda: json_attributes(1_000_000),
    "half a million members": lambda: json_keys(500_000),
    "a million digits": lambda: json_digits(1_000_000),
    "8 MiB of one string": lambda: json_string(8 * MIB - 1000),
}


def _attribute(key: bytes, value: bytes) -> bytes:
    return delimited(_ATTRIBUTE, delimited(1, key) + delimited(2, value))


def _json_span(members: bytes) -> bytes:
    ids = b'"traceId":"%b","spanId":"%b",' % (b"0a" * 16, b"0b" * 8)
    return b'{"resourceSpans":[{"scopeSpans":[{"spans":[{' + ids + members + b"}]}]}]}"


def _json_attribute(value: bytes) -> bytes:
    return _json_span(b'"attributes":[{"key":"k","value":' + value + b"}]")
