"""The processor: which rule goes over which column."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from otel_moesif.component import Context, ProcessorFactory
from otel_moesif.credentials import SENSITIVE_HEADERS
from otel_moesif.errors import ConfigError, Problem
from otel_moesif.events import Events
from otel_moesif.processors.columns import problems_of, property_name, text_problem
from otel_moesif.processors.distinct import by_distinct, on_distinct
from otel_moesif.processors.properties import COLUMN, as_json, read_property, with_members
from otel_moesif.processors.redact.bodies import BodyRules
from otel_moesif.processors.redact.headers import redacted
from otel_moesif.processors.redact.paths import Path, parse_path
from otel_moesif.processors.redact.settings import QUERY, PatternSettings, RedactSettings
from otel_moesif.processors.redact.texts import (
    ENCODED,
    Rule,
    chain,
    marks_of,
    matching,
    over_json,
    over_uris,
    pattern,
    query,
    user_info,
    wildcards,
)
from otel_moesif.processors.redact.values import MASK, keyed_hash, mask, truncate_ip

_HEADER_LISTS = ("requestHeaders", "responseHeaders")
_BODIES = {"requestBody": "requestBodyEncoding", "responseBody": "responseBodyEncoding"}
_URIS = ("requestUri", "destination", "apiResourceTemplate")
# Where a caller's or a developer's text can stand; the other columns hold ids and words of the gateway's.
_NAMES = (
    *("userName", "commonName", "correlationId", "companyId", "sessionToken", "errorMessage"),
    *("apiContext", "apiCreator", "applicationName", "applicationOwner"),
)
_TEXTS = (*_URIS, "userAgent", "userAgentHeader", *_NAMES)
_NO_NAME = r"[^\s\S]"
_ANYWHERE = (*_TEXTS, *_HEADER_LISTS, *_BODIES, COLUMN)
# Headers that say what a column says; who redacts the column means them, too.
_COMPANIONS = {
    "userIp": (
        "x-forwarded-for",
        "x-original-forwarded-for",
        "forwarded",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-envoy-external-address",
        "x-azure-clientip",
        "true-client-ip",
        "cf-connecting-ip*",
        "fastly-client-ip",
        "fly-client-ip",
    ),
    "userAgent": ("user-agent",),
}


class Redact:
    """Masks secrets in events; none leaves and none is added.

    Args:
        settings: What is redacted.
        context: Not used: nothing is ever said about what was found.

    Raises:
        ConfigError: A column, path or expression cannot be used; all that cannot are told.
    """

    def __init__(self, settings: RedactSettings, context: Context) -> None:  # noqa: ARG002
        self._problems: list[Problem] = []
        self._values = self._value_rules(settings)
        self._paths = self._json_paths(settings.json_paths)
        patterns = self._patterns(settings.patterns)
        marks = dict.fromkeys(
            patterns,
            marks_of(one.regex or "" for one in settings.patterns if isinstance(one, PatternSettings)),
        )
        if self._problems:
            raise ConfigError(self._problems)
        names = [*(QUERY if settings.default_query else ()), *map(str.lower, settings.query)]
        in_uri = [user_info, *([query(names, embedded=False)] if names else [])]
        in_json = [user_info, *([query(names, embedded=True)] if names else [])]
        companions = [name for column in self._values for name in _COMPANIONS.get(column, ())]
        headers = [
            *sorted(SENSITIVE_HEADERS if settings.default_headers else ()),
            *map(str.lower, settings.headers),
        ]
        headers = [name.replace("_", "-") for name in (*headers, *companions)]
        self._headers = wildcards(headers, ".*") or _NO_NAME

        def rule(column: str) -> Rule:
            uri = in_uri if column in (*_URIS, *_HEADER_LISTS) else ()
            return over_uris(chain([*uri, *patterns.get(column, ())]))

        apart = {*_HEADER_LISTS, *_BODIES, COLUMN, *self._values}
        self._texts = {name: rule(name) for name in (*_URIS, *patterns) if name not in apart}
        self._in_headers = {name: rule(name) for name in _HEADER_LISTS}
        self._bodies = {
            name: BodyRules(
                self._paths,
                bool(self._paths or name in patterns),
                chain([*in_json, *patterns.get(name, ())]),
                chain([*in_uri, *patterns.get(name, ())]),
                marks.get(name, ENCODED),
            )
            for name in _BODIES
        }
        of_properties = patterns.get(COLUMN, ())
        in_leaves = over_uris(chain([*in_uri, *of_properties]))
        self._custom = over_json(chain([*in_json, *of_properties]), in_leaves, marks.get(COLUMN, ENCODED))

    def process(self, events: Events) -> Events:
        """The same events, without what must not leave."""
        if not len(events):
            return events
        frame = events.frame
        columns: dict[str, pl.Series] = {}
        properties = frame[COLUMN]
        for name, rule in {**self._values, **self._texts}.items():
            member = property_name(name)
            if member is None:
                columns[name] = on_distinct(frame[name], rule)
            else:
                old = frame.select(read_property(member)).to_series()
                new = on_distinct(old, rule)
                properties = with_members(properties, {member: as_json(new)}, new.ne_missing(old))
        for name in _HEADER_LISTS:
            columns[name] = redacted(frame[name], self._headers, self._in_headers[name])
        for name, encoding in _BODIES.items():
            columns[name] = self._bodies[name].redacted(frame[name], frame[encoding])
        properties = on_distinct(properties, self._custom)
        # masked as a whole it would be no object any more
        columns[COLUMN] = properties.set((properties == f'"{MASK}"').fill_null(value=False), "{}")
        return Events(frame.with_columns(value.alias(name) for name, value in columns.items()))

    def _value_rules(self, settings: RedactSettings) -> dict[str, Rule]:
        rules: dict[str, Rule] = {}

        def add(column: str, path: str, function: Callable[[str], str]) -> None:
            problem = text_problem(column)
            if column in _BODIES:
                problem = f"{column} is no single value: use json_paths or patterns, or transform's delete"
            if column in rules:
                problem = f"{column} is redacted already by another option"
            self._problems.extend(problems_of([(path, problem)]))
            rules[column] = lambda texts: by_distinct(texts, function, beyond=MASK)
            if column == "userAgent":  # who redacts what was read from the header means the header, too
                rules.setdefault("userAgentHeader", rules[column])

        for column, kind in settings.mask.items():
            add(column, f"mask::{column}", mask(kind))
        for number, column in enumerate(settings.truncate_ip):
            add(column, f"truncate_ip[{number}]", truncate_ip)
        if settings.hash:
            digest = keyed_hash(settings.hash.key.get_secret_value())
            for number, column in enumerate(settings.hash.columns):
                add(column, f"hash::columns[{number}]", digest)
        return rules

    def _json_paths(self, texts: Sequence[str]) -> list[Path]:
        paths = []
        for number, text in enumerate(texts):
            try:
                paths.append(parse_path(text))
            except ValueError as error:
                self._problems.append(Problem(f"json_paths[{number}]", f"{error} (got {text})"))
        return paths

    def _patterns(self, settings: Sequence[str | PatternSettings]) -> dict[str, list[Rule]]:
        """The rules of each column."""
        rules: dict[str, list[Rule]] = {}
        for number, given in enumerate(settings):
            one = given if isinstance(given, PatternSettings) else PatternSettings(type=given)
            path = f"patterns[{number}]"
            if one.regex is not None and (problem := _regex_problem(one.regex)):
                self._problems.append(Problem(f"{path}::regex", problem))
            rule = pattern(one.type) if one.type else matching(one.regex or "")
            for position, column in enumerate(one.columns or ()):
                problem = "" if column in (*_HEADER_LISTS, COLUMN) else text_problem(column)
                self._problems.extend(problems_of([(f"{path}::columns[{position}]", problem)]))
            for column in _ANYWHERE if one.columns is None else one.columns:
                rules.setdefault(column, []).append(rule)
        return rules


def _regex_problem(regex: str) -> str:
    if not regex:
        return "must not be empty"
    try:
        matching(regex)(pl.Series([""]))
    except pl.exceptions.PolarsError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.startswith("error:")]
        return f"cannot be used: {(lines or ['regex error'])[0]} (in: {regex})"
    return ""


FACTORY = ProcessorFactory(
    "redact",
    RedactSettings,
    Redact,
    signature={Events: Events},
    description="Masks, hashes and cuts what must not leave: headers, queries, bodies, names, addresses",
)
