"""Moesif's regex sampling rules, over columns.

Rules stand in order; one matches when all of its conditions do, and the first that matches decides, as in
moesifapi-java ``getSampleRateToUse`` and moesifwsgi ``app_config.py`` (where Java lets the last condition
decide alone, moesif.md §3.2 g). A condition whose path has no value in a call is not met.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import polars as pl

from otel_moesif.exporters.moesif.distinct_values import constant
from otel_moesif.exporters.moesif.patterns import Pattern, compiled

# As moesifwsgi finds it, but for a fragment, and for a URI that has no host (WSO2's own reporter's).
_ROUTE = r"^(?:[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)?(/[^?#]+)"
_PLAIN = {
    "request.verb": pl.col("verb"),
    "request.uri": pl.col("uri"),
    "request.route": pl.col("uri").str.extract(_ROUTE, 1).fill_null("/"),
    "request.ip_address": pl.col("ip_address"),
    "response.status": pl.col("status").cast(pl.String),
}
_BODY = re.compile(r"request\.body((?:\.[A-Za-z0-9_]+)+)")
_HEADER = re.compile(r"(request|response)\.headers\.(.+)")


def value_of(path: str) -> pl.Expr | None:
    """What a condition's path stands for, or None for a path that is not known.

    ``request.verb``, ``request.route`` (the URI's path, ``/`` where it has none), ``request.ip_address`` and
    ``response.status`` as in moesifwsgi and moesifapi-java; ``request.body.<key>`` as in kong-plugin-moesif,
    of JSON bodies; ``request.uri``, ``request.headers.<name>`` and ``response.headers.<name>`` besides. See
    moesif.md §2.3.
    """
    if path in _PLAIN:
        return _PLAIN[path]
    if body := _BODY.fullmatch(path):
        return pl.col("request_body").str.json_path_match(f"${body[1]}")
    if header := _HEADER.fullmatch(path):
        pair = pl.element().struct
        named = pair.field("key").str.to_lowercase() == header[2].lower()
        values = pl.col(f"{header[1]}_headers").list.eval(pair.field("value").filter(named))
        return pl.when(values.list.len() > 0).then(values.list.join(","))
    return None


@dataclass(frozen=True)
class RegexRule:
    """One rule.

    Attributes:
        conditions: (path, pattern): all have to be met.
        sample_rate: Percent.
    """

    conditions: tuple[tuple[str, str], ...]
    sample_rate: float


class RegexRules:
    """Compiled rules.

    Up to some thirty patterns cost 0.1 µs a call each; polars keeps no more of them compiled.

    Args:
        rules: In their order. One without conditions never matches.

    Raises:
        ValueError: A path or a pattern cannot be used; says why, without either.
    """

    def __init__(self, rules: Sequence[RegexRule] = ()) -> None:
        self._rules = [rule for rule in rules if rule.conditions]
        self._values: dict[str, pl.Expr] = {}
        self._patterns: dict[str, Pattern] = {}
        for path, text in chain.from_iterable(rule.conditions for rule in self._rules):
            value = value_of(path)
            if value is None:
                raise ValueError("a condition has a path that is not known here")
            self._values[path] = value
            if text not in self._patterns:
                self._patterns[text] = compiled(text)

    def __len__(self) -> int:
        return len(self._rules)

    @property
    def rates(self) -> list[float]:
        """The rates that the rules can give."""
        return [rule.sample_rate for rule in self._rules]

    def first_match(self, calls: pl.DataFrame) -> pl.Series:
        """For each call the rate of the first rule that matches, or null.

        Args:
            calls: As for `rates`.

        Returns:
            Float64, percent.
        """
        values = {path: _of_calls(calls, value) for path, value in self._values.items()}
        met: dict[tuple[str, str], pl.Series] = {}
        rate = constant(None, calls.height, pl.Float64)
        # from the last to the first, which has the last word
        for rule in reversed(self._rules):
            matches = constant(value=True, rows=calls.height, dtype=pl.Boolean)
            for condition in rule.conditions:
                path, text = condition
                if condition not in met:
                    met[condition] = self._patterns[text].found_in(values[path]).fill_null(value=False)
                matches &= met[condition]
            rate = constant(rule.sample_rate, calls.height, pl.Float64).zip_with(matches, rate)
        return rate


def _of_calls(calls: pl.DataFrame, value: pl.Expr) -> pl.Series:
    if any(calls.schema.get(column, pl.Null) == pl.Null for column in value.meta.root_names()):
        return constant(None, calls.height, pl.String)
    return calls.select(value).to_series()
