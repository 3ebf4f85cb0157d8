"""From a checked configuration to built components; no I/O."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from opentelemetry.metrics import Meter

from otel_moesif.component import ComponentId, Context, Exporter, Extension, Kind, Receiver, Signal
from otel_moesif.config.build import Config, Unusable
from otel_moesif.config.components import Configured
from otel_moesif.config.findings import Finding, in_file_order
from otel_moesif.config.model import MetricsLevel, MetricsSettings
from otel_moesif.deferred import DeferredMeter
from otel_moesif.errors import ConfigError, describe
from otel_moesif.pipeline import FAILURES, Pipeline
from otel_moesif.plugins import Registry
from otel_moesif.settings import ExporterConfig
from otel_moesif.telemetry import Telemetry


@dataclass
class Graph:
    """Everything that runs, by id as text.

    Attributes:
        signals: What each receiver is in a pipeline for.
        delivery: Queue and retry options of each exporter.
    """

    receivers: dict[str, Receiver] = field(default_factory=dict)
    exporters: dict[str, Exporter] = field(default_factory=dict)
    extensions: dict[str, Extension] = field(default_factory=dict)
    pipelines: list[Pipeline] = field(default_factory=list)
    signals: dict[str, frozenset[Signal]] = field(default_factory=dict)
    delivery: dict[str, ExporterConfig] = field(default_factory=dict)


def all_problems(unusable: Unusable, registry: Registry) -> ConfigError:
    """What is wrong with a configuration, with what its sound components say when they are built.

    Returns:
        All of it, in the order of the file.
    """
    builder = _Builder(unusable.sound, registry, _silent())
    for kind in (Kind.EXTENSION, Kind.RECEIVER, Kind.PROCESSOR, Kind.EXPORTER):
        for id_ in unusable.used[kind]:
            try:
                builder.make(kind, id_)
            except FAILURES as error:  # a plugin's bug must not hide what is known already
                builder.findings.append(
                    Finding((kind.value, str(id_)), f"cannot be built: {describe(error)}")
                )
    return ConfigError(in_file_order([*unusable.findings, *builder.findings], unusable.raw.data))


def build(config: Config, registry: Registry, telemetry: Telemetry, directory: Path | None = None) -> Graph:
    """Make every component that a pipeline or ``service.extensions`` names.

    A receiver or exporter in several pipelines is one instance; a processor is one per pipeline.

    Args:
        config: The checked configuration.
        registry: What is installed.
        telemetry: Of the collector.
        directory: Under which each component may have its own (`Context`); None where nothing is to be
            written.

    Raises:
        ConfigError: Components refuse their options; all of them are asked.
    """
    defined = {
        Kind.RECEIVER: config.receivers,
        Kind.PROCESSOR: config.processors,
        Kind.EXPORTER: config.exporters,
        Kind.EXTENSION: config.extensions,
    }
    builder, graph = _Builder(defined, registry, telemetry, directory), Graph()
    pipelines = config.pipelines.values()
    for id_ in config.service.extensions:  # first: other components find theirs in their context
        graph.extensions[str(id_)] = builder.make(Kind.EXTENSION, id_)
    for id_ in dict.fromkeys(id_ for pipeline in pipelines for id_ in pipeline.receivers):
        graph.receivers[str(id_)] = builder.make(Kind.RECEIVER, id_)
        graph.signals[str(id_)] = frozenset(x.signal for x in pipelines if id_ in x.receivers)
    for id_ in dict.fromkeys(id_ for pipeline in pipelines for id_ in pipeline.exporters):
        graph.exporters[str(id_)] = builder.make(Kind.EXPORTER, id_)
        graph.delivery[str(id_)] = config.exporters[id_].settings
    for name, pipeline in config.pipelines.items():
        counts = DeferredMeter(telemetry.meter)
        processors = [
            (str(id_), builder.make(Kind.PROCESSOR, id_, counts.meter)) for id_ in pipeline.processors
        ]
        graph.pipelines.append(
            Pipeline(
                str(name),
                pipeline.signal,
                frozenset(map(str, pipeline.receivers)),
                processors,
                tuple(map(str, pipeline.exporters)),
                telemetry,
                counts,
            )
        )
    if builder.findings:
        raise ConfigError(in_file_order(builder.findings, config.raw.data))
    return graph


def try_out(config: Config, registry: Registry) -> Graph:
    """As `build`, for whoever does not run it: beside a collector that runs, without metrics of its own.

    Raises:
        ConfigError: Components refuse their options; all of them are asked.
    """
    return build(config, registry, _silent())


def _silent() -> Telemetry:
    return Telemetry(MetricsSettings(level=MetricsLevel.NONE), {})


class _Builder:
    """Makes components, and remembers what they refuse.

    Args:
        defined: What there is to make.
        registry: What is installed.
        telemetry: Of the collector.
        directory: Under which each component may have its own.
    """

    def __init__(
        self,
        defined: Mapping[Kind, Mapping[ComponentId, Configured]],
        registry: Registry,
        telemetry: Telemetry,
        directory: Path | None = None,
    ) -> None:
        self._directory = directory
        self._defined = defined
        self._dialects = tuple(registry.dialects)
        self._telemetry = telemetry
        self._extensions: dict[str, Any] = {}
        self.findings: list[Finding] = []

    def make(self, kind: Kind, id_: ComponentId, meter: Meter | None = None) -> Any:
        """A component; None if it is not defined, or refuses its options.

        Extensions come first: other components find them in their context, those that could not be made
        as None.
        """
        made = self._make(kind, id_, meter) if id_ in self._defined[kind] else None
        if kind is Kind.EXTENSION:
            self._extensions[str(id_)] = made
        return made

    def _make(self, kind: Kind, id_: ComponentId, meter: Meter | None) -> Any:
        logger = logging.getLogger(f"otel_moesif.{kind}.{id_}")
        # by kind, too: a receiver and an exporter may both be "otlp"
        own = self._directory and self._directory / kind / quote(str(id_), safe="")
        meter = meter or self._telemetry.meter
        context = Context(id_, logger, meter, self._dialects, self._extensions, own)
        configured = self._defined[kind][id_]
        try:
            return configured.factory.build(configured.settings, context)
        except ConfigError as error:
            for problem in error.problems:
                path = problem.path.split("::") if problem.path else ()
                self.findings.append(Finding((kind.value, str(id_), *path), problem.message))
            return None
