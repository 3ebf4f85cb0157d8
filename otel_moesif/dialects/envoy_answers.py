"""What Envoy says of an answer, in spans and access logs alike: response flags, gRPC statuses, cluster names.

Sources: envoy source/common/stream_info/utility.h and the access log documentation (``%RESPONSE_FLAGS%``,
``%GRPC_STATUS%``); google/rpc/code.proto (HTTP statuses of gRPC codes); istio
pilot/pkg/model/context.go and envoyproxy/gateway internal/xds/translator (cluster names).
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

NO_ANSWER = 0  # %RESPONSE_CODE% and http.status_code when nothing was answered

# Response flags that say that Envoy answered itself, and which of WSO2's error types and sub types that is
# (WSO2's FaultSubCategories). What they leave open is told by the status.
_FLAGS: dict[str, tuple[str | None, str | None]] = {
    "RL": ("THROTTLED", "OTHER"),
    "RLSE": ("THROTTLED", "OTHER"),
    "OM": ("THROTTLED", "OTHER"),  # overload manager: the gateway sheds load
    "UAEX": ("AUTH", None),  # 401 or 403
    "NR": ("OTHER", "RESOURCE_NOT_FOUND"),
    "NC": ("TARGET_CONNECTIVITY", "OTHER"),
    "NFCF": ("OTHER", "UNCLASSIFIED"),
    "UH": ("TARGET_CONNECTIVITY", "CONNECTION_SUSPENDED"),
    "UO": ("TARGET_CONNECTIVITY", "CONNECTION_SUSPENDED"),
    "UF": ("TARGET_CONNECTIVITY", "OTHER"),
    "UC": ("TARGET_CONNECTIVITY", "OTHER"),
    "UR": ("TARGET_CONNECTIVITY", "OTHER"),
    "LR": ("TARGET_CONNECTIVITY", "OTHER"),
    "UPE": ("TARGET_CONNECTIVITY", "OTHER"),
    "DF": ("TARGET_CONNECTIVITY", "OTHER"),
    "UT": ("TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT"),
    "SI": ("TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT"),
    "UMSDR": ("TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT"),
    "FI": (None, None),  # an injected fault stands for whatever its status says
    "LH": ("OTHER", "UNCLASSIFIED"),
    "DPE": ("OTHER", "UNCLASSIFIED"),
    "IH": ("OTHER", "UNCLASSIFIED"),
    "DT": ("OTHER", "UNCLASSIFIED"),
    "DC": ("OTHER", "UNCLASSIFIED"),  # the caller left before the answer
    "DR": ("OTHER", "UNCLASSIFIED"),
}
# No flag of the above: the last retry may have been answered by the backend.
_RETRIES_EXHAUSTED = {"URX": ("TARGET_CONNECTIVITY", "OTHER")}
_FROM_CACHE = "RFCF"


# outbound|9080|v1|reviews.default.svc.cluster.local, outbound_.9080_.v1_.reviews.default.svc.cluster.local
_ISTIO_CLUSTER = r"^outbound(?:\|\d+\|[^|]*\||_\.\d+_\.[^_]*_\.)([^;|]+)"
# What stands in an Istio proxy for "the workload beside me" or "somewhere else": no name of a service.
_ISTIO_NAMELESS = r"^(?:inbound(?:\||_\.)|InboundPassthrough|PassthroughCluster|BlackHoleCluster)"
_KUBERNETES_SUFFIX = r"\.svc\..*$"
# httproute/<namespace>/<route>/rule/<number>, and …/match/<number>/<host> in a route's name
_GATEWAY_API_NAME = r"^(?:http|grpc|tls|tcp|udp)route/([^/]+/[^/]+)/rule/"


def first_flag(flags: pl.Expr, wanted: Iterable[str]) -> pl.Expr:
    """The first of the comma-separated flags that is one of these, or null."""
    return flags.str.extract(rf"(?:^|,)({'|'.join(wanted)})(?:,|$)")


def answered_itself(flags: pl.Expr) -> pl.Expr:
    """Whether a flag says that Envoy made the answer, if it is an error."""
    return first_flag(flags, _FLAGS).is_not_null()


def _flagged(flags: pl.Expr, place: int) -> pl.Expr:
    every = {**_FLAGS, **_RETRIES_EXHAUSTED}
    found = pl.coalesce(first_flag(flags, _FLAGS), first_flag(flags, _RETRIES_EXHAUSTED))
    table = {flag: meaning[place] for flag, meaning in every.items() if meaning[place]}
    return found.replace_strict(table, default=None, return_dtype=pl.String)


def fault_type(flags: pl.Expr) -> pl.Expr:
    """``errorType`` that the flags tell, or null."""
    return _flagged(flags, 0)


def fault_reason(flags: pl.Expr) -> pl.Expr:
    """WSO2's sub type that the flags tell, or null."""
    return _flagged(flags, 1)


def from_cache(flags: pl.Expr) -> pl.Expr:
    """Whether the cache filter answered."""
    return first_flag(flags, [_FROM_CACHE]).is_not_null()


def is_error(status: pl.Expr) -> pl.Expr:
    """An answer that is an error (RFC 9110 15.5), or none at all."""
    return (status >= 400) | (status == NO_ANSWER)


def api_type(grpc: pl.Expr, status: pl.Expr) -> pl.Expr:
    """``GRPC``, ``WS`` (the protocol was switched) or ``HTTP``."""
    return pl.when(grpc).then(pl.lit("GRPC")).when(status == 101).then(pl.lit("WS")).otherwise(pl.lit("HTTP"))


def istio_service(name: pl.Expr) -> pl.Expr:
    """The service that one of Istio's names for a cluster is for; null for any other name."""
    return name.str.extract(_ISTIO_CLUSTER).str.replace(_KUBERNETES_SUFFIX, "")


def service_of(name: pl.Expr) -> pl.Expr:
    """The service that a cluster (or an Envoy Gateway route) is named after; other names as they are.

    ``reviews.default`` of Istio's ``outbound|9080||reviews.default.svc.cluster.local``, ``default/orders`` of
    Envoy Gateway's ``httproute/default/orders/rule/0``, null for Istio's ``inbound|8080||``.
    """
    istio = istio_service(name)
    own = pl.when(~name.str.contains(_ISTIO_NAMELESS)).then(name)
    return pl.coalesce(istio, name.str.extract(_GATEWAY_API_NAME), own)
