"""One value at a time: WSO2's masks, cut addresses, keyed hashes.

The masks are those of carbon-apimgt ``CommonRequestDataCollector.maskAnalyticsData``; where that code throws
(an address of the other kind, ``::1``, a name without ``@``), more is masked, never less.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

from otel_moesif.processors.redact.settings import MaskType
from otel_moesif.schema import UNKNOWN

MASK = "*****"
_NOTHING = frozenset({"", UNKNOWN, MASK})
_V4, _V6 = 24, 48


def mask(kind: MaskType) -> Callable[[str], str]:
    """The function that masks one value as a type says."""
    return {"IPV4": _address, "IPV6": _address, "EMAIL": _email, "STRING": _whole}[kind]


def truncate_ip(text: str) -> str:
    """An address without the part that names a single host or site: IPv4 /24, IPv6 /48.

    What is no address is masked.
    """
    if text in _NOTHING:
        return text
    address = _parse(text)
    if address is None:
        return MASK
    bits, kept = address.max_prefixlen, _V4 if address.version == 4 else _V6
    return str(type(address)(int(address) >> (bits - kept) << (bits - kept)))


def keyed_hash(key: str) -> Callable[[str], str]:
    """The function that hashes one value: HMAC-SHA256 (RFC 2104), lower-case hex."""
    secret = key.encode()

    def digest(text: str) -> str:
        if text in {"", UNKNOWN}:
            return text
        return hmac.digest(secret, text.encode(), "sha256").hex()

    return digest


def _whole(text: str) -> str:
    return text if text in _NOTHING else MASK


def _email(text: str) -> str:
    if text in _NOTHING:
        return text
    _, at, domain = text.rpartition("@")
    return f"{MASK}@{domain}" if at and domain else MASK


def _address(text: str) -> str:
    """``192.168.***.98`` and ``2001:0db8:85a3:****:****:****:****:7334``, by what the address is."""
    if text in _NOTHING:
        return text
    address = _parse(text)
    if address is None:
        return MASK
    if isinstance(address, IPv4Address):
        octets = str(address).split(".")
        return f"{octets[0]}.{octets[1]}.***.{octets[3]}"
    groups = address.exploded.split(":")
    return ":".join([*groups[:3], *["****"] * 4, groups[7]])


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address, also with a port, in brackets, with a zone, or an IPv4 one within IPv6."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
