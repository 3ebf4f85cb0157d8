"""Moesif's applications (environments, tenants): which ids are known, and how much of one is shown."""

from __future__ import annotations

from collections.abc import Iterable

from otel_moesif_sandbox.refusal import Refusal


class Applications:
    """Which application ids are accepted: any, until it is told otherwise."""

    def __init__(self, accepted: Iterable[str] | None = None) -> None:
        self.accept_only(accepted)

    def accept_only(self, accepted: Iterable[str] | None) -> None:
        """Accept these ids and no others; None accepts any."""
        self._accepted = None if accepted is None else frozenset(accepted)

    def shown(self) -> list[str] | None:
        """The accepted ids, shortened; None for any."""
        return None if self._accepted is None else sorted(map(shortened, self._accepted))

    def check(self, application: str) -> None:
        """Let a request pass.

        Args:
            application: Value of its ``X-Moesif-Application-Id``; empty where it has none.

        Raises:
            Refusal: 401, the answer to a wrong id (apidocs ``_errors.md``).
        """
        if not application:
            raise Refusal(401, "header X-Moesif-Application-Id is missing")
        if self._accepted is not None and application not in self._accepted:
            raise Refusal(401, "the application id is not one that is accepted")


def shortened(application: str) -> str:
    """An application id as it may be shown: its last four characters, and nothing of a short one."""
    if not application:
        return ""
    return "…" + (application[-4:] if len(application) >= 12 else "")


def means(wanted: str | None, application: str) -> bool:
    """Whether a filter means an application: by its id, or by what is shown of it, dots or not."""
    return wanted is None or wanted == application or f"…{wanted.removeprefix('…')}" == shortened(application)
