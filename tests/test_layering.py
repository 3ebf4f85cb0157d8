"""Who may import whom (docs/architecture.md), and how long a file may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "otel_moesif"
FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if not file.name.endswith("_pb2.py")]
OWN = "otel_moesif"
# What runs the components; a component must not know it.
ENGINE = (
    "service",
    "graph",
    "intake",
    "converter",
    "stream",
    "takeup",
    "one_call",
    "seen",
    "held",
    "renamed",
    "lanes",
    "pipeline",
    "housekeeping",
    "journal",
    "event_log",
    "backlog",
    "circuit",
    "sender",
    "config",
    "cli",
)

# A library, and the only places that may import it.
ONLY_IN = {
    "grpc": ("receivers/",),
    "sqlite3": ("journal/", "intake.py", "converter.py", "sender.py", "housekeeping.py"),
    "ptars": ("otlp/decode.py",),
    "pyarrow": ("otlp/decode.py",),
    "httpx": ("exporters/", "extensions/", "demo/"),
    "httptools": ("receivers/",),
    "bcrypt": ("extensions/",),
    "typer": ("cli/",),
    "rich": ("cli/", "demo/"),
}
# A place, and the modules of ours that it must not import.
NEVER = {
    "receivers/": ENGINE,
    "processors/": ENGINE,
    "dialects/": ENGINE,
    "exporters/": ENGINE,
    "extensions/": ENGINE,
    "errors.py": ("",),
    "schema.py": ("",),
    "events.py": (*ENGINE, "component", "spans", "logs", "plugins"),
    "spans.py": (*ENGINE, "component", "plugins"),
    "logs.py": (*ENGINE, "component", "plugins"),
    "attributes.py": (*ENGINE, "component", "plugins"),
    "journal/": tuple(name for name in ENGINE if name != "journal"),
    "": ("cli",),
}


def imports(file: Path) -> set[str]:
    """Modules that a file imports, lazily or not; not those for the type checker's eyes only."""
    tree = ast.parse(file.read_text())
    hidden = {
        id(node)
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and ast.unparse(guard.test) == "TYPE_CHECKING"
        for node in ast.walk(guard)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_imports_only_what_lies_below_it(file):
    place = str(file.relative_to(PACKAGE))
    for module in imports(file):
        top = module.partition(".")[0]
        if top in ONLY_IN:
            assert place.startswith(ONLY_IN[top]), f"{place} must not import {module}"
        for where, forbidden in NEVER.items():
            if place.startswith(where) and not place.startswith(("cli/", "__main__")):
                for name in forbidden:
                    ours = f"{OWN}.{name}" if name else OWN
                    assert not f"{module}.".startswith(f"{ours}."), f"{place} must not import {module}"


def test_the_test_sees_imports():
    assert "sqlite3" in imports(PACKAGE / "journal/database.py")
    assert "grpc" in imports(PACKAGE / "receivers/otlp/grpc_server.py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_file_is_too_long_to_read(file):
    assert len(file.read_text().splitlines()) <= 350
