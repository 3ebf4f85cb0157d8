"""What each answer of the collector API makes of a batch."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from otel_moesif import PausedError, PermanentError, RetryableError
from otel_moesif.exporters.moesif.answer import (
    ANSWER_CAP,
    excerpt,
    failure,
    masked,
    read_capped,
    remedy,
    retry_after_seconds,
)

PAUSED = {401, 402, 403, 407}
PERMANENT = {400, 413, 422}
SUCCESS = set(range(200, 300))


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_any_2xx_is_success(status):
    assert failure(status, "", None) is None
    assert remedy(status) == ""


def test_every_other_status_has_one_meaning():
    meanings = {status: type(failure(status, "", None)) for status in range(100, 600)}
    assert {status for status, meaning in meanings.items() if meaning is type(None)} == SUCCESS
    assert {status for status, meaning in meanings.items() if meaning is PausedError} == PAUSED
    assert {status for status, meaning in meanings.items() if meaning is PermanentError} == PERMANENT
    others = {status for status, meaning in meanings.items() if meaning is RetryableError}
    assert others == set(range(100, 600)) - SUCCESS - PAUSED - PERMANENT


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_a_busy_backend_is_asked_again_when_it_says(status):
    error = failure(status, "busy", 17.0)
    assert (str(error), error.retry_after) == (f"HTTP {status}: busy", 17.0)


@pytest.mark.parametrize("status", [100, 101, 103, 301, 302, 304, 307, 308, 404, 405, 406, 410])
def test_a_wrong_endpoint_says_nothing_about_the_events(status):
    error = failure(status, "", None)
    assert str(error) == (
        f"HTTP {status} (check endpoint: it must be the base URL of Moesif's collector API, "
        "https://api.moesif.net; events are kept until then)"
    )


@pytest.mark.parametrize("status", [409, 415, 418, 421, 451])
def test_what_moesif_never_answers_costs_no_events(status):
    error = failure(status, "blocked", None)
    assert type(error) is RetryableError
    assert "what stands between" in str(error)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "check application_id: the Collector Application Id under API Keys in Moesif's account menu"),
        (402, "the subscription at Moesif is not active"),
        (403, "check application_id, and whether it may write"),
        (407, "the proxy wants a user and a password: set proxy_url"),
    ],
)
def test_where_somebody_has_to_do_something_it_is_said(status, said):
    error = failure(status, "no", 3.0)
    assert isinstance(error, PausedError)
    assert str(error).startswith(f"HTTP {status}: no ({said}")
    assert str(error).endswith("; events are kept until then)")
    assert error.retry_after == 3.0


@pytest.mark.parametrize("status", sorted(PERMANENT))
def test_a_refusal_of_the_events_keeps_what_was_said(status):
    error = failure(status, "x" * 1000, 5.0)
    assert str(error) == f"HTTP {status}: {'x' * 300}"
    assert error.response == "x" * 1000


# -- secrets -------------------------------------------------------------------------------------------


def test_an_application_id_that_an_answer_repeats_is_masked():
    echoed = "eyJhcHAiOiJ0ZXN0In0.secret-part-wxyz"
    assert excerpt(f"no such id: {echoed}, {echoed}".encode(), echoed) == "no such id: …wxyz, …wxyz"


@pytest.mark.parametrize(
    ("secret", "shown"), [("twelve-chars", "…hars"), ("eleven-char", "…"), ("a", "…"), ("", "…")]
)
def test_only_a_secret_that_is_long_enough_shows_its_end(secret, shown):
    assert masked(secret) == shown


def test_an_excerpt_is_one_line_of_printable_text():
    assert excerpt(b"a\n\x1b[31m\tb\xff\x00", "secret-secret") == "a ?[31m b\N{REPLACEMENT CHARACTER}?"
    assert len(excerpt(b"x" * 10_000, "secret-secret")) == 2000


# -- bodies --------------------------------------------------------------------------------------------


def test_a_body_is_read_up_to_the_cap_and_no_further():
    asked = 0

    async def chunks():
        nonlocal asked
        while True:
            asked += 1
            yield b"x" * 10_000

    assert len(asyncio.run(read_capped(chunks()))) == ANSWER_CAP
    assert asked == 7
    assert asyncio.run(read_capped(chunks(), 5)) == b"xxxxx"


# -- Retry-After ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 1.5 ", 1.5),
        ("999999999", 3600),
        ("9" * 20, None),
        ("", None),
        (None, None),
        ("-1", None),
        ("soon", None),
        ("٣", None),
        ("1e3", None),
        ("Mon, 01 Jan 2020 99999999999999999999:00:00 GMT", None),
        ("Fri, 31 Dec 99999999999 23:59:59 GMT", None),
    ],
)
def test_seconds_to_wait(value, seconds):
    assert retry_after_seconds(value) == seconds


def test_a_date_to_come_back():
    now = datetime.now(UTC)
    assert 55 < retry_after_seconds(format_datetime(now + timedelta(minutes=1), usegmt=True)) <= 60
    assert retry_after_seconds(format_datetime(now - timedelta(minutes=1), usegmt=True)) == 0
    assert retry_after_seconds(format_datetime(now + timedelta(days=9), usegmt=True)) == 3600


def test_a_date_to_come_back_is_one_of_the_senders_clock():
    sent, until = "Thu, 01 Jan 2015 10:00:00 GMT", "Thu, 01 Jan 2015 10:00:40 GMT"
    assert retry_after_seconds(until, sent) == 40
    assert retry_after_seconds(until, "nonsense") == 0
