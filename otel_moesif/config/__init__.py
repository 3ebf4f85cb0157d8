"""From YAML to a checked configuration: load, merge, substitute, validate."""
