"""What sample callers call: a few APIs, and what became of each call.

Everything here is made up. Hosts end in ``.example`` (RFC 2606), addresses are those kept for documentation
(RFC 5737).
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Route:
    """One resource of an API.

    Attributes:
        method: HTTP method.
        template: Path below the API's context, with at most one ``{id}``.
        query: Query string, empty for none.
        status: What the backend answers when all is well.
        milliseconds: What the backend usually needs.
    """

    method: str
    template: str
    status: int
    milliseconds: float
    query: str = ""


@dataclass(frozen=True)
class Api:
    """One API that the gateway publishes.

    Attributes:
        name: As the gateway knows it.
        context: Base path.
        version: Of the API.
        backend: Base URL of what stands behind it.
        routes: Its resources.
    """

    name: str
    context: str
    version: str
    backend: str
    routes: tuple[Route, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a call.

    Attributes:
        name: For people.
        share: How many of 100 calls end so.
        status: What the gateway answers; None: what the backend answered.
        backend_status: What the backend answers; None: the usual status of the route.
        reached: Whether the gateway called the backend at all.
        error: Why the backend gave no answer (``error.type`` of the semantic conventions), else empty.
    """

    name: str
    share: int
    status: int | None = None
    backend_status: int | None = None
    reached: bool = True
    error: str = ""


@dataclass(frozen=True)
class Call:
    """One call of one API, ready to be told as spans.

    Attributes:
        before: Milliseconds in the gateway before the backend is called.
        backend: Milliseconds of the backend.
        after: Milliseconds in the gateway after the backend's answer.
        size: Bytes of the answer.
    """

    api: Api
    route: Route
    outcome: Outcome
    path: str
    client: str
    agent: str
    user: str
    company: str
    before: float
    backend: float
    after: float
    size: int

    @property
    def status(self) -> int:
        """What the gateway answers."""
        return self.outcome.status or self.backend_status

    @property
    def backend_status(self) -> int:
        """What the backend answers, if it is reached and alive."""
        return self.outcome.backend_status or self.route.status


APIS = (
    Api(
        "PizzaShack",
        "/pizzashack",
        "1.0.0",
        "http://pizza-backend.example:8080/api",
        (
            Route("GET", "/menu", 200, 18),
            Route("POST", "/order", 201, 55),
            Route("GET", "/order/{id}", 200, 22),
            Route("DELETE", "/order/{id}", 200, 30),
        ),
    ),
    Api(
        "Orders",
        "/orders",
        "2.1.0",
        "https://orders-backend.example/v2",
        (
            Route("GET", "/", 200, 40, query="page=1&size=50"),
            Route("PUT", "/{id}", 200, 65),
            Route("POST", "/", 201, 80),
        ),
    ),
    Api(
        "Weather",
        "/weather",
        "1.2.0",
        "http://weather-backend.example:9090",
        (
            Route("GET", "/current", 200, 12, query="city=Colombo&unit=c"),
            Route("GET", "/forecast/{id}", 200, 140),
        ),
    ),
    Api(
        "Payments",
        "/payments",
        "3.0.0",
        "https://payments-backend.example",
        (Route("POST", "/charge", 201, 210),),
    ),
)

OUTCOMES = (
    Outcome("answered", 78),
    Outcome("not found by the backend", 7, backend_status=404),
    Outcome("backend error", 4, backend_status=500),
    Outcome("refused: no valid credentials", 5, status=401, reached=False),
    Outcome("throttled out", 3, status=429, reached=False),
    Outcome("backend is dead", 3, status=503, error="connection_refused"),
)

_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.5 Safari/605.1.15",
    "okhttp/4.12.0",
    "curl/8.5.0",
    "python-httpx/0.28.1",
)
_USERS = (("alice", "acme"), ("bob", "acme"), ("carol", "contoso"), ("dave", "contoso"), ("erin", "globex"))
_NETWORKS = ("192.0.2", "198.51.100", "203.0.113")


def make_call(rng: random.Random) -> Call:
    """Make up one call; the same generator state makes the same call."""
    api = rng.choice(APIS)
    route = rng.choice(api.routes)
    (outcome,) = rng.choices(OUTCOMES, [each.share for each in OUTCOMES])
    user, company = rng.choice(_USERS)
    return Call(
        api=api,
        route=route,
        outcome=outcome,
        path=route.template.replace("{id}", str(rng.randint(1, 9999))),
        client=f"{rng.choice(_NETWORKS)}.{rng.randint(1, 254)}",
        agent=rng.choice(_AGENTS),
        user=user,
        company=company,
        before=rng.uniform(0.5, 4),
        # Latencies have a long tail; a refused connection costs hardly anything.
        backend=1.0 if outcome.error else route.milliseconds * rng.lognormvariate(0, 0.4),
        after=rng.uniform(0.3, 2),
        size=rng.randint(120, 8000) if not outcome.status else 96,
    )
