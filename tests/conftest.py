"""What every test needs: that the ones before it leave nothing behind."""

from __future__ import annotations

import logging
import threading

import pytest

from otel_moesif.cli.logs import ConsoleFormatter, JsonFormatter


@pytest.fixture(autouse=True)
def _logging_as_before():
    """The command line sends the whole process's log to a stderr that is closed when its test is over."""
    root = logging.getLogger()
    loggers = [root, logging.getLogger("otel_moesif")]
    levels = [logger.level for logger in loggers]
    hook = threading.excepthook
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    for handler in list(root.handlers):
        if isinstance(handler.formatter, (ConsoleFormatter, JsonFormatter)):
            root.removeHandler(handler)
    logging.captureWarnings(capture=False)
    threading.excepthook = hook
