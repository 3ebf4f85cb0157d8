"""How the sandbox misbehaves when it is told to: properly, in one way, or in several ways in turn."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from otel_moesif_sandbox.applications import shortened
from otel_moesif_sandbox.chaos import Chaos, Mischief
from otel_moesif_sandbox.kinds import RequestKind


class Behavior(BaseModel):
    """How the next requests are answered; the default is: properly.

    Attributes:
        kind: Which requests: to events, users, companies, subscriptions, actions or config.
        application_id: Only those of this application; None: of those that have no behavior of their own.
        times: For how many such requests this holds; None: until it is changed.
        status: Answer with this status. Of 300 and above, nothing is stored.
        retry_after: Value of the Retry-After header that goes with ``status``: seconds, or a date.
        delay: Seconds between storing and answering.
        reject_transaction_id: Answer 400 to a request that holds an event with (one of) these ids.
        reject_where: Answer 400 to a request that holds an event with these values: dotted path → value, all
            of them in one event.
        drop_connection: Close the connection without an answer, after storing: a lost acknowledgement. With
            an error ``status`` nothing is stored.
        truncate: Close the connection in the middle of the answer's body.
        slow_body: Seconds over which the answer's body trickles.
        garbage: Bytes of body that the answer has instead of its own.
        chaos: Misbehave at random instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kind: RequestKind = "events"
    application_id: str | None = Field(None, min_length=1, repr=False)
    times: int | None = Field(None, ge=1)
    status: int | None = Field(None, ge=200, le=599)
    retry_after: int | float | str | None = None
    delay: float = Field(0, ge=0)
    reject_transaction_id: str | tuple[str, ...] = ()
    reject_where: dict[str, JsonValue] = Field(default_factory=dict)
    drop_connection: bool = False
    truncate: bool = False
    slow_body: float = Field(0, ge=0)
    garbage: int = Field(0, ge=0, le=1_000_000_000)
    chaos: Chaos | None = None

    @property
    def rejected_ids(self) -> frozenset[str]:
        """``reject_transaction_id`` as a set."""
        ids = self.reject_transaction_id
        return frozenset([ids] if isinstance(ids, str) else ids)

    @property
    def stores(self) -> bool:
        """Whether what is valid is stored."""
        return self.status is None or self.status < 300


_Key = tuple[RequestKind, str | None]


class _Turn:
    """A behavior while it holds."""

    def __init__(self, behavior: Behavior) -> None:
        self.behavior = behavior
        self.left = behavior.times
        self._draws: Iterator[Mischief | None] | None = behavior.chaos.draws() if behavior.chaos else None

    def use(self, happened: Counter[str]) -> Behavior:
        """What it means for the next request."""
        if self.left is not None:
            self.left -= 1
        mischief = next(self._draws) if self._draws else None
        if mischief is None:
            return self.behavior
        happened[mischief.name] += 1
        return self.behavior.model_copy(update=mischief.changes)

    def shown(self) -> dict[str, Any]:
        """As JSON; ``times`` is what is left."""
        shown = self.behavior.model_dump(mode="json") | {"times": self.left}
        return shown | {"application_id": shortened(self.behavior.application_id or "") or None}


class Behaviors:
    """What holds now and what holds after that, by kind of request and by application.

    Attributes:
        happened: What `Chaos` did → requests.
    """

    def __init__(self) -> None:
        self.happened: Counter[str] = Counter()
        self._turns: dict[_Key, deque[_Turn]] = {}

    def set(self, behaviors: Sequence[Behavior]) -> None:
        """Let these hold in turn, each for its ``times``, instead of what held for their requests.

        Args:
            behaviors: At least one. The default alone makes all requests of all applications be answered
                properly.

        Raises:
            ValueError: None at all, or one that others are to follow has no ``times``.
        """
        if not behaviors:
            raise ValueError("at least one behavior is needed")
        turns: dict[_Key, deque[_Turn]] = {}
        for behavior in behaviors:
            queue = turns.setdefault((behavior.kind, behavior.application_id), deque())
            if queue and queue[-1].left is None:
                raise ValueError("times is needed in every behavior that another one follows")
            queue.append(_Turn(behavior))
        if all(behavior == Behavior() for behavior in behaviors):
            self._turns.clear()
        else:
            self._turns.update(turns)

    def take(self, kind: RequestKind, application: str) -> Behavior:
        """How to answer this request: as is set for its application, else as is set for all."""
        for key in ((kind, application), (kind, None)):
            queue = self._turns.get(key)
            if queue:
                behavior = queue[0].use(self.happened)
                if queue[0].left == 0:
                    queue.popleft()
                return behavior
        return Behavior()

    def shown(self) -> dict[str, Any]:
        """What holds for events of any application, what holds then, and what holds for other requests."""
        here, *then = [turn.shown() for turn in self._turns.get(("events", None), ())] or [
            _Turn(Behavior()).shown()
        ]
        others = [
            turn.shown() for key, queue in self._turns.items() if key != ("events", None) for turn in queue
        ]
        return here | {"then": then, "others": others}
