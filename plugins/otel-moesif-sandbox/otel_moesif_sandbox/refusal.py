"""Why a request is not taken: a status and, where events are at fault, which field of which one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fault:
    """One mistake in one event, profile or action.

    Attributes:
        index: Position in the batch; 0 for a single one.
        field: Dotted path, ``request.headers.Host``; empty for the whole.
        message: What is wrong. Never the value: it may be a secret.
    """

    index: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class Refusal(Exception):  # noqa: N818 - an answer, not an error of this program
    """A request is answered with an error.

    Attributes:
        status: The HTTP status.
        reason: One line; the key under which it is counted, so it names no event and no value.
        faults: The guilty fields, the first few of them.
    """

    def __init__(self, status: int, reason: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.faults = faults

    def body(self) -> dict[str, Any]:
        """What is answered, as JSON."""
        faults = [
            {"index": fault.index, "field": fault.field, "message": fault.message} for fault in self.faults
        ]
        return {"error": self.reason, "faults": faults}
