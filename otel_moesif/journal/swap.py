"""How a journal made anew takes the place of the old one, whenever the machine may stop.

One rename decides: before it there is only an unfinished file, which the next start deletes; after it the new
journal is complete, and the next start does the rest. Each step looks at what is there, so that all of them
can be repeated. SQLite must not have the files open.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

NAME = "journal.db"
# The new journal while it is written; and what it was made from, page by page.
SALVAGING = "journal.salvaging.db"
COPY = "journal.salvaging.copy"
# The same, complete: the old one is to be set aside, or, where nothing is lost with it, deleted.
_SALVAGED = "journal.salvaged.db"
_UPGRADED = "journal.upgraded.db"
_BESIDE = ("-wal", "-shm", "-journal")


def discard_unfinished(directory: Path) -> None:
    """Delete what an interrupted salvage has left.

    Raises:
        OSError: It cannot be deleted.
    """
    for name in (SALVAGING, COPY):
        for suffix in ("", *_BESIDE):
            (directory / f"{name}{suffix}").unlink(missing_ok=True)


def swap(directory: Path, *, keep_old: bool) -> Path | None:
    """Put the complete and closed `SALVAGING` in the place of the journal.

    Args:
        directory: Where both lie.
        keep_old: Whether the old files are set aside, else they are deleted.

    Returns:
        Where the old database lies now; None if there was none, or it was deleted.

    Raises:
        OSError: The directory cannot be written; `finish_swap` goes on.
    """
    new = directory / SALVAGING
    # The file's time names what is set aside, so that whoever finishes the swap finds the same name.
    second = int(datetime.now(UTC).timestamp())
    while any(_aside(directory, second, suffix).exists() for suffix in ("", *_BESIDE)):
        second += 1
    os.utime(new, (second, second))
    with suppress(FileNotFoundError):
        new.chmod((directory / NAME).stat().st_mode & 0o777)
    sync(new)
    new.rename(directory / (_SALVAGED if keep_old else _UPGRADED))
    sync(directory)
    finish_swap(directory)
    aside = _aside(directory, second)
    return aside if aside.exists() or _aside(directory, second, "-wal").exists() else None


def finish_swap(directory: Path) -> None:
    """Go on where a swap was interrupted; else nothing.

    Raises:
        OSError: The directory cannot be written.
    """
    old = directory / NAME
    # The log comes first: it must never lie beside a database that it does not belong to.
    if (new := directory / _SALVAGED).exists():
        second = int(new.stat().st_mtime)
        for suffix in ("-wal", "-journal", ""):
            with suppress(FileNotFoundError):
                old.with_name(f"{NAME}{suffix}").rename(_aside(directory, second, suffix))
    elif (new := directory / _UPGRADED).exists():
        for suffix in ("-wal", "-journal"):
            old.with_name(f"{NAME}{suffix}").unlink(missing_ok=True)
    else:
        return
    old.with_name(f"{NAME}-shm").unlink(missing_ok=True)
    sync(directory)
    new.rename(old)
    sync(directory)


def _aside(directory: Path, second: int, suffix: str = "") -> Path:
    return directory / f"journal-corrupt-{datetime.fromtimestamp(second, UTC):%Y%m%dT%H%M%SZ}.db{suffix}"


def make_private(path: Path) -> None:
    """Make an empty file that only its owner may read, if there is none: what was captured is nobody else's.

    SQLite gives the mode of a database to the files beside it.

    Raises:
        OSError: It cannot be made.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def sync(path: Path) -> None:
    """Put a file, or the entries of a directory, on disk.

    Raises:
        OSError: It cannot be done.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
