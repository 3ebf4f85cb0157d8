"""The pages of Moesif's collector API that the sandbox answers, as Moesif documents them.

Sources: apidocs ``_events-api.md`` and its siblings for users, companies, subscriptions and actions (201, the
models), ``_errors.md`` (status codes), moesifapi-python ``health_controller.py`` (``/health/probe``),
moesifapi-python's tests (``X-Moesif-Config-ETag``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from pydantic_core import to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from otel_moesif_sandbox.answer import answer
from otel_moesif_sandbox.behavior import Behavior
from otel_moesif_sandbox.body import read_body
from otel_moesif_sandbox.checks import checked
from otel_moesif_sandbox.kinds import KINDS, Kind
from otel_moesif_sandbox.profiles import Kept
from otel_moesif_sandbox.refusal import Refusal
from otel_moesif_sandbox.state import State
from otel_moesif_sandbox.store import Store

_Page = Callable[[Request], Awaitable[Response]]


class Api:
    """Moesif's side of the sandbox.

    Args:
        state: Where what is valid goes, and how to behave.
        abort: Closes the connection of a client address at once.
        close: The same, when what was sent is on its way.
    """

    def __init__(self, state: State, abort: Callable[[Any], None], close: Callable[[Any], None]) -> None:
        self._state = state
        self._abort = abort
        self._close = close

    def routes(self) -> Iterator[Route]:
        """The pages as Moesif names them."""
        yield Route("/health/probe", self._get_health, methods=["GET"])
        yield Route("/v1/config", self._get_config, methods=["GET"])
        for kind in KINDS:
            yield Route(f"/v1/{kind.name}", self._post(kind, batch=False), methods=["POST"])
            yield Route(f"/v1/{kind.name}/batch", self._post(kind, batch=True), methods=["POST"])

    async def _get_health(self, _: Request) -> Response:
        return JSONResponse({"status": True, "region": "sandbox"})

    async def _get_config(self, request: Request) -> Response:
        application = _application(request)
        behavior = self._state.behaviors.take("config", application)
        config = self._state.configs.of(application)
        headers: Mapping[str, str] = config.headers
        status, content = behavior.status or 200, config.text
        try:
            self._admit(application, behavior)
            if config.is_named_by(request.headers.get("if-none-match", "")):
                status, content = 304, b""
        except Refusal as refusal:
            status, content, headers = self._refused(refusal, behavior)
        if behavior.delay:
            await asyncio.sleep(behavior.delay)
        self._state.configs.requests["dropped" if behavior.drop_connection else str(status)] += 1
        return self._answer(request, status, content, headers, behavior)

    def _post(self, kind: Kind, *, batch: bool) -> _Page:
        async def page(request: Request) -> Response:
            return await self._take(request, kind, batch=batch)

        return page

    async def _take(self, request: Request, kind: Kind, *, batch: bool) -> Response:
        """Take what is posted, count it and answer as told."""
        application = _application(request)
        behavior = self._state.behaviors.take(kind.name, application)
        status, content, headers = behavior.status or 201, b"", self._told(kind, application)
        size = wire = 0
        try:
            encoding = request.headers.get("content-encoding", "")
            body, wire = await read_body(request.stream(), encoding, kind.limit(batch=batch))
            size = len(body)
            self._admit(application, behavior)
            items = await checked(body, kind, behavior, batch=batch, max_age=self._state.max_age)
            self._kept(kind).take(items, application)
        except Refusal as refusal:
            status, content, headers = self._refused(refusal, behavior)
        except ClientDisconnect:  # nobody is there to read an answer
            self._state.store.reject("client went away before the end of its request")
            return Response(status_code=400)
        if behavior.delay:
            await asyncio.sleep(behavior.delay)
        outcome = "dropped" if behavior.drop_connection else str(status)
        kept = self._kept(kind)
        if isinstance(kept, Store):
            kept.request(outcome, application, size, wire)
        else:
            kept.request(outcome)
        return self._answer(request, status, content, headers, behavior)

    def _kept(self, kind: Kind) -> Store | Kept:
        return self._state.store if kind.name == "events" else self._state.besides[kind.name]

    def _told(self, kind: Kind, application: str) -> Mapping[str, str]:
        """Which config holds is told with events (moesifapi-java, -go and -node read it there)."""
        return self._state.configs.of(application).headers if kind.name == "events" else {}

    def _admit(self, application: str, behavior: Behavior) -> None:
        if not behavior.stores:
            raise Refusal(behavior.status or 500, f"told to answer {behavior.status}")
        self._state.applications.check(application)

    def _refused(self, refusal: Refusal, behavior: Behavior) -> tuple[int, bytes, Mapping[str, str]]:
        """Count a refusal; its status, body and headers."""
        where = f" ({refusal.faults[0]})" if refusal.faults else ""
        self._state.store.reject(f"{refusal.status} {refusal.reason}{where}")
        told = behavior.status is not None and behavior.retry_after is not None
        headers = {"Retry-After": str(behavior.retry_after)} if told else {}
        return refusal.status, to_json(refusal.body()), headers

    def _answer(
        self, request: Request, status: int, content: bytes, headers: Mapping[str, str], behavior: Behavior
    ) -> Response:
        if behavior.drop_connection:
            self._abort(request.scope["client"])
            return Response(status_code=status)  # goes nowhere
        return answer(status, content, headers, behavior, self._close)


def _application(request: Request) -> str:
    return request.headers.get("x-moesif-application-id", "").strip()
