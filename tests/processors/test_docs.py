"""docs/processors.md: every option stands there, and every example does what it says."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import yaml
from pydantic import BaseModel

from otel_moesif.component import ComponentId, Kind
from otel_moesif.config import load, validate
from otel_moesif.config.shape import classes
from otel_moesif.plugins import Registry
from otel_moesif.processors.redact.settings import PatternSettings
from tests.processors.events import Counters, make

DOCS = (Path(__file__).parents[2] / "docs/processors.md").read_text()
NAMES = ("filter", "transform", "redact", "sample", "enrich")
FENCES = re.findall(r"^```(\w+) ?([\w.]*)\n(.*?)^```", DOCS, re.DOTALL | re.MULTILINE)
FILES = {name: text for language, name, text in FENCES if language == "csv"}
ENV = {"REDACT_KEY": "0123456789abcdef", "MOESIF_APPLICATION_ID": "x"}


@dataclass
class Example:
    config: str
    lines: list[dict]


EXAMPLES = [
    Example(text, [json.loads(line) for line in FENCES[number + 1][2].splitlines()])
    for number, (_, name, text) in enumerate(FENCES)
    if name == "example"
]


@pytest.fixture
def configured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)

    def check(config):
        whole = {"receivers": {"otlp": None}, "exporters": {"moesif": {"application_id": "x"}, "debug": None}}
        whole["service"] = {
            "pipelines": {
                "traces": {"receivers": ["otlp"], "processors": ["apim_event"], "exporters": ["debug"]}
            }
        }
        whole.update(config)
        whole["processors"] = {"apim_event": None, **whole["processors"]}
        (tmp_path / "collector.yaml").write_text(yaml.safe_dump(whole))
        return validate(load([tmp_path / "collector.yaml"], [], ENV), Registry.load()).processors

    return check


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda x: " ".join(x.config.split())[:50])
def test_an_example_does_what_it_says(example, configured):
    (name,) = options = yaml.safe_load(example.config)
    one = configured({"processors": options})[ComponentId(name)]
    events = make(*(line["in"] for line in example.lines))
    out = one.factory.build(one.settings, Counters(name).context).process(events)
    rows = {row["transactionId"]: row for row in out.frame.iter_rows(named=True)}
    found = [rows.get(id_) for id_ in events.frame["transactionId"]]
    wanted = [line["out"] for line in example.lines]
    seen = [row and {key: row[key] for key in want or row} for row, want in zip(found, wanted, strict=True)]
    assert seen == wanted


def test_the_pipeline_can_be_built(configured):
    (text,) = [text for _, name, text in FENCES if name == "pipeline"]
    for id_, one in configured(yaml.safe_load(text)).items():
        if id_.type != "apim_event":
            assert len(one.factory.build(one.settings, Counters().context).process(make({}))) in {0, 1}


def models(model):
    """A model and all models in its options."""
    yield model
    if model is not PatternSettings:
        for field in model.model_fields.values():
            for inner in nested(field.annotation):
                yield from models(inner)


def nested(annotation):
    found = [x for x in classes(annotation) if issubclass(x, BaseModel)]
    for argument in getattr(annotation, "__args__", ()):
        found += nested(argument)
    return dict.fromkeys(found)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_described_and_has_an_example(name):
    section = DOCS.split(f"\n## {name}\n")[1].split("\n## ")[0]
    examples = "".join(text for _, kind, text in FENCES if kind == "example" and text.startswith(name))
    found = dict.fromkeys(models(Registry.load().factory(Kind.PROCESSOR, name).config))
    for model in found:
        for option, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{option}"
            assert f"`{option}`" in section, f"{option} is not in the documentation of {name}"
            assert re.search(rf"\b{option}:", examples), f"{option} has no example"
    assert (PatternSettings in found) == (name == "redact")


def test_the_processors_keep_the_contract_not_to_change_their_argument(configured):
    for example in EXAMPLES:
        ((name, options),) = yaml.safe_load(example.config).items()
        one = configured({"processors": {name: options}})[ComponentId(name)]
        events = make(*(line["in"] for line in example.lines))
        before = pl.DataFrame(events.frame.clone())
        one.factory.build(one.settings, Counters(name).context).process(events)
        assert events.frame.equals(before, null_equal=True)
