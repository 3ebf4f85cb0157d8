"""``otel-moesif convert``: what files become, and what is said of the rest."""

from __future__ import annotations

import fcntl
import io
import json
import signal
import subprocess
import sys
import termios
from types import SimpleNamespace

import pytest

from otel_moesif.component import Signal
from otel_moesif.otlp.transcode import from_json
from otel_moesif.processors.transform import Transform
from tests.dialects.otlp import FIXTURES
from tests.processes import until

TRACE = "5b8efff798038103d269b633813fc60c"


def attributes(values) -> list:
    return [{"key": key, "value": {"stringValue": str(value)}} for key, value in values.items()]


def spans(number=1, **more) -> dict:
    """One call and its backend, as a gateway of the semantic conventions has them."""
    trace = f"{number:032x}"
    call = {"http.request.method": "GET", "http.response.status_code": 200, "url.path": "/a/b", **more}
    backend = {"http.request.method": "GET", "http.response.status_code": 200, "url.full": "http://x/b"}
    both = [
        {"traceId": trace, "spanId": "b" * 16, "parentSpanId": "a" * 16, "kind": 3,
         "startTimeUnixNano": "1750000000010000000", "endTimeUnixNano": "1750000000090000000",
         "attributes": attributes(backend)},
        {"traceId": trace, "spanId": "a" * 16, "kind": 2,
         "startTimeUnixNano": "1750000000000000000", "endTimeUnixNano": "1750000000100000000",
         "attributes": attributes(call)},
    ]  # fmt: skip
    resource = {"attributes": attributes({"service.name": "shop"})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": both}]}]}


def access_log(number=1) -> dict:
    """The access-log record of the same call."""
    said = {"response_code": "200", "response_flags": "-", "method": "GET", "path": "/a/b"}
    records = [
        {"traceId": f"{number:032x}", "spanId": "a" * 16, "timeUnixNano": "1750000000000000000",
         "attributes": attributes(said)},
        {"timeUnixNano": "1750000000000000000", "body": {"stringValue": "s3cret words"}},
    ]  # fmt: skip
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}


@pytest.fixture
def file(tmp_path):
    def file(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return file


def events(said) -> list[dict]:
    return [json.loads(line) for line in said.out.splitlines()]


def test_a_document_becomes_events_in_the_guides_shape(command, file):
    said = command("convert", file("spans.json", json.dumps(spans(), indent=2)))
    (event,) = events(said)
    assert (event["apiName"], event["apiMethod"], event["backendLatency"]) == ("shop", "GET", 80)
    assert (event["requestTimestamp"], event["properties"]["apiContext"]) == (
        "2025-06-15T15:06:40.000Z",
        "/a",
    )
    assert said.code == 0
    assert said.err == (
        "otel-moesif: 2 spans: 1 event; not API calls of their own: 1 part of a call, or not of HTTP\n"
    )


def test_one_document_per_line_as_the_collectors_file_exporter_writes(command, file):
    lines = [json.dumps(spans(1)), "", json.dumps({"resourceMetrics": []}), json.dumps(spans(2))]
    said = command("convert", file("spans.jsonl", "\n".join(lines) + "\n"))
    assert len(events(said)) == 2


def test_a_list_of_documents(command, file):
    assert len(events(command("convert", file("list.json", json.dumps([spans(1), spans(2)]))))) == 2


def test_protobuf_alone_and_behind_lengths(command, file):
    requests = [from_json(Signal.TRACES, json.dumps(spans(n))) for n in (1, 2)]
    assert len(events(command("convert", file("one.bin", requests[0])))) == 1
    framed = b"".join(len(body).to_bytes(4, "big") + body for body in requests)
    assert len(events(command("convert", file("two.bin", framed)))) == 2
    logs = from_json(Signal.LOGS, json.dumps(access_log()))
    assert len(events(command("convert", file("logs.bin", logs)))) == 1


def test_a_call_that_is_reported_twice_is_one_event_and_what_is_left_out_is_said(command, file):
    said = command(
        "convert", file("spans.json", json.dumps(spans())), file("log.json", json.dumps(access_log()))
    )
    assert len(events(said)) == 1
    assert said.err.startswith("otel-moesif: 2 spans, 2 log records: 1 event; not API calls of their own: ")
    for reason in ("1 reported twice", "1 not an access-log record", "1 part of a call"):
        assert reason in said.err
    assert "s3cret" not in said.err


def test_every_line_of_a_text_is_the_body_of_a_log_record(command, file):
    said = command("convert", file("app.log", 'started\n{"level": "info"}\n\nGET /x 200\n'))
    assert (said.out, said.code) == ("", 0)
    assert said.err == (
        "otel-moesif: 3 log records: 0 events; not API calls of their own: 3 not an access-log record\n"
    )


def test_a_real_line_of_apim_metrics_log(command):
    line = FIXTURES / "wso2" / "response_event.sample_reporter.log"
    if not line.exists():
        pytest.skip("../shared/fixtures/wso2 is not here")
    (event,) = events(command("convert", line))
    assert (event["apiName"], event["applicationName"], event["backendLatency"]) == (
        "PizzaShackAPI", "internal-key-app", 335,
    )  # fmt: skip


def test_a_real_payload_of_kong(command):
    payload = FIXTURES / "gateways" / "kong"
    if not payload.exists():
        pytest.skip("../shared/fixtures/gateways/kong is not here")
    (event,) = events(command("convert", *sorted(payload.glob("*.json"))))
    assert (event["gatewayType"], event["proxyResponseCode"]) == ("KONG", 200)


def test_stdin(command, monkeypatch):
    content = io.BytesIO(json.dumps(spans()).encode())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=content))
    assert len(events(command("convert", "-"))) == 1


