"""otel-moesif: OTLP from any API gateway in, one analytics event per API call out to Moesif.

This module is the public API for plugin authors; what stands here follows semantic versioning.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from otel_moesif.component import (
    Authenticator,
    ComponentId,
    Context,
    Exporter,
    ExporterFactory,
    Extension,
    ExtensionFactory,
    Intake,
    Processor,
    ProcessorFactory,
    Receipt,
    Receiver,
    ReceiverFactory,
    RoutingExporter,
    Signal,
    Subject,
)
from otel_moesif.connection import Checkable, Checked
from otel_moesif.errors import (
    ConfigError,
    InvalidData,
    PausedError,
    PermanentError,
    PluginError,
    Problem,
    Refused,
    RetryableError,
    StartError,
    TooLarge,
    Unauthenticated,
)
from otel_moesif.hookspecs import hookimpl
from otel_moesif.settings import ByteSize, Duration, ExporterConfig, Settings

if TYPE_CHECKING:
    from otel_moesif.events import Events
    from otel_moesif.logs import Logs
    from otel_moesif.spans import Spans

# Imported, and with them polars, only when asked for: `otel-moesif --version` must not wait for it.
_TABLES = {"Events": "otel_moesif.events", "Logs": "otel_moesif.logs", "Spans": "otel_moesif.spans"}

__all__ = [
    "Authenticator",
    "ByteSize",
    "Checkable",
    "Checked",
    "ComponentId",
    "ConfigError",
    "Context",
    "Duration",
    "Events",
    "Exporter",
    "ExporterConfig",
    "ExporterFactory",
    "Extension",
    "ExtensionFactory",
    "Intake",
    "InvalidData",
    "Logs",
    "PausedError",
    "PermanentError",
    "PluginError",
    "Problem",
    "Processor",
    "ProcessorFactory",
    "Receipt",
    "Receiver",
    "ReceiverFactory",
    "Refused",
    "RetryableError",
    "RoutingExporter",
    "Settings",
    "Signal",
    "Spans",
    "StartError",
    "Subject",
    "TooLarge",
    "Unauthenticated",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    if name not in _TABLES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_TABLES[name]), name)
