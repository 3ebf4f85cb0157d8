"""A collector that cannot take more says so in the words that make clients come again, and takes it then."""

from __future__ import annotations

import json
import os
import threading

import pytest

from tests.e2e.collector import Collector
from tests.e2e.frontdoor.answers import Answer, doors
from tests.e2e.frontdoor.payloads import as_json, calls
from tests.processes import until

NOWHERE = {"moesif": "http://127.0.0.1:9"}


def _filling(*, as_text: bool) -> bytes:
    """A call whose event is large, and does not compress: it stays while no backend takes it."""
    request = calls(1, path=f"/{os.urandom(100_000).hex()}")
    return json.dumps(as_json(request)).encode() if as_text else request.body


def _expect_overload(answer: Answer, protocol: str) -> None:
    assert answer.code == "UNAVAILABLE"
    assert answer.retry is not None
    assert answer.retry > 0
    assert "try again" in answer.message
    if protocol != "grpc":
        assert answer.http == 503
        assert int(answer.headers["retry-after"]) >= answer.retry


def test_a_full_journal_is_an_overload(tmp_path):
    collector = Collector(tmp_path, NOWHERE, http={})
    collector.config["service"]["journal"]["max_size"] = "4MiB"
    with collector.run() as process, doors(collector) as opened:
        for protocol, door in opened.items():

            def refusal(protocol=protocol, door=door) -> Answer | None:
                answer = door.send(_filling(as_text=protocol == "json"))
                return None if answer.code == "OK" else answer

            _expect_overload(until(refusal, "a refusal", timeout=30), protocol)
        assert process.exit_code is None
        assert 'reason="journal is full"' in collector.metrics()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_more_than_may_wait_is_an_overload_for_some_and_none_is_lost(tmp_path, protocol):
    collector = Collector(tmp_path, NOWHERE, http={}, intake={"max_bytes": "2KiB"})
    answers: list[Answer] = []
    with collector.run(), doors(collector) as opened:
        bodies = [calls(2).body for _ in range(60)]
        threads = [
            threading.Thread(target=lambda b=b: answers.append(opened[protocol].send(b))) for b in bodies
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [answer for answer in answers if answer.code != "OK"]
        assert len(answers) == 60
        assert len(refused) < 60
        for answer in refused:
            _expect_overload(answer, protocol)
        # What can never be taken, however little waits, is no overload.
        assert opened[protocol].send(calls(20).body).code == "RESOURCE_EXHAUSTED"
