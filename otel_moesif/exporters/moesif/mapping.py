"""How an event becomes a Moesif event: a table to be read beside Moesif's event model.

Keys and their meaning: apidocs ``_events-api.md``; metadata has the names that WSO2's own reporter uses
(``SimpleMoesifClient.java``), but with native types, so that latencies can be aggregated.
"""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from otel_moesif import Events
from otel_moesif.events import Always, Shape, Verbatim, documented, json_text
from otel_moesif.exporters.moesif.content import body, has_header, headers
from otel_moesif.schema import FIELDS, TIMESTAMP, UNKNOWN, Place

# Fields for which Moesif's model has a place of its own. The API's method, version and the user's name have
# one too, but WSO2's dashboards look for them in the metadata.
_NOT_IN_METADATA = {"requestTimestamp", "proxyResponseCode", "userIp", "userAgent"}

# Without an address Moesif takes that of whoever delivers, which would be ours (apidocs _events-api.md);
# RFC 6890 reserves this one for "this host on this network", so it is nobody's.
_NO_ADDRESS = "0.0.0.0"  # noqa: S104 - not bound to

_ABSOLUTE = r"^[A-Za-z][A-Za-z0-9+.-]*://"  # RFC 3986 section 4.3


def to_moesif(events: Events) -> pl.Series:
    """Encode each event as one Moesif event.

    Args:
        events: A batch.

    Returns:
        One JSON object per event, as text.
    """
    frame = events.frame
    request_body, request_encoding = body(frame, "requestBody", "requestBodyEncoding")
    response_body, response_encoding = body(frame, "responseBody", "responseBodyEncoding")
    arrival = pl.coalesce("requestTimestamp", "responseTimestamp", pl.lit(datetime.now(UTC), TIMESTAMP))
    answered = pl.col("proxyResponseCode") != 0  # 0: nobody was left to answer; then there is no response
    shape: Shape = {
        "request": {
            "time": _iso(arrival),
            "uri": _uri(),
            "verb": pl.col("apiMethod"),
            "headers": Always(
                {
                    "User-Agent": _user_agent(),
                    "captured": Verbatim(headers(frame, "requestHeaders"), spread=True),
                }
            ),
            "api_version": _known("apiVersion"),
            "ip_address": _known("userIp").fill_null(_NO_ADDRESS),
            "body": Verbatim(request_body),
            "transfer_encoding": request_encoding,
        },
        "response": {
            "time": pl.when(answered).then(_iso(_end(arrival))),
            "status": pl.when(answered).then("proxyResponseCode"),
            "headers": Verbatim(pl.when(answered).then(headers(frame, "responseHeaders").fill_null("{}"))),
            "body": Verbatim(pl.when(answered).then(response_body)),
            "transfer_encoding": pl.when(answered).then(response_encoding),
        },
        "user_id": _known("userName"),
        "company_id": pl.col("companyId"),
        "session_token": pl.col("sessionToken"),
        "transaction_id": pl.col("transactionId"),
        "trace_id": pl.col("traceId"),
        # the documented example has parent_span_id, the documented table and stored events parent_id
        "span": {"id": pl.col("spanId"), "parent_id": pl.col("parentSpanId")},
        "direction": Verbatim(pl.lit('"Incoming"')),
        "weight": pl.max_horizontal("weight", 1),
        "metadata": {
            **{
                field.name: documented(field)
                for field in FIELDS
                if field.place is not Place.BACKEND and field.name not in _NOT_IN_METADATA
            },
            "userName": pl.col("userName"),
            "customProperties": Verbatim(pl.col("customProperties"), spread=True),
        },
    }
    return json_text(frame, shape)


def _user_agent() -> pl.Expr:
    """The event's user agent, where it is not among the captured headers anyway."""
    return pl.when(~has_header("requestHeaders", "user-agent")).then(_known("userAgent"))


def _iso(time: pl.Expr) -> pl.Expr:
    return time.dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")


def _known(column: str) -> pl.Expr:
    """The column's values, null where they only say that there is none."""
    return pl.when(~pl.col(column).is_in([UNKNOWN, ""])).then(column)


def _end(arrival: pl.Expr) -> pl.Expr:
    latency = pl.duration(milliseconds=pl.col("responseLatency").fill_null(0), time_unit="ms")
    return pl.coalesce("responseTimestamp", arrival + latency)


def _uri() -> pl.Expr:
    """Full URI of the request; where no host is known it is ``UNKNOWN``, and the path the template's.

    WSO2's own reporter sends the context and the template of the resource, without a host.
    """
    uri, context, template = pl.col("requestUri"), _known("apiContext"), _known("apiResourceTemplate")
    context, template = context.fill_null("").str.strip_chars_end("/"), template.fill_null("")
    whole = pl.when(template.str.starts_with(context)).then(template).otherwise(context + template)
    path = (
        pl.when(uri.str.starts_with("/")).then(uri).otherwise(pl.format("/{}", whole.str.strip_prefix("/")))
    )
    built = pl.format("http://{}{}", pl.lit(UNKNOWN), path)
    return pl.when(uri.str.contains(_ABSOLUTE)).then(uri).otherwise(built)
