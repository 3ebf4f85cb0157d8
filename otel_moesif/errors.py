"""Every error that crosses a module boundary, and what it makes the collector do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class OtelMoesifError(Exception):
    """Base of all errors raised by the collector on purpose."""


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake in the configuration.

    Attributes:
        path: Where it is, Collector style: ``exporters::moesif::timeout``.
        message: What is wrong and what is allowed, without a final full stop.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(OtelMoesifError):
    """The configuration cannot be used; carries *every* problem found, in file order. Exit code 2."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PluginError(OtelMoesifError):
    """A plugin cannot be used; names its distribution and entry point. Exit code 2."""


class StartError(OtelMoesifError):
    """A component could not start (port in use, unwritable directory …): one clear line, exit code 1."""


class InvalidData(OtelMoesifError):  # noqa: N818 - the design's word, and what a receiver answers
    """One request's bytes are not what they claim to be; its neighbours go on.

    A receiver answers INVALID_ARGUMENT (gRPC) or 400 (HTTP); the client must not retry.
    """


class Refused(OtelMoesifError):  # noqa: N818 - the design's word, and the counter's
    """Nothing was stored and the client shall try again: UNAVAILABLE + RetryInfo, or 503 + Retry-After.

    Attributes:
        retry_after: Seconds after which a retry makes sense.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RetryableError(OtelMoesifError):
    """An export failed but may succeed later: the sender backs off and its cursor stays.

    Attributes:
        retry_after: The least number of seconds to wait, where the backend named one.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentError(OtelMoesifError):
    """An export can never succeed as it is: bisected to the guilty events, for the dead letters."""
