"""``otel-moesif demo``: where it looks for the collector that it starts."""

from __future__ import annotations

import pytest

from otel_moesif.demo.run import Addresses

ELSEWHERE = """
receivers: {otlp: {protocols: {grpc: {endpoint: "localhost:1"}}}}
processors: {apim_event: {}}
exporters: {moesif: {application_id: sandbox, endpoint: "http://localhost:2"}}
extensions: {moesif_sandbox: {endpoint: "localhost:2"}}
service:
  extensions: [moesif_sandbox]
  pipelines: {traces: {receivers: [otlp], processors: [apim_event], exporters: [moesif]}}
"""


def test_it_looks_where_the_configuration_says(tmp_path):
    pytest.importorskip("otel_moesif_sandbox")
    file = tmp_path / "collector.yaml"
    file.write_text(ELSEWHERE)
    assert Addresses.of(file) == Addresses("localhost:1", "http://localhost:2")


def test_what_is_wrong_with_a_configuration_is_left_for_the_collector_to_say(tmp_path, pytestconfig):
    assert Addresses.of(tmp_path / "nope.yaml") == Addresses()
    assert Addresses.of(pytestconfig.rootpath / "collector.yaml") == Addresses()
