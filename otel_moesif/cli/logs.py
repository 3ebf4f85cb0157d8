"""The collector's own log: one line per record on stderr, for people or as JSON."""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from datetime import UTC, datetime

from otel_moesif.config.model import LogEncoding, LogLevel, LogsSettings
from otel_moesif.errors import describe

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
    threading.excepthook = _thread_failed


class ConsoleFormatter(logging.Formatter):
    """``2026-01-20T03:34:36.451Z info  exporters.moesif  message``."""

    def format(self, record: logging.LogRecord) -> str:
        texts = (_component(record), _message(record), *_error(record))
        return "  ".join((_time(record), f"{_level(record):<5}", *(" ".join(text.split()) for text in texts)))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, component, message; where there is one, error and stacktrace."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": _time(record),
            "level": _level(record),
            "component": _component(record),
            "message": _message(record),
        }
        if error := _error(record):
            fields["error"] = error[0]
            fields["stacktrace"] = _frames(record)
        return json.dumps(fields, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    time = datetime.fromtimestamp(record.created, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(record: logging.LogRecord) -> str:
    return "warn" if record.levelno == logging.WARNING else record.levelname.lower()


def _component(record: logging.LogRecord) -> str:
    return record.name.removeprefix(f"{_ROOT}.")


def _message(record: logging.LogRecord) -> str:
    """What it says; of asyncio's own the beginning: what follows shows arguments and the errors' texts."""
    message = record.getMessage()
    return message.partition("\n")[0].partition("(")[0].rstrip() if record.name == "asyncio" else message


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None:
        name = failed.thread.name if failed.thread else "?"
        logging.getLogger(_ROOT).error("the thread %s failed", name, exc_info=failed.exc_value)


def _frames(record: logging.LogRecord) -> str:
    """Where it came from, without the exception's own text, see `describe`."""
    return "".join(traceback.format_tb(record.exc_info[2] if record.exc_info else None))


def _error(record: logging.LogRecord) -> list[str]:
    """The exception and the line that raised it, in one line."""
    if not record.exc_info or record.exc_info[1] is None:
        return []
    return [describe(record.exc_info[1])]
