"""Checks the four sections of components: ids, types, and each one's options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from otel_moesif.component import ComponentId, Factory, Kind
from otel_moesif.config.findings import Finding, Loc
from otel_moesif.config.shape import Shape
from otel_moesif.config.substitute import BROKEN
from otel_moesif.config.text import plain
from otel_moesif.config.wording import translate
from otel_moesif.errors import ConfigError
from otel_moesif.plugins import Registry

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Configured:
    """One component of the configuration.

    Attributes:
        id: As written in the configuration.
        factory: What makes it.
        settings: Its checked options, an instance of ``factory.config``.
    """

    id: ComponentId
    factory: Factory
    settings: Any


@dataclass
class Section:
    """What one section defines.

    Attributes:
        kind: Which section.
        keys: All that it defines, also what has mistakes in it: the id, and how it is written.
        factories: Of those whose type is installed.
        configured: Those without mistakes.
        readable: False if the section is no map, so that nothing is known about what it defines.
    """

    kind: Kind
    keys: dict[ComponentId, str] = field(default_factory=dict)
    factories: dict[ComponentId, Factory] = field(default_factory=dict)
    configured: dict[ComponentId, Configured] = field(default_factory=dict)
    readable: bool = True


def singular(kind: Kind) -> str:
    """``receiver`` for ``receivers``."""
    return kind.value.removesuffix("s")


def check_section(kind: Kind, data: Any, registry: Registry, findings: list[Finding]) -> Section:
    """Check everything that one section defines, used or not.

    Args:
        kind: Which section.
        data: What stands there; None if it is absent.
        registry: What is installed.
        findings: Gets what is wrong.
    """
    section = Section(kind)
    data = plain(data)
    if data is None:
        return section
    if not isinstance(data, dict):
        section.readable = False
        if data is not BROKEN:
            findings.append(Finding((kind.value,), f"must be a map of {kind.value} by their id"))
        return section
    for key, options in data.items():
        loc = (kind.value, key)
        try:
            id_ = ComponentId.parse(key)
        except ConfigError as error:
            findings.append(Finding(loc, error.problems[0].message))
            continue
        if id_ in section.keys:
            findings.append(Finding(loc, f"is the same {singular(kind)} as one above"))
        section.keys[id_] = key
        if factory := registry.factory(kind, id_.type):
            section.factories[id_] = factory
            settings = check_options(factory.config, options, loc, findings)
            if settings is not None:
                section.configured[id_] = Configured(id_, factory, settings)
        else:
            installed = ", ".join(registry.types(kind)) or "none"
            findings.append(
                Finding(loc, f'unknown {singular(kind)} type "{id_.type}" (installed: {installed})')
            )
    return section


def check_options(model: type[Model], options: Any, loc: Loc, findings: list[Finding]) -> Model | None:
    """Check options against their model.

    Args:
        model: What they have to fit.
        options: As written; None means all defaults.
        loc: Where they stand.
        findings: Gets what is wrong.

    Returns:
        The model's instance, or None if there is no valid one.
    """
    shape = Shape(options, model, loc)
    findings += shape.findings
    try:
        return model.model_validate(shape.data)
    except ValidationError as error:
        findings += translate(error, shape, loc, model)
        return None


def names(ids: Iterable[ComponentId]) -> str:
    """Ids as a list for people."""
    return ", ".join(str(id_) for id_ in ids) or "none"
