"""The analytics event, declared once: every column with its type, unit, meaning and default.

Names and types are those of WSO2 API Manager's analytics, as documented in the Moesif integration guide
(``apim_event_response``, ``apim_event_faulty``). Defaults follow WSO2's own collectors: ``UNKNOWN`` where
a value is missing (``CommonRequestDataCollector``), ``N/A`` for the certificate's common name, -1 for a
backend that was not reached. A missing value therefore never drops an event. Everything else (JSON, IPC,
tables of other exporters, documentation) derives from `FIELDS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import polars as pl

UNKNOWN = "UNKNOWN"
HEADERS = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))
TIMESTAMP = pl.Datetime("ms", "UTC")


class Place(StrEnum):
    """Where a column stands in the documented JSON."""

    EVENT = "event"
    LATENCY = "latency"
    """As `EVENT`, but a fault event has no such value at all."""
    PROPERTIES = "properties"
    BACKEND = "backend"
    """Not part of the documented event: what a backend such as Moesif needs besides."""


@dataclass(frozen=True)
class Field:
    """One column of `Events`.

    Attributes:
        name: WSO2's name of the field, or ours for what WSO2 does not know.
        dtype: The polars type; integers that the guide calls ``long`` are 64 bits wide.
        meaning: One line for people.
        unit: ``ms``, ``bytes`` … where it is a quantity.
        default: What stands for a missing value; None leaves the key out.
        place: Where the documented JSON has it.
        response: Whether a response event carries it.
        fault: Whether a fault event carries it.
    """

    name: str
    dtype: Any
    meaning: str
    unit: str = ""
    default: object = None
    place: Place = Place.EVENT
    response: bool = True
    fault: bool = True


def _text(name: str, meaning: str, default: str | None = UNKNOWN, **more: Any) -> Field:
    return Field(name, pl.String, meaning, default=default, **more)


def _latency(name: str, meaning: str) -> Field:
    return Field(name, pl.Int64, meaning, unit="ms", default=0, place=Place.LATENCY, fault=False)


def _error(name: str, dtype: Any, meaning: str) -> Field:
    return Field(name, dtype, meaning, response=False)


def _backend(name: str, dtype: Any, meaning: str, default: object = None) -> Field:
    return Field(name, dtype, meaning, default=default, place=Place.BACKEND)


_PROPERTIES: dict[str, Any] = {"place": Place.PROPERTIES}

FIELDS: tuple[Field, ...] = (
    _text("apiCreator", "Who created the API"),
    _text("apiCreatorTenantDomain", "Tenant of the API's creator"),
    _text("apiId", "Identifier of the API"),
    _text("apiMethod", "HTTP method of the call"),
    _text("apiName", "Name of the API"),
    _text("apiResourceTemplate", "Template of the resource that was called, or its path"),
    _text("apiType", "HTTP, GRPC, GRAPHQL, WS …", default="HTTP"),
    _text("apiVersion", "Version of the API"),
    _text("applicationId", "Identifier of the calling application"),
    _text("applicationName", "Name of the calling application"),
    _text("applicationOwner", "Owner of the calling application"),
    _latency("backendLatency", "Time that the backend took"),
    _text("correlationId", "Identifies the call across systems"),
    _text("destination", "URL or address of the backend that was called", fault=False),
    _error("errorCode", pl.Int32, "WSO2's error code where known, else the HTTP status"),
    _error("errorMessage", pl.String, "WSO2's error sub type"),
    _error("errorType", pl.String, "AUTH, THROTTLED, TARGET_CONNECTIVITY or OTHER"),
    _text("eventType", "response or fault", default="response"),
    _text("gatewayType", "Which gateway made the event"),
    _text("keyType", "PRODUCTION or SANDBOX"),
    _text("platform", "Operating system of the caller", fault=False),
    Field("proxyResponseCode", pl.Int32, "Status that the gateway answered", default=0),
    _text("regionId", "Region of the gateway", default="default"),
    _latency("requestMediationLatency", "From the request's arrival to the call of the backend"),
    Field("requestTimestamp", TIMESTAMP, "When the request arrived; ISO 8601 UTC, milliseconds, Z"),
    Field("responseCacheHit", pl.Boolean, "Whether the answer came from the gateway's cache", default=False),
    _latency("responseLatency", "From the request's arrival to the end of the answer"),
    _latency("responseMediationLatency", "From the backend's answer to the end of the answer"),
    Field(
        "targetResponseCode",
        pl.Int32,
        "Status that the backend answered; -1 when it was not reached",
        default=-1,
    ),
    _text("userAgent", "Who called: the family of the browser or client", fault=False),
    _text("userIp", "IP address of the caller", fault=False),
    _text("userName", "Who called, as the gateway knows it", fault=False),
    # properties
    _text("apiContext", "Base path of the API, with its version", **_PROPERTIES),
    _text("commonName", "Common name of the caller's certificate", default="N/A", **_PROPERTIES),
    _text("responseContentType", "Content type of the answer", **_PROPERTIES),
    _text("subType", "Sub type of the API", default="DEFAULT", **_PROPERTIES),
    Field("isEgress", pl.Boolean, "Whether the call left the organisation", default=False, **_PROPERTIES),
    Field("responseSize", pl.Int64, "Size of the answer's body", unit="bytes", default=0, **_PROPERTIES),
    Field(
        "errorCodeInferred",
        pl.Boolean,
        "Whether errorCode is not the gateway's own, but the one that WSO2 has for such a fault",
        response=False,
        **_PROPERTIES,
    ),
    Field("requestSize", pl.Int64, "Size of the request's body, where known", unit="bytes", **_PROPERTIES),
    # what a backend needs besides
    _backend(
        "transactionId", pl.String, "UUIDv5 of trace id and span id: the same on every retry and replay"
    ),
    _backend("traceId", pl.String, "Trace id, lower-case hex"),
    _backend("spanId", pl.String, "Id of the call's span, lower-case hex"),
    _backend("parentSpanId", pl.String, "Id of the caller's span, lower-case hex"),
    _backend("responseTimestamp", TIMESTAMP, "When the answer ended"),
    _backend("requestUri", pl.String, "Full URI of the request: scheme, host, path and query"),
    _backend("requestHeaders", HEADERS, "Captured request headers; names in lower case"),
    _backend("responseHeaders", HEADERS, "Captured response headers; names in lower case"),
    _backend("requestBody", pl.String, "Captured request body"),
    _backend("requestBodyEncoding", pl.String, "json or base64"),
    _backend("responseBody", pl.String, "Captured response body"),
    _backend("responseBodyEncoding", pl.String, "json or base64"),
    _backend("userAgentHeader", pl.String, "The User-Agent header as it came"),
    _backend("companyId", pl.String, "Company or organisation of the caller"),
    _backend("sessionToken", pl.String, "Session or key of the caller"),
    _backend("weight", pl.Int32, "How many calls this event stands for", default=1),
    _backend("customProperties", pl.String, "JSON object of further properties, open-ended"),
)

BY_NAME = {field.name: field for field in FIELDS}
SCHEMA = pl.Schema({field.name: field.dtype for field in FIELDS})
