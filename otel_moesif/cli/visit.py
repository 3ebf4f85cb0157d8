"""Which configuration and which journal a command means, and the options that say so."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_moesif.cli.exits import UNUSABLE, complain, heed_interrupts

if TYPE_CHECKING:
    from otel_moesif.config import Config, Raw
    from otel_moesif.journal.visitor import Visitor
    from otel_moesif.plugins import Registry

DEFAULT_CONFIG = Path("collector.yaml")

Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Configuration file; several are merged in order. [default: collector.yaml]",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.KEY=VALUE", help="One setting, applied after all files; repeatable."),
]
Directory = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        metavar="DIR",
        help="Where the journal lies; needs no configuration. [default: service.journal.directory]",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def open_journal(config: list[Path] | None, overrides: list[str] | None, directory: Path | None) -> Visitor:
    """The journal that the options name.

    Raises:
        VisitError: There is none, or it cannot be used.
        StartError: A configuration file cannot be read.
        ConfigError: It does not say where the journal is.
    """
    from otel_moesif.journal.visitor import Visitor  # noqa: PLC0415

    return Visitor(directory or _configured(config, overrides))


def configured_exporters(
    config: list[Path] | None, overrides: list[str] | None, directory: Path | None
) -> frozenset[str] | None:
    """Ids of the exporters that pipelines have; None if no configuration says so."""
    from otel_moesif.errors import OtelMoesifError  # noqa: PLC0415

    if directory and not config:  # collector.yaml may be that of another collector
        return None
    try:
        raw = _load(config, overrides)
    except OtelMoesifError:
        return None
    pipelines = _part(raw, "service", "pipelines")
    if not isinstance(pipelines, dict):
        return None
    lists = [_part(raw, "service", "pipelines", id_, "exporters") for id_ in pipelines]
    return frozenset(str(name) for names in lists if isinstance(names, list) for name in names)


def moment(text: str | None, option: str) -> float | None:
    """What an option's text means, seconds since the epoch; ends the program if it means nothing."""
    from otel_moesif.cli.when import read_moment  # noqa: PLC0415

    if text is None:
        return None
    try:
        found, assumed = read_moment(text, datetime.now().astimezone())
    except ValueError as error:
        raise refused(f"{option}: {error}") from None
    if assumed:
        complain(f"{option}: {assumed}")
    return found.timestamp()


def refused(message: str) -> typer.Exit:
    """Say why the command line makes no sense; raise what this returns."""
    complain(message)
    return typer.Exit(UNUSABLE)


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether to go on; ends the program where nobody can be asked."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise refused("nobody can be asked here: --yes to go on without")
    heed_interrupts()
    return typer.confirm(question, err=True)


def _configured(config: list[Path] | None, overrides: list[str] | None) -> Path:
    """``service.journal.directory``; the rest of the configuration need not be right.

    Whoever looks at the journal may not have the environment of the collector, with its secrets.
    """
    from otel_moesif.config.components import check_options  # noqa: PLC0415
    from otel_moesif.config.findings import in_file_order  # noqa: PLC0415
    from otel_moesif.errors import ConfigError  # noqa: PLC0415
    from otel_moesif.journal.settings import JournalSettings  # noqa: PLC0415

    raw = _load(config, overrides)
    place = ("service", "journal")
    findings = [finding for finding in raw.findings if finding.loc[:2] == place]
    settings = check_options(JournalSettings, _part(raw, *place), place, findings)
    if findings or settings is None:
        raise ConfigError(in_file_order(findings, raw.data))
    return settings.directory


def _load(config: Sequence[Path] | None, overrides: list[str] | None) -> Raw:
    from otel_moesif.config import load  # noqa: PLC0415
    from otel_moesif.journal.visit import VisitError  # noqa: PLC0415

    if not config and not DEFAULT_CONFIG.exists():
        raise VisitError(
            f"there is no {DEFAULT_CONFIG} here: say where the journal is with --directory DIR, "
            "or which configuration says so with --config FILE"
        )
    return load(config or [DEFAULT_CONFIG], overrides or [])


def _part(raw: Raw, *keys: str) -> Any:
    from otel_moesif.config.text import plain  # noqa: PLC0415

    part: Any = raw.data
    for key in keys:
        part = plain(part.get(key)) if isinstance(part, dict) else None
    return part


def checked_config(paths: list[Path] | None, overrides: list[str] | None) -> tuple[Config, Registry]:
    """The configuration that the options name, and the plugins that it was checked with.

    Raises:
        StartError: A file cannot be read.
        ConfigError: It has mistakes: all of them, also those that only components themselves find.
    """
    from otel_moesif.config import Unusable, load, validate  # noqa: PLC0415
    from otel_moesif.plugins import Registry  # noqa: PLC0415

    raw = load(paths or [DEFAULT_CONFIG], overrides or [])
    registry = Registry.load()
    try:
        return validate(raw, registry), registry
    except Unusable as unusable:
        from otel_moesif.graph import all_problems  # noqa: PLC0415

        raise all_problems(unusable, registry) from None
