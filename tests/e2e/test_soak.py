"""The short form of ``make soak``: seconds of a Moesif that misbehaves at random."""

from __future__ import annotations

from tests.soak.run import Plan, soak


def test_every_call_arrives_under_one_id_though_moesif_misbehaves_at_random(tmp_path):
    report = soak(Plan(seed=5, seconds=10, share=0.4), tmp_path)
    assert report.held, report.text()
    assert report.repeated, "a lost acknowledgement should have been among what went wrong"
