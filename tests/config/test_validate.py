import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from otel_moesif import ComponentId, ConfigError, Signal
from otel_moesif.config import Pipeline, PipelineId
from otel_moesif.config.model import LogLevel
from otel_moesif.settings import BatchSettings

MOESIF = ComponentId("moesif")
EVERYTHING_SAID = Path(__file__).with_name("everything_wrong.txt")


def problems(check, text, *overrides, **environ):
    with pytest.raises(ConfigError) as caught:
        check(text, *overrides, **environ)
    return str(caught.value).splitlines()


def test_a_good_configuration(check, good):
    config = check(good)
    assert config.pipelines == {
        PipelineId(Signal.TRACES): Pipeline(
            Signal.TRACES,
            (ComponentId("otlp"),),
            (ComponentId("apim_event"), ComponentId("drop")),
            (MOESIF, ComponentId("debug")),
        )
    }
    assert config.service.extensions == (ComponentId("sandbox"),)
    configured = config.exporters[MOESIF]
    assert (configured.id, configured.factory.type) == (MOESIF, "moesif")
    assert configured.settings.application_id.get_secret_value() == "local"
    assert config.receivers[ComponentId("otlp")].settings.protocols.grpc.endpoint == "localhost:4317"
    assert config.processors[ComponentId("drop")].settings.limit == 3


def test_the_defaults_of_service(check, good):
    service = check(good).service
    assert service.telemetry.logs.level is LogLevel.INFO
    assert service.telemetry.metrics.address == "localhost:8888"
    assert service.telemetry.metrics.otlp is None
    assert service.journal.directory == Path("data")
    assert service.intake.max_bytes == 64 << 20
    assert service.shutdown_timeout == timedelta(seconds=20)


def test_the_configuration_is_frozen_and_hides_its_raw_data(check, good):
    config = check(good, "exporters.moesif.application_id=hunter2")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.service = None
    assert "hunter2" not in repr(config)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("application_id=0123", "0123"),
        ("application_id=", ""),
        ("note=0123", "0123"),
        ("note=null", None),
        ("note=", ""),
        ("timeout=1m30s", timedelta(seconds=90)),
        ("timeout=0", timedelta(0)),
        ("body_limit=4MiB", 4 << 20),
        ("body_limit=1000", 1000),
        ("tls=true", True),
        ("tls=yes", True),
        ("ratio=0.5", 0.5),
        ("port=9000", 9000),
        ("port=auto", "auto"),
        ("regions=[us, 01]", ["us", "01"]),
        ("regions=null", ["eu"]),
        ("mode=none", "none"),
        ("sending_queue.num_consumers=4", None),
    ],
)
def test_values_from_the_command_line_and_from_variables_fit_their_target(check, good, override, value):
    key, _, text = override.partition("=")
    if key.startswith("sending_queue"):
        assert (
            check(good, f"exporters.moesif.{override}").exporters[MOESIF].settings.sending_queue.num_consumers
            == 4
        )
        return
    for config in (
        check(good, f"exporters.moesif.{override}"),
        check(good, f"exporters.moesif.{key}=${{env:V}}", V=text),
    ):
        found = getattr(config.exporters[MOESIF].settings, key)
        assert (found.get_secret_value() if key == "application_id" else found) == value


def test_null_means_the_defaults_of_a_group(check, good):
    config = check(good, "exporters.moesif.sending_queue=null", "service.telemetry=null", "service.journal=")
    assert config.exporters[MOESIF].settings.sending_queue.num_consumers == 2
    assert config.service.telemetry.logs.level is LogLevel.INFO
    with_push = check(good, "service.telemetry.metrics.otlp.endpoint=localhost:4317")
    assert with_push.service.telemetry.metrics.otlp.interval == timedelta(seconds=60)
    assert check(good, "service.telemetry.metrics.otlp=null").service.telemetry.metrics.otlp is None


def test_a_whole_component_may_come_from_a_file(check, good, tmp_path):
    (tmp_path / "moesif.yaml").write_text("{endpoint: 'http://${HOST}', application_id: '0x12'}\n")
    config = check(good, f"exporters.moesif/file=${{file:{tmp_path / 'moesif.yaml'}}}", HOST="h")
    settings = config.exporters[ComponentId("moesif", "file")].settings
    assert (settings.endpoint, settings.application_id.get_secret_value()) == ("http://h", "0x12")


