"""What tables add to events, and what happens while their files change."""

from __future__ import annotations

import json
import logging

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from otel_moesif.errors import ConfigError
from otel_moesif.processors.enrich.processor import Enrich, EnrichSettings
from tests.processors.events import EVENTS, Counters, make, properties, untouched

CSV = "id,owner,tier,hits,cached\n1,Ann,gold,7,true\n2,Bob,,x,no\n"
RELOAD = "otelcol_processor_enrich_reload_failures"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def enrich(*tables, counters=None, clock=None):
    settings_ = EnrichSettings(tables=list(tables))
    return Enrich(settings_, (counters or Counters()).context, clock or Clock())


@pytest.fixture
def file(tmp_path):
    def write(text, name="apis.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def table(path, **options):
    return {
        "file": path,
        "match": {"apiId": "id"},
        "set": {"apiCreator": "owner", "property.tier": "tier"},
        **options,
    }


def test_events_get_what_the_file_says_and_none_leaves(file):
    events = make({"apiId": "2"}, {"apiId": "1"}, {"apiId": "9"}, {}, {"apiId": "1"})
    out = enrich(table(file(CSV))).process(events)
    assert out.frame["apiCreator"].to_list() == ["Bob", "Ann", "UNKNOWN", "UNKNOWN", "Ann"]
    assert properties(out) == [None, {"tier": "gold"}, None, None, {"tier": "gold"}]
    untouched(events, out, "apiCreator", "customProperties")


def test_what_the_event_knows_itself_stays_unless_it_shall_be_overwritten(file):
    path = file(CSV)
    events = make(
        {"apiId": "1", "apiCreator": "Eve", "customProperties": '{"tier":"own","x":1}'},
        {"apiId": "1", "customProperties": '{"tier":"UNKNOWN"}'},
        {"apiId": "2", "apiCreator": "Eve", "customProperties": '{"tier":"own"}'},
    )
    kept = enrich(table(path)).process(events)
    assert kept.frame["apiCreator"].to_list() == ["Eve", "Ann", "Eve"]
    assert properties(kept) == [{"tier": "own", "x": 1}, {"tier": "gold"}, {"tier": "own"}]
    over = enrich(table(path, overwrite=True)).process(events)
    assert over.frame["apiCreator"].to_list() == ["Ann", "Ann", "Bob"]
    assert properties(over) == [{"x": 1, "tier": "gold"}, {"tier": "gold"}, {"tier": "own"}]


def test_cells_become_the_columns_type_and_what_cannot_leaves_the_value(file):
    columns = {"responseSize": "hits", "responseCacheHit": "cached"}
    out = enrich(table(file(CSV), set=columns)).process(make({"apiId": "1"}, {"apiId": "2"}))
    assert out.frame.select("responseSize", "responseCacheHit").rows() == [(7, True), (0, False)]


@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump], ids=["json", "yaml"])
def test_json_and_yaml_keep_their_types_in_properties(file, write):
    rows = [{"id": 404, "info": {"a": [1]}, "flag": True, "n": 1.5}, {"id": 500, "info": "x"}]
    path = file(write(rows), "codes." + ("json" if write is json.dumps else "yaml"))
    one = {
        "file": path,
        "match": {"proxyResponseCode": "id"},
        "set": {"property.info": "info", "property.flag": "flag", "property.n": "n", "apiName": "n"},
    }
    out = enrich(one).process(make({"proxyResponseCode": 404}, {"proxyResponseCode": 500}))
    assert properties(out) == [{"info": {"a": [1]}, "flag": True, "n": 1.5}, {"info": "x"}]
    assert out.frame["apiName"].to_list() == ["1.5", "UNKNOWN"]


def test_several_columns_have_to_match_and_properties_can(file):
    path = file("apiId,tier,owner\n1,gold,Ann\n1,free,Bob\n")
    one = {"file": path, "match": ["apiId", "property.tier"], "set": {"apiCreator": "owner"}}
    events = make(
        *({"apiId": "1", "customProperties": f'{{"tier":"{tier}"}}'} for tier in ("free", "gold", "x"))
    )
    assert enrich(one).process(events).frame["apiCreator"].to_list() == ["Bob", "Ann", "UNKNOWN"]


def test_a_table_can_look_up_what_an_earlier_one_found(file):
    people = file("who,org\nAnn,Acme\n", "people.csv")
    second = {"file": people, "match": {"apiCreator": "who"}, "set": {"companyId": "org"}}
    assert enrich(table(file(CSV)), second).process(make({"apiId": "1"})).frame["companyId"][0] == "Acme"


