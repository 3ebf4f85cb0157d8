"""Option groups that several components share, under the OpenTelemetry Collector's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

from otel_moesif.endpoint import parse_endpoint

# Go's time.ParseDuration units, as the Collector accepts them.
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


def parse_duration(value: Any) -> timedelta:
    """Read a duration as the Collector writes it: ``200ms``, ``5s``, ``1m30s``; ``0`` is zero.

    Raises:
        ValueError: It is not one.
    """
    if isinstance(value, timedelta):
        return value
    text = str(value).strip()
    if text == "0":
        return timedelta(0)
    if not text or isinstance(value, bool) or _PART.sub("", text):
        raise ValueError("must be a duration with its unit, for example 200ms, 5s or 1m30s")
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))


def format_duration(value: timedelta) -> str:
    """Write a duration in the shortest unit that keeps it whole: ``200ms``, ``5s``."""
    milliseconds = value.total_seconds() * 1000
    return f"{milliseconds / 1000:g}s" if milliseconds % 1000 == 0 else f"{milliseconds:g}ms"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration, json_schema_input_type=str),
    PlainSerializer(format_duration, return_type=str),
]

_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)?", re.IGNORECASE)
_SIZES = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def parse_bytes(value: Any) -> int:
    """Read a size in bytes: ``4194304`` or ``4MiB``.

    Raises:
        ValueError: It is not one.
    """
    match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value).strip())
    if not match:
        raise ValueError("must be a size in bytes or with a unit, for example 64MiB or 2GiB")
    return int(match[1]) * _SIZES[(match[2] or "").lower()]


def format_bytes(value: int) -> str | int:
    """Write a size in the largest unit that keeps it whole: ``64MiB``, ``1000``."""
    for unit in ("GiB", "MiB", "KiB"):
        if value and value % _SIZES[unit.lower()] == 0:
            return f"{value // _SIZES[unit.lower()]}{unit}"
    return value


ByteSize = Annotated[
    int,
    BeforeValidator(parse_bytes, json_schema_input_type=str | int),
    PlainSerializer(format_bytes, return_type=str | int),
]


def _endpoint(text: str) -> str:
    parse_endpoint(text)
    return text


Endpoint = Annotated[str, AfterValidator(_endpoint)]
"""``host:port`` as the user wrote it."""


class Settings(BaseModel):
    """Base of every config model here: unknown keys are mistakes, values do not change after the build.

    Attributes:
        elsewhere: Keys that people know from other collectors, and why they are no options here.
    """

    elsewhere: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


# An event of a batch of 100 costs five times as much as one of 2,000; beyond, little is to be won, and of
# usual events 3,000 are the 5 MB of one request (benchmarks/README.md).
_BATCH = 2000


class BatchSettings(Settings):
    """How events are put together for one call of ``export()``.

    Names of opentelemetry-collector exporterhelper ``sending_queue::batch``; ``sizer`` is always items, the
    bytes have a bound of their own.
    """

    flush_timeout: Duration = Field(timedelta(seconds=1), description="Send a smaller batch after this long")
    min_size: int = Field(_BATCH, ge=1, description="Events that are sent without further waiting")
    max_size: int = Field(_BATCH, ge=1, description="Most events in one batch")

    @model_validator(mode="before")
    @classmethod
    def _as_small_as_asked_for(cls, given: Any) -> Any:
        """Who only says ``max_size`` does not want to wait for more than that."""
        if isinstance(given, dict) and isinstance(most := given.get("max_size"), int):
            return {"min_size": min(most, _BATCH), **given}
        return given

    @model_validator(mode="after")
    def _ordered(self) -> BatchSettings:
        if self.min_size > self.max_size:
            raise ValueError(f"min_size ({self.min_size}) must not be larger than max_size ({self.max_size})")
        return self


_QUEUE_IS_JOURNAL = (
    "is not an option here: the queue is the journal, on disk and shared by all exporters "
    "(service::journal::max_size and service::journal::on_full bound it)"
)


class QueueSettings(Settings):
    """The exporter's queue: durable (it is the journal), so it has no length of its own."""

    # opentelemetry-collector exporterhelper/README.md, sending_queue
    elsewhere: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("enabled", "queue_size", "sizer", "storage", "block_on_overflow", "wait_for_result"),
        _QUEUE_IS_JOURNAL,
    )

    num_consumers: int = Field(2, ge=1, le=64, description="Batches in flight at once")
    batch: BatchSettings = Field(BatchSettings(), description="How events are put together")


class RetrySettings(Settings):
    """Backoff between attempts, with full jitter (names of opentelemetry-collector configretry)."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "randomization_factor": "is not an option here: the jitter is full, from nothing to the interval"
    }

    enabled: bool = Field(
        default=True,
        description="false: what fails once goes to the dead letters; a paused exporter keeps it",
    )
    initial_interval: Duration = Field(timedelta(seconds=1), description="Upper bound of the first wait")
    multiplier: float = Field(1.5, ge=1, description="Growth of that bound from one attempt to the next")
    max_interval: Duration = Field(timedelta(seconds=30), description="Where the growth ends")
    max_elapsed_time: Duration = Field(
        timedelta(0),
        ge=timedelta(0),
        description="After so long a batch goes to the dead letters; 0: never, it is tried until it works",
    )

    @model_validator(mode="after")
    def _ordered(self) -> RetrySettings:
        if self.initial_interval > self.max_interval:
            raise ValueError("initial_interval must not be larger than max_interval")
        return self


class ExporterConfig(Settings):
    """Options that every exporter has; an exporter's own model extends this one."""

    timeout: Duration = Field(
        timedelta(seconds=30),
        gt=timedelta(0),
        description="Longest that one export may take (no bound for blocking exporters)",
    )
    sending_queue: QueueSettings = Field(QueueSettings(), description="How batches leave")
    retry_on_failure: RetrySettings = Field(RetrySettings(), description="Backoff between attempts")
