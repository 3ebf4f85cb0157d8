"""What the sandbox has received besides events: profiles, merged as Moesif merges them, and actions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterable, Sized
from copy import deepcopy
from typing import Any

from pydantic_core import from_json

from otel_moesif_sandbox.applications import means
from otel_moesif_sandbox.checks import Item


class Kept(ABC):
    """Something of which the sandbox keeps what came, and counts how much."""

    _kept: Sized

    def __init__(self) -> None:
        self._received = 0
        self._requests: Counter[str] = Counter()

    def request(self, status: str) -> None:
        """Count one answered request."""
        self._requests[status] += 1

    @abstractmethod
    def take(self, items: Iterable[Item], application: str) -> None:
        """Take what is valid, of one application."""

    @abstractmethod
    def of(self, application: str | None) -> list[dict[str, Any]]:
        """What is kept of an application (its id, or what is shown of it); None: of all."""

    def stats(self) -> dict[str, Any]:
        """Counts, ready for JSON."""
        return {"received": self._received, "kept": len(self._kept), "requests": dict(self._requests)}


class Profiles(Kept):
    """Profiles of one kind, by application and id.

    Args:
        field: Holds the id.
        most: Profiles that are kept; beyond that those that came first leave.
    """

    def __init__(self, field: str, most: int) -> None:
        super().__init__()
        self._field = field
        self._most = most
        self._kept: dict[tuple[str, str], dict[str, Any]] = {}

    def take(self, items: Iterable[Item], application: str) -> None:
        """Create or update profiles: "merged with the existing properties recursively" (apidocs)."""
        for profile, _ in items:
            key = (application, profile[self._field])
            known = self._kept.get(key)
            self._kept[key] = profile if known is None else _merged(known, profile)
            if len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]
            self._received += 1

    def of(self, application: str | None) -> list[dict[str, Any]]:
        """Those of one application or of all, in the order in which they first came."""
        return [deepcopy(profile) for (whose, _), profile in self._kept.items() if means(application, whose)]

    def by_id(self, application: str | None) -> dict[str, dict[str, Any]]:
        """The same by id; of an id that several applications have, the last one that came."""
        return {profile[self._field]: profile for profile in self.of(application)}


class Actions(Kept):
    """Actions as they came.

    Args:
        most: That are kept; beyond that the oldest leave.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._kept: deque[tuple[str, bytes]] = deque(maxlen=most)

    def take(self, items: Iterable[Item], application: str) -> None:
        """Add to what came."""
        for _, text in items:
            self._kept.append((application, text))
            self._received += 1

    def of(self, application: str | None) -> list[dict[str, Any]]:
        """Those of one application or of all, oldest first."""
        return [from_json(text) for whose, text in self._kept if means(application, whose)]


def _merged(known: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Objects merge key by key; anything else, lists and null included, takes the place of what was there."""
    merged = dict(known)
    for name, value in new.items():
        there = merged.get(name)
        both = isinstance(there, dict) and isinstance(value, dict)
        merged[name] = _merged(there, value) if both else value  # type: ignore[arg-type]  # mypy sees no `both`
    return merged
