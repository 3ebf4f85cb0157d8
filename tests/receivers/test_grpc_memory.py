"""When what large messages left behind is given back."""

from __future__ import annotations

from otel_moesif.receivers.otlp.grpc_memory import Leavings, give_back

MIB = 1 << 20


def test_it_is_time_once_no_large_message_has_come_for_a_while():
    now = [100.0]
    leavings = Leavings(lambda: now[0])
    for _ in range(3):
        leavings.note(19 * MIB)
        now[0] += 1.5
        assert not leavings.due()
    now[0] += 1
    assert [leavings.due(), leavings.due()] == [True, False]


def test_small_messages_and_few_large_ones_are_no_reason():
    now = [100.0]
    leavings = Leavings(lambda: now[0])
    for _ in range(1_000):
        leavings.note(500_000)
    leavings.note(19 * MIB)
    now[0] += 60
    assert not leavings.due()


def test_giving_back_does_no_harm():
    give_back()
    assert bytes(MIB) == bytearray(MIB)
