"""What whoever runs the collector, or points a client at it, meets besides good data."""

from __future__ import annotations

import socket

import grpc
import pytest

from tests.e2e.collector import Collector, sandbox
from tests.e2e.traffic import LOGS, METRICS, TRACES, Traffic, call, channel, request
from tests.processes import until


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    directory = tmp_path_factory.mktemp("operation")
    with sandbox(directory) as moesif:
        collector = Collector(directory, {"moesif": moesif.url})
        with collector.run():
            yield collector, moesif


@pytest.mark.parametrize("method", [TRACES, LOGS])
def test_an_empty_request_is_a_success(running, method):
    with channel(running[0].target) as connection:
        assert call(connection, method, b"") == b""


@pytest.mark.parametrize("method", [TRACES, LOGS])
def test_malformed_bytes_are_refused_and_neighbours_go_on(running, method):
    collector, moesif = running
    with channel(collector.target) as connection:
        before, after = request(3), request(4)
        stub = connection.unary_unary
        # All at once, so that the three may share a group.
        answers = [
            stub(TRACES).future(before[0], timeout=10),
            stub(method).future(b"\x0a\xff\xff\xff\xff\x0fnot protobuf", timeout=10),
            stub(TRACES).future(after[0], timeout=10),
        ]
        assert [answer.code() for answer in answers] == [
            grpc.StatusCode.OK,
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.OK,
        ]
        assert answers[1].details()
    until(lambda: set(moesif.transactions()) >= {*before[1], *after[1]}, "the neighbours")


def test_metrics_are_not_implemented(running):
    with channel(running[0].target) as connection, pytest.raises(grpc.RpcError) as refusal:
        call(connection, METRICS, b"")
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_port_in_use_is_one_line_and_exit_1(tmp_path):
    collector = Collector(tmp_path, {"moesif": "http://127.0.0.1:9"})
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", collector.grpc_port))
        squatter.listen()
        with collector.start() as process:
            assert process.wait(20) == 1, process.output()
    said = process.output()
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if str(collector.grpc_port) in line and "in use" in line]
    assert "otlp" in line


def test_sigterm_under_load_ends_in_time_and_keeps_everything(tmp_path):
    with sandbox(tmp_path) as moesif:
        collector = Collector(tmp_path, {"moesif": moesif.url})
        with Traffic(collector.target, calls=50) as traffic:
            with collector.run() as process:
                until(lambda: len(traffic.acknowledged) >= 2000, "acknowledgements", timeout=15)
                process.terminate()
                assert process.wait(20) == 0, process.output()
            traffic.stop()
        assert traffic.codes <= {"UNAVAILABLE", "CANCELLED"}
        assert "Traceback" not in process.output()
        missing = traffic.acknowledged - set(moesif.transactions())
        with collector.run():  # what was not delivered is in the journal
            until(lambda: set(moesif.transactions()) >= missing, "the rest", timeout=15)


def test_its_own_counters_can_be_scraped(running):
    assert "otelcol_receiver_accepted_spans" in running[0].metrics()
