"""The ``bearertokenauth`` extension: one of some tokens opens the door.

Names: opentelemetry-collector-contrib, extension/bearertokenauthextension. That one compared tokens in a time
that told them (CVE-2024-42368) and showed them in its answers (issue 46200): here every token is compared,
as a digest of fixed length, and none is ever shown.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator

from otel_moesif import Context, ExtensionFactory, Settings, Subject, Unauthenticated
from otel_moesif.extensions.followed_file import FollowedFile

# RFC 9110 section 5.6.2, "token": what a header's name and an authentication scheme are made of.
_WORD = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)


def _word(text: str) -> str:
    if not _WORD.fullmatch(text):
        raise ValueError("must be one word of ASCII letters, digits and - (RFC 9110, token)")
    return text


def _usable(token: SecretStr) -> SecretStr:
    text = token.get_secret_value().strip()
    if not text:
        raise ValueError("must not be empty")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be printable ASCII without spaces, as it is sent in a header")
    return SecretStr(text)


Token = Annotated[SecretStr, AfterValidator(_usable)]


class BearerTokenSettings(Settings):
    """Which tokens are good; one of ``token``, ``tokens`` and ``filename``."""

    scheme: Annotated[str, AfterValidator(lambda text: text and _word(text))] = Field(
        "Bearer", description='Word before the token; "" if there is none'
    )
    header: Annotated[str, AfterValidator(_word)] = Field(
        "Authorization", description="Header (gRPC: metadata) that holds the token"
    )
    token: Token | None = Field(None, description="The one token")
    tokens: tuple[Token, ...] = Field(
        (), description="Several tokens, so that they can be changed one by one"
    )
    filename: Path | None = Field(
        None,
        description="File with a token on each line, followed if you like by a name for whoever has it; "
        "# begins a comment; changes are taken without a restart",
    )

    @model_validator(mode="after")
    def _one_source(self) -> BearerTokenSettings:
        if sum(bool(source) for source in (self.token, self.tokens, self.filename)) != 1:
            raise ValueError("must have exactly one of token, tokens and filename")
        return self


@dataclass(frozen=True)
class _Known:
    name: str
    digest: bytes = field(repr=False)


class BearerTokenAuth:
    """Judges requests by their token.

    The `Subject` is the token's name in the file; of others their position: ``token 1``.

    Args:
        settings: Which tokens are good.
        context: Identity and logger.
    """

    def __init__(self, settings: BearerTokenSettings, context: Context) -> None:
        self._header = settings.header.lower()
        self._scheme = settings.scheme.lower()
        self._challenge = settings.scheme or "Bearer"
        # Digests of this process alone: nothing can be prepared against them.
        self._key = secrets.token_bytes(32)
        self._fixed = self._known((token.get_secret_value(), "") for token in _listed(settings))
        self._file = settings.filename and FollowedFile(
            settings.filename, self._parse, f"extensions::{context.id}::filename", context.logger
        )

    async def start(self) -> None:
        """Read the file.

        Raises:
            StartError: It cannot be read, or holds no token.
        """
        if self._file:
            self._file.start()

    async def shutdown(self) -> None:
        """Nothing to end."""

    async def authenticate(self, headers: Mapping[str, str]) -> Subject:
        """See `otel_moesif.Authenticator`."""
        given = self._given(headers.get(self._header, ""))
        digest = self._digest(given)
        found: _Known | None = None
        for known in self._file.current() if self._file else self._fixed:
            # To the end, whatever was found: the time must not tell which token it was.
            if hmac.compare_digest(known.digest, digest):
                found = known
        if found is None or not given:
            raise Unauthenticated("a valid token is required", self._challenge)
        return Subject(found.name)

    def _given(self, value: str) -> str:
        """The token in a header's value; empty if the scheme is another (RFC 9110 11.1: any case)."""
        value = value.strip()
        if not self._scheme:
            return value
        scheme, _, token = value.partition(" ")
        return token.strip() if scheme.lower() == self._scheme else ""

    def _digest(self, token: str) -> bytes:
        return hmac.digest(self._key, token.encode(errors="surrogatepass"), "sha256")

    def _known(self, tokens: Iterable[tuple[str, str]]) -> Sequence[_Known]:
        return [
            _Known(name or f"token {number}", self._digest(token))
            for number, (token, name) in enumerate(tokens, 1)
        ]

    def _parse(self, text: str) -> Sequence[_Known]:
        found: list[tuple[str, str]] = []
        for number, line in enumerate(text.splitlines(), 1):
            token, *name = line.split(maxsplit=1) or [""]
            if not token or token.startswith("#"):  # what is said about tokens must not be one
                continue
            if not token.isascii() or not token.isprintable():
                raise ValueError(f"holds a token that is not printable ASCII (in line {number})")
            found.append((token, name[0].strip() if name else ""))
        if not found:
            raise ValueError("holds no token (one on each line)")
        return self._known(found)


def _listed(settings: BearerTokenSettings) -> Sequence[SecretStr]:
    return [settings.token] if settings.token else settings.tokens


FACTORY = ExtensionFactory(
    type="bearertokenauth",
    config=BearerTokenSettings,
    build=BearerTokenAuth,
    description="Lets in who has one of some tokens",
)
