"""The lock of a journal's directory, which belongs to one collector at a time."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import IO

from otel_moesif.errors import StartError
from otel_moesif.journal.swap import sync

_LOCK_SECONDS = 1.0


def lock(directory: Path) -> IO[str]:
    """Make the directory, if need be, and take the lock; who closes the file gives it free.

    Raises:
        StartError: The directory cannot be used, or another process uses it.
    """
    try:
        _make(directory)
        file = (directory / "journal.lock").open("a")
    except OSError as error:
        raise StartError(f"journal: cannot use directory {directory}: {error.strerror}") from None
    try:
        _wait_for(file)
    except OSError:
        file.close()
        raise StartError(
            f"journal: {directory} is in use by another collector (set service.journal.directory)"
        ) from None
    return file


def _make(directory: Path) -> None:
    """A directory that is there after a power cut, too."""
    new = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # what was captured is its owner's
    for path in new:
        sync(path.parent)


def _wait_for(file: IO[str]) -> None:
    """Take the lock; a visitor (the command line) may have it for a moment, a collector keeps it."""
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(_LOCK_SECONDS / 50)
        else:
            return
