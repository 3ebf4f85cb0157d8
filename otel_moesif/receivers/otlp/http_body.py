"""Bodies of requests: inflated as they come, and never further than allowed.

A kilobyte can stand for a gigabyte (CVE-2024-36129 in the Collector), so the bounds are looked at after every
piece: the size on the wire, the size inflated, the ratio of the two, and what all requests hold together. The
ratio is that of what was inflated so far, not of what came so far: 128 KiB that stand for 128 MiB are given
up after the first few kilobytes.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Protocol, Self

import zstandard
from isal import igzip_lib

from otel_moesif.errors import InvalidData, Refused, TooLarge
from otel_moesif.receivers.otlp.http_settings import HttpSettings
from otel_moesif.settings import format_bytes

# The event loop answers others in between.
_PIECE_BYTES = 1 << 20
# So many bytes on the wire are inflated, and judged by what they became, before the next.
_STEP_BYTES = 16 << 10
# Of zstd four bytes can stand for 128 KiB and no call can be bounded, so it is given so many bytes at once:
# 8 MiB come out at most.
_ZSTD_STEP_BYTES = 256
# RFC 9659: largest window that a sender of Content-Encoding zstd may ask for.
_ZSTD_WINDOW_BYTES = 8 << 20
# gzip and zstd may be several streams in a row; each costs a decompressor, so a body of empty ones is work.
_MOST_STREAMS = 16
# Below this size no ratio is suspicious: short bodies of equal records compress well.
_RATIO_FROM_BYTES = 1 << 20
# What a request holds without asking, so that small ones get through while large ones fill the room.
_FREE_BYTES = 64 << 10


class Source(Protocol):
    """A request's body as it comes."""

    async def read(self) -> bytes:
        """What came since; empty at the end."""


class Room:
    """What the bodies of all requests may hold together.

    Args:
        limit: Bytes, beyond `_FREE_BYTES` of each.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0

    def hold(self) -> Held:
        """To be entered while a request's body is in memory."""
        return Held(self)

    def take(self, size: int) -> None:
        """Use so many bytes more.

        Raises:
            Refused: Others have them.
        """
        if self._used + size > self._limit:
            raise Refused("not stored: too many large requests at once; try again", reason="too many bytes")
        self._used += size

    def give(self, size: int) -> None:
        """Use so many bytes less."""
        self._used -= size


class Held:
    """One request's share of the `Room`."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._taken = 0

    def grow(self, size: int) -> None:
        """The request is now of this size.

        Raises:
            Refused: There is no room.
        """
        more = size - _FREE_BYTES - self._taken
        if more > 0:
            self._room.take(more)
            self._taken += more

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._room.give(self._taken)
        self._taken = 0


class _Inflater(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes out, in pieces.

        Raises:
            InvalidData: It is not of this encoding.
        """

    def finish(self) -> None:
        """Nothing comes any more.

        Raises:
            InvalidData: Something is missing.
        """


class _Identity:
    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        """Whether anything is missing, the parser of the content will find."""


class _Zlib:
    """gzip (RFC 1952, several members) and deflate: zlib's format or, from some senders, a bare one."""

    def __init__(self, name: str, flag: int) -> None:
        self._name = name
        self._flag = flag
        self._streams = 0
        self._head = b""
        self._stream: igzip_lib.IgzipDecompressor | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._stream is None or self._stream.eof:
                data = self._head + data
                if len(data) < 2:
                    self._head = data
                    return
                self._head = b""
                self._stream = self._open(data)
            stream = self._stream
            while True:
                yield self._decompress(stream, data)
                data = b""
                if stream.eof or stream.needs_input:
                    break
            data = stream.unused_data if stream.eof else b""

    def finish(self) -> None:
        if self._head or not (self._stream and self._stream.eof):
            raise InvalidData(f"the body ends in the middle of its {self._name} data")

    def _open(self, data: bytes) -> igzip_lib.IgzipDecompressor:
        self._streams += 1
        if self._streams > (_MOST_STREAMS if self._name == "gzip" else 1):
            raise InvalidData(f"something follows the {self._name} data of the body")
        flag = self._flag
        if flag == igzip_lib.DECOMP_ZLIB and not _is_zlib(data):
            flag = igzip_lib.DECOMP_DEFLATE
        return igzip_lib.IgzipDecompressor(flag=flag)

    def _decompress(self, stream: igzip_lib.IgzipDecompressor, data: bytes) -> bytes:
        try:
            return bytes(stream.decompress(data, _PIECE_BYTES))
        except igzip_lib.IsalError:  # type: ignore[misc]  # typed as an instance
            raise InvalidData(f"the body is not valid {self._name} data") from None


