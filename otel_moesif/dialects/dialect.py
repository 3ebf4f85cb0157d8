"""What a gateway dialect is: tables of expressions, looked up by attribute key.

A dialect says for one gateway how an API call is spelled in its spans and log records. Its tables are
functions from a `Lookup` to a mapping *name → polars expression*; they read like the gateway's own
documentation and run over all rows of a batch at once. Names are those of the analytics event
(`otel_moesif.schema.FIELDS`) and these working names, which the event itself does not have:

====================  =======  =========================================================================
name                  in       meaning
====================  =======  =========================================================================
``errorCode``         call     only a code of WSO2's own; where a gateway has none, one is inferred. So
                               ``errorType``, ``errorMessage``: only in WSO2's own words
``callKey``           call     what names the call in spans and logs alike, where that is not trace and
                               span id; the same in both, so that both give one event
``fault``             call     True: the gateway made this answer itself; False: the backend did; null:
                               decide by the common rule (`otel_moesif.processors.apim_event.outcome`)
``faultType``         call     errorType where the gateway says it; null: by the status code
``faultReason``       call     errorMessage (WSO2's sub type) likewise
``status``            backend  status that the backend answered; null or 0: none
``failed``            backend  True: no answer came
``destination``       backend  where the call went
``start``, ``end``    log      nanoseconds since the epoch
====================  =======  =========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import polars as pl

from otel_moesif.attributes import Records, Source
from otel_moesif.credentials import SENSITIVE_HEADERS
from otel_moesif.schema import HEADERS, UNKNOWN
from otel_moesif.spans import SpanKind

Fields: TypeAlias = Mapping[str, pl.Expr]

# Kong numbers the values of a header that came several times: ``set-cookie.1``, ``set-cookie.2``.
_ITEM = re.compile(r"\.\d+$")
_TRUE = ("true", "1")


class Lookup:
    """Attributes of one batch as expressions; keys that the batch does not have cost nothing.

    An expression is valid for `frame`, which holds the records' own columns and every attribute that was
    asked for.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._columns: dict[str, pl.Series] = {}
        self._loads: dict[str, Callable[[Records], pl.Series]] = {}
        self._resource_keys = frozenset(key for source in records.sources for key in source.resource)

    @property
    def keys(self) -> tuple[frozenset[str], frozenset[str]]:
        """Attribute keys and resource keys of the batch: with the same keys, a table gives the same plan."""
        return frozenset(self._records.entries), self._resource_keys

    def loads(self) -> dict[str, Callable[[Records], pl.Series]]:
        """How to get each column that was asked for; for a `replay` on another batch with the same keys."""
        return dict(self._loads)

    def replay(self, loads: Mapping[str, Callable[[Records], pl.Series]]) -> None:
        """Get the columns that a plan needs which was made on another batch with the same keys."""
        for name, load in loads.items():
            self._column(name, load)

    def text(self, *keys: str) -> pl.Expr:
        """The first of these attributes that is there, as text; ``""`` and ``-`` count as absent."""
        found = [self._attribute(key) for key in keys if key in self._records.entries]
        return self._first([_present(column) for column in found], pl.String)

    def integer(self, *keys: str) -> pl.Expr:
        """The first of these attributes that is a whole number, also when sent as text, or as ``80.0``."""
        found = [self._attribute(key) for key in keys if key in self._records.entries]
        return self._first([_whole(column) for column in found], pl.Int64)

    def size(self, *keys: str) -> pl.Expr:
        """As `integer`; a negative one, by which some gateways say that they do not know, is null."""
        value = self.integer(*keys)
        return pl.when(value >= 0).then(value)

    def last_number(self, *keys: str) -> pl.Expr:
        """The last number of a list such as NGINX makes of several attempts: ``0.012, 0.034 : 0.1``."""
        return self.text(*keys).str.extract(r"(?:^|[,:\s])([0-9.]+)\s*$").cast(pl.Float64, strict=False)

    def number(self, *keys: str) -> pl.Expr:
        """The first of these attributes that is a number, also when it was sent as text."""
        found = [self._attribute(key) for key in keys if key in self._records.entries]
        return self._first([column.cast(pl.Float64, strict=False) for column in found], pl.Float64)

    def plain(self, *keys: str) -> pl.Expr:
        """The first of these attributes that is there, in the type in which it was sent."""
        found = [self._attribute(key) for key in keys if key in self._records.entries]
        return found[0] if len(found) == 1 else self.text(*keys)

    def any(self, *keys: str) -> pl.Expr:
        """Whether a record has one of these attributes at all."""
        found = [self._attribute(key).is_not_null() for key in keys if key in self._records.entries]
        return pl.any_horizontal(found) if found else pl.lit(value=False)

    def any_under(self, *prefixes: str) -> pl.Expr:
        """Whether a record has any attribute whose key begins so."""
        return self.any(*(key for key in self._records.entries if key.startswith(prefixes)))

    def flag(self, *keys: str) -> pl.Expr:
        """Whether the first of these attributes that is there is true, also when sent as text or as ``1``."""
        return self.text(*keys).str.to_lowercase().is_in(_TRUE).fill_null(value=False)

    def resource(self, *keys: str) -> pl.Expr:
        """The first of these resource attributes that is there, as text."""
        found = []
        for key in keys:
            if key in self._resource_keys:
                column = self._column(f"resource:{key}", partial(_resource, key=key))
                found.append(_present(column))
        return self._first(found, pl.String)

    def plain_or_resource(self, *keys: str) -> pl.Expr:
        """As `plain`, and where a record has none of them, as text what its resource has."""
        if not self._resource_keys.isdisjoint(keys):
            return pl.coalesce(self.text(*keys), self.resource(*keys))
        return self.plain(*keys)

    def headers(self, prefix: str) -> pl.Expr:
        """All attributes under a prefix as one list of (key, value) per record, keys in lower case.

        Those of `SENSITIVE_HEADERS` are left out.

        Args:
            prefix: For example ``http.request.header.``; what follows is the header's name. The legacy
                spelling has ``_`` for ``-`` (semantic-conventions http-migration.md).
        """
        if not any(key.startswith(prefix) for key in self._records.entries):
            return pl.lit(None, HEADERS)
        return self._column(prefix, partial(_header_lists, prefix=prefix))

    def computed(self, name: str, load: Callable[[Records], pl.Series]) -> pl.Expr:
        """A column of the dialect's own making, once per batch: what an expression cannot do.

        Args:
            name: Tells it from other columns of the kind.
            load: Makes it from the records, aligned with their ``frame``.
        """
        return self._column(f"computed:{name}", load)

    @property
    def frame(self) -> pl.DataFrame:
        """The records' columns with all that was looked up beside them."""
        return self._records.frame.with_columns(series.alias(name) for name, series in self._columns.items())

    def _attribute(self, key: str) -> pl.Expr:
        return self._column(f"attribute:{key}", partial(_value, key=key))

    def _column(self, name: str, load: Callable[[Records], pl.Series]) -> pl.Expr:
        if name not in self._columns:
            self._columns[name] = load(self._records)
            self._loads[name] = load
        return pl.col(name)

    @staticmethod
    def _first(found: list[pl.Expr], dtype: pl.DataType | type[pl.DataType]) -> pl.Expr:
        if not found:
            return pl.lit(None, dtype)
        return found[0] if len(found) == 1 else pl.coalesce(found)


