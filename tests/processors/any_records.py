"""Spans and log records of any shape, for tests that want to know whether something breaks."""

from __future__ import annotations

import random
from collections import Counter

import polars as pl
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_moesif.builtin import otel_moesif_dialects
from otel_moesif.component import Held
from otel_moesif.dialects.dialect import Lookup
from otel_moesif.logs import SCHEMA as LOGS
from otel_moesif.logs import Logs
from otel_moesif.otlp.decode import decode_spans
from otel_moesif.schema import HEADERS
from otel_moesif.spans import SCHEMA as SPANS
from otel_moesif.spans import Spans
from tests.dialects.otlp import CLIENT, MS, SERVER, START, _put

S = 1_000_000_000
DIALECTS = {dialect.name: dialect for dialect in otel_moesif_dialects() if dialect.spans}
LATENCIES = ("responseLatency", "backendLatency", "requestMediationLatency", "responseMediationLatency")
SCOPES = (
    "", "kong-internal", "opentelemetry-lua", "github.com/traefik/traefik", "io.krakend.krakend-otel",
    "io.gravitee.opentelemetry.http", "envoy", "nginx", "org.springframework.boot", "somebody",
)  # fmt: skip
NAMES = (
    "", "GET /x", "kong", "kong.balancer", "kong.dns", "router x egress", "async x egress", "ReverseProxy",
    "Router",
    "API:Response_Latency", "API:Resource", "apisix.phase.access", "ingress", "external_processing",
)  # fmt: skip


class Asked(Lookup):
    """Notes what a dialect asks for."""

    def __init__(self, records):
        super().__init__(records)
        self.attributes, self.resources = set(), set()

    def text(self, *keys):
        self.attributes.update(keys)
        return super().text(*keys)

    def integer(self, *keys):
        self.attributes.update(keys)
        return super().integer(*keys)

    def number(self, *keys):
        self.attributes.update(keys)
        return super().number(*keys)

    def any(self, *keys):
        self.attributes.update(keys)
        return super().any(*keys)

    def resource(self, *keys):
        self.resources.update(keys)
        return super().resource(*keys)

    def headers(self, prefix, **_):
        self.attributes.update({f"{prefix}user-agent", f"{prefix}x_forwarded_for", f"{prefix}authorization"})
        return pl.lit(None, HEADERS)


NO_SPANS = Spans(SPANS.to_frame(), {}, (), 0)
NO_LOGS = Logs(LOGS.to_frame(), {}, (), 0)


def asked(*tables, records=NO_SPANS) -> Asked:
    found = Asked(records)
    for ask in tables:
        ask(found)
    return found


def all_of(table) -> tuple:
    return (
        table.call,
        table.is_call,
        table.backend,
        table.is_backend,
        table.detail,
        table.is_detail,
        table.otherwise,
    )


ASKED = {name: asked(*all_of(dialect.spans)) for name, dialect in DIALECTS.items()}
# What makes a span a call or an attempt: else hardly one of them would be.
TELLING = {name: asked(x.spans.is_call, x.spans.is_backend).attributes for name, x in DIALECTS.items()}

TEXTS = (
    "", "-", "0", "-1", "200", "404", "503", "abc", "UNKNOWN", "GET", "http://h:80/a/b?c=d", "/a/b",
    "[::1]:80", "0.012, 0.034 : 0.1", "1" * 40, "1e400", "NaN", "RL,UF", "a\x00b", "äöü", '{"a": 1}',
    "global", "true", "backend-request",
)  # fmt: skip
texts = st.sampled_from(TEXTS) | st.text(max_size=8)
values = (
    texts
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from([0, -1, 101, 200, 401, 404, 429, 503])
    | st.floats()
    | st.booleans()
    | st.binary(max_size=4)
    | st.none()
    | st.lists(texts | st.integers(0, 9), max_size=3)
    | st.dictionaries(texts, st.integers(0, 9), max_size=2)
)
times = st.integers(START, START + 200 * MS) | st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1])


def attributes_of(name):
    some = st.dictionaries(st.sampled_from(sorted(ASKED[name].attributes)), values, max_size=6)
    telling = st.dictionaries(st.sampled_from(sorted(TELLING[name] | {"http.method"})), values, max_size=3)
    return st.builds(lambda one, other: one | other, some, telling)


def spans_of(name):
    """Spans in any tree: a pool of ids so small that there are orphans, rings and twins."""
    return st.fixed_dictionaries(
        {
            "trace": st.sampled_from([1, 1, 1, 1, 2, 0]),
            "id": st.sampled_from([1, 2, 3, 4, 5, 6, 0]),
            "parent": st.sampled_from([1, 2, 3, 4, 5, 6, 0, 99]),
            "kind": st.sampled_from([SERVER, SERVER, CLIENT, CLIENT, 1, 0, 4, 77]),
            "name": st.sampled_from(NAMES),
            "start": times,
            "end": times,
            "state": st.sampled_from(["", "ot=th:8", "ot=th:ffffffffffffff", "x=1,ot=rv:1", "=,;"]),
            "status": st.integers(0, 3),
            "attributes": attributes_of(name),
        }
    )


