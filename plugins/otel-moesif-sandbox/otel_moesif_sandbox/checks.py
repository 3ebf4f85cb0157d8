"""From a request's body to what can be stored, or to a refusal that says which field of it is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import from_json, to_json

from otel_moesif_sandbox.behavior import Behavior
from otel_moesif_sandbox.body import too_large
from otel_moesif_sandbox.kinds import Kind
from otel_moesif_sandbox.model import faults
from otel_moesif_sandbox.refusal import Fault, Refusal

Item = tuple[dict[str, Any], bytes]
"""Something valid: parsed, and as JSON text."""

# Between two slices the event loop serves others; 1,000 events take about 10 ms.
SLICE = 1000

TOLD = "is one that the sandbox was told to reject"


async def checked(
    body: bytes, kind: Kind, behavior: Behavior, *, batch: bool, max_age: float | None = None
) -> list[Item]:
    """Parse and check a body.

    Args:
        body: JSON, decompressed.
        kind: What it holds.
        behavior: Its ``reject_…`` fields count here.
        batch: An array of such things instead of one.
        max_age: Seconds; older events are refused. None: of any age.

    Returns:
        All of its items.

    Raises:
        Refusal: 400 or 413, for one is enough.
    """
    items = _parsed(body, kind, batch=batch)
    oldest = (
        None if max_age is None or kind.name != "events" else datetime.now(UTC) - timedelta(seconds=max_age)
    )
    rejected, where = behavior.rejected_ids, behavior.reject_where
    taken: list[Item] = []
    for first in range(0, len(items), SLICE):
        part = items[first : first + SLICE]
        found = faults(part, first, kind.model)
        if found:
            raise _invalid(kind, *found)
        for index, item in enumerate(part, first):
            text = to_json(item)
            if kind.single_bytes is not None and len(text) > kind.single_bytes:
                reason = too_large(kind.label, kind.single_bytes).reason
                raise Refusal(413, reason, [Fault(index, "", "is too large")])
            if rejected and item.get("transaction_id") in rejected:
                raise _invalid(kind, Fault(index, "transaction_id", TOLD))
            if where and all(_at(item, path) == value for path, value in where.items()):
                raise _invalid(kind, Fault(index, next(iter(where)), TOLD))
            if oldest is not None:
                _check_age(item["request"]["time"], oldest, index, kind)
            taken.append((item, text))
        await asyncio.sleep(0)
    return taken


def _parsed(body: bytes, kind: Kind, *, batch: bool) -> list[Any]:
    try:
        parsed = from_json(body, allow_inf_nan=False)
    except ValueError:  # its message can quote the body
        raise Refusal(400, "body is not JSON") from None
    if batch and not isinstance(parsed, list):
        raise Refusal(400, f"body must be a JSON array of {kind.name}")
    if not batch and not isinstance(parsed, dict):
        raise Refusal(400, f"body must be one {kind.label.split()[1]}, a JSON object")
    return parsed if batch else [parsed]


def _invalid(kind: Kind, *found: Fault) -> Refusal:
    return Refusal(400, f"{kind.label} is not valid", found)


def _at(item: Any, path: str) -> Any:
    """The value at a dotted path; None where it leads nowhere."""
    for name in path.split("."):
        if not isinstance(item, Mapping):
            return None
        item = item.get(name)
    return item


def _check_age(text: str, oldest: datetime, index: int, kind: Kind) -> None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:  # the model's pattern lets 31 February pass
        raise _invalid(kind, Fault(index, "request.time", "is a day that no calendar has")) from None
    # Without a zone it is UTC, as Moesif's own SDKs send it.
    if (time if time.tzinfo else time.replace(tzinfo=UTC)) < oldest:
        raise _invalid(kind, Fault(index, "request.time", "is longer ago than the sandbox accepts"))
