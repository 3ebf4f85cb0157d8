"""Room on the disk that is given up when the disk is full, so that what is stored can still be delivered.

Deleting needs room too: SQLite writes the change into its log first. A journal that filled its disk to the
last block could neither convert nor deliver nor shrink.

What is committed is in the log first. To copy it into the database makes that larger, and until it is copied
the log cannot begin anew: without room for that, it would keep its own, and none would be left for whatever
frees some. So what the database is going to grow by is set aside before it is committed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# Of a small disk (a RAM disk, a quota) the reserve takes no more than this part.
_SHARE = 8


class Reserve:
    """A file of blocks that nobody uses.

    Args:
        directory: Where the journal lies.
        log_bytes: Length that its write-ahead log may have. To copy the log into the database takes as much
            room again, and delivering meanwhile some more, hence twice that.

    Attributes:
        size: Bytes that it takes.
        log_bytes: Length that the log may have, with so much in reserve.
    """

    def __init__(self, directory: Path, log_bytes: int) -> None:
        self._path = directory / "journal.reserve"
        disk = os.statvfs(directory)
        self.size = min(2 * log_bytes, disk.f_blocks * disk.f_frsize // _SHARE)
        self.log_bytes = self.size // 2
        self.held = False
        self._occupied = 0

    def take(self) -> bool:
        """Occupy the room, if it is there; whether it is occupied now."""
        if self.held:
            return True
        if self._occupy(self.size):
            self.held = True
        else:
            self.give_up()
        return self.held

    def cover(self, growth: int) -> bool:
        """Set aside what a checkpoint needs, and what delivering needs afterwards.

        Args:
            growth: Bytes by which the database is going to be larger.

        Returns:
            Whether there is so much room.
        """
        least = growth + self.log_bytes
        return growth <= 0 or least <= self._occupied or self._occupy(least)

    def fit(self, growth: int) -> None:
        """Give back what is not needed any more, as it was copied.

        Args:
            growth: As in `cover`.
        """
        least = max(self.size, growth + self.log_bytes)
        if self.held and self._occupied > least:
            with suppress(OSError):
                os.truncate(self._path, least)
                self._occupied = least

    def give_up(self) -> bool:
        """Give the room back to the disk; whether there was any."""
        held, self.held, self._occupied = self.held, False, 0
        try:
            self._path.unlink()
        except OSError:
            return False
        return held

    def _occupy(self, size: int) -> bool:
        """Make the file so large, or leave it as it is."""
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                os.posix_fallocate(file, 0, size)
                self._occupied = max(size, os.fstat(file).st_size)
            except OSError:
                os.ftruncate(file, self._occupied)
                raise
            finally:
                os.close(file)
        except OSError:
            return False
        return True
