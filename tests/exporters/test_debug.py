"""The debug exporter: what it says at each verbosity."""

from __future__ import annotations

import json
import logging

import pytest

from otel_moesif.exporters.debug import FACTORY, MOST_EVENTS

FAULT = {"eventType": "fault", "proxyResponseCode": 429}


@pytest.fixture
def said(context, caplog):
    def export(events, **options):
        with caplog.at_level(logging.INFO):
            FACTORY.build(FACTORY.config(**options), context).export(events)
        return [record.getMessage() for record in caplog.records]

    return export


def test_basic_is_one_line_of_counts(said, events):
    assert said(events({}, FAULT, {})) == ["3 events: 2 responses, 1 faults"]


def test_normal_is_one_line_per_event(said, events):
    assert said(events({}, FAULT), verbosity="normal")[1:] == [
        "response GET Pizza /order/{id} 200 73 ms",
        "fault GET Pizza /order/{id} 429 -",
    ]


def test_detailed_is_the_documented_event(said, events):
    [_, line] = said(
        events({"requestHeaders": [{"key": "authorization", "value": "s3cret"}]}), verbosity="detailed"
    )
    assert json.loads(line)["backendLatency"] == 13
    assert "s3cret" not in line


def test_no_value_starts_a_line_of_its_own(said, events):
    [_, line] = said(events({"apiName": "a\nERROR\x1b[31m\u2028b"}), verbosity="normal")
    assert line == "response GET a?ERROR?[31m?b /order/{id} 200 73 ms"


def test_a_large_batch_is_cut(said, events):
    lines = said(events(*[{}] * (MOST_EVENTS + 5)), verbosity="normal")
    assert len(lines) == MOST_EVENTS + 2
    assert lines[-1] == "… and 5 more"


def test_an_empty_batch(said, events):
    assert said(events().slice(0, 0), verbosity="detailed") == ["0 events: 0 responses, 0 faults"]
