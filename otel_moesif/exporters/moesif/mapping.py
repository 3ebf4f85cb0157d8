"""Events become Moesif events, by columns.

The two shapes stand in `default_shape` and `wso2_shape`, each a table to be read beside Moesif's event
model. What they share is made here: times, the answer, captured content. What Moesif has no place for stands
in the metadata, under names of ours:

``requestBodyTruncated``, ``responseBodyTruncated``
    Bytes that the body had before it was cut (`content.bodies`).
``otelMoesifTrimmed``
    What was left out of an event that was too long, for example ``["response.body"]`` (`limits.fitted`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache, lru_cache

import polars as pl
from pydantic import SecretStr

from otel_moesif import Events
from otel_moesif.exporters.moesif import default_shape, wso2_shape
from otel_moesif.exporters.moesif.content import bodies, captured_headers
from otel_moesif.exporters.moesif.default_shape import BY_KIND, MARKS, uri
from otel_moesif.exporters.moesif.identity import Identity
from otel_moesif.exporters.moesif.iso_time import iso_json
from otel_moesif.exporters.moesif.settings import IdentitySettings, MoesifSettings
from otel_moesif.json_shape import JsonShape
from otel_moesif.processors.properties import COLUMN, without
from otel_moesif.schema import SCHEMA, TIMESTAMP, UNKNOWN

__all__ = ["Mapping", "to_moesif", "uri"]

# Without an address Moesif takes that of whoever delivers, which would be ours (apidocs _events-api.md);
# RFC 6890 reserves this one for "this host on this network", so it is nobody's.
_NO_ADDRESS = "0.0.0.0"  # noqa: S104 - not bound to

_FAULT = pl.col("_fault")
_ANSWERED = pl.col("proxyResponseCode") != 0  # 0: nobody was left to answer; then there is no response
_OF_MARKS = ("_requestWhole", "_responseWhole", "_leftOut")
_OF_RESPONSE = ("_responseEnd", "_responseHeaders", "_responseBody", "_responseEncoding", "_responseWhole")


def _facts(frame: pl.DataFrame) -> Iterator[str]:
    """What holds of a batch as a whole; it decides what has to be asked of each event."""
    if not frame["_fault"].any():
        yield "no faults"
    if frame["_fault"].all():
        yield "faults only"
    if _least(frame["proxyResponseCode"]) > 0:
        yield "all answered"
    if _least(frame["weight"]) > 0:
        yield "weights"


def _least(numbers: pl.Series) -> int:
    """The least of them, 0 if one is missing; to compare each with a limit takes five times as long."""
    least = 0 if numbers.null_count() else numbers.min()
    return least if isinstance(least, int) else 0


class Mapping:
    """Encodes events as Moesif has them.

    Args:
        settings: Of the exporter; of them the shape, its ids, and the size of bodies count here.
        end: What stands after each event's JSON.
    """

    def __init__(self, settings: MoesifSettings, end: str = "") -> None:
        self.end = end
        self._max_body_size = settings.max_body_size
        if settings.compatibility == "wso2":
            self._shape = JsonShape(wso2_shape.shape(settings.identity.model_fields_set), end)
            self._own_facts, self._headers, columns = wso2_shape.facts, wso2_shape.HEADERS, wso2_shape.columns
        else:
            self._shape = JsonShape(default_shape.SHAPE, end)
            self._own_facts, self._headers = default_shape.facts, default_shape.HEADERS
            columns = default_shape.columns

        def expressions(facts: frozenset[str]) -> list[pl.Expr]:
            return [*_shared(facts), *columns(facts)]

        # batches are much alike, and making expressions costs more than running them over a thousand events
        self._expressions = lru_cache(64)(expressions)

    def encode(self, frame: pl.DataFrame, left_out: pl.Series | None = None) -> pl.Series:
        """Encode each event as one Moesif event.

        Args:
            frame: Events with the columns of `identity.IDS`, and with the weight that is to be sent.
            left_out: What the caller has taken out of each event, as JSON for its metadata.

        Returns:
            One JSON object per event, as text, with what shall stand after it.
        """
        if not frame.height:
            return pl.Series("json", [], pl.String)
        faults = (frame["eventType"] == "fault").alias("_fault")
        columns = [faults, *_times(frame), *self._content(frame)]
        if left_out is not None:
            columns.append(left_out.alias("_leftOut"))
        rows = _without_marks(frame.hstack(columns))
        facts = frozenset([*(column.name for column in columns), *_facts(rows), *self._own_facts(rows)])
        return self._shape.texts(rows.with_columns_seq(self._expressions(facts)))

    def _content(self, frame: pl.DataFrame) -> list[pl.Series]:
        """Headers and bodies; columns without any are not there at all."""
        columns = []
        for way in ("request", "response"):
            columns += captured_headers(frame[f"{way}Headers"], f"_{way}Headers", self._headers[way])
            columns += bodies(frame, way, self._max_body_size)
        return columns


def _without_marks(rows: pl.DataFrame) -> pl.DataFrame:
    """Without properties that are named as our marks, where there are some: they would be there twice."""
    marks = [name for name in _OF_MARKS if name in rows.columns and rows[name].null_count() < rows.height]
    if not marks:
        return rows
    marked = rows.select(pl.any_horizontal(pl.col(marks).is_not_null())).to_series()
    texts = rows[COLUMN]
    return rows.with_columns(without(texts.set(~marked, None), MARKS).fill_null(texts).alias(COLUMN))


def to_moesif(events: Events) -> pl.Series:
    """Encode each event with the options' defaults."""
    return _default_mapping().encode(Identity(IdentitySettings()).columns(events.frame))


