"""Inflation of gRPC messages: the same bytes come out, bombs cost little, nothing may follow."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_moesif.errors import InvalidData, TooLarge
from otel_moesif.receivers.otlp.grpc_body import Inflation

MIB = 1 << 20
STEP = 16 << 10
PACKERS = {"gzip": gzip.compress, "deflate": zlib.compress}


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # noqa: S311  # the same each time


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
@pytest.mark.parametrize("size", [0, 1, STEP - 18, STEP, STEP + 1, 5 * STEP, 3 * MIB])
def test_what_was_compressed_comes_back(pack, size):
    for content in (b"\n" + noise(size), b"\n" + bytes(size // 8) + noise(size // 8)):
        assert Inflation(8 * MIB, 200).inflated(pack(content)) == content


@given(cut=st.integers(1, 3 * STEP), size=st.integers(1, 4 * STEP))
def test_what_is_cut_off_is_invalid(cut, size):
    whole = gzip.compress(noise(size), 1)
    with pytest.raises(InvalidData):
        Inflation(MIB, 200).inflated(whole[: max(3, len(whole) - cut)])


def test_nothing_may_follow_not_even_where_a_step_ends():
    # Stored blocks have a size that can be reckoned: 18 bytes of gzip and 5 of a block.
    content = noise(STEP - 23)
    whole = gzip.compress(content, 0)
    assert len(whole) == STEP
    assert Inflation(MIB, 200).inflated(whole) == content
    for more in (b"x", bytes(STEP), whole):
        with pytest.raises(InvalidData, match="follows"):
            Inflation(MIB, 200).inflated(whole + more)


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_a_bomb_is_known_by_its_first_kilobytes(pack):
    bomb = pack(bytes(128 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="200 times"):
            Inflation(64 * MIB, 200).inflated(bomb)
        assert tracemalloc.get_traced_memory()[1] < 12 * MIB
    finally:
        tracemalloc.stop()


def test_a_short_message_is_judged_by_its_own_size():
    with pytest.raises(TooLarge, match="200 times"):
        Inflation(64 * MIB, 200).inflated(gzip.compress(bytes(2 * MIB)))


def test_the_size_bounds_what_no_ratio_does():
    with pytest.raises(TooLarge, match="larger than 4MiB"):
        Inflation(4 * MIB, 1_000_000).inflated(gzip.compress(bytes(5 * MIB)))
