"""The shape in which events go to Moesif by default: a table to be read beside Moesif's event model.

Keys and their meaning: apidocs ``_events-api.md`` and, for ``blocked_by`` and ``content_length``, the models
of Moesif's SDKs. The metadata has the names of WSO2's own reporter, with native types, so that latencies can
be aggregated, and all custom properties, among them the objects ``aiMetadata`` and ``aiTokenUsage``. Tags
are left out: Moesif has deprecated them in favour of metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import quote

import polars as pl

from otel_moesif.exporters.moesif.identity import IDS
from otel_moesif.json_columns import all_visible, in_one_thread
from otel_moesif.json_shape import Always, Leaf, Members, Shape, Verbatim
from otel_moesif.processors.properties import COLUMN, read_property
from otel_moesif.schema import FIELDS, UNKNOWN, Place

_BLOCKED_BY = ("blocked_by", "blockedBy")
"""Custom properties in which a gateway, or the configuration, says which rule blocked a call."""

_SCHEME = r"^[A-Za-z][A-Za-z0-9+.-]*://"  # RFC 3986 section 4.3
_ABSOLUTE = f"{_SCHEME}[^/?#]"  # with a host
# Blanks cannot stand in a URI but as %20 … (RFC 3986 section 2.1); gateways note what callers sent.
_BLANKS = {char: quote(char) for char in map(chr, range(0x3001)) if char.isspace()}

# A segment that is a number, or eight and more hexadecimal digits, such as a UUID.
_ID = r"/(?:[0-9]+|[0-9A-Fa-f]{8,}(?:-[0-9A-Fa-f]+)*)(?:/|$)"

HEADERS = {"request": ("user-agent",), "response": ()}
"""Captured headers of which `columns` has to know whether an event has them."""

BY_KIND = {
    field.name: field.fault
    for field in FIELDS
    # latencies are null in faults already; the guide has a fault's user among its properties
    if field.response != field.fault and field.place is not Place.LATENCY and field.name != "userName"
}
"""Fields that only one kind of event carries, and whether that is the fault; as columns ``_errorType`` …"""


MARKS: dict[str, Leaf] = {
    "requestBodyTruncated": "_requestWhole",
    "responseBodyTruncated": "_responseWhole",
    "otelMoesifTrimmed": Verbatim("_leftOut"),
}
"""What we say in the metadata of an event of which something was cut (see `mapping`)."""


def metadata(names: Iterable[str]) -> dict[str, Leaf]:
    """Members of the metadata: event fields, and what both shapes have there."""
    return {
        **{name: f"_{name}" if name in BY_KIND else name for name in names},
        **MARKS,
        "custom properties": Verbatim(COLUMN, spread=True),
    }


SHAPE: Shape = {
    "request": {
        "time": Verbatim("_requestStart"),
        "uri": "_uri",
        "verb": "_verb",
        "headers": Always({"User-Agent": "_agent", "captured": Members("_requestHeaders")}),
        "api_version": "_version",
        "ip_address": "_address",
        "body": Verbatim("_requestBody"),
        "transfer_encoding": "_requestEncoding",
        "content_length": "_length",
    },
    "response": {
        "time": Verbatim("_responseEnd"),
        "status": "_status",
        "headers": Verbatim("_answerHeaders"),
        "body": Verbatim("_responseBody"),
        "transfer_encoding": "_responseEncoding",
    },
    **{name: name for name in IDS},
    "transaction_id": "transactionId",
    "trace_id": "traceId",
    # the documented example has parent_span_id, the documented table and stored events parent_id
    "span": {"id": "spanId", "parent_id": "parentSpanId"},
    "action_name": "_action",
    "direction": "_direction",
    "weight": "_weight",
    "blocked_by": "_blockedBy",
    "metadata": {
        **metadata([field.name for field in FIELDS if field.place is not Place.BACKEND]),
        "requestTimestamp": Verbatim("_requestTimestamp"),
    },
}


_ARE_FULL = pl.col("requestUri").str.contains("^https?://[^/?#]").fill_null(value=False).all()


def _are_full_uris(frame: pl.DataFrame) -> bool:
    """Whether each URI has a scheme and a host, and needs no encoding."""
    are_full = bool(frame.select_seq(_ARE_FULL, *in_one_thread()).item(0, 0))
    return are_full and all_visible(frame["requestUri"])


def facts(frame: pl.DataFrame) -> Iterator[str]:
    """What `columns` has to know of a batch."""
    if _are_full_uris(frame):
        yield "full URIs"
    if frame["isEgress"].any():
        yield "egress"
    if (frame["apiType"] == "GRPC").any():
        yield "gRPC"
    if not any((frame[name] == unknown).any() for name, unknown in _NO_ACTION):
        yield "actions"
    if frame["apiResourceTemplate"].unique().str.contains(_ID).any():
        yield "ids"
    if not frame["userAgentHeader"].null_count():
        yield "all agents"
    properties = frame[COLUMN]
    if properties.null_count() < len(properties) and properties.str.contains("blocked", literal=True).any():
        yield "blocked"


def columns(facts: frozenset[str]) -> list[pl.Expr]:
    """What `SHAPE` needs besides the event's fields and what `mapping` makes.

    Args:
        facts: What `facts` and `mapping` say of the batch, and the names of the columns that there are
            besides the event's.
    """
    answer = pl.lit("{}")
    if "_responseHeaders" in facts:
        answer = pl.format("{{{}}}", pl.col("_responseHeaders").fill_null(""))
    if "all answered" not in facts:
        answer = pl.when(pl.col("proxyResponseCode") != 0).then(answer)
    outgoing = pl.when("isEgress").then(pl.lit("Outgoing")).otherwise(pl.lit("Incoming"))
    expressions = [
        (pl.col("requestUri") if "full URIs" in facts else _full_uri()).alias("_uri"),
        pl.when(pl.col("apiMethod") != "").then("apiMethod").otherwise(pl.lit(UNKNOWN)).alias("_verb"),
        _known("apiVersion").alias("_version"),
        _user_agent(facts).alias("_agent"),
        pl.when(pl.col("requestSize") >= 0).then("requestSize").alias("_length"),
        answer.alias("_answerHeaders"),
        _action(facts).alias("_action"),
        (outgoing if "egress" in facts else pl.lit("Incoming")).alias("_direction"),
    ]
    if "blocked" in facts:
        rule = pl.coalesce(read_property(name) for name in _BLOCKED_BY)
        expressions.append(pl.when(rule != "").then(rule).alias("_blockedBy"))
    return expressions


def _known(column: str) -> pl.Expr:
    """The column's values, null where they only say that there is none."""
    return pl.when((pl.col(column) != UNKNOWN) & (pl.col(column) != "")).then(column)


