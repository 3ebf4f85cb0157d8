"""What ``GET /v1/config`` answers: one app config for all applications, or an own one for some."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

# The shape of real answers (moesifapi-java APIControllerTest, moesifapi-go AppConfigResponse); the rates say
# "keep everything".
DEFAULTS: dict[str, Any] = {
    "org_id": "sandbox",
    "app_id": "sandbox",
    "sample_rate": 100,
    "block_bot_traffic": False,
    "user_sample_rate": {},
    "company_sample_rate": {},
    "user_rules": {},
    "company_rules": {},
    "ip_addresses_blocked_by_name": {},
    "regex_config": [],
    "billing_config_jsons": {},
}


@dataclass(frozen=True)
class AppConfig:
    """An app config as it is sent.

    Attributes:
        text: JSON.
        etag: Follows from the text, so that setting the same again changes nothing.
    """

    text: bytes
    etag: str

    @property
    def headers(self) -> dict[str, str]:
        """Which config holds, as answers to events and config tell it."""
        return {"X-Moesif-Config-ETag": self.etag}

    def is_named_by(self, if_none_match: str) -> bool:
        """Whether If-None-Match names this config (RFC 9110 13.1.2: a list, quoted, perhaps weak)."""
        tags = (tag.strip().removeprefix("W/").strip('"') for tag in if_none_match.split(","))
        return any(tag == self.etag for tag in tags)


class AppConfigs:
    """The app configs, and how often they were asked for.

    Attributes:
        requests: Answered status (``dropped`` for none) → requests of ``GET /v1/config``.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self._general = _config({})
        self._own: dict[str, AppConfig] = {}

    def set(self, changes: dict[str, Any], application: str | None = None) -> AppConfig:
        """Set a config: the defaults with these changes.

        Args:
            changes: Keys of the config and their values.
            application: Whose; None: of every application without an own one.
        """
        config = _config(changes)
        if application is None:
            self._general = config
        else:
            self._own[application] = config
        return config

    def of(self, application: str | None) -> AppConfig:
        """The config that holds for an application; None: for those without an own one."""
        return self._general if application is None else self._own.get(application, self._general)


def _config(changes: dict[str, Any]) -> AppConfig:
    text = json.dumps(DEFAULTS | changes).encode()
    return AppConfig(text, sha256(text).hexdigest()[:32])
