"""``enrich``: what events do not say, from a table in a file."""
