"""The collector's own metrics: OpenTelemetry instruments, under the OpenTelemetry Collector's names.

Names: opentelemetry-collector, receiver and exporter telemetry (``otelcol_receiver_accepted_spans`` …);
those that the Collector does not have follow its pattern. Attribute values are component ids, transports
and fixed reasons: never anything that came in a request.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import TypeAlias
from wsgiref.simple_server import WSGIServer

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, start_http_server

from otel_moesif.component import Signal
from otel_moesif.config.model import MetricsSettings
from otel_moesif.endpoint import parse_endpoint
from otel_moesif.errors import StartError

Reading: TypeAlias = Callable[[], Mapping[tuple[tuple[str, str], ...], float]]
# What the last push of metrics may take: a dead endpoint must not hold up the end.
_LAST_PUSH_MILLISECONDS = 1000
ITEMS = {Signal.TRACES: "spans", Signal.LOGS: "log_records"}


class Telemetry:
    """All instruments of the core, and where they can be read.

    Args:
        settings: ``service.telemetry.metrics``.
        attributes: ``service.telemetry.resource``: resource attributes of the collector itself.
    """

    def __init__(self, settings: MetricsSettings, attributes: Mapping[str, str]) -> None:
        self._settings = settings
        self._server: WSGIServer | None = None
        self._ended = False
        self.port = 0
        described = {"service.name": "otel-moesif", "service.version": version("otel-moesif"), **attributes}
        # A registry of its own: two services in one process (tests, embedding) do not meet.
        self._registry = CollectorRegistry()
        readers = _readers(settings, self._registry)
        self.provider = MeterProvider(readers, Resource.create(described), shutdown_on_exit=False)
        meter = self.provider.get_meter("otel_moesif")
        self.meter = meter
        self.accepted = {
            signal: meter.create_counter(
                f"otelcol_receiver_accepted_{items}", description="Stored and acknowledged"
            )
            for signal, items in ITEMS.items()
        }
        self.refused = meter.create_counter(
            "otelcol_receiver_refused_requests", description="Not stored; the client was told to try again"
        )
        self.rejected = meter.create_counter(
            "otelcol_receiver_rejected_requests", description="Malformed; the client was told so"
        )
        self.rejected_records = meter.create_counter(
            "otelcol_receiver_rejected_records",
            description="Spans and log records that could not be taken; the client was told so",
        )
        self.incoming = meter.create_counter(
            "otelcol_processor_incoming_items", description="Rows that went into a processor"
        )
        self.outgoing = meter.create_counter(
            "otelcol_processor_outgoing_items", description="Rows that came out of a processor"
        )
        self.dead_requests = meter.create_counter(
            "otelcol_processor_dead_lettered_requests", description="Requests that no processor could take"
        )
        self.sent = meter.create_counter("otelcol_exporter_sent_events", description="Taken by the backend")
        self.send_failed = meter.create_counter(
            "otelcol_exporter_send_failed_events",
            description="Events in attempts that failed; they are tried again",
        )
        self.dead_events = meter.create_counter(
            "otelcol_exporter_dead_lettered_events", description="Events that the backend will never take"
        )
        self.dropped_events = meter.create_counter(
            "otelcol_exporter_dropped_events",
            description="Events that left before they were delivered, since the user wants it so",
        )
        self.dropped_rows = meter.create_counter(
            "otelcol_journal_dropped_rows", description="What else made room in a journal that is full"
        )
        self.dropped_reports = meter.create_counter(
            "otelcol_converter_dropped_reports",
            description="Reports of a call that had made its event already",
        )
        started = time.monotonic()
        self.gauge("otelcol_process_uptime", "s", lambda: {(): time.monotonic() - started})
        self.gauge("otelcol_process_cpu_seconds", "s", lambda: {(): time.process_time()})
        self.gauge("otelcol_process_memory_rss", "By", lambda: {(): _resident_bytes()})

    def gauge(self, name: str, unit: str, read: Reading) -> None:
        """Add a gauge that is read when somebody asks.

        Args:
            name: The instrument's.
            unit: UCUM.
            read: Gives attributes (as pairs) → value.
        """
        self.meter.create_observable_gauge(name, [_callback(read)], unit=unit)

    def counter(self, name: str, description: str, read: Reading) -> None:
        """Add a counter that is read when somebody asks; arguments as of `gauge`."""
        self.meter.create_observable_counter(name, [_callback(read)], description=description)

    def start(self) -> None:
        """Open the page for Prometheus.

        Raises:
            StartError: Its port is in use.
        """
        if self._settings.address and self._settings.level != "none":
            host, port = parse_endpoint(self._settings.address)
            try:
                self._server, _ = start_http_server(port, host, self._registry)
            except OSError as error:
                raise StartError(
                    f"service::telemetry::metrics::address: cannot listen on {self._settings.address}: "
                    f"{error.strerror} (choose another port, or null for none)"
                ) from None
            self.port = self._server.server_port

    def shutdown(self) -> None:
        """Push what is left, close the page; safe unstarted and twice."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        if not self._ended:
            self._ended = True
            self.provider.shutdown(_LAST_PUSH_MILLISECONDS)


def _callback(read: Reading) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def callback(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, dict(attributes)) for attributes, value in read().items()]

    return callback


def _readers(settings: MetricsSettings, registry: CollectorRegistry) -> list[MetricReader]:
    if settings.level == "none":
        return []
    readers: list[MetricReader] = []
    if settings.address:
        readers.append(
            PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=registry)
        )
    if settings.otlp:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter  # noqa: PLC0415 - only who pushes pays for it

        push = OTLPMetricExporter(
            endpoint=settings.otlp.endpoint,
            insecure=settings.otlp.insecure,
            headers={name: value.get_secret_value() for name, value in settings.otlp.headers.items()},
        )
        interval = settings.otlp.interval.total_seconds() * 1000
        readers.append(PeriodicExportingMetricReader(push, export_interval_millis=interval))
    return readers


def _resident_bytes() -> float:
    """Resident memory now; where /proc is missing, the most it ever was."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - read at every scrape
            return float(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
