"""The commands. Whatever is slow to import is imported by the command that needs it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from otel_moesif.cli import dead_letters, journal
from otel_moesif.cli.check import check
from otel_moesif.cli.convert import convert
from otel_moesif.cli.init import init
from otel_moesif.cli.replay import replay
from otel_moesif.cli.visit import DEFAULT_CONFIG, Files, Overrides, checked_config

app = typer.Typer(
    help="OTLP from any API gateway in, one analytics event per API call out to Moesif.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        print(f"otel-moesif {metadata.version('otel-moesif')}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    _show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def run(config: Files = None, set_: Overrides = None) -> None:
    """Run the collector in the foreground, until SIGTERM or SIGINT."""
    from otel_moesif.cli.serve import serve  # noqa: PLC0415

    raise typer.Exit(serve(*checked_config(config, set_)))


@app.command()
def validate(config: Files = None, set_: Overrides = None) -> None:
    """Check the configuration, and show every mistake in it."""
    from otel_moesif.cli.show import summary  # noqa: PLC0415
    from otel_moesif.graph import try_out  # noqa: PLC0415

    checked, registry = checked_config(config, set_)
    try_out(checked, registry)
    print(f"{', '.join(checked.raw.sources)}: ok ({summary(checked)})")


@app.command("print-config")
def print_config(config: Files = None, set_: Overrides = None) -> None:
    """Show the effective configuration: merged, with all defaults, without secrets."""
    from otel_moesif.config.redact import to_yaml  # noqa: PLC0415

    checked, _ = checked_config(config, set_)
    print(to_yaml(checked), end="")


@app.command()
def components(
    *, as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False
) -> None:
    """List every component that is installed, with its plugin and version."""
    from otel_moesif.cli.show import components_json, components_table  # noqa: PLC0415
    from otel_moesif.plugins import Registry  # noqa: PLC0415

    found = Registry.load().components()
    if as_json:
        print(components_json(found))
    else:
        components_table(found)


@app.command()
def demo(
    seconds: Annotated[
        float | None,
        typer.Option(min=0, help="End by itself after this long; 0 exit code if every call arrived."),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Calls per second.")] = 50,
    config: Annotated[
        Path, typer.Option("--config", "-c", metavar="FILE", help="Configuration file.")
    ] = DEFAULT_CONFIG,
) -> None:
    """Show the main job: collector, local Moesif sandbox and sample traffic, until Ctrl-C."""
    from otel_moesif.demo.run import run_demo  # noqa: PLC0415

    raise typer.Exit(run_demo(config, seconds, rate))


@app.command()
def sandbox(
    endpoint: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where it listens.")] = "localhost:9500",
) -> None:
    """Run only the local stand-in for Moesif: it checks, counts and shows what it receives."""
    from otel_moesif.cli.exits import FAILED, complain  # noqa: PLC0415
    from otel_moesif.cli.serve import sandbox_config, serve  # noqa: PLC0415
    from otel_moesif.plugins import Registry  # noqa: PLC0415

    registry = Registry.load()
    config = sandbox_config(registry, endpoint)
    if config is None:
        complain("the sandbox is a plugin of its own: pip install otel-moesif-sandbox")
        raise typer.Exit(FAILED)
    raise typer.Exit(serve(config, registry))


app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(journal.app, name="journal")
app.command()(check)
app.command()(replay)
app.command()(convert)
app.command()(init)
