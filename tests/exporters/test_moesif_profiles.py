"""Which users and companies get a profile, when, and what stands in it."""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime, timedelta
from functools import partial

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_moesif.exporters.moesif.profiles import Profiles
from otel_moesif.exporters.moesif.settings import ProfileSettings
from tests.exporters.conftest import CALL, FIXTURES
from tests.processors.events import make

HOUR = 3600


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def profiles(clock):
    def build(kind="user", *, enabled=True, remembered=1000, interval="1h", **metadata):
        options = ProfileSettings(enabled=enabled, metadata=metadata, interval=interval)
        return Profiles(kind, options, clock, remembered)

    return build


def frame(*rows):
    """Events with whose they are: ``user`` and ``company`` of a row."""
    events = make(
        *({**CALL, **{k: v for k, v in row.items() if k not in {"user", "company"}}} for row in rows)
    )
    users = pl.Series("user_id", [row.get("user") for row in rows], pl.String)
    companies = pl.Series("company_id", [row.get("company") for row in rows], pl.String)
    return events.frame.with_columns(users, companies)


def seen(profiles, *rows, application_id="app"):
    return [json.loads(text) for text in profiles.seen(frame(*rows), application_id)]


def ids(found):
    return sorted(profile["user_id"] for profile in found)


def test_a_user_as_moesif_documents_it(profiles):
    row = {"user": "12345", "company": "67890", "userAgentHeader": "Mozilla/5.0 (X11)"}
    [profile] = seen(profiles(plan="apiName"), row)
    assert profile == {
        "user_id": "12345",
        "company_id": "67890",
        "ip_address": "203.0.113.7",
        "user_agent_string": "Mozilla/5.0 (X11)",
        "metadata": {"plan": "Pizza"},
    }
    documented = FIXTURES / "moesif" / "apidocs_users_batch.json"
    if documented.exists():
        assert json.loads(documented.read_text())[0].keys() <= profile.keys()


def test_a_company_has_nothing_of_its_users(profiles):
    row = {"user": "u", "company": "67890", "userAgentHeader": "Mozilla/5.0 (X11)"}
    assert seen(profiles("company", plan="apiName"), row) == [
        {"company_id": "67890", "metadata": {"plan": "Pizza"}}
    ]
    assert seen(profiles("company"), row) == [{"company_id": "67890"}]


def test_one_profile_per_id_and_interval(profiles, clock):
    users = profiles()
    assert ids(seen(users, {"user": "a"}, {"user": "b"}, {"user": "a"})) == ["a", "b"]
    assert ids(seen(users, {"user": "b"}, {"user": "c"})) == ["c"]
    clock.now += HOUR - 1
    assert seen(users, {"user": "a"}, {"user": "c"}) == []
    clock.now += 1
    assert ids(seen(users, {"user": "a"}, {"user": "c"})) == ["a", "c"]


def test_each_application_has_profiles_of_its_own(profiles):
    users = profiles()
    assert ids(seen(users, {"user": "a"}, application_id="one")) == ["a"]
    assert ids(seen(users, {"user": "a"}, application_id="two")) == ["a"]
    assert seen(users, {"user": "a"}, application_id="one") == []


@pytest.mark.parametrize("nobody", [None, "", "UNKNOWN"])
def test_who_is_unknown_has_no_profile(profiles, nobody):
    assert seen(profiles(), {"user": nobody}, {"user": nobody}) == []


def test_disabled_means_nothing_at_all(profiles):
    assert seen(profiles(enabled=False), {"user": "a"}) == []


def test_the_last_known_value_counts_by_the_time_of_the_calls(profiles):
    late, early = (datetime(2026, 1, day, tzinfo=UTC) for day in (2, 1))
    rows = [
        {"user": "a", "company": "new", "apiName": "B", "userIp": "192.0.2.2", "requestTimestamp": late},
        {"user": "a", "company": "old", "apiName": "A", "userIp": "192.0.2.1", "requestTimestamp": early},
        {"user": "a", "apiName": "UNKNOWN", "userIp": "", "requestTimestamp": late + timedelta(1)},
        {"user": "b", "apiName": "UNKNOWN", "userIp": None, "userAgent": None, "requestTimestamp": late},
    ]
    first, second = sorted(seen(profiles(api="apiName"), *rows), key=lambda profile: profile["user_id"])
    assert (first["company_id"], first["ip_address"]) == ("new", "192.0.2.2")
    assert first["metadata"] == {"api": "B"}
    assert second == {"user_id": "b"}


