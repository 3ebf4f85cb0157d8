"""Fits plain data to the annotations of a pydantic model, before pydantic checks it.

Three things need the model's types while the data is still as the user wrote it:

- a `Text` becomes its text where a string is expected, and its YAML value elsewhere;
- ``null`` for a group of options, a map or a list means its defaults (as in the Collector: ``grpc:`` alone);
- unknown keys are mistakes whatever a plugin's model says about extra keys.
"""

from __future__ import annotations

import types
from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AliasChoices, AliasPath, BaseModel, RootModel, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from otel_moesif.config.findings import Finding, Loc, unknown_key
from otel_moesif.config.text import Text, plain


class Shape:
    """What a tree looks like beside its model.

    Attributes:
        data: The tree as pydantic shall see it.
        findings: Unknown keys, located relative to the top.
        targets: The annotation that each place has to fit.
        given: Each value as it was, for deciding whether a message may quote it.
    """

    def __init__(self, data: Any, model: type[BaseModel], loc: Loc) -> None:
        self.findings: list[Finding] = []
        self.targets: dict[Loc, Any] = {}
        self.given: dict[Loc, Any] = {}
        self.data = self._value(data, model, loc)

    def is_secret(self, loc: Loc) -> bool:
        """Whether what stands there, or anything above it, is a secret."""
        return any(
            issubclass(type_, SecretStr | SecretBytes)
            for end in range(len(loc), -1, -1)
            for type_ in classes(self.targets.get(loc[:end]))
        )

    def _value(self, value: Any, annotation: Any, loc: Loc) -> Any:
        self.targets[loc] = annotation
        self.given[loc] = value
        members = list(_members(annotation))
        if isinstance(value, Text):
            value = _choose(value, members)
        if value is None:
            return _null(members)
        if isinstance(value, dict):
            if models := [member for member in members if _is_model(member)]:
                return self._model(value, models, loc)
            inner = _inner(members, Mapping, position=1)
            return {key: self._value(item, inner, (*loc, key)) for key, item in value.items()}
        if isinstance(value, list):
            inner = _inner(members, Collection, position=0)
            return [self._value(item, inner, (*loc, index)) for index, item in enumerate(value)]
        return value

    def _model(self, value: dict[str, Any], models: list[type[BaseModel]], loc: Loc) -> dict[str, Any]:
        fields = {
            key: field
            for model in models
            for name, field in model.model_fields.items()
            for key in keys(name, field, model)
        }
        shaped = {}
        for key, item in value.items():
            if elsewhere := _elsewhere(models, key):
                self.findings.append(Finding((*loc, key), elsewhere))
            elif key not in fields:
                self.findings.append(Finding((*loc, key), unknown_key(key, list(fields))))
            elif plain(item) is not None or not _only_containers(fields[key].annotation):
                shaped[key] = self._value(item, fields[key].annotation, (*loc, key))
        return shaped


def _elsewhere(models: list[type[BaseModel]], key: str) -> str:
    """Why an option that people know from elsewhere is none here; "" if nobody said so."""
    said = (getattr(model, "elsewhere", {}).get(key, "") for model in models)
    return next(filter(None, said), "")


def keys(name: str, field: FieldInfo, model: type[BaseModel]) -> list[str]:
    """The keys by which a configuration may name a field: its alias, or its name."""
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias] if alias else []
    found = [str(choice.path[0]) if isinstance(choice, AliasPath) else choice for choice in choices]
    by_name = model.model_config.get("populate_by_name") or model.model_config.get("validate_by_name")
    return found if found and not by_name else [*found, name]


def classes(annotation: Any) -> set[type]:
    """Every class that an annotation names, through unions and ``Annotated``, not inside containers."""
    return {member for member in _members(annotation) if isinstance(member, type)}


def _members(annotation: Any) -> Iterable[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in {Union, types.UnionType}:
        for member in get_args(annotation):
            yield from _members(member)
    elif hasattr(annotation, "__value__"):  # TypeAliasType, which Python 3.11 does not have
        yield from _members(annotation.__value__)
    elif isinstance(annotation, type) and not origin and issubclass(annotation, RootModel):
        yield from _members(annotation.model_fields["root"].annotation)
    else:
        yield annotation


def _choose(value: Text, members: list[Any]) -> Any:
    """The text where a string is expected, else what it means as YAML."""
    if value and plain(value) is None and type(None) in members:
        return None
    return str(value) if any(_takes_text(member) for member in members) else plain(value)


def _takes_text(member: Any) -> bool:
    if get_origin(member) is Literal:
        return any(isinstance(choice, str) for choice in get_args(member))
    if isinstance(member, type) and not get_origin(member):
        if issubclass(member, Enum):
            return any(isinstance(choice.value, str) for choice in member)
        return issubclass(member, str | bytes | SecretStr | SecretBytes | Path)
    return False


def _null(members: list[Any]) -> Any:
    """What null means: a group's defaults, unless it has none and may be absent."""
    models = [member for member in members if _is_model(member)]
    complete = [m for m in models if not any(field.is_required() for field in m.model_fields.values())]
    return {} if complete or (models and type(None) not in members) else None


def _is_model(member: Any) -> bool:
    return isinstance(member, type) and not get_origin(member) and issubclass(member, BaseModel)


def _only_containers(annotation: Any) -> bool:
    """Whether it is a list or map that cannot be null, so that null can only mean "not given"."""
    origins = [get_origin(member) or member for member in _members(annotation)]
    return all(
        isinstance(origin, type)
        and issubclass(origin, Collection)
        and not issubclass(origin, str | bytes | Enum)
        for origin in origins
    )


def _inner(members: list[Any], base: type, position: int) -> Any:
    """The annotation of the items, for the first member that is a container of that sort."""
    for member in members:
        origin, arguments = get_origin(member), get_args(member)
        if isinstance(origin, type) and issubclass(origin, base) and len(arguments) > position:
            return arguments[position]
    return Any
