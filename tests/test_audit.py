"""The look-up of known flaws, with a pip-audit that answers as told (its JSON format)."""

from __future__ import annotations

import json

import pytest

from tests.audit import audit

CLEAN = {"name": "h2", "version": "4.4.1", "vulns": []}
SKIPPED = {"name": "isal", "skip_reason": "Dependency not found and could not be audited: isal"}
GUILTY = {
    "name": "grpcio",
    "version": "1.0.0",
    "vulns": [{"id": "PYSEC-2023-1", "fix_versions": ["1.53.2"], "aliases": [], "description": ""}],
}


@pytest.mark.parametrize(
    ("packages", "code", "words"),
    [
        ([CLEAN, SKIPPED], 0, "1 of 2 pinned versions looked up, 0 known flaws"),
        ([CLEAN, GUILTY], 1, "grpcio 1.0.0: PYSEC-2023-1, fixed in 1.53.2"),
        ([SKIPPED], 0, "skipped"),
        (None, 0, "skipped"),
    ],
)
def test_a_known_flaw_fails_and_an_unreachable_source_only_says_so(tmp_path, capsys, packages, code, words):
    command = tmp_path / "pip-audit"
    answer = "cannot connect" if packages is None else json.dumps({"dependencies": packages, "fixes": []})
    command.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
    command.chmod(0o755)
    assert audit(str(command)) == code
    assert words in capsys.readouterr().out


def test_a_missing_pip_audit_only_says_so(tmp_path, capsys):
    assert audit(str(tmp_path / "none")) == 0
    assert "skipped" in capsys.readouterr().out
