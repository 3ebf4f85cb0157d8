"""Captured bodies: JSON, other text, or base64 of either."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from otel_moesif.processors.distinct import by_distinct
from otel_moesif.processors.redact.paths import Path, masked, may_have
from otel_moesif.processors.redact.texts import Rule, has_escape, over_json, over_uris
from otel_moesif.processors.redact.values import MASK

# One of these has each text in which a query parameter or a password before a host can stand, or hide.
_IN_URIS = ["=", "@", "%", "\\"]


@dataclass(frozen=True)
class BodyRules:
    """What is done to one column of bodies.

    Attributes:
        paths: JSON paths to mask.
        strict: Whether a body that cannot be read (cut JSON, bytes that are no text) is masked.
        in_json: For JSON texts.
        in_text: For other texts, such as forms.
        marks: Of JSON texts, see `texts.over_json`.
    """

    paths: Sequence[Path]
    strict: bool
    in_json: Rule
    in_text: Rule
    marks: str

    def redacted(self, bodies: pl.Series, encodings: pl.Series) -> pl.Series:
        """Redact bodies; each keeps its encoding.

        Args:
            bodies: Texts, or null.
            encodings: ``base64``, else the body is plain.
        """
        if bodies.null_count() == len(bodies):
            return bodies
        encoded = (encodings == "base64").fill_null(value=False) & bodies.is_not_null()
        texts = bodies
        if encoded.any():
            # polars cannot make nulls of bytes that are no UTF-8
            texts = by_distinct(bodies.set(~encoded, None), _inside).zip_with(encoded, bodies)
        unreadable = texts.is_null() & bodies.is_not_null()
        looked_at = (texts != "").fill_null(value=False)
        if not self.strict:
            looked_at &= texts.str.contains_any(_IN_URIS).fill_null(value=False)
        is_json = texts.set(~looked_at, None).str.json_path_match("$").is_not_null()
        as_json = self._json(texts.set(~is_json, None))
        as_text = self._text(texts.set(is_json | ~looked_at, None))
        new = as_json.fill_null(as_text).fill_null(texts)
        if self.strict:
            new = new.set(unreadable, MASK)
        changed = new.ne_missing(texts)
        again = new.set(~encoded, None).str.encode("base64").zip_with(encoded, new) if encoded.any() else new
        return again.zip_with(changed, bodies).alias(bodies.name)

    def _json(self, texts: pl.Series) -> pl.Series:
        if texts.null_count() == len(texts):
            return texts
        if self.paths:
            concerned = may_have(texts, self.paths)
            new = by_distinct(texts.set(~concerned, None), lambda text: masked(text, self.paths), beyond=MASK)
            texts = new.fill_null(texts)
        return over_json(self.in_json, over_uris(self.in_text), self.marks)(texts)

    def _text(self, texts: pl.Series) -> pl.Series:
        if texts.null_count() == len(texts):
            return texts
        if self.paths:
            return texts.set(texts.is_not_null(), MASK)
        new = over_uris(self.in_text)(texts)
        return new.set(has_escape(new), MASK) if self.strict else new


def _inside(encoded: str) -> str | None:
    """The text in base64, also of several lines (RFC 2045 section 6.8); None where it is none."""
    try:
        text = base64.b64decode("".join(encoded.split()), validate=True).decode()
    except ValueError:
        return None
    return None if "\0" in text else text  # UTF-16, in which nothing would be found
