"""``otel-moesif init``: what a gateway needs to be told, and a collector.yaml to go with it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from otel_moesif.cli.exits import FAILED, complain
from otel_moesif.cli.visit import DEFAULT_CONFIG, refused

if TYPE_CHECKING:
    from rich.table import Table

    from otel_moesif.cli.guides import Guide
    from otel_moesif.cli.wso2_analytics import Analytics

_WSO2 = "wso2"
# Gateways that live in Kubernetes or in containers: the collector is not on their localhost.
_IN_CLUSTER = frozenset({"envoy_gateway", "ingress_nginx", "istio", "wso2_api_platform"})
_STDOUT = "-"
_DEFAULTS = frozenset({_STDOUT, str(DEFAULT_CONFIG)})
"""Outputs after which the other commands need no --config."""
_WIDE = 200
"""Columns where nobody looks: rich's 80 would fold what a program reads."""


def init(
    gateway: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The gateway that sends; --list shows all.", show_default=False),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="WSO2's deployment.toml, whose analytics settings are carried over.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="FILE", help="Where to; `-` is standard output."),
    ] = str(DEFAULT_CONFIG),
    *,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Show the gateways that are known.")] = False,
) -> None:
    """Say how to configure a gateway, and write a collector.yaml for it."""
    from otel_moesif.cli.guides import gateways, load  # noqa: PLC0415

    if list_:
        _show_list([load(name) for name in gateways()])
        return
    name = _chosen(gateway, from_, gateways())
    analytics = _read(from_) if from_ else None
    guide = load(name)
    text = _collector_file(guide, analytics, output)
    _write(output, text, force=force)
    # With the file on standard output, what is for people goes where it is in nobody's way.
    people = sys.stderr if output == _STDOUT else sys.stdout
    if analytics and from_:
        _show_carried(analytics, from_, people)
    print(guide.text, end="\n\n", file=people)
    print(_next_steps(analytics, output), file=people)


def _chosen(gateway: str | None, from_: Path | None, known: list[str]) -> str:
    from otel_moesif.config.findings import did_you_mean  # noqa: PLC0415

    if from_ and gateway not in {None, _WSO2}:
        raise refused(f"--from reads WSO2's deployment.toml, which goes with --gateway {_WSO2} only")
    name = _WSO2 if from_ else gateway
    if name is None:
        raise refused("say which gateway: --gateway NAME (--list shows them), or --from deployment.toml")
    if name not in known:
        hint = did_you_mean(name, known)
        raise refused(f'no gateway "{name}" ({hint}known: {", ".join(known)})')
    return name


def _read(path: Path) -> Analytics:
    from otel_moesif.cli.wso2_analytics import read_analytics  # noqa: PLC0415

    try:
        return read_analytics(path.read_text("utf-8-sig"), redact=_redact_installed())
    except OSError as error:
        complain(f"cannot read {path}: {error.strerror or error}")
    except UnicodeDecodeError:
        complain(f"{path}: is no TOML: not UTF-8")
    except (ValueError, RecursionError) as error:
        complain(f"{path}: is no TOML: {error}")
    raise typer.Exit(FAILED)


def _redact_installed() -> bool:
    from otel_moesif.component import Kind  # noqa: PLC0415
    from otel_moesif.plugins import Registry  # noqa: PLC0415

    return Registry.load().factory(Kind.PROCESSOR, "redact") is not None


def _collector_file(guide: Guide, analytics: Analytics | None, output: str) -> str:
    from otel_moesif.cli.collector_file import MOESIF, CollectorFile  # noqa: PLC0415
    from otel_moesif.cli.wso2_analytics import Analytics  # noqa: PLC0415

    found = analytics or Analytics()
    return CollectorFile(
        title=guide.title,
        options=guide.options,
        fields=found.fields,
        endpoint=found.endpoint or MOESIF,
        mask=found.mask,
        masked_headers=found.masked_headers,
        samples=found.samples,
        like_wso2=analytics is not None and bool(analytics.rows),
        redact=_redact_installed(),
        in_cluster=guide.name in _IN_CLUSTER,
        path="" if output in _DEFAULTS else output,
    ).text()


def _write(output: str, text: str, *, force: bool) -> None:
    if output == _STDOUT:
        print(text, end="")
        return
    try:
        with Path(output).open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        complain(f"{output} is there already: --force overwrites it, --output - shows what would be written")
        raise typer.Exit(FAILED) from None
    except OSError as error:
        complain(f"cannot write {output}: {error.strerror or error}")
        raise typer.Exit(FAILED) from None


def _show_list(guides: list[Guide]) -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "gateway", "how it sends"):
        table.add_column(title, no_wrap=True)
    for guide in guides:
        table.add_row(guide.name, guide.title, guide.summary)
    _print(table, sys.stdout)


def _show_carried(analytics: Analytics, path: Path, people: TextIO) -> None:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    if not analytics.rows:
        print(f"{path} has no [apim.analytics]: nothing to carry over\n", file=people)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (path.name, "becomes"):
        table.add_column(Text(title), no_wrap=True)
    table.add_column("where, or why not", overflow="fold")
    for row in analytics.rows:
        table.add_row(Text(row.setting), row.outcome, Text(row.note))
    _print(table, people)
    print(file=people)


def _print(table: Table, file: TextIO) -> None:
    from rich.console import Console  # noqa: PLC0415

    console = Console(file=file)
    if not console.is_terminal:
        console = Console(file=file, width=_WIDE)
    console.print(table, markup=False, highlight=False)


def _next_steps(analytics: Analytics | None, output: str) -> str:
    config = "" if output in _DEFAULTS else f" --config {shlex.quote(output)}"
    whence = (
        "what moesifKey says in deployment.toml"
        if analytics and analytics.has_key
        else "your Moesif account's"
    )
    steps = [
        "## Next",
        "",
        *([] if output == _STDOUT else [f"{output} is written.", ""]),
        f"    export MOESIF_APPLICATION_ID=<{whence}>",
        f"    otel-moesif validate{config}",
        f"    otel-moesif run{config}",
    ]
    return "\n".join(steps)
