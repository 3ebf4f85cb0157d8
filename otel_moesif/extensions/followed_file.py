"""A file of credentials that is read again when somebody changes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from logging import Logger
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from otel_moesif import StartError

T = TypeVar("T")
_Stamp: TypeAlias = tuple[int, int, int]

# How often the file is looked at, at most; only when somebody asks for what it holds.
_LOOK_SECONDS = 1.0


class FollowedFile(Generic[T]):
    """What a file holds.

    While a changed file cannot be used (gone, empty, half written) what was read before stays in use, since
    clients do not send again what was refused for its credentials. One error says so.

    Args:
        path: The file.
        parse: Makes something of its text; raises ValueError, whose text shows nothing of the file.
        option: Where the path stands, for messages: ``extensions::bearertokenauth::filename``.
        logger: Told of changes.
        clock: Seconds, as ``time.monotonic``.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[str], T],
        option: str,
        logger: Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._parse = parse
        self._option = option
        self._logger = logger
        self._clock = clock
        self._looked = 0.0
        self._stamp: _Stamp | None = None
        self._content: T | None = None

    def start(self) -> None:
        """Read it for the first time.

        Raises:
            StartError: It cannot be read, or makes no sense.
        """
        try:
            self._stamp = self._look()
            self._content = self._read()
        except ValueError as problem:
            raise StartError(f"{self._option}: {problem}") from None
        self._looked = self._clock()

    def current(self) -> T:
        """What it holds now; `start` has to come first."""
        if self._clock() - self._looked >= _LOOK_SECONDS:
            self._looked = self._clock()
            self._follow()
        if self._content is None:
            raise RuntimeError("the file was not read at the start")
        return self._content

    def _follow(self) -> None:
        stamp = None
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._content = self._read()
                self._logger.info("%s: %s has changed and was read again", self._option, self._path)
        except ValueError as problem:
            if stamp != self._stamp:
                self._logger.error(  # noqa: TRY400 - the reason stands in the message
                    "%s: %s; what was read before stays in use", self._option, problem
                )
        self._stamp = stamp

    def _look(self) -> _Stamp:
        """Changes when the file is written, or replaced behind a symbolic link (Kubernetes)."""
        try:
            stat = self._path.stat()
        except OSError as error:
            raise ValueError(f"cannot read {self._path}: {error.strerror}") from None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> T:
        try:
            text = self._path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise ValueError(f"cannot read {self._path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{self._path} is not UTF-8 text") from None
        try:
            return self._parse(text)
        except ValueError as problem:
            raise ValueError(f"{self._path} {problem}") from None