EVERYTHING = """
recievers: {}
receivers:
  otlp: {protocols: {grpc: {max_recv_msg_size_mib: 0, port: 5}}}
  spans_only:
  kafka: {}
  "bad id!/": {}
processors:
  apim_event: {x: 1}
  drop: {limit: many, limt: 5}
exporters:
  moesif:
    endpoint: nowhere
    application_id: 12345
    timeout: 5 parsecs
    headers: {authorization: [hunter2], "x": "fine"}
    body_limit: 1 furlong
    ratio: 1.5
    mode: some
    tls: maybe
    regions: eu
    port: x
    note: 5
    sending_queue: {batch: {max_size: 500, min_size: 600}, num_consumers: 65}
    retry_on_failure: 5
  moesif/eu: {application_id: "${env:NOPE}"}
  moesif/us: "${file:/no/such/file}"
  moesif/env: {endpoint: "${env:HIDDEN}", application_id: x, timeout: "${env:HIDDEN}", ratio: "${env:TWO}"}
  moesfi:
  debug: [1]
  debug/unused: {sending_queue: {num_consumers: 0}}
extensions: [sandbox]
service:
  extensions: [sandbox, {a: b}]
  telemetry:
    logs: {level: loud, colour: true}
    metrics: {address: 8888, otlp: {interval: 0s, headers: {k: 5}}}
    resource: {service.name: gateway, count: 5}
  journal: {directory: 5}
  shutdown_timeout: -5s
  pipelines:
    traces: {receivers: [otlp, otlp], processors: [drop], exporters: [moesif, nope, moesif/us]}
    traces/b: {receivers: [spans_only], exporters: [debug], connectors: []}
    logs: {receivers: [spans_only, otlp], processors: [apim_event, apim_event], exporters: []}
    logs/c: {receivers: otlp, processors: [gone], exporters: [debug]}
    metrics: {receivers: [otlp], exporters: [debug]}
    trace: {receivers: [otlp], processors: [apim_event], exporters: [debug]}
    " ": []
  shutdown_timeout: 5
"""


def test_everything_wrong_at_once(check, tmp_path):
    found = problems(check, EVERYTHING, TWO="2.0", HIDDEN="hunter2")
    assert "hunter2" not in "\n".join(found)
    said = EVERYTHING_SAID.read_text().replace("FILE", str(tmp_path / "collector.yaml"))
    assert found == said.splitlines()


PIPELINE = """
receivers: {otlp: {protocols: }}
processors: {apim_event: , drop: }
exporters: {debug: }
extensions: {sandbox: }
"""


@pytest.mark.parametrize(
    ("service", "path", "message"),
    [
        ("{}", "", "there is nothing to run: no pipeline is defined and no extension enabled"),
        ("{pipelines: }", "", "there is nothing to run"),
        (
            "{pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}",
            "::traces::processors",
            "the pipeline ends with spans, but exporters take events (add the processor apim_event)",
        ),
        (
            "{pipelines: {logs: {receivers: [otlp], exporters: [debug]}}}",
            "::logs::processors",
            "the pipeline ends with log records, but exporters take events (add the processor apim_event)",
        ),
        (
            "{pipelines: {traces: {receivers: [otlp], processors: [drop, apim_event], exporters: [debug]}}}",
            "::traces::processors",
            '"drop" takes events, but spans arrive there (put apim_event before it)',
        ),
        (
            "{pipelines: {traces: {receivers: [otlp], exporters: [debug], "
            "processors: [apim_event, apim_event]}}}",
            "::traces::processors",
            '"apim_event" is listed twice',
        ),
        (
            "{pipelines: {traces: {receivers: [otlp], processors: [apim_event, no], exporters: [debug]}}}",
            "::traces::processors",
            'no processor "no" (configured: apim_event, drop)',
        ),
        ("{pipelines: {traces: , ' traces': }}", ":: traces", "is the same pipeline as one above"),
        ("{pipelines: [traces]}", "", "must be a map (got a list)"),
    ],
)
def test_pipelines(check, service, path, message):
    found = problems(check, f"{PIPELINE}\nservice: {service}\n")
    assert any(line.startswith(f"service::pipelines{path}: {message}") for line in found), found


def test_an_address_for_the_metrics_that_is_none(check, good):
    assert problems(check, good, "service.telemetry.metrics.address=hunter2") == [
        "service::telemetry::metrics::address: must be host:port, for example localhost:4317"
    ]
    assert check(good, "service.telemetry.metrics.address=null").service.telemetry.metrics.address is None


def test_a_service_that_is_no_map(check):
    assert "service: must be a map of options (got a list)" in problems(check, f"{PIPELINE}\nservice: []\n")


def test_only_an_extension_is_enough(check):
    assert check(f"{PIPELINE}\nservice: {{extensions: [sandbox]}}").pipelines == {}


def test_an_empty_file_says_what_is_missing(check):
    assert problems(check, "")[0].startswith("service::pipelines: there is nothing to run")


def test_problems_come_in_the_order_of_the_file(check):
    found = problems(check, "service: {x: 1}\nexporters: {moesif: , nope: }\nreceivers: {b: , a: }\n")
    assert [line.split(": ")[0] for line in found] == [
        "service::pipelines",
        "service::x",
        "exporters::moesif::endpoint",
        "exporters::moesif::application_id",
        "exporters::nope",
        "receivers::b",
        "receivers::a",
    ]


def test_a_smaller_batch_needs_one_option_only():
    assert BatchSettings.model_validate({"max_size": 500}).min_size == 500
    assert BatchSettings.model_validate({"max_size": 5000}).min_size == 2000
    assert BatchSettings.model_validate({"max_size": 500, "min_size": 20}).min_size == 20
