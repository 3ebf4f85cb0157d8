"""Tenants of one exporter: a wrong key of one holds up nobody, and a kill in the middle loses nothing."""

from __future__ import annotations

import itertools
import threading
from collections import Counter

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e.collector import APPLICATION_ID, Collector, sandbox
from tests.e2e.traffic import TRACES, Sending, Traffic, request

IDS = {"acme": "application-of-acme", "zeta": "application-of-zeta", "other": APPLICATION_ID}
ROUTING = {"from": "property.tenant", "table": {"acme": IDS["acme"], "zeta": IDS["zeta"]}}


class Gateway:
    """Makes requests, each of one tenant, and remembers whose calls they are."""

    def __init__(self) -> None:
        self.tenant_of: dict[str, str] = {}
        self._tenants = itertools.cycle(IDS)
        self._lock = threading.Lock()

    def __call__(self) -> list[Sending]:
        body, transactions = request(20)
        with self._lock:
            tenant = next(self._tenants)
            self.tenant_of |= dict.fromkeys(transactions, tenant)
        message = ExportTraceServiceRequest.FromString(body)
        attributes = message.resource_spans[0].resource.attributes
        attributes.add(key="tenant").value.string_value = tenant
        return [Sending(TRACES, message.SerializeToString(), transactions)]


def arrived(moesif, tenant: str) -> Counter[str]:
    found: list[str] = []
    page = {"limit": 10_000, "application": IDS[tenant]}
    while True:
        answer = moesif._client.get("/sandbox/events", params={**page, "offset": len(found)})
        events = answer.raise_for_status().json()["events"]
        found += [event["transaction_id"] for event in events]
        if len(events) < page["limit"]:
            return Counter(found)


def test_a_wrong_key_of_one_tenant_holds_up_nobody_and_a_kill_loses_nothing(tmp_path):
    retry = {"initial_interval": "50ms", "max_interval": "200ms"}
    gateway = Gateway()
    with sandbox(tmp_path) as moesif:
        collector = Collector(
            tmp_path, {"moesif": moesif.url}, exporter_options={"routing": ROUTING, "retry_on_failure": retry}
        )
        collector.config["processors"]["apim_event"] = {"properties": {"tenant": ["tenant"]}}

        def calls_of(traffic: Traffic, tenant: str) -> set[str]:
            return {id_ for id_ in traffic.acknowledged if gateway.tenant_of[id_] == tenant}

        accepted = [IDS["zeta"], IDS["other"]]
        moesif._client.put("/sandbox/applications", json=accepted).raise_for_status()
        with Traffic(collector.target, make=gateway, recovery=0.1) as traffic:
            with collector.run() as process:
                process.until(lambda: len(arrived(moesif, "zeta")) > 400, "events", timeout=30)
                process.kill()
            with collector.run() as process:
                more = len(traffic.acknowledged) + 600
                process.until(lambda: len(traffic.acknowledged) > more, "calls", timeout=30)
                traffic.stop()
                for tenant in ("zeta", "other"):
                    wanted = calls_of(traffic, tenant)
                    process.until(
                        lambda t=tenant, w=wanted: w <= arrived(moesif, t).keys(), tenant, timeout=30
                    )
                assert not arrived(moesif, "acme")
                wanted = ("otelcol_exporter_status", 'exporter="moesif@acme"', 'status="paused"', "} 1.0")
                lines = collector.metrics().splitlines()
                assert any(all(part in line for part in wanted) for line in lines)
                moesif._client.put("/sandbox/applications", content=b"null").raise_for_status()
                wanted = calls_of(traffic, "acme")
                process.until(lambda: wanted <= arrived(moesif, "acme").keys(), "acme", timeout=30)
        assert "moesif@acme: paused" in process.output()
        assert IDS["acme"] not in process.output()
        for tenant in IDS:  # and nobody has what is another's
            assert {gateway.tenant_of[id_] for id_ in arrived(moesif, tenant)} == {tenant}
        assert collector.dead_letters() == 0
