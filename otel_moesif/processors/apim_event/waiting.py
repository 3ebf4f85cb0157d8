"""What waits between batches: backend spans for their call, calls for a backend span.

The spans of one call may come in different requests and in any order. A call is complete when its own span
and one of its backend spans are there, or when it has waited as long as its gateway's dialect says: not at
all where backend spans always come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import polars as pl
from pydantic import Field

from otel_moesif.component import Held
from otel_moesif.dialects.dialect import SpanTable
from otel_moesif.processors.apim_event.assembly import CHILD, attach, climb, without_call
from otel_moesif.settings import ByteSize, Duration, Settings

WAIT, AWAITS_DETAIL = "wait", "awaits_detail"
_CHILDREN, _CALLS, _BETWEEN = "children", "calls", "between"
_LINK = ("trace_id", "span_id", "parent_span_id")
_NS_PER_S = 1_000_000_000
# The converter's own columns, see `otel_moesif.component.Held`.
_OWN = pl.Schema({"since": pl.Int64(), "piece": pl.Int64()})
_NO_CALL = pl.Schema(
    {"trace_id": pl.Binary(), "span_id": pl.Binary(), WAIT: pl.Int64(), AWAITS_DETAIL: pl.Boolean()}
)


class AssemblySettings(Settings):
    """How spans of one call find each other."""

    wait: Duration | None = Field(
        None,
        ge=timedelta(0),
        description="How long a call waits for its first backend span; by default as its gateway needs",
    )
    timeout: Duration = Field(
        timedelta(seconds=30), description="How long a backend span waits for its call's SERVER span"
    )
    max_rows: int = Field(100_000, ge=1, description="How many spans of each kind may wait at once")
    max_bytes: ByteSize = Field(64 << 20, ge=1, description="How many bytes of each kind may wait at once")


@dataclass
class Parted:
    """What goes on, and what waits.

    Attributes:
        complete: Calls, each with its last backend attempt.
        held: What waits, by name.
        due: When the first of that has waited long enough; None when nothing waits.
        dropped: Spans that left without a call, by reason.
    """

    complete: pl.DataFrame
    held: dict[str, pl.DataFrame]
    due: int | None
    dropped: dict[str, int] = field(default_factory=dict)


class Waiting:
    """Decides what waits.

    Args:
        settings: For how long, and how much.
    """

    def __init__(self, settings: AssemblySettings) -> None:
        self._settings = settings
        self._timeout = int(settings.timeout.total_seconds() * _NS_PER_S)

    def wait_of(self, table: SpanTable) -> pl.Expr:
        """How long calls of one gateway wait, in nanoseconds."""
        wait = self._settings.wait
        seconds = table.wait if wait is None else wait.total_seconds()
        return pl.lit(int(seconds * _NS_PER_S), pl.Int64)

    def part(
        self,
        calls: Sequence[pl.DataFrame],
        children: Sequence[pl.DataFrame],
        spans: pl.DataFrame,
        held: Held,
    ) -> Parted:
        """Bring together what belongs together.

        Args:
            calls: New ones, with the columns `WAIT` and `AWAITS_DETAIL`.
            children: New ones, as `CHILD`.
            spans: All spans of the batch: what stands between them.
            held: What waits since earlier batches.
        """
        below = _together([held.rows.get(_CHILDREN), *children])
        known = _calls([held.rows.get(_CALLS), *calls])
        between = _links(held.rows.get(_BETWEEN), spans)
        below = climb(below, known, between)
        whole = attach(known, below)
        leaves = self._leave(known, whole["backend_end"].is_not_null() & _told(known, below), held)
        complete, patient = whole.filter(leaves), known.filter(~leaves)
        kept, dropped = self._keep(without_call(below, complete), held)
        waiting = {_CHILDREN: kept, _CALLS: patient, _BETWEEN: self._of_traces(between, patient)}
        return Parted(complete, waiting, self._due(kept, patient, held), dropped)

    def _of_traces(self, between: pl.DataFrame, patient: pl.DataFrame) -> pl.DataFrame:
        """What may stand between a call that waits and what it waits for; it leaves with its call."""
        if not patient.height:
            return between.clear()
        traces = patient.select("trace_id").unique()
        return between.join(traces, on="trace_id", how="semi", maintain_order="left").tail(
            self._settings.max_rows
        )

    def _leave(self, calls: pl.DataFrame, answered: pl.Series, held: Held) -> pl.Series:
        """Which calls go on, and need not wait any more; beyond the bounds the oldest go on."""
        if held.ending or not (calls[WAIT] > 0).any():
            return answered | True
        over = calls.select(_since(calls, held.now) + pl.col(WAIT) <= held.now).to_series()
        leaves = answered | over
        patient = (~leaves).cum_sum()
        surplus = int(patient[-1]) - self._room(calls.filter(~leaves))
        return leaves | (patient <= surplus)

    def _keep(self, children: pl.DataFrame, held: Held) -> tuple[pl.DataFrame, dict[str, int]]:
        """Let go of spans that waited too long for their call or are too many, oldest first."""
        if held.ending:
            return children.clear(), {"span without a call": children.height}
        kept = children.filter(_since(children, held.now) + self._timeout > held.now)
        bounded = kept.tail(self._room(kept))
        dropped = {
            "span without a call": children.height - kept.height,
            "too many spans waiting": kept.height - bounded.height,
        }
        return bounded, dropped

    def _room(self, rows: pl.DataFrame) -> int:
        """How many of these rows may wait."""
        size = int(rows.estimated_size())
        if size <= self._settings.max_bytes:
            return min(rows.height, self._settings.max_rows)
        return min(rows.height * self._settings.max_bytes // size, self._settings.max_rows)

    def _due(self, children: pl.DataFrame, calls: pl.DataFrame, held: Held) -> int | None:
        ends = []
        if children.height:
            ends.append(children.select(_since(children, held.now).min()).item() + self._timeout)
        if calls.height:
            ends.append(calls.select((_since(calls, held.now) + pl.col(WAIT)).min()).item())
        return min(ends, default=None)


def _calls(parts: Sequence[pl.DataFrame | None]) -> pl.DataFrame:
    """Calls of earlier and of this batch."""
    there = [part for part in parts if part is not None]
    return pl.concat([_NO_CALL.to_frame(), *there], how="diagonal_relaxed")


def _links(earlier: pl.DataFrame | None, spans: pl.DataFrame) -> pl.DataFrame:
    """Which span stands below which, of this batch and of those before, where a call still waits."""
    new = spans.select(_LINK)
    return new if earlier is None else pl.concat([earlier, new], how="diagonal_relaxed")


def _told(calls: pl.DataFrame, below: pl.DataFrame) -> pl.Series:
    """Which calls have the detail that they wait for, or wait for none."""
    patient = calls[AWAITS_DETAIL].fill_null(value=False)
    if not patient.any():
        return ~patient
    details = below.filter(~pl.col("attempt")).select("trace_id", span_id="parent_span_id", there=True)
    found = calls.join(
        details.unique(["trace_id", "span_id"]), on=["trace_id", "span_id"], how="left", maintain_order="left"
    )
    return ~patient | found["there"].fill_null(value=False)


def _together(parts: Sequence[pl.DataFrame | None]) -> pl.DataFrame:
    """Spans below calls, of earlier and of this batch."""
    there = [part for part in parts if part is not None]
    empty = pl.Schema([*CHILD.items(), *_OWN.items()]).to_frame()
    return pl.concat([empty, *there], how="diagonal_relaxed")


def _since(rows: pl.DataFrame, now: int) -> pl.Expr:
    return pl.col("since").fill_null(now) if "since" in rows.columns else pl.lit(now, pl.Int64)
