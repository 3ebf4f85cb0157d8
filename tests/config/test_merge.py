import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_moesif.config.merge import merge, parse_override

keys = st.sampled_from("abc")
leaves = st.sampled_from([None, True, 0, "", "x", [1], [2, 3]])
trees = st.dictionaries(keys, leaves | st.dictionaries(keys, leaves | st.dictionaries(keys, leaves)))


def paths(tree, prefix=()):
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from paths(value, (*prefix, key))
        else:
            yield (*prefix, key), value


@given(trees)
def test_nothing_changes_by_merging_nothing_or_itself(tree):
    assert merge(tree, {}) == merge({}, tree) == merge(tree, tree) == tree


@given(trees, trees)
def test_everything_in_the_later_one_is_in_the_result(base, later):
    merged = merge(base, later)
    for path, value in paths(later):
        found = merged
        for key in path:
            found = found[key]
        assert found == value or (value == {} and isinstance(found, dict))


@given(trees, trees)
def test_arguments_stay_as_they_are_and_keys_keep_their_order(base, later):
    before = repr(base), repr(later)
    merged = merge(base, later)
    assert (repr(base), repr(later)) == before
    assert list(merged) == [*base, *(key for key in later if key not in base)]


def test_lists_are_replaced_and_null_wipes():
    assert merge({"a": [1, 2], "b": {"c": 1}}, {"a": [3], "b": None}) == {"a": [3], "b": None}


@pytest.mark.parametrize(
    ("override", "tree"),
    [
        ("a.b=v", {"a": {"b": "v"}}),
        (
            "exporters.moesif/eu.endpoint=http://x:1/?a=b",
            {"exporters": {"moesif/eu": {"endpoint": "http://x:1/?a=b"}}},
        ),
        ("exporters::moesif/eu.west::timeout=5s", {"exporters": {"moesif/eu.west": {"timeout": "5s"}}}),
        ("service.extensions=[a, b]", {"service": {"extensions": "[a, b]"}}),
        ("a={b: c}", {"a": {"b": "c"}}),
        ("a=", {"a": ""}),
    ],
)
def test_overrides(override, tree):
    assert parse_override(override) == tree


@pytest.mark.parametrize("override", ["a", "=v", "a..b=v", ".a=v", "a.=v", ""])
def test_what_is_no_override(override):
    with pytest.raises(ValueError, match=r"key\.key=value"):
        parse_override(override)


def test_an_override_keeps_the_text_and_its_meaning():
    assert parse_override("a=0123")["a"] == "0123"
    assert parse_override("a=0123")["a"].value == 123
    assert parse_override("a=[x]")["a"].value == ["x"]
    assert parse_override("a=")["a"].value is None