def test_of_rows_with_one_key_the_first_counts_and_that_is_said(file, caplog):
    path = file("id,owner,tier\n1,Ann,\n1,s3cret,\n,nobody,\n,nobody,\n")
    events = make({"apiId": "1"}, {"apiId": None}, {"apiId": ""})
    assert enrich(table(path)).process(events).frame["apiCreator"].to_list() == ["Ann", "UNKNOWN", "UNKNOWN"]
    assert "1 rows have the key of an earlier one" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_file_that_changes_is_read_again_but_not_looked_at_more_than_once_a_second(file):
    path, clock = file(CSV), Clock()
    processor = enrich(table(path), clock=clock)

    def creator():
        return processor.process(make({"apiId": "1"})).frame["apiCreator"][0]

    assert creator() == "Ann"
    file(CSV.replace("Ann", "Zoey"))
    clock.now = 0.9
    assert creator() == "Ann"
    clock.now = 1.0
    assert creator() == "Zoey"
    replaced = path.with_name("new")
    replaced.write_text(CSV.replace("Ann", "Kim"))
    replaced.replace(path)
    clock.now = 2.0
    assert creator() == "Kim"


def test_a_file_that_went_wrong_leaves_the_last_good_table_one_line_and_a_count(file, caplog):
    path, clock, counters = file(CSV), Clock(), Counters("enrich/x")
    processor = enrich(table(path), clock=clock, counters=counters)
    states = [None, None, "", "id,tier\n1,s3cret\n", "id,tier\n1,s3cret\n", CSV.replace("Ann", "Zoe"), None]
    for second, text in enumerate(states, 1):
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        clock.now = float(second)
        wanted = "Zoe" if second >= 6 else "Ann"
        assert processor.process(make({"apiId": "1"})).frame["apiCreator"][0] == wanted
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 4  # gone, empty, without its column, gone again: each said once
    assert "No such file" in lines[0]
    assert "it is empty" in lines[1]
    assert "has no column owner (columns: id, tier)" in lines[2]
    assert all("stays in use" in line and "s3cret" not in line for line in lines)
    assert counters.read(RELOAD, "processor") == {"enrich/x": 4}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "", "it is empty"),
        ("a.csv", "id,owner,tier\n1,2,3,4,s3cret\n", "it is no CSV"),
        ("a.csv", "id,owner\n", "it has no column tier (columns: id, owner)"),
        ("a.json", '[{"id": "s3cret}]', "it is no JSON (line 1"),
        ("a.json", '{"id": 1}', "a list of maps"),
        ("a.yaml", "- id: [s3cret", "it is no YAML (line"),
        ("a.yaml", "", "a list of maps"),
        ("a.txt", "", "has to end with .csv, .json, .yaml, .yml"),
    ],
)
def test_a_file_that_cannot_be_used_stops_the_start_with_one_line(file, name, text, said):
    with pytest.raises(ConfigError) as caught:
        enrich(table(file(text, name)))
    (problem,) = caught.value.problems
    assert problem.path == "tables[0]::file"
    assert said in problem.message
    assert "\n" not in problem.message
    assert "s3cret" not in problem.message


def test_all_mistakes_are_told_with_their_places(file, tmp_path):
    path = file(CSV)
    with pytest.raises(ConfigError) as caught:
        enrich(
            table(tmp_path / "none.csv"),
            {
                "file": path,
                "match": {"apiID": "id", "requestHeaders": "id"},
                "set": {
                    "transactionId": "id",
                    "property.apiName": "id",
                    "requestTimestamp": "id",
                    "customProperties": "id",
                },
            },
        )
    said = {problem.path: problem.message for problem in caught.value.problems}
    assert "No such file" in said["tables[0]::file"]
    assert "did you mean apiId?" in said["tables[1]::match::apiID"]
    assert set(said) == {
        "tables[0]::file",
        "tables[1]::match::apiID",
        "tables[1]::match::requestHeaders",
        "tables[1]::set::transactionId",
        "tables[1]::set::property.apiName",
        "tables[1]::set::requestTimestamp",
        "tables[1]::set::customProperties",
    }
    for wrong in ({"match": {}}, {"match": "apiId"}, {"set": {}}):
        with pytest.raises(ValidationError):
            EnrichSettings(tables=[table(path, **wrong)])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EVENTS, st.booleans())
def test_nothing_leaves_nothing_moves_and_only_what_is_named_changes(file, events, overwrite):
    path = file("name,owner,tier,type\na,Ann,gold,fault\nUNKNOWN,Nobody,,\n,Empty,x,\na,Twice,y,\n")
    columns = {"apiCreator": "owner", "property.tier": "tier"}
    one = {"file": path, "match": {"apiName": "name"}, "set": columns, "overwrite": overwrite}
    out = enrich(one).process(events)
    untouched(events, out, "apiCreator", "customProperties")
    owners = {"a": "Ann", "UNKNOWN": "Nobody"}
    names = events.frame["apiName"].to_list()
    assert out.frame["apiCreator"].to_list() == [owners.get(name, "UNKNOWN") for name in names]
    for name, before, after in zip(names, properties(events), properties(out), strict=True):
        known = (before or {}).get("tier") not in (None, "UNKNOWN")
        wanted = {**(before or {}), "tier": "gold"} if name == "a" and (overwrite or not known) else before
        assert after == wanted
