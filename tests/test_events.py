"""JSON by columns: the same as Python's json module makes of the same rows."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_moesif import Events
from otel_moesif.json_columns import any_to_escape
from otel_moesif.json_shape import (
    Always,
    JsonShape,
    Members,
    Verbatim,
    json_object,
    json_text,
    json_value,
    splice,
)
from otel_moesif.schema import FIELDS, SCHEMA, Place

TEXT = st.text() | st.sampled_from(['"', "\\", "{}", "{{}}", '"}', "\n", "\x00", "\x1f", "null", "é😀"])
ROW = st.fixed_dictionaries(
    {
        "text": TEXT,
        "maybe": st.none() | TEXT,
        "number": st.none() | st.integers(-(2**63), 2**63 - 1),
        "flag": st.none() | st.booleans(),
        "raw": st.none() | st.sampled_from(["{}", "[1]", '"x"']),
        "more": st.none() | st.sampled_from(["{}", '{"p":1}', '{"p":"}","q":{}}']),
    }
)
TYPES = {
    "text": pl.String,
    "maybe": pl.String,
    "number": pl.Int64,
    "flag": pl.Boolean,
    "raw": pl.String,
    "more": pl.String,
}
SHAPE = {
    "te{x}t": pl.col("text"),
    'may"be': pl.col("maybe"),
    "same": pl.col("maybe").str.len_chars(),
    "inner": {
        "flag": pl.col("flag"),
        "more": Verbatim(pl.col("more"), spread=True),
        "deep": {"number": pl.col("number")},
    },
    "kept": Always({"flag": pl.col("flag")}),
    "raw": Verbatim(pl.col("raw")),
    "fixed": {"constant": pl.lit("c"), "number": pl.col("number")},
}


def expected(row):
    def members(**values):
        return {key: value for key, value in values.items() if value not in (None, {})}

    known = {} if row["maybe"] is None else {'may"be': row["maybe"], "same": len(row["maybe"])}
    flag = {} if row["flag"] is None else {"flag": row["flag"]}
    number = {} if row["number"] is None else {"number": row["number"]}
    inner = {**flag, **json.loads(row["more"] or "{}"), **members(deep=number)}
    raw = {} if row["raw"] is None else {"raw": json.loads(row["raw"])}
    fixed = {"constant": "c", **number}
    return {"te{x}t": row["text"], **known, **members(inner=inner), "kept": flag, **raw, "fixed": fixed}


@settings(max_examples=150, deadline=None)
@given(st.lists(ROW, max_size=5))
def test_json_text_is_what_json_makes_of_the_rows(rows):
    texts = json_text(pl.DataFrame(rows, schema=TYPES), SHAPE)
    assert [json.loads(text) for text in texts] == [expected(row) for row in rows]


@given(st.lists(ROW, min_size=1, max_size=3), st.sampled_from([256, 300]))
@settings(max_examples=25, deadline=None)
def test_of_many_rows_too_and_what_shall_stand_after_each_does(rows, many):
    # of many rows it is asked what all of them share, and numbers are looked up
    rows = (rows * many)[:many]
    texts = JsonShape(SHAPE, end=",").texts(pl.DataFrame(rows, schema=TYPES))
    assert texts.str.ends_with("},").all()
    assert json.loads(f"[{texts.str.join('').item()[:-1]}]") == [expected(row) for row in rows]


def test_the_table_that_is_encoded_stays_as_it_was():
    frame = pl.DataFrame({"number": range(300)})
    texts = JsonShape({"n": "number", "again": "number"}).texts(frame)
    assert [json.loads(text) for text in texts] == [{"n": number, "again": number} for number in range(300)]
    assert frame["number"].to_list() == list(range(300))


@pytest.mark.parametrize("last", ["", None, "é", '"', "\\", "\x00", "\x1f", " ", "\x7f"])
def test_what_has_to_be_escaped_is_found_beside_empty_and_missing_texts(last):
    texts = pl.Series(["plain", "", None, "!#[]", last], dtype=pl.String)
    assert any_to_escape(texts) == (last is not None and json.dumps(last, ensure_ascii=False) != f'"{last}"')
    assert not any_to_escape(texts.clear())


def test_members_as_text_join_where_there_are_any():
    rows = pl.DataFrame({"a": ['"x":1', None, '"y":{}'], "b": ['"z":2', '"z":3', '"z":4']})
    shape = JsonShape({"a": Members("a"), "key": pl.lit("v"), "b": Members("b")})
    assert [json.loads(text) for text in shape.texts(rows)] == [
        {"x": 1, "key": "v", "z": 2},
        {"key": "v", "z": 3},
        {"y": {}, "key": "v", "z": 4},
    ]


def test_objects_without_members():
    frame = pl.DataFrame(
        {"none": [None, None], "some": [None, 1]}, schema={"none": pl.String, "some": pl.Int64}
    )
    assert json_text(frame, {}).to_list() == ["{}", "{}"]
    assert json_text(frame, {"a": pl.col("none"), "b": {"c": pl.col("none")}}).to_list() == ["{}", "{}"]
    assert json_text(frame, {"a": Always({"b": pl.col("none")})}).to_list() == ['{"a":{}}', '{"a":{}}']
    assert json_text(frame, {"b": {"c": pl.col("some")}}).to_list() == ["{}", '{"b":{"c":1}}']


def test_literals_alone_make_as_many_rows_as_there_are():
    assert json_text(pl.DataFrame({"x": [1, 2]}), {"a": pl.lit("b")}).to_list() == ['{"a":"b"}'] * 2


def test_columns_that_are_null_in_as_many_rows_but_not_in_the_same():
    frame = pl.DataFrame({"a": [1, None, 1], "b": [None, 2, 2], "c": [3, None, 3]})
    texts = json_object(frame, [pl.col("a"), pl.col("b"), pl.col("c")])
    assert [json.loads(text) for text in texts] == [{"a": 1, "c": 3}, {"b": 2}, {"a": 1, "b": 2, "c": 3}]


def test_json_object_takes_any_type():
    frame = pl.DataFrame({"f": [1.5, None], "l": [[1], []], "s": [{"x": '"'}, {"x": "y"}], "u": [1, 2]})
    columns = [pl.col("f"), pl.col("l"), pl.col("s"), pl.col("u").cast(pl.UInt8).alias("renamed")]
    assert [json.loads(text) for text in json_object(frame, columns)] == [
        {"f": 1.5, "l": [1], "s": {"x": '"'}, "renamed": 1},
        {"l": [], "s": {"x": "y"}, "renamed": 2},
    ]


def test_json_value():
    frame = pl.DataFrame({'a"b': ["}", None]})
    assert frame.select(json_value('a"b')).to_series().to_list() == ['"}"', "null"]


def test_splice():
    frame = pl.DataFrame({"a": ['{"x":1}', None, "{}"], "b": ['{"y":{}}', '{"y":2}', None]})
    assert frame.select(splice([pl.col("a"), pl.col("b")])).to_series().to_list() == [
        '{"x":1,"y":{}}',
        '{"y":2}',
        "{}",
    ]


def test_each_kind_of_event_carries_what_the_guide_gives_it():
    row = {
        "requestTimestamp": datetime(2022, 1, 20, 3, 34, 36, tzinfo=UTC),
        "errorCode": 1,
        "errorMessage": "m",
        "errorType": "OTHER",
        "errorCodeInferred": True,
        "requestSize": 1,
    }
    rows = [
        {**row, "eventType": kind, "apiName": str(place)}
        for place, kind in enumerate(["fault", "response"] * 2)
    ]
    found = Events(pl.DataFrame(rows)).to_dicts()
    assert [event["apiName"] for event in found] == ["0", "1", "2", "3"]
    for event in found:
        kind = event["eventType"]
        carried = [field for field in FIELDS if getattr(field, kind)]
        assert event.keys() == {
            "properties",
            *(field.name for field in carried if field.place in {Place.EVENT, Place.LATENCY}),
        }
        assert event["properties"].keys() == {
            "userName",
            *(field.name for field in carried if field.place is Place.PROPERTIES),
        }
        assert event["requestTimestamp"] == "2022-01-20T03:34:36.000Z"


def test_no_events():
    assert Events(SCHEMA.to_frame()).to_json().to_list() == []


def test_a_line_break_in_custom_properties_does_not_break_the_line():
    events = Events(pl.DataFrame({"apiName": ["a\nb"], "customProperties": ['{\n "tier": "go\\nld"\n}']}))
    [text] = events.to_json()
    assert "\n" not in text
    assert json.loads(text)["properties"]["tier"] == "go\nld"
