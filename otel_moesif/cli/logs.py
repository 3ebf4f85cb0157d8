"""The collector's own log: one line per record on stderr, for people or as JSON."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

from otel_moesif.config.model import LogEncoding, LogLevel, LogsSettings

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARN: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}
_ROOT = "otel_moesif"


def configure(settings: LogsSettings) -> None:
    """Send all logging to stderr as ``service::telemetry::logs`` says."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.encoding is LogEncoding.JSON else ConsoleFormatter())
    level = _LEVELS[settings.level]
    # Libraries never below warning: what an HTTP client says at debug level has headers in it.
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger(_ROOT).setLevel(level)
    logging.captureWarnings(capture=True)


class ConsoleFormatter(logging.Formatter):
    """``2026-01-20T03:34:36.451Z info  exporters.moesif  message``."""

    def format(self, record: logging.LogRecord) -> str:
        texts = (_component(record), record.getMessage(), *_error(record))
        return "  ".join((_time(record), f"{_level(record):<5}", *(" ".join(text.split()) for text in texts)))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, component, message; where there is one, error and stacktrace."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": _time(record),
            "level": _level(record),
            "component": _component(record),
            "message": record.getMessage(),
        }
        if error := _error(record):
            fields["error"] = error[0]
            fields["stacktrace"] = "".join(traceback.format_exception(*(record.exc_info or ())))
        return json.dumps(fields, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    time = datetime.fromtimestamp(record.created, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(record: logging.LogRecord) -> str:
    return "warn" if record.levelno == logging.WARNING else record.levelname.lower()


def _component(record: logging.LogRecord) -> str:
    return record.name.removeprefix(f"{_ROOT}.")


def _error(record: logging.LogRecord) -> list[str]:
    """The exception and the line that raised it, in one line."""
    if not record.exc_info or record.exc_info[1] is None:
        return []
    error = record.exc_info[1]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (in {frames[-1].name}, {frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return [f"{type(error).__name__}: {error}{place}"]
