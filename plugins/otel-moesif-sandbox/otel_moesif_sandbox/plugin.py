"""The plugin: extension type ``moesif_sandbox``."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from otel_moesif import Context, ExtensionFactory, Settings, hookimpl
from otel_moesif.endpoint import parse_endpoint
from otel_moesif_sandbox.sandbox import DEFAULT_ENDPOINT, DEFAULT_MAX_EVENTS, Sandbox


def _checked(endpoint: str) -> str:
    parse_endpoint(endpoint)
    return endpoint


class SandboxConfig(Settings):
    """Options of the extension ``moesif_sandbox``."""

    endpoint: Annotated[str, AfterValidator(_checked)] = Field(
        DEFAULT_ENDPOINT, description="host:port to listen on; port 0 takes any free one"
    )
    max_events: int = Field(
        DEFAULT_MAX_EVENTS, ge=1, description="Events kept in memory; beyond that the oldest leave"
    )


def _build(config: SandboxConfig, context: Context) -> Sandbox:
    return Sandbox(config.endpoint, max_events=config.max_events, logger=context.logger)


@hookimpl
def otel_moesif_components() -> list[ExtensionFactory]:
    """The one component that this plugin brings."""
    return [
        ExtensionFactory(
            "moesif_sandbox",
            SandboxConfig,
            _build,
            "Local stand-in for Moesif's collector API: checks, counts and shows what it receives",
        )
    ]
