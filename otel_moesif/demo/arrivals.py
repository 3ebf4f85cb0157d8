"""Which of the calls sent have arrived in the sandbox as events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from otel_moesif.demo.traffic import SentCall

_PAGE = 1000


class Arrivals:
    """Compares what was sent with what the sandbox has received.

    Args:
        url: Base URL of the sandbox.

    Attributes:
        arrived: Calls that have arrived, each counted once.
        stats: The sandbox's own counts, as of the last `poll`.
        sample: One event as Moesif gets it; a response event when there was one.
    """

    def __init__(self, url: str) -> None:
        # Neither a proxy of the environment nor a slow answer shall come in between.
        self._client = httpx.Client(base_url=url, timeout=5, trust_env=False)
        self._waiting: set[str] = set()
        self._known = 0
        self._offset = 0
        self.arrived = 0
        self.stats: dict[str, Any] = {}
        self.sample: dict[str, Any] | None = None

    @property
    def sent(self) -> int:
        """Calls sent, as of the last `poll`."""
        return self._known

    @property
    def missing(self) -> int:
        """Calls sent that have not arrived, as of the last `poll`."""
        return len(self._waiting)

    @property
    def repeated(self) -> int:
        """Events that arrived more than once: allowed by at-least-once, and dropped by Moesif."""
        return int(self.stats.get("repeated", 0))

    def ready(self) -> bool:
        """Whether the sandbox answers."""
        try:
            return self._client.get("/health/probe").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def poll(self, sent: Sequence[SentCall]) -> None:
        """Look what is new; a sandbox that does not answer is asked again next time.

        Args:
            sent: All calls sent so far.
        """
        more = True
        while more:
            try:
                self.stats = self._get("/sandbox/stats")
                page = self._get("/sandbox/events", offset=self._offset, limit=_PAGE)
            except (httpx.HTTPError, ValueError):
                page = {"events": [], "next_offset": self._offset}
            # First the events, then the calls: so that every event's call is known by now.
            self._register(sent)
            for event in page["events"]:
                self._arrive(event)
            self._offset = page["next_offset"]
            more = len(page["events"]) == _PAGE

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _get(self, path: str, **query: int) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.get(path, params=query).raise_for_status().json()
        return answer

    def _register(self, sent: Sequence[SentCall]) -> None:
        upto = len(sent)
        self._waiting.update(call.transaction_id for call in sent[self._known : upto])
        self._known = upto

    def _arrive(self, event: dict[str, Any]) -> None:
        id_ = event.get("transaction_id")
        if id_ not in self._waiting:  # a repeat, or not one of ours
            return
        self._waiting.remove(id_)
        self.arrived += 1
        if self.sample is None or (_is_fault(self.sample) and not _is_fault(event)):
            self.sample = event


def _is_fault(event: dict[str, Any]) -> bool:
    return bool((event.get("metadata") or {}).get("eventType") == "fault")
