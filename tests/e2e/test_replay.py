"""The command line beside a collector that runs: dead letters, replays, what waits for whom."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections import Counter

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.collector import COMMAND, Collector, sandbox, transaction_id
from tests.e2e.traffic import TRACES, Traffic, call, channel, request
from tests.processes import until


def command(collector, *arguments, code=0) -> str:
    """Run a command on the collector's configuration; returns its standard output."""
    config = ["--config", str(collector.directory / "config.yaml")]
    done = subprocess.run(
        [*COMMAND, *arguments, *config],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if not code else done.stderr


def as_json(collector, *arguments):
    return json.loads(command(collector, *arguments, "--json"))


def send(collector, *bodies: bytes) -> None:
    with channel(collector.target) as connection:
        for body in bodies:
            call(connection, TRACES, body)


# -- dead letters -------------------------------------------------------------------------------------


def test_rejected_calls_are_looked_at_and_tried_again_while_traffic_goes_on(tmp_path):
    with sandbox(tmp_path) as moesif:
        collector = Collector(tmp_path, {"moesif": moesif.url})
        body, rejected = request(5)
        moesif.behave(reject_transaction_id=rejected)
        with collector.run() as process, Traffic(collector.target, calls=20, threads=2) as traffic:
            send(collector, body)
            until(lambda: len(as_json(collector, "dead-letters", "list")) == 5, "dead letters", timeout=30)
            listed = command(collector, "dead-letters", "list", "--origin", "moesif")
            assert listed.splitlines()[-1] == "5 dead letters"
            letters = as_json(collector, "dead-letters", "list")
            assert {(x["origin"], x["kind"], x["count"]) for x in letters} == {("moesif", "events", 1)}
            shown = as_json(collector, "dead-letters", "show", str(letters[0]["id"]))
            assert "400" in shown["reason"]
            assert shown["response"]
            assert len(shown["events"]) == 1
            file = tmp_path / "letters.jsonl"
            command(collector, "dead-letters", "export", "--output", str(file))
            exported = [json.loads(line) for line in file.read_text().splitlines()]
            assert {x["transactionIds"][0] for x in exported} == set(rejected)
            assert not set(moesif.transactions()) & set(rejected)

            moesif.behave()
            said = command(collector, "dead-letters", "replay", "--all")
            assert said == "5 dead letters will be tried again now\n"
            until(lambda: set(moesif.transactions()) >= set(rejected), "the rejected calls", timeout=15)
            traffic.stop()
            everything = traffic.acknowledged | set(rejected)
            until(lambda: set(moesif.transactions()) >= everything, "everything", timeout=15)
            assert not traffic.unanswered
            assert moesif.transactions() == dict.fromkeys(everything, 1)
            assert as_json(collector, "dead-letters", "list") == []
            assert as_json(collector, "journal", "status")["inbox"] == 0
            assert "unexpected error" not in process.output()


# -- replay -------------------------------------------------------------------------------------------


def backend_calls(count: int) -> tuple[bytes, bytes, list[str]]:
    """CLIENT spans in one request, the SERVER spans above them in another, and the transaction ids."""
    clients, servers = ExportTraceServiceRequest(), ExportTraceServiceRequest()
    into = []
    for message in (clients, servers):
        resource = message.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = "gateway"
        into.append(resource.scope_spans.add().spans)
    now, transactions = time.time_ns(), []
    for _ in range(count):
        trace, server, client = random.getrandbits(128), random.getrandbits(64), random.getrandbits(64)
        for spans, kind, id_, parent, status in (
            (into[0], Span.SPAN_KIND_CLIENT, client, server.to_bytes(8, "big"), 204),
            (into[1], Span.SPAN_KIND_SERVER, server, b"", 200),
        ):
            span = spans.add(
                trace_id=trace.to_bytes(16, "big"),
                span_id=id_.to_bytes(8, "big"),
                parent_span_id=parent,
                name="GET",
                kind=kind,
                start_time_unix_nano=now - 20_000_000 + 5_000_000 * (kind == Span.SPAN_KIND_CLIENT),
                end_time_unix_nano=now - 5_000_000 * (kind == Span.SPAN_KIND_CLIENT),
            )
            span.attributes.add(key="http.request.method").value.string_value = "GET"
            span.attributes.add(key="url.scheme").value.string_value = "https"
            span.attributes.add(key="url.path").value.string_value = "/orders"
            span.attributes.add(key="server.address").value.string_value = "api.example.org"
            span.attributes.add(key="http.response.status_code").value.int_value = status
        transactions.append(transaction_id(trace, server))
    return clients.SerializeToString(), servers.SerializeToString(), transactions


def test_a_replay_delivers_the_same_events_again_while_traffic_goes_on(tmp_path):
    with sandbox(tmp_path) as moesif:
        collector = Collector(tmp_path, {"moesif": moesif.url})
        collector.config["service"]["journal"]["keep_raw"] = "1h"
        with collector.run() as process:
            clients, servers, joined = backend_calls(30)
            send(collector, clients)
            until(lambda: as_json(collector, "journal", "status")["raw"] == 0, "the conversion", timeout=15)
            send(collector, servers)
            with Traffic(collector.target, calls=20, threads=2) as before:
                until(lambda: len(before.acknowledged) > 2000, "calls", timeout=20)
            first = {*before.acknowledged, *joined}
            until(lambda: set(moesif.transactions()) >= first, "the first time", timeout=20)
            until(lambda: as_json(collector, "journal", "status")["raw"] == 0, "the conversion", timeout=15)
            until_ = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))
            time_of_cut = time.time() + 1
            until(lambda: time.time() > time_of_cut, "the cut")
            with Traffic(collector.target, calls=20, threads=2) as meanwhile:
                said = command(collector, "replay", "--since", "10m", "--until", until_)
                fresh = set(meanwhile.acknowledged)
                until(lambda: set(moesif.transactions()) >= fresh, "fresh calls", timeout=15)
            assert "converted again" in said
            expected = Counter(dict.fromkeys(first, 2)) + Counter(dict.fromkeys(meanwhile.acknowledged, 1))
            until(lambda: moesif.transactions() == expected, "the second time", timeout=20)
            events: dict[str, list] = {}
            for event in moesif.events():
                events.setdefault(event["transaction_id"], []).append(event)
            assert all(one == other for one, other in (events[id_] for id_ in first))
            assert all(events[id_][1]["metadata"]["targetResponseCode"] == 204 for id_ in joined)
            assert not before.unanswered | meanwhile.unanswered
            assert as_json(collector, "journal", "status")["replays"] == []
            assert "unexpected error" not in process.output()


