"""What an answer of the collector API means (apidocs ``_errors.md``)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from otel_moesif import PermanentError, RetryableError

ANSWER_CAP = 64 * 1024
"""Most bytes that are read of an answer; what Moesif says is far shorter."""

_EXCERPT = 300  # characters of an answer in an error message
_SECONDS = re.compile(
    r"[0-9]{1,9}(\.[0-9]{1,9})?"
)  # a fraction is not in the RFC, but there are such servers
_NOT_OURS = {401, 402, 403}  # wrong application id or scope; 402: subscription not active
_NOT_THERE = {404, 405, 410}  # a wrong endpoint says nothing about the events; they are kept
_AGAIN = {408, 429}  # and all of 5xx


async def read_capped(chunks: AsyncIterator[bytes]) -> bytes:
    """Read an answer's body up to `ANSWER_CAP`."""
    body = b""
    async for chunk in chunks:
        body += chunk
        if len(body) >= ANSWER_CAP:
            break
    return body[:ANSWER_CAP]


def failure(status: int, reason: str, retry_after: float | None) -> PermanentError | RetryableError | None:
    """Judge an answer's status.

    Args:
        status: HTTP status.
        reason: What the answer's body says, see `excerpt`.
        retry_after: Seconds that the answer asks to wait.

    Returns:
        The error to raise, or None when Moesif has the events: any 2xx, as its own SDKs disagree on which.
    """
    said = f"HTTP {status}: {reason}" if reason else f"HTTP {status}"
    if 200 <= status < 300:
        return None
    if status in _NOT_OURS:
        return RetryableError(
            f"{said} (check application_id; events are kept until it is accepted)", retry_after
        )
    if status < 400 or status in _NOT_THERE:
        return RetryableError(f"{said} (check endpoint; events are kept until it answers)", retry_after)
    if status in _AGAIN or status >= 500:
        return RetryableError(said, retry_after)
    return PermanentError(said)


def excerpt(body: bytes, secret: str) -> str:
    """The beginning of an answer on one line, without the application id should the answer repeat it."""
    text = " ".join(body.decode(errors="replace").replace(secret, masked(secret)).split())
    return "".join(char if char.isprintable() else "?" for char in text[:_EXCERPT])


def masked(secret: str) -> str:
    """The last four characters of a secret that is long enough to have four to spare."""
    return f"…{secret[-4:]}" if len(secret) >= 12 else "…"


def retry_after_seconds(value: str | None) -> float | None:
    """Read ``Retry-After``, seconds or an HTTP date (RFC 9110 section 10.2.3); None when it is neither."""
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
