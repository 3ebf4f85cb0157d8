"""``python -m otel_moesif`` is the command ``otel-moesif``."""

from otel_moesif.cli import main

main()
