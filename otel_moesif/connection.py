"""How a component says whether its connection works, for ``otel-moesif check``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Checked:
    """Verdict on one connection.

    Attributes:
        ok: Whether events would be taken.
        subject: What was asked, for example ``https://api.moesif.net, application id …1234``.
        verdict: What came of it, in plain words.
        remedy: What to do if it is not well.
    """

    ok: bool
    subject: str
    verdict: str
    remedy: str = ""


@runtime_checkable
class Checkable(Protocol):
    """An exporter (or extension) that can try its connection, for ``otel-moesif check``."""

    async def check(self) -> Sequence[Checked]:
        """Ask the backend, without sending events; called between ``start()`` and ``shutdown()``."""