def test_as_moesif_gets_them(command, file):
    (event,) = events(command("convert", "--moesif", file("spans.json", json.dumps(spans()))))
    assert (event["request"]["verb"], event["response"]["status"]) == ("GET", 200)
    assert event["metadata"]["apiName"] == "shop"


def test_the_dialect_can_be_chosen(command, file):
    path = file("spans.json", json.dumps(spans()))
    (event,) = events(command("convert", path, "--gateway", "krakend"))
    assert event["gatewayType"] == "KRAKEND"
    said = command("convert", path, "--gateway", "enovy")
    assert said.code == 2
    assert said.err.startswith('--gateway: no dialect "enovy" (installed: ')
    assert len(said.err.splitlines()) == 1


CONFIG = """
receivers: {otlp: }
processors:
  apim_event/mine:
    fields: {apiVersion: {value: v7}}
exporters:
  moesif: {application_id: "${env:A_SECRET_THAT_IS_NOT_HERE}"}
service:
  pipelines:
    traces: {receivers: [otlp], processors: [apim_event/mine], exporters: [moesif]}
"""


def test_the_processors_of_a_configuration_whose_secrets_are_elsewhere(command, file):
    path, config = file("spans.json", json.dumps(spans())), file("mine.yaml", CONFIG)
    said = command("convert", path, "--config", config)
    assert [event["apiVersion"] for event in events(said)] == ["v7"]
    said = command("convert", path, "--config", config, "--gateway", "krakend")
    assert [(event["apiVersion"], event["gatewayType"]) for event in events(said)] == [("v7", "KRAKEND")]


def test_without_a_pipeline_for_them_log_records_are_left_out(command, file):
    said = command("convert", file("log.json", json.dumps(access_log())), "-c", file("mine.yaml", CONFIG))
    assert (said.code, said.out) == (0, "")
    assert "2 log records: 0 events; not API calls of their own: 2 no pipeline for logs" in said.err


