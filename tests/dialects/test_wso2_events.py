"""WSO2's events by columns: the same as one by one, whatever the texts are."""

from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_moesif.dialects import wso2_events
from otel_moesif.dialects.wso2_event_text import SHAPE
from otel_moesif.dialects.wso2_events import read_events
from tests.dialects.otlp import Record, apim_event, fixture, make_logs
from tests.exporters.mapped import texts as moesif_texts

NAMES = [
    "apim_event_response.moesif_guide",
    "apim_event_faulty.moesif_guide",
    "apim_event_response.elk_guide",
    "apim_event_faulty.elk_guide",
    "response_event.sample_reporter",
    "response_event.custom_data_provider",
    "publisher_test_response_event.derived",
]
GSON = {"=": r"\u003d", "<": r"\u003c", ">": r"\u003e", "&": r"\u0026", "'": r"\u0027"}


def line(document, prefix="12:54:29,882 [-] INFO ELKCounterMetric ", metric="response"):
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    for plain, escaped in GSON.items():
        text = text.replace(plain, escaped)
    return f"{prefix}apimMetrics: apim:{metric}, properties :{text}"


@pytest.fixture
def by_columns(monkeypatch):
    """Also a handful of texts; gives the texts that were nevertheless read one by one."""
    alone = []
    parse = wso2_events.event_columns
    monkeypatch.setattr(wso2_events, "_FEW", 2)
    monkeypatch.setattr(wso2_events, "event_columns", lambda body: alone.append(body) or parse(body))
    return alone


def one_by_one(bodies):
    return [found for body in bodies for found in read_events(pl.Series([body], dtype=pl.String)).to_list()]


def varied(value, number):
    """Another value of the same kind."""
    if isinstance(value, dict):
        return {key: x if key in {"eventType", "subType"} else varied(x, number) for key, x in value.items()}
    if isinstance(value, bool):
        return number % 2 == 0
    if isinstance(value, int | float):
        return value + number
    if value is None or isinstance(value, list):
        return value
    return f"{value} a=b&c='{number}' ü😀"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("as_map", [False, True])
def test_the_fixtures_are_read_by_columns_alone(name, as_map, by_columns):
    document = json.loads(fixture(f"wso2/{name}.json").read_text())
    documents = [document, *(varied(document, number) for number in range(20))]
    bodies = [json.dumps(one) if as_map else line(one, f"{n} [x] INFO ") for n, one in enumerate(documents)]
    found = read_events(pl.Series(bodies)).to_list()
    assert by_columns == []
    assert found == one_by_one(bodies)
    assert [one["correlationId"] for one in found] == [one["correlationId"] for one in documents]


def test_among_many_the_guides_events_come_out_field_for_field():
    documents = [json.loads(fixture(f"wso2/{name}.json").read_text()) for name in NAMES[:2]]
    documents = [{**documents[number % 2], "correlationId": f"c-{number}"} for number in range(400)]
    metrics = {"response": "response", "fault": "faulty"}
    logs = make_logs(*(Record(line(one, metric=metrics[one["eventType"]])) for one in documents))
    batch = apim_event().process(logs)
    further = {"response": {"platform": "UNKNOWN"}, "fault": {}}  # the guide's Moesif events leave it out
    expected = [{**one, **further[one["eventType"]]} for one in documents]
    assert batch.to_dicts() == expected
    sent = [json.loads(text)["metadata"] for text in moesif_texts(batch)]
    flat = [{**one, **one["properties"]} for one in expected]
    assert sent == [{name: value for name, value in one.items() if name != "properties"} for one in flat]


def test_long_lines_and_many_bytes_are_read_all_the_same(monkeypatch, by_columns):
    monkeypatch.setattr(wso2_events, "_AT_ONCE", 5_000)
    monkeypatch.setattr(wso2_events, "_LONG", 2_000)
    bodies = [line(varied(AI, number)) for number in range(30)]
    bodies[7] = line({**AI, "userAgent": "long" * 1000})
    found = read_events(pl.Series(bodies)).to_list()
    assert bodies[7] in by_columns
    assert len(by_columns) < 12
    assert found == one_by_one(bodies)


