"""The options under ``service``; a component's options are its factory's own model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, SecretStr

from otel_moesif.component import ComponentId, Signal
from otel_moesif.errors import ConfigError
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
    address: str | None = Field(
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


class JournalSettings(Settings):
    """``service::journal``: where calls are safe until every exporter has them."""

    directory: Path = Field(
        Path("./data"), description="Where the journal lies; a relative path starts at the working directory"
    )


class IntakeSettings(Settings):
    """``service::intake``: how much may wait for the journal."""

    max_bytes: ByteSize = Field(
        64 * MIB, ge=1, description="Most bytes that wait to be stored; beyond it, senders are told to retry"
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
    shutdown_timeout: Duration = Field(
        timedelta(seconds=20), ge=timedelta(0), description="Time that a graceful stop may take"
    )
