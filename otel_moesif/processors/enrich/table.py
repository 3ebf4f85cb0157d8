"""A table in a file, read again when the file changes."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from otel_moesif.processors.properties import compact

_EVERY = 1.0
"""Seconds between two looks at the file."""
TEXT, JSON = "text:", "json:"
"""What stands before a column's name in the table: its cells as text, and as JSON of the file's own type."""


class Table:
    """Rows of a CSV, JSON or YAML file by their key.

    Args:
        file: ``.csv`` with a header line; ``.json``, ``.yaml`` or ``.yml`` with a list of maps.
        keys: The columns to look up by; of rows with the same key the first counts.
        values: The columns that are wanted.
        logger: Told of duplicates, and of a file that cannot be read any more.
        failed: Called for each time that the file changed and could not be used.
        clock: Seconds.

    Raises:
        ValueError: The file cannot be used; without any of its cells.
    """

    def __init__(
        self,
        file: Path,
        keys: Sequence[str],
        values: Sequence[str],
        logger: logging.Logger,
        failed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file, self._keys, self._values = file, list(keys), list(values)
        self._logger, self._failed, self._clock = logger, failed, clock
        self._said = ""
        self._looked = clock()
        self._stamp: tuple[int, ...] | None = None
        stamp = self._state()
        self._rows = self._read()
        self._stamp = stamp

    def rows(self) -> pl.DataFrame:
        """The table as it was last readable: `TEXT` of keys and values, and `JSON` of the values."""
        now = self._clock()
        if now - self._looked >= _EVERY:
            self._looked = now
            self._look()
        return self._rows

    def _look(self) -> None:
        try:
            stamp = self._state()
            if stamp == self._stamp:
                self._said = ""
                return
            self._rows = self._read()
        except ValueError as error:
            # the same trouble again is no news
            if self._said != str(error):
                self._said = str(error)
                self._failed()
                self._logger.warning("%s; the table that was read before stays in use", error)
            return
        self._stamp, self._said = stamp, ""
        self._logger.info("%s: read again, %d rows", self._file, self._rows.height)

    def _state(self) -> tuple[int, ...]:
        """What tells one state of the file from another; the inode, since editors replace files."""
        try:
            status = self._file.stat()
        except OSError as error:
            raise ValueError(f"cannot read {self._file}: {error.strerror}") from None
        return status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns

    def _read(self) -> pl.DataFrame:
        try:
            cells = _READERS[self._file.suffix.lower()](self._file)
        except OSError as error:
            raise ValueError(f"cannot read {self._file}: {error.strerror or 'input/output error'}") from None
        except KeyError:
            raise ValueError(f"{self._file} has to end with {', '.join(_READERS)}") from None
        except ValueError as error:
            raise ValueError(f"cannot use {self._file}: {error}") from None
        known = [name.removeprefix(TEXT) for name in cells.columns if name.startswith(TEXT)]
        missing = [name for name in (*self._keys, *self._values) if name not in known]
        if missing:
            raise ValueError(
                f"cannot use {self._file}: it has no column {', '.join(dict.fromkeys(missing))} "
                f"(columns: {', '.join(known)})"
            )
        keys = [f"{TEXT}{name}" for name in self._keys]
        wanted = [f"{sort}{name}" for name in self._values for sort in (TEXT, JSON)]
        rows = cells.select(list(dict.fromkeys([*keys, *wanted]))).drop_nulls(keys)
        first = rows.unique(keys, keep="first", maintain_order=True)
        if first.height < rows.height:
            self._logger.warning(
                "%s: %d rows have the key of an earlier one and are not used",
                self._file,
                rows.height - first.height,
            )
        return first


def _csv(file: Path) -> pl.DataFrame:
    data = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        cells = pl.read_csv(data, infer_schema=False)
    except pl.exceptions.NoDataError:
        raise ValueError("it is empty") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ValueError(f"it is no CSV in UTF-8 with a header line ({type(error).__name__})") from None
    if cells.width == 0:
        raise ValueError("it is empty")
    return _both(cells.columns, cells.rows())


def _json(file: Path) -> pl.DataFrame:
    try:
        return _maps(json.loads(file.read_bytes()))
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON (line {error.lineno}: {error.msg})") from None
    except (UnicodeDecodeError, RecursionError):
        raise ValueError("it is no JSON") from None


def _yaml(file: Path) -> pl.DataFrame:
    try:
        data = yaml.safe_load(file.read_bytes())
    except yaml.MarkedYAMLError as error:
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ValueError(f"it is no YAML{line}") from None
    except (yaml.YAMLError, RecursionError):
        raise ValueError("it is no YAML") from None
    return _maps(data)


_READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": _csv,
    ".json": _json,
    ".yaml": _yaml,
    ".yml": _yaml,
}


def _maps(data: Any) -> pl.DataFrame:
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise ValueError("it has to be a list of maps")
    names = list(dict.fromkeys(str(name) for row in data for name in row))
    rows = [{str(name): cell for name, cell in row.items()} for row in data]
    return _both(names, [[row.get(name) for name in names] for row in rows])


def _both(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    columns: dict[str, list[str | None]] = {}
    for number, name in enumerate(names):
        cells = [row[number] for row in rows]
        columns[f"{TEXT}{name}"] = [_text(cell) for cell in cells]
        columns[f"{JSON}{name}"] = [None if cell is None else _as_json(cell) for cell in cells]
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def _text(cell: Any) -> str | None:
    if cell is None or isinstance(cell, str):
        return cell
    return cell.isoformat() if isinstance(cell, date) else _as_json(cell)


def _as_json(cell: Any) -> str:
    if isinstance(cell, str | bool | int):
        return compact(cell)
    try:
        return compact(json.loads(json.dumps(cell, default=str, allow_nan=False)))
    except (ValueError, TypeError, RecursionError):
        raise ValueError("a cell has a value that JSON does not know") from None
