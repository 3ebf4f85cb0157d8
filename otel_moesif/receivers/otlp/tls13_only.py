"""``min_version: "1.3"`` for gRPC, whose library has no setting for it.

It has one for the cipher suites of TLS 1.2, for the whole process and read once, when it is loaded (the
environment variable below: grpc, doc/environment_variables.md). Those of TLS 1.3 are fixed. So it is given
one suite that nobody can use: for keys agreed upon beforehand, of which the library knows none. Without a
suite in common it ends the handshake of every client that cannot speak 1.3, and as a client it asks for 1.3.

Whether that holds with the library that is installed, is looked at when the server starts
(`grpc_credentials`). This module must not load the library.
"""

from __future__ import annotations

import os
import sys

from otel_moesif.errors import Problem

VARIABLE = "GRPC_SSL_CIPHER_SUITES"
# RFC 4279 section 2; one of those that BoringSSL knows, or it would refuse the list.
SUITE = "PSK-AES128-CBC-SHA"
_LIBRARY = "grpc._cython.cygrpc"


def demand(path: str) -> list[Problem]:
    """From now on this process speaks no TLS below 1.3 over gRPC, neither as a server nor as a client.

    Args:
        path: Of the option that wants it, for messages.

    Returns:
        Why it cannot be had: the operator chose suites, or the library has made its choice. Else nothing.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen is None and _LIBRARY not in sys.modules:
        os.environ[VARIABLE] = SUITE
    elif chosen is None:
        return [
            Problem(
                path,
                "cannot be raised any more: gRPC's library is in use already; start the collector with "
                f"{VARIABLE}={SUITE} in its environment",
            )
        ]
    elif chosen != SUITE:
        return [
            Problem(
                path,
                "gRPC's library can be kept from TLS 1.2 only through the environment variable "
                f'{VARIABLE}, which is set to something else; unset it, or leave min_version at "1.2"',
            )
        ]
    return []
