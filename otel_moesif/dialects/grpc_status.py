"""What a gRPC status amounts to as an HTTP status: it is the latter that the event's fields speak of."""

from __future__ import annotations

import polars as pl

# gRPC code → its name and HTTP status, as google/rpc/code.proto maps them.
_GRPC: dict[int, tuple[str, int]] = {
    0: ("OK", 200),
    1: ("CANCELLED", 499),
    2: ("UNKNOWN", 500),
    3: ("INVALID_ARGUMENT", 400),
    4: ("DEADLINE_EXCEEDED", 504),
    5: ("NOT_FOUND", 404),
    6: ("ALREADY_EXISTS", 409),
    7: ("PERMISSION_DENIED", 403),
    8: ("RESOURCE_EXHAUSTED", 429),
    9: ("FAILED_PRECONDITION", 400),
    10: ("ABORTED", 409),
    11: ("OUT_OF_RANGE", 400),
    12: ("UNIMPLEMENTED", 501),
    13: ("INTERNAL", 500),
    14: ("UNAVAILABLE", 503),
    15: ("DATA_LOSS", 500),
    16: ("UNAUTHENTICATED", 401),
}
_UNKNOWN_GRPC = 500


def http_status(status: pl.Expr, grpc: pl.Expr) -> pl.Expr:
    """The status that an answer amounts to.

    A gRPC answer is HTTP 200 whatever became of the call, also where Envoy made it; what it says is in its
    own code, which counts here under the HTTP status that code.proto gives it.

    Args:
        status: HTTP status.
        grpc: gRPC code as a number (spans) or in one of the spellings of ``%GRPC_STATUS%``.
    """
    names = {name.replace("_", ""): code for code, (name, _) in _GRPC.items()}
    spelled = grpc.str.replace_all("_", "", literal=True).str.to_uppercase()
    by_name = spelled.replace_strict(names, default=None, return_dtype=pl.Int64)
    code = pl.coalesce(grpc.cast(pl.Int64, strict=False), by_name)
    of_code = code.replace_strict(
        {number: http for number, (_, http) in _GRPC.items()}, default=_UNKNOWN_GRPC, return_dtype=pl.Int64
    )
    return pl.when((code > 0) & (status < 400)).then(of_code).otherwise(status)
