"""What can be posted to Moesif: each kind with its model and its limits.

Sources: apidocs ``_errors.md`` (single event 1 MB, batch of events 50 MB "regardless if compression is
used") and ``_actions-api.md`` (batch of actions 15 MB). No limit is documented for profiles: they get that of
events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from otel_moesif_sandbox import profile_model
from otel_moesif_sandbox.model import EVENTS

EVENT_BYTES = 1_000_000
BATCH_BYTES = 50_000_000
ACTIONS_BYTES = 15_000_000

RequestKind = Literal["events", "users", "companies", "subscriptions", "actions", "config"]


@dataclass(frozen=True)
class Kind:
    """A kind of thing that is posted one by one or in batches.

    Attributes:
        name: As it stands in the path, ``/v1/<name>`` and ``/v1/<name>/batch``.
        label: One of them, with its article.
        model: Checks a list of them.
        single_bytes: Most that one may have, alone or in a batch; None: no more than its batch.
        batch_bytes: Most that a batch may have after decompression.
    """

    name: RequestKind
    label: str
    model: TypeAdapter[Any]
    single_bytes: int | None = None
    batch_bytes: int = BATCH_BYTES

    def limit(self, *, batch: bool) -> int:
        """Most bytes of a request's body after decompression."""
        return self.batch_bytes if batch or self.single_bytes is None else self.single_bytes


KINDS = (
    Kind("events", "an event", EVENTS, single_bytes=EVENT_BYTES),
    Kind("users", "a user", profile_model.USERS),
    Kind("companies", "a company", profile_model.COMPANIES),
    Kind("subscriptions", "a subscription", profile_model.SUBSCRIPTIONS),
    Kind("actions", "an action", profile_model.ACTIONS, batch_bytes=ACTIONS_BYTES),
)

# The field by which Moesif knows a profile again.
PROFILE_IDS = {
    "users": "user_id",
    "companies": "company_id",
    "subscriptions": "subscription_id",
}
