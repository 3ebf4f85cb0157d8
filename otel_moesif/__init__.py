"""otel-moesif: OTLP from any API gateway in, one analytics event per API call out to Moesif.

This module is the public API for plugin authors; what stands here follows semantic versioning.
"""

from otel_moesif.component import (
    ComponentId,
    Context,
    Exporter,
    ExporterFactory,
    Extension,
    ExtensionFactory,
    Intake,
    Processor,
    ProcessorFactory,
    Receiver,
    ReceiverFactory,
    Signal,
)
from otel_moesif.errors import (
    ConfigError,
    InvalidData,
    PermanentError,
    PluginError,
    Problem,
    Refused,
    RetryableError,
    StartError,
)
from otel_moesif.events import Events
from otel_moesif.hookspecs import hookimpl
from otel_moesif.settings import ByteSize, Duration, ExporterConfig, Settings

__all__ = [
    "ByteSize",
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
    "PermanentError",
    "PluginError",
    "Problem",
    "Processor",
    "ProcessorFactory",
    "Receiver",
    "ReceiverFactory",
    "Refused",
    "RetryableError",
    "Settings",
    "Signal",
    "StartError",
    "hookimpl",
]
