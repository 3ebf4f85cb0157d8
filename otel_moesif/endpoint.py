"""``host:port`` as users write it."""

from __future__ import annotations


def parse_endpoint(text: str) -> tuple[str, int]:
    """Split ``host:port``; ``[::1]:4317`` for IPv6, port 0 for any free one.

    Args:
        text: What stands in the configuration.

    Returns:
        Host without brackets, and port.

    Raises:
        ValueError: It is not of that form.
    """
    host, colon, port = text.strip().rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be host:port, for example localhost:4317")
    bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not bracketed:
        raise ValueError("must have an IPv6 address in brackets, for example [::1]:4317")
    return (host[1:-1] if bracketed else host), int(port)


def format_endpoint(host: str, port: int) -> str:
    """The reverse of `parse_endpoint`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
