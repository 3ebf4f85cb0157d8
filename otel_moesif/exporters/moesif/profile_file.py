"""Which profiles were sent lately, on disk: after a restart they are not sent again."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import polars as pl

from otel_moesif.errors import describe
from otel_moesif.exporters.moesif.profiles import TABLE, Profiles
from otel_moesif.own_thread import in_own_thread

Waiting: TypeAlias = Callable[[], Sequence[tuple[str, Sequence[str]]]]
"""Gives the profiles that are not sent yet: application ids, each with its texts."""

_SECONDS = 60.0
_NAME = b"otel-moesif profiles "
_VERSION = 1  # of this file, and of what the keys are made of
_HEAD = b"%b%d\n" % (_NAME, _VERSION)
_CHECKSUM_BYTES = 4
_ROW_BYTES = 16
_ROOM_BYTES = 64 << 10  # for Arrow's own


class _UnusableError(Exception):
    """What is in the file is not what was written, or not by this version."""


class ProfileFile:
    """Keeps in a file what `Profiles` remember.

    Read once at the start, written at the end and once a minute while something changes, as a whole under
    another name and then renamed: a killed process loses a minute at most, and never the file. Nothing is
    synced, since that would cost the journal its turn at the disk: a power cut may lose or damage the file,
    and then profiles are sent once more, no worse. Profiles that wait in the `SideQueue` are left out: with
    the process they would be gone.

    The file has a line that says what it is, a CRC-32 and a `TABLE` as Arrow IPC. A million ids take
    8 MB. To write them takes 0.1 s of CPU, to read them, once, 0.5 s (polars 2.1), in threads; others wait
    10 ms for the GIL then, and once 0.1 s while it is read.

    Args:
        path: Of the file; what is missing of its directories is made, for their owner alone.
        profiles: Who remembers.
        waiting: Called in the event loop.
        logger: Of the exporter.
        pause: Seconds between two writings.
    """

    def __init__(
        self,
        path: Path,
        profiles: Profiles,
        waiting: Waiting,
        logger: logging.Logger,
        pause: float = _SECONDS,
    ) -> None:
        self._path = path
        self._profiles = profiles
        self._waiting = waiting
        self._logger = logger
        self._pause = pause
        self._written = profiles.changes
        self._told = False
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Let the profiles remember what is in the file, and begin to write.

        A file that cannot be used is ignored, and that is said.
        """
        try:
            await in_own_thread(self._read)
        except FileNotFoundError:
            pass
        except (OSError, _UnusableError) as error:
            reason = str(error) if isinstance(error, _UnusableError) else describe(error)
            self._logger.warning("ignoring %s: %s; profiles may be sent again", self._path, reason)
        self._task = asyncio.create_task(self._run(), name=f"moesif-{self._path.name}")

    async def shutdown(self) -> None:
        """Write what changed; safe unstarted and twice."""
        self._stopping.set()
        task, self._task = self._task, None
        if task is not None:
            await task
            await self._save()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(self._pause):
                    await self._stopping.wait()
            except TimeoutError:
                await self._save()

    async def _save(self) -> None:
        changes = self._profiles.changes
        if changes == self._written:
            return
        try:
            await self._write(changes)
        except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001 - it costs work only
            if not self._told:
                self._logger.warning(
                    "cannot write %s: %s; after a restart profiles may be sent again",
                    self._path,
                    describe(error),
                )
            self._told = True

    async def _write(self, changes: int) -> None:
        table = await in_own_thread(self._profiles.table)
        # asked for later than the table: what was sent in between is in it, and does not wait
        waiting = [self._profiles.keys(*of_one) for of_one in self._waiting()]
        unsent = pl.concat(waiting) if waiting else pl.Series(dtype=pl.UInt64)
        await in_own_thread(_write, self._path, table, unsent)
        self._told = False
        if unsent.is_empty():
            self._written = changes

    def _read(self) -> None:
        most = len(_HEAD) + _CHECKSUM_BYTES + _ROOM_BYTES + _ROW_BYTES * self._profiles.remembered
        with self._path.open("rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise _UnusableError(f"it is larger than {most:,} bytes")
        self._profiles.remember(_parsed(content))


def _parsed(content: bytes) -> pl.DataFrame:
    if not content.startswith(_HEAD):
        other = content.startswith(_NAME)
        raise _UnusableError(f"it is not of version {_VERSION}" if other else "it is damaged")
    rest = memoryview(content)[len(_HEAD) :]
    checksum, body = rest[:_CHECKSUM_BYTES], rest[_CHECKSUM_BYTES:]
    if checksum != _checksum(body):
        raise _UnusableError("it is damaged")
    try:
        return pl.read_ipc(io.BytesIO(body)).match_to_schema(TABLE)
    except (Exception, pl.exceptions.PanicException) as error:
        raise _UnusableError(f"polars cannot read it ({type(error).__name__})") from error


def _write(path: Path, table: pl.DataFrame, unsent: pl.Series) -> None:
    if not unsent.is_empty():
        table = table.filter(~pl.col("key").is_in(unsent.implode()))
    body = io.BytesIO()
    table.write_ipc(body, compression="lz4")
    missing = [directory for directory in path.parents if not directory.exists()]
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)  # like the journal's: who calls is its owner's to know
    temporary = path.with_name(f"{path.name}.new")
    try:
        # like the journal
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as new:
            new.writelines((_HEAD, _checksum(body.getbuffer()), body.getbuffer()))
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def _checksum(body: memoryview) -> bytes:
    return zlib.crc32(body).to_bytes(_CHECKSUM_BYTES)
