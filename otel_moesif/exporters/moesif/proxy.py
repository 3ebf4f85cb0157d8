"""Which proxy stands between here and the backend."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

import httpx

from otel_moesif import StartError
from otel_moesif.exporters.moesif.settings import MoesifSettings


def find_proxy(settings: MoesifSettings) -> httpx.Proxy | None:
    """The proxy to go through: ``proxy_url``, else that of the environment, if any.

    A proxy of the environment has no way to this machine, so it is not asked for loopback addresses.

    Raises:
        StartError: Its URL cannot be used; the message does not show it, since it may hold a password.
    """
    option, text = _given(settings)
    return _proxy(option, text) if text else None


def proxy_option(settings: MoesifSettings) -> str:
    """Where the proxy is set: ``proxy_url``, or a variable of the environment; empty if there is none."""
    return _given(settings)[0]


def is_loopback(endpoint: str) -> bool:
    """Whether an endpoint is on this machine, judged by its name alone."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761 section 6.3


def place(proxy: httpx.Proxy) -> str:
    """A proxy's URL for people: without user, password and path."""
    url = proxy.url
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}:{url.port}" if url.port else f"{url.scheme}://{host}"


def _given(settings: MoesifSettings) -> tuple[str, str]:
    """Who says that there is a proxy, and what it says; both empty if nobody does."""
    configured = settings.proxy_url.get_secret_value().strip() if settings.proxy_url else ""
    if configured:
        return "proxy_url", configured
    if is_loopback(settings.endpoint):
        return "", ""
    url = urlsplit(settings.endpoint)
    proxies = getproxies_environment()  # names in lower case, without _proxy
    name = url.scheme if proxies.get(url.scheme) else "all"
    port = url.port or (443 if url.scheme == "https" else 80)
    if not proxies.get(name) or _bypassed(url.hostname or "", port, proxies.get("no", "")):
        return "", ""
    variable = f"{name}_proxy"  # the one in lower case counts where both are set
    return variable if os.environ.get(variable) else variable.upper(), proxies[name]


def _proxy(origin: str, text: str) -> httpx.Proxy:
    try:
        # curl and Go take a proxy without a scheme for an HTTP one
        proxy = httpx.Proxy(text if "://" in text else f"http://{text}")
    except (ValueError, httpx.InvalidURL):
        proxy = None
    if proxy is None or not proxy.url.host:
        raise StartError(
            f"{origin}: must be the URL of a proxy, for example http://proxy.example.com:3128 "
            "(http, https, socks5 or socks5h)"
        )
    return proxy


def _bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Whether ``NO_PROXY`` names the host: itself, the end of its name, its network, ``*``; with port or not.

    As Go reads it (golang.org/x/net/http/httpproxy, ``Config.NoProxy``).
    """
    for part in no_proxy.lower().split(","):
        entry, _, only = part.strip().rpartition(":")
        if not only.isdigit() or (":" in entry and not entry.endswith("]")):  # no port: 10.0.0.0/8, ::1
            entry, only = part.strip(), str(port)
        if only == str(port) and (entry == "*" or _names(entry.strip("[]"), host)):
            return True
    return False


def _names(entry: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        name = entry.removeprefix("*").lstrip(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))
