"""A small real plugin with one component of each sort, so that these tests need no built-in."""

from datetime import timedelta
from typing import Literal

import pytest
from pydantic import BaseModel, Field, SecretStr, field_validator

from otel_moesif import (
    ByteSize,
    Duration,
    Events,
    ExporterConfig,
    ExporterFactory,
    ExtensionFactory,
    ProcessorFactory,
    ReceiverFactory,
    Settings,
    Signal,
    hookimpl,
)
from otel_moesif.config import load, validate
from otel_moesif.logs import Logs
from otel_moesif.plugins import Registry
from otel_moesif.spans import Spans


class Grpc(Settings):
    endpoint: str = "localhost:4317"
    max_recv_msg_size_mib: int = Field(64, ge=1, le=1024)


class Protocols(Settings):
    grpc: Grpc | None = None


class Otlp(Settings):
    protocols: Protocols


class Moesif(ExporterConfig):
    endpoint: str = Field(min_length=1, description="Where Moesif's collector API is")
    application_id: SecretStr = Field(description="The application's key")
    timeout: Duration = timedelta(seconds=10)
    headers: dict[str, SecretStr] = Field({})
    body_limit: ByteSize = 1024
    ratio: float = Field(1.0, gt=0, le=1)
    mode: Literal["all", "none"] = "all"
    tls: bool = False
    regions: list[str] = Field(["eu"])
    port: int | Literal["auto"] = "auto"
    note: str | None = None

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if "://" not in value:
            raise ValueError(f"must be a URL, and {value} is none")
        return value


class Lax(BaseModel):
    """A plugin author who forgot to forbid extra keys."""

    limit: int = 5


def nothing(config, context):
    raise NotImplementedError


class Plugin:
    @hookimpl
    def otel_moesif_components(self):
        return [
            ReceiverFactory("otlp", Otlp, nothing),
            ReceiverFactory("spans_only", Settings, nothing, signals=frozenset({Signal.TRACES})),
            ProcessorFactory("apim_event", Settings, nothing, {Spans: Events, Logs: Events}),
            ProcessorFactory("drop", Lax, nothing, {Events: Events}),
            ExporterFactory("moesif", Moesif, nothing),
            ExporterFactory("debug", ExporterConfig, nothing),
            ExtensionFactory("sandbox", Settings, nothing),
        ]


@pytest.fixture(scope="session")
def registry():
    return Registry.of({"builtin": Plugin()})


@pytest.fixture
def check(registry, tmp_path):
    """Validate a YAML text as the command line would."""

    def check(text, *overrides, **environ):
        path = tmp_path / "collector.yaml"
        path.write_text(text)
        return validate(load([path], overrides, environ), registry)

    return check


GOOD = """
receivers: {otlp: {protocols: {grpc: }}}
processors: {apim_event: , drop: {limit: 3}}
exporters:
  moesif:
    endpoint: http://localhost:9500
    application_id: ${env:APPLICATION_ID:-local}
  debug:
extensions: {sandbox: }
service:
  extensions: [sandbox]
  pipelines:
    traces: {receivers: [otlp], processors: [apim_event, drop], exporters: [moesif, debug]}
"""


@pytest.fixture
def good():
    """A configuration without mistakes."""
    return GOOD
