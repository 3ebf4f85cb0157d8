"""The sandbox's own pages: what it received, and how it shall behave."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from otel_moesif_sandbox.store import Store

PAGE = 100
PAGE_MAX = 10_000

# The shape of real answers (moesifapi-java APIControllerTest, moesifapi-go AppConfigResponse); the rates say
# "keep everything".
APP_CONFIG: dict[str, Any] = {
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


class Behavior(BaseModel):
    """How the next event requests are answered; the default is: properly.

    Attributes:
        status: Answer with this status and store nothing.
        retry_after: Value of the Retry-After header that goes with ``status``: seconds, or a date.
        times: For how many event requests this holds; None: until it is changed.
        delay: Seconds between storing and answering.
        reject_transaction_id: Answer 400 to a request that holds an event with (one of) these ids.
        drop_connection: Close the connection without an answer, after storing: a lost acknowledgement. With
            ``status`` nothing is stored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: int | None = Field(None, ge=400, le=599)
    retry_after: int | float | str | None = None
    times: int | None = Field(None, ge=1)
    delay: float = Field(0, ge=0)
    reject_transaction_id: str | tuple[str, ...] = ()
    drop_connection: bool = False

    @property
    def rejected_ids(self) -> frozenset[str]:
        """``reject_transaction_id`` as a set."""
        ids = self.reject_transaction_id
        return frozenset([ids] if isinstance(ids, str) else ids)


class Controls:
    """The state that the test controls change, and their pages.

    Args:
        store: What was received.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._behavior = Behavior()
        self._left: int | None = None
        self.set_config({})

    def behave(self, behavior: Behavior) -> None:
        """Change how event requests are answered from now on."""
        self._behavior = behavior
        self._left = behavior.times

    def take(self) -> Behavior:
        """How to answer this event request."""
        behavior = self._behavior
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self.behave(Behavior())
        return behavior

    def set_config(self, changes: dict[str, Any]) -> None:
        """Set what ``GET /v1/config`` answers: the defaults with these changes."""
        self.app_config = json.dumps(APP_CONFIG | changes).encode()
        self.etag = sha256(self.app_config).hexdigest()[:32]

    def routes(self) -> list[Route]:
        """The pages below ``/sandbox``."""
        return [
            Route("/sandbox/stats", self._get_stats, methods=["GET"]),
            Route("/sandbox/events", self._get_events, methods=["GET"]),
            Route("/sandbox/events", self._delete_events, methods=["DELETE"]),
            Route("/sandbox/behavior", self._get_behavior, methods=["GET"]),
            Route("/sandbox/behavior", self._post_behavior, methods=["POST"]),
            Route("/sandbox/config", self._put_config, methods=["PUT"]),
        ]

    async def _get_stats(self, _: Request) -> Response:
        return JSONResponse(self._store.stats())

    async def _get_events(self, request: Request) -> Response:
        query = request.query_params
        try:
            offset, limit = int(query.get("offset", 0)), int(query.get("limit", PAGE))
        except ValueError:
            return JSONResponse({"error": "offset and limit must be whole numbers"}, 400)
        if offset < 0 or not 0 <= limit <= PAGE_MAX:
            return JSONResponse({"error": f"offset must not be negative, limit be at most {PAGE_MAX}"}, 400)
        page = self._store.page(offset, limit, query.get("transaction_id"))
        return Response(page, media_type="application/json")

    async def _delete_events(self, _: Request) -> Response:
        self._store.clear()
        return Response(status_code=204)

    async def _get_behavior(self, _: Request) -> Response:
        return JSONResponse(self._behavior.model_dump() | {"times": self._left})

    async def _post_behavior(self, request: Request) -> Response:
        try:
            self.behave(Behavior.model_validate_json(await request.body() or b"{}"))
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
            return JSONResponse({"error": "not a behavior", "problems": problems}, 400)
        return await self._get_behavior(request)

    async def _put_config(self, request: Request) -> Response:
        try:
            changes = json.loads(await request.body() or b"{}")
        except ValueError:
            changes = None
        if not isinstance(changes, dict):
            return JSONResponse({"error": "the app config must be a JSON object"}, 400)
        self.set_config(changes)
        return Response(self.app_config, media_type="application/json")
