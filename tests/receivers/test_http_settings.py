"""Options of ``protocols``: which are spoken, and what is no option."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from otel_moesif.receivers.otlp.http_settings import HttpSettings
from otel_moesif.receivers.otlp.settings import OtlpSettings


@pytest.mark.parametrize(
    ("options", "spoken"),
    [
        ({}, {"grpc", "http"}),
        ({"protocols": {}}, {"grpc", "http"}),
        ({"protocols": {"grpc": {}}}, {"grpc"}),
        ({"protocols": {"http": {}}}, {"http"}),
        ({"protocols": {"grpc": {}, "http": {}}}, {"grpc", "http"}),
    ],
)
def test_those_protocols_are_spoken_that_are_named(options, spoken):
    protocols = OtlpSettings.model_validate(options).protocols
    assert {name for name, found in protocols if found} == spoken


def test_the_defaults_are_local_and_have_an_end():
    settings = HttpSettings()
    assert settings.endpoint == "localhost:4318"
    assert (settings.traces_url_path, settings.logs_url_path) == ("/v1/traces", "/v1/logs")
    assert (settings.max_request_body_size, settings.max_inflated_size) == (20 << 20, 64 << 20)
    for name in ("read_timeout", "read_header_timeout", "write_timeout", "idle_timeout"):
        assert getattr(settings, name).total_seconds() > 0


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint": "4318"},
        {"traces_url_path": "v1/traces"},
        {"traces_url_path": "/v1/logs"},
        {"read_timeout": "0"},
        {"max_connections": 0},
        {"cors": {}},
        {"cors": {"allowed_origins": ["https://*.*.example.com"]}},
        {"metrics_url_path": "/v1/metrics"},
    ],
)
def test_what_cannot_be(options):
    with pytest.raises(ValidationError):
        HttpSettings.model_validate(options)
