"""``service::journal``: where calls are safe until every exporter has them."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from pydantic import Field

from otel_moesif.settings import ByteSize, Duration, Settings

MIB = 1 << 20
# The write-ahead log is copied into the database when it is this long, or a 64th of a small journal.
_LOG_BYTES = 16 * MIB


class Fsync(StrEnum):
    """What an acknowledgement waits for; docs/durability.md says what each one survives."""

    COMMIT = "commit"
    INTERVAL = "interval"
    OFF = "off"


class OnFull(StrEnum):
    """What happens to a request for which the journal has no room."""

    REFUSE = "refuse"
    DROP_OLDEST = "drop_oldest"


class JournalSettings(Settings):
    """``service::journal``."""

    directory: Path = Field(
        Path("./data"), description="Where the journal lies; a relative path starts at the working directory"
    )
    fsync: Fsync = Field(
        Fsync.COMMIT,
        description="commit: acknowledged calls survive a power cut; interval: all but those of the last "
        "fsync_interval do; off: they survive a crash of the collector, not one of the machine",
    )
    fsync_interval: Duration = Field(
        timedelta(seconds=1), gt=timedelta(0), description="Time between two syncs, if fsync is interval"
    )
    max_size: ByteSize = Field(
        2048 * MIB,
        ge=4 * MIB,
        description="Most bytes that the journal may hold (write-ahead log not counted)",
    )
    on_full: OnFull = Field(
        OnFull.REFUSE,
        description="refuse: senders are told to retry; drop_oldest: the oldest events leave, counted",
    )
    keep_raw: Duration = Field(
        timedelta(0),
        ge=timedelta(0),
        description="How long requests are kept after their conversion, for `otel-moesif replay`; 0: not",
    )

    @property
    def log_bytes(self) -> int:
        """Length of the write-ahead log at which it is copied into the database."""
        return max(MIB, min(_LOG_BYTES, self.max_size // 64))
