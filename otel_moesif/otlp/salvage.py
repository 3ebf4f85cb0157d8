"""Taking the good records of a request that is bad in part, or too large to be looked at as a whole.

The request is cut by its fields, without parsing it, into runs: of resources and, where a run is not clean,
each of its resources into scopes, and so on down to single records. Each piece is put into a request of its
own and given to protobuf's parser, so that nothing is judged differently here than in a whole request. What
is taken stays byte for byte as it came.

A run is at most 128 KiB and 2,048 fields: that bounds what a hostile request costs (an empty span has two
bytes on the wire and 190 parsed), and how long the event loop has to wait for Python's global lock. Every
byte is looked at a fixed number of times.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeAlias

from google.protobuf.message import DecodeError

from otel_moesif.component import Signal
from otel_moesif.errors import InvalidData, TooLarge
from otel_moesif.otlp.depth import parser
from otel_moesif.otlp.faults import (
    ATTRIBUTES,
    FORMS,
    LENGTH,
    MALFORMED,
    Form,
    count_if_clean,
    fault_of,
    fault_of_parse,
)
from otel_moesif.otlp.limits import Limits
from otel_moesif.otlp.wire import GROUP, LEN, CorruptError, fields, head, wrapped

RUN_BYTES = 128 << 10
RUN_FIELDS = 2048
# A record may have so many fields per attribute that it may have: events, links, its own.
_FIELDS_PER_ATTRIBUTE = 4

Kept: TypeAlias = list[bytes | memoryview]


@dataclass
class Taken:
    """What could be taken.

    Attributes:
        body: A request with just that; its own fields, as unknown ones, may have moved to the front.
        count: Its records.
        reasons: How many records could not be taken, by reason.
        first: The first of those that is not large.
    """

    body: bytes
    count: int
    reasons: Counter[str]
    first: bytes = b""


class _Level(IntEnum):
    """What a run consists of."""

    RESOURCES = 0
    SCOPES = 1
    RECORDS = 2

    @property
    def number(self) -> int:
        """Of the field that repeats (opentelemetry-proto)."""
        return 1 if self is _Level.RESOURCES else 2


@dataclass(slots=True)
class _Run:
    """Fields of one level that follow each other, or a single large one.

    Attributes:
        start: Where the first one's tag begins.
        end: Where the last one ends.
        count: How many.
        longest: Bytes of the longest.
    """

    start: int
    end: int
    count: int = 0
    longest: int = 0


@dataclass(slots=True)
class _Cut:
    """A request, a resource or a scope: its own fields, and runs of what is in it."""

    own: Kept = field(default_factory=list)
    runs: list[_Run] = field(default_factory=list)


def salvage(signal: Signal, body: bytes, limits: Limits) -> Taken:
    """Take the good records of a request.

    Args:
        signal: Whose it is.
        body: Its bytes.
        limits: See `Limits`.

    Raises:
        InvalidData: It cannot be cut into records, or has no resources.
        TooLarge: It has too many parts.
    """
    cutter = _Cutter(FORMS[signal], body, limits)
    try:
        kept = cutter.take(_Level.RESOURCES, 0, len(body))
    except CorruptError:
        raise InvalidData(f"not a valid {FORMS[signal].name}: Wire format was corrupt") from None
    return Taken(
        b"".join(kept or ()) if cutter.reasons else body, cutter.count, cutter.reasons, cutter.first_rejected
    )


class _Cutter:
    def __init__(self, form: Form, body: bytes, limits: Limits) -> None:
        self._form = form
        self._body = body
        self._view = memoryview(body)
        self._limits = limits
        self._parse = parser(form.request, limits.depth)
        # What is larger than the bound of an attribute has to be looked at by itself.
        self._run_bytes = min(RUN_BYTES, limits.attribute_bytes)
        self._left = limits.parts
        self.count = 0
        self.reasons: Counter[str] = Counter()
        self.first_rejected = b""

    def take(self, level: _Level, start: int, end: int) -> Kept | None:
        """What is kept of a request, a resource or a scope; ``level`` says what is in it. None: it is bad."""
        cut = self._cut(level, start, end)
        if level is _Level.RESOURCES and not cut.runs:
            raise InvalidData(f"not a valid {self._form.name}: it has no {self._form.resources}")
        if fault := self._fault_around(level, cut.own):
            self._reject_all(fault, level, cut)
            return None
        kept = list(cut.own)
        for run in cut.runs:
            message = self._parsed(level, run)
            if message is not None and self._is_clean(level, run, message):
                kept.append(self._view[run.start : run.end])
            elif level is _Level.RECORDS:
                kept += self._records(run, message)
            else:
                for _, _, _, value, stop in fields(self._body, run.start, run.end):
                    if (inner := self.take(_Level(level + 1), value, stop)) is not None:
                        kept += [head(level.number, sum(map(len, inner))), *inner]
        return kept

    def _cut(self, level: _Level, start: int, end: int) -> _Cut:
        cut, run, left, wanted, most = _Cut(), _Run(-1, -1), self._left, level.number, self._run_bytes
        for number, wire, begin, value, stop in fields(self._body, start, end):
            left -= 1 if wire != GROUP else _fields_in_group(stop - begin)
            if left < 0:
                raise self._too_many()
            if number != wanted or wire != LEN:
                cut.own.append(self._view[begin:stop])
                continue
            if run.end != begin or stop - run.start > most or run.count == RUN_FIELDS:
                run = _Run(begin, stop)
                cut.runs.append(run)
            run.end = stop
            run.count += 1
            if stop - value > run.longest:  # noqa: PLR1730 - max() would cost as much as all the rest
                run.longest = stop - value
        self._left = left
        return cut

    def _too_many(self) -> TooLarge:
        return TooLarge(
            f"more than {self._limits.parts:,} {self._form.items}, resources and scopes in one request; "
            "send smaller batches",
            "too many records",
        )

    def _parsed(self, level: _Level, run: _Run) -> Any | None:
        """A request with only this run; None if that is none, or too large to be looked at as one."""
        if run.end - run.start > self._run_bytes:
            return None
        try:
            return self._request(level, self._view[run.start : run.end])
        except DecodeError:
            return None

    def _is_clean(self, level: _Level, run: _Run, message: Any) -> bool:
        count = count_if_clean(self._form, message, self._limits, run.longest)
        if count is None:
            return False
        self.count += count
        if level is not _Level.RECORDS:
            self._left -= count
            if self._left < 0:
                raise self._too_many()
        return True

    def _records(self, run: _Run, message: Any | None) -> Kept:
        """The good ones of a run that is not clean."""
        records = [] if message is None else list(self._records_in(message))
        kept: Kept = []
        for place, (_, _, begin, start, end) in enumerate(fields(self._body, run.start, run.end)):
            if records:
                fault = fault_of(self._form, records[place], self._limits.attributes)
            else:
                fault = self._fault_alone(start, end)
            if fault:
                self.reasons[fault] += 1
                if not self.first_rejected and end - start <= RUN_BYTES:
                    self.first_rejected = self._body[start:end]
            else:
                kept.append(self._view[begin:end])
                self.count += 1
        return kept

    def _fault_alone(self, start: int, end: int) -> str:
        """Why a record cannot be taken that is large, or in a run that cannot be parsed."""
        if fault := self._fault_of_size(start, end):
            return fault
        try:
            message = self._request(_Level.RECORDS, wrapped(_Level.RECORDS.number, self._view[start:end]))
        except DecodeError as error:
            return fault_of_parse(error)
        return fault_of(self._form, self._records_in(message)[0], self._limits.attributes)

    def _fault_of_size(self, start: int, end: int) -> str:
        """The fault of a large record that shall not even be parsed."""
        if end - start <= self._run_bytes:
            return ""
        count = attributes = 0
        try:
            for number, wire, begin, value, stop in fields(self._body, start, end):
                count += 1 if wire != GROUP else _fields_in_group(stop - begin)
                attributes += number == self._form.attributes
                if max(attributes, count // _FIELDS_PER_ATTRIBUTE) > self._limits.attributes:
                    return ATTRIBUTES
                if wire == LEN and stop - value > self._limits.attribute_bytes:
                    return LENGTH
        except CorruptError:
            return MALFORMED
        return ""

    def _fault_around(self, level: _Level, own: Kept) -> str:
        """What is wrong with a request, a resource or a scope itself."""
        if not own:
            return ""
        if sum(map(len, own)) > max(RUN_BYTES, self._limits.attribute_bytes):
            return LENGTH
        try:
            message = self._request(level, b"".join(own))
        except DecodeError as error:
            return fault_of_parse(error)
        resources = getattr(message, self._form.resources)
        most = max((len(part.resource.attributes) for part in resources), default=0)
        return ATTRIBUTES if most > self._limits.attributes else ""

    def _reject_all(self, fault: str, level: _Level, cut: _Cut) -> None:
        """Count the records of what is bad itself; there may be none."""
        self.reasons.setdefault(fault, 0)
        if level is _Level.RECORDS:
            self.reasons[fault] += sum(run.count for run in cut.runs)
            return
        for run in cut.runs:
            for _, _, _, value, stop in fields(self._body, run.start, run.end):
                self._reject_all(fault, _Level(level + 1), self._cut(_Level(level + 1), value, stop))

    def _request(self, level: _Level, content: bytes | memoryview) -> Any:
        """A request with only this content of a request, a resource or a scope."""
        if level is _Level.RECORDS:
            content = wrapped(_Level.SCOPES.number, content)
        if level is not _Level.RESOURCES:
            content = wrapped(_Level.RESOURCES.number, content)
        return self._parse(bytes(content))

    def _records_in(self, message: Any) -> Any:
        """The records of a request with one scope."""
        return getattr(
            getattr(getattr(message, self._form.resources)[0], self._form.scopes)[0], self._form.records
        )


def _fields_in_group(size: int) -> int:
    """The most fields that an unknown group of so many bytes can have: each was looked at."""
    return size // 2
