"""Fields of the event from the claims of a JWT that the gateway captured.

The token is not verified: the gateway has done that, or has refused the call. It is read and forgotten; it
goes into no log, no error and no event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jwt
import polars as pl
from pydantic import Field, field_validator

from otel_moesif.processors.apim_event.fields import CLAIM, OURS
from otel_moesif.processors.properties import COLUMN
from otel_moesif.schema import SCHEMA
from otel_moesif.settings import Settings

# Distinct tokens that are read in one batch; a gateway sees each user's token many times.
_MOST_TOKENS = 20_000
_LONGEST_TOKEN = 16_384


class JwtSettings(Settings):
    """``apim_event::jwt``."""

    attributes: tuple[str, ...] = Field(
        ("http.request.header.authorization", "http.request.header.x-jwt-assertion"),
        description="Attributes that may hold the token, with or without Bearer; the first that is there",
    )
    claims: dict[str, str | tuple[str, ...]] = Field(
        description="Field of the event: the claim to take it from, or several in order; a.b is b in a"
    )

    @field_validator("claims")
    @classmethod
    def _known(cls, claims: dict[str, str | tuple[str, ...]]) -> dict[str, str | tuple[str, ...]]:
        for name in claims:
            if name not in SCHEMA or SCHEMA[name] != pl.String or name in {*OURS, COLUMN}:
                raise ValueError(f"{name}: is no text field of the event (for example userName or companyId)")
        return claims


def from_tokens(tokens: pl.Series, settings: JwtSettings) -> list[pl.Series]:
    """One column per configured field, null where the token does not say it.

    Args:
        tokens: Captured header values.
        settings: Which claims go where.
    """
    distinct = tokens.drop_nulls().unique().head(_MOST_TOKENS)
    read = [_claims(token) for token in distinct]
    columns = []
    for name, claims in settings.claims.items():
        paths = [claims] if isinstance(claims, str) else claims
        values = [next((x for path in paths if (x := _at(found, path)) is not None), None) for found in read]
        texts = pl.Series([None if x is None else str(x) for x in values], dtype=pl.String)
        mapped = tokens.replace_strict(distinct, texts, default=None, return_dtype=pl.String)
        columns.append(mapped.alias(f"{CLAIM}{name}"))
    return columns


def without_tokens(headers: pl.Expr, settings: JwtSettings) -> pl.Expr:
    """Captured headers but those that a token was read from: it has done its work."""
    names = [
        key.removeprefix("http.request.header.").removeprefix("request_").lower().replace("_", "-")
        for key in settings.attributes
    ]
    return headers.list.eval(pl.element().filter(~pl.element().struct.field("key").is_in(names)))


def _claims(header: str) -> Mapping[str, Any]:
    token = header.strip().rpartition(" ")[2]
    if len(token) > _LONGEST_TOKEN or token.count(".") != 2:
        return {}
    try:
        found = jwt.decode(token, options={"verify_signature": False, "verify_exp": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _at(claims: Mapping[str, Any], path: str) -> str | int | float | bool | None:
    """The claim of this name, or the one within another that a dotted path leads to; lists by comma."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for name in path.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
    if isinstance(found, list):
        return ",".join(str(item) for item in found) or None
    return found if isinstance(found, str | int | float | bool) and found != "" else None
