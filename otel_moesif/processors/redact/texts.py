"""What is looked for in texts: query parameters and patterns, by columns; the JSON that texts may be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

import polars as pl

from otel_moesif.processors.distinct import MOST, by_distinct, on_distinct
from otel_moesif.processors.properties import compact
from otel_moesif.processors.redact.settings import Known
from otel_moesif.processors.redact.values import MASK

Rule: TypeAlias = Callable[[pl.Series], pl.Series]
"""Texts → texts; null stays null."""

# `%40` is an @ in a URI.
_EMAIL = r"[\p{L}\p{N}._%+'-]+(?:@|%40)[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)+"
# RFC 7519 section 3: three parts of base64url, the first of which begins with {" and so with eyJ.
_JWT = r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)*"
# RFC 6750 section 2.1, RFC 7617 section 2
_BEARER = r"(?i)(bearer|basic)((?:\s|\+|%20)+)[A-Za-z0-9._~+/%-]{6,}=*"
# ISO/IEC 7812: up to 19 digits, a first digit of 2 to 6 for cards (1, 8 and 9 are not), Luhn's check digit;
# cards print them in groups of three and more, and texts put spaces and dashes of any kind between them.
_DIGITS = r"\d{3,}(?:[\t\p{Zs}+\p{Pd}]{1,3}\d{3,})*"
_CARD = range(13, 20)
ENCODED = r"%[0-9A-Fa-f]{2}"
_ESCAPE = re.compile(r"\\u[0-9A-Fa-f]{4}")
_WHOLE = json.dumps(MASK)
# Times that a URI may be encoded over and over; what hides deeper is masked.
_DECODINGS = 5


def chain(rules: Sequence[Rule]) -> Rule:
    """One rule after the other."""

    def apply(texts: pl.Series) -> pl.Series:
        for rule in rules:
            texts = rule(texts)
        return texts

    return apply


def matching(regex: str) -> Rule:
    """Mask what an expression finds."""

    def apply(texts: pl.Series) -> pl.Series:
        return texts.str.replace_all(regex, MASK)

    return apply


def pattern(kind: Known) -> Rule:
    """Mask what is known under a name."""
    return {"email": matching(_EMAIL), "token": _tokens, "card_number": _cards}[kind]


def _tokens(texts: pl.Series) -> pl.Series:
    return texts.str.replace_all(_BEARER, "${1}${2}" + MASK).str.replace_all(_JWT, MASK)


def _cards(texts: pl.Series) -> pl.Series:
    """Every run of digits is looked at once; those too many to look at all count as cards."""
    runs = texts.str.extract_all(_DIGITS).explode().drop_nulls().unique()
    runs = runs.filter(runs.str.len_bytes() >= _CARD.start)
    if not len(runs):
        return texts
    cards = {card for run in runs.head(MOST) for card in _cards_in(run)} | set(runs[MOST:])
    if not cards:
        return texts
    longest_first = sorted(cards, key=len, reverse=True)
    return texts.str.replace_many(longest_first, [MASK], leftmost=True)


def _cards_in(run: str) -> Iterable[str]:
    """The card numbers in a run: one group of digits, or several with one separator between them."""
    groups = list(re.finditer(r"\d+", run))
    for number, first in enumerate(groups):
        digits = ""
        for last in groups[number : number + _CARD.stop]:
            digits += last[0]
            if len(digits) >= _CARD.stop or digits[0] not in "23456":
                break
            if len(digits) in _CARD and _luhn(digits):
                yield run[first.start() : last.end()]


def _luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B."""
    doubled = [int(digit) * 2 for digit in digits[-2::-2]]
    return (sum(map(int, digits[-1::-2])) + sum(x - 9 if x > 9 else x for x in doubled)) % 10 == 0


def wildcards(names: Iterable[str], any_: str) -> str:
    """An alternation of names in which ``*`` stands for any characters of a class."""
    return "|".join(any_.join(map(re.escape, name.split("*"))) for name in sorted(set(names)))


def query(names: Sequence[str], *, embedded: bool) -> Rule:
    """Mask the values of query parameters.

    Args:
        names: Parameters, in lower case.
        embedded: The URI stands in a JSON text, so that a value ends with the text.
    """
    known = wildcards(names, r"[^=&;#\s]*")
    value = r'(?:[^&;#"\\]|\\.)+' if embedded else r"[^&;#]+"
    begin = '["?&;#]' if embedded else "[?&;#]"
    # the name may be an array's or a map's: token[]=, filter[token]=, user.token=
    name = rf'(?:[^=&;#?"\s]*[\[.])?(?:{known})(?:\]?(?:\[[^\]]*\])?)='
    regex, of_lines = f"(?i)((?:^|{begin}){name}){value}", rf"(?im)(^{name})[^\r\n]+"

    def apply(texts: pl.Series) -> pl.Series:
        new = texts.str.replace_all(regex, "${1}" + MASK)
        # a form of text/plain has a line for each
        if not embedded and new.str.contains("\n", literal=True).any():
            new = new.str.replace_all(of_lines, "${1}" + MASK)
        return new

    return apply