def test_metadata_keeps_its_types(profiles):
    custom = {"tier": "gold", "seats": 5, "share": 0.5, "trial": False, "of": {"a": [1]}, "zip": "01234"}
    custom |= {
        "like": "5",
        "text": '{"a":1}',
        "word": "null",
        "né": "7",
        "ctl": "5\x1f",
        "deep": {"seats": "6", "like": 5},
        'q"': "x",
    }
    names = {f"its {name}": f"property.{name}" for name in custom if '"' not in name}
    columns = {"size": "responseSize", "hit": "responseCacheHit", "{last} call": "requestTimestamp"}
    nothing = {"missing": "property.x", "none": "property.gone", "cn": "commonName", "o": "applicationOwner"}
    for separators in ((",", ":"), (", ", ": ")):
        text = json.dumps(
            custom | {"gone": None}, separators=separators, ensure_ascii=bool(separators[0] == ",")
        )
        users = profiles(**names, **columns, **nothing)
        [profile] = seen(users, {"user": "a", "customProperties": text, "responseSize": 7})
        assert profile["metadata"] == {
            **{f"its {name}": value for name, value in custom.items() if '"' not in name},
            "size": 7,
            "hit": False,
            "{last} call": "2022-01-20T03:34:36.451Z",
        }


def test_a_text_that_is_no_json_stays_one_however_its_key_is_written(profiles):
    users = profiles(x="property.x")
    [profile] = seen(users, {"user": "a", "customProperties": r'{"\u0078" : "{cut"}'})
    assert profile["metadata"] == {"x": "{cut"}


def test_moesifs_own_client_reads_every_profile(profiles):
    models = pytest.importorskip("moesifapi.models")
    row = {"user": "a", "company": "acme", "userAgentHeader": "Mozilla/5.0 (X11)"}
    [user] = seen(profiles(plan="apiName"), row)
    model = models.UserModel.from_dictionary(user)
    assert (model.user_id, model.company_id, model.ip_address) == ("a", "acme", "203.0.113.7")
    assert (model.user_agent_string, model.metadata) == ("Mozilla/5.0 (X11)", {"plan": "Pizza"})
    [company] = seen(profiles("company", plan="apiName"), row)
    assert models.CompanyModel.from_dictionary(company).metadata == {"plan": "Pizza"}


def test_every_wrong_column_is_told_with_its_place(profiles):
    users = profiles(a="apiNam", b="property.", c="requestHeaders", d="apiName", **{" ": "apiName"})
    assert [problem.path for problem in users.problems()] == [
        "users::metadata::a",
        "users::metadata::b",
        "users::metadata::c",
        "users::metadata:: ",
    ]
    assert "did you mean apiName?" in users.problems()[0].message
    assert profiles("company", d="apiNam").problems()[0].path == "companies::metadata::d"
    assert profiles(d="apiName").problems() == []


def test_what_did_not_arrive_is_made_again_by_the_next_call(profiles):
    users = profiles()
    batch = frame({"user": "a"}, {"user": 'b "\\\n'}, {"user": "c"})
    made = users.seen(batch, "one")
    users.seen(batch, "two")
    lost = [text for text in made if json.loads(text)["user_id"] != "c"]
    users.forget("one", lost)
    assert sorted(users.seen(batch, "one")) == sorted(lost)
    assert users.seen(batch, "two") == []


def test_no_more_ids_are_remembered_than_allowed_and_those_sent_last_are_kept(profiles):
    users = profiles(remembered=3)
    for name in "abcd":
        seen(users, {"user": name})
    assert ids(seen(users, {"user": "b"}, {"user": "c"}, {"user": "d"})) == []
    assert ids(seen(users, {"user": "a"})) == ["a"]
    assert len(users._memory._sent) == 3
    seen(users, *({"user": str(number)} for number in range(10)))
    assert len(users._memory._sent) == 3


def test_two_threads_do_not_make_the_same_profile(profiles, request):
    users, made, many = profiles(remembered=100_000), [], 20_000
    ids = pl.Series("user_id", range(many)).cast(pl.String)
    batch = frame({"user": "a"})[[0] * many].with_columns(ids)
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)
    start = threading.Barrier(4)

    def work():
        start.wait()
        made.extend(users.seen(batch, "app"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(set(made)) == many


VALUES = st.none() | st.booleans() | st.integers(-9, 10**15) | st.text() | st.lists(st.integers(0, 3))
TEXTS = st.text(min_size=1).filter(lambda text: text not in {"UNKNOWN", "N/A"})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.dictionaries(st.sampled_from("xyz"), VALUES)), max_size=5))
def test_any_text_is_an_id_and_any_property_keeps_its_type(rows):
    names = {name: f"property.{name}" for name in "xyz"}
    users = Profiles("user", ProfileSettings(enabled=True, metadata=names))
    batch = [{"user": user, "customProperties": json.dumps(custom)} for user, custom in rows]
    if not batch:
        return
    texts = users.seen(frame(*batch), "app")
    expected = {}
    for user, custom in rows:
        known = {name: value for name, value in custom.items() if value not in (None, "", "UNKNOWN", "N/A")}
        expected[user] = expected.get(user, {}) | known
    found = {profile["user_id"]: profile.get("metadata", {}) for profile in map(json.loads, texts)}
    assert found == expected
    assert users.seen(frame(*batch), "app") == []
    users.forget("app", texts)
    assert sorted(users.seen(frame(*batch), "app")) == sorted(texts)
