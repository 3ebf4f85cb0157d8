"""AWS X-Ray segments (API Gateway, load balancers, X-Ray SDKs) as the Collector's awsxrayreceiver has them.

Source: opentelemetry-collector-contrib receiver/awsxrayreceiver/internal/translator/{translator,http,aws,
name,sdk}.go and internal/aws/xray (attribute names). A segment becomes a SERVER span, a subsegment with a
namespace a CLIENT span, both with the legacy HTTP names; the resource's ``service.name`` is the segment's
name, which for an API Gateway is ``api/stage``. A segment may be sent twice: first marked
``aws.xray.inprogress``, without an end, then whole under the same id.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.attributes import Source
from otel_moesif.dialects import semconv
from otel_moesif.dialects.dialect import Dialect, Fields, Lookup, SpanTable

_ARN = "aws.xray.resource_arn"
_IN_PROGRESS = "aws.xray.inprogress"
# Only the receiver sets these; ``aws.xray.annotations`` is also what programs set for the exporter.
_KEYS = frozenset({_IN_PROGRESS, "aws.xray.x_forwarded_for", "aws.xray.traced"})
_SDK = "X-Ray "  # "X-Ray for Go" (translator/sdk.go)
# arn:aws:apigateway:us-east-1::/restapis/m5zr3vnks7/stages/test (API Gateway developer guide)
_ARN_REGION = r"^arn:[^:]*:[^:]*:([^:]+):"
_ARN_API = r":/(?:restapis|apis)/([^/]+)"
_ARN_STAGE = r":/(?:restapis|apis)/[^/]+/stages/([^/]+)$"


def call(a: Lookup) -> Fields:
    """The call, from its segment."""
    arn, name = a.resource(_ARN), a.resource("service.name")
    stage = pl.concat_str(pl.lit("/"), arn.str.extract(_ARN_STAGE))
    zone = a.resource("cloud.availability_zone").str.extract(r"^(.*\d)[a-z]$")  # us-east-1a
    return {
        **semconv.call(a),
        "apiName": pl.when(name.str.ends_with(stage)).then(name.str.strip_suffix(stage)).otherwise(name),
        "apiId": pl.coalesce(arn.str.extract(_ARN_API), arn),
        "apiCreatorTenantDomain": pl.coalesce(a.text("aws.account_id"), a.resource("cloud.account.id")),
        "regionId": pl.coalesce(
            arn.str.extract(_ARN_REGION), a.text("aws.region"), a.resource("cloud.region"), zone
        ),
    }


def backend(a: Lookup) -> Fields:
    """An integration or remote call, from its subsegment, which is named by its host or AWS service."""
    return {
        **semconv.backend(a),
        "destination": pl.coalesce(a.text("http.url", "url.full"), pl.col("name")),
    }


def is_call(a: Lookup) -> pl.Expr:
    """Segments of HTTP that are whole."""
    return semconv.is_call(a) & ~_in_progress(a)


def is_backend(a: Lookup) -> pl.Expr:
    """Subsegments of HTTP that are whole; of AWS's own services Lambda, or whatever an API Gateway calls."""
    service = a.text("aws.service")
    integration = service.is_null() | (service.str.to_lowercase() == "lambda")
    gateway = a.resource(_ARN).str.contains(":apigateway:", literal=True).fill_null(value=False)
    return semconv.is_backend(a) & (integration | gateway) & ~_in_progress(a)


def _in_progress(a: Lookup) -> pl.Expr:
    return (a.text(_IN_PROGRESS) == "true").fill_null(value=False)


def _detect(source: Source, keys: frozenset[str]) -> bool:
    return (
        not keys.isdisjoint(_KEYS)
        or _ARN in source.resource
        or str(source.resource.get("telemetry.sdk.name", "")).startswith(_SDK)
    )


AWS_XRAY = Dialect(
    name="aws_xray",
    gateway_type="AWS_XRAY",
    detect=_detect,
    # Whether subsegments exist depends on what is instrumented.
    spans=SpanTable(call, backend, is_backend, is_call, absence_proves=False),
)