def _is_zlib(data: bytes) -> bool:
    """RFC 1950 section 2.2: method 8, and a check of the two header bytes."""
    return data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0


class _Zstd:
    """RFC 8878, several frames."""

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
        self._frame = self._decompressor.decompressobj()
        self._frames = 1
        self._fed = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_STEP_BYTES):
            step = data[start : start + _ZSTD_STEP_BYTES]
            while step:
                if self._frame.eof:
                    self._next()
                self._fed = True
                try:
                    yield self._frame.decompress(step)
                except zstandard.ZstdError:
                    raise InvalidData(
                        "the body is not valid zstd data, or has a window of more than 8 MiB"
                    ) from None
                step = self._frame.unused_data if self._frame.eof else b""

    def finish(self) -> None:
        if not self._fed or not self._frame.eof:
            raise InvalidData("the body ends in the middle of its zstd data")

    def _next(self) -> None:
        self._frames += 1
        if self._frames > _MOST_STREAMS:
            raise InvalidData("the body has too many zstd frames")
        self._frame = self._decompressor.decompressobj()


# Content-Encoding (RFC 9110 section 8.4.1; RFC 8878 section 7.2); none at all is the identity.
_INFLATERS: Mapping[str, Callable[[], _Inflater]] = {
    "": _Identity,
    "identity": _Identity,
    "gzip": lambda: _Zlib("gzip", igzip_lib.DECOMP_GZIP),
    "x-gzip": lambda: _Zlib("gzip", igzip_lib.DECOMP_GZIP),
    "zstd": _Zstd,
    "deflate": lambda: _Zlib("deflate", igzip_lib.DECOMP_ZLIB),
}
ENCODINGS = "gzip, zstd, deflate, identity"


def is_known(content_encoding: str) -> bool:
    """Whether `read_body` understands it."""
    return content_encoding.strip().lower() in _INFLATERS


async def read_body(
    source: Source, content_encoding: str, settings: HttpSettings, largest: int, held: Held
) -> bytes:
    """Read a whole body.

    Args:
        source: Where it comes from.
        content_encoding: The header; one that `is_known`.
        settings: The bounds.
        largest: Most bytes once inflated.
        held: The request's share of the room.

    Returns:
        The body, inflated.

    Raises:
        InvalidData: It is not of the encoding that it claims.
        TooLarge: It is beyond a bound; read no further.
        Refused: Other requests have the room.
    """
    body = _Body(_INFLATERS[content_encoding.strip().lower()](), settings, largest, held)
    while data := await source.read():
        await body.add(data)
        del data  # hundreds of slow clients would have two copies of what they sent last
    return body.whole()


class _Body:
    """What there is of a body so far."""

    def __init__(self, inflater: _Inflater, settings: HttpSettings, largest: int, held: Held) -> None:
        self._inflater = inflater
        self._settings = settings
        self._largest = largest
        self._held = held
        self._inflated = io.BytesIO()
        self._sent = 0
        self._fed = 0
        self._size = 0

    async def add(self, data: bytes) -> None:
        self._sent += len(data)
        if self._sent > self._settings.max_request_body_size:
            raise too_large(self._settings.max_request_body_size)
        since = 0
        for start in range(0, len(data), _STEP_BYTES):
            step = data[start : start + _STEP_BYTES]
            self._fed += len(step)
            for piece in self._inflater.feed(step):
                self._size += len(piece)
                self._check()
                self._inflated.write(piece)
                since += len(piece)
                if since >= _PIECE_BYTES:
                    since = 0
                    await asyncio.sleep(0)

    def whole(self) -> bytes:
        self._inflater.finish()
        return self._inflated.getvalue()

    def _check(self) -> None:
        if self._size > self._largest:
            limit = format_bytes(self._largest)
            raise TooLarge(f"the body is larger than {limit} once inflated", "too large inflated")
        ratio = self._settings.max_inflation_ratio
        if self._size > max(_RATIO_FROM_BYTES, self._fed * ratio):
            raise TooLarge(f"the body inflates to more than {ratio} times its size", "inflation ratio")
        self._held.grow(self._size)


def too_large(limit: int) -> TooLarge:
    """A body that is larger than what may be sent."""
    return TooLarge(f"the body is larger than {format_bytes(limit)}")
