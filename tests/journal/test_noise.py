# ruff: noqa: S311 - dice that fall the same each time; our own names only
from __future__ import annotations

import os
import random
import shutil
from contextlib import closing

import pytest

from otel_moesif.journal.salvage import needs_salvage, salvage
from tests.journal.journals import PAGE, change, checked, contents, cursors, in_one_file, wrong


def spoil(path, dice):
    """Damage a file as disks do."""
    size = path.stat().st_size
    at = dice.randrange(size)
    match dice.choice(("bit", "byte", "noise", "sector", "page", "zeros")):
        case "bit":
            bit = 1 << dice.randrange(8)
            change(path, at, lambda old: bytes([old[0] ^ bit]), 1)
        case "byte":
            change(path, at, dice.randbytes(1))
        case "noise":
            change(path, at, dice.randbytes(min(size - at, dice.randrange(2, 600))))
        case "sector":
            change(path, at // 512 * 512, dice.randbytes(512)[: size - at // 512 * 512])
        case "page":
            change(path, at // PAGE * PAGE, dice.randbytes(PAGE)[: size - at // PAGE * PAGE])
        case "zeros":
            change(path, at, bytes(min(size - at, 2 * PAGE)))


def nothing_is_lost_silently(made, may_miss=frozenset()):
    """Repair what needs it; whatever is missing then was reported. Gives how many rows are missing."""
    reason = needs_salvage(made.directory)
    result = salvage(made.directory, reason) if reason else None
    with closing(checked(made.directory)) as connection:
        missing = made.states[-1] - contents(connection) - may_miss
        if result is None:
            assert len(missing) <= wrong(connection)  # its reader sees each by its checksum
        elif missing:
            assert not result.complete
            assert result.frames or result.damaged + result.unreadable
        for exporter, position in cursors(connection).items():
            assert position <= made.cursors[exporter]
    return len(missing)


@pytest.mark.parametrize("group", range(20))
def test_noise_in_the_log_loses_nothing_silently(base, tmp_path, group):
    # The last transaction cannot be told from one that a power cut has torn.
    last = base.states[-1] - base.states[-2]
    for case in range(10):
        dice = random.Random(1000 * group + case)
        made = base.copy(tmp_path / str(case))
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            spoil(made.log, dice)
        nothing_is_lost_silently(made, last)
        shutil.rmtree(made.directory)


@pytest.mark.parametrize("group", range(20))
@pytest.mark.parametrize("with_log", [True, False])
def test_noise_in_the_database_loses_nothing_silently(base, tmp_path, group, with_log):
    whole = base.copy(tmp_path / "whole")
    if not with_log:
        in_one_file(whole)
    for case in range(10):
        dice = random.Random(5000 + 1000 * group + case)
        made = whole.copy(tmp_path / str(case))
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            spoil(made.path, dice)
        nothing_is_lost_silently(made)
        shutil.rmtree(made.directory)


@pytest.mark.slow
def test_a_database_cut_anywhere_loses_nothing_silently(base, tmp_path):
    dice = random.Random(7)
    whole = base.copy(tmp_path / "whole")
    in_one_file(whole)
    size = whole.path.stat().st_size
    for case, length in enumerate(
        [0, 1, 99, 100, PAGE, PAGE + 1, *(dice.randrange(size) for _ in range(20))]
    ):
        made = whole.copy(tmp_path / str(case))
        os.truncate(made.path, length)
        assert needs_salvage(made.directory), length
        assert nothing_is_lost_silently(made)
        shutil.rmtree(made.directory)


@pytest.mark.parametrize("log", [True, False])
def test_files_that_are_all_noise_leave_an_empty_journal_and_a_report(made, log):
    made.path.write_bytes(os.urandom(made.path.stat().st_size))
    if log:
        made.log.write_bytes(os.urandom(made.log.stat().st_size))
    else:
        made.log.unlink()
    result = salvage(made.directory, needs_salvage(made.directory))
    assert result.unreadable >= 8
    with closing(checked(made.directory)) as connection:
        assert not contents(connection)
