"""What decides about one request's bytes, before they are stored.

A request is parsed with protobuf's own parser (upb) and looked at scope by scope; nothing runs in Python per
record (about 1.5 µs a span, 1.0 of it the parser's). Only a request that is not wholly good, or large, is cut
into pieces (`salvage`). What is taken here, `decode` can turn into columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from otel_moesif.component import Signal
from otel_moesif.errors import InvalidData, TooLarge
from otel_moesif.otlp.depth import parser
from otel_moesif.otlp.faults import FORMS, OTHER, Form, count_if_clean, items_of_stranger
from otel_moesif.otlp.limits import DEFAULT, Limits
from otel_moesif.otlp.salvage import Taken, salvage

# What is larger is looked at in pieces: what upb makes of a request can be 90 times as large as its bytes,
# and one look keeps Python's global lock (256 KiB: half a millisecond).
_WHOLE_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Checked:
    """A request that can be stored.

    Attributes:
        count: Its records.
        body: Its bytes, without the records that could not be taken.
        reasons: How many could not, by reason.
        message: The same in one line, for whoever looks after the client; nothing of the request is in it.
    """

    count: int
    body: bytes
    reasons: Mapping[str, int] = field(default_factory=dict)
    message: str = ""

    @property
    def rejected(self) -> int:
        """Records that could not be taken."""
        return sum(self.reasons.values())


class NothingTakenError(InvalidData):
    """A request none of whose records can be taken.

    Attributes:
        reason: What the counter of rejected requests shows: one of few fixed texts.
        reasons: How many records could not be taken, by reason.
    """

    def __init__(self, message: str, reason: str, reasons: Mapping[str, int]) -> None:
        super().__init__(message)
        self.reason = reason
        self.reasons = reasons


def check(signal: Signal, body: bytes, limits: Limits = DEFAULT) -> Checked:
    """Find out what of an export request can be taken.

    Args:
        signal: The service that it was sent to.
        body: Its bytes.
        limits: See `Limits`.

    Raises:
        InvalidData: It is malformed, another signal's, or none of its records can be taken.
        TooLarge: It is larger than the limits allow.
    """
    form = FORMS[signal]
    if len(body) > limits.request_bytes:
        raise TooLarge(too_large(len(body), limits))
    count = _count(form, body, limits)
    if count is not None:
        return Checked(count, body)
    taken = salvage(signal, body, limits)
    if taken.reasons and not taken.count:
        raise _nothing(form, taken)
    return Checked(taken.count, taken.body, taken.reasons, _message(form, taken))


def too_large(size: int, limits: Limits) -> str:
    """What a client is told whose request is beyond the bound."""
    return f"a request of {size:,} bytes; at most {limits.request_bytes:,} are taken"


def _count(form: Form, body: bytes, limits: Limits) -> int | None:
    """The number of records, if all can be taken; None if that has to be found out piece by piece."""
    if not body:  # OTLP specification: an empty request is a success
        return 0
    if len(body) > min(_WHOLE_BYTES, limits.attribute_bytes):
        return None
    try:
        request = parser(form.request, limits.depth)(body)
    except DecodeError:
        return None
    if not getattr(request, form.resources):
        return None
    return count_if_clean(form, request, limits, len(body))


def _nothing(form: Form, taken: Taken) -> NothingTakenError:
    if strangers := items_of_stranger(form, taken.first):
        return NothingTakenError(
            f"not a valid {form.name}: what it holds are {strangers}", OTHER, taken.reasons
        )
    message = f"not a valid {form.name}: none of its {form.items} can be taken ({_reasons(taken)})"
    return NothingTakenError(message, "no good record", taken.reasons)


def _message(form: Form, taken: Taken) -> str:
    rejected = sum(taken.reasons.values())
    if not rejected:
        return ""
    return f"{rejected} of {rejected + taken.count} {form.items} were not taken: {_reasons(taken)}"


def _reasons(taken: Taken) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in taken.reasons.most_common())