@pytest.mark.slow
def test_a_replay_for_one_exporter_is_nobody_elses_business_and_waits_for_a_start(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with sandbox(tmp_path / "a") as one, sandbox(tmp_path / "b") as other:
        collector = Collector(tmp_path, {"moesif/a": one.url, "moesif/b": other.url})
        collector.config["service"]["journal"]["keep_raw"] = "1h"
        body, ids = request(50)
        once, twice = dict.fromkeys(ids, 1), dict.fromkeys(ids, 2)
        with collector.run() as process:
            send(collector, body)
            until(lambda: one.transactions() == other.transactions() == once, "the first time", timeout=15)
            said = command(collector, "replay", "--since", "1h", "--exporter", "moesif/b", "--no-wait")
            assert "--cancel 1" in said
            until(lambda: other.transactions() == twice, "the second time", timeout=15)
            assert one.transactions() == once
            process.terminate()
            process.wait(20)
        said = command(collector, "replay", "--since", "1h", "--exporter", "moesif/a")
        assert "when the collector starts" in said
        with collector.run():
            until(lambda: one.transactions() == twice, "the second time, after the start", timeout=15)
        assert other.transactions() == twice


# -- what waits for whom ------------------------------------------------------------------------------


def test_what_waits_for_an_exporter_that_left_is_shown_and_can_be_dropped(tmp_path):
    with sandbox(tmp_path) as moesif:
        collector = Collector(tmp_path, {"moesif": moesif.url, "moesif/old": "http://127.0.0.1:9"})
        body, ids = request(70)
        with collector.run() as process:
            send(collector, body)
            until(lambda: set(moesif.transactions()) == set(ids), "delivery", timeout=15)
            said = command(collector, "journal", "prune", "--exporter", "moesif/old", "--yes", code=1)
            assert "moesif/old is in use by the collector that runs" in said
            process.terminate()
            process.wait(30)
        for pipeline in collector.config["service"]["pipelines"].values():
            pipeline["exporters"] = ["moesif"]
        with collector.run() as process, Traffic(collector.target, calls=20, threads=1) as traffic:
            assert "moesif/old: is no longer in a pipeline, but 70 events wait for it" in process.output()
            backlogs = {x["exporter"]: x for x in as_json(collector, "journal", "status")["backlogs"]}
            assert (backlogs["moesif/old"]["events"], backlogs["moesif/old"]["configured"]) == (70, False)
            assert backlogs["moesif"]["configured"]
            assert "70, the oldest" in command(collector, "journal", "status")
            refusal = command(collector, "journal", "prune", "--exporter", "moesif/old", code=2)
            assert refusal == "otel-moesif: nobody can be asked here: --yes to go on without\n"
            said = command(collector, "journal", "prune", "--exporter", "moesif/old", "--yes")
            assert said == "70 events for moesif/old dropped\n"
            assert [x["exporter"] for x in as_json(collector, "journal", "status")["backlogs"]] == ["moesif"]
            command(collector, "journal", "prune", "--give-back")
            traffic.stop()
            assert not traffic.unanswered
            until(lambda: set(moesif.transactions()) >= traffic.acknowledged, "fresh calls", timeout=15)


@pytest.mark.slow
def test_whoever_looks_again_and_again_disturbs_nobody(tmp_path):
    with sandbox(tmp_path) as moesif:
        collector = Collector(tmp_path, {"moesif": moesif.url})
        collector.config["service"]["journal"]["keep_raw"] = "1h"
        ended = threading.Event()
        ran: Counter[str] = Counter()

        def look(*arguments):
            while not ended.is_set():
                command(collector, *arguments)
                ran[arguments[1]] += 1

        looks = [
            ("dead-letters", "list"),
            ("dead-letters", "purge", "--all", "--yes"),
            ("journal", "status"),
            ("journal", "prune", "--give-back"),
        ]
        errors = []

        def guarded(arguments):
            try:
                look(*arguments)
            except AssertionError as error:
                errors.append(error)

        with collector.run() as process, Traffic(collector.target, calls=50, threads=4) as traffic:
            threads = [threading.Thread(target=guarded, args=[arguments]) for arguments in looks]
            for thread in threads:
                thread.start()
            try:
                until(lambda: errors or min(ran[x[1]] for x in looks) >= 2, "two rounds", timeout=60)
            finally:
                ended.set()
                for thread in threads:
                    thread.join()
            traffic.stop()
            assert not errors
            assert traffic.acknowledged
            assert not traffic.unanswered, traffic.codes
            assert traffic.slowest < 5
            until(lambda: set(moesif.transactions()) == traffic.acknowledged, "delivery", timeout=20)
            assert max(moesif.transactions().values()) == 1
            log = process.output()
        assert not [line for line in log.splitlines() if "  warn  " in line or "  error  " in line], log
