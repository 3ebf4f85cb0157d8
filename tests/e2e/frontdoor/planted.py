"""Secrets to be looked for."""

from __future__ import annotations

import base64
import secrets


class Planted:
    """Secrets that are unlike anything else, so that each can be found wherever it appears."""

    def __init__(self) -> None:
        self.all: dict[str, str] = {}

    def new(self, what: str) -> str:
        self.all[what] = f"s3cr3t{secrets.token_hex(12)}"
        return self.all[what]

    def found_in(self, text: str) -> list[str]:
        """Which of them, or of their encodings, a text shows."""
        shown = []
        for what, secret in self.all.items():
            encoded = base64.b64encode(secret.encode()).decode().rstrip("=")[:-2]
            # Also of a part: a text may be cut, but the last four are what operators know it by.
            if any(form in text for form in (secret[:14], secret[-14:], encoded, repr(secret.encode()))):
                shown.append(what)
        return shown
