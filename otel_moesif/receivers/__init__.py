"""What takes OTLP requests in."""