def test_what_a_processor_counted_before_another_failed_counts_once(command, file, monkeypatch):
    process = Transform.process

    def process_or_fail(self, events):
        if "/guilty" in events.frame["apiContext"]:
            raise ZeroDivisionError
        return process(self, events)

    monkeypatch.setattr(Transform, "process", process_or_fail)
    further = "  filter: {drop: [\"apiContext = '/health'\"]}\n  transform: {steps: [{delete: [platform]}]}\n"
    chain = "[apim_event/mine, filter, transform]"
    config = CONFIG.replace("exporters:\n", f"{further}exporters:\n", 1).replace("[apim_event/mine]", chain)
    paths = ["/health", "/a", "/health", "/guilty"]
    said = command(
        "convert",
        *(file(f"{n}.json", json.dumps(spans(n, **{"url.path": path}))) for n, path in enumerate(paths, 1)),
        *("--config", file("mine.yaml", config)),
    )
    assert [event["properties"]["apiContext"] for event in events(said)] == ["/a"]
    assert said.err.splitlines()[-1] == (
        "otel-moesif: 8 spans: 1 event; not API calls of their own: 3 part of a call, or not of HTTP, "
        "2 drop[0]; 1 request that a processor cannot take"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("apim_event/mine]", "apim_event/yours]"), 'no processor "apim_event/yours"'),
        (("apiVersion", "apiVersoin"), "apiVersoin: is no field of the event"),
        (("processors: [apim_event/mine], ", ""), "the pipeline ends with spans"),
        (("  pipelines:", "  pipes:"), "there is nothing to run"),
    ],
)
def test_mistakes_in_processors_and_pipelines_are_said(command, file, change, said):
    path = file("spans.json", json.dumps(spans()))
    done = command("convert", path, "-c", file("mine.yaml", CONFIG.replace(*change)))
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"resourceSpans": [{"scopeSpans": ', "not valid JSON: Expecting value in line 1"),
        (json.dumps(spans()) + '\n{"resourceSpans": [', "line 2 is not valid JSON"),
        (
            json.dumps({"orders": [1, 2]}, indent=1),
            "JSON, but no OTLP: neither resourceSpans nor resourceLogs is at its top",
        ),
        (json.dumps(spans()) + '\n{"resourceSpans": [1]}\n',
         "line 2: not a valid ExportTraceServiceRequest: resourceSpans: must be an object"),
        ('[{"resourceSpans": []}, 7]', "not an OTLP request: not an object"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "neither OTLP (JSON or protobuf) nor text"),
        (b"\xff\xfe", "neither OTLP (JSON or protobuf) nor text"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line_and_exit_1(command, file, content, said):
    path = file("bad", content)
    done = command("convert", path)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"otel-moesif: {path}: {said}\n"


def test_a_damaged_frame_is_said_where(command, file):
    body = from_json(Signal.TRACES, json.dumps(spans()))
    framed = len(body).to_bytes(4, "big") + body
    done = command("convert", file("cut.bin", framed + framed[:-3]))
    assert done.code == 1
    assert done.err.endswith(f"damaged at byte {len(framed)}\n")


def test_a_file_that_is_not_there(command, tmp_path):
    done = command("convert", tmp_path / "nope")
    assert (done.code, done.err) == (1, f"otel-moesif: {tmp_path / 'nope'}: No such file or directory\n")


def test_a_file_of_which_nothing_can_be_taken_is_named(command, file):
    span = {"traceId": "00", "spanId": "00", "name": "x"}
    bad = file("bad.json", json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}))
    done = command("convert", bad)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(
        f"otel-moesif: {bad}: not a valid ExportTraceServiceRequest: none of its spans"
    )


def test_ctrl_c_ends_the_wait_for_standard_input():
    with subprocess.Popen(
        [sys.executable, "-m", "otel_moesif", "convert", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Whoever runs the tests in the background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    ) as process:
        process.stdin.write(b"a line")
        process.stdin.flush()
        until(lambda: not unread(process.stdin), "the command to read")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert b"Traceback" not in process.stderr.read()


def unread(pipe) -> int:
    """Bytes that stand in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_an_empty_file_is_nothing(command, file):
    assert command("convert", file("empty", b"")).err == "otel-moesif: nothing: 0 events\n"


def test_whoever_has_seen_enough_may_go(file):
    lines = "\n".join(json.dumps(spans(number)) for number in range(1, 400))
    arguments = [sys.executable, "-m", "otel_moesif", "convert", str(file("many.jsonl", lines))]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read().decode()
    assert "Traceback" not in error
    assert "BrokenPipe" not in error
    assert "798 spans: 399 events" in error
