"""Random misbehavior, the same each time for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

# Nothing here says that an event is wrong (400, 413): whoever tries again gets everything delivered.
ChaosKind = Literal[
    "429", "500", "502", "503", "504", "drop_before", "drop_after", "truncate", "delay"
]  # fmt: skip


@dataclass(frozen=True)
class Mischief:
    """What happens to one request.

    Attributes:
        name: Under which it is counted.
        changes: The fields of a `Behavior` that make it happen.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)


class Chaos(BaseModel):
    """Let a share of the requests go wrong at random.

    Attributes:
        seed: The same seed makes the same things happen to the same requests, counted as they come.
        share: Of the requests that go wrong, 0 to 1.
        kinds: What may happen, each as often: an error status (half of them with Retry-After), the connection
            closed before or after storing, an answer cut in its middle, a late answer.
        max_delay: Longest delay, in seconds.
        retry_after: Value of Retry-After, in seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int
    share: float = Field(ge=0, le=1)
    kinds: tuple[ChaosKind, ...] = Field(get_args(ChaosKind), min_length=1)
    max_delay: float = Field(1, ge=0)
    retry_after: int = Field(1, ge=0)

    def draws(self) -> Iterator[Mischief | None]:
        """What happens to the first request, the second, and so on; None: nothing."""
        random = Random(self.seed)  # noqa: S311 - must be repeatable, not secret
        while True:
            # As many draws for every request: what happens to one does not hang on what happened before.
            hit, which, told, length = (random.random() for _ in range(4))
            kind = self.kinds[int(which * len(self.kinds))]
            yield self._mischief(kind, length, told=told < 0.5) if hit < self.share else None

    def _mischief(self, kind: ChaosKind, length: float, *, told: bool) -> Mischief:
        if kind == "drop_before":
            return Mischief(kind, {"status": 503, "drop_connection": True})
        if kind == "drop_after":
            return Mischief(kind, {"drop_connection": True})
        if kind == "truncate":
            return Mischief(kind, {"truncate": True})
        if kind == "delay":
            return Mischief(kind, {"delay": length * self.max_delay})
        if told:
            return Mischief(
                f"{kind} with Retry-After", {"status": int(kind), "retry_after": self.retry_after}
            )
        return Mischief(kind, {"status": int(kind)})
