"""The options under ``service``; a component's options are its factory's own model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr

from otel_moesif.component import ComponentId, Signal
from otel_moesif.endpoint import parse_endpoint
from otel_moesif.errors import ConfigError
from otel_moesif.journal.settings import JournalSettings
from otel_moesif.otlp.limits import DEFAULT, Limits
from otel_moesif.settings import ByteSize, Duration, Settings

MIB = 1 << 20


@dataclass(frozen=True, order=True)
class PipelineId:
    """``signal[/name]``: ``traces``, ``logs/audit``."""

    signal: Signal
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> PipelineId:
        """Read ``signal[/name]``.

        Raises:
            ConfigError: It is not of that form.
            ValueError: There is no such signal.
        """
        id_ = ComponentId.parse(text)
        return cls(Signal(id_.type), id_.name)

    def __str__(self) -> str:
        return f"{self.signal}/{self.name}" if self.name else str(self.signal)


def _component_id(value: Any) -> ComponentId:
    if isinstance(value, ComponentId):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a component id (type or type/name, for example moesif/eu)")  # noqa: TRY004 - pydantic's
    try:
        return ComponentId.parse(value)
    except ConfigError as error:
        raise ValueError(error.problems[0].message) from None


def _address(value: str | None) -> str | None:
    if value:
        parse_endpoint(value)
    return value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


ComponentRef = Annotated[ComponentId, BeforeValidator(_component_id), PlainSerializer(str)]


class LogLevel(StrEnum):
    """How much the collector says about itself."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class LogEncoding(StrEnum):
    """How one log record becomes one line."""

    CONSOLE = "console"
    JSON = "json"


class MetricsLevel(StrEnum):
    """How much the collector measures about itself (opentelemetry-collector configtelemetry.Level)."""

    NONE = "none"
    BASIC = "basic"
    NORMAL = "normal"
    DETAILED = "detailed"


class LogsSettings(Settings):
    """``service::telemetry::logs``."""

    level: Annotated[LogLevel, BeforeValidator(_lower)] = Field(
        LogLevel.INFO, description="Least severity that is written: debug, info, warn or error"
    )
    encoding: Annotated[LogEncoding, BeforeValidator(_lower)] = Field(
        LogEncoding.CONSOLE, description="console: a line for people; json: one JSON object per line"
    )


class OtlpPushSettings(Settings):
    """``service::telemetry::metrics::otlp``: push of the collector's own metrics."""

    endpoint: str = Field(min_length=1, description="OTLP/gRPC address that takes the metrics: host:port")
    interval: Duration = Field(timedelta(seconds=60), gt=timedelta(0), description="Time between two pushes")
    headers: dict[str, SecretStr] = Field({}, description="Sent along with every push; never shown")
    insecure: bool = Field(default=False, description="Whether to connect without TLS")


class MetricsSettings(Settings):
    """``service::telemetry::metrics``."""

    level: Annotated[MetricsLevel, BeforeValidator(_lower)] = Field(
        MetricsLevel.NORMAL, description="How much is measured: none, basic, normal or detailed"
    )
    address: Annotated[str | None, AfterValidator(_address)] = Field(
        "localhost:8888",
        description="Where Prometheus reads the metrics, under /metrics; null or an empty text: nowhere",
    )
    otlp: OtlpPushSettings | None = Field(None, description="Where to push the metrics; nowhere unless given")


class TelemetrySettings(Settings):
    """``service::telemetry``: what the collector says about itself."""

    logs: LogsSettings = Field(LogsSettings(), description="The collector's own log, on stderr")
    metrics: MetricsSettings = Field(MetricsSettings(), description="The collector's own metrics")
    resource: dict[str, str] = Field(
        {}, description="Resource attributes of the collector's own telemetry, for example service.name"
    )


class Prefer(StrEnum):
    """Which report of a call makes the event."""

    SPAN = "span"
    LOG = "log"
    OFF = "off"


class DeduplicateSettings(Settings):
    """``service::deduplicate``: one call, one event."""

    prefer: Prefer = Field(
        Prefer.SPAN,
        description="Which report makes the event when a call comes as a span and as a log record; "
        "off: every report makes one, also one that is sent again",
    )
    window: Duration = Field(
        timedelta(minutes=5),
        gt=timedelta(0),
        description="How long a call is known, so that it makes no second event",
    )
    wait: Duration = Field(
        timedelta(
            seconds=6
        ),  # Envoy keeps spans for 5 s (tracer.cc, tracing.opentelemetry.flush_interval_ms)
        ge=timedelta(0),
        description="How long the other report waits for the preferred one, once calls came both ways",
    )


class IntakeSettings(Settings):
    """``service::intake``: how much may wait for the journal, and what one request may hold."""

    max_bytes: ByteSize = Field(
        64 * MIB, ge=1, description="Most bytes that wait to be stored; beyond it, senders are told to retry"
    )
    max_request_size: ByteSize = Field(
        DEFAULT.request_bytes,
        ge=1,
        description="Most bytes of a request, inflated, whatever a receiver allows; a larger one is refused",
    )
    max_records_per_request: int = Field(
        DEFAULT.parts,
        ge=1,
        description="Most spans or log records of one request, with the resources and scopes around them; "
        "a request with more is refused",
    )
    max_attributes_per_record: int = Field(
        DEFAULT.attributes,
        ge=1,
        description="Most attributes of a span, a log record or a resource; a record with more is rejected",
    )
    max_attribute_length: ByteSize = Field(
        DEFAULT.attribute_bytes,
        ge=1,
        description="Most bytes of an attribute with its name, or of a log record's body; "
        "a record with a larger one is rejected",
    )
    max_nesting_depth: int = Field(
        DEFAULT.depth,
        ge=1,
        le=DEFAULT.depth,
        description="Most messages within messages, as protobuf counts them; a record with more is rejected",
    )

    @property
    def limits(self) -> Limits:
        """The same for the intake."""
        return Limits(
            request_bytes=self.max_request_size,
            parts=self.max_records_per_request,
            attributes=self.max_attributes_per_record,
            attribute_bytes=self.max_attribute_length,
            depth=self.max_nesting_depth,
        )


class PipelineSettings(Settings):
    """``service::pipelines::<signal>[/<name>]``: the way of the data, by component ids."""

    receivers: tuple[ComponentRef, ...] = Field((), description="Where the data comes from; at least one")
    processors: tuple[ComponentRef, ...] = Field((), description="What is done with it, in this order")
    exporters: tuple[ComponentRef, ...] = Field((), description="Where every event goes; at least one")


class ServiceSettings(Settings):
    """``service``: which components run, and how."""

    extensions: tuple[ComponentRef, ...] = Field((), description="The extensions that run, in start order")
    pipelines: dict[str, PipelineSettings] = Field(
        {}, description="The pipelines, by traces[/name] or logs[/name]"
    )
    telemetry: TelemetrySettings = Field(
        TelemetrySettings(), description="What the collector says about itself"
    )
    journal: JournalSettings = Field(JournalSettings(), description="The store between intake and exporters")
    intake: IntakeSettings = Field(IntakeSettings(), description="The way in")
    deduplicate: DeduplicateSettings = Field(DeduplicateSettings(), description="One call, one event")
    shutdown_timeout: Duration = Field(
        timedelta(seconds=20), ge=timedelta(0), description="Time that a graceful stop may take"
    )
