"""The collector as its users run it (a process with a configuration file), and the sandbox it sends to."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.ports import free_port
from tests.processes import Process, listening

COMMAND = [sys.executable, "-m", "otel_moesif"]
APPLICATION_ID = "test-application-id"
NAMESPACE = uuid.UUID(bytes=b"otel-moesif/call")


def transaction_id(trace_id: int, span_id: int) -> str:
    return str(uuid.uuid5(NAMESPACE, f"{trace_id:032x}:{span_id:016x}"))


class Sandbox:
    """A running sandbox; see plugins/otel-moesif-sandbox."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._client = httpx.Client(base_url=self.url, trust_env=False, timeout=30)
        self._arrived: Counter[str] = Counter()
        self._next = 0

    def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = {"limit": 10_000, "offset": len(found)}
            answer = self._client.get("/sandbox/events", params=page).raise_for_status().json()
            found += answer["events"]
            if len(answer["events"]) < page["limit"]:
                return found

    def stats(self) -> dict[str, Any]:
        return dict(self._client.get("/sandbox/stats").raise_for_status().json())

    def arrived(self) -> Counter[str]:
        """How often each transaction id arrived; reads only what is new, so that asking often costs little.

        Returns:
            The counter itself: it grows with the next reading.

        Raises:
            AssertionError: Events left the sandbox before they were read; it needs a larger max_events.
        """
        while True:
            page = {"limit": 10_000, "offset": self._next}
            answer = self._client.get("/sandbox/events", params=page).raise_for_status().json()
            if answer["offset"] > self._next:
                raise AssertionError(f"unread events left the sandbox: {self._next} to {answer['offset']}")
            self._arrived.update(event["transaction_id"] for event in answer["events"])
            self._next = answer["next_offset"]
            if len(answer["events"]) < page["limit"]:
                return self._arrived

    def transactions(self) -> Counter[str]:
        """How often each transaction id arrived, up to now."""
        return self.arrived().copy()

    def behave(self, **behavior: Any) -> None:
        """Answer differently from now on: status, times, delay …"""
        self._client.post("/sandbox/behavior", json=behavior).raise_for_status()


@contextlib.contextmanager
def sandbox(directory: Path, port: int = 0, max_events: int | None = None) -> Iterator[Sandbox]:
    """Run the sandbox as a process of its own: it outlives the collector.

    Args:
        directory: Takes its log.
        port: Where it listens; any free one by default.
        max_events: Events that it keeps for whoever has not read them yet; its default is 100,000.
    """
    port = port or free_port()
    endpoint = f"127.0.0.1:{port}"
    command = [*COMMAND, "sandbox", "--endpoint", endpoint]
    if max_events is not None:
        extensions = {"moesif_sandbox": {"endpoint": endpoint, "max_events": max_events}}
        service = {"extensions": ["moesif_sandbox"], "telemetry": {"metrics": {"address": None}}}
        file = directory / f"sandbox-{port}.yaml"
        file.write_text(json.dumps({"extensions": extensions, "service": service}))  # JSON is YAML
        command = [*COMMAND, "run", "--config", str(file)]
    with Process(command, directory / f"sandbox-{port}.log") as process:
        process.until(lambda: listening(port), "the sandbox's port", timeout=20)
        yield Sandbox(port)


