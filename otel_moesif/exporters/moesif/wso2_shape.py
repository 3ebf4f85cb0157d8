"""``compatibility: wso2``: the shape of WSO2's own reporter, so that dashboards made for it go on working.

Source: ``SimpleMoesifClient.java`` of wso2/apim-analytics-publisher in its state of 2026 (PR #165 and
later), when the metadata had got native types and faults their URI, method and user; older publishers sent
all metadata as text and ``N/A`` for any fault. What is not as WSO2 has it, and why:

=====================  =============================  ========================================================
field                  WSO2                           here
=====================  =============================  ========================================================
transaction_id         new at every attempt           ours, always the same: a retry must not count twice
weight                 left out, or 0                 at least 1: 0 would take the call out of sums
request.ip_address     not set for faults             set, 0.0.0.0 if unknown: Moesif would take our address
response.time (fault)  when the event was built       when the answer ended: our queue is no latency
response               always there                   left out where nobody was left to answer (status 0)
user_id                userName                       first known of ``identity.user_id``; ``UNKNOWN`` else
company_id,            never set                      only where ``identity`` names columns for them
subscription_id,
session_token
headers                ``Content-Type`` beside        a captured header takes the place of the fixed one of
                       ``content-type``               that name, whatever its case
request.body           over the limit: left out       cut and marked, as in the default shape
metadata               subtype                        subType, as WSO2's documentation has it; marks of what
                                                      was cut (see `mapping`)
unknown fields         left out, or event lost        ``UNKNOWN``, as WSO2's collectors set it
=====================  =============================  ========================================================
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import polars as pl

from otel_moesif.exporters.moesif.default_shape import metadata
from otel_moesif.exporters.moesif.identity import IDS
from otel_moesif.json_shape import Always, Members, Shape, Verbatim
from otel_moesif.processors.properties import COLUMN, read_property
from otel_moesif.schema import UNKNOWN

NOT_AVAILABLE = "N/A"
_GATEWAY_URL = "x-original-gw-url"
_BODY_TYPE = "requestContentType"
_REQUEST_TYPE = "application/json"
_RESPONSE_HEADERS = {
    "Vary": "Accept-Encoding",
    "Pragma": "no-cache",
    "Expires": "-1",
    "Content-Type": "application/json; charset=utf-8",
    "Cache-Control": "no-cache",
}
# The client's own list, then what its `putAll(properties)` adds of the fields that are columns here.
_METADATA = (
    *("apiId", "apiMethod", "apiName", "apiType", "applicationId", "applicationName", "applicationOwner"),
    *("backendLatency", "gatewayType", "keyType", "apiCreator", "apiCreatorTenantDomain", "apiVersion"),
    *("correlationId", "responseCacheHit", "userName", "responseLatency", "responseMediationLatency"),
    *("destination", "errorCode", "errorMessage", "errorType", "targetResponseCode"),
    *("requestMediationLatency", "apiResourceTemplate"),
    *(
        "apiContext",
        "commonName",
        "responseContentType",
        "subType",
        "isEgress",
        "responseSize",
        "requestSize",
    ),
)


def shape(configured: Collection[str]) -> Shape:
    """The shape.

    Args:
        configured: Those of `identity.IDS` that the configuration names columns for.
    """
    return {
        "request": {
            "time": Verbatim("_requestStart"),
            "uri": "_uri",
            "verb": "_verb",
            "headers": Always(
                {
                    "User-Agent": "_agent",
                    "Content-Type": "_contentType",
                    "captured": Members("_requestHeaders"),
                }
            ),
            "api_version": "apiVersion",
            "ip_address": "_address",
            "body": Verbatim("_requestBody"),
            "transfer_encoding": "_requestEncoding",
        },
        "response": {
            "time": Verbatim("_responseEnd"),
            "status": "_status",
            "headers": Verbatim("_answerHeaders"),
            "body": Verbatim("_responseBody"),
            "transfer_encoding": "_responseEncoding",
        },
        "user_id": "_user",
        **{name: name for name in IDS if name in configured and name != "user_id"},
        "transaction_id": "transactionId",
        "weight": "_weight",
        "metadata": metadata(_METADATA),
    }


HEADERS = {"request": ("user-agent", "content-type"), "response": tuple(map(str.lower, _RESPONSE_HEADERS))}
"""Captured headers of which `columns` has to know whether an event has them."""


def facts(frame: pl.DataFrame) -> Iterator[str]:
    """What `columns` has to know of a batch: to look for a property in each event costs a microsecond."""
    properties = frame[COLUMN]
    for name in (_GATEWAY_URL, _BODY_TYPE) if properties.null_count() < len(properties) else ():
        if properties.str.contains(name, literal=True).any():
            yield name


def columns(facts: frozenset[str]) -> list[pl.Expr]:
    """What the shape needs besides the event's fields, the ids, and what `mapping` makes.

    Args:
        facts: What `facts` and `mapping` say of the batch, and the names of the columns that there are
            besides the event's.
    """

    def fixed(way: str, name: str, value: pl.Expr) -> pl.Expr:
        captured = f"_{way}Headers {name.lower()}"
        return pl.when(~pl.col(captured)).then(value) if captured in facts else value

    answer = [
        fixed("response", name, pl.lit(f'"{name}":"{value}"')) for name, value in _RESPONSE_HEADERS.items()
    ]
    if "_responseHeaders" in facts:
        answer.append(pl.col("_responseHeaders"))
    headers = pl.format("{{{}}}", pl.concat_str(answer, separator=",", ignore_nulls=True))
    if "all answered" not in facts:
        headers = pl.when(pl.col("proxyResponseCode") != 0).then(headers)
    verb_known = (pl.col("apiMethod") != UNKNOWN) & (pl.col("apiMethod") != "")
    body_type = pl.lit(_REQUEST_TYPE)
    if _BODY_TYPE in facts and "_requestBody" in facts:
        named = pl.when(pl.col("_requestBody").is_not_null()).then(read_property(_BODY_TYPE))
        body_type = named.fill_null(_REQUEST_TYPE)
    return [
        _uri(from_property=_GATEWAY_URL in facts).alias("_uri"),
        pl.when(verb_known).then("apiMethod").otherwise(pl.lit(NOT_AVAILABLE)).alias("_verb"),
        fixed("request", "User-Agent", pl.col("userAgentHeader").fill_null(UNKNOWN)).alias("_agent"),
        fixed("request", "Content-Type", body_type).alias("_contentType"),
        headers.alias("_answerHeaders"),
        pl.col("user_id").fill_null(UNKNOWN).alias("_user"),
    ]


def _uri(*, from_property: bool) -> pl.Expr:
    """The gateway's URL where a property has it, else context and template: a relative path."""
    context, template = pl.col("apiContext"), pl.col("apiResourceTemplate")
    both = (context != UNKNOWN) & (context != "") & (template != UNKNOWN) & (template != "")
    path = pl.when(both).then(pl.format("{}{}", context, template)).otherwise(pl.lit(NOT_AVAILABLE))
    url = read_property(_GATEWAY_URL)
    return pl.when(url != "").then(url).otherwise(path) if from_property else path
