"""What is masked in headers, URIs and bodies, and what is wrong with an option."""

from __future__ import annotations

import base64
import json

import pytest
from pydantic import ValidationError

from otel_moesif.credentials import SENSITIVE_HEADERS
from otel_moesif.errors import ConfigError
from otel_moesif.processors.redact.processor import Redact
from otel_moesif.processors.redact.settings import QUERY, RedactSettings
from otel_moesif.processors.redact.values import MASK
from tests.processors.events import Counters, headers
from tests.processors.redaction import CARD, EMAIL, KEY, everything, one, redacted


def refused(**options):
    with pytest.raises(ConfigError) as caught:
        Redact(RedactSettings(**options), Counters().context)
    return {problem.path: problem.message for problem in caught.value.problems}


# headers


def test_headers_that_carry_credentials_are_masked_without_any_option_whatever_their_case():
    given_ = [{"key": name.title(), "value": "s3cret"} for name in SENSITIVE_HEADERS] + headers(accept="json")
    out = redacted({"requestHeaders": given_, "responseHeaders": headers(SET_COOKIE="s3cret")})
    assert "s3cret" not in everything(out)
    assert out.frame["requestHeaders"][0].to_list() == [
        *({"key": name.title(), "value": MASK} for name in SENSITIVE_HEADERS),
        {"key": "accept", "value": "json"},
    ]


def test_a_header_is_the_same_with_underscores():
    odd = [{"key": "X_Api_Key", "value": "s3cret"}, {"key": "x_corp_id", "value": "s3cret"}]
    for name in ("x-corp-id", "X_CORP_ID"):
        assert "s3cret" not in everything(redacted({"requestHeaders": odd}, headers=[name]))


def test_the_list_of_headers_can_be_longer_or_ones_own():
    given_ = headers(x_corp_id="1", X_Corp_Key="2", authorization="3", via="4")
    masked = one("requestHeaders", given_, headers=["X-Corp-*"]).to_list()
    assert [header["value"] for header in masked] == [MASK, MASK, MASK, "4"]
    masked = one("requestHeaders", given_, headers=["via"], default_headers=False).to_list()
    assert [header["value"] for header in masked] == ["1", "2", "3", MASK]
    kept = one("requestHeaders", given_, default_headers=False, default_query=False).to_list()
    assert kept == given_


def test_headers_without_names_or_values_and_events_without_headers_stay_as_they_are():
    odd = [{"key": None, "value": "a"}, {"key": "Cookie", "value": None}]
    rows = [
        {"requestHeaders": odd},
        {"requestHeaders": []},
        {"requestHeaders": None},
        {"requestHeaders": headers(cookie="x")},
    ]
    lists = redacted(*rows).frame["requestHeaders"].to_list()
    assert lists == [odd, [], None, headers(cookie=MASK)]


# URIs


@pytest.mark.parametrize(
    "name",
    [*QUERY, "Token", "%74oken", "tok%65n", "token[]", "filter[token]", "user.token", "access%5Ftoken"],
)
@pytest.mark.parametrize("column", ["requestUri", "destination", "apiResourceTemplate"])
def test_query_parameters_that_carry_credentials_are_masked(name, column):
    uri = f"https://h.example/a/b?x=1&{name}=s3%63ret-s3cret&y=2"
    out = redacted({column: uri})
    assert "s3cret" not in everything(out)
    assert "s3%63ret" not in everything(out)
    assert "x=1" in out.frame[column][0]
    assert "y=2" in out.frame[column][0]


def test_a_parameter_that_only_looks_like_one_stays():
    uri = "/codes/token=1?tokens=2&mytoken=3&code_challenge=4&q=token"
    assert one("requestUri", uri) == uri


def test_parameters_of_ones_own_and_in_headers_and_fragments():
    uri = "/a?Session-Id=s3cret#id_token=s3cret"
    assert one("requestUri", uri, query=["session-*"]) == f"/a?Session-Id={MASK}#id_token={MASK}"
    referer = headers(referer="https://h/?sig=s3cret&a=1")
    assert one("requestHeaders", referer).to_list() == headers(referer=f"https://h/?sig={MASK}&a=1")


def test_user_and_password_before_the_host_are_masked():
    assert one("destination", "https://me:s3cret@h/a@b") == f"https://{MASK}@h/a@b"
    assert one("destination", "https://me:p@s3cret@h/a@b") == f"https://{MASK}@h/a@b"
    body = '{"u":"https://h","m":"a@b","v":"ftp://me:p@s3cret@h"}'
    assert one("requestBody", body) == f'{{"u":"https://h","m":"a@b","v":"ftp://{MASK}@h"}}'


