"""What a sandbox has received and how it shall behave: what its pages and its owner in Python share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from otel_moesif_sandbox.app_config import AppConfigs
from otel_moesif_sandbox.applications import Applications
from otel_moesif_sandbox.behavior import Behaviors
from otel_moesif_sandbox.kinds import PROFILE_IDS
from otel_moesif_sandbox.profiles import Actions, Kept, Profiles
from otel_moesif_sandbox.store import Store


class State:
    """All that a sandbox knows.

    Args:
        max_events: Events, and profiles and actions of each kind, that are kept.
        applications: The only ids that are accepted; None: any.
        reject_older_than: Seconds; older events are answered with 400. None: of any age.

    Attributes:
        store: The events, and the counts of requests.
        profiles: Kind → profiles.
        actions: The actions.
        besides: Kind → what is kept of it, for all kinds but events.
        applications: Which are accepted.
        behaviors: How requests are answered.
        configs: What ``GET /v1/config`` answers.
        max_age: ``reject_older_than``.
    """

    def __init__(
        self,
        max_events: int,
        applications: Iterable[str] | None = None,
        reject_older_than: float | None = None,
    ) -> None:
        self._most = max_events
        self.store = Store(max_events)
        self.applications = Applications(applications)
        self.behaviors = Behaviors()
        self.configs = AppConfigs()
        self.max_age = reject_older_than
        self.clear()

    def clear(self) -> None:
        """Forget what came and every count; how to behave stays."""
        self.store.clear()
        self.profiles = {kind: Profiles(field, self._most) for kind, field in PROFILE_IDS.items()}
        self.actions = Actions(self._most)
        self.besides: dict[str, Kept] = {**self.profiles, "actions": self.actions}
        self.behaviors.happened.clear()
        self.configs.requests.clear()

    def stats(self) -> dict[str, Any]:
        """All counts, ready for JSON; the README says what each means."""
        besides = {kind: kept.stats() for kind, kept in self.besides.items()}
        return self.store.stats() | {
            **besides,
            "config_requests": dict(self.configs.requests),
            "chaos": dict(self.behaviors.happened),
        }
