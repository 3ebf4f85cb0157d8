"""The fields of a protobuf message, without the message: where each begins and ends.

Source: protobuf.dev, "Encoding". Bounds are those of upb, protobuf's own parser: tags of five bytes and 32
bits, lengths of five bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

VARINT, FIXED64, LEN, GROUP, END_GROUP, FIXED32 = range(6)

# Field number, wire type, where its tag begins, where its value begins, where it ends.
Field: TypeAlias = tuple[int, int, int, int, int]

_LONGEST_TAG = 5
_LARGEST_TAG = 2**32 - 1
_LONGEST_LENGTH = 5
_LONGEST_VARINT = 10
_MOST_IN_GROUP = 4096  # fields and ends
_MORE = 0x80  # this bit of a varint's byte says that another one follows
_FIXED = {FIXED64: 8, FIXED32: 4}


class CorruptError(ValueError):
    """These bytes are no message."""


def fields(data: bytes, start: int, end: int) -> Iterator[Field]:
    """The fields of the message in ``data[start:end]``, one after another.

    Raises:
        CorruptError: It is none; what came before was one.
    """
    at = start
    try:
        while at < end:
            begin, tag = at, data[at]
            if tag < _MORE:
                at += 1
            else:
                tag, at = _varint(data, at, _LONGEST_TAG)
            wire = tag & 7
            if wire == LEN:
                length, at = data[at], at + 1
                if length >= _MORE:
                    last = data[at]
                    if last < _MORE:  # two bytes, as most records have
                        length, at = length & 0x7F | last << 7, at + 1
                    else:
                        length, at = _varint(data, at - 1, _LONGEST_LENGTH)
                value, at = at, at + length
            else:
                value, at = at, _skip(data, at, tag, end)
            if at > end or not 8 <= tag <= _LARGEST_TAG:
                raise CorruptError
            yield tag >> 3, wire, begin, value, at
    except IndexError:
        raise CorruptError from None


def wrapped(number: int, *parts: bytes | memoryview) -> bytes:
    """A message's bytes, given in parts, as field ``number`` (below 16) of another."""
    return b"".join((head(number, sum(map(len, parts))), *parts))


def head(number: int, length: int) -> bytes:
    """What stands before a field of ``length`` bytes: its tag, below 16, and the length."""
    out = bytearray((number << 3 | LEN,))
    while length >= _MORE:
        out.append(length & (_MORE - 1) | _MORE)
        length >>= 7
    out.append(length)
    return bytes(out)


def _varint(data: bytes, at: int, longest: int) -> tuple[int, int]:
    value = 0
    for place in range(longest):
        byte = data[at + place]
        value |= (byte & (_MORE - 1)) << 7 * place
        if byte < _MORE:
            return value, at + place + 1
    raise CorruptError


def _skip(data: bytes, at: int, tag: int, end: int) -> int:
    """Where the value of a field ends that does not say its length."""
    wire = tag & 7
    if wire == VARINT:
        return _varint(data, at, _LONGEST_VARINT)[1]
    if wire in _FIXED:
        return at + _FIXED[wire]
    if wire == GROUP:
        return _end_of_group(data, at, tag >> 3, end)
    raise CorruptError


def _end_of_group(data: bytes, at: int, number: int, end: int) -> int:
    """Where a group ends, if it is small: OTLP has none, so this is for what nobody sends.

    As in upb, a field within an unknown group may have any number, even none.
    """
    opened = [number]
    for _ in range(_MOST_IN_GROUP):
        if at >= end:
            break
        tag, at = _varint(data, at, _LONGEST_TAG)
        wire = tag & 7
        if tag > _LARGEST_TAG:
            break
        if wire == GROUP:
            opened.append(tag >> 3)
        elif wire == END_GROUP:
            if opened.pop() != tag >> 3:
                break
            if not opened:
                return at
        elif wire == LEN:
            length, value = _varint(data, at, _LONGEST_LENGTH)
            at = value + length
        else:
            at = _skip(data, at, tag, end)
    raise CorruptError
