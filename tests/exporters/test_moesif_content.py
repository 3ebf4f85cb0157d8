"""Captured headers, as members of a JSON object: what `json` reads is what was captured."""

from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_moesif.exporters.moesif.content import captured_headers
from otel_moesif.schema import HEADERS

TEXT = st.sampled_from(["x-a", "X-A", "x-b", "accept", "É", '"', "", "\n"]) | st.text(max_size=3)
HEADER = st.none() | st.fixed_dictionaries({"key": st.none() | TEXT, "value": st.none() | TEXT})


def expected(headers):
    """Names in lower case, values of one name joined; a header without a name is none."""
    found = {}
    for header in headers or ():
        if header is not None and header["key"] is not None:
            found.setdefault(header["key"].lower(), []).append(header["value"] or "")
    return {name: ",".join(values) for name, values in found.items()}


@pytest.mark.parametrize("most", [1, 4])
def test_headers_are_members_with_lower_case_names_that_stand_once(most):
    @given(st.lists(st.none() | st.lists(HEADER, max_size=most), min_size=1, max_size=5))
    @settings(max_examples=60, deadline=None)
    def check(lists):
        columns = captured_headers(pl.Series(lists, dtype=HEADERS), "found", ["x-a"])
        by_name = {column.name: column.to_list() for column in columns}
        want = [expected(headers) for headers in lists]
        if not any(want):
            assert not any(any(values) for values in by_name.values())
            return
        assert "" not in by_name["found"]
        assert [json.loads(f"{{{text or ''}}}") for text in by_name["found"]] == want
        has = by_name.get("found x-a", [False] * len(lists))
        assert has == ["x-a" in headers for headers in want]

    check()


@pytest.mark.parametrize(
    "lists", [[["x-a", "x-b"], []], [[], ["x-a", "x-b"]], [["x-a", "x-b"], [], []], [["x-a"], []]]
)
def test_headers_stay_with_their_event_beside_empty_lists(lists):
    rows = [[{"key": name, "value": "v"} for name in names] for names in lists]
    [found] = captured_headers(pl.Series(rows, dtype=HEADERS), "found")
    assert [list(json.loads(f"{{{text or ''}}}")) for text in found] == lists
