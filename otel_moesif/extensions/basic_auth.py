"""The ``basicauth`` extension: users with passwords (RFC 7617), checked against bcrypt hashes.

Names: opentelemetry-collector-contrib, extension/basicauthextension. bcrypt is slow on purpose, so it runs in
threads of its own, once for the same credentials. The verdict is remembered as long as the client comes again
within some minutes and the users do not change: guesses do not hold up whoever was let in before.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import importlib.util
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from pydantic import Field, SecretStr, field_validator, model_validator

from otel_moesif import (
    ConfigError,
    Context,
    ExtensionFactory,
    Problem,
    Refused,
    Settings,
    Subject,
    Unauthenticated,
)
from otel_moesif.extensions.followed_file import FollowedFile
from otel_moesif.extensions.verdicts import Verdicts

_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
# What `htpasswd -C` takes. Each step doubles the time: 17 takes ten seconds, 31 days, of one of few threads.
_COSTS = range(4, 18)
# bcrypt looks at no more of a password; newer versions of the package refuse longer ones.
_PASSWORD_BYTES = 72
_REMEMBER_SECONDS = 300.0
_REMEMBER = 4096
# Cores that passwords may keep busy, and how many may wait for them.
_THREADS = 2
_WAITING = 64
_CHALLENGE = 'Basic realm="otel-moesif", charset="UTF-8"'


def parse_htpasswd(text: str) -> Mapping[str, bytes]:
    """Read lines of ``user:hash``, as ``htpasswd -B`` writes them; ``#`` begins a comment.

    Returns:
        Hash by user; of several lines of one user the last counts.

    Raises:
        ValueError: A line is not of that form, or the hash is not bcrypt's, or of no usable cost; shows
            nothing of it.
    """
    users: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        user, colon, hashed = line.strip().partition(":")
        if not user or not colon:
            raise ValueError(f"must have lines of user:hash (line {number} is none)")
        if not _BCRYPT.fullmatch(hashed):
            raise ValueError(f"must have bcrypt hashes, as of htpasswd -B (line {number} has none)")
        if _cost(hashed) not in _COSTS:
            allowed = f"{_COSTS.start} to {_COSTS.stop - 1}"
            raise ValueError(
                f"must have hashes of a cost of {allowed}, as of htpasswd (not so line {number})"
            )
        users[user] = hashed.encode()
    if not users:
        raise ValueError("holds no user (lines of user:hash)")
    return users


class HtpasswdSettings(Settings):
    """``htpasswd``; a user in both is taken from ``inline``."""

    file: Path | None = Field(None, description="File of htpasswd -B; changes are taken without a restart")
    inline: SecretStr | None = Field(None, description="The same as text")

    @field_validator("inline")
    @classmethod
    def _readable(cls, text: SecretStr | None) -> SecretStr | None:
        if text is not None:
            parse_htpasswd(text.get_secret_value())
        return text

    @model_validator(mode="after")
    def _any(self) -> HtpasswdSettings:
        if self.file is None and self.inline is None:
            raise ValueError("must have file or inline")
        return self


class BasicAuthSettings(Settings):
    """Who may send."""

    elsewhere = MappingProxyType(
        {"client_auth": "is not an option here: the extension only judges what comes in"}
    )

    htpasswd: HtpasswdSettings = Field(description="Users and their hashed passwords")


@dataclass(frozen=True)
class _Users:
    hashes: Mapping[str, bytes] = field(repr=False)
    # For users who do not exist: the answer must not come sooner than for those who do.
    nobody: bytes = field(repr=False)
    # Here, since a verdict by these hashes must not be taken for one by later ones.
    judging: dict[bytes, asyncio.Future[bool]] = field(default_factory=dict, repr=False)


class BasicAuth:
    """Judges requests by user and password; the `Subject` is the user.

    Args:
        settings: Who may send.
        context: Identity and logger.

    Raises:
        ConfigError: The package bcrypt is not installed.
    """

    def __init__(self, settings: BasicAuthSettings, context: Context) -> None:
        if importlib.util.find_spec("bcrypt") is None:
            raise ConfigError(
                [
                    Problem(
                        "", 'needs the package bcrypt: install "otel-moesif[auth]" instead of "otel-moesif"'
                    )
                ]
            )
        self._logger = context.logger
        inline = settings.htpasswd.inline
        self._inline = parse_htpasswd(inline.get_secret_value()) if inline else {}
        file = settings.htpasswd.file
        self._file = file and FollowedFile(
            file, parse_htpasswd, f"extensions::{context.id}::htpasswd::file", context.logger
        )
        self._read: Mapping[str, bytes] | None = None
        self._users = _Users({}, b"")
        self._good = Verdicts[str](_REMEMBER)
        # Apart from the good ones, so that guesses do not push these out.
        self._bad = Verdicts[str](_REMEMBER)
        self._threads: ThreadPoolExecutor | None = None

    async def start(self) -> None:
        """Read the file.

        Raises:
            StartError: It cannot be read, or makes no sense.
        """
        if self._file:
            self._file.start()
        self._threads = ThreadPoolExecutor(_THREADS, "basicauth")
        await asyncio.get_running_loop().run_in_executor(self._threads, self._follow)

    async def shutdown(self) -> None:
        """Judge nobody any more; safe unstarted and twice."""
        threads, self._threads = self._threads, None
        if threads:
            threads.shutdown(wait=False, cancel_futures=True)

    async def authenticate(self, headers: Mapping[str, str]) -> Subject:
        """See `otel_moesif.Authenticator`.

        Raises:
            Refused: Too many passwords are being checked.
        """
        user, password = _given(headers.get("authorization", ""))
        self._follow()
        digest = self._good.digest(f"{user}:{password}")
        users = self._users
        good = self._good.get(digest) is not None
        if not good and self._bad.get(digest) is None:
            good = await self._judged(users, digest, user, password)
        if users is self._users:  # else the file has changed meanwhile
            (self._good if good else self._bad).put(digest, user, _REMEMBER_SECONDS)
        if not good:
            raise Unauthenticated("a valid user and password are required", _CHALLENGE)
        return Subject(user)

    def _follow(self) -> None:
        """Take what the file holds now; verdicts are forgotten when it has changed."""
        read = self._file.current() if self._file else self._inline
        if read is self._read:
            return
        self._read = read
        hashes = {**read, **self._inline}
        costs = {_cost(hashed) for hashed in hashes.values()}
        if len(costs) > 1:
            self._logger.warning(
                "the users' hashes differ in cost (%s): how long an answer takes may tell that a user exists",
                ", ".join(map(str, sorted(costs))),
            )
        self._users = _Users(hashes, _impossible(max(costs)))
        self._good.clear()
        self._bad.clear()

    async def _judged(self, users: _Users, digest: bytes, user: str, password: str) -> bool:
        """Once for the same credentials, however many requests of one client wait for it."""
        judging = users.judging.get(digest)
        if judging is None:
            if self._threads is None or len(users.judging) >= _WAITING:
                raise Refused("too many passwords are being checked; try again", reason="authenticator")
            hashed = users.hashes.get(user, users.nobody)
            judging = asyncio.get_running_loop().run_in_executor(self._threads, _matches, password, hashed)
            users.judging[digest] = judging
            judging.add_done_callback(lambda _: users.judging.pop(digest, None))
        return await asyncio.shield(judging)


def _given(value: str) -> tuple[str, str]:
    """User and password of an ``Authorization`` header; RFC 7617 section 2."""
    scheme, _, encoded = value.strip().partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError  # noqa: TRY301 - one answer for all that is missing or wrong
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (ValueError, binascii.Error):
        raise Unauthenticated("a valid user and password are required", _CHALLENGE) from None
    user, _, password = text.partition(":")
    return user, password


def _cost(hashed: str | bytes) -> int:
    return int(hashed[4:6])


def _impossible(cost: int) -> bytes:
    """A hash that costs as much as another, and that no password has."""
    import bcrypt  # noqa: PLC0415 - only who uses the extension needs the package

    return bcrypt.gensalt(cost) + b"." * 31


def _matches(password: str, hashed: bytes) -> bool:
    import bcrypt  # noqa: PLC0415 - only who uses the extension needs the package

    try:
        return bcrypt.checkpw(password.encode()[:_PASSWORD_BYTES], hashed)
    except ValueError:  # a NUL in the password
        return False


FACTORY = ExtensionFactory(
    type="basicauth",
    config=BasicAuthSettings,
    build=BasicAuth,
    description="Lets in users with a password (htpasswd with bcrypt)",
)
