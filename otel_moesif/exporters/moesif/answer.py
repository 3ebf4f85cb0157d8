"""What an answer of the collector API means (apidocs ``_errors.md``)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from otel_moesif import PausedError, PermanentError, RetryableError

ANSWER_CAP = 64 * 1024
"""Most bytes that are read of an answer; what Moesif says is far shorter."""

_EXCERPT = 300  # characters of an answer in an error message
_STORED = 2000  # the same with a dead letter
# Longer than this no backend is left alone, whatever it says: it may have been a slip, or a clock.
_LONGEST_WAIT = 3600.0
_SECONDS = re.compile(
    r"[0-9]{1,9}(\.[0-9]{1,9})?"
)  # a fraction is not in the RFC, but there are such servers

_KEPT = "events are kept until then"
# Somebody has to do something, and what.
_PAUSED = {
    401: "check application_id: the Collector Application Id under API Keys in Moesif's account menu",
    402: "the subscription at Moesif is not active: see Billing in Moesif's account menu",
    403: "check application_id, and whether it may write: it must be a Collector Application Id",
    407: "the proxy wants a user and a password: set proxy_url to http://user:password@host:port",
}
# Of one request or its events; the sender bisects.
_REFUSED = {400, 413, 422}
_NOT_THERE = {404, 405, 406, 410}  # a wrong endpoint says nothing about the events; they are kept
_AGAIN = {408, 429}  # and all of 5xx


async def read_capped(chunks: AsyncIterator[bytes], cap: int = ANSWER_CAP) -> bytes:
    """Read an answer's body up to a cap.

    Args:
        chunks: The body as it comes.
        cap: Bytes.
    """
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) >= cap:
            break
    return bytes(body[:cap])


def failure(status: int, answer: str, retry_after: float | None) -> PermanentError | RetryableError | None:
    """Judge an answer's status.

    Args:
        status: HTTP status.
        answer: What the answer's body says, see `excerpt`.
        retry_after: Seconds that the answer asks to wait.

    Returns:
        The error to raise: `PausedError` when first somebody has to do something, `PermanentError` where the
        events are to blame, `RetryableError` for anything else, as what we do not know must not cost events.
        None when Moesif has the events: any 2xx, as its own SDKs disagree on which.
    """
    if 200 <= status < 300:
        return None
    said = f"HTTP {status}: {answer[:_EXCERPT]}" if answer else f"HTTP {status}"
    if status in _REFUSED:
        return PermanentError(said, answer)
    advice = remedy(status)
    told = f"{said} ({advice}; {_KEPT})" if advice else said
    return (PausedError if status in _PAUSED else RetryableError)(told, retry_after)


def remedy(status: int) -> str:
    """What to do about a status; empty where waiting is all, or the events are to blame."""
    if status in _PAUSED:
        return _PAUSED[status]
    if status in _AGAIN or status in _REFUSED or status >= 500 or 200 <= status < 300:
        return ""
    if status < 400 or status in _NOT_THERE:
        return "check endpoint: it must be the base URL of Moesif's collector API, https://api.moesif.net"
    return "check endpoint, and what stands between: Moesif does not answer so"


def excerpt(body: bytes, secret: str) -> str:
    """The beginning of an answer on one line, without the application id should the answer repeat it."""
    text = " ".join(body.decode(errors="replace").replace(secret, masked(secret)).split())
    return "".join(char if char.isprintable() else "?" for char in text[:_STORED])


def masked(secret: str) -> str:
    """The last four characters of a secret that is long enough to have four to spare."""
    return f"…{secret[-4:]}" if len(secret) >= 12 else "…"


def retry_after_seconds(value: str | None, sent: str | None = None) -> float | None:
    """Read ``Retry-After``, seconds or an HTTP date (RFC 9110 section 10.2.3); None when it is neither.

    Args:
        value: Of the header.
        sent: The answer's ``Date``: a date to come back is one of the sender's clock, and ours may be wrong.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), _LONGEST_WAIT)
    until = _date(text)
    if until is None:
        return None
    now = _date(sent or "") or datetime.now(UTC)
    return min(max(0.0, (until - now).total_seconds()), _LONGEST_WAIT)


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
