"""Reading JSON of strangers: nothing in it takes long, and what can be read at all is read as `json` does."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_moesif.errors import InvalidData
from otel_moesif.otlp import json_text
from otel_moesif.otlp.json_text import decode, has_more_values, load

MIB = 1 << 20
DEEP = "[" * 1200 + "]" * 1200
HOSTILE = {
    "quotes": '{"a":[' + '"",' * (MIB // 3),
    "quotes alone": DEEP + '"' * MIB,
    "backslashes": DEEP + '"' + "\\" * MIB,
    "quotes within a text": '{"a":' + DEEP + ',"b":"' + '\\"' * (MIB // 2) + '"}',
    "commas within a text": '{"a":"' + ",[" * (MIB // 2) + '"}',
    "texts without commas": DEEP + '"a" ' * (MIB // 4),
    "blanks": DEEP + " " * MIB,
    "ends": DEEP + "]" * MIB,
    "beginnings": "[{" * (MIB // 2),
    "commas": "[" + DEEP + "," * MIB,
    "many depths": "[" + ",".join([DEEP] * 200) + "]",
    "digits": '{"a":' + "1" * MIB + "}",
}


def quickest(function, argument) -> float:
    times = []
    for _ in range(3):
        began = time.process_time()
        function(argument)
        times.append(time.process_time() - began)
    return min(times)


def read(text: str) -> None:
    has_more_values(text, 1000)
    with contextlib.suppress(InvalidData):
        load(text)


@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_takes_long(kind):
    assert quickest(read, HOSTILE[kind]) < 1  # quadratic: minutes


@pytest.mark.parametrize("wrong", [b"\xff", b"\xffa", b"\xe2\x82"])
def test_nor_do_bytes_that_are_no_text(wrong):
    assert quickest(decode, wrong * (MIB // len(wrong))) < 1


things = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.text('"\\[]{},é\ud800\U0001f600', max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('"\\[{,a', max_size=3), inner, max_size=4)
    ),
    max_leaves=30,
)  # fmt: skip


def values(thing: object) -> int:
    """As they are bounded: one for each object or list, and for each comma."""
    if not isinstance(thing, dict | list):
        return 0
    inner = thing.values() if isinstance(thing, dict) else thing
    return 1 + max(len(thing) - 1, 0) + sum(map(values, inner))


@settings(max_examples=200, deadline=None)
@given(things, st.booleans())
def test_values_are_counted_without_texts(thing, ascii_only):
    text = json.dumps(thing, ensure_ascii=ascii_only)
    count = values(thing)
    assert not has_more_values(text, count)
    assert not count or has_more_values(text, count - 1)


@settings(max_examples=200, deadline=None)
@given(things, st.integers(1, 5))
def test_what_is_below_a_depth_is_null(thing, most):
    def cut(part: object, level: int) -> object:
        if not isinstance(part, dict | list):
            return part
        if level > most:
            return None
        if isinstance(part, dict):
            return {key: cut(item, level + 1) for key, item in part.items()}
        return [cut(item, level + 1) for item in part]

    before = json_text._DEEPEST
    json_text._DEEPEST = most
    try:
        text = json_text._without_depths(json.dumps(thing))
    finally:
        json_text._DEEPEST = before
    assert json.loads(text) == cut(thing, 1)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=40))
def test_bytes_that_are_no_text_are_marked_and_all_others_stay(one, two):
    found = decode(b"{" + one + b'"a\xff","' + two)
    assert json_text.NOT_UTF8 in found
    assert found.replace(json_text.NOT_UTF8, "\ufffd").encode()  # nothing else is odd
    assert found.count('"') == (one + two).count(b'"') + 3
    assert found.count("\\") == (one + two).count(b"\\")


def test_text_is_not_changed():
    for text in ("", "é\U0001f600", '"\\udcff"', "\ufeff", "a\udcffb"):
        data = text.encode("utf-8", "surrogatepass")
        if "\udcff" not in text:
            assert decode(data) == text.removeprefix("\ufeff")
    assert load('"\\udcff\\ud800"') == "\udcff\ud800"
