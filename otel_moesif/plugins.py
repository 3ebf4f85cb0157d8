"""Finds plugins by entry point, checks what they bring, and says which plugin a mistake is in.

Built-in components come through the same door: the entry point ``builtin`` of this distribution.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pluggy
from pydantic import BaseModel

from otel_moesif import hookspecs
from otel_moesif.component import (
    ExporterFactory,
    ExtensionFactory,
    Factory,
    Kind,
    ProcessorFactory,
    ReceiverFactory,
)
from otel_moesif.errors import PluginError
from otel_moesif.settings import ExporterConfig

if TYPE_CHECKING:
    from otel_moesif.dialects.dialect import Dialect

GROUP = "otel_moesif"
OWN = "otel-moesif"
"""The distribution whose plugins are the built-in ones."""

_FACTORIES = (ReceiverFactory, ProcessorFactory, ExporterFactory, ExtensionFactory)
# opentelemetry-collector component/identifiable.go bounds the length; its newer types are all lower_snake.
_TYPE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LONGEST_TYPE = 63


@dataclass(frozen=True)
class Plugin:
    """Where something came from.

    Attributes:
        distribution: Name of the installed package.
        version: Its version.
        entry_point: Name of the entry point in group ``otel_moesif``.
        builtin: Whether it is this distribution's own.
    """

    distribution: str
    version: str
    entry_point: str
    builtin: bool = False

    def __str__(self) -> str:
        return f"plugin {self.distribution} {self.version} (entry point {self.entry_point})"


@dataclass(frozen=True)
class Component:
    """One line of ``otel-moesif components``."""

    kind: Kind
    type: str
    description: str
    distribution: str
    version: str
    entry_point: str


class Registry:
    """Everything that plugins bring, by kind and type. Make one with `load`, or `of` in tests."""

    def __init__(self, plugins: Iterable[tuple[Plugin, Callable[[], Any]]]) -> None:
        """Import, check and ask every plugin.

        Args:
            plugins: Who each one is, and how to import it.

        Raises:
            PluginError: One message with a line for everything that is wrong.
        """
        self._problems: list[str] = []
        self._factories: dict[tuple[Kind, str], tuple[Factory, Plugin]] = {}
        self._dialects: dict[str, tuple[Dialect, Plugin]] = {}
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        for plugin, load in sorted(plugins, key=lambda pair: (pair[0].builtin, str(pair[0]))):
            self._enter(plugin, load)
        if self._problems:
            raise PluginError("\n".join(self._problems))

    @classmethod
    def load(cls) -> Registry:
        """Load every installed plugin.

        Raises:
            PluginError: One message with a line for everything that is wrong.
        """
        found: dict[Plugin, Callable[[], Any]] = {}
        for entry in metadata.entry_points(group=GROUP):
            name = entry.dist.name if entry.dist else "unknown"
            version = entry.dist.version if entry.dist else "?"
            # A package that is on the path twice (a checkout and its build) is still one plugin.
            found[Plugin(name, version, entry.name, builtin=name == OWN)] = entry.load
        return cls(found.items())

    @classmethod
    def of(cls, plugins: Mapping[str, Any]) -> Registry:
        """Make a registry of these plugin modules or objects only; ``builtin`` counts as built in.

        Raises:
            PluginError: One message with a line for everything that is wrong.
        """

        def given(plugin: Any) -> Callable[[], Any]:
            return lambda: plugin

        return cls(
            (Plugin(name, "0", name, builtin=name == "builtin"), given(plugin))
            for name, plugin in plugins.items()
        )

    def factory(self, kind: Kind, type_: str) -> Factory | None:
        """The factory of this kind and type, or None if no plugin brings it."""
        found = self._factories.get((kind, type_))
        return found[0] if found else None

    def types(self, kind: Kind) -> list[str]:
        """All types of one kind, sorted."""
        return sorted(type_ for kind_, type_ in self._factories if kind_ is kind)

    def factories(self, kind: Kind) -> list[Factory]:
        """All factories of one kind, sorted by type."""
        return [self._factories[kind, type_][0] for type_ in self.types(kind)]

    def components(self) -> list[Component]:
        """Every component with the plugin that brings it, sorted by kind and type."""
        return [
            Component(
                kind, type_, factory.description, plugin.distribution, plugin.version, plugin.entry_point
            )
            for kind in Kind
            for type_ in self.types(kind)
            for factory, plugin in [self._factories[kind, type_]]
        ]

    @property
    def dialects(self) -> Sequence[Dialect]:
        """All gateway dialects: third parties' first (they know better), then the built-in ones."""
        return [dialect for dialect, _ in self._dialects.values()]

    def _enter(self, plugin: Plugin, load: Callable[[], Any]) -> None:
        try:
            module = load()
        except Exception as error:  # noqa: BLE001 - whatever a plugin's import raises is that plugin's problem
            self._problem(plugin, f"cannot be imported: {_say(error)}")
            return
        try:
            self._manager.register(module, name=str(plugin))
        except (pluggy.PluginValidationError, ValueError) as error:
            self._problem(plugin, f"cannot be registered: {_say(error)}")
            return
        callers = self._manager.get_hookcallers(module) or []
        # What PluginManager.check_pending() asks, but of this plugin alone, and all of its hooks.
        unknown = [caller.name for caller in callers if not caller.has_spec()]
        for name in unknown:
            self._problem(plugin, f"implements the unknown hook {name} (known: {', '.join(_HOOKS)})")
        if not callers:
            self._problem(plugin, f"implements no hook (mark {' or '.join(_HOOKS)} with @hookimpl)")
        implemented = {caller.name for caller in callers}
        for name, take in (
            ("otel_moesif_components", self._factory),
            ("otel_moesif_dialects", self._dialect),
        ):
            if name in implemented:
                for item in self._ask(plugin, module, name):
                    take(plugin, item)

    def _ask(self, plugin: Plugin, module: Any, hook: str) -> list[Any]:
        """Call one hook of one plugin, so that what it returns or raises is known to be its own."""
        others = [other for other in self._manager.get_plugins() if other is not module]
        try:
            results = self._manager.subset_hook_caller(hook, others)()
            items = [list(result) for result in results]
        except Exception as error:  # noqa: BLE001 - whatever a plugin's hook raises is that plugin's problem
            self._problem(plugin, f"{hook}() failed: {_say(error)}")
            return []
        if not items:  # pluggy leaves None out
            self._problem(plugin, f"{hook}() returned None, not a list")
        return [item for part in items for item in part]

    def _factory(self, plugin: Plugin, factory: Any) -> None:
        if not isinstance(factory, _FACTORIES):
            names = ", ".join(known.__name__ for known in _FACTORIES)
            self._problem(
                plugin,
                f"otel_moesif_components() returned {_name(factory)}, which is not a factory ({names})",
            )
            return
        what = f'{_singular(factory.kind)} type "{factory.type}"'
        if not _TYPE.fullmatch(factory.type) or len(factory.type) > _LONGEST_TYPE:
            self._problem(
                plugin, f"{what} is not lower_snake (letters, digits and _, at most {_LONGEST_TYPE})"
            )
        base = ExporterConfig if isinstance(factory, ExporterFactory) else BaseModel
        if not (isinstance(factory.config, type) and issubclass(factory.config, base)):
            self._problem(
                plugin,
                f"{what}: its config model {_name(factory.config)} does not extend {base.__name__}",
            )
        if not callable(factory.build):
            self._problem(plugin, f"{what}: build is not callable")
        if first := self._factories.get((factory.kind, factory.type)):
            self._problem(plugin, f"{what} is already brought by {first[1]}; uninstall one of the two")
            return
        self._factories[factory.kind, factory.type] = factory, plugin

    def _dialect(self, plugin: Plugin, dialect: Any) -> None:
        name = getattr(dialect, "name", None)
        if not isinstance(name, str) or not name:
            self._problem(
                plugin,
                f"otel_moesif_dialects() returned {_name(dialect)}, which is not a dialect (it has no name)",
            )
        elif first := self._dialects.get(name):
            self._problem(
                plugin, f'dialect "{name}" is already brought by {first[1]}; uninstall one of the two'
            )
        else:
            self._dialects[name] = dialect, plugin

    def _problem(self, plugin: Plugin, message: str) -> None:
        self._problems.append(f"{plugin}: {message}")


_HOOKS = ("otel_moesif_components", "otel_moesif_dialects")


def _singular(kind: Kind) -> str:
    return kind.value.removesuffix("s")


def _name(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else f"{type(value).__name__} object"


def _say(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
