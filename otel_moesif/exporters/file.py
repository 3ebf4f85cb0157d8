"""The ``file`` exporter: JSON lines, each an event in exactly the shape that the guide documents."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from pydantic import Field

from otel_moesif import Checked, Context, Events, ExporterConfig, ExporterFactory, StartError


class FileSettings(ExporterConfig):
    """Which file, and how sure to be of it."""

    path: Path = Field(description="File that events are appended to; its directory is created")
    fsync: bool = Field(default=False, description="Wait for the disk after each batch")


class FileExporter:
    """Appends events to a file; a batch is in it as a whole or not at all.

    Args:
        settings: Which file.
        context: Not used: what goes wrong is raised.
    """

    def __init__(self, settings: FileSettings, context: Context) -> None:  # noqa: ARG002
        self._settings = settings
        self._file: int | None = None
        # batches may come from several threads at once (`sending_queue::num_consumers`)
        self._lock = Lock()

    async def start(self) -> None:
        """Open the file, without a change to what is in it: a collector may be writing there.

        Raises:
            StartError: The file cannot be written.
        """
        path = self._settings.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _open(path)
        except OSError as error:
            raise StartError(f"cannot write events to {path}: {error.strerror or error}") from error

    def export(self, events: Events) -> None:
        """Append one batch; blocks until the operating system has it.

        Raises:
            OSError: It could not be written (disk full, …); the file is as it was.
        """
        if not len(events):
            return
        text: str = events.to_json().str.join("\n").item()
        with self._lock:
            self._reopen_if_moved()
            file = self._opened()
            # a line that a crash left unfinished, or cutting back below that failed
            _end_line(file)
            _append(file, f"{text}\n".encode(), sync=self._settings.fsync)

    async def check(self) -> Sequence[Checked]:
        """Whether the file can go on growing, and be made anew after it was rotated away."""
        path = self._settings.path
        verdict, remedy = _obstacle(path.parent)
        if verdict:
            return [Checked(ok=False, subject=str(path), verdict=verdict, remedy=remedy)]
        free = shutil.disk_usage(path.parent).free / (1 << 30)
        return [Checked(ok=True, subject=str(path), verdict=f"writable, {free:.1f} GiB free")]

    async def shutdown(self) -> None:
        """Close the file, once the batch that is being written is in it."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                os.close(file)

    def _opened(self) -> int:
        if self._file is None:
            raise OSError("the exporter is not started")
        return self._file

    def _reopen_if_moved(self) -> None:
        """Follow log rotation: a file that was moved or deleted would hide events from everybody."""
        file = self._opened()
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), self._settings.path.stat()):
                return
        self._file = _open(self._settings.path)
        os.close(file)


def _obstacle(directory: Path) -> tuple[str, str]:
    """Why files in a directory cannot grow, and the remedy; empty if they can."""
    if not directory.is_dir():
        return (
            f"{directory} is not there any more",
            "restart the collector, which makes it, or set another path",
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        remedy = "let the collector's user write there"
        return f"{directory} is not writable: there could be no new file after a rotation", remedy
    if not shutil.disk_usage(directory).free:
        return "the disk is full", "make room, or set another path"
    return "", ""


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _end_line(file: int) -> None:
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        _append(file, b"\n")


def _append(file: int, data: bytes, *, sync: bool = False) -> None:
    """Write all or nothing: half a batch would stand before the whole one of the retry."""
    size = os.fstat(file).st_size
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(file, rest) :]
        if sync:
            os.fsync(file)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file, size)
        raise


FACTORY = ExporterFactory(
    type="file",
    config=FileSettings,
    build=FileExporter,
    description="Appends events to a file as JSON lines",
)
