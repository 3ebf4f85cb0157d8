"""The command line in this process, on a journal of its own."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from otel_moesif.cli import main
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.settings import JournalSettings


@dataclass
class Said:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run a command in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments) -> Said:
        monkeypatch.setattr(sys, "argv", ["otel-moesif", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Said(ended.value.code or 0, said.out, said.err)

    return command


@pytest.fixture
def journal(tmp_path):
    """A collector's journal, in ``journal``; as long as it is open, the collector runs."""
    journal = Journal(JournalSettings(directory=tmp_path / "journal", keep_raw="1h"))
    yield journal
    journal.close()


@pytest.fixture
def on_journal(command, journal):
    """Run a command on that journal."""

    def on_journal(*arguments) -> Said:
        return command(*arguments, "--directory", "journal")

    return on_journal
