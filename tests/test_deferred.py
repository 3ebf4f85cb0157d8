"""What processors count of a batch that is run again, in halves, counts once."""

from __future__ import annotations

from collections import Counter
from typing import cast

import pytest
from opentelemetry.metrics import Meter

from otel_moesif.component import Signal
from otel_moesif.config.model import MetricsSettings
from otel_moesif.deferred import DeferredMeter
from otel_moesif.journal.rows import RawRequest
from otel_moesif.pipeline import Pipeline
from otel_moesif.telemetry import Telemetry
from tests.test_delivery_core import Poison, server


class Instruments:
    """Stands for the collector's meter."""

    def __init__(self):
        self.counts = Counter()

    def create_counter(self, name, unit="", description=""):
        counts = self.counts

        class Instrument:
            def add(self, amount, attributes=None, context=None):
                counts[name, *(attributes or {}).values()] += amount

        return Instrument()

    def create_histogram(self, name):
        return f"histogram {name}"


class Filtering:
    """Counts the rows that it sees."""

    def __init__(self, meter):
        self.counter = meter.create_counter("seen", description="Rows")

    def process(self, batch):
        self.counter.add(len(batch), {"processor": "filter"})
        return batch


@pytest.mark.parametrize("guilty", [0, 3, 7])
def test_a_bisected_batch_is_counted_once(guilty):
    instruments = Instruments()
    meter = DeferredMeter(cast("Meter", instruments))
    telemetry = Telemetry(MetricsSettings(level="none", address=None), {})
    processors = [("filter", Filtering(meter)), ("poison", Poison(ValueError))]
    pipeline = Pipeline("traces", Signal.TRACES, frozenset({"otlp"}), processors, ("a",), telemetry, meter)
    numbers = [13 if place == guilty else 100 + place for place in range(8)]
    requests = [
        RawRequest("otlp", Signal.TRACES, server(number), id=place) for place, number in enumerate(numbers)
    ]
    outcome = pipeline.run(requests, {}, 0)
    assert [letter.body for letter in outcome.dead_letters] == [server(13)]
    assert instruments.counts == {("seen", "filter"): 7}


def test_everything_but_counters_is_the_collectors():
    assert DeferredMeter(cast("Meter", Instruments())).create_histogram("sizes") == "histogram sizes"
