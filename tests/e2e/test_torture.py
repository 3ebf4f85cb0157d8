"""The torture (``make torture``) in its short forms, and that it would notice a loss."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.torture.report import Report
from tests.torture.run import QUICK, SLOW, Plan, torture


def test_nothing_acknowledged_is_lost_by_kills_and_stops(tmp_path):
    report = torture(Plan(seed=7, kills=6, terms=3, shutdown_timeout=3), tmp_path)
    assert report.held, report.table()
    assert (report.kills, report.terms) == (6, 3)
    assert min(report.delivered[QUICK], report.delivered[SLOW]) >= report.acknowledged > 0
    assert report.requests["repeated"] > 0
    assert report.repeated[SLOW] > 0  # or the run was too gentle to show anything


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_by_many_of_them(tmp_path):
    file = tmp_path / "report.json"
    options = ["--kills", "20", "--terms", "10", "--report", str(file), "--directory", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture", *options],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(file.read_text())
    assert report["verdict"] == "nothing acknowledged was lost"
    assert (report["kills"], report["terms"]) == (20, 10)
    assert not list(tmp_path.glob("otel-moesif-torture-*"))  # kept only for whoever has to look into it


def test_a_lost_call_and_an_invented_one_are_told_by_their_ids():
    report = Report(seed=1)
    report.compare("moesif", {"there": 3, "invented": 1}, {"there", "lost"}, {"there", "lost", "given-up"})
    assert not report.held
    assert report.repeated == {"moesif": 2}
    assert report.as_json()["verdict"] == "BROKEN"
    assert "missing at moesif: lost" in report.table()
    assert "never sent at moesif: invented" in report.table()
    assert "given-up" not in report.table()
