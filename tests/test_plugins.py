import sys

import pytest
from pydantic import BaseModel

from otel_moesif import Events, ExporterConfig, Settings, hookimpl
from otel_moesif.component import ExporterFactory, ExtensionFactory, Kind, ProcessorFactory
from otel_moesif.errors import PluginError
from otel_moesif.plugins import GROUP, Registry


def nothing(config, context):
    raise NotImplementedError


def debug(description="", type_="debug", config=ExporterConfig):
    return ExporterFactory(type_, config, nothing, description)


class Dialect:
    def __init__(self, name):
        self.name = name


def plugin(*components, dialects=None):
    """A plugin object; without dialects it has no such hook."""

    class Components:
        @hookimpl
        def otel_moesif_components(self):
            return components

    class Both(Components):
        @hookimpl
        def otel_moesif_dialects(self):
            return dialects

    return Components() if dialects is None else Both()


def problems(**plugins):
    with pytest.raises(PluginError) as caught:
        Registry.of(plugins)
    return str(caught.value).splitlines()


def test_what_a_registry_answers():
    drop = ProcessorFactory("drop", Settings, nothing, {Events: Events}, "Drops")
    registry = Registry.of(
        {"builtin": plugin(debug("Shows")), "acme": plugin(drop, debug("Ours", "acme_out"))}
    )
    assert registry.types(Kind.EXPORTER) == ["acme_out", "debug"]
    assert registry.types(Kind.RECEIVER) == []
    assert registry.factory(Kind.PROCESSOR, "drop") is drop
    assert registry.factory(Kind.EXPORTER, "drop") is None
    assert [factory.type for factory in registry.factories(Kind.EXPORTER)] == ["acme_out", "debug"]
    assert [
        (c.kind, c.type, c.description, c.distribution, c.entry_point) for c in registry.components()
    ] == [
        (Kind.PROCESSOR, "drop", "Drops", "acme", "acme"),
        (Kind.EXPORTER, "acme_out", "Ours", "acme", "acme"),
        (Kind.EXPORTER, "debug", "Shows", "builtin", "builtin"),
    ]


def test_the_same_type_may_be_of_two_kinds():
    registry = Registry.of({"a": plugin(debug(), ExtensionFactory("debug", Settings, nothing))})
    assert registry.types(Kind.EXPORTER) == registry.types(Kind.EXTENSION) == ["debug"]


def test_dialects_of_third_parties_come_first_and_keep_their_order():
    registry = Registry.of(
        {
            "builtin": plugin(dialects=[Dialect("envoy"), Dialect("semconv")]),
            "zebra": plugin(dialects=[Dialect("z2"), Dialect("z1")]),
            "acme": plugin(dialects=iter([Dialect("acme")])),
        }
    )
    assert [dialect.name for dialect in registry.dialects] == ["acme", "z2", "z1", "envoy", "semconv"]


class UnknownHooks:
    @hookimpl
    def otel_moesif_component(self):
        return []

    @hookimpl
    def otel_moesif_dialect(self):
        return []


class WrongArguments:
    @hookimpl
    def otel_moesif_components(self, config):
        return []


class NoHook:
    def otel_moesif_components(self):
        return []


class Raises:
    @hookimpl
    def otel_moesif_components(self):
        raise OSError("no\nsuch file")


class Generator:
    @hookimpl
    def otel_moesif_components(self):
        yield debug()
        raise ValueError("half way")


class ReturnsNone:
    @hookimpl
    def otel_moesif_components(self):
        return None