# bodies


def test_json_paths_are_masked_and_the_rest_of_the_body_stays():
    body = {
        "user": {"pin": 12, "name": "Bo"},
        "cards": [{"no": "1"}, {"no": {"a": 2}}],
        "deep": [[{"pass word": "x"}]],
    }
    paths = ["$.user.pin", "$.cards[*].no", "$..['pass word']", "$.none", "$.cards[7]"]
    out = json.loads(one("requestBody", json.dumps(body), json_paths=paths))
    assert out == {
        "user": {"pin": MASK, "name": "Bo"},
        "cards": [{"no": MASK}, {"no": MASK}],
        "deep": [[{"pass word": MASK}]],
    }
    assert json.loads(one("responseBody", '[1,{"a":2}]', json_paths=["$[0]", "$[1].*"])) == [
        MASK,
        {"a": MASK},
    ]
    assert json.loads(one("responseBody", '{"\\u0070in":1}', json_paths=["$.pin"])) == {"pin": MASK}


def test_a_path_to_any_depth_goes_on_in_json_within_json():
    inner = json.dumps({"calls": [{"pin": "s3cret", "a": 1}]})
    body = json.dumps({"arguments": f" {inner}", "no": "{json", "list": [json.dumps([inner])]})
    out = json.loads(one("requestBody", body, json_paths=["$..pin"]))
    assert json.loads(out["arguments"]) == {"calls": [{"pin": MASK, "a": 1}]}
    assert out["no"] == "{json"
    assert "s3cret" not in str(out)
    assert "s3cret" in one("requestBody", body, json_paths=["$.pin"])


@pytest.mark.parametrize(
    "body", ['{"pin":"s3cr', "pin=s3cret", "s3cret", '{"pin":"s3cret"} x', "<pin>s3cret</pin>"]
)
@pytest.mark.parametrize("encoding", [None, "json", "base64"])
def test_a_body_that_is_no_json_is_masked_as_a_whole_where_json_paths_are_to_be(body, encoding):
    sent = base64.b64encode(body.encode()).decode() if encoding == "base64" else body
    out = redacted({"requestBody": sent, "requestBodyEncoding": encoding}, json_paths=["$.pin"])
    assert "s3cr" not in everything(out)
    masked = base64.b64encode(MASK.encode()).decode() if encoding == "base64" else MASK
    assert out.frame["requestBody"][0] == masked


def test_bytes_that_are_no_text_and_base64_that_is_none_are_masked_only_where_bodies_are_looked_at():
    row = {"requestBodyEncoding": "base64"}
    for body in (base64.b64encode(b"\xff\x00s3cret").decode(), "s3cret!"):
        assert redacted({**row, "requestBody": body}).frame["requestBody"][0] == body
        assert "s3cret" not in everything(redacted({**row, "requestBody": body}, patterns=["email"]))


def test_base64_of_several_lines_is_read_and_utf_16_counts_as_no_text():
    lines = base64.encodebytes(b"a=1&password=s3cret&b=" + b"x" * 80).decode()
    wide = base64.b64encode(f"to {EMAIL}".encode("utf-16-le")).decode()
    row = {"requestBody": lines, "responseBody": wide}
    row |= {"requestBodyEncoding": "base64", "responseBodyEncoding": "base64"}
    assert "s3cret" not in everything(redacted(row))
    masked = redacted(row, patterns=["email"]).frame["responseBody"][0]
    assert base64.b64decode(masked).decode() == MASK


def test_json_in_base64_stays_both():
    body = base64.b64encode(b'{"pin": 1, "ok": true}').decode()
    out = redacted({"responseBody": body, "responseBodyEncoding": "base64"}, json_paths=["$.pin"])
    assert json.loads(base64.b64decode(out.frame["responseBody"][0])) == {"pin": MASK, "ok": True}


def test_json_that_is_too_deep_to_read_is_masked():
    body = "[" * 100_000 + '{"pin":"s3cret"}' + "]" * 100_000
    assert "s3cret" not in one("requestBody", body, json_paths=["$..pin"])
    nested = '{"a":' * 600 + f'"{EMAIL}"' + "}" * 600
    assert EMAIL not in one("requestBody", nested, patterns=["email"])


def test_a_body_stays_json_where_a_pattern_would_break_it():
    body = json.dumps(
        {"n": int(CARD), "u": 'https://h/?token=a"b&c=1', "s": f"to {EMAIL}", EMAIL: [None, True, 1.5]}
    )
    out = json.loads(one("requestBody", body, patterns=["email", "card_number"]))
    assert out == {"n": MASK, "u": f"https://h/?token={MASK}&c=1", "s": f"to {MASK}", MASK: [None, True, 1.5]}