def _user_agent(facts: frozenset[str]) -> pl.Expr:
    """The header where it is known; else the family, which is what WSO2's older events have."""
    name = pl.col("userAgentHeader")
    if "all agents" not in facts:
        name = pl.coalesce(name, _known("userAgent"))
    captured = "_requestHeaders user-agent"
    return pl.when(~pl.col(captured)).then(name) if captured in facts else name


_NO_ACTION = (("apiResourceTemplate", UNKNOWN), ("apiResourceTemplate", ""), ("apiMethod", UNKNOWN))
"""What stands in which column of an event that has no action."""


def _action(facts: frozenset[str]) -> pl.Expr:
    """The operation: ``GET /order/{id}``, of GraphQL ``QUERY countries``; the method of a gRPC service.

    Semantic conventions for HTTP and RPC name spans alike, and Moesif takes the name of a span that comes
    over OTLP for ``action_name``. Where a gateway knows no template its dialect gives the path; one with ids
    in it is none, for it would be a name of its own for every call.
    """
    template = pl.col("apiResourceTemplate")
    if "ids" in facts:
        template = pl.when(~template.str.contains(_ID)).then(template)
    name = pl.format("{} {}", "apiMethod", template)
    if "gRPC" in facts:
        name = pl.when(pl.col("apiType") == "GRPC").then(template.str.strip_prefix("/")).otherwise(name)
    if "actions" in facts:
        return name
    return pl.when(pl.all_horizontal(pl.col(column) != unknown for column, unknown in _NO_ACTION)).then(name)


def uri(frame: pl.DataFrame) -> pl.Expr:
    """Full URI of the request; where no host is known it is ``UNKNOWN``, and the path the template's.

    WSO2's own reporter sends the context and the template of the resource, without a host.
    """
    return pl.col("requestUri") if _are_full_uris(frame) else _full_uri()


def _full_uri() -> pl.Expr:
    known = pl.col("requestUri")
    absolute = known.str.contains(_ABSOLUTE).fill_null(value=False)
    context, template = _known("apiContext").fill_null(""), _known("apiResourceTemplate").fill_null("")
    context = context.str.strip_chars_end("/")
    whole = pl.when(template.str.starts_with(context)).then(template).otherwise(context + template)
    path = pl.format("/{}", whole.str.strip_prefix("/"))
    without_host = known.str.replace(_SCHEME, "")
    path = pl.when(without_host.str.starts_with("/")).then(without_host).otherwise(path)
    uri = pl.when(absolute).then(known).otherwise(pl.format("http://{}{}", pl.lit(UNKNOWN), path))
    return uri.str.replace_many(list(_BLANKS), list(_BLANKS.values()))
