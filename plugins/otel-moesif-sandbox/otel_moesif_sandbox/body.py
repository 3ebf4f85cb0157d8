"""Reading a request's body: inflated while it arrives, and never beyond the limit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Protocol

from isal import isal_zlib

from otel_moesif_sandbox.refusal import Refusal

# wbits of zlib.decompressobj: 31 reads gzip (RFC 1952), 15 reads zlib, which is HTTP's "deflate" (RFC 9110
# 8.4.1.2, RFC 1950).
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


async def read_body(chunks: AsyncIterator[bytes], encoding: str, limit: int) -> tuple[bytes, int]:
    """Read and inflate a body.

    A body that is refused is still read to its end (but not kept, and not beyond twice the limit), so that
    the client gets to read the answer instead of a connection reset.

    Args:
        chunks: The body as it arrives.
        encoding: Value of Content-Encoding; empty or ``identity`` for none.
        limit: Most bytes after inflating.

    Returns:
        The body, and how many bytes it had on the wire.

    Raises:
        Refusal: It is too large (413), or not what the encoding says, or of an unknown encoding (400).
    """
    body = bytearray()
    wire = 0
    refusal: Refusal | None = None
    decoder: _Decoder = _Plain()
    try:
        decoder = _decoder(encoding)
    except Refusal as error:
        refusal = error
    async for chunk in chunks:
        wire += len(chunk)
        if refusal is None:
            try:
                _append(body, decoder.feed(chunk, limit - len(body)), limit)
            except Refusal as error:
                refusal = error
                body.clear()
        elif wire > 2 * limit:
            break
    if refusal is None and not decoder.complete:
        refusal = Refusal(400, f"body is not valid {encoding}: it ends too early")
    if refusal is not None:
        raise refusal
    return bytes(body), wire


def too_large(what: str, limit: int) -> Refusal:
    """The refusal of what exceeds a limit."""
    return Refusal(413, f"{what} is larger than {limit // 1_000_000} MB (counted after decompression)")


def _append(body: bytearray, parts: Iterator[bytes], limit: int) -> None:
    for part in parts:
        if len(body) + len(part) > limit:
            raise too_large("body", limit)
        body += part


class _Decoder(Protocol):
    @property
    def complete(self) -> bool: ...

    def feed(self, chunk: bytes, room: int) -> Iterator[bytes]:
        """Decode a chunk in parts, the first of which is at most one byte larger than ``room``."""


class _Plain:
    complete = True

    def feed(self, chunk: bytes, room: int) -> Iterator[bytes]:  # noqa: ARG002 - a chunk is what it is
        yield chunk


class _Inflate:
    def __init__(self, name: str) -> None:
        self._name = name
        self._stream = isal_zlib.decompressobj(_WINDOWS[name])

    @property
    def complete(self) -> bool:
        return bool(self._stream.eof)

    def feed(self, chunk: bytes, room: int) -> Iterator[bytes]:
        while chunk:
            if self._stream.eof:  # gzip may have several members, one after another (RFC 1952 2.2)
                self._stream = isal_zlib.decompressobj(_WINDOWS[self._name])
            try:
                # One byte more than there is room for tells "too large": a bomb is not inflated any further.
                part = self._stream.decompress(chunk, room + 1)
            except isal_zlib.error:  # type: ignore[misc]  # a class, whatever its stub says
                raise Refusal(400, f"body is not valid {self._name}") from None
            room -= len(part)
            chunk = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            yield part


def _decoder(encoding: str) -> _Decoder:
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return _Plain()
    if name not in _WINDOWS:
        raise Refusal(400, "Content-Encoding is not supported (gzip, deflate or none)")
    return _Inflate(name)
