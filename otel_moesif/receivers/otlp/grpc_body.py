"""Messages of gRPC, inflated by ourselves and never further than allowed.

gRPC's library inflates a message before anybody hears of it, up to its bound and for all calls at once: 64 KB
that 128 clients send are 8 GiB then. So it is told to leave messages as they come
(``grpc.per_message_decompression``). It does not say which of them are compressed; but no OTLP request begins
as gzip or zlib data do: its first byte is 0x0a, the tag of its only field.
"""

from __future__ import annotations

import io
import threading

from isal import igzip_lib

from otel_moesif.errors import InvalidData, TooLarge
from otel_moesif.settings import format_bytes

_GZIP = b"\x1f\x8b"
_PIECE_BYTES = 1 << 20
# As in http_body.py: a bomb is known by its first kilobytes.
_STEP_BYTES = 16 << 10


class Inflation:
    """Inflates; may be asked from any thread.

    Args:
        largest: Most bytes of a message once inflated.
        ratio: Beyond 1 MiB, most times its size on the wire.
    """

    def __init__(self, largest: int, ratio: int) -> None:
        self._largest = largest
        self._ratio = ratio
        # What takes more than a step is done one by one: memory is reckoned for one, a MiB is a millisecond.
        self._turn = threading.Lock()

    def inflated(self, message: bytes) -> bytes:
        """The message as it was before it was compressed, if it was.

        Raises:
            InvalidData: It is compressed, but not to its end, or something follows.
            TooLarge: It is beyond a bound; inflated no further.
        """
        if message[:2] == _GZIP:
            stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        elif _is_zlib(message):
            stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)
        else:
            return message
        first, fed = _piece(stream, message[:_STEP_BYTES]), min(len(message), _STEP_BYTES)
        if not stream.eof and (fed < len(message) or not stream.needs_input):
            with self._turn:
                first, fed = self._rest(stream, first, message, fed)
        if not stream.eof or stream.unused_data or fed < len(message):
            raise InvalidData("the message is compressed, but not to its end, or something follows it")
        if len(first) > self._largest:
            raise self._too_large()
        return first

    def _rest(
        self, stream: igzip_lib.IgzipDecompressor, first: bytes, message: bytes, fed: int
    ) -> tuple[bytes, int]:
        """All that comes out, and how much of the message was read for it."""
        whole = io.BytesIO()
        size = whole.write(first)
        while not stream.eof:
            data = b""
            if stream.needs_input:
                data = message[fed : fed + _STEP_BYTES]
                if not data:
                    break
                fed += len(data)
            size += whole.write(_piece(stream, data))
            if size > self._largest:
                raise self._too_large()
            if size > max(_PIECE_BYTES, fed * self._ratio):
                raise TooLarge(
                    f"the message inflates to more than {self._ratio} times its size", "inflation ratio"
                )
        return whole.getvalue(), fed

    def _too_large(self) -> TooLarge:
        limit = format_bytes(self._largest)
        return TooLarge(f"the message is larger than {limit} once inflated", "too large inflated")


def _piece(stream: igzip_lib.IgzipDecompressor, data: bytes) -> bytes:
    try:
        return bytes(stream.decompress(data, _PIECE_BYTES))
    except igzip_lib.IsalError:  # type: ignore[misc]  # typed as an instance
        raise InvalidData("the message is not valid gzip or zlib data") from None


def _is_zlib(data: bytes) -> bool:
    """RFC 1950 section 2.2: method 8, and a check of the two header bytes."""
    return len(data) > 2 and data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
