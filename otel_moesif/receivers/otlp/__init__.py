"""``otlp``: OTLP over gRPC."""
