"""Keys of certificates that gRPC's library, or the clients that are built on it, have no use for.

Its TLS is BoringSSL, which knows fewer kinds of keys than OpenSSL, and offers fewer yet as a client. So a
certificate that HTTP's clients like can be one that no gRPC client of Python, C++, Ruby or PHP connects to
(measured: 1.85.1). Those of Go and Java bring a TLS of their own.
"""

from __future__ import annotations

import ssl
import struct

# TLS's names of signatures (RFC 8446 section 4.2.3): what a client takes (BoringSSL, ssl/extensions.cc,
# kVerifySignatureAlgorithms), and what else a server can make (kSignSignatureAlgorithms).
_TAKEN = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)
_MADE = (*_TAKEN, 0x0807, 0x0603)
# And what OpenSSL makes beyond: Ed448, and with keys that are for RSA-PSS alone.
_ANY = (*_MADE, 0x0808, 0x0809, 0x080A, 0x080B)
# RFC 8446 sections 4.2.1, 4.2.3, 4.2.7 and 4.2.8.
_GROUPS, _SIGNATURES, _VERSIONS, _KEY_SHARES = 10, 13, 43, 51
_X25519, _TLS13 = 0x001D, 0x0304


def doubt(context: ssl.SSLContext) -> str:
    """Why gRPC's clients will not like a server's certificate; empty if they will.

    Found out from the server's answer to what such a client says first; Python has no other way to ask.

    Args:
        context: The server's, with certificate and key.

    Raises:
        ValueError: gRPC's server cannot show the certificate either.
    """
    if not _answers(context, _ANY):  # the curve, or all of TLS 1.3, may be off on this machine
        return ""
    if not _answers(context, _MADE):
        raise ValueError("gRPC has no use for a key of its kind; take one of RSA, on P-256 or on P-384")
    if not _answers(context, _TAKEN):
        return (
            "has a key of a kind that gRPC clients of Python, C++, Ruby and PHP do not know: they cannot "
            "connect (take one of RSA, on P-256 or on P-384)"
        )
    return ""


def _answers(context: ssl.SSLContext, signatures: tuple[int, ...]) -> bool:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    to_server.write(_client_hello(signatures))
    try:
        context.wrap_bio(to_server, to_client, server_side=True).do_handshake()
    except ssl.SSLWantReadError:  # for the client's next words
        return True
    except ssl.SSLError:
        return False
    return True


def _client_hello(signatures: tuple[int, ...]) -> bytes:
    """A ClientHello of TLS 1.3 (RFC 8446 section 4.1.2), which nobody means to go on from."""
    listed = b"".join(struct.pack(">H", one) for one in signatures)
    share = struct.pack(">H", _X25519) + _sized(">H", (9).to_bytes(32, "little"))  # the curve's base point
    extensions = {
        _GROUPS: _sized(">H", struct.pack(">H", _X25519)),
        _SIGNATURES: _sized(">H", listed),
        _VERSIONS: _sized(">B", struct.pack(">H", _TLS13)),
        _KEY_SHARES: _sized(">H", share),
    }
    body = b"".join(
        [
            b"\x03\x03",  # TLS 1.2, for those in between
            bytes(32),  # random
            _sized(">B", b""),  # session
            _sized(">H", b"\x13\x01\x13\x02\x13\x03"),  # the suites of section 9.1
            _sized(">B", b"\0"),  # no compression
            _sized(">H", b"".join(struct.pack(">H", id_) + _sized(">H", x) for id_, x in extensions.items())),
        ]
    )
    handshake = b"\x01" + struct.pack(">I", len(body))[1:] + body
    return b"\x16\x03\x01" + _sized(">H", handshake)


def _sized(size: str, content: bytes) -> bytes:
    return struct.pack(size, len(content)) + content
