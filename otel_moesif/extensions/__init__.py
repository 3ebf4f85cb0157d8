"""What runs beside the pipelines: authenticators, in the Collector's names."""