@cache
def _default_mapping() -> Mapping:
    return Mapping(MoesifSettings(application_id=SecretStr("unused")))


def _times(frame: pl.DataFrame) -> list[pl.Series]:
    """``_requestStart``, ``_responseEnd`` and, where it is not known of all, ``_requestTimestamp``."""
    arrival, end = frame["requestTimestamp"], frame["responseTimestamp"]
    known, is_whole = arrival, not arrival.null_count()
    if not is_whole:
        # Moesif requires a time; spans and access log records have one, so the clock is the last resort
        now = pl.lit(datetime.now(UTC), TIMESTAMP)
        arrival = frame.select_seq(pl.coalesce("requestTimestamp", "responseTimestamp", now)).to_series()
    if end.null_count():
        latency = pl.duration(milliseconds=pl.col("responseLatency").fill_null(0), time_unit="ms")
        end = frame.select_seq(pl.coalesce("responseTimestamp", pl.lit(arrival) + latency)).to_series()
    start_text, end_text, *known_text = iso_json([arrival, end, *([] if is_whole else [known])])
    return [
        start_text.alias("_requestStart"),
        end_text.alias("_responseEnd"),
        (start_text if is_whole else known_text[0]).alias("_requestTimestamp"),
    ]


def _shared(facts: frozenset[str]) -> list[pl.Expr]:
    """What both shapes have.

    Args:
        facts: What `_facts` says, and the names of the columns that there are besides the event's.
    """
    address, status, weight = pl.col("userIp"), pl.col("proxyResponseCode"), pl.col("weight")
    is_known = (address != UNKNOWN) & (address != "")
    expressions = [
        *_by_kind(facts),
        pl.when(is_known).then(address).otherwise(pl.lit(_NO_ADDRESS)).alias("_address"),
        (weight if "weights" in facts else pl.max_horizontal(weight, 1)).alias("_weight"),
        (status if "all answered" in facts else pl.when(_ANSWERED).then(status)).alias("_status"),
    ]
    if "all answered" not in facts:
        expressions += [pl.when(_ANSWERED).then(name).alias(name) for name in _OF_RESPONSE if name in facts]
    return expressions


def _by_kind(facts: frozenset[str]) -> list[pl.Expr]:
    """Fields that by the guide only one kind of event carries, as ``_errorType`` …; null in the other."""
    expressions = []
    for name, of_faults in BY_KIND.items():
        if ("faults only" if of_faults else "no faults") in facts:
            value = pl.col(name)
        elif ("no faults" if of_faults else "faults only") in facts:
            value = pl.lit(None, SCHEMA[name])
        else:
            value = pl.when(_FAULT if of_faults else ~_FAULT).then(name)
        expressions.append(value.alias(f"_{name}"))
    return expressions
