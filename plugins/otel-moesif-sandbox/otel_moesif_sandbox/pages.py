"""The sandbox's own pages that show what it received."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from otel_moesif_sandbox.kinds import KINDS
from otel_moesif_sandbox.state import State

PAGE = 100
PAGE_MAX = 10_000


class Pages:
    """What can be read below ``/sandbox``.

    Args:
        state: What was received.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> Iterator[Route]:
        """The pages."""
        yield Route("/sandbox/stats", self._get_stats, methods=["GET"])
        yield Route("/sandbox/events", self._get_events, methods=["GET"])
        for kind in KINDS:
            if kind.name != "events":
                yield Route(f"/sandbox/{kind.name}", self._list(kind.name), methods=["GET"])

    async def _get_stats(self, _: Request) -> Response:
        return JSONResponse(self._state.stats())

    async def _get_events(self, request: Request) -> Response:
        query = request.query_params
        try:
            offset, limit = _range(request)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        page = self._state.store.page(offset, limit, query.get("transaction_id"), query.get("application"))
        return Response(page, media_type="application/json")

    def _list(self, kind: str) -> Callable[[Request], Awaitable[Response]]:
        async def page(request: Request) -> Response:
            try:
                offset, limit = _range(request)
            except ValueError as error:
                return JSONResponse({"error": str(error)}, 400)
            every = self._state.besides[kind].of(request.query_params.get("application"))
            some = every[offset : offset + limit]
            return JSONResponse(
                {"total": len(every), "offset": offset, "next_offset": offset + len(some), kind: some}
            )

        return page


def _range(request: Request) -> tuple[int, int]:
    query = request.query_params
    try:
        offset, limit = int(query.get("offset", 0)), int(query.get("limit", PAGE))
    except ValueError:
        raise ValueError("offset and limit must be whole numbers") from None
    if offset < 0 or not 0 <= limit <= PAGE_MAX:
        raise ValueError(f"offset must not be negative, limit be at most {PAGE_MAX}")
    return offset, limit
