"""What is found in texts and made of values; and that it is found nowhere in what leaves."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from otel_moesif.processors.redact.processor import Redact
from otel_moesif.processors.redact.settings import RedactSettings
from otel_moesif.processors.redact.values import MASK
from tests.exporters.mapped import texts as moesif_texts
from tests.processors.events import EVENTS, Counters, headers, make, properties, untouched
from tests.processors.redaction import (
    ALL,
    CARD,
    CARD_SPACED,
    EMAIL,
    JWT,
    KEY,
    NO_CARD,
    everything,
    one,
    redacted,
)

# patterns


@pytest.mark.parametrize(
    "text", [EMAIL, "jörg@müller.example", quote(EMAIL), quote(quote(EMAIL)), EMAIL.replace("@", "%40")]
)
def test_mail_addresses_are_found(text):
    out = redacted({"requestUri": f"/users/{text}/x?a=1", "userAgent": f"bot (+{text})"}, patterns=["email"])
    assert "example" not in everything(out)
    assert out.frame["requestUri"][0] == f"/users/{MASK}/x?a=1"


@pytest.mark.parametrize(
    "card",
    [CARD, "4111-1111-1111-1111", "4111 1111 1111 1111", "4111+1111+1111+1111", "4111%201111%201111%201111",
     "4111 - 1111 - 1111 - 1111", "4111\u00a01111\u20131111  1111",
     "378282246310005", "6011111111111117", "2223003122003222", "3530111333300000", "30569309025904"],
)  # fmt: skip
def test_card_numbers_are_found(card):
    rows = {"requestUri": f"/pay?n={card}&x=1", "requestBody": f"n: {card}, 12/29 737"}
    out = redacted(rows, patterns=["card_number"])
    assert out.frame["requestUri"][0] == f"/pay?n={MASK}&x=1"
    assert card[-4:] not in out.frame["requestBody"][0]


@pytest.mark.parametrize(
    "number", [NO_CARD, "1750000000000", "41111111111111111111111", "411111111111", "0000000000000"]
)
def test_other_numbers_stay(number):
    uri = f"/orders/{number}?at={number}"
    assert one("requestUri", uri, patterns=["card_number"]) == uri


@pytest.mark.parametrize(
    "text", [f"Bearer {JWT}", JWT, f"t_{JWT}", "bearer abcdef123456", "Basic dXNlcjpwYXNz", f"x={JWT}&y=1"]
)
def test_tokens_are_found(text):
    out = redacted({"requestHeaders": headers(x_own=text)}, patterns=["token"])
    assert not re.search(
        "eyJ|abcdef123456|dXNlcjpwYXNz", json.dumps([*out.to_dicts(), str(moesif_texts(out)[0])])
    )


def test_what_developers_write_is_looked_at_too():
    names = ("applicationOwner", "applicationName", "apiCreator", "apiContext", "errorMessage")
    rows = dict.fromkeys(names, f"/{EMAIL}") | {"eventType": "fault"}
    assert EMAIL not in everything(redacted(rows, patterns=["email"]))


def test_a_pattern_is_looked_for_only_where_it_shall_be():
    rows = {
        "userName": "EMP-123456",
        "userAgent": "EMP-123456",
        "customProperties": '{"a":"EMP-123456","b":"EMP-123456"}',
    }
    own = {"regex": r"EMP-\d{6}", "columns": ["userAgent", "property.a"]}
    out = redacted(rows, patterns=[own])
    assert out.frame.select("userName", "userAgent").row(0) == ("EMP-123456", MASK)
    assert properties(out) == [{"a": MASK, "b": "EMP-123456"}]
    assert properties(redacted({"customProperties": '{"a":5}'}, patterns=[own])) == [{"a": 5}]


def test_what_is_encoded_too_often_to_be_read_is_masked():
    text = EMAIL
    for _ in range(9):
        text = quote(text)
    assert one("requestUri", f"/a/{text}?x=1", patterns=["email"]) == MASK


def test_many_digits_take_no_time():
    digits = " ".join(["455"] * 30_000)
    begun = time.process_time()
    one("requestBody", f"{digits} x {CARD_SPACED}", patterns=["card_number"])
    assert time.process_time() - begun < 10  # comparing each group with each other takes minutes


def test_numbers_beyond_the_bound_count_as_cards(monkeypatch):
    monkeypatch.setattr("otel_moesif.processors.redact.texts.MOST", 1)
    out = redacted({"requestBody": f"{NO_CARD} and {CARD} and 1750000000000"}, patterns=["card_number"])
    assert CARD not in out.frame["requestBody"][0]
    assert out.frame["requestBody"][0].count(MASK) >= 2


# values


@pytest.mark.parametrize(
    ("kind", "value", "masked"),
    [
        ("IPV4", "192.168.10.98", "192.168.***.98"),
        ("IPV4", "192.168.10.98:443", "192.168.***.98"),
        ("IPV4", "::ffff:192.168.10.98", "192.168.***.98"),
        ("IPV6", "2001:0db8:85a3:0000:0000:8a2e:0370:7334", "2001:0db8:85a3:****:****:****:****:7334"),
        ("IPV4", "2001:db8::1", "2001:0db8:0000:****:****:****:****:0001"),
        ("IPV6", "::1", "0000:0000:0000:****:****:****:****:0001"),
        ("IPV6", "[::1]:80", "0000:0000:0000:****:****:****:****:0001"),
        ("IPV6", "192.168.10.98", "192.168.***.98"),
        ("IPV4", "unix:@", MASK),
        ("IPV4", "1.2", MASK),
        ("EMAIL", "alice@carbon.super", f"{MASK}@carbon.super"),
        ("EMAIL", "a@b@c.example", f"{MASK}@c.example"),
        ("EMAIL", "alice", MASK),
        ("EMAIL", "alice@", MASK),
        ("STRING", "alice", MASK),
        *((kind, "UNKNOWN", "UNKNOWN") for kind in ("IPV4", "IPV6", "EMAIL", "STRING")),
        *((kind, "", "") for kind in ("IPV4", "IPV6", "EMAIL", "STRING")),
    ],
)  # fmt: skip
def test_masks_are_those_of_wso2_and_never_fail(kind, value, masked):
    assert one("userIp", value, mask={"userIp": kind}) == masked


@pytest.mark.parametrize(
    ("address", "cut"),
    [("203.0.113.77", "203.0.113.0"), ("2001:db8:1:2:3::4", "2001:db8:1::"),
     ("::ffff:203.0.113.77", "203.0.113.0"), ("UNKNOWN", "UNKNOWN"), ("me", MASK)],
)  # fmt: skip
def test_addresses_are_cut(address, cut):
    assert one("userIp", address, truncate_ip=["userIp"]) == cut


def test_headers_that_repeat_a_redacted_column_are_masked_with_it():
    row = {
        "userIp": "203.0.113.77",
        "userAgent": "me",
        "requestHeaders": headers(X_Forwarded_For="203.0.113.77", USER_AGENT="me"),
    }
    out = redacted(row, truncate_ip=["userIp"], mask={"userAgent": "STRING"})
    assert out.frame["requestHeaders"][0].to_list() == headers(X_Forwarded_For=MASK, USER_AGENT=MASK)
    assert redacted(row).frame["requestHeaders"][0].to_list() == row["requestHeaders"]


def test_names_are_hashed_with_the_key_and_stay_distinguishable():
    names = ["alice", "bob", "alice", "UNKNOWN"]
    rows = [{"userName": name, "customProperties": json.dumps({"plan": name, "n": 1})} for name in names]
    out = redacted(
        *rows, hash={"columns": ["userName", "property.plan"], "key": KEY}, patterns=["card_number"]
    )
    wanted = [hmac.new(KEY.encode(), name.encode(), hashlib.sha256).hexdigest() for name in names[:3]]
    assert out.frame["userName"].to_list() == [*wanted, "UNKNOWN"]
    assert properties(out) == [{"n": 1, "plan": plan} for plan in wanted] + [{"plan": "UNKNOWN", "n": 1}]


def test_the_key_is_shown_nowhere_and_must_not_be_short():
    options = RedactSettings(hash={"columns": ["userName"], "key": KEY})
    assert KEY not in repr(options)
    with pytest.raises(ValidationError) as caught:
        RedactSettings(hash={"columns": ["userName"], "key": "short"})
    assert "short'" not in str(caught.value)


# everything together

SECRETS = st.sampled_from([EMAIL, CARD, CARD_SPACED, JWT, "EMP-123456"])
ENCODED = st.sampled_from([str, quote, lambda s: quote(quote(s)), lambda s: quote(s).lower(), lambda s: s])
AROUND = st.sampled_from(
    ["{}", "a {} b", "<{}>", "({})", "id:{};", "x\n{}\t", "é{}é", '"{}"', "\\{}\\", "/{}/"]
)
JSON_FORMS = st.sampled_from(
    [
        lambda s: json.dumps({"a": [{"b": s}]}),
        lambda s: json.dumps({s: 1}),
        lambda s: json.dumps(f"say {s}"),
        lambda s: json.dumps({"a": s}, ensure_ascii=False)[:-2],
        lambda s: '{"a":"' + "".join(f"\\u{ord(c):04X}" for c in s) + '"}',
        lambda s: f"a=1&b={quote(s)}",
        lambda s: f"<xml>{s}</xml>",
        lambda s: s,
    ]
)


@settings(max_examples=80, deadline=None)
@given(SECRETS, ENCODED, AROUND, JSON_FORMS, st.booleans())
def test_a_planted_secret_is_found_nowhere(secret, encode, around, form, in_base64):
    body = form(around.format(secret))
    sent = base64.b64encode(body.encode()).decode() if in_base64 else body
    out = redacted(
        {
            "userName": secret,
            "userAgent": around.format(secret),
            "requestUri": f"https://h.example/x/{encode(secret)}/y?q={encode(secret)}&z",
            "destination": f"http://b.example/{encode(secret)}",
            "apiResourceTemplate": f"/x/{encode(secret)}",
            "requestHeaders": headers(referer=f"/?q={encode(secret)}", x_own=around.format(secret)),
            "responseHeaders": headers(location=f"/{encode(secret)}", authorization=secret),
            "requestBody": sent,
            "requestBodyEncoding": "base64" if in_base64 else None,
            "responseBody": body,
            "customProperties": json.dumps({"a": around.format(secret), "b": [{secret: secret}]}),
        },
        {"apiName": "beside", "requestUri": "/beside"},
        patterns=ALL,
    )
    blob = everything(out)
    for form_ in {secret, quote(secret), json.dumps(secret)[1:-1], secret.replace(" ", "")}:
        assert form_ not in blob
    assert out.frame.row(1, named=True)["requestUri"] == "/beside"
    for text in moesif_texts(out):
        json.loads(text)
    out.to_dicts()


@settings(max_examples=80, deadline=None)
@given(EVENTS)
def test_nothing_leaves_nothing_moves_and_what_holds_no_secret_is_untouched(events):
    out = Redact(RedactSettings(default_query=False), Counters().context).process(events)
    untouched(events, out, "requestHeaders")
    everything_on = RedactSettings(
        patterns=ALL,
        json_paths=["$.tier"],
        mask={"userIp": "IPV4"},
        hash={"columns": ["userName"], "key": KEY},
    )
    out = Redact(everything_on, Counters().context).process(events)
    touched = ("userIp", "userName", "requestHeaders", "requestUri", "requestBody", "customProperties")
    untouched(events, out, *touched)
    assert (
        out.frame["requestHeaders"]
        .list.len()
        .equals(events.frame["requestHeaders"].list.len(), null_equal=True)
    )
    for name in touched:
        assert out.frame[name].is_null().equals(events.frame[name].is_null())
    assert [row for row in properties(out) if row is not None and not isinstance(row, dict)] == []


def test_no_events_are_no_trouble():
    none = make({}).slice(0, 0)
    assert len(Redact(RedactSettings(patterns=ALL), Counters().context).process(none)) == 0