class Collector:
    """Configuration and state of one collector; `run` starts it, as often as a test likes.

    Args:
        directory: Takes configuration, journal and log.
        exporters: Base URL of the Moesif that each exporter id sends to.
        own_sandbox: Run the sandbox as an extension of the collector, on that port.
        exporter_options: Put into every exporter's options.
        grpc: Further options of ``protocols::grpc``.
        http: Options of ``protocols::http``; it takes OTLP/HTTP only if they are given, at any free port.
        extensions: Options of extensions, by id; all of them run.
        intake: Options of ``service::intake``.
        env: Added to the environment of its process.

    Attributes:
        target: host:port for OTLP/gRPC.
        url: Base URL for OTLP/HTTP; empty without it.
    """

    def __init__(
        self,
        directory: Path,
        exporters: Mapping[str, str],
        own_sandbox: int | None = None,
        exporter_options: Mapping[str, Any] | None = None,
        *,
        grpc: Mapping[str, Any] | None = None,
        http: Mapping[str, Any] | None = None,
        extensions: Mapping[str, Any] | None = None,
        intake: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.env = dict(env or {})
        self.grpc_port = free_port()
        self.http_port = 0 if http is None else free_port()
        self.metrics_port = free_port()
        self.target = f"127.0.0.1:{self.grpc_port}"
        self.log = directory / "collector.log"
        self.journal = directory / "journal"
        protocols: dict[str, Any] = {"grpc": {"endpoint": self.target, **(grpc or {})}}
        self.url = ""
        if http is not None:
            protocols["http"] = {"endpoint": f"127.0.0.1:{self.http_port}", **http}
            self.url = f"{'https' if 'tls' in http else 'http'}://127.0.0.1:{self.http_port}"
        pipeline = {"receivers": ["otlp"], "processors": ["apim_event"], "exporters": list(exporters)}
        # A second is a good linger in production; here somebody waits for it.
        options = {"sending_queue": {"batch": {"flush_timeout": "100ms"}}, **(exporter_options or {})}
        self.config: dict[str, Any] = {
            "receivers": {"otlp": {"protocols": protocols}},
            "processors": {"apim_event": {}},
            "exporters": {
                id_: {"endpoint": url, "application_id": APPLICATION_ID, **options}
                for id_, url in exporters.items()
            },
            "service": {
                "journal": {"directory": str(self.journal)},
                "telemetry": {"metrics": {"address": f"127.0.0.1:{self.metrics_port}"}},
                "pipelines": {"traces": pipeline, "logs": pipeline},
            },
        }
        if intake:
            self.config["service"]["intake"] = dict(intake)
        extensions = dict(extensions or {})
        if own_sandbox:
            extensions["moesif_sandbox"] = {"endpoint": f"127.0.0.1:{own_sandbox}"}
        if extensions:
            self.config["extensions"] = extensions
            self.config["service"]["extensions"] = list(extensions)

    @property
    def file(self) -> Path:
        """Its configuration, as it was last started with."""
        return self.directory / "config.yaml"

    def start(self) -> Process:
        """Start it without waiting for its port; for tests in which it does not come so far."""
        self.file.write_text(json.dumps(self.config, indent=1))  # JSON is YAML
        return Process([*COMMAND, "run", "--config", str(self.file)], self.log, self.env)

    @contextlib.contextmanager
    def run(self) -> Iterator[Process]:
        """Run it until the context ends, and be it by SIGKILL; it takes requests when this returns."""
        with self.start() as process:
            process.until(lambda: listening(self.grpc_port), "the OTLP port", timeout=20)
            if self.http_port:
                process.until(lambda: listening(self.http_port), "the OTLP/HTTP port", timeout=20)
            yield process

    def metrics(self) -> str:
        """Its own counters, in Prometheus form."""
        answer = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", trust_env=False)
        return answer.raise_for_status().text

    def count(self, name: str, **labels: str) -> float:
        """What one of its counters says, summed over all that have these labels.

        Args:
            name: Without ``_total``, for example ``otelcol_receiver_denied_requests``.
            labels: As ``reason="malformed"``.
        """
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.metrics())
            if family.name == name
            for sample in family.samples
            if sample.name == f"{name}_total" and labels.items() <= sample.labels.items()
        )

    def dead_letters(self) -> int:
        """How many events and requests were given up, as the journal says; not while it runs."""
        file = self.journal / "journal.db"
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as journal:
            return int(journal.execute("select coalesce(sum(count), 0) from dead_letters").fetchone()[0])
