"""WSO2's classification of faults: error code → error type and sub type, and back where no code is known.

Source of the codes and classes: carbon-apimgt ``FaultCodeClassifier``, ``FaultSubCategories``,
``APISecurityConstants``, ``APIThrottleConstants``; Synapse ``SynapseConstants`` (NHTTP codes); the ranges are
``Constants.ERROR_CODE_RANGES``. What a gateway without such codes reports is classified by its own flags
(dialects) or by the HTTP status, and the code that belongs to that class is put in: then the event says
``errorCodeInferred``.
"""

from __future__ import annotations

from functools import cache

import polars as pl

AUTH, THROTTLED, TARGET, GUARDRAIL, OTHER = (
    "AUTH",
    "THROTTLED",
    "TARGET_CONNECTIVITY",
    "GUARDRAIL_FAULT",
    "OTHER",
)
_SUSPENDED = 303001

# Code → sub type; whatever else lies in a range is OTHER.
_SUB_TYPES: dict[int, str] = {
    **dict.fromkeys((900900, 900901, 900902, 900903, 900904, 4000, 4001), "AUTHENTICATION_FAILURE"),
    **dict.fromkeys((900905, 900910, 901101, 4002), "AUTHORIZATION_FAILURE"),
    **dict.fromkeys((900907, 900908, 900909), "SUBSCRIPTION_VALIDATION_FAILURE"),
    **dict.fromkeys((900800, 4003), "API_LEVEL_LIMIT_EXCEEDED"),
    900801: "HARD_LIMIT_EXCEEDED",
    900802: "RESOURCE_LEVEL_LIMIT_EXCEEDED",
    900803: "APPLICATION_LEVEL_LIMIT_EXCEEDED",
    900804: "SUBSCRIPTION_LIMIT_EXCEEDED",
    900805: "BLOCKED",
    900806: "CUSTOM_POLICY_LIMIT_EXCEEDED",
    900807: "BURST_CONTROL_LIMIT_EXCEEDED",
    **dict.fromkeys((900820, 4020), "QUERY_TOO_DEEP"),
    **dict.fromkeys((900821, 4021), "QUERY_TOO_COMPLEX"),
    **dict.fromkeys((101504, 101508), "CONNECTION_TIMEOUT"),
    _SUSPENDED: "CONNECTION_SUSPENDED",
    900514: "GUARDRAIL_HIT",
    404: "RESOURCE_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
}
_WEBSOCKET = {4000: AUTH, 4001: AUTH, 4002: AUTH, 4003: THROTTLED, 4020: THROTTLED, 4021: THROTTLED}

# HTTP status → type and sub type, where nothing better is known. gateways.md section 3, "errorType".
_BY_STATUS: dict[int, tuple[str, str]] = {
    401: (AUTH, "AUTHENTICATION_FAILURE"),
    403: (AUTH, "AUTHORIZATION_FAILURE"),
    429: (THROTTLED, "OTHER"),
    502: (TARGET, "OTHER"),
    503: (TARGET, "OTHER"),
    504: (TARGET, "CONNECTION_TIMEOUT"),
    404: (OTHER, "RESOURCE_NOT_FOUND"),
    405: (OTHER, "METHOD_NOT_ALLOWED"),
}
# Type and sub type → the code that WSO2 has for it, so that code and class agree. 900910, not 900908, for a
# 403: WSO2 classes the latter as a failure of the subscription.
_INFERRED: dict[str, int] = {
    f"{AUTH} AUTHENTICATION_FAILURE": 900901,
    f"{AUTH} AUTHORIZATION_FAILURE": 900910,
    f"{AUTH} SUBSCRIPTION_VALIDATION_FAILURE": 900909,
    f"{AUTH} OTHER": 900900,
    f"{THROTTLED} API_LEVEL_LIMIT_EXCEEDED": 900800,
    f"{THROTTLED} APPLICATION_LEVEL_LIMIT_EXCEEDED": 900803,
    f"{THROTTLED} SUBSCRIPTION_LIMIT_EXCEEDED": 900804,
    f"{THROTTLED} RESOURCE_LEVEL_LIMIT_EXCEEDED": 900802,
    f"{THROTTLED} OTHER": 900800,
    f"{TARGET} CONNECTION_TIMEOUT": 101504,
    f"{TARGET} CONNECTION_SUSPENDED": _SUSPENDED,
    f"{TARGET} OTHER": 101503,
    f"{GUARDRAIL} GUARDRAIL_HIT": 900514,
    f"{GUARDRAIL} OTHER": 900514,
}

_code = pl.col("errorCode")
_status = pl.col("proxyResponseCode")


def _between(first: int, end: int) -> pl.Expr:
    return (_code >= first) & (_code < end)


@cache
def type_of_code() -> pl.Expr:
    """``errorType`` of the column ``errorCode``; null where there is no code."""
    websocket = _code.replace_strict(_WEBSOCKET, default=None, return_dtype=pl.String)
    return (
        pl.when(_between(900900, 901000) | (_code == 901101))
        .then(pl.lit(AUTH))
        .when(_between(900800, 900900))
        .then(pl.lit(THROTTLED))
        .when(_between(101500, 101600) | (_code == _SUSPENDED))
        .then(pl.lit(TARGET))
        .when(_code == 900514)
        .then(pl.lit(GUARDRAIL))
        .when(_code.is_not_null())
        .then(pl.coalesce(websocket, pl.lit(OTHER)))
    )


@cache
def sub_type_of_code() -> pl.Expr:
    """``errorMessage`` (WSO2's sub type) of the column ``errorCode``; null where the code has none."""
    return _code.replace_strict(_SUB_TYPES, default=None, return_dtype=pl.String)


@cache
def type_of_status() -> pl.Expr:
    """``errorType`` of the column ``proxyResponseCode``, or null."""
    return _status.replace_strict(
        {status: kind for status, (kind, _) in _BY_STATUS.items()}, default=None, return_dtype=pl.String
    )


@cache
def sub_type_of_status(error_type: str) -> pl.Expr:
    """Sub type of the column ``proxyResponseCode``, where it belongs to the type in column ``error_type``."""
    sub = {status: sub for status, (_, sub) in _BY_STATUS.items()}
    return pl.when(type_of_status() == pl.col(error_type)).then(
        _status.replace_strict(sub, default=None, return_dtype=pl.String)
    )


def inferred_code(error_type: str, sub_type: str) -> pl.Expr:
    """The code that WSO2 has for type and sub type (columns of these names), else the HTTP status."""
    by_both = pl.concat_str(pl.col(error_type), pl.lit(" "), pl.col(sub_type))
    by_type = pl.concat_str(pl.col(error_type), pl.lit(" OTHER"))
    table = {"default": None, "return_dtype": pl.Int32}
    return pl.coalesce(
        by_both.replace_strict(_INFERRED, **table), by_type.replace_strict(_INFERRED, **table), _status
    )
