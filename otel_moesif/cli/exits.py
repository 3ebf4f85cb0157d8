"""From errors to exit codes: 2 for a wrong configuration, 1 for a failed start, 70 for a bug."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator

from otel_moesif.errors import ConfigError, OtelMoesifError, PluginError

FAILED = 1
UNUSABLE = 2
"""Configuration or plugins; also what the command line parser uses."""
BUG = 70
"""EX_SOFTWARE of sysexits.h."""
INTERRUPTED = 130


def main() -> None:
    """Run the command line; does not return."""
    # gRPC's C core writes lines of its own to stderr; what matters of them we say ourselves. It reads this
    # when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from otel_moesif.cli.app import app  # noqa: PLC0415 - the commands may fail to import, too

    try:
        app(prog_name="otel-moesif")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last place that can say what happened
        sys.exit(report(error))


def report(error: BaseException) -> int:
    """Say on stderr what went wrong, and return the exit code that belongs to it.

    Errors that the collector raises on purpose are shown as lines, anything else as a traceback.
    """
    leaves = list(_leaves(error))
    if not all(isinstance(leaf, OtelMoesifError) for leaf in leaves):
        traceback.print_exception(error)
        complain("this is a bug in otel-moesif or in a plugin")
        return BUG
    for leaf in leaves:
        for line in str(leaf).splitlines():
            print(line, file=sys.stderr)
    return UNUSABLE if any(isinstance(leaf, ConfigError | PluginError) for leaf in leaves) else FAILED


def complain(message: str) -> None:
    """One line on stderr, under the command's name."""
    print(f"otel-moesif: {message}", file=sys.stderr, flush=True)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, as a task group raises them; a single error is its own group."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error
