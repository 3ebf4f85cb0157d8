"""All problems at once: also those that components find only when they are built."""

import pytest

from otel_moesif import ConfigError, ExporterConfig, ExporterFactory, ExtensionFactory, Settings, hookimpl
from otel_moesif.config import Unusable, load, validate
from otel_moesif.errors import Problem
from otel_moesif.graph import all_problems, try_out
from otel_moesif.plugins import Registry

CONFIG = """
exporters:
  picky: {wrong: 1}
  picky/fine:
  picky/unused:
  buggy:
extensions:
  picky/early: {}
service:
  extensions: [picky/early, nobody]
  pipelines:
    traces: {receivers: [], exporters: [picky, picky/fine, buggy]}
"""


def refuse(settings, context):
    raise ConfigError([Problem("key", "does not exist"), Problem("", "is not enough")])


def stumble(settings, context):
    raise KeyError("a secret")


class Plugin:
    @hookimpl
    def otel_moesif_components(self):
        return [
            ExporterFactory("picky", ExporterConfig, refuse),
            ExporterFactory("buggy", ExporterConfig, stumble),
            ExtensionFactory("picky", Settings, refuse),
        ]


@pytest.fixture
def problems(tmp_path):
    def problems(text):
        path = tmp_path / "collector.yaml"
        path.write_text(text)
        registry = Registry.of({"test": Plugin()})
        try:
            try_out(validate(load([path], [], {}), registry), registry)
        except Unusable as unusable:
            return str(all_problems(unusable, registry)).splitlines()
        except ConfigError as error:
            return str(error).splitlines()
        return []

    return problems


def test_a_mistake_in_one_component_hides_nothing_that_another_one_says_when_it_is_built(problems):
    found = problems(CONFIG)
    assert [line.partition(": ")[0] for line in found if not line.startswith("service")] == [
        "exporters::picky::wrong",  # and not built
        "exporters::picky/fine::key",
        "exporters::picky/fine",
        "exporters::buggy",
        "extensions::picky/early::key",
        "extensions::picky/early",
    ]
    assert sum(line.startswith("service") for line in found) == 3
    assert "exporters::buggy: cannot be built: KeyError: raised in stumble" in found[3]
    assert not any("secret" in line or "unused" in line for line in found)


def test_what_is_found_by_building_alone_stands_in_the_order_of_the_file_too(problems):
    text = "extensions: {picky/b: , picky/a: }\nservice: {extensions: [picky/a, picky/b]}"
    ends = ["b::key: does not exist", "b: is not enough", "a::key: does not exist", "a: is not enough"]
    assert problems(text) == [f"extensions::picky/{end}" for end in ends]
