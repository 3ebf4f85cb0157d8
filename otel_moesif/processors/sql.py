"""SQL expressions over events, checked before any event comes, and harmless when one does.

The dialect is that of polars: https://docs.pola.rs/api/python/stable/reference/sql/
"""

from __future__ import annotations

import re

import polars as pl

from otel_moesif.errors import ConfigError, Problem
from otel_moesif.processors.columns import PROPERTY, name_problem, property_name
from otel_moesif.processors.properties import with_properties
from otel_moesif.schema import SCHEMA

# What polars raises; a panic is not even an Exception.
_FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException, ArithmeticError, ValueError)
# Parts of a batch that may fail before what is left of it is null: a wrong value must not cost a second.
_MOST_FAILURES = 200

# Texts and quoted names stand first, so that nothing within them is taken for SQL. An aggregate alone would
# be found by what it gives, but beside a column it is spread over all events.
_TOKEN = re.compile(
    r"""(?P<text>'(?:[^']|'')*')
      | \bproperty\.(?: "(?P<quoted>(?:[^"]|"")+)" | (?P<bare>\w+) )
      | "(?:[^"]|"")*"
      | (?P<cast>\bCAST\s*\() | (?P<strict>::)
      | (?P<clock>\b(?:CURRENT_TIMESTAMP|CURRENT_TIME|CURRENT_DATE|LOCALTIME|LOCALTIMESTAMP|NOW)\b)
      | (?P<across>\b(?:COUNT|OVER|SELECT|DISTINCT|UNNEST|EXPLODE)\b(?=\s*\(|\s+\w)
        | \b(?:AVG|CORR|COVAR\w*|FIRST|LAST|MAX|MEDIAN|MIN|QUANTILE\w*|STD\w*|SUM|VAR(?:_\w+|IANCE)?)
          (?=\s*\())""",
    re.IGNORECASE | re.VERBOSE,
)
_PROBLEMS = {
    "strict": "write TRY_CAST(value AS type) instead of value::type",
    "clock": "the clock would stop at the start: use requestTimestamp",
    "across": "must look at one event, not at several (no aggregates, windows and queries)",
}


class Sql:
    """One expression.

    A cast that fails gives null, whether it is written as ``CAST`` or as ``TRY_CAST``.

    Args:
        text: The expression. Custom properties are ``property.name`` or ``property."a name"``, as text.
        path: The option that it stands in.
        boolean: It has to be true or false.

    Attributes:
        dtype: What it gives.
        properties: The custom properties that it needs.

    Raises:
        ConfigError: It cannot be used; the expression is quoted and what is wrong is said.
    """

    def __init__(self, text: str, path: str, *, boolean: bool = False) -> None:
        self._text, self._path = text, path
        self._expression = self._parse()
        roots = list(dict.fromkeys(self._expression.meta.root_names()))
        for name in roots:
            if problem := name_problem(name):
                raise self._refusal(problem)
        self.properties = [name for name in map(property_name, roots) if name is not None]
        self.dtype = self._check(roots)
        if boolean and self.dtype not in {pl.Boolean, pl.Null}:
            raise self._refusal(f"must be true or false, but is {self.dtype}")

    def holds(self, view: pl.DataFrame) -> pl.Series:
        """Where it is true; neither false nor null is.

        Args:
            view: Events, with the columns that `with_properties` adds.
        """
        return self.evaluate(view).cast(pl.Boolean).fill_null(value=False)

    def evaluate(self, view: pl.DataFrame) -> pl.Series:
        """Its value per event; null where it cannot be computed, such as a date that is none."""
        budget = [_MOST_FAILURES]
        return pl.concat([series.cast(self.dtype) for series in self._pieces(view, budget)])

    def _pieces(self, view: pl.DataFrame, budget: list[int]) -> list[pl.Series]:
        """The values in parts: what fails is halved, until the guilty rows are alone."""
        try:
            return [view.with_columns(self._expression.alias("\0"))["\0"]]
        except _FAILURES:
            budget[0] -= 1
        if view.height <= 1 or budget[0] <= 0:
            return [pl.Series([None], dtype=self.dtype).new_from_index(0, view.height)]
        middle = view.height // 2
        return self._pieces(view[:middle], budget) + self._pieces(view[middle:], budget)

    def _parse(self) -> pl.Expr:
        found: list[str] = []

        def token(match: re.Match[str]) -> str:
            kind = match.lastgroup or ""
            if kind in _PROBLEMS:
                found.append(_PROBLEMS[kind])
            if kind in {"quoted", "bare"}:
                return f'"{PROPERTY}{match[kind]}"'
            return "TRY_CAST(" if kind == "cast" else match[0]

        sql = _TOKEN.sub(token, self._text)
        if found:
            raise self._refusal(found[0])
        try:
            return pl.sql_expr(sql)
        except _FAILURES as error:
            raise self._refusal(_first_line(error)) from None

    def _check(self, roots: list[str]) -> pl.DataType:
        """Run it over no events, and over three of which nothing is known: types do not depend on values."""
        nothing = with_properties(SCHEMA.to_frame(), self.properties)
        try:
            dtype = nothing.with_columns(self._expression.alias("\0"))["\0"].dtype
            height = nothing.clear(3).select(self._expression).height
        except _FAILURES as error:
            raise self._refusal(f"{_first_line(error)}{_types(roots)}") from None
        if height != 3 and (roots or height != 1):
            raise self._refusal(_PROBLEMS["across"])
        return dtype

    def _refusal(self, message: str) -> ConfigError:
        return ConfigError([Problem(self._path, f"{message} (in: {self._text})")])


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def _types(roots: list[str]) -> str:
    types = [f"{name} is {SCHEMA.get(name, pl.String())}" for name in roots]
    return f"; {', '.join(types)}" if types else ""
