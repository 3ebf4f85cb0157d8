import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_moesif.config.substitute import BROKEN, substitute
from otel_moesif.config.text import Text, plain

ENV = {
    "A": "alpha",
    "N": "0123",
    "EMPTY": "",
    "LIST": "[x, 1]",
    "POINTER": "A",
    "CHAIN": "<${env:A}>",
    "PASSWORD": "pa$$w${rd}$",
    "LOOP": "${env:LOOP}",
    "PING": "${env:PONG}",
    "PONG": "${env:PING}",
    "NULL": "null",
}


def one(text, environ=ENV):
    data, findings = substitute({"k": text}, environ)
    assert not findings, findings
    return data["k"]


def said(text):
    data, findings = substitute({"k": text}, ENV)
    assert data == {"k": BROKEN}
    assert {finding.loc for finding in findings} == {("k",)}
    return [finding.message for finding in findings]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("${env:A}", "alpha"),
        ("${A}", "alpha"),
        ("http://${env:A}:${A}/", "http://alpha:alpha/"),
        ("${env:NOPE:-fallback}", "fallback"),
        ("${NOPE:-fallback}", "fallback"),
        ("${env:NOPE:-}", ""),
        ("${env:EMPTY}", ""),
        ("${env:EMPTY:-default}", ""),
        ("${env:NOPE:-http://localhost:9500}", "http://localhost:9500"),
        ("${env:NOPE:-${env:A}}", "alpha"),
        ("${env:A:-${env:NOPE}}", "alpha"),
        ("${env:${env:POINTER}}", "alpha"),
        ("${${POINTER}}", "alpha"),
        ("${env:NOPE:-{}}", "{}"),
        ("${env:CHAIN}", "<alpha>"),
        ("${env:PASSWORD}", "pa$$w${rd}$"),
        ("$$", "$"),
        ("$${env:A}", "${env:A}"),
        ("$$${env:A}", "$alpha"),
        ("$$$$", "$$"),
        ("$A and $1", "$A and $1"),
        ("100$", "100$"),
        ("{}", "{}"),
    ],
)
def test_references(text, result):
    assert one(text) == result


def test_a_whole_value_is_yaml_that_remembers_its_text():
    assert (one("${env:N}"), plain(one("${env:N}"))) == ("0123", 123)
    assert plain(one("${env:LIST}")) == ["x", "1"]
    assert plain(one("${env:EMPTY}")) is None
    assert plain(one("${env:NULL}")) is None
    assert plain(one("${env:NOPE:-true}")) is True


def test_a_value_inside_a_text_is_text():
    assert plain(one("1${env:N}")) == "10123"
    assert isinstance(one("x${env:N}"), Text)


def test_a_text_without_reference_is_left_as_it_was():
    assert not isinstance(one("0123"), Text)
    assert one("5$$") == "5$"


def test_keys_are_left_alone_and_the_tree_is_not_changed():
    tree = {"${env:A}": ["${env:A}", 5, None, {"x": "${env:A}"}]}
    assert substitute(tree, ENV)[0] == {"${env:A}": ["alpha", 5, None, {"x": "alpha"}]}
    assert tree["${env:A}"][0] == "${env:A}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "${env:NOPE}",
            "environment variable NOPE is not set (set it, or give a default: ${env:NOPE:-default})",
        ),
        ("${env:NOPE:-${env:NIL}}", "environment variable NIL is not set"),
        ("${env:1X}", "a variable's name has letters, digits and _ only"),
        ("${}", "a variable's name has letters, digits and _ only"),
        ("${https://x}", 'unknown scheme "https" in a reference (allowed: env, file)'),
        ("${env:A", "a ${ has no closing } (write $${ for a literal ${)"),
        ("${env:LOOP}", "environment variable LOOP refers to itself"),
        ("${env:PING}", "environment variable PING refers to itself"),
        ("${file:/no/such/file}", 'cannot read file "/no/such/file": No such file or directory'),
        ("${env:" * 150 + "A" + "}" * 150, "references are nested more than 100 levels deep"),
    ],
)
def test_references_that_have_no_value(text, message):
    assert said(text)[0].startswith(message)


def test_every_missing_variable_of_a_value_is_named():
    assert [message.split()[2] for message in said("${env:NOPE}:${env:NIL}")] == ["NOPE", "NIL"]


def test_a_file_is_a_text_without_its_last_newline(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("pa$$word\n")
    assert one(f"${{file:{secret}}}") == "pa$$word"
    assert one("${file:${env:DIR}/secret}", {"DIR": str(tmp_path)}) == "pa$$word"


def test_a_file_with_a_map_is_a_subtree_with_references(tmp_path):
    part = tmp_path / "part.yaml"
    part.write_text("endpoint: ${A}\nsizes: [1, $$2]\n")
    assert plain(one(f"${{file:{part}}}")) == {"endpoint": "alpha", "sizes": ["1", "$2"]}


def test_a_file_that_includes_itself_is_refused(tmp_path):
    part = tmp_path / "part.yaml"
    part.write_text(f"a: ${{file:{part}}}\nb: ${{file:{part}}}\n")
    _, findings = substitute({"k": f"${{file:{part}}}"}, {})
    assert [finding.loc for finding in findings] == [("k", "a"), ("k", "b")]
    assert all("includes itself" in finding.message for finding in findings)


def test_an_unreadable_file_says_why(tmp_path):
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert said(f"${{file:{binary}}}") == [f'cannot read file "{binary}": it is not UTF-8']
    assert said("${file:a\0b}") == ['cannot read file "a\0b": no file has such a name']


@given(st.text(alphabet=st.characters(exclude_characters="$")))
def test_a_text_without_dollar_never_changes(text):
    assert one(text) == text


@given(st.text())
def test_an_escaped_text_comes_back(text):
    assert one(text.replace("$", "$$")) == text


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00")))
def test_a_variable_that_names_no_other_comes_through_verbatim(value):
    if re.search(r"\$\{(env|file):", value):
        return
    assert one("${env:V}", {"V": value}) == value
    assert one("a${V}b", {"V": value}) == f"a{value}b"


@given(st.text(alphabet="${}:-AenvNOPE_ x", max_size=40))
def test_no_text_breaks_the_expander(text):
    data, findings = substitute({"k": text}, ENV)
    assert (data["k"] is BROKEN) == bool(findings)
