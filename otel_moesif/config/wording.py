"""Pydantic's errors in the collector's words: where, what is wrong, what is allowed.

A value is quoted only where it can be no secret: numbers and bools, and texts for an option that is a number,
a duration, a size or a choice, unless they come from a variable or the command line; never for a `SecretStr`.
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any, Literal, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from otel_moesif.config.findings import Finding, Loc
from otel_moesif.config.shape import Shape, classes
from otel_moesif.config.substitute import BROKEN
from otel_moesif.config.text import Text, plain
from otel_moesif.settings import format_duration

_LONGEST_QUOTE = 40
_SHORTEST_SECRET = 4
"""What is shorter is found in any sentence by chance."""

# By the pydantic error's type: https://docs.pydantic.dev/latest/errors/validation_errors/
_KINDS = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a text",
    "path_type": "must be a path",
    "bytes_type": "must be a text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "set_type": "must be a list",
    "frozen_set_type": "must be a list",
    "iterable_type": "must be a list",
    "dict_type": "must be a map",
    "mapping_type": "must be a map",
    "model_type": "must be a map of options",
    "model_attributes_type": "must be a map of options",
    "dataclass_type": "must be a map of options",
    "none_required": "must be null",
    "url_type": "must be a URL, for example http://localhost:9500",
    "url_parsing": "must be a URL, for example http://localhost:9500",
}
_LIMITS = {
    "greater_than": ("must be more than", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be less than", "lt"),
    "less_than_equal": ("must be at most", "le"),
    "multiple_of": ("must be a multiple of", "multiple_of"),
}


def translate(error: ValidationError, shape: Shape, loc: Loc, model: type[BaseModel]) -> list[Finding]:
    """Say what pydantic found wrong.

    Args:
        error: What validation of ``shape.data`` raised.
        shape: The data, with the annotation of each place.
        loc: Where the data stands in the configuration.
        model: What it was validated against.
    """
    messages: dict[Loc, list[str]] = {}
    got: dict[Loc, str] = {}
    for detail in error.errors(include_url=False, include_input=False):
        place = (*loc, *_place(detail, shape.data))
        # A value that could not be found was said to be so already.
        if any(shape.given.get(place[:end]) is BROKEN for end in range(len(place) + 1)):
            continue
        message, got[place] = _message(detail, place, shape, model)
        messages.setdefault(place, []).append(message)
    # Several errors in one place are the members of a union: each says one thing that is allowed.
    return [
        Finding(place, ", or ".join(dict.fromkeys(said)) + got[place]) for place, said in messages.items()
    ]


def _place(detail: ErrorDetails, data: Any) -> Loc:
    """The error's location without pydantic's own parts (members of unions, validators, ``[key]``)."""
    place: list[str | int] = []
    for part in detail["loc"]:
        known = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
        if part in known:
            data = data[part]
            place.append(part)
    if detail["type"] in {"missing", "extra_forbidden"}:
        place = [*place, detail["loc"][-1]]
    return tuple(place)


def _message(detail: ErrorDetails, place: Loc, shape: Shape, model: type[BaseModel]) -> tuple[str, str]:
    """What is wrong, and what was got instead (or nothing)."""
    kind, context = detail["type"], detail.get("ctx", {})
    got = _got(place, shape)
    match kind:
        case "missing":
            said = f"is required{_described(detail, model)}"
        case "literal_error" | "enum":
            said = f"must be {str(context['expected']).replace(chr(39), '')}"
        case "string_type" if isinstance(shape.given.get(place), bool | int | float):
            said = "must be a text, so put it in quotes"
        case "string_too_short" | "string_too_long" | "too_short" | "too_long":
            said = _length(kind, context)
        case "string_pattern_mismatch":
            said = f"must match the pattern {context['pattern']}"
        case "value_error" | "assertion_error":
            said = _censored(str(context["error"]), place, shape)
        case _ if kind in _LIMITS:
            words, name = _LIMITS[kind]
            said = f"{words} {_bound(context[name])}"
        case _:
            said = _KINDS.get(kind) or _censored(detail["msg"], place, shape)
            got = got or _sort(place, shape)
    return said, got


def _length(kind: str, context: dict[str, Any]) -> str:
    if context.get("min_length") == 1:
        return "must not be empty"
    bound, length = ("at least", "min_length") if kind.endswith("short") else ("at most", "max_length")
    return f"must have {bound} {context[length]} {'characters' if 'string' in kind else 'items'}"


def _bound(value: Any) -> str:
    return format_duration(value) if isinstance(value, timedelta) else str(value)


def _described(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """The description of the field that is missing, which says what belongs there."""
    current: Any = model
    for part in detail["loc"]:
        fields = [
            field
            for class_ in classes(current)
            if issubclass(class_, BaseModel)
            for name, field in class_.model_fields.items()
            if part in {name, field.alias}
        ]
        if not fields:
            return ""
        current, description = fields[0].annotation, fields[0].description
    return f" ({description})" if description else ""


def _got(place: Loc, shape: Shape) -> str:
    """``(got 5000)``, where the value may be quoted; see the module's docstring."""
    given = shape.given.get(place)
    value = plain(given)
    if shape.is_secret(place) or given is None:
        return ""
    if isinstance(value, bool | int | float):
        return f" (got {str(value).lower()})"
    annotation = shape.targets.get(place)
    choice = get_origin(annotation) is Literal or any(
        issubclass(class_, int | float | timedelta | Enum) for class_ in classes(annotation)
    )
    if isinstance(given, str) and not isinstance(given, Text) and choice and len(given) <= _LONGEST_QUOTE:
        return f' (got "{given}")'
    return ""


def _sort(place: Loc, shape: Shape) -> str:
    """``(got a list)``: what sort of value it is, where the value itself must not be quoted."""
    sorts = {dict: "a map", list: "a list", str: "a text", type(None): "nothing"}
    sort = sorts.get(type(plain(shape.given.get(place))))
    return f" (got {sort})" if sort and place in shape.given and not shape.is_secret(place) else ""


def _censored(message: str, place: Loc, shape: Shape) -> str:
    """A message by somebody's own validator, without the value if that may be a secret."""
    given = shape.given.get(place)
    hide = isinstance(given, Text) or shape.is_secret(place)
    if hide and len(str(given)) >= _SHORTEST_SECRET and str(given) in message:
        return message.replace(str(given), "[REDACTED]")
    return message
