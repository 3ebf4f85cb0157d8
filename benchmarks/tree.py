"""What a process and everything it started cost: CPU seconds and peak memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import psutil


class Tree:
    """A command in a process group of its own, watched with all its children; killed when the context ends.

    Args:
        command: What to run.
        log: Takes standard error, and standard output too unless ``pipe``.
        pipe: Whether the first line of standard output is wanted, see `first_line`.
    """

    def __init__(self, command: Sequence[str], log: Path, *, pipe: bool = False) -> None:
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe else output,
                stderr=output,
                start_new_session=True,
            )
        self.log = log
        self._process = psutil.Process(self._popen.pid)
        self._ended = threading.Event()
        self.peak_rss = 0
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._watch.join()

    def first_line(self) -> str:
        """Wait for it; empty when the process ended without one."""
        assert self._popen.stdout is not None
        line: bytes = self._popen.stdout.readline()
        return line.decode().strip()

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def cpu(self) -> float:
        """Seconds of CPU, user and system, of the whole tree so far, ended children included."""
        total = 0.0
        for process in self._members():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def rss(self) -> int:
        """Resident bytes of the whole tree now."""
        total = 0
        for process in self._members():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def _members(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return [self._process, *self._process.children(recursive=True)]
        return []

    def _sample(self) -> None:
        while not self._ended.wait(0.05):
            self.peak_rss = max(self.peak_rss, self.rss())