def user_info(texts: pl.Series) -> pl.Series:
    """Mask name and password before a host (RFC 3986 section 3.2.1); of several @ the last one ends them."""
    return texts.str.replace_all(r'(://)[^/?#\s"]*@', "${1}" + MASK + "@")


def over_uris(rule: Rule) -> Rule:
    """Apply a rule also to what a text says once its percent-encoding is undone.

    What is found only then is masked in the decoded text, which goes on encoded anew.
    """

    def apply(texts: pl.Series) -> pl.Series:
        new = rule(texts)
        encoded = new.str.contains("%", literal=True).fill_null(value=False)
        if not encoded.any():
            return new
        return on_distinct(new.set(~encoded, None), decoded).fill_null(new.set(encoded, None))

    def decoded(distinct: pl.Series) -> pl.Series:
        plain = by_distinct(distinct, _decode, beyond=MASK)
        found = rule(plain)
        # `+` is a space in a query
        spaced = plain.str.replace_all("+", " ", literal=True)
        found_spaced = rule(spaced)
        by_plus = by_distinct(found_spaced, _encode, beyond=MASK).set(found_spaced == spaced, None)
        result = by_distinct(found, _encode, beyond=MASK).set(found == plain, None)
        return result.set(plain == MASK, MASK).fill_null(by_plus).fill_null(distinct)

    return apply


def _decode(text: str) -> str:
    for _ in range(_DECODINGS):
        text, before = unquote(text), text
        if text == before:
            return text
    return MASK


def _encode(text: str) -> str:
    return quote(text, safe=":/?#[]@!$&'()*+,;=~")


def over_json(rule: Rule, in_leaves: Rule, marks: str = ENCODED) -> Rule:
    """Apply a rule to JSON texts, such that they stay JSON.

    Escapes are undone first. Where masking in the text would break it (a number, a pattern across quotes), or
    percent-encoding may hide something, its strings and numbers are masked one by one; if something is still
    found, the whole text is masked.

    Args:
        rule: For the whole text.
        in_leaves: For a single string or number.
        marks: Expression for texts whose strings are masked one by one in any case, see `marks_of`.
    """

    def apply(texts: pl.Series) -> pl.Series:
        hidden = texts.str.contains(r"\\[u/]").fill_null(value=False)
        clear = by_distinct(texts.set(~hidden, None), _unescaped).fill_null(texts) if hidden.any() else texts
        new = rule(clear)
        broken = (new != clear).fill_null(value=False)
        if broken.any():
            broken &= new.set(~broken, None).str.json_path_match("$").is_null()
        by_leaf = broken | new.str.contains(marks).fill_null(value=False)
        if by_leaf.any():
            whole = clear.zip_with(broken, new).set(~by_leaf, None)
            new = new.zip_with(~by_leaf, _leaf_by_leaf(whole, rule, in_leaves))
        return new.zip_with((new != clear).fill_null(value=False), texts)

    return apply


def marks_of(regexes: Iterable[str]) -> str:
    """Which JSON texts have to be looked at string by string, where expressions of one's own go over them.

    An escaped line break is no space and hides the edge of a word, and an anchor means the edge of a string.
    """
    own = [regex for regex in regexes if regex]
    if any(re.search(r"(?<!\[)[\^$]|\\[Az]", regex) for regex in own):
        return ""
    return rf"{ENCODED}|\\[bfnrt]" if own else ENCODED


def _unescaped(text: str) -> str | None:
    try:
        return compact(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _leaf_by_leaf(texts: pl.Series, rule: Rule, in_leaves: Rule) -> pl.Series:
    leaves: dict[str, str] = {}

    def rewritten(text: str) -> str:
        try:
            value = json.loads(text)
            new = _replaced(value, leaves)
            return text if new == value else compact(new)
        except (ValueError, RecursionError):
            return _WHOLE

    by_distinct(texts, rewritten, beyond=_WHOLE)  # finds all leaves
    old = pl.Series(list(leaves), dtype=pl.String)
    leaves.update(zip(old, in_leaves(old), strict=True))
    new = by_distinct(texts, rewritten, beyond=_WHOLE)
    return new.set((rule(new) != new).fill_null(value=False), _WHOLE)


def _replaced(value: Any, leaves: dict[str, str]) -> Any:
    """A JSON value with other keys, texts and numbers; what is not known yet is put in as it is.

    Raises:
        ValueError: A text is none in UTF-8 (a lone surrogate), so that no rule can look at it.
    """
    if isinstance(value, dict):
        return {_replaced(key, leaves): _replaced(item, leaves) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, leaves) for item in value]
    if isinstance(value, str):
        value.encode()
        return leaves.setdefault(value, value)
    if isinstance(value, bool) or value is None:
        return value
    text = compact(value)
    new = leaves.setdefault(text, text)
    return value if new == text else new


def has_escape(texts: pl.Series) -> pl.Series:
    """Whether a text that is no JSON, perhaps since it was cut off, hides characters as JSON does."""
    return texts.str.contains(_ESCAPE.pattern).fill_null(value=False)
