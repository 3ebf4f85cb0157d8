"""The two hooks by which plugins enter; entry-point group ``otel_moesif``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from otel_moesif.component import Factory
    from otel_moesif.dialects.dialect import Dialect

PROJECT = "otel_moesif"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def otel_moesif_components() -> Iterable[Factory]:
    """Return the factories of the components that this plugin brings.

    Called once at start. Does no I/O.
    """
    raise NotImplementedError


@hookspec
def otel_moesif_dialects() -> Iterable[Dialect]:
    """Return the gateway dialects that this plugin brings, most specific first.

    Called once at start. Does no I/O.
    """
    raise NotImplementedError
