"""Whatever log records come: nothing breaks, and every access-log record is one event."""

from __future__ import annotations

import random

import pytest

from otel_moesif.builtin import otel_moesif_dialects
from otel_moesif.dialects.dialect import Lookup
from tests.dialects.otlp import Record, apim_event, make_logs
from tests.processors.any_records import EXTREMES, NO_LOGS, asked, is_sound, plausible

LOGGING = {dialect.name: dialect for dialect in otel_moesif_dialects() if dialect.logs}
BODIES = (
    None,
    "",
    "x",
    '{"a": 1}',
    "apimMetrics: apim:response, properties :{}",
    "apimMetrics: apim:faulty, x",
    7,
)


@pytest.mark.parametrize("name", sorted(LOGGING))
def test_every_access_log_record_is_one_event_whatever_its_attributes_are(name):
    dice, table = random.Random(name), LOGGING[name].logs  # noqa: S311 - the same records every time
    known = sorted(asked(table.call, table.is_call, records=NO_LOGS).attributes) or ["x"]
    mine = apim_event(gateway=name)
    for _ in range(6):
        records = [
            Record(
                dice.choice(BODIES),
                {key: plausible(dice, key) for key in dice.choices(known, k=12)},
                trace=number % 5,
                span=number % 3,
            )
            for number in range(40)
        ]
        batch = make_logs(*records, resource={}, scope=dice.choice(("api-access", "traefik", "")))
        found = mine.process(batch).frame.to_dicts()
        assert all(is_sound(event) for event in found)
        lookup = Lookup(batch)
        is_call = table.is_call(lookup)
        assert len(found) == lookup.frame.filter(is_call).height


@pytest.mark.parametrize("name", sorted(LOGGING))
def test_no_value_breaks_anything_whatever_attribute_has_it(name):
    table = LOGGING[name].logs
    known = asked(table.call, table.is_call, records=NO_LOGS).attributes
    telling = asked(table.is_call, records=NO_LOGS).attributes
    mine, dice = apim_event(gateway=name), random.Random(1)  # noqa: S311
    for value in EXTREMES:
        attributes = dict.fromkeys(known, value) | {key: plausible(dice, key) for key in telling}
        found = mine.process(make_logs(*(Record(body, attributes) for body in BODIES))).frame.to_dicts()
        assert all(is_sound(event) for event in found), value
