"""What the README shows is run: its configuration, its plugin, its commands."""

from __future__ import annotations

import asyncio
import logging
import re
import types
from pathlib import Path

import polars as pl
import pytest
from opentelemetry.metrics import get_meter

from otel_moesif import ComponentId, Context, Events
from otel_moesif.component import Kind
from otel_moesif.config import load, validate
from otel_moesif.plugins import Registry

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)[1]


@pytest.mark.parametrize(
    "text", [block("yaml"), (ROOT / "collector.yaml").read_text()], ids=["readme", "file"]
)
def test_the_configuration_is_valid(text, tmp_path):
    file = tmp_path / "collector.yaml"
    file.write_text(text)
    config = validate(load([file], [], {}), Registry.load())
    assert [str(id_) for id_ in config.pipelines] == ["traces", "logs"]


def test_the_plugin_works(capsys):
    module = types.ModuleType("pipe")
    exec(block("python"), module.__dict__)  # noqa: S102 - our own README
    factory = Registry.of({"pipe": module}).factory(Kind.EXPORTER, "pipe")
    context = Context(ComponentId("pipe"), logging.getLogger("pipe"), get_meter("pipe"))
    exporter = factory.build(factory.config(prefix="> "), context)
    asyncio.run(exporter.export(Events(pl.DataFrame({"apiName": ["Orders"], "proxyResponseCode": [200]}))))
    assert capsys.readouterr().out == "> Orders 200\n"


def test_the_commands_exist():
    from typer.main import get_command  # noqa: PLC0415

    from otel_moesif.cli.app import app  # noqa: PLC0415

    named = set(re.findall(r"^\| `otel-moesif ([a-z-]+)", README, re.MULTILINE))
    assert named == set(get_command(app).commands)


def test_no_setting_goes_without_a_description():
    from otel_moesif.config.model import ServiceSettings  # noqa: PLC0415

    registry = Registry.load()
    models = [
        ServiceSettings,
        *(registry.factory(kind, t).config for kind in Kind for t in registry.types(kind)),
    ]
    bare = [
        f"{m.__name__}.{name}"
        for m in models
        for name, field in m.model_fields.items()
        if not field.description
    ]
    assert not bare