def _value(records: Records, key: str) -> pl.Series:
    return records.attribute(key)


def _resource(records: Records, key: str) -> pl.Series:
    return records.resource(key)


def _header_lists(records: Records, prefix: str) -> pl.Series:
    parts = []
    for key in records.entries:
        name = _ITEM.sub("", key.removeprefix(prefix)).lower().replace("_", "-")
        if key.startswith(prefix) and name not in SENSITIVE_HEADERS:
            values = _as_header(records.attribute(key))
            part = pl.DataFrame({"row": records.frame["row"], "value": values})
            parts.append(part.with_columns(pl.lit(name).alias("key")))
    if not parts:
        return pl.Series([None], dtype=HEADERS).new_from_index(0, len(records))
    long = pl.concat(parts).drop_nulls("value")
    lists = long.group_by("row").agg(pl.struct("key", "value").alias("headers"))
    rows = records.frame.select("row").join(lists, on="row", how="left", maintain_order="left")
    return rows["headers"].cast(HEADERS)


def _as_header(values: pl.Series) -> pl.Series:
    """As text; Kong makes doubles of headers that are numbers: ``45`` comes as ``45.0``."""
    text = values.cast(pl.String)
    return text.str.strip_suffix(".0") if values.dtype == pl.Float64 else text


def _whole(column: pl.Expr) -> pl.Expr:
    number = column.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
    return pl.coalesce(column.cast(pl.Int64, strict=False), number)


