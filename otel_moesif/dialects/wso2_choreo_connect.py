"""WSO2 Choreo Connect (and any Envoy with its enforcer): Envoy's access log with the enforcer's metadata.

Choreo Connect itself reads these fields from Envoy's gRPC access log. Over OTLP they come where the access
log's attributes name them, for example ``x-wso2-api-name:
%DYNAMIC_METADATA(envoy.filters.http.ext_authz:x-wso2-api-name)%``, beside those of Envoy's own
(`otel_moesif.dialects.envoy_log`).

Sources: product-microgateway 7f01aaea enforcer ``analytics/`` (``AnalyticsFilter``, ``FaultCodeClassifier``,
``ChoreoFaultAnalyticsProvider``, the metadata keys); the short forms of the flags are those of Envoy's
``%RESPONSE_FLAGS%``.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.attributes import Source
from otel_moesif.dialects import envoy_log
from otel_moesif.dialects.dialect import Dialect, Fields, LogTable, Lookup
from otel_moesif.dialects.envoy_answers import first_flag

_PREFIX = "x-wso2-"
# Response flag → WSO2's code, as FaultCodeClassifier has it. Whatever it classifies is TARGET_CONNECTIVITY.
_CODES: dict[str, int] = {
    "LH": 101503,
    "UH": 101503,
    "UT": 101504,
    "LR": 101001,
    "UR": 101503,
    "UF": 101500,
    "UC": 101505,
    "DC": 101001,
    "SI": 101504,
    "DPE": 101506,
    "UMSDR": 101504,
    "DT": 101000,
}
# Of the enforcer's own faults some releases have the code in the metadata: 900805 is a throttling policy's,
# answered with 403; 700700 is "API blocked". Where they have none, the status tells
# (ChoreoFaultAnalyticsProvider).
_BLOCKED = 700700
_BY_ENFORCER = "UAEX"
_TYPE_OF_STATUS = {401: "AUTH", 403: "AUTH", 429: "THROTTLED"}


def log_call(a: Lookup) -> Fields:
    """The call, from an access-log record."""
    envoys = envoy_log.log_call(a)
    flags = a.text("response_flags")
    by_flag = first_flag(flags, _CODES).replace_strict(_CODES, default=None, return_dtype=pl.Int32)
    own_code = a.integer("ErrorCode", "error_code")
    own_code = pl.when(own_code > 0).then(own_code)
    classified = own_code.is_null() & by_flag.is_not_null()
    refused = own_code.is_null() & first_flag(flags, [_BY_ENFORCER]).is_not_null()
    of_status = envoys["proxyResponseCode"].replace_strict(
        _TYPE_OF_STATUS, default="OTHER", return_dtype=pl.String
    )
    return {
        **envoys,
        "apiId": _wso2(a, "api-id"),
        "apiName": pl.coalesce(_wso2(a, "api-name"), envoys["apiName"]),
        "apiVersion": _wso2(a, "api-version"),
        "apiType": pl.coalesce(_wso2(a, "api-type", "api-kind"), envoys["apiType"]),
        "apiCreator": _wso2(a, "api-creator"),
        "apiCreatorTenantDomain": _wso2(a, "api-creator-tenant-domain"),
        "apiContext": pl.coalesce(_wso2(a, "api-context"), envoys["apiContext"]),
        "apiResourceTemplate": pl.coalesce(_wso2(a, "api-resource-template"), envoys["apiResourceTemplate"]),
        "applicationId": _wso2(a, "application-uuid", "application-id"),
        "applicationName": _wso2(a, "application-name"),
        "applicationOwner": _wso2(a, "application-owner"),
        "keyType": _wso2(a, "application-key-type"),
        "userName": pl.coalesce(_wso2(a, "username"), envoys["userName"]),
        "userAgentHeader": pl.coalesce(_wso2(a, "user-agent"), envoys["userAgentHeader"]),
        "userIp": pl.coalesce(_wso2(a, "client-ip"), envoys["userIp"]),
        "correlationId": pl.coalesce(_wso2(a, "correlation-id"), envoys["correlationId"]),
        "destination": pl.coalesce(
            pl.when(a.flag(f"{_PREFIX}is-mock-api")).then(pl.lit("MockImplementation")),
            _wso2(a, "destination"),
            envoys["destination"],
        ),
        "regionId": pl.coalesce(_wso2(a, "region"), envoys["regionId"]),
        "companyId": _wso2(a, "api-organization-id"),
        "errorCode": pl.coalesce(own_code, by_flag),
        "errorType": pl.when(classified)
        .then(pl.lit("TARGET_CONNECTIVITY"))
        .when(own_code == _BLOCKED)
        .then(pl.lit("AUTH"))
        .when(refused)
        .then(of_status),
        "faultReason": pl.when(classified).then(pl.lit("OTHER")).otherwise(envoys["faultReason"]),
    }


def _wso2(a: Lookup, *names: str) -> pl.Expr:
    return a.text(*(f"{_PREFIX}{name}" for name in names))


def _detect(_source: Source, keys: frozenset[str]) -> bool:
    return not keys.isdisjoint({f"{_PREFIX}api-id", f"{_PREFIX}api-name"})


WSO2_CHOREO_CONNECT = Dialect(
    name="wso2_choreo_connect",
    gateway_type="ENVOY",  # as Choreo Connect's own events have it
    detect=_detect,
    logs=LogTable(log_call, envoy_log.is_log_call),
)
