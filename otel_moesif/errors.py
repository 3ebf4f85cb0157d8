"""Every error that crosses a module boundary, and what it makes the collector do."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


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


class TooLarge(InvalidData):
    """A request is beyond a bound of size: RESOURCE_EXHAUSTED without RetryInfo (gRPC) or 413 (HTTP).

    Attributes:
        reason: What the counter of rejected requests shows: one of few fixed texts.
    """

    def __init__(self, message: str, reason: str = "too large") -> None:
        super().__init__(message)
        self.reason = reason


class Unauthenticated(OtelMoesifError):  # noqa: N818 - gRPC's word
    """Credentials are missing or wrong: UNAUTHENTICATED (gRPC) or 401 (HTTP).

    The message goes to the client, so it tells nothing that helps to guess.

    Attributes:
        challenge: Value of ``WWW-Authenticate`` (RFC 9110 section 11.6.1): ``Bearer``, ``Basic realm="…"``.
    """

    def __init__(self, message: str, challenge: str = "Bearer") -> None:
        super().__init__(message)
        self.challenge = challenge


class Refused(OtelMoesifError):  # noqa: N818 - the design's word, and the counter's
    """Nothing was stored and the client shall try again: UNAVAILABLE + RetryInfo, or 503 + Retry-After.

    Attributes:
        retry_after: Seconds after which a retry makes sense.
        reason: What the counter of refused requests shows: one of few fixed texts.
    """

    def __init__(self, message: str, retry_after: float = 1.0, reason: str = "") -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.reason = reason


class RetryableError(OtelMoesifError):
    """An export failed but may succeed later: the sender backs off and its cursor stays.

    Attributes:
        retry_after: The least number of seconds to wait, where the backend named one.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PausedError(RetryableError):
    """The backend takes nothing until somebody does something: a wrong key, an account that is not active.

    The sender says so once, as an error with the remedy, reports the exporter as paused, keeps everything,
    and asks again with one batch as the backoff allows, so that it resumes by itself.
    """


class PermanentError(OtelMoesifError):
    """An export can never succeed as it is: the guilty events go to the dead letters.

    Attributes:
        response: The beginning of what the backend answered, for whoever looks at the dead letter.
        rows: Which events of the batch are guilty, by position; none of the batch may have been sent then.
            The others are exported again without them. Empty: unknown, the batch is bisected.
    """

    def __init__(self, message: str, response: str = "", rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.response = response
        self.rows = rows


def describe(error: BaseException) -> str:
    """An error in one line that is safe to log: what was raised, and where.

    Only texts that were written to be shown are: ours, those of plugins that use our errors, the operating
    system's. Any other may quote what was processed (``invalid literal for int(): 'secret'``), so the place
    in the code stands for it: the innermost one that is not polars'.
    """
    name = type(error).__name__
    if isinstance(error, OtelMoesifError):
        return f"{name}: {error}"
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "polars" not in Path(frame.filename).parts] or frames
    if not own:
        return name
    return f"{name}: raised in {own[-1].name} ({Path(own[-1].filename).name}:{own[-1].lineno})"
