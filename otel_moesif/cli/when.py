"""A moment as people type it: ISO 8601, or a duration ago."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

_DAYS = re.compile(r"(\d+(?:\.\d+)?)d")


def read_moment(text: str, now: datetime) -> tuple[datetime, str]:
    """Read ``2026-01-20T10:00:00+01:00``, ``2026-01-20 10:00`` or ``2h``, ``30m``, ``1d12h`` (before now).

    Args:
        text: What was typed.
        now: With its time zone.

    Returns:
        The moment, and what was assumed ("" if nothing was).

    Raises:
        ValueError: It is neither.
    """
    ago = _duration(text)
    try:
        if ago is not None:
            return now - ago, ""
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise ValueError(
            f'"{text}" is neither a time (2026-01-20T10:00:00Z) nor a duration (30m, 2h, 1d)'
        ) from None
    if moment.tzinfo is not None:
        return moment, ""
    moment = moment.astimezone()  # as the zone is at that moment, which need not be as it is now
    return moment, f"{text} is taken as local time: {moment.isoformat(timespec='seconds')}"


def _duration(text: str) -> timedelta | None:
    from otel_moesif.settings import parse_duration  # noqa: PLC0415 - needs pydantic

    try:
        # the Collector's durations have no days
        return parse_duration(_DAYS.sub(lambda days: f"{float(days[1]) * 24:f}h", text))
    except (ValueError, OverflowError):
        return None