AI = {
    "requestTimestamp": "2022-01-20T03:34:36.451Z",
    "eventType": "response",
    "proxyResponseCode": 200,
    "properties": {
        "aiMetadata": {"vendorName": "OpenAI", "model": "gpt-4o", "vendorVersion": None},
        "aiTokenUsage": {"totalTokens": 42, "hour": 7},
        "cost": 0.25,
        "exactly": 2**53 + 1,
        "claims": [{"k": "v"}, [], {}],
        "requestHeaders": {"Accept": "a/b", "Authorization": "s3cret"},
        "requestBody": {"a": 1},
        "responseBody": "aGVsbG8=",
    },
}


def test_further_members_headers_and_bodies_are_read_by_columns_alone(by_columns):
    bodies = [line(varied(AI, number)) for number in range(20)]
    found = read_events(pl.Series(bodies)).to_list()
    assert by_columns == []
    assert found == one_by_one(bodies)
    given = varied(AI, 3)["properties"]
    further = ("aiMetadata", "aiTokenUsage", "cost", "exactly", "claims")
    assert json.loads(found[3]["customProperties"]) == {name: given[name] for name in further}
    assert found[3]["requestHeaders"] == [{"key": "accept", "value": given["requestHeaders"]["Accept"]}]
    assert json.loads(found[3]["requestBody"]) == given["requestBody"]
    assert found[3]["responseBody"] == given["responseBody"]


ODD = [
    ('"proxyResponseCode":200', '"proxyResponseCode":"200"'),
    ('"proxyResponseCode":200', '"proxyResponseCode":"many"'),
    ('"proxyResponseCode":200', '"proxyResponseCode":99999999999'),
    ('"proxyResponseCode":200', '"proxyResponseCode":200.7'),
    ('"proxyResponseCode":200', '"proxyResponseCode":true'),
    ('"proxyResponseCode":200', '"proxyResponseCode":null'),
    ('"proxyResponseCode":200', '"proxyResponseCode":0200'),
    ('"proxyResponseCode":200', '"proxyResponseCode":-0'),
    ('"proxyResponseCode":200', '"proxyResponseCode":200,"proxyResponseCode":404'),
    ("9007199254740993", "18446744073709551616123456789"),
    ("9007199254740993", "9223372036854775807"),
    ("0.25", "0.250"),
    ("0.25", "25e-2"),
    ("0.25", "0.00001"),
    ("0.25", "0.1000000000000000055511151231257827"),
    ("0.25", "1e999"),
    ("0.25", "0.0"),
    ("0.25", "1"),
    ("0.25", "NaN"),
    ("gpt-4o", r"gpt\"4\\o\n\t"),
    ("gpt-4o", r"\\u003d\\\u003d\/\\/"),
    ("gpt-4o", r"\ud83d\ude00"),
    ("gpt-4o", r"x\ud800y"),
    ("gpt-4o", r"\udc00\ud800\u0000\u003D"),
    ("gpt-4o", r"\x"),
    ("gpt-4o", r"\u12"),
    ("gpt-4o", "a\tb"),
    ("gpt-4o", "\x00"),
    ("gpt-4o", 'a","b":"c'),
    ("gpt-4o", '"gpt"'),
    ("gpt-4o", "\ue000001\ue001"),
    ("gpt-4o", "1" + "0" * 35),
    ("OpenAI", ""),
    ("response", "fault"),
    ("INFO", 'INFO "quoted"'),
    ("INFO", "INFO {"),
    ("INFO", "INFO apimMetrics: apim:faulty, properties :{}"),
    ("INFO", "  "),
    ("apim:response", "apim:faulty"),
    ("apim:response", "apim:other"),
    ("properties :", "properties:\u00a0"),
    ("}}", "}"),
    ("}}", "}}}"),
    ("}}", "}} \n"),
    ("}}", '},"properties":{"isEgress":true}}'),
    ("}}", '},"properties":"{}"}'),
    ("}}", '},"requestHeaders":[1,2]}'),
    ("aGVsbG8", "aGVs\u2028bG8"),
]


