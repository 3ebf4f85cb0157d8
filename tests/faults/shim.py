"""Faults that no test can order from the kernel: C shims (LD_PRELOAD), and collectors that run under one."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from tests.e2e.collector import COMMAND, Collector
from tests.processes import Process, listening

BLOCK = 4096


@functools.cache
def build(name: str) -> Path:
    """The shim of ``tests/faults/<name>.c``, compiled once; skips the test where that is not possible."""
    compiler = shutil.which("cc")
    if not compiler or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler (cc)")
    directory = Path(tempfile.mkdtemp(prefix="otel-moesif-shim-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    source, library = Path(__file__).with_name(f"{name}.c"), directory / f"{name}.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


class FaultyCollector(Collector):
    """A collector whose environment and journal the test chooses.

    Args:
        directory: Takes configuration and log; made if absent.
        exporters: Base URL of the Moesif that each exporter id sends to.
        journal: Keys of ``service.journal``; its directory is ``journal`` in ``directory`` unless it says so.
        **options: See `Collector`.

    Attributes:
        env: Added to the environment of the process.
        prefix: A command that starts the collector as its argument, if it must not be started directly.
    """

    def __init__(
        self,
        directory: Path,
        exporters: Mapping[str, str],
        journal: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        directory.mkdir(exist_ok=True)
        # A test that lets the backend come back does not want to wait for half a minute until it is noticed.
        retry = {"retry_on_failure": {"initial_interval": "100ms", "max_interval": "300ms"}}
        options["exporter_options"] = {**retry, **options.get("exporter_options", {})}
        super().__init__(directory, exporters, **options)
        self.config["service"]["journal"].update(journal or {})
        self.journal = Path(self.config["service"]["journal"]["directory"])
        self.env: dict[str, str] = {}
        self.prefix: list[str] = []

    def start(self) -> Process:
        file = self.directory / "config.yaml"
        file.write_text(json.dumps(self.config, indent=1))
        return Process([*self.prefix, *COMMAND, "run", "--config", str(file)], self.log, self.env)

    def use(self, journal: Path) -> None:
        """Take another directory for the journal from the next start on."""
        self.journal = journal
        self.config["service"]["journal"]["directory"] = str(journal)

    def listening(self) -> bool:
        """Whether it takes requests."""
        return listening(self.grpc_port)

    def metric(self, name: str) -> float:
        """The sum over all label sets of one of its counters or gauges."""
        lines = [line for line in self.metrics().splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


class PowerCut:
    """What a power cut would leave of a collector's journal; see ``power_cut.c`` for the model.

    Args:
        collector: Runs with the shim from its next start on; its journal's directory is made.
        mirror: Gets what is on disk; must not exist.
    """

    def __init__(self, collector: FaultyCollector, mirror: Path) -> None:
        self._live = collector.journal
        self._live.mkdir(parents=True, exist_ok=True)
        mirror.mkdir(parents=True)
        self.left = mirror / "names"
        collector.env = {
            "LD_PRELOAD": str(build("power_cut")),
            "POWER_CUT_LIVE": str(self._live),
            "POWER_CUT_MIRROR": str(mirror),
        }

    def tear(self, seed: int) -> int:
        """What disks also do: some blocks that nobody has synced are written none the less, in any order.

        Returns:
            How many.
        """
        chance, torn = random.Random(seed), 0  # noqa: S311 - no secret
        share = chance.random()
        for live in sorted(self._live.iterdir()):
            if live.suffix == ".lock" or live.name.endswith("-shm"):
                continue
            left = self.left / live.name
            if not left.exists() and chance.random() < 0.5:
                continue
            old, new = left.read_bytes() if left.exists() else b"", bytearray(live.read_bytes())
            for start in range(0, len(new), BLOCK):
                block = slice(start, start + BLOCK)
                if new[block] == old[block]:
                    continue
                if chance.random() < share:
                    torn += 1
                    continue
                new[block] = old[block].ljust(len(new[block]), b"\0")
            # The length is written on its own too: beyond the old one, what is not there reads as zeros.
            end = chance.choice([len(new), max(len(old), len(new) - len(new) % BLOCK)])
            left.write_bytes(new[:end])
        return torn


class Clock:
    """The wall clock of a collector, which the test turns while it runs; see ``clock.c``.

    Args:
        collector: Runs with the shim from its next start on.
        file: Holds the clock's error.
    """

    def __init__(self, collector: FaultyCollector, file: Path) -> None:
        self._file = file
        self.set(0)
        collector.env = {"LD_PRELOAD": str(build("clock")), "CLOCK_OFFSET": str(file)}

    def set(self, seconds: float) -> None:
        """Let the clock be so much ahead of the true time (or behind it)."""
        content = struct.pack("=q", int(seconds * 1_000_000_000))
        if self._file.exists():
            with self._file.open("r+b") as file:  # the same bytes, which the process has mapped
                file.write(content)
        else:
            self._file.write_bytes(content)


class Disk:
    """A disk that refuses the journal when the test says so; see ``disk.c``.

    Args:
        collector: Runs with the shim from its next start on; its journal's directory is made.
        file: Holds what is refused.
    """

    def __init__(self, collector: FaultyCollector, file: Path) -> None:
        collector.journal.mkdir(parents=True, exist_ok=True)
        self._file = file
        file.write_bytes(bytes(8))
        collector.env = {
            "LD_PRELOAD": str(build("disk")),
            "DISK_LIVE": str(collector.journal),
            "DISK_REFUSES": str(file),
        }

    def refuse(self, changes: int = 0, syncs: int = 0) -> None:
        """Refuse with these numbers (errno) from now on; 0: no more."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=ii", changes, syncs))


class RamDisk:
    """A small disk of its own; a context manager, and unmounted in any case. Skips the test without `mount`.

    Args:
        path: Where to mount it; made if absent.
        size: Bytes.
        *options: More mount options.
    """

    def __init__(self, path: Path, size: int, *options: str) -> None:
        self.path = path
        self._options = [f"size={size}", *options]

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", ",".join(self._options), "tmpfs", str(self.path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("needs mount(8)")
        if done.returncode:
            pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        # Lazily: a process that a failed test has left must not keep it mounted.
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)

    def resize(self, size: int) -> None:
        """Make it larger (or smaller) while it is in use."""
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.path)], check=True)

    def fill(self) -> Path:
        """Take what room is left with a file that is not ours; gives the file."""
        ballast = self.path / "ballast"
        with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(BLOCK))
        return ballast
