"""From a checked configuration to built components; no I/O."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from otel_moesif.component import ComponentId, Context, Exporter, Extension, Kind, Receiver, Signal
from otel_moesif.config.build import Config
from otel_moesif.config.components import Configured
from otel_moesif.errors import ConfigError, Problem
from otel_moesif.pipeline import Pipeline
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


def build(config: Config, registry: Registry, telemetry: Telemetry) -> Graph:
    """Make every component that a pipeline or ``service.extensions`` names.

    A receiver or exporter in several pipelines is one instance; a processor is one per pipeline.

    Raises:
        ConfigError: Components refuse their options; all of them are asked.
    """
    return _Builder(config, registry, telemetry).build()


class _Builder:
    def __init__(self, config: Config, registry: Registry, telemetry: Telemetry) -> None:
        self._config = config
        self._dialects = tuple(registry.dialects)
        self._telemetry = telemetry
        self._problems: dict[
            Problem, None
        ] = {}  # a processor is built once per pipeline, its problem told once

    def build(self) -> Graph:
        config, graph = self._config, Graph()
        pipelines = config.pipelines.values()
        for id_ in dict.fromkeys(id_ for pipeline in pipelines for id_ in pipeline.receivers):
            graph.receivers[str(id_)] = self._make(Kind.RECEIVER, config.receivers, id_)
            graph.signals[str(id_)] = frozenset(x.signal for x in pipelines if id_ in x.receivers)
        for id_ in dict.fromkeys(id_ for pipeline in pipelines for id_ in pipeline.exporters):
            graph.exporters[str(id_)] = self._make(Kind.EXPORTER, config.exporters, id_)
            graph.delivery[str(id_)] = config.exporters[id_].settings
        for id_ in config.service.extensions:
            graph.extensions[str(id_)] = self._make(Kind.EXTENSION, config.extensions, id_)
        for name, pipeline in config.pipelines.items():
            processors = [
                (str(id_), self._make(Kind.PROCESSOR, config.processors, id_)) for id_ in pipeline.processors
            ]
            graph.pipelines.append(
                Pipeline(
                    str(name),
                    pipeline.signal,
                    frozenset(map(str, pipeline.receivers)),
                    processors,
                    tuple(map(str, pipeline.exporters)),
                    self._telemetry,
                )
            )
        if self._problems:
            raise ConfigError(self._problems)
        return graph

    def _make(self, kind: Kind, configured: Mapping[ComponentId, Configured], id_: ComponentId) -> Any:
        logger = logging.getLogger(f"otel_moesif.{kind}.{id_}")
        context = Context(id_, logger, self._telemetry.meter, self._dialects)
        try:
            return configured[id_].factory.build(configured[id_].settings, context)
        except ConfigError as error:
            for problem in error.problems:
                path = f"{kind}::{id_}::{problem.path}".rstrip(":")
                self._problems[Problem(path, problem.message)] = None
            return None
