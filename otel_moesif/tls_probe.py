"""What clients will think of a server's certificate, found out by being one."""

from __future__ import annotations

import ssl
import time

# A certificate that ends sooner than this is worth a warning when it is loaded.
_ENDS_SOON_SECONDS = 7 * 86400.0
# A handshake has two or three, of each side.
_MOST_TURNS = 8


def reason(error: ssl.SSLError) -> str:
    """OpenSSL's, in words."""
    return (error.reason or str(error)).replace("_", " ").lower()


def doubt(context: ssl.SSLContext, certificate: bytes) -> str:
    """Why clients will not like the certificate; empty if nothing speaks against it.

    Found out by being a client: a handshake in memory that trusts nothing but this certificate, so that who
    signed it does not matter.

    Args:
        context: The server's; it asks for no certificate of clients.
        certificate: PEM of what it shows.

    Raises:
        ValueError: No client can agree on it, as with keys on curves that OpenSSL reads and TLS does not use,
            or it is of a form that only OpenSSL reads.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(cadata=certificate.decode("ascii", "ignore"))
    except ssl.SSLError:  # OpenSSL's own form, a "TRUSTED CERTIFICATE"
        raise ValueError("it holds no certificate of the common form (-----BEGIN CERTIFICATE-----)") from None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    own = client.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_MOST_TURNS):
        try:
            own.do_handshake()
            break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError as error:
            return f"will be refused by clients: {error.verify_message}"
        except ssl.SSLError as error:
            return f"will be refused by clients: {reason(error)}"
        try:
            server.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError as error:
            raise ValueError(
                f"clients cannot agree on it ({reason(error)}); take a key of RSA or on P-256"
            ) from None
    else:
        return ""
    shown = own.getpeercert()
    if shown and (until := shown.get("notAfter")) and isinstance(until, str):
        left = ssl.cert_time_to_seconds(until) - time.time()
        if left < _ENDS_SOON_SECONDS:
            return f"ends soon: {until}"
    return ""
