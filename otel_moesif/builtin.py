"""The components and dialects that come with otel-moesif, entering by the same door as anybody's."""

from __future__ import annotations

from otel_moesif.component import Factory
from otel_moesif.dialects.apisix import APISIX
from otel_moesif.dialects.aws_xray import AWS_XRAY
from otel_moesif.dialects.caddy import CADDY
from otel_moesif.dialects.dialect import Dialect
from otel_moesif.dialects.envoy import ENVOY
from otel_moesif.dialects.envoy_gateway import ENVOY_GATEWAY
from otel_moesif.dialects.gravitee import GRAVITEE
from otel_moesif.dialects.istio import ISTIO
from otel_moesif.dialects.kong import KONG
from otel_moesif.dialects.krakend import KRAKEND
from otel_moesif.dialects.nginx import NGINX
from otel_moesif.dialects.semconv import SEMCONV
from otel_moesif.dialects.spring_cloud_gateway import SPRING_CLOUD_GATEWAY
from otel_moesif.dialects.traefik import TRAEFIK
from otel_moesif.dialects.tyk import TYK
from otel_moesif.dialects.wso2_api_platform import WSO2_API_PLATFORM
from otel_moesif.dialects.wso2_choreo_connect import WSO2_CHOREO_CONNECT
from otel_moesif.dialects.wso2_metrics_log import WSO2_METRICS_LOG
from otel_moesif.dialects.wso2_synapse import WSO2_SYNAPSE
from otel_moesif.exporters.debug import FACTORY as DEBUG
from otel_moesif.exporters.file import FACTORY as FILE
from otel_moesif.exporters.moesif import FACTORY as MOESIF
from otel_moesif.extensions.basic_auth import FACTORY as BASIC_AUTH
from otel_moesif.extensions.bearer_token_auth import FACTORY as BEARER_TOKEN_AUTH
from otel_moesif.extensions.oidc import FACTORY as OIDC
from otel_moesif.hookspecs import hookimpl
from otel_moesif.processors.apim_event.processor import FACTORY as APIM_EVENT
from otel_moesif.processors.enrich.processor import FACTORY as ENRICH
from otel_moesif.processors.filter import FACTORY as FILTER
from otel_moesif.processors.redact.processor import FACTORY as REDACT
from otel_moesif.processors.sample import FACTORY as SAMPLE
from otel_moesif.processors.transform import FACTORY as TRANSFORM
from otel_moesif.receivers.otlp.receiver import FACTORY as OTLP


@hookimpl
def otel_moesif_components() -> list[Factory]:
    """The built-in components."""
    extensions = [BEARER_TOKEN_AUTH, BASIC_AUTH, OIDC]
    return [OTLP, APIM_EVENT, FILTER, TRANSFORM, REDACT, SAMPLE, ENRICH, MOESIF, FILE, DEBUG, *extensions]


@hookimpl
def otel_moesif_dialects() -> list[Dialect]:
    """The built-in dialects; ``semconv`` takes what no other does, so it stands last."""
    return [
        WSO2_METRICS_LOG,
        KONG,
        APISIX,
        TRAEFIK,
        KRAKEND,
        GRAVITEE,
        TYK,
        WSO2_API_PLATFORM,
        WSO2_CHOREO_CONNECT,
        ENVOY_GATEWAY,
        ISTIO,
        ENVOY,
        NGINX,
        SPRING_CLOUD_GATEWAY,
        CADDY,
        AWS_XRAY,
        WSO2_SYNAPSE,
        SEMCONV,
    ]
