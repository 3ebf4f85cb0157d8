"""What Moesif answers to ``GET /v1/config``, as far as sampling goes (moesif.md §1.6)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic_core import from_json

from otel_moesif.exporters.moesif.regex_rules import RegexRule, RegexRules

EVERYTHING = 100.0
"""Percent; also what counts where Moesif sets nothing."""

MOST_CONDITIONS = 1000
"""Of all regex rules together: each costs a fraction of a millisecond per batch."""

# Of the thread. A pattern takes a tenth of a millisecond; the largest that there can be, a tenth of a second.
_SECONDS_FOR_PATTERNS = 2.0


@dataclass(frozen=True)
class AppConfig:
    """Rates in percent, from 0 to 100; without arguments: everything is kept.

    Attributes:
        sample_rate: Of calls for which nothing else is set.
        user_sample_rate: By user id.
        company_sample_rate: By company id.
        regex_config: Rules about the call itself.
        etag: Names this version, without quotes; empty where the answer had none.
        problems: What could not be used, in words without values.
    """

    sample_rate: float = EVERYTHING
    user_sample_rate: Mapping[str, float] = field(default_factory=dict, repr=False)
    company_sample_rate: Mapping[str, float] = field(default_factory=dict, repr=False)
    regex_config: RegexRules = field(default_factory=RegexRules, repr=False, compare=False)
    etag: str = ""
    problems: tuple[str, ...] = ()

    @classmethod
    def parse(cls, body: bytes, etag: str | None = None) -> AppConfig:
        """Read an answer, leaving out what is of no use instead of failing for it.

        Keys that are not known are ignored. Rates may be numbers or texts of numbers; what is beyond 0 and
        100 counts as the nearer of them.

        Args:
            body: JSON.
            etag: Value of ``X-Moesif-Config-ETag``.

        Raises:
            ValueError: It is not a JSON object; never quotes it.
        """
        try:
            answer = from_json(body)
        except ValueError:  # whose message can quote the body
            raise ValueError("the app config is not JSON") from None
        if not isinstance(answer, dict):
            raise ValueError("the app config is not a JSON object")  # noqa: TRY004 - a matter of its bytes
        problems: list[str] = []
        whole = answer.get("sample_rate")
        sample_rate = EVERYTHING if whole is None else _rate(whole)
        if sample_rate is None:
            problems.append("sample_rate is not a number")
        return cls(
            EVERYTHING if sample_rate is None else sample_rate,
            _rates(answer, "user_sample_rate", problems),
            _rates(answer, "company_sample_rate", problems),
            _rules(answer.get("regex_config"), problems),
            normal_etag(etag),
            tuple(problems),
        )

    @cached_property
    def keeps_everything(self) -> bool:
        """Whether no call whatever is sampled."""
        rates = [
            self.sample_rate,
            *self.user_sample_rate.values(),
            *self.company_sample_rate.values(),
            *self.regex_config.rates,
        ]
        return min(rates) >= EVERYTHING


def normal_etag(etag: str | None) -> str:
    """An entity tag without quotes and mark of weakness (RFC 9110 section 8.8.3), for comparing."""
    return (etag or "").strip().removeprefix("W/").strip('"')


def _rate(value: object) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    # before it becomes a float, for which an integer can be too large
    return float(min(max(value, 0), 100))


def _rates(answer: Mapping[str, Any], key: str, problems: list[str]) -> dict[str, float]:
    given = answer.get(key)
    if given is None:
        return {}
    if not isinstance(given, dict):
        problems.append(f"{key} is not an object")
        return {}
    rates = {id_: rate for id_, value in given.items() if (rate := _rate(value)) is not None}
    if wrong := len(given) - len(rates):
        problems.append(f"{key}: {wrong} of {len(given)} rates are not numbers")
    return rates


def _rules(given: object, problems: list[str]) -> RegexRules:
    if given is None:
        return RegexRules()
    if not isinstance(given, list):
        problems.append("regex_config is not a list")
        return RegexRules()
    rules: list[RegexRule] = []
    room, end = MOST_CONDITIONS, time.thread_time() + _SECONDS_FOR_PATTERNS
    for number, item in enumerate(given, 1):
        room -= _size(item)
        if room < 0 or time.thread_time() > end:
            problems.append(f"regex_config: of {len(given)} rules only the first {number - 1} are used")
            break
        try:
            rule = _rule(item)
            RegexRules([rule])  # alone, so that the others are used
        except ValueError as error:
            problems.append(f"regex_config: rule {number} is not used: {error}")
        else:
            rules.append(rule)
    return RegexRules(rules)


def _size(item: object) -> int:
    conditions = item.get("conditions") if isinstance(item, dict) else None
    return len(conditions) if isinstance(conditions, list) and conditions else 1


def _rule(item: object) -> RegexRule:
    if not isinstance(item, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - told as a problem, like the others
    rate = _rate(item.get("sample_rate"))
    if rate is None:
        # Java takes 0 then, and drops every call that matches
        raise ValueError("its sample_rate is missing or not a number")
    conditions = item.get("conditions") or []
    if not isinstance(conditions, list):
        raise ValueError("its conditions are not a list")  # noqa: TRY004
    return RegexRule(tuple(_condition(condition) for condition in conditions), rate)


def _condition(given: object) -> tuple[str, str]:
    path, value = (given.get("path"), given.get("value")) if isinstance(given, dict) else (None, None)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # a status
    if not isinstance(path, str) or not isinstance(value, str):
        raise ValueError("a condition needs a path and a value, both texts")  # noqa: TRY004
    return path, value
