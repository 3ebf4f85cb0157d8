"""How it stands with the delivery to one exporter, for operators and their alarms."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """In the order of what it asks of people."""

    OK = "ok"
    FAILING = "failing"
    """The backend cannot be reached or is busy; it is asked again by itself."""
    PAUSED = "paused"
    """The backend takes nothing until somebody does something, such as correcting a key."""


@dataclass(frozen=True)
class Health:
    """Of one sender.

    Attributes:
        status: The state it is in.
        reason: What the backend says, while it is not ok.
    """

    status: Status = Status.OK
    reason: str = ""
