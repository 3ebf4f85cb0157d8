"""Regular expressions of Moesif's sampling rules: which are used, and how long they may take."""

from __future__ import annotations

import re
import time

import polars as pl
import pytest

from otel_moesif.exporters.moesif.patterns import compiled


def test_a_pattern_that_would_take_python_years_takes_no_time():
    start = time.thread_time()
    found = compiled(r"^/(\w+/?)*$").found_in(pl.Series(["/" + "a" * 20_000 + "!", "/" + "a" * 20_000]))
    assert found.to_list() == [False, True]
    assert time.thread_time() - start < 2


@pytest.mark.parametrize(
    "text",
    [
        r"(?!x)(\w+/?)*$",
        r"(?=a)(a|a)+b",
        r"(?=a)((a+))*b",
        r"(?=a)(a?a?){20}b",
        r"(?!z)(?:a*){2,}b",
        r"(?=a)" + "a?" * 30 + "a" * 30,
        r"(?=a)" + "(a|a)" * 30 + "b",
        r"(?=a)a*a*a*a*b",
        r"(?x: # [" + "\n" + r"(?=a)(a+)+ # ]" + "\n b)",
        r"(a+)+\1b",
        r"[]a](?=.)([^]b]+)*c",
    ],
)
def test_a_pattern_for_pythons_engine_that_could_explode_is_not_used(text):
    re.compile(text)
    with pytest.raises(ValueError, match="could take very long"):
        compiled(text)


@pytest.mark.parametrize(
    ("text", "matching", "other"),
    [
        (r"^(?!/health)", "/orders", "/health/live"),
        (r"^/api/(?!.*\.(png|css|js)$).*", "/api/x.txt", "/api/x.PNG"),
        (r"(?<=/v)[0-9]+(?!/beta)/", "/v12/a", "/vx/a"),
        (r"/orders/{id}", "/orders/{ID}", "/orders/7"),
        (r"(?P<half>ab|cd)-(?P=half)", "CD-cd", "ab-cd"),
        (r"(?=/a)/\w+?(?#any ( comment)/b{2,3}$", "/abc/bbb", "/abc/b"),
        (r"^(?=.*\d{3})(?:/[a-z]{2})?/\w+", "/de/a123", "/de/a12"),
    ],
)
def test_lookaround_and_back_references_work(text, matching, other):
    assert compiled(text).found_in(pl.Series([matching, other, None, matching])).to_list() == [
        True,
        False,
        None,
        True,
    ]


def test_a_pattern_that_proves_slow_is_given_up(caplog):
    slow = compiled(r"(?=a)a*a*a*b")
    texts = pl.Series(["a" * 110 + str(number) for number in range(64)] + ["ab"])
    assert not slow.found_in(texts).any()
    assert not slow.found_in(pl.Series(["ab"])).any()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
