"""Checks what ``service`` refers to: that it is configured, and that the batch types of a pipeline fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_moesif.component import (
    ComponentId,
    Kind,
    ProcessorFactory,
    ReceiverFactory,
    Signal,
)
from otel_moesif.config.components import Section, names, singular
from otel_moesif.config.findings import Finding, Loc, did_you_mean
from otel_moesif.config.model import PipelineId
from otel_moesif.config.text import plain
from otel_moesif.errors import ConfigError
from otel_moesif.plugins import Registry

_WORDS = {"Spans": "spans", "Logs": "log records", "Events": "events"}
_NEEDED = (Kind.RECEIVER, Kind.EXPORTER)


class References:
    """Checks ``service::extensions`` and ``service::pipelines`` against the components that are defined.

    It reads the plain data, not the model, so that a wrong option elsewhere under ``service`` hides nothing;
    what is not of the right shape is left to the model.

    Attributes:
        used: What ``service`` names, in its order, whether it is defined or not.
    """

    def __init__(self, sections: Mapping[Kind, Section], registry: Registry, findings: list[Finding]) -> None:
        self._sections = sections
        self._registry = registry
        self._findings = findings
        self._pipelines: set[PipelineId | None] = set()
        self.used: dict[Kind, list[ComponentId]] = {kind: [] for kind in Kind}

    def check(self, service: Any) -> None:
        """Check all references in the ``service`` section."""
        service = service if isinstance(service, dict) else {}
        extensions = self._ids(Kind.EXTENSION, service.get("extensions"), ("service", "extensions"))
        pipelines = plain(service.get("pipelines"))
        if isinstance(pipelines, dict):
            for key, pipeline in pipelines.items():
                self._pipeline(key, plain(pipeline), ("service", "pipelines", key))
        if not pipelines and not extensions and not plain(service.get("extensions")):
            self._find(
                ("service", "pipelines"),
                "there is nothing to run: no pipeline is defined and no extension enabled "
                "(a pipeline is traces[/name] or logs[/name] with receivers, processors and exporters)",
            )

    def _pipeline(self, key: str, pipeline: Any, loc: Loc) -> None:
        id_ = self._id(key, loc)
        if id_ and id_ in self._pipelines:
            self._find(loc, "is the same pipeline as one above")
        self._pipelines.add(id_)
        if not isinstance(pipeline, dict | None):
            return
        found: dict[Kind, list[ComponentId] | None] = {}
        for kind in (Kind.RECEIVER, Kind.PROCESSOR, Kind.EXPORTER):
            items = (pipeline or {}).get(kind.value)
            found[kind] = self._ids(kind, items, (*loc, kind.value))
            if kind in _NEEDED and not plain(items):
                configured = names(self._sections[kind].keys)
                self._find(
                    (*loc, kind.value), f"at least one {singular(kind)} is needed (configured: {configured})"
                )
        if id_:
            for receiver in found[Kind.RECEIVER] or ():
                self._receives(receiver, id_.signal, (*loc, Kind.RECEIVER.value))
            if found[Kind.PROCESSOR] is not None:
                self._types(id_.signal, found[Kind.PROCESSOR] or [], (*loc, Kind.PROCESSOR.value))

    def _id(self, key: str, loc: Loc) -> PipelineId | None:
        signal = key.partition("/")[0].strip()
        allowed = f"allowed: {', '.join(Signal)}"
        try:
            return PipelineId.parse(key)
        except ConfigError:
            self._find(loc, f'"{key}" is not a pipeline id (traces[/name] or logs[/name])')
        except ValueError:
            if signal in {"metrics", "profiles"}:
                self._find(loc, f"{signal} are not API calls and cannot become analytics events ({allowed})")
            else:
                self._find(loc, f'unknown signal "{signal}" ({did_you_mean(signal, list(Signal))}{allowed})')
        return None

    def _ids(self, kind: Kind, items: Any, loc: Loc) -> list[ComponentId] | None:
        """The ids in a list; None if one of them is not understood or has no factory."""
        section = self._sections[kind]
        items = plain(items)
        if items is None:
            return []
        ids: list[ComponentId] = []
        complete = isinstance(items, list)
        for item in items if isinstance(items, list) else ():
            try:
                id_ = ComponentId.parse(plain(item))
            except (ConfigError, AttributeError):
                complete = False
                continue
            if id_ in ids:
                self._find(loc, f'"{id_}" is listed twice')
                continue
            ids.append(id_)
            if id_ not in self.used[kind]:
                self.used[kind].append(id_)
            if id_ not in section.keys and section.readable:
                self._find(loc, f'no {singular(kind)} "{id_}" (configured: {names(section.keys)})')
            complete = complete and id_ in section.factories
        return ids if complete else None

    def _receives(self, id_: ComponentId, signal: Signal, loc: Loc) -> None:
        factory = self._sections[Kind.RECEIVER].factories.get(id_)
        if isinstance(factory, ReceiverFactory) and signal not in factory.signals:
            receives = ", ".join(sorted(factory.signals)) or "nothing"
            self._find(loc, f'"{id_}" cannot receive {signal} (it receives {receives})')

    def _types(self, signal: Signal, processors: list[ComponentId], loc: Loc) -> None:
        """Follow the batch from the receiver through each processor; it has to arrive as events."""
        # Only here, so that a configuration without pipelines needs no polars.
        from otel_moesif.events import Events  # noqa: PLC0415
        from otel_moesif.logs import Logs  # noqa: PLC0415
        from otel_moesif.spans import Spans  # noqa: PLC0415

        batch: type = {Signal.TRACES: Spans, Signal.LOGS: Logs}[signal]
        for id_ in processors:
            factory = self._sections[Kind.PROCESSOR].factories[id_]
            if not isinstance(factory, ProcessorFactory):
                return
            if batch not in factory.signature:
                takes = " or ".join(_word(type_) for type_ in factory.signature)
                bridges = {name for type_ in factory.signature for name in self._turning(batch, type_)}
                hint = f" (put {_either(bridges)} before it)" if bridges else ""
                self._find(loc, f'"{id_}" takes {takes}, but {_word(batch)} arrive there{hint}')
                return
            batch = factory.signature[batch]
        if batch is not Events:
            bridges = set(self._turning(batch, Events))
            hint = f" (add the processor {_either(bridges)})" if bridges else ""
            self._find(loc, f"the pipeline ends with {_word(batch)}, but exporters take events{hint}")

    def _turning(self, batch: type, into: type) -> list[str]:
        """The types of all installed processors that turn one batch type into another."""
        return [
            factory.type
            for factory in self._registry.factories(Kind.PROCESSOR)
            if isinstance(factory, ProcessorFactory) and factory.signature.get(batch) is into
        ]

    def _find(self, loc: Loc, message: str) -> None:
        self._findings.append(Finding(loc, message))


def _word(batch: type) -> str:
    return _WORDS.get(batch.__name__, batch.__name__)


def _either(names_: set[str]) -> str:
    return " or ".join(sorted(names_))
