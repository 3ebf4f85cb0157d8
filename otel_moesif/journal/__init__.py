"""The journal: what was acknowledged, until every exporter has it.

Imports nothing, so that the configuration can know the journal's settings without loading the journal.
"""
