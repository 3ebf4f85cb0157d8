"""A plugin whose exporters behave badly in each of the ways that ``otel-moesif check`` must survive."""

from __future__ import annotations

from otel_moesif import (
    Checked,
    ExporterConfig,
    ExporterFactory,
    ExtensionFactory,
    Settings,
    StartError,
    hookimpl,
)


class Exporter:
    def __init__(self, config, context):
        pass

    async def start(self):
        print("started")  # noqa: T201

    def export(self, events):
        raise AssertionError("no events are sent")

    async def shutdown(self):
        print("stopped")  # noqa: T201


class Buggy(Exporter):
    async def check(self):
        raise TypeError("who wrote this")


class Refuses(Exporter):
    async def start(self):
        raise StartError("broker: no such \x1b[31mtopic")


class Stubborn(Exporter):
    async def check(self):
        return []

    async def shutdown(self):
        raise ValueError("never")


class Reaches:
    def __init__(self, config, context):
        pass

    async def start(self):
        pass

    async def check(self):
        return [Checked(ok=False, subject="vault", verdict="is sealed", remedy="unseal it")]

    async def shutdown(self):
        pass


@hookimpl
def otel_moesif_components():
    made = {"plain": Exporter, "buggy": Buggy, "refuses": Refuses, "stubborn": Stubborn}
    exporters = [ExporterFactory(type_, ExporterConfig, class_) for type_, class_ in made.items()]
    return [*exporters, ExtensionFactory("reaches", Settings, Reaches)]
