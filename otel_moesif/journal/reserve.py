"""Room on the disk that is given up when the disk is full, so that what is stored can still be delivered.

Deleting needs room too: SQLite writes the change into its log first. A journal that filled its disk to the
last block could neither convert nor deliver nor shrink.
"""

from __future__ import annotations

import os
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

    def take(self) -> bool:
        """Occupy the room, if it is there; whether it is occupied now."""
        if self.held:
            return True
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                os.posix_fallocate(file, 0, self.size)
                self.held = True
            finally:
                os.close(file)
        except OSError:
            self.give_up()
        return self.held

    def give_up(self) -> bool:
        """Give the room back to the disk; whether there was any."""
        held, self.held = self.held, False
        try:
            self._path.unlink()
        except OSError:
            return False
        return held
