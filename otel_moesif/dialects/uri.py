"""URIs and addresses as expressions."""

from __future__ import annotations

import polars as pl

# RFC 3986 appendix B, cut down to what a request line or an absolute URI can have.
_ABSOLUTE = r"^[A-Za-z][A-Za-z0-9+.\-]*://"
_PATH = r"^(?:[A-Za-z][A-Za-z0-9+.\-]*://[^/?#]*)?([^?#]*)"
_FIRST_SEGMENT = r"^(/[^/]+)"


def path_of(uri: pl.Expr) -> pl.Expr:
    """``/a/b`` of ``https://h/a/b?c``, ``/a/b?c`` or ``/a/b``; ``/`` for an absolute URI without a path."""
    path = uri.str.extract(_PATH)
    return pl.when(path == "").then(pl.lit("/")).otherwise(path)


def first_segment(path: pl.Expr) -> pl.Expr:
    """``/a`` of ``/a/b``; the usual place of an API's base path where nothing better is known."""
    return path.str.extract(_FIRST_SEGMENT)


def host_of(address: pl.Expr) -> pl.Expr:
    """An address without its port and brackets: ``10.0.0.1:80``, ``[::1]:80``, ``::1`` or ``10.0.0.1``.

    Null for a caller on a Unix socket: ``unix:`` of NGINX, ``@`` of Go.
    """
    plain = pl.when(address.str.count_matches(":", literal=True) > 1).then(
        pl.coalesce(address.str.extract(r"^\[([^\]]*)\]"), address)
    )
    host = plain.otherwise(address.str.replace(r":\d+$", ""))
    return pl.when(~address.str.contains(r"^(?:unix:|@)")).then(host)


def first_of_list(value: pl.Expr) -> pl.Expr:
    """The first item of a comma list such as ``X-Forwarded-For``."""
    first = value.str.split_exact(",", 1).struct.field("field_0").str.strip_chars()
    return pl.when(first != "").then(first)


def absolute_uri(full: pl.Expr, scheme: pl.Expr, authority: pl.Expr, target: pl.Expr) -> pl.Expr:
    """A full URI: ``full`` where it is absolute, else put together; null where no host is known.

    Args:
        full: A URI that may be absolute already.
        scheme: ``http`` where null.
        authority: Host, and port if any.
        target: Path and query, or all of it, as a proxy is asked (RFC 9112 3.2.2).
    """
    # ``*`` of OPTIONS stands for the server as a whole (RFC 9112 3.2.4).
    from_root = pl.when(target != "*").then(pl.format("/{}", target))
    path = pl.when(target.str.starts_with("/")).then(target).otherwise(from_root)
    built = pl.concat_str(scheme.fill_null("http"), pl.lit("://"), authority, path.fill_null("/"))
    whole = [pl.when(uri.str.contains(_ABSOLUTE)).then(uri) for uri in (full, target)]
    return pl.coalesce(*whole, built)


def target_of(path: pl.Expr, query: pl.Expr) -> pl.Expr:
    """Path and query as in a request line; the query with or without its question mark."""
    query = query.str.strip_prefix("?")
    return pl.when(query != "").then(pl.concat_str(path, pl.lit("?"), query)).otherwise(path)


def authority_of(host: pl.Expr, port: pl.Expr, scheme: pl.Expr) -> pl.Expr:
    """``host:port``, without the port where it is the scheme's own or ``host`` has one already.

    An IPv6 address gets its brackets (RFC 3986 3.2.2): semantic conventions and Kong leave them out.
    """
    secure = scheme.is_in(["https", "wss"])
    own = (scheme.fill_null("http").is_in(["http", "ws"]) & (port == 80)) | (secure & (port == 443))
    bare = host.str.contains(r"^[0-9A-Fa-f.]*:[^\[\]]*:[^\[\]]*$")
    host = pl.when(bare).then(pl.format("[{}]", host)).otherwise(host)
    has_port = host.str.contains(r"^(?:[^:]*|\[[^\]]*\]):\d+$")
    return (
        pl.when(port.is_null() | own.fill_null(value=False) | has_port)
        .then(host)
        .otherwise(pl.concat_str(host, pl.lit(":"), port.cast(pl.String)))
    )
