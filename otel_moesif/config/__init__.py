"""From YAML to a checked configuration: load, merge, substitute, validate."""

from otel_moesif.config.build import Config, Pipeline, Unusable, validate
from otel_moesif.config.components import Configured
from otel_moesif.config.load import Raw, load
from otel_moesif.config.model import PipelineId, ServiceSettings

__all__ = [
    "Config",
    "Configured",
    "Pipeline",
    "PipelineId",
    "Raw",
    "ServiceSettings",
    "Unusable",
    "load",
    "validate",
]
