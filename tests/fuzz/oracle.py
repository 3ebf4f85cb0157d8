"""What must hold of every payload: checked, or refused with a reason, and what is checked can be decoded."""

from __future__ import annotations

import base64
import time
import zlib
from collections import Counter

from google.protobuf.message import DecodeError

from otel_moesif.component import Signal
from otel_moesif.errors import InvalidData
from otel_moesif.otlp import salvage
from otel_moesif.otlp.check import Checked, check
from otel_moesif.otlp.decode import decode_logs, decode_spans
from otel_moesif.otlp.faults import FORMS, OTHER
from otel_moesif.otlp.limits import DEFAULT
from otel_moesif.otlp.origin import with_attributes

DECODE = {Signal.TRACES: decode_spans, Signal.LOGS: decode_logs}
TOGETHER = 64  # requests that are decoded at once: that is how the converter does it, and it is faster
SLOW = 2.0  # seconds for one payload of a few KiB, on a machine that has other work
CUTS = ((salvage.RUN_BYTES, salvage.RUN_FIELDS), (100, 2))  # bytes and fields of a run
ORIGIN = {"otel_moesif.client": "127.0.0.1", "service.name": "x"}


class Oracle:
    """Judges payloads.

    Attributes:
        outcomes: What became of them, by signal.
        slowest: Seconds of the slowest check.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.slowest = 0.0
        self._waiting: dict[Signal, list[tuple[bytes, Checked]]] = {signal: [] for signal in Signal}

    def examine(self, payload: bytes) -> None:
        """One payload, sent to each of the services.

        Raises:
            AssertionError: Something does not hold; shows the payload.
        """
        for signal in Signal:
            started = time.perf_counter()
            try:
                checked = check(signal, payload)
            except InvalidData as error:
                outcome = f"refused: {getattr(error, 'reason', 'malformed')}"
                checked = None
            except BaseException as error:
                raise AssertionError(f"{signal}: {shown(payload)}") from error
            else:
                outcome = "taken in part" if checked.rejected else "taken" if checked.count else "empty"
            self.slowest = max(self.slowest, time.perf_counter() - started)
            assert self.slowest < SLOW, f"{signal}: {self.slowest} s: {shown(payload)}"
            self.outcomes[f"{signal} {outcome}"] += 1
            if checked:
                self._hold(signal, payload, checked)
            _agree(signal, payload, checked)

    def finish(self) -> None:
        """Decode what still waits to be."""
        for signal, waiting in self._waiting.items():
            _decode(signal, waiting)
            waiting.clear()

    def _hold(self, signal: Signal, payload: bytes, checked: Checked) -> None:
        again = check(signal, checked.body)
        assert (again.count, again.body, again.rejected) == (checked.count, checked.body, 0), shown(payload)
        assert records(signal, checked.body) == checked.count, shown(payload)
        assert bool(checked.rejected) == bool(checked.message), shown(payload)
        if checked.count:
            named = with_attributes(checked.body, ORIGIN)
            assert check(signal, named).count == checked.count, shown(payload)
            self._waiting[signal].append((payload, checked))
            if len(self._waiting[signal]) == TOGETHER:
                _decode(signal, self._waiting[signal])
                self._waiting[signal].clear()


def shown(payload: bytes) -> str:
    """A payload in one line that can be pasted: ``zlib.decompress(base64.b64decode(…))``."""
    return base64.b64encode(zlib.compress(payload, 9)).decode()


def records(signal: Signal, body: bytes) -> int:
    """How many records protobuf sees in a request."""
    form = FORMS[signal]
    message = form.request.FromString(body)
    return sum(
        len(getattr(scope, form.records))
        for resource in getattr(message, form.resources)
        for scope in getattr(resource, form.scopes)
    )


def _agree(signal: Signal, payload: bytes, checked: Checked | None) -> None:
    """However it is cut, a request is judged as it is whole; and never better than protobuf judges it."""
    try:
        FORMS[signal].request.FromString(payload)
    except DecodeError:
        assert checked is None or checked.reasons, shown(payload)
    for place, (run_bytes, run_fields) in enumerate(CUTS if payload else ()):
        salvage.RUN_BYTES, salvage.RUN_FIELDS = run_bytes, run_fields
        try:
            taken = salvage.salvage(signal, payload, DEFAULT)
        except InvalidData:
            assert checked is None, shown(payload)
            continue
        finally:
            salvage.RUN_BYTES, salvage.RUN_FIELDS = CUTS[0]
        if checked is None:
            assert not taken.count, shown(payload)
            assert taken.reasons, shown(payload)
        elif OTHER not in {*taken.reasons, *checked.reasons}:
            # (A stranger among good records is not looked for unless it comes first.)
            assert (taken.count, taken.reasons.total()) == (checked.count, checked.rejected), shown(payload)
            if not place:  # otherwise of two faults another one may be found first
                assert (taken.reasons, taken.body) == (checked.reasons, checked.body), shown(payload)


def _decode(signal: Signal, waiting: list[tuple[bytes, Checked]]) -> None:
    try:
        batch = DECODE[signal]([checked.body for _, checked in waiting]) if waiting else None
        for key in batch.keys() if batch else ():
            batch.attribute(key)
        for key in {key for source in batch.sources for key in source.resource} if batch else ():
            batch.resource(key)
    except BaseException as error:
        if len(waiting) > 1:
            for one in waiting:
                _decode(signal, [one])
            raise
        raise AssertionError(f"{signal} cannot be decoded: {shown(waiting[0][0])}") from error
    assert not batch or len(batch) == sum(checked.count for _, checked in waiting)
