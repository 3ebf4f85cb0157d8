"""What each gateway needs to be told, and what it cannot tell: ``otel_moesif/gateways/<name>.md``.

Each is a Markdown page: a title, one line that says how the gateway sends OTLP, what to configure, what it
does not say, and at the end, under ``## collector.yaml``, the options of ``apim_event`` that go with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

_TITLE = re.compile(r"# (.+)\n\n(.+)\n")
_OPTIONS = re.compile(r"\n## collector\.yaml\n\n```yaml\n(.*?)```\n", re.DOTALL)


@dataclass(frozen=True)
class Guide:
    """One gateway.

    Attributes:
        name: As ``--gateway`` has it.
        title: The gateway's own name.
        summary: How it sends OTLP.
        text: The page without its last section.
        options: YAML, the options of ``apim_event``; may be comments alone.
    """

    name: str
    title: str
    summary: str
    text: str
    options: str


def gateways() -> list[str]:
    """The names of all gateways that there is a page for."""
    pages = (page.name for page in _directory().iterdir())
    return sorted(name.removesuffix(".md") for name in pages if name.endswith(".md"))


def load(name: str) -> Guide:
    """Read a gateway's page.

    Args:
        name: One of `gateways`.

    Raises:
        ValueError: The page is not of the form that the module describes.
    """
    page = _directory().joinpath(f"{name}.md").read_text("utf-8")
    head, options = _TITLE.match(page), _OPTIONS.search(page)
    if not head or not options:
        raise ValueError(f"{name}.md: needs a title, a line below it, and a section collector.yaml")
    return Guide(name, head[1], head[2], page[: options.start()].rstrip(), options[1])


def _directory() -> Traversable:
    return files("otel_moesif") / "gateways"
