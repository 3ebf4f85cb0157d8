"""What every test needs: that the ones before it leave nothing behind."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def _log_levels_as_before():
    """The command line sets levels for the whole process; the next test wants to see all lines again."""
    loggers = [logging.getLogger(), logging.getLogger("otel_moesif")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
