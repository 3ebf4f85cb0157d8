from __future__ import annotations

import os
import struct
import time
from contextlib import closing

import pytest

from otel_moesif.journal.schema import create
from otel_moesif.journal.wal import View, _add, _page_sums, inspect
from tests.journal.journals import STRIDE, add, change, connect, leave


def frame(index: int) -> int:
    """Where a frame begins."""
    return 32 + index * STRIDE


def test_the_checksum_of_a_page_is_the_one_that_the_rule_gives_word_by_word():
    pages = [os.urandom(4096), bytes(4096), b"\xff" * 4096, os.urandom(4096)]
    for order in "<>":
        expected = [_add((0, 0), struct.unpack(f"{order}1024I", page)) for page in pages]
        assert _page_sums(b"".join(pages), 4096, order) == expected


def test_a_sound_log_is_valid_to_its_end(made):
    state = inspect(made.log)
    assert len(state.frames) == state.valid == state.readable == (made.log.stat().st_size - 32) // STRIDE > 50
    assert all(state.intact)
    assert not state.damaged
    assert (state.ignored, state.lost, state.torn) == (0, 0, 0)
    assert state.pages(View.COMMITTED) == state.pages(View.PREFIX) == state.pages(View.WRITTEN)


def test_a_missing_or_empty_log_is_sound(tmp_path):
    assert not inspect(tmp_path / "none").damaged
    for size in (0, 1, 31, 32, 500):
        (tmp_path / "log").write_bytes(bytes(size))
        assert not inspect(tmp_path / "log").damaged
        assert inspect(tmp_path / "log").valid == 0


def test_the_pages_of_a_log_are_those_that_sqlite_copies_into_the_database(made):
    state = inspect(made.log)
    frames, size = state.pages(View.COMMITTED)
    pages = dict(state.read(frames))
    with closing(connect(made.path)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()
    database = made.path.read_bytes()
    assert len(database) == size * 4096
    assert all(database[(page - 1) * 4096 : page * 4096] == content for page, content in pages.items())


def test_a_log_of_big_endian_checksums_is_understood(made):
    log = made.log.read_bytes()
    head = struct.pack(">I", 0x377F0683) + log[4:24]
    check = _add((0, 0), struct.unpack(">6I", head))
    parts = [head, struct.pack(">II", *check)]
    for start in range(32, len(log), STRIDE):
        page = log[start + 24 : start + STRIDE]
        check = _add(check, struct.unpack(">2I", log[start : start + 8]))
        check = _add(check, struct.unpack(">1024I", page))
        parts += [log[start : start + 16], struct.pack(">II", *check), page]
    made.log.write_bytes(b"".join(parts))
    state = inspect(made.log)
    assert state.valid == len(state.frames)
    change(made.log, 0, bytes(32))
    assert sum(inspect(made.log).intact) == len(state.frames) - 1
    change(made.log, 0, parts[0] + parts[1])
    with closing(connect(made.path)) as connection:  # SQLite thinks so too
        assert connection.execute("select count(*) from raw").fetchone()[0]
        assert connection.execute("pragma wal_checkpoint(passive)").fetchone()[1] == state.valid


# -- damage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "lost"),
    [(0, 1), (4, 1), (8, 1), (16, 1), (24, 1), (2000, 1), (STRIDE - 1, 1)],
    ids=["page", "size", "salts", "checksum", "content", "middle", "end"],
)
def test_one_wrong_byte_in_a_frame_is_found_and_the_rest_is_intact(made, offset, lost):
    whole = inspect(made.log)
    change(made.log, frame(20) + offset, lambda old: bytes([old[0] ^ 0x41]), 1)
    state = inspect(made.log)
    assert state.damaged
    assert state.readable == 20
    assert state.valid <= 20
    if 8 <= offset < 24:  # the content is as it was, and the next frame vouches for it
        assert all(state.intact)
        assert state.lost == 0
        assert state.pages(View.COMMITTED) == whole.pages(View.COMMITTED)
    else:
        assert state.lost == lost
        assert not state.intact[20]
    assert str(state).startswith("journal.db-wal is damaged at frame 21")


def test_sqlite_would_have_ignored_all_that_follows(made):
    change(made.log, frame(20) + 500, b"noise")
    valid = inspect(made.log).valid
    with closing(connect(made.path)) as connection:
        connection.execute("select count(*) from raw").fetchone()
        assert connection.execute("pragma wal_checkpoint(passive)").fetchone()[1] == valid <= 20


