# ruff: noqa: S608 - dice that fall the same each time; our own names only
from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing

import pytest

from otel_moesif.journal import swap as swap_module
from otel_moesif.journal.salvage import needs_salvage, salvage, upgrade
from otel_moesif.journal.schema import checksum
from otel_moesif.journal.swap import finish_swap
from tests.journal.journals import (
    PAGE,
    STRIDE,
    change,
    checked,
    contents,
    make_v1,
    sequences,
)


class PowerCut(BaseException):
    """Nothing more happens."""


def interrupted(monkeypatch, step):
    """Let the power fail before this change of a directory; gives a function that says if it did."""
    left = [step]

    def counted(real):
        def call(*args, **kwargs):
            if left[0] <= 0:
                raise PowerCut
            left[0] -= 1
            return real(*args, **kwargs)

        return call

    for name in ("rename", "unlink"):
        monkeypatch.setattr(swap_module.Path, name, counted(getattr(swap_module.Path, name)))
    monkeypatch.setattr(swap_module.os, "fsync", counted(os.fsync))
    return lambda: left[0] <= 0


@pytest.mark.parametrize("old", ["damaged", "version 1"])
def test_a_salvage_may_be_interrupted_anywhere(base, tmp_path, monkeypatch, old):
    if old == "damaged":
        whole = base.copy(tmp_path / "whole")
        change(whole.log, 32 + 20 * STRIDE + 100, b"noise")
        expected, work = base.states[0], lambda directory: salvage(directory, "test")
    else:
        make_v1(tmp_path / "whole")
        expected, work = None, upgrade
    step, states = 0, set()
    while True:
        directory = tmp_path / f"step{step}"
        shutil.copytree(tmp_path / "whole", directory)
        with monkeypatch.context() as patch:
            # What comes before the swap changes nothing that counts; discarding must not be counted then.
            patch.setattr("otel_moesif.journal.remake.discard_unfinished", lambda directory: None)
            fell = interrupted(patch, step)
            try:
                work(directory)
            except PowerCut:
                pass
            else:
                break
            assert fell()
        now = {file.name for file in directory.iterdir()}
        assert (
            "journal.db" in now or "journal.db-wal" not in now
        )  # SQLite would take it for another database's
        states.add(tuple(sorted(file.name for file in directory.iterdir() if "copy" not in file.name)))
        reason = needs_salvage(directory)
        if reason or old == "version 1":
            work(directory)
        with closing(checked(directory)) as connection:
            if expected is not None:
                assert contents(connection) & expected
            assert connection.execute("select count(*) from raw").fetchone()[0] >= 10
        names = {file.name for file in directory.iterdir()}
        aside = {name for name in names if name.startswith("journal-corrupt-")}
        # One salvage, one pair of files; and nothing else is left.
        assert len(aside) == (2 if old == "damaged" else 0), names
        assert names - aside <= {"journal.db", "journal.db-wal", "journal.db-shm"}
        step += 1
    assert step >= 8
    assert len(states) >= 3


def test_what_an_interrupted_salvage_left_unfinished_is_deleted(made):
    for name in ("journal.salvaging.db", "journal.salvaging.db-wal", "journal.salvaging.copy"):
        (made.directory / name).write_bytes(b"half")
    assert needs_salvage(made.directory) is None
    assert {file.name for file in made.directory.iterdir()} <= {
        "journal.db",
        "journal.db-wal",
        "journal.db-shm",
    }


def test_a_second_salvage_in_the_same_second_sets_aside_under_another_name(made):
    first, second = (salvage(made.directory, "test").set_aside for _ in range(2))
    assert first != second
    assert first.exists()
    assert second.exists()
    assert first.name[:16] == "journal-corrupt-"
    assert len(first.name) == len("journal-corrupt-20261125T160300Z.db")


def test_without_a_swap_there_is_nothing_to_finish(made):
    before = {file.name: file.read_bytes() for file in made.directory.iterdir()}
    finish_swap(made.directory)
    assert {file.name: file.read_bytes() for file in made.directory.iterdir()} == before


def test_a_salvage_that_has_no_room_leaves_all_as_it_was(made, monkeypatch):
    before = {file.name: file.read_bytes() for file in made.directory.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("otel_moesif.journal.rescue.shutil.copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        salvage(made.directory, "test")
    assert {file.name: file.read_bytes() for file in made.directory.iterdir()} == before


# -- version 1 --------------------------------------------------------------------------------------------


def test_a_journal_of_version_1_is_upgraded_with_all_that_it_holds(tmp_path):
    directory = tmp_path / "journal"
    make_v1(directory)
    with closing(sqlite3.connect(directory / "journal.db")) as old:
        tables = ("raw", "events", "held", "dead_letters")
        expected = {t: old.execute(f"select id, body from {t} order by id").fetchall() for t in tables}
        given = sequences(old)
    assert needs_salvage(directory) is None
    result = upgrade(directory)
    assert result.complete
    assert result.set_aside is None
    assert result.events == sum(range(6, 30))
    assert str(result).startswith("journal.db is of version 1; made anew with ")
    with closing(checked(directory)) as connection:
        assert {
            t: connection.execute(f"select id, body from {t} order by id").fetchall() for t in tables
        } == expected
        assert all(
            crc == checksum(body)
            for t in tables
            for crc, body in connection.execute(f"select crc, body from {t}")
        )
        assert connection.execute("select * from cursors").fetchall() == [("a", 7, 3, 1)]
        assert connection.execute(
            "select distinct receiver, response, time from dead_letters"
        ).fetchall() == [("", "", 5.0)]
        assert connection.execute("select min(time) from raw").fetchone()[0] > 1e9
        assert sequences(connection).items() >= given.items()
    assert not list(directory.glob("journal-corrupt-*"))
    assert upgrade(directory) is None


def test_a_damaged_journal_of_version_1_is_salvaged_into_this_version(tmp_path):
    directory = tmp_path / "journal"
    make_v1(directory)
    change(directory / "journal.db", 3 * PAGE, os.urandom(PAGE))
    result = salvage(directory, needs_salvage(directory))
    assert result.set_aside.exists()
    with closing(checked(directory)) as connection:
        assert connection.execute("select count(*) from dead_letters").fetchone()[0]