def requests_of(name):
    sender = (
        st.sampled_from(SCOPES),
        st.dictionaries(
            st.sampled_from(sorted(ASKED[name].resources | {"service.name", "telemetry.sdk.name"})),
            values,
            max_size=4,
        ),
    )
    return st.tuples(*sender, st.lists(spans_of(name), max_size=4))


def serialized(scope, resource, spans) -> bytes:
    message = ExportTraceServiceRequest()
    part = message.resource_spans.add()
    _put(part.resource.attributes, resource)
    scoped = part.scope_spans.add()
    scoped.scope.name = scope
    for spec in spans:
        one = scoped.spans.add(
            trace_id=spec["trace"].to_bytes(16, "big") if spec["trace"] else b"",
            span_id=spec["id"].to_bytes(8, "big") if spec["id"] else b"",
            parent_span_id=spec["parent"].to_bytes(8, "big") if spec["parent"] else b"",
            kind=spec["kind"],
            name=spec["name"],
            trace_state=spec["state"],
            start_time_unix_nano=spec["start"],
            end_time_unix_nano=spec["end"],
        )
        one.status.code = spec["status"]
        _put(one.attributes, spec["attributes"])
    return message.SerializeToString()


def run(mine, batches, seconds=1) -> list[dict]:
    """All events, with what waits given back as the converter does."""
    rows, found = {}, []
    for number, batch in enumerate([*batches, None]):
        now = number * seconds * S
        decoded = decode_spans(batch) if batch else NO_SPANS
        processed = mine.process_held(decoded, Held(rows, now, ending=batch is None))
        found += processed.batch.frame.to_dicts()
        rows = {slot: waiting(frame, now) for slot, frame in processed.held.items()}
    assert not any(frame.height for frame in rows.values())
    return found


def waiting(frame, now):
    """As `otel_moesif.held` keeps rows: since when, and in which piece of the journal."""
    columns = {"since": now, "piece": 1}
    old = [pl.col(name).fill_null(value) for name, value in columns.items() if name in frame.columns]
    new = [
        pl.lit(value, pl.Int64).alias(name) for name, value in columns.items() if name not in frame.columns
    ]
    return frame.with_columns(*old, *new)


def is_sound(event) -> bool:
    return all(event[latency] is None or event[latency] >= 0 for latency in LATENCIES) and event[
        "eventType"
    ] in {"response", "fault"}


def calls_in(request: bytes, dialect) -> Counter:
    """The calls of a request as (trace id, span id), each span looked at by itself."""
    message = ExportTraceServiceRequest.FromString(request)
    found: Counter = Counter()
    part = message.resource_spans[0]
    spans = list(part.scope_spans[0].spans)
    for span in spans:
        del part.scope_spans[0].spans[:]
        part.scope_spans[0].spans.append(span)
        lookup = Lookup(decode_spans([message.SerializeToString()]))
        is_call = dialect.spans.is_call(lookup)
        if lookup.frame.filter(is_call).height:
            found[span.trace_id.hex() or None, span.span_id.hex() or None] += 1
    return found


# Each by itself in a whole batch, so that its column is of its own type.
EXTREMES = (
    "", "UNKNOWN", "1" * 40, "NaN", "a,b ; c", -1, 2**63 - 1, 1e300, float("nan"), True, None,
    b"\xff", {"a": 1},
)  # fmt: skip


def plausible(dice: random.Random, key: str):
    """A value such as a gateway might send under this key, mostly."""
    if dice.random() < 0.3:
        return dice.choice(
            [*TEXTS, 0, -1, 2**63 - 1, 1.5, float("nan"), True, None, b"x", ["a", 1], {"a": 1}]
        )
    if "status" in key or "code" in key:
        return dice.choice([200, 404, 503, "200", "503"])
    if "stage" in key:
        return dice.choice(["global", "backend-request"])
    if "ur" in key or "path" in key or "target" in key:
        return dice.choice(["http://h:80/a/b?c=d", "/a/b"])
    return "GET" if "method" in key else dice.choice(["1.2.3.4", "x", 7, 0.25])


def grown(dice: random.Random, name: str) -> bytes:
    """A request with a dozen spans that hang together more often than not."""

    def span() -> dict:
        keys = [
            *dice.sample(sorted(ASKED[name].attributes), 4),
            *dice.choices(sorted(TELLING[name]) or ["x"], k=3),
        ]
        start, length = START + dice.randrange(100) * MS, dice.choice([0, 1, 40 * MS, -MS])
        return {
            "trace": dice.choice([1, 1, 1, 2]),
            "id": dice.randint(1, 9),
            "parent": dice.choice([0, *range(1, 10)]),
            "kind": dice.choice([SERVER, CLIENT, CLIENT, 1]),
            "name": dice.choice(NAMES),
            "start": start,
            "end": start + length,
            "state": "",
            "status": dice.randrange(3),
            "attributes": {key: plausible(dice, key) for key in keys},
        }

    return serialized(dice.choice(SCOPES), {"service.name": "gateway"}, [span() for _ in range(12)])