def test_several_wrong_frames_are_found_one_by_one(made):
    for index in (5, 6, 7, 30):
        change(made.log, frame(index), os.urandom(STRIDE))
    state = inspect(made.log)
    # What follows a wrong checksum cannot be checked.
    assert [i for i, intact in enumerate(state.intact) if not intact] == [5, 6, 7, 8, 30, 31]
    assert state.lost == 6


@pytest.mark.parametrize("length", [4, 24, 32, 40, 3 * STRIDE])
def test_without_header_the_frames_are_found_by_their_salts(made, length):
    frames = len(inspect(made.log).frames)
    change(made.log, 0, os.urandom(length))
    state = inspect(made.log)
    assert state.damaged
    assert state.header_damaged
    assert (state.valid, state.readable) == (0, 0)
    assert sum(state.intact) >= frames - length // STRIDE - 2
    assert str(state) == "the header of journal.db-wal is damaged"


def test_noise_instead_of_a_log_is_damage_of_which_nothing_is_intact(made):
    made.log.write_bytes(os.urandom(10 * STRIDE))
    state = inspect(made.log)
    assert state.damaged
    assert state.lost == 9
    assert state.pages(View.COMMITTED) == ({}, 0)


# -- what a kill or a power cut leaves is no damage -------------------------------------------------------


def test_a_torn_end_is_not_damage(made):
    whole = inspect(made.log)
    size = made.log.stat().st_size
    for cut in (1, 500, STRIDE - 1, STRIDE, STRIDE + 1, 2 * STRIDE, 5 * STRIDE + 77):
        os.truncate(made.log, size - cut)
        state = inspect(made.log)
        assert not state.damaged, cut
        assert state.valid < whole.valid
        assert state.valid + state.torn == len(state.frames)


def test_a_last_frame_that_is_half_written_is_not_damage(made):
    last = len(inspect(made.log).frames) - 1
    change(made.log, frame(last) + 2000, bytes(STRIDE - 2000))
    state = inspect(made.log)
    assert not state.damaged
    assert state.torn >= 1


def test_the_rest_of_an_older_log_is_not_damage(tmp_path):
    with closing(connect(tmp_path / "journal.db")) as connection:
        create(connection)
        for _ in range(40):
            add(connection, "raw", os.urandom(9000))
        connection.execute("pragma wal_checkpoint(restart)").fetchall()
        for _ in range(4):
            add(connection, "raw", b"new")
        leave(tmp_path, tmp_path / "left")
    log = tmp_path / "left" / "journal.db-wal"
    state = inspect(log)
    assert 0 < state.valid < 10 < len(state.frames)
    assert not state.damaged
    assert state.torn == 0
    # Also if the new log's end is torn: the frames behind it agree with each other, but are not of this log.
    change(log, frame(state.valid - 1) + 3000, b"torn")
    assert not inspect(log).damaged
    # And if the header is lost, it is the new log that counts.
    change(log, 0, bytes(32))
    assert inspect(log).damaged
    assert 0 < sum(inspect(log).intact) < state.valid


@pytest.mark.parametrize("seed", range(20))
def test_no_changed_byte_in_the_middle_of_a_log_goes_unnoticed(base, tmp_path, seed):
    made = base.copy(tmp_path / "journal")
    state = inspect(made.log)
    commits = [i for i, f in enumerate(state.frames) if f.size]
    at = 37 * seed * 997 % (frame(commits[-2]) - 1)  # the last transaction cannot be told from a torn end
    change(made.log, at, lambda old: bytes([old[0] ^ (1 << seed % 8)]), 1)
    assert inspect(made.log).damaged


def test_a_log_of_16_mib_is_checked_in_less_than_half_a_second(tmp_path):
    with closing(connect(tmp_path / "journal.db")) as connection:
        create(connection)
        body = os.urandom(1 << 20)
        while (tmp_path / "journal.db-wal").stat().st_size < 16 << 20:
            add(connection, "raw", body)
        inspect(tmp_path / "journal.db-wal")
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            state = inspect(tmp_path / "journal.db-wal")
            seconds.append(time.perf_counter() - start)
    assert state.valid == len(state.frames) > 4000
    assert min(seconds) < 0.5
