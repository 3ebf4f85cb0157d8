"""The collector that the demo watches: a child process, as a user would start it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from otel_moesif.endpoint import parse_endpoint

# With these the example configuration ships to a real account; sample traffic never must.
REAL_ACCOUNT = ("MOESIF_BASE_URL", "MOESIF_APPLICATION_ID")

# A little more than service::shutdown_timeout (20 s) in the example configuration.
STOP_SECONDS = 25


class Collector:
    """One run of ``otel-moesif run``.

    Args:
        command: What to run.
        log: File for all that it prints.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        environment = {name: value for name, value in os.environ.items() if name not in REAL_ACCOUNT}
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment | {"PYTHONUNBUFFERED": "1"},
                # Ctrl-C is meant for the demo; the collector goes on until the last call has arrived.
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def last_lines(self, count: int = 15) -> list[str]:
        """The end of what it printed."""
        return self.log.read_text(errors="replace").splitlines()[-count:]

    def stop(self) -> int:
        """Stop it: gracefully, then not.

        Returns:
            Its exit code.
        """
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()


def run_command(config: Path, journal: Path) -> list[str]:
    """The command line of a collector with a journal of its own."""
    command = [sys.executable, "-m", "otel_moesif", "run", "--config", str(config)]
    return [*command, "--set", f"service.journal.directory={journal}"]


def is_listening(endpoint: str) -> bool:
    """Whether anybody takes connections at ``host:port``."""
    try:
        with socket.create_connection(parse_endpoint(endpoint), timeout=1):
            return True
    except OSError:
        return False
