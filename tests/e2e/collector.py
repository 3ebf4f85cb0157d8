"""The collector as its users run it (a process with a configuration file), and the sandbox it sends to."""

from __future__ import annotations

import contextlib
import json
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.processes import Process, free_port, listening

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

    def transactions(self) -> Counter[str]:
        """How often each transaction id arrived."""
        return Counter(event["transaction_id"] for event in self.events())

    def behave(self, **behavior: Any) -> None:
        """Answer differently from now on: status, times, delay …"""
        self._client.post("/sandbox/behavior", json=behavior).raise_for_status()


@contextlib.contextmanager
def sandbox(directory: Path, port: int = 0) -> Iterator[Sandbox]:
    """Run ``otel-moesif sandbox`` as a process of its own: it outlives the collector."""
    port = port or free_port()
    command = [*COMMAND, "sandbox", "--endpoint", f"127.0.0.1:{port}"]
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
    """

    def __init__(
        self,
        directory: Path,
        exporters: Mapping[str, str],
        own_sandbox: int | None = None,
        exporter_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = directory
        self.grpc_port = free_port()
        self.metrics_port = free_port()
        self.target = f"127.0.0.1:{self.grpc_port}"
        self.log = directory / "collector.log"
        self.journal = directory / "journal"
        pipeline = {"receivers": ["otlp"], "processors": ["apim_event"], "exporters": list(exporters)}
        # A second is a good linger in production; here somebody waits for it.
        options = {"sending_queue": {"batch": {"flush_timeout": "100ms"}}, **(exporter_options or {})}
        self.config: dict[str, Any] = {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": self.target}}}},
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
        if own_sandbox:
            self.config["extensions"] = {"moesif_sandbox": {"endpoint": f"127.0.0.1:{own_sandbox}"}}
            self.config["service"]["extensions"] = ["moesif_sandbox"]

    def start(self) -> Process:
        """Start it without waiting for its port; for tests in which it does not come so far."""
        file = self.directory / "config.yaml"
        file.write_text(json.dumps(self.config, indent=1))  # JSON is YAML
        return Process([*COMMAND, "run", "--config", str(file)], self.log)

    @contextlib.contextmanager
    def run(self) -> Iterator[Process]:
        """Run it until the context ends, and be it by SIGKILL; it takes requests when this returns."""
        with self.start() as process:
            process.until(lambda: listening(self.grpc_port), "the OTLP port", timeout=20)
            yield process

    def metrics(self) -> str:
        """Its own counters, in Prometheus form."""
        answer = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", trust_env=False)
        return answer.raise_for_status().text
