"""The pages of Moesif's collector API that the sandbox answers, as Moesif documents them.

Sources: apidocs ``_events-api.md`` (201, the event model), ``_errors.md`` (status codes; single event 1 MB,
batch 50 MB "regardless if compression is used"), moesifapi-python ``health_controller.py``
(``/health/probe``), moesifapi-python's tests (``X-Moesif-Config-ETag``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pydantic_core import from_json, to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from otel_moesif_sandbox.body import read_body, too_large
from otel_moesif_sandbox.controls import Behavior, Controls
from otel_moesif_sandbox.model import faults
from otel_moesif_sandbox.refusal import Fault, Refusal
from otel_moesif_sandbox.store import Store

EVENT_BYTES = 1_000_000
BATCH_BYTES = 50_000_000

# Between two slices the event loop serves others; 1,000 events take about 10 ms.
SLICE = 1000


class Api:
    """Moesif's side of the sandbox.

    Args:
        store: Where valid events go.
        controls: How to behave, and the app config.
        abort: Closes the connection of a client address, without an answer.
    """

    def __init__(self, store: Store, controls: Controls, abort: Callable[[Any], None]) -> None:
        self._store = store
        self._controls = controls
        self._abort = abort

    def routes(self) -> list[Route]:
        """The pages as Moesif names them."""
        return [
            Route("/v1/events", self._post_event, methods=["POST"]),
            Route("/v1/events/batch", self._post_batch, methods=["POST"]),
            Route("/v1/config", self._get_config, methods=["GET"]),
            Route("/health/probe", self._get_health, methods=["GET"]),
        ]

    async def _get_health(self, _: Request) -> Response:
        return JSONResponse({"status": True, "region": "sandbox"})

    async def _get_config(self, request: Request) -> Response:
        if not request.headers.get("x-moesif-application-id", "").strip():
            return JSONResponse(_unauthorized().body(), 401)
        etag = {"X-Moesif-Config-ETag": self._controls.etag}
        if request.headers.get("if-none-match", "").strip().strip('"') == self._controls.etag:
            return Response(status_code=304, headers=etag)
        return Response(self._controls.app_config, media_type="application/json", headers=etag)

    async def _post_event(self, request: Request) -> Response:
        return await self._answer(request, EVENT_BYTES, batch=False)

    async def _post_batch(self, request: Request) -> Response:
        return await self._answer(request, BATCH_BYTES, batch=True)

    async def _answer(self, request: Request, limit: int, *, batch: bool) -> Response:
        """Take an event request, count it and answer as told."""
        behavior = self._controls.take()
        application = request.headers.get("x-moesif-application-id", "").strip()
        size = wire = 0
        try:
            encoding = request.headers.get("content-encoding", "")
            body, wire = await read_body(request.stream(), encoding, limit)
            size = len(body)
            await self._take(body, application, behavior, batch=batch)
            response = Response(status_code=201, headers={"X-Moesif-Config-ETag": self._controls.etag})
        except Refusal as refusal:
            response = self._refused(refusal, behavior)
        except ClientDisconnect:  # nobody is there to read an answer
            self._store.reject("client went away before the end of its request")
            return Response(status_code=400)
        if behavior.delay:
            await asyncio.sleep(behavior.delay)
        status = 0 if behavior.drop_connection else response.status_code
        self._store.request(status, shortened(application), size, wire)
        if behavior.drop_connection:
            self._abort(request.scope["client"])
        return response

    async def _take(self, body: bytes, application: str, behavior: Behavior, *, batch: bool) -> None:
        if behavior.status is not None:
            raise Refusal(behavior.status, f"told to answer {behavior.status}")
        if not application:
            raise _unauthorized()
        for event, text in await _checked(body, behavior, batch=batch):
            self._store.add(event, text)

    def _refused(self, refusal: Refusal, behavior: Behavior) -> Response:
        where = f" ({refusal.faults[0]})" if refusal.faults else ""
        self._store.reject(f"{refusal.status} {refusal.reason}{where}")
        response = JSONResponse(refusal.body(), refusal.status)
        if behavior.status is not None and behavior.retry_after is not None:
            response.headers["Retry-After"] = str(behavior.retry_after)
        return response


async def _checked(body: bytes, behavior: Behavior, *, batch: bool) -> list[tuple[dict[str, Any], bytes]]:
    """Parse and check a body: all of its events, or a refusal."""
    events = _parsed(body, batch=batch)
    taken: list[tuple[dict[str, Any], bytes]] = []
    for first in range(0, len(events), SLICE):
        part = events[first : first + SLICE]
        found = faults(part, first)
        if found:
            raise Refusal(400, "an event is not valid", found)
        for index, event in enumerate(part, first):
            text = to_json(event)
            if len(text) > EVENT_BYTES:
                raise Refusal(
                    413, too_large("an event", EVENT_BYTES).reason, [Fault(index, "", "is too large")]
                )
            if event.get("transaction_id") in behavior.rejected_ids:
                fault = Fault(index, "transaction_id", "is one that the sandbox was told to reject")
                raise Refusal(400, "an event is not valid", [fault])
            taken.append((event, text))
        await asyncio.sleep(0)
    return taken


def _parsed(body: bytes, *, batch: bool) -> list[Any]:
    try:
        parsed = from_json(body, allow_inf_nan=False)
    except ValueError:  # its message can quote the body
        raise Refusal(400, "body is not JSON") from None
    if batch and not isinstance(parsed, list):
        raise Refusal(400, "body must be a JSON array of events")
    if not batch and not isinstance(parsed, dict):
        raise Refusal(400, "body must be one event, a JSON object")
    return parsed if batch else [parsed]


def _unauthorized() -> Refusal:
    return Refusal(401, "header X-Moesif-Application-Id is missing")


def shortened(application: str) -> str:
    """An application id as it may be shown: its last four characters, and nothing of a short one."""
    if not application:
        return ""
    return "…" + (application[-4:] if len(application) >= 12 else "")
