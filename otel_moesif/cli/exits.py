"""From errors to exit codes: 2 for a wrong configuration, 1 for a failed start, 70 for a bug."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator

from otel_moesif.errors import ConfigError, OtelMoesifError, PluginError, describe

FAILED = 1
UNUSABLE = 2
"""Configuration or plugins; also what the command line parser uses."""
BUG = 70
"""EX_SOFTWARE of sysexits.h."""
INTERRUPTED = 130
_NOT_WRITABLE = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What an output says that takes no more: nobody's bug."""


def main() -> None:
    """Run the command line; does not return."""
    # gRPC's C core writes lines of its own to stderr; what matters of them we say ourselves. It reads this
    # when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from otel_moesif.cli.app import app  # noqa: PLC0415 - the commands may fail to import, too

    try:
        try:
            app(prog_name="otel-moesif")
        finally:
            print(end="", flush=True)  # what Python does at its end could only complain
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last place that can say what happened
        sys.exit(report(error))


def heed_interrupts() -> None:
    """Let Ctrl-C end a read that waits; polars' handler of SIGINT has it begin anew."""
    signal.siginterrupt(signal.SIGINT, True)  # noqa: FBT003 - its only way


def report(error: BaseException) -> int:
    """Say on stderr what went wrong, and return the exit code that belongs to it.

    Errors that the collector raises on purpose are shown as lines, anything else as a traceback without the
    errors' own texts, which may quote a secret (see `describe`).
    """
    leaves = list(_leaves(error))
    if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
        let_go_of_output()
        if error.errno != errno.EPIPE:  # `| head` has seen enough
            complain(f"cannot write: {error.strerror}")
        return FAILED
    if not all(isinstance(leaf, OtelMoesifError) for leaf in leaves):
        for leaf in leaves:
            print("".join(_story(leaf)), end="", file=sys.stderr)
        complain("this is a bug in otel-moesif or in a plugin")
        return BUG
    for leaf in leaves:
        for line in str(leaf).splitlines():
            print(line, file=sys.stderr)
    return UNUSABLE if any(isinstance(leaf, ConfigError | PluginError) for leaf in leaves) else FAILED


def let_go_of_output() -> None:
    """What could not be written is forgotten; Python would try once more at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(message: str) -> None:
    """One line on stderr, under the command's name."""
    print(f"otel-moesif: {message}", file=sys.stderr, flush=True)


def _story(error: BaseException) -> Iterator[str]:
    """Where an error was raised and what it was; before it the one that led to it."""
    if before := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        yield from _story(before)
        yield "\nwhich led to\n\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{describe(error)}\n"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, as a task group raises them; a single error is its own group."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error
