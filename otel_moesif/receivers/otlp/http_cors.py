"""CORS: which web pages may send (fetch.spec.whatwg.org, "CORS protocol"), with the Collector's rules."""

from __future__ import annotations

import re

from otel_moesif.receivers.otlp.http_answer import Answer, Headers
from otel_moesif.receivers.otlp.http_settings import CorsSettings

# What rs/cors, which the Collector uses, adds to allowed_headers.
_ALWAYS = frozenset({"accept", "content-type", "x-requested-with"})
# The only answer that a page would not see otherwise, and whose content it needs.
_EXPOSED = ("access-control-expose-headers", "retry-after")

# Or caches would give one page the answer for another.
_VARY = ("vary", "origin")


class Cors:
    """Answers browsers.

    Args:
        settings: Whom to allow; None: nobody.
    """

    def __init__(self, settings: CorsSettings | None) -> None:
        self._settings = settings
        origins = settings.allowed_origins if settings else []
        self._everybody = "*" in origins
        self._origins = [
            re.compile(".*".join(map(re.escape, origin.lower().split("*")))) for origin in origins
        ]
        self._headers = _ALWAYS | {name.lower() for name in (settings.allowed_headers if settings else ())}

    @property
    def enabled(self) -> bool:
        """Whether any page may send."""
        return self._settings is not None

    def headers(self, origin: str) -> Headers:
        """What an answer to a page has to say so that the page sees it.

        Args:
            origin: The request's ``Origin``; empty for anybody but browsers.
        """
        if not self._settings:
            return ()
        if self._everybody:
            return (("access-control-allow-origin", "*"), _EXPOSED) if origin else ()
        if not self._allows(origin):
            return (_VARY,)
        return (
            ("access-control-allow-origin", origin),
            ("access-control-allow-credentials", "true"),
            _EXPOSED,
            _VARY,
        )

    def preflight(self, origin: str, asked: str) -> Answer:
        """May a page send a request like this one? Without these headers browsers take it as a no.

        Args:
            origin: The request's ``Origin``.
            asked: Its ``Access-Control-Request-Headers``.
        """
        if not self._settings or not self._allows(origin):
            return Answer(204)
        headers: Headers = (("access-control-allow-methods", "POST"),)
        names = [name.strip().lower() for name in asked.split(",") if name.strip()]
        if names and (self._headers.issuperset(names) or "*" in self._headers):
            headers += (("access-control-allow-headers", ", ".join(names)),)
        if self._settings.max_age:
            headers += (("access-control-max-age", str(self._settings.max_age)),)
        return Answer(204, b"", headers)

    def _allows(self, origin: str) -> bool:
        return self._everybody or any(pattern.fullmatch(origin.lower()) for pattern in self._origins)
