"""Rows that wait: whatever leaves in whatever order, a restart finds exactly what waited."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_moesif.held import HeldRows, from_ipc


class Store:
    """Held rows and the journal's table of them."""

    def __init__(self):
        self.rows = HeldRows()
        self.table: dict[int, tuple[str, bytes]] = {}
        self.number = 0

    def take(self, wanted, *, lose=False):
        """Let this wait from now on; ``lose``: the transaction fails, and is tried again."""
        change = self.rows.change(wanted, 0)
        if lose:
            change = self.rows.change(wanted, 0)
        numbers = []
        for slot, body in zip(change.fresh, change.bodies, strict=True):
            self.number += 1
            numbers.append(self.number)
            self.table[self.number] = slot, body
        for number in change.released:
            del self.table[number]  # each is there, and once
        self.rows.stored(change, numbers)
        return change

    def restart(self, names=None):
        """Another run; ``names``: slots that have another name by now."""
        self.rows = HeldRows()
        parts: dict[str, list[tuple[int, pl.DataFrame]]] = {}
        moved = []
        for number, (slot, body) in self.table.items():
            home = (names or {}).get(slot, slot)
            parts.setdefault(home, []).append((number, from_ipc(body)))
            moved += [number] if home != slot else []
        for slot, pieces in parts.items():
            self.rows.load(slot, pieces, 0, moved)

    def waiting(self):
        return {slot: sorted(frame["n"]) for slot, frame in self.rows.frames.items() if frame.height}


def new(numbers):
    return pl.DataFrame({"n": list(numbers)}, schema={"n": pl.Int64})


def without(frame, numbers):
    return frame.filter(~pl.col("n").is_in(list(numbers)))


def test_what_left_does_not_come_back_after_a_restart():
    store = Store()
    store.take({"a": new([1, 2, 3])})
    store.take({"a": without(store.rows.frames["a"], [2])})
    assert len(store.table) == 1
    store.restart()
    assert store.waiting() == {"a": [1, 3]}
    store.take({"a": without(store.rows.frames["a"], [1, 3])})
    assert store.table == {}


def test_rows_of_which_none_leaves_are_not_written_again():
    store = Store()
    store.take({"a": new(range(100))})
    store.take({"a": pl.concat([store.rows.frames["a"], new([100])], how="diagonal")})
    change = store.take({"a": without(store.rows.frames["a"], [100])})
    assert (change.bodies, change.released) == ([], [2])
    change = store.take({"a": pl.concat([without(store.rows.frames["a"], [7]), new([8])], how="diagonal")})
    assert sorted(from_ipc(body).height for body in change.bodies) == [1, 99]  # old and new stay apart


def test_a_row_that_goes_from_one_slot_to_another_is_there():
    store = Store()
    store.take({"a": new([1, 2]), "b": new([3])})
    one = store.rows.frames["a"].filter(n=1)
    store.take(
        {
            "a": without(store.rows.frames["a"], [1]),
            "b": pl.concat([store.rows.frames["b"], one], how="diagonal"),
        }
    )
    store.restart()
    assert store.waiting() == {"a": [2], "b": [1, 3]}


def test_a_slot_with_another_name_is_stored_under_it():
    store = Store()
    store.take({"a": new([1, 2])})
    store.restart({"a": "b"})
    store.take(dict(store.rows.frames))
    assert [slot for slot, _ in store.table.values()] == ["b"]
    assert store.take(dict(store.rows.frames)).bodies == []  # once
    store.restart()
    assert store.waiting() == {"b": [1, 2]}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_journal_has_exactly_what_waits(data):
    store, model, number = Store(), {"a": set(), "b": set()}, 0
    for _ in range(data.draw(st.integers(1, 8), label="batches")):
        wanted = {}
        for slot, waiting in model.items():
            leaves = data.draw(st.sets(st.sampled_from(sorted(waiting))) if waiting else st.just(set()))
            comes = range(number, number + data.draw(st.integers(0, 3), label="new"))
            number += len(comes)
            frame = store.rows.frames.get(slot)
            parts = [new(comes)] if frame is None else [without(frame, leaves), new(comes)]
            wanted[slot] = pl.concat(parts, how="diagonal")
            waiting.difference_update(leaves)
            waiting.update(comes)
        store.take(wanted, lose=data.draw(st.booleans(), label="lose"))
        expected = {slot: sorted(waiting) for slot, waiting in model.items() if waiting}
        assert store.waiting() == expected
        before = store.rows
        store.restart()
        assert store.waiting() == expected
        if data.draw(st.booleans(), label="go on without the restart"):
            store.rows = before
