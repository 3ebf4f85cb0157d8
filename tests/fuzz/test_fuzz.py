# ruff: noqa: S311 - chance, not secrets
"""The short form of ``python -m tests.fuzz``, and whether it would notice anything."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_moesif.component import Signal
from otel_moesif.otlp.check import Checked
from tests.fuzz import oracle as module
from tests.fuzz.oracle import Oracle
from tests.fuzz.payloads import Payloads, corpus, of_bytes

PAYLOADS = 2_000


def test_what_is_checked_can_be_decoded_and_the_rest_is_refused():
    oracle, payloads = Oracle(), Payloads(random.Random(), corpus())
    for _ in range(PAYLOADS):
        oracle.examine(payloads.next())
    oracle.finish()
    # Fuzzing that reaches only one of these would be idle.
    for signal in Signal:
        for outcome in ("taken", "taken in part", "refused: malformed", "refused: of another signal"):
            assert oracle.outcomes[f"{signal} {outcome}"] > PAYLOADS / 100, oracle.outcomes


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False))
def test_so_it_is_with_payloads_that_shrink(dice):
    oracle = Oracle()
    oracle.examine(Payloads(dice).next())
    oracle.finish()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60))
def test_so_it_is_with_any_bytes(payload):
    oracle = Oracle()
    oracle.examine(payload)
    oracle.finish()


def test_a_check_that_takes_too_much_is_noticed(monkeypatch):
    monkeypatch.setattr(module, "check", lambda signal, body: Checked(1, body))
    bad_text = of_bytes(1, of_bytes(2, of_bytes(2, of_bytes(5, b"\xff"))))
    with pytest.raises(Exception, match="UTF-8"):
        Oracle().examine(bad_text)


def test_a_check_that_takes_too_little_is_noticed(monkeypatch):
    monkeypatch.setattr(module, "check", lambda signal, body: Checked(0, b""))
    payloads = Payloads(random.Random(1))
    good = payloads.request(payloads.span)
    with pytest.raises(AssertionError):
        Oracle().examine(good)
