"""``userAgent`` and ``platform`` from the User-Agent header, as WSO2's own reporters have them.

WSO2 parses the header with uap-java and takes the families of browser and operating system
(carbon-apimgt, default and ELK reporters); ua-parser is the same project's Python half, with the same rules.
A family that no rule knows is ``Other`` there (uap-java ``UserAgent.OTHER`` and ``OS.OTHER``); ``UNKNOWN`` is
for calls without the header.
"""

from __future__ import annotations

from functools import lru_cache

import polars as pl
from ua_parser import parse

# Headers that are remembered: a fleet's clients have some thousand. Long ones are noise or an attack.
_REMEMBERED = 10_000
_LONGEST = 1024
_NO_FAMILY = "Other"


@lru_cache(_REMEMBERED)
def _families(header: str) -> tuple[str, str]:
    found = parse(header)
    browser, system = found.user_agent, found.os
    return browser.family if browser else _NO_FAMILY, system.family if system else _NO_FAMILY


def with_families(calls: pl.DataFrame) -> pl.DataFrame:
    """Fill ``userAgent`` and ``platform`` where only the header is known; each distinct one is parsed once.

    Args:
        calls: With ``userAgentHeader``, if any sender has one.
    """
    if "userAgentHeader" not in calls.columns:
        return calls
    headers = calls["userAgentHeader"].str.slice(0, _LONGEST)
    distinct = headers.drop_nulls().unique()
    if not len(distinct):
        return calls
    families = [_families(header) for header in distinct]
    columns = {"userAgent": 0, "platform": 1}
    filled = []
    for name, place in columns.items():
        values = pl.Series([family[place] for family in families], dtype=pl.String)
        parsed = headers.replace_strict(distinct, values, default=None, return_dtype=pl.String)
        own = calls[name] if name in calls.columns else pl.Series([None], dtype=pl.String)
        filled.append(pl.select(pl.coalesce(own, parsed)).to_series().alias(name))
    return calls.with_columns(filled)