@pytest.mark.parametrize(("old", "new"), ODD)
@pytest.mark.parametrize("first", [True, False])
def test_an_odd_line_is_read_as_one_by_one_and_costs_no_other(old, new, first, by_columns):
    good = [line(varied(AI, 0)).replace("'0'", f"'{number}'") for number in range(4)]
    text = line(AI).replace(old, new)
    assert text != line(AI)
    bodies = [text, *good, None] if first else [*good, text, ""]
    found = read_events(pl.Series(bodies)).to_list()
    assert found == one_by_one(bodies)
    assert (
        len(by_columns) <= len(bodies) + 2
    )  # all of them by `one_by_one`, and at most the odd one and the null


STRINGS = st.sampled_from(
    [
        "",
        "fault",
        "true",
        "12",
        'q"',
        "\\",
        r"\u003d",
        "a=b",
        "\ue000001\ue001",
        "1" + "0" * 35,
        "\t\x00",
        "ü😀",
    ]
) | st.text(st.characters(codec="utf-8"), max_size=4)
BIG = [-1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**70]
WHOLE = st.integers(0, 60).map(lambda number: BIG[number] if number < len(BIG) else number)
FLOATS = [0.0, -0.0, 1e-5, 1e15, 1e16, 5e-324]
DECIMALS = st.integers(0, 40).map(lambda number: FLOATS[number] if number < len(FLOATS) else number / 7)
KINDS = {"text": STRINGS, "whole": WHOLE, "decimal": DECIMALS, "flag": st.booleans(), "null": st.none()}
NAMED = st.sampled_from([*"abcdefgh=", "ü", 'q"', "eventType", "properties"])
ANY = st.sampled_from(list(KINDS.values()))
NESTED = st.recursive(
    ANY, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMED, inner, max_size=3), max_leaves=5
)
FURTHER = ["x-original-gw-url", "subtype", "responseBodyTransferEncoding", "aiMetadata", "cost"]
DAMAGE = st.sampled_from(['"', "\\", "{", "}", ",", "1", ":", "e", " ", "\n"])
LINE = "{}apimMetrics: apim:response, properties :{}"
CUT = '{{"apimMetrics":"apim:faulty","properties":{}}}'


@st.composite
def shapes(draw):
    """Members with what they may be: mostly what WSO2 documents."""
    names = draw(st.lists(st.sampled_from([*SHAPE, *FURTHER]), max_size=9, unique=True))
    shape = {}
    for name in names:
        dtype = SHAPE.get(name)
        usual = {pl.Boolean: "flag", pl.String: "text"}.get(dtype, "whole") if dtype else ""
        shape[name] = KINDS[usual] if usual and draw(st.integers(0, 4)) else draw(NESTED)
    return shape


def filled(shape, draw):
    """A value with this shape."""
    if isinstance(shape, dict):
        return {key: filled(inner, draw) for key, inner in shape.items()}
    if isinstance(shape, list):
        return [filled(inner, draw) for inner in shape]
    return draw(shape)


@st.composite
def logs(draw):
    """Bodies of a few shapes, some of them damaged."""
    bodies = []
    for _ in range(draw(st.integers(1, 2))):
        shape, inner = draw(shapes()), draw(shapes())
        form, ascii_only, prefix = draw(st.sampled_from("lines")), draw(st.booleans()), draw(STRINGS)
        for _ in range(draw(st.integers(3, 9))):
            text = json.dumps(
                {**filled(shape, draw), "properties": filled(inner, draw)}, ensure_ascii=ascii_only
            )
            if form in "lin":
                text = LINE.format(prefix, text)
            elif form == "s":
                text = CUT.format(draw(st.sampled_from([text, json.dumps(text)])))
            if not draw(st.integers(0, 7)):
                place = draw(st.integers(0, len(text)))
                text = text[:place] + draw(DAMAGE) + text[place + draw(st.integers(0, 1)) :]
            bodies.append(text)
    return draw(st.permutations(bodies))


@given(logs())
@settings(max_examples=60, deadline=None)
def test_by_columns_is_as_one_by_one(bodies):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wso2_events, "_FEW", 2)
        found = read_events(pl.Series(bodies)).to_list()
    assert found == one_by_one(bodies)
