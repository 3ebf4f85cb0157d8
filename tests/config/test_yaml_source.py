import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_moesif.config.text import plain
from otel_moesif.config.yaml_source import YamlError, parse, parse_value


def read(text):
    data, findings = parse(text, "c.yaml")
    assert not findings
    return data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("off", "off"),
        ("0123", 123),
        ("0o17", 15),
        ("0x1F", 31),
        ("-5", -5),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("200ms", "200ms"),
        ("localhost:4317", "localhost:4317"),
        ('"5"', "5"),
        ("!!str 5", "5"),
        ("!!int x", "x"),
        ("[a, 1]", ["a", 1]),
        ("{a: {1: b}}", {"a": {"1": "b"}}),
    ],
)
def test_scalars_follow_the_core_schema(text, value):
    assert read(text) == value
    assert type(read(text)) is type(value)


def test_a_syntax_error_has_file_line_and_column():
    with pytest.raises(YamlError) as caught:
        parse("a: 1\nsecret: [x\nb: y\n", "c.yaml")
    assert caught.value.problem.path == "c.yaml:3:2"
    assert "expected ',' or ']'" in str(caught.value)


def test_a_syntax_error_never_quotes_the_file():
    with pytest.raises(YamlError) as caught:
        parse("application_id: 'hunter2\n", "c.yaml")
    assert "hunter2" not in str(caught.value)


def test_more_than_one_document_is_an_error():
    with pytest.raises(YamlError, match="expected a single document"):
        parse("a: 1\n---\nb: 2\n", "c.yaml")


def test_control_characters_are_an_error():
    with pytest.raises(YamlError, match=r"c\.yaml: not valid YAML"):
        parse("a: \x00", "c.yaml")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: *hunter2", "undefined alias; a text that begins with .* has to be in quotes"),
        ("a: !hunter2!x 1", "undefined tag handle; a text"),
        ("a: &hunter2\nb: &hunter2 1", "duplicate anchor; first occurrence"),
        ("a:\n\tb: 1", r"found character '\\t' that cannot start any token$"),
        ("[" * 10_000, "nested too deeply"),
    ],
    ids=["alias", "tag", "anchor", "tab", "depth"],
)
def test_what_is_no_yaml_is_said_without_its_words(text, problem):
    with pytest.raises(YamlError, match=problem) as caught:
        parse(text, "c.yaml")
    assert "hunter2" not in str(caught.value)


def test_every_duplicate_key_is_found():
    _, findings = parse("a: {x: 1, x: 2}\nb: 1\na: 3\n", "c.yaml")
    assert [str(finding.problem()) for finding in findings] == [
        "a::x: is set twice, first in line 1 (c.yaml, line 1)",
        "a: is set twice, first in line 1 (c.yaml, line 3)",
    ]


def test_anchors_and_merge_keys_work():
    text = "base: &base {a: 1, b: 2}\nchild: {<<: *base, b: 3}\nboth: {<<: [{a: 9}, *base]}\n"
    data = read(text)
    assert data["child"] == {"a": 1, "b": 3}
    assert data["both"] == {"a": 9, "b": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [*a]", "a::0: refers to itself (c.yaml, line 1)"),
        (
            "a: !hunter2 x",
            "a: has a tag that is not known here; a text that begins with *, & or ! has to be in quotes "
            "(c.yaml, line 1)",
        ),
        ("a: {[1]: 2}", "a: a key must be a text (c.yaml, line 1)"),
        ("a: {<<: 5}", "a: << takes a map or a list of maps (c.yaml, line 1)"),
    ],
)
def test_what_is_valid_yaml_but_no_configuration(text, said):
    _, findings = parse(text, "c.yaml")
    assert [str(finding.problem()) for finding in findings] == [said]


@given(st.text())
def test_a_value_from_outside_is_never_an_error(text):
    assert isinstance(plain(parse_value(text)), str | int | float | list | dict | None)


def test_a_value_from_outside_remembers_each_scalar():
    value = parse_value("[0123, {a: true}]")
    assert value == ["0123", {"a": "true"}]
    assert [value[0].value, value[1]["a"].value] == [123, True]