def test_a_pattern_across_quotes_masks_the_body_rather_than_nothing():
    body = '{"a":"x","b":"s3cret"}'
    assert "s3cret" not in one("requestBody", body, patterns=[{"regex": '"b":"[^"]*'}])


def test_a_line_break_hides_no_edge_of_a_word_and_an_anchor_is_that_of_a_string():
    regexes = [{"regex": r"\bEMP-\d{6}"}, {"regex": r"^ACC-\d+$"}]
    texts = {"a": "was\nEMP-123456", "b": "was\nBearer s3cret-s3cret", "c": "ACC-12", "d": "no ACC-12"}
    row = {"requestBody": json.dumps(texts), "customProperties": json.dumps(texts)}
    for patterns in ([*regexes, "token"], ["token", *regexes]):
        out = redacted(row, patterns=patterns).frame
        for column in row:
            assert json.loads(out[column][0]) == {
                "a": f"was\n{MASK}",
                "b": f"was\nBearer {MASK}",
                "c": MASK,
                "d": "no ACC-12",
            }
    out = redacted(row, patterns=["token", regexes[0]]).frame
    assert json.loads(out["requestBody"][0])["a"] == f"was\n{MASK}"


def test_escapes_hide_nothing():
    escaped = "".join(f"\\u{ord(c):04x}" for c in EMAIL)
    for body in (f'{{"m":"{escaped}"}}', f'{{"m":"{escaped}", "cut', f'{{"a":"x\\/y {EMAIL}"}}'):
        out = redacted({"requestBody": body, "customProperties": f'{{"p":"{escaped}"}}'}, patterns=["email"])
        assert EMAIL not in everything(out)


def test_a_text_that_no_rule_can_look_at_is_masked_rather_than_failing_the_batch():
    odd = f'{{"a":"\\ud800","n":{CARD}}}'
    out = redacted(
        {"requestBody": odd, "customProperties": odd}, patterns=["card_number"], json_paths=["$.x"]
    )
    assert CARD not in everything(out)
    assert out.frame["customProperties"][0] == "{}"


# mistakes


def test_all_mistakes_are_told_with_their_places():
    said = refused(
        mask={"userIP": "IPV4", "proxyResponseCode": "STRING"},
        truncate_ip=["userIp", "transactionId"],
        hash={"columns": ["userIp"], "key": KEY},
        json_paths=["$.ok", "password", "$.a[?(@.b)]"],
        patterns=[
            "email",
            {"regex": "("},
            {"type": "email", "columns": ["nowhere", "requestHeaders", "weight"]},
        ],
    )
    assert "did you mean userIp?" in said["mask::userIP"]
    assert "is no text" in said["mask::proxyResponseCode"]
    assert "cannot be changed" in said["truncate_ip[1]"]
    assert "already" in said["hash::columns[0]"]
    assert "JSON path" in said["json_paths[1]"]
    assert "JSON path" in said["json_paths[2]"]
    assert "unclosed group" in said["patterns[1]::regex"]
    assert "no event column" in said["patterns[2]::columns[0]"]
    assert "is no text" in said["patterns[2]::columns[2]"]
    assert len(said) == 9
    with pytest.raises(ValidationError, match="either type or regex"):
        RedactSettings(patterns=[{}])


@pytest.mark.parametrize(
    "body",
    [
        "a=1&password=s3cret",
        "a=1\npassword=s3cret\n",
        '{"form":"password=s3cret&a=1"}',
        '{"u":"/?token=s3cret"}',
        '"http://s3cret:s3cret@h"',
        "%70assword=s3cret",
        '{"u":"?token\\u003ds3cret"}',
        '{"u":"?tok%65n%3Ds3cret"}',
    ],
)
def test_credentials_in_queries_are_found_in_bodies_without_any_option(body):
    assert "s3cret" not in everything(redacted({"requestBody": body, "responseBody": body}))


def test_what_is_json_is_masked_and_hashed_by_path_and_not_silently_left():
    said = refused(
        mask={"requestBody": "STRING", "customProperties": "STRING"},
        hash={"columns": ["responseBody"], "key": KEY},
        truncate_ip=["customProperties"],
    )
    assert said.keys() == {
        "mask::requestBody",
        "mask::customProperties",
        "hash::columns[0]",
        "truncate_ip[0]",
    }
    assert "use json_paths or patterns" in said["mask::requestBody"]
    assert "name one of them, property.<name>" in said["mask::customProperties"]
