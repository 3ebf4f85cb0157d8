"""Counters whose numbers count only once a batch is through.

A batch that makes a processor fail is run again in halves (`pipeline`): what the processors before it counted
the first time must not count twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from opentelemetry.metrics import Counter, Meter


class DeferredMeter:
    """A meter for the processors of one pipeline; all but its counters is that of the collector.

    Args:
        meter: Of the collector.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._counted: list[Callable[[], None]] = []

    @property
    def meter(self) -> Meter:
        """This one, as a `Context` has it."""
        return cast("Meter", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._meter, name)

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Counter:
        """As the API's."""
        return cast("Counter", _Deferred(self._meter.create_counter(name, unit, description), self))

    def count(self, addition: Callable[[], None]) -> None:
        """Keep an addition until `commit`."""
        self._counted.append(addition)

    def commit(self) -> None:
        """Count what was kept."""
        counted, self._counted = self._counted, []
        for addition in counted:
            addition()

    def forget(self) -> None:
        """The batch will be run again."""
        self._counted = []


class _Deferred:
    def __init__(self, counter: Counter, meter: DeferredMeter) -> None:
        self._counter = counter
        self._meter = meter

    def add(self, amount: float, attributes: Any = None, context: Any = None) -> None:
        self._meter.count(partial(self._counter.add, amount, attributes, context))