class ReturnsOne:
    @hookimpl
    def otel_moesif_components(self):
        return debug()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (
            UnknownHooks(),
            ["implements the unknown hook otel_moesif_component (known: otel_moesif_components, otel"],
        ),
        (UnknownHooks(), ["unknown hook otel_moesif_component ", "unknown hook otel_moesif_dialect "]),
        (WrongArguments(), ["cannot be registered: PluginValidationError: ", "config"]),
        (
            NoHook(),
            ["implements no hook (mark otel_moesif_components or otel_moesif_dialects with @hookimpl)"],
        ),
        (Raises(), ["otel_moesif_components() failed: OSError: no such file"]),
        (Generator(), ["otel_moesif_components() failed: ValueError: half way"]),
        (ReturnsNone(), ["otel_moesif_components() returned None, not a list"]),
        (
            ReturnsOne(),
            ["otel_moesif_components() failed: TypeError: 'ExporterFactory' object is not iterable"],
        ),
        (plugin("debug"), ["returned str object, which is not a factory (ReceiverFactory, "]),
        (plugin(ExporterFactory), ["returned ExporterFactory, which is not a factory"]),
        (plugin(debug(type_="myExporter")), ['exporter type "myExporter" is not lower_snake']),
        (plugin(debug(type_="a" * 64)), ["is not lower_snake (letters, digits and _, at most 63)"]),
        (plugin(debug(type_="")), ['exporter type "" is not lower_snake']),
        (plugin(debug(config=Settings)), ["its config model Settings does not extend ExporterConfig"]),
        (plugin(debug(config=dict)), ["its config model dict does not extend ExporterConfig"]),
        (plugin(ExtensionFactory("x", int, nothing)), ["its config model int does not extend BaseModel"]),
        (plugin(ExtensionFactory("x", BaseModel, None)), ['extension type "x": build is not callable']),
        (plugin(dialects=["envoy"]), ["returned str object, which is not a dialect (it has no name)"]),
    ],
)
def test_each_mistake_names_its_plugin(broken, said):
    found = problems(acme=broken, builtin=plugin(debug(type_="file")))
    assert all(line.startswith("plugin acme 0 (entry point acme): ") for line in found)
    for part in said:
        assert any(part in line for line in found), found


def test_duplicates_name_both_plugins():
    one = plugin(debug(), dialects=[Dialect("kong")])
    assert problems(b=plugin(debug(), dialects=[Dialect("kong")]), a=one) == [
        'plugin b 0 (entry point b): exporter type "debug" is already brought by '
        "plugin a 0 (entry point a); uninstall one of the two",
        'plugin b 0 (entry point b): dialect "kong" is already brought by '
        "plugin a 0 (entry point a); uninstall one of the two",
    ]


def test_all_problems_of_all_plugins_are_said_at_once():
    found = problems(a=Raises(), b=plugin(debug(type_="X"), debug(config=dict)), c=NoHook())
    assert [line.split()[1] for line in found] == ["a", "b", "b", "c"]


def install(directory, name, entry_points, module=""):
    """What pip leaves behind of a package with these entry points; its module is called as the package."""
    info = directory / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entry_points}\n")
    (directory / f"{name}.py").write_text(module)


GOOD = """
from otel_moesif import ExtensionFactory, Settings, hookimpl

@hookimpl
def otel_moesif_components():
    return [ExtensionFactory("nothing_at_all", Settings, print, "Does nothing")]
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("good_plugin", "bad_plugin"):
        sys.modules.pop(name, None)


def test_installed_plugins_are_found_beside_the_built_in_ones(installed):
    install(installed, "good_plugin", "ours = good_plugin", GOOD)
    found = {component.type: component for component in Registry.load().components()}
    assert (found["nothing_at_all"].distribution, found["nothing_at_all"].version) == ("good_plugin", "1.2")
    assert found["nothing_at_all"].entry_point == "ours"
    assert (found["otlp"].distribution, found["otlp"].entry_point) == ("otel-moesif", "builtin")


def test_a_plugin_that_cannot_be_imported_is_named(installed):
    install(installed, "good_plugin", "ours = good_plugin", GOOD)
    install(installed, "bad_plugin", "one = bad_plugin\ntwo = bad_plugin:missing", "import no_such_module")
    with pytest.raises(PluginError) as caught:
        Registry.load()
    assert str(caught.value).splitlines() == [
        f"plugin bad_plugin 1.2 (entry point {name}): cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_module'"
        for name in ("one", "two")
    ]


def test_one_module_under_two_entry_points_is_a_mistake(installed):
    install(installed, "good_plugin", "one = good_plugin\ntwo = good_plugin", GOOD)
    with pytest.raises(PluginError, match=r"good_plugin 1\.2 \(entry point two\): cannot be registered"):
        Registry.load()
