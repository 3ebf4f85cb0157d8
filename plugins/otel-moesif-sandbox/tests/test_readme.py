"""The README says everything that can be set and everything that is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from otel_moesif_sandbox import Behavior, Chaos
from otel_moesif_sandbox.kinds import KINDS
from otel_moesif_sandbox.plugin import SandboxConfig
from otel_moesif_sandbox.state import State

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.parametrize("field", [*Behavior.model_fields, *Chaos.model_fields, *State(1).stats()])
def test_names_every_field_and_count(field):
    assert f"`{field}`" in README


@pytest.mark.parametrize("option", SandboxConfig.model_fields)
def test_names_every_option(option):
    assert f"    {option}: " in README


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_names_every_kind(kind):
    assert f"`POST /v1/{kind}`" in README
    assert f"`/v1/{kind}/batch`" in README


def test_the_snippet_for_tests_runs():
    snippet = README.split("```python\n")[1].split("```")[0]
    exec(compile(snippet, "README.md", "exec"), {})  # noqa: S102 - our own text
