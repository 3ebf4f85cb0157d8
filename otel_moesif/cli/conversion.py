"""The pipelines of a configuration without anything around them, and what they say they left out."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_moesif.component import ComponentId, Context, Kind, Signal
from otel_moesif.config import PipelineId, Raw, load
from otel_moesif.config.components import Section, check_options, check_section
from otel_moesif.config.findings import Finding, in_file_order
from otel_moesif.config.model import DeduplicateSettings, MetricsSettings, PipelineSettings
from otel_moesif.config.pipelines import References
from otel_moesif.config.text import plain
from otel_moesif.deferred import DeferredMeter
from otel_moesif.errors import ConfigError, Problem
from otel_moesif.events import Events
from otel_moesif.journal.rows import RawRequest
from otel_moesif.otlp.check import check
from otel_moesif.pipeline import Pipeline
from otel_moesif.plugins import Registry
from otel_moesif.processors.apim_event.processor import ApimEventSettings
from otel_moesif.stream import Stream
from otel_moesif.telemetry import Telemetry

# Stands for the receivers and exporters, which are not there.
_HERE = "convert"
_ALONE: dict[str, Any] = {
    "processors": {"apim_event": None},
    "service": {"pipelines": {signal.value: {"processors": ["apim_event"]} for signal in Signal}},
}
_DROPPED, _FILTERED = "otelcol_processor_dropped_items", "otelcol_processor_filtered_items"
_ITEMS = {Signal.TRACES: "span", Signal.LOGS: "log record"}


class Conversion:
    """Runs requests through the processors of all pipelines, as the collector would.

    Args:
        config: Configuration files; none: the processor ``apim_event`` alone.
        gateway: Dialect of all senders, whatever the configuration says; None: what it says.

    Raises:
        StartError: A file cannot be read.
        ConfigError: Processors or pipelines are wrong; the rest of the configuration need not be right, nor
            need its secrets be there.
    """

    def __init__(self, config: Sequence[Path] | None, gateway: str | None) -> None:
        self._telemetry = Telemetry(MetricsSettings(level="none", address=None), {})
        self._reader = InMemoryMetricReader()
        self._telemetry.provider.add_metric_reader(self._reader)
        self._gateway = gateway
        registry = Registry.load()
        known = [dialect.name for dialect in registry.dialects]
        if gateway and gateway not in known:
            problem = f'no dialect "{gateway}" (installed: {", ".join(known)})'
            raise ConfigError([Problem("--gateway", problem)])
        raw = load(config) if config else Raw(_ALONE)
        self._pipelines, deduplicate = self._build(raw, registry, alone=not config)
        self._stream = Stream(self._pipelines, deduplicate, self._telemetry)
        self._batch: list[RawRequest] = []
        self._taken: Counter[Signal] = Counter()
        self._left_out: Counter[str] = Counter()
        self.failed = 0
        """Requests that a processor cannot take; the log says why."""

    def take(self, signal: Signal, body: bytes) -> None:
        """Add a request, as if a receiver had taken it.

        Raises:
            InvalidData: Nothing of it can be taken.
        """
        checked = check(signal, body)
        self._taken[signal] += checked.count + checked.rejected
        self._left_out.update(checked.reasons)
        if any(pipeline.signal == signal for pipeline in self._pipelines):
            self._batch.append(RawRequest(_HERE, signal, checked.body, id=len(self._batch) + 1))
        else:
            self._left_out[f"no pipeline for {signal}"] += checked.count

    def run(self) -> Events:
        """All events of these requests, as if they had come within a moment; nothing waits any longer."""
        made = self._stream.convert(self._batch, time.monotonic_ns(), ending=True)
        self.failed = len(made.step.dead_letters)
        for admitted in made.admitted.values():
            self._left_out["reported twice"] += admitted.known + admitted.twice
        return Events.concat(events for _, events in made.events)

    def summary(self, events: int) -> str:
        """One line: how much went in, how many events came out, and what became none, by reason."""
        left_out = self._left_out + self._counted()
        taken = [_counts(self._taken[signal], item) for signal, item in _ITEMS.items() if self._taken[signal]]
        said = f"{', '.join(taken) or 'nothing'}: {_counts(events, 'event')}"
        if left_out:
            reasons = (f"{count} {reason}" for reason, count in left_out.most_common())
            said += f"; not API calls of their own: {', '.join(reasons)}"
        if self.failed:
            said += f"; {_counts(self.failed, 'request')} that a processor cannot take"
        return said

    def _counted(self) -> Counter[str]:
        """What the processors' counters say, and those rows that none of them speaks of."""
        counted: Counter[str] = Counter()
        quiet: Counter[str] = Counter()
        for name, attributes, value in self._points():
            processor = str(attributes.get("processor", ""))
            if name in {_DROPPED, _FILTERED}:
                counted[str(attributes.get("reason", name))] += value
                quiet[processor] -= value
            elif name.endswith("_incoming_items"):
                quiet[processor] += value
            elif name.endswith("_outgoing_items"):
                quiet[processor] -= value
        # apim_event: spans that are no calls, whether they said something of a call or not
        counted["part of a call, or not of HTTP"] = sum((+quiet).values())
        return +counted

    def _points(self) -> Iterable[tuple[str, dict[str, Any], int]]:
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        if metric.name.startswith("otelcol_processor_"):
                            yield metric.name, dict(point.attributes or {}), int(getattr(point, "value", 0))

    def _build(
        self, raw: Raw, registry: Registry, *, alone: bool
    ) -> tuple[list[Pipeline], DeduplicateSettings]:
        mine = (("processors",), ("service", "pipelines"), ("service", "deduplicate"))
        findings = [x for x in raw.findings if any(x.loc[: len(place)] == place for place in mine)]
        others: list[Finding] = []
        sections = {
            kind: check_section(
                kind, raw.data.get(kind.value), registry, findings if kind is Kind.PROCESSOR else others
            )
            for kind in Kind
        }
        service = plain(raw.data.get("service"))
        service = service if isinstance(service, dict) else {}
        if not alone:
            References(sections, registry, findings).check({"pipelines": service.get("pipelines")})
        loc = ("service", "deduplicate")
        deduplicate = check_options(DeduplicateSettings, service.get("deduplicate"), loc, findings)
        settings = {
            key: check_options(PipelineSettings, pipeline, ("service", "pipelines", key), findings)
            for key, pipeline in (plain(service.get("pipelines")) or {}).items()
        }
        if findings or deduplicate is None:
            raise ConfigError(in_file_order(findings, raw.data))
        dialects = tuple(registry.dialects)
        pipelines = [
            self._pipeline(PipelineId.parse(key), pipeline, sections[Kind.PROCESSOR], dialects)
            for key, pipeline in settings.items()
            if pipeline
        ]
        return pipelines, deduplicate

    def _pipeline(
        self, id_: PipelineId, settings: PipelineSettings, section: Section, dialects: Sequence[Any]
    ) -> Pipeline:
        counts = DeferredMeter(self._telemetry.meter)
        processors = [
            (str(name), self._processor(name, section, dialects, counts.meter))
            for name in settings.processors
        ]
        receivers, exporters = frozenset({_HERE}), (_HERE,)
        return Pipeline(str(id_), id_.signal, receivers, processors, exporters, self._telemetry, counts)

    def _processor(self, id_: ComponentId, section: Section, dialects: Sequence[Any], meter: Meter) -> Any:
        configured = section.configured[id_]
        settings = configured.settings
        if self._gateway and isinstance(settings, ApimEventSettings):
            settings = settings.model_copy(update={"gateway": self._gateway})
        context = Context(id_, logging.getLogger(f"otel_moesif.processors.{id_}"), meter, dialects)
        try:
            return configured.factory.build(settings, context)
        except ConfigError as error:
            path = f"processors::{id_}"
            raise ConfigError(
                Problem(f"{path}::{problem.path}".rstrip(":"), problem.message) for problem in error.problems
            ) from None


def _counts(number: int, item: str) -> str:
    return f"{number} {item}{'' if number == 1 else 's'}"
