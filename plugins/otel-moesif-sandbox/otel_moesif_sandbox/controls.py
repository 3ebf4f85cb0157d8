"""The sandbox's own pages that change how it behaves."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from otel_moesif_sandbox.app_config import AppConfig
from otel_moesif_sandbox.behavior import Behavior
from otel_moesif_sandbox.state import State

_BEHAVIORS = TypeAdapter(list[Behavior])


class Controls:
    """What can be changed below ``/sandbox``.

    Args:
        state: What is changed.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        """The pages."""
        return [
            Route("/sandbox/events", self._delete_events, methods=["DELETE"]),
            Route("/sandbox/behavior", self._get_behavior, methods=["GET"]),
            Route("/sandbox/behavior", self._post_behavior, methods=["POST"]),
            Route("/sandbox/config", self._get_config, methods=["GET"]),
            Route("/sandbox/config", self._put_config, methods=["PUT"]),
            Route("/sandbox/applications", self._get_applications, methods=["GET"]),
            Route("/sandbox/applications", self._put_applications, methods=["PUT"]),
        ]

    async def _delete_events(self, _: Request) -> Response:
        self._state.clear()
        return Response(status_code=204)

    async def _get_behavior(self, _: Request) -> Response:
        return JSONResponse(self._state.behaviors.shown())

    async def _post_behavior(self, request: Request) -> Response:
        body = await request.body() or b"{}"
        try:
            if body.lstrip().startswith(b"["):
                behaviors = _BEHAVIORS.validate_json(body)
            else:
                behaviors = [Behavior.model_validate_json(body)]
            self._state.behaviors.set(behaviors)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
            return JSONResponse({"error": "not a behavior", "problems": problems}, 400)
        except ValueError as error:
            return JSONResponse({"error": "not a behavior", "problems": [str(error)]}, 400)
        return await self._get_behavior(request)

    async def _get_config(self, request: Request) -> Response:
        return _shown(self._state.configs.of(request.query_params.get("application_id")))

    async def _put_config(self, request: Request) -> Response:
        changes = await _json(request, {})
        if not isinstance(changes, dict):
            return JSONResponse({"error": "the app config must be a JSON object"}, 400)
        return _shown(self._state.configs.set(changes, request.query_params.get("application_id")))

    async def _get_applications(self, _: Request) -> Response:
        return JSONResponse({"applications": self._state.applications.shown()})

    async def _put_applications(self, request: Request) -> Response:
        ids = await _json(request, ...)
        if ids is not None and not (isinstance(ids, list) and all(isinstance(id_, str) for id_ in ids)):
            return JSONResponse({"error": "must be a JSON array of application ids, or null for any"}, 400)
        self._state.applications.accept_only(ids)
        return await self._get_applications(request)


def _shown(config: AppConfig) -> Response:
    return Response(config.text, media_type="application/json", headers=config.headers)


async def _json(request: Request, empty: Any) -> Any:
    """The body; `...` where it is no JSON."""
    body = await request.body()
    if not body:
        return empty
    try:
        return json.loads(body)
    except ValueError:
        return ...