def _present(column: pl.Expr) -> pl.Expr:
    text = column.cast(pl.String)
    # is_in would cost three times as much
    return pl.when((text != "") & (text != "-") & (text != UNKNOWN)).then(text)


def _nothing(_: Lookup) -> Fields:
    return {}


def _no_span(_: Lookup) -> pl.Expr:
    return pl.lit(value=False)


@dataclass(frozen=True)
class SpanTable:
    """How a gateway's spans spell a call.

    A field of the event is what ``call`` says; else what ``backend`` says, else ``detail``, else
    ``otherwise``. So ``call`` gives null rather than a guess where a span below may know better.

    Attributes:
        call: Fields of the call, from its own span.
        backend: From a span that is one attempt at the backend, somewhere below it: ``status``, ``failed``,
            ``destination``, and any other field.
        is_backend: Which spans are such attempts.
        is_call: Which spans are calls.
        detail: Fields that other spans below the call know of it (a router, a policy, a failed check); of
            several, the one that began first and has the field.
        is_detail: Which spans these are.
        otherwise: From the call's own span, where nobody says better.
        parallel: Backends are called side by side, so that the longest attempt counts, not the last.
        absence_proves: Whether a call without any backend span surely never reached the backend. False where
            such spans are an option of the gateway: then it proves so only for a sender that was seen to
            send them.
        awaits_detail: A call is not complete without such a span either: it comes from another process, so in
            another request, and says what the call's own span does not. Every call then waits for one.
        wait: Seconds that a call without a backend span waits for one, if its sender was seen to send them;
            0 where they always come first. ``apim_event::assembly::wait`` overrides it.
    """

    call: Callable[[Lookup], Fields]
    backend: Callable[[Lookup], Fields] = _nothing
    is_backend: Callable[[Lookup], pl.Expr] = _no_span
    is_call: Callable[[Lookup], pl.Expr] = lambda _: pl.col("kind") == SpanKind.SERVER
    detail: Callable[[Lookup], Fields] = _nothing
    is_detail: Callable[[Lookup], pl.Expr] = _no_span
    otherwise: Callable[[Lookup], Fields] = _nothing
    parallel: bool = False
    absence_proves: bool = True
    awaits_detail: bool = False
    wait: float = 1.0


@dataclass(frozen=True)
class LogTable:
    """How a gateway's access log spells a call.

    Attributes:
        call: Fields of the call and of its last attempt at the backend.
        is_call: Which records are access-log records at all.
    """

    call: Callable[[Lookup], Fields]
    is_call: Callable[[Lookup], pl.Expr]


@dataclass(frozen=True)
class Dialect:
    """One gateway's attribute conventions.

    Attributes:
        name: For ``gateway:`` in the configuration, lower_snake.
        gateway_type: The event's ``gatewayType``.
        detect: Whether a sender speaks this dialect; the first dialect that says yes is taken. Given are
            the sender and the attribute keys that its records have.
        spans: How its spans are read, if it sends any.
        logs: How its access log is read, if it sends one.
        body: Regular expression (Rust's dialect) of the bodies of its log records, for a log that is text and
            comes through somebody else's hands: records are told apart one by one by it, whoever sends them.
    """

    name: str
    gateway_type: str
    detect: Callable[[Source, frozenset[str]], bool]
    spans: SpanTable | None = None
    logs: LogTable | None = None
    body: str = ""
