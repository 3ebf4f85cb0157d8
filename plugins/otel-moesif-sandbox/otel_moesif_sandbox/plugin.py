"""The plugin: extension type ``moesif_sandbox``."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from otel_moesif import Context, Duration, ExtensionFactory, Settings, hookimpl
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
    applications: tuple[SecretStr, ...] | None = Field(
        None, description="The only application ids that are accepted; others are answered with 401"
    )
    reject_older_than: Duration | None = Field(
        None, description="Events of an older request.time are answered with 400; Moesif's own limit is 720h"
    )


def _build(config: SandboxConfig, context: Context) -> Sandbox:
    applications, oldest = config.applications, config.reject_older_than
    return Sandbox(
        config.endpoint,
        max_events=config.max_events,
        applications=None if applications is None else [one.get_secret_value() for one in applications],
        reject_older_than=None if oldest is None else oldest.total_seconds(),
        logger=context.logger,
    )


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
