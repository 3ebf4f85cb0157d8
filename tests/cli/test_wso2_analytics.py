"""Values in deployment.toml that are written in more than one way."""

from __future__ import annotations

import pytest

from otel_moesif.cli.wso2_analytics import CARRIED, NONE, read_analytics


def read(setting):
    found = read_analytics(f"[apim.analytics.properties]\n{setting}\n", redact=True)
    (row,) = found.rows
    return found, row


@pytest.mark.parametrize(
    ("value", "samples"), [("true", True), ("false", False), ('"true"', True), ('"False"', False)]
)
def test_whether_moesif_samples_is_carried_over_as_flag_and_as_text(value, samples):
    found, row = read(f"sampling_enabled = {value}")
    assert found.samples is samples
    assert (row.outcome, row.note) == (CARRIED, f"exporters.moesif.sampling.enabled: {str(samples).lower()}")


@pytest.mark.parametrize("value", ['"off"', "7", '"$env{SAMPLING}"'])
def test_what_is_neither_true_nor_false_is_said(value):
    found, row = read(f"sampling_enabled = {value}")
    assert found.samples is None
    assert row.outcome == NONE
    assert "neither true nor false" in row.note


@pytest.mark.parametrize("region", ["$env{REGION}", "$sys{region}", "eu-$ref{a.b}", "$secret{region}"])
def test_a_placeholder_is_not_taken_for_the_region(region):
    found, row = read(f"'apim.gw.region' = \"{region}\"")
    assert found.fields == {}
    assert row.outcome == NONE
    assert "set it by hand: processors.apim_event.fields.regionId" in row.note
