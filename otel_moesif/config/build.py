"""From plain data to a checked `Config`, or every mistake at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from otel_moesif.component import ComponentId, Kind, Signal
from otel_moesif.config.components import Configured, check_options, check_section
from otel_moesif.config.findings import Finding, in_file_order, unknown_key
from otel_moesif.config.load import Raw
from otel_moesif.config.model import PipelineId, ServiceSettings
from otel_moesif.config.pipelines import References
from otel_moesif.config.text import plain
from otel_moesif.errors import ConfigError
from otel_moesif.plugins import Registry

_TOP = [*Kind, "service"]


@dataclass(frozen=True)
class Pipeline:
    """One pipeline's components, in order."""

    signal: Signal
    receivers: tuple[ComponentId, ...]
    processors: tuple[ComponentId, ...]
    exporters: tuple[ComponentId, ...]


@dataclass(frozen=True)
class Config:
    """A configuration that can be built.

    Attributes:
        receivers: All that are defined, used or not; so are the next three.
        processors: See ``receivers``.
        exporters: See ``receivers``.
        extensions: See ``receivers``; ``service.extensions`` says which of them run.
        pipelines: Every one of them runs.
        service: Everything else under ``service``.
        raw: What it was made from.
    """

    receivers: Mapping[ComponentId, Configured]
    processors: Mapping[ComponentId, Configured]
    exporters: Mapping[ComponentId, Configured]
    extensions: Mapping[ComponentId, Configured]
    pipelines: Mapping[PipelineId, Pipeline]
    service: ServiceSettings
    raw: Raw = field(repr=False)  # may hold secrets


class Unusable(ConfigError):  # noqa: N818 - what a configuration is
    """A configuration with mistakes, and what of it could be built none the less.

    Attributes:
        findings: The mistakes.
        raw: What it was made from.
        used: What ``service`` names, in its order.
        sound: Those of them that are defined without a mistake.
    """

    def __init__(
        self,
        findings: Sequence[Finding],
        raw: Raw,
        used: Mapping[Kind, Sequence[ComponentId]],
        sound: Mapping[Kind, Mapping[ComponentId, Configured]],
    ) -> None:
        super().__init__(in_file_order(findings, raw.data))
        self.findings = findings
        self.raw = raw
        self.used = used
        self.sound = sound


def validate(raw: Raw, registry: Registry) -> Config:
    """Check everything, used or not.

    Args:
        raw: What `load` returned.
        registry: What is installed.

    Raises:
        Unusable: Every problem there is, in the order of the file; but what components say only when
            they are built: `otel_moesif.graph.all_problems` adds that.
    """
    findings = list(raw.findings)
    findings += [Finding((key,), unknown_key(key, _TOP)) for key in raw.data if key not in _TOP]
    sections = {kind: check_section(kind, raw.data.get(kind.value), registry, findings) for kind in Kind}
    service = check_options(ServiceSettings, raw.data.get("service"), ("service",), findings)
    references = References(sections, registry, findings)
    references.check(plain(raw.data.get("service")))
    if findings or service is None:
        wrong = {finding.loc[:2] for finding in findings}
        sound = {
            kind: {
                id_: x
                for id_, x in section.configured.items()
                if (kind.value, section.keys[id_]) not in wrong
            }
            for kind, section in sections.items()
        }
        raise Unusable(findings, raw, references.used, sound)
    pipelines = {
        PipelineId.parse(key): Pipeline(
            PipelineId.parse(key).signal, pipeline.receivers, pipeline.processors, pipeline.exporters
        )
        for key, pipeline in service.pipelines.items()
    }
    receivers, processors, exporters, extensions = (sections[kind].configured for kind in Kind)
    return Config(receivers, processors, exporters, extensions, pipelines, service, raw)
