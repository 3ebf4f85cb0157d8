"""The event model: what Moesif documents as required, and of which type."""

from __future__ import annotations

import pytest
from otel_moesif_sandbox.model import FAULTS_SHOWN, faults


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("request", ...),
        ("request.time", ...),
        ("request.time", "yesterday"),
        ("request.time", "1730263542"),
        ("request.time", "2024-13-01T00:00:00Z"),
        ("request.uri", ...),
        ("request.uri", "pizzas/7"),
        ("request.uri", "/a b"),
        ("request.verb", ...),
        ("request.verb", ""),
        ("request.headers", ...),
        ("request.headers.host", 7),
        ("request.headers.host", None),
        ("request.ip_address", 7),
        ("request.transfer_encoding", "gzip"),
        ("response.time", ...),
        ("response.status", ...),
        ("response.status", "200"),
        ("response.headers", ...),
        ("response.headers.vary", ["a", "b"]),
        ("transaction_id", "a3765025"),
        ("transaction_id", 7),
        ("weight", 0),
        ("weight", 1.5),
        ("weight", True),
        ("direction", "incoming"),
        ("metadata", "text"),
        ("user_id", 7),
        ("span", "00f067aa0ba902b7"),
        ("trace_id", 7),
    ],
)
def test_names_the_event_and_the_field_that_is_wrong(event, field, value):
    (fault,) = faults([event(), event({field: value}), event()], first=1000)
    assert (fault.index, fault.field) == (1001, field)
    assert fault.message


@pytest.mark.parametrize(
    "changes",
    [
        {"response": ...},
        {"response": None},
        {"transaction_id": ...},
        {"request.time": "2024-10-30T04:45:42.914"},
        {"request.time": "2024-10-30T04:45:42+02:00"},
        {"request.headers": {}},
        {"request.uri": "/pizzas/7"},  # as WSO2's own reporter sends them
        {"request.uri": "N/A"},
        {"request.body": {"a": [1]}, "request.transfer_encoding": "json"},
        {"request.body": "AAEC", "request.transfer_encoding": "base64"},
        {"span.id": "00f067aa0ba902b7", "span.parent_id": "b3c3f3c3f3c3f3c3", "trace_id": "0" * 32},
        {"metadata": ..., "weight": ..., "direction": ..., "company_id": "acme", "unheard_of": 1},
    ],
)
def test_takes_every_documented_variant(event, changes):
    assert faults([event(changes)]) == []


def test_an_event_is_an_object():
    assert [(fault.index, fault.field) for fault in faults([{}, "text"])] == [(0, "request"), (1, "")]


def test_lists_the_first_faults_only(event):
    assert len(faults([event({"weight": 0})] * 1000)) == FAULTS_SHOWN


def test_never_repeats_a_value(event):
    changes = {"request.uri": "/key=s3cret", "direction": "s3cret", "weight": "s3cret", "user_id": ["s3cret"]}
    assert "s3cret" not in str(faults([event(changes)]))
