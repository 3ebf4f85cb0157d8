"""Real processes for tests: started with a log of their own, awaited, and always ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], what: str = "", timeout: float = 60, pause: float = 0.02) -> T:
    """Ask again and again until the answer is true, and return that answer.

    Raises:
        AssertionError: It was not within ``timeout`` seconds; says the last answer.
    """
    end = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{what or 'the condition'} did not come true in {timeout} s: {answer!r}")
        time.sleep(pause)
    return answer


def listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Process:
    """A command in a process group of its own; leaving the context kills the whole group.

    Args:
        command: What to run.
        log: Takes its standard output and error; shown when it dies too early.
        env: Added to this process's environment.
    """

    def __init__(self, command: Sequence[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, timeout: float = 30) -> int:
        """Wait for its end and return the exit code."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s:\n{self.output()}") from None

    def terminate(self) -> None:
        """Ask for a graceful end (SIGTERM to the process itself, as a supervisor does)."""
        self._popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the whole group: what it started goes with it, also when itself is gone already."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait(10)

    def until(self, condition: Callable[[], T], what: str, timeout: float = 60) -> T:
        """`until`, but fails at once, with its output, when the process ends meanwhile."""

        def alive() -> T:
            if self.exit_code is not None:
                raise AssertionError(f"ended with {self.exit_code} before {what}:\n{self.output()}")
            return condition()

        try:
            return until(alive, what, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output()[-4000:]}") from None
