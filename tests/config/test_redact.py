import yaml

from otel_moesif.config.redact import show, to_yaml


def test_a_password_in_a_url_ends_at_the_last_at_sign():
    assert (
        show("http://me:hunter@2!@proxy.example:8080/a@b?c") == "http://[REDACTED]@proxy.example:8080/a@b?c"
    )
    assert show("http://proxy.example/a@b") == "http://proxy.example/a@b"


def test_secrets_do_not_show_and_defaults_do(check, good):
    config = check(
        good,
        "exporters.moesif.headers={authorization: hunter2}",
        "exporters.moesif.endpoint=https://user:hunter2@moesif.example/x",
        "exporters.moesif.sending_queue.batch.flush_timeout=200ms",
        "service.telemetry.metrics.otlp={endpoint: 'localhost:1', headers: {k: hunter2}}",
        APPLICATION_ID="hunter2",
    )
    text = to_yaml(config)
    assert "hunter2" not in text
    shown = yaml.safe_load(text)
    assert list(shown) == ["receivers", "processors", "exporters", "extensions", "service"]
    moesif = shown["exporters"]["moesif"]
    assert moesif["application_id"] == "[REDACTED]"
    assert moesif["headers"] == {"authorization": "[REDACTED]"}
    assert moesif["endpoint"] == "https://[REDACTED]@moesif.example/x"
    assert moesif["timeout"] == "10s"
    assert moesif["sending_queue"]["batch"] == {"flush_timeout": "200ms", "min_size": 2000, "max_size": 2000}
    assert moesif["note"] is None
    assert shown["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"] == "localhost:4317"
    assert shown["extensions"] == {"sandbox": {}}
    assert shown["service"]["extensions"] == ["sandbox"]
    assert shown["service"]["pipelines"]["traces"]["processors"] == ["apim_event", "drop"]
    assert shown["service"]["telemetry"]["logs"] == {"level": "info", "encoding": "console"}
    assert shown["service"]["telemetry"]["metrics"]["otlp"]["headers"] == {"k": "[REDACTED]"}
    assert shown["service"]["journal"]["directory"] == "data"
    assert shown["service"]["shutdown_timeout"] == "20s"
