"""The sandbox answers as Moesif documents, and says what is wrong with what it gets."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parents[4] / "shared" / "fixtures" / "moesif"


def test_takes_one_event_and_a_batch(run, event):
    async def scenario(sandbox, client):
        one, two, three = event(), event(), event()
        single = await client.post("/v1/events", json=one)
        batch = await client.post("/v1/events/batch", json=[two, three])
        assert (single.status_code, batch.status_code) == (201, 201)
        assert sandbox.events == [one, two, three]

    run(scenario)


@pytest.mark.parametrize("name", ["apidocs_event_single", "apidocs_events_batch", "python_events_batch_6"])
def test_takes_what_moesif_documents(run, name):
    path = FIXTURES / f"{name}.json"
    if not path.exists():
        pytest.skip("the captured payloads are not here")
    body = json.loads(path.read_text())

    async def scenario(sandbox, client):
        answer = await client.post(f"/v1/events{'/batch' if isinstance(body, list) else ''}", json=body)
        assert answer.status_code == 201, answer.text

    run(scenario)


def test_names_the_event_and_the_field_that_is_wrong(run, event):
    async def scenario(sandbox, client):
        answer = await client.post("/v1/events/batch", json=[event(), event({"request.uri": "x/y"}), event()])
        assert answer.status_code == 400
        (fault,) = answer.json()["faults"]
        assert (fault["index"], fault["field"]) == (1, "request.uri")
        assert fault["message"] == "must be an absolute URI: protocol, host, path and query string"
        assert sandbox.events == []  # all or nothing
        (reason,) = sandbox.stats["rejected"]
        assert reason == f"400 an event is not valid (request.uri: {fault['message']})"

    run(scenario)


def test_an_index_counts_through_the_slices(run, event):
    async def scenario(sandbox, client):
        events = [event() for _ in range(1500)]
        events[1234]["weight"] = 0
        answer = await client.post("/v1/events/batch", json=events)
        assert answer.json()["faults"][0]["index"] == 1234

    run(scenario)


@pytest.mark.parametrize("body", [b"", b"{", b"[1,", b"\xff", b'{"a": NaN}', b"[" * 100_000])
def test_what_is_not_json_is_refused(run, body):
    async def scenario(sandbox, client):
        answer = await client.post("/v1/events/batch", content=body)
        assert (answer.status_code, answer.json()["error"]) == (400, "body is not JSON")

    run(scenario)


def test_a_batch_is_an_array_and_an_event_an_object(run, event):
    async def scenario(sandbox, client):
        assert (await client.post("/v1/events/batch", json=event())).status_code == 400
        assert (await client.post("/v1/events", json=[event()])).status_code == 400
        assert (await client.post("/v1/events/batch", json=["text"])).json()["faults"][0]["index"] == 0

    run(scenario)


def test_no_application_id_no_entry(run, event):
    async def scenario(sandbox, client):
        client.headers.pop("X-Moesif-Application-Id")
        assert (await client.post("/v1/events", json=event())).status_code == 401
        assert (await client.get("/v1/config")).status_code == 401
        assert (await client.get("/health/probe")).status_code == 200
        assert sandbox.events == []

    run(scenario)


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
        # RFC 1952 2.2: several members, one after another
        ("gzip", lambda body: gzip.compress(body[:50]) + gzip.compress(body[50:])),
    ],
)
def test_reads_compressed_bodies(run, event, encoding, encode):
    async def scenario(sandbox, client):
        body = encode(json.dumps([event(), event()]).encode())
        answer = await client.post("/v1/events/batch", content=body, headers={"Content-Encoding": encoding})
        assert answer.status_code == 201, answer.text
        assert len(sandbox.events) == 2
        assert sandbox.stats["bytes"]["received"] == len(body)

    run(scenario)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"[]"),
        ("gzip", gzip.compress(b"[]")[:-4]),
        ("gzip", gzip.compress(b"[]") + b"rest"),
        ("gzip", b""),
        ("deflate", b"[]"),
        ("br", b"[]"),
    ],
    ids=["no gzip", "cut off", "something follows", "nothing", "no deflate", "unknown"],
)
def test_a_body_that_is_not_what_it_says_is_refused(run, encoding, body):
    async def scenario(sandbox, client):
        answer = await client.post("/v1/events/batch", content=body, headers={"Content-Encoding": encoding})
        assert answer.status_code == 400
        assert "alid" in answer.json()["error"] or "supported" in answer.json()["error"]

    run(scenario)


def test_an_event_of_more_than_1_mb_is_refused(run, event):
    async def scenario(sandbox, client):
        large = event({"request.body": "x" * 1_000_000})
        single = await client.post("/v1/events", json=large)
        batch = await client.post("/v1/events/batch", json=[event(), large])
        assert (single.status_code, batch.status_code) == (413, 413)
        assert batch.json()["faults"][0]["index"] == 1
        assert (
            await client.post("/v1/events", json=event({"request.body": "x" * 990_000}))
        ).status_code == 201

    run(scenario)


def test_a_gzip_bomb_costs_next_to_nothing(run):
    bomb = gzip.compress(bytes(400_000_000), 9)

    async def scenario(sandbox, client):
        before = time.process_time()
        answer = await client.post("/v1/events/batch", content=bomb, headers={"Content-Encoding": "gzip"})
        assert answer.status_code == 413
        assert "50 MB" in answer.json()["error"]
        return time.process_time() - before

    assert run(scenario) < 1


def test_a_plain_body_of_more_than_50_mb_is_refused_and_answered(run):
    async def scenario(sandbox, client):
        answer = await client.post("/v1/events/batch", content=b"[" + b" " * 60_000_000 + b"]")
        assert answer.status_code == 413
        assert sandbox.stats["requests"]["by_status"] == {"413": 1}

    run(scenario)


def test_answers_the_app_config_with_its_tag(run, event):
    async def scenario(sandbox, client):
        first = await client.get("/v1/config")
        tag = first.headers["X-Moesif-Config-ETag"]
        assert first.json()["sample_rate"] == 100
        assert (await client.get("/v1/config", headers={"If-None-Match": tag})).status_code == 304
        assert (await client.post("/v1/events", json=event())).headers["X-Moesif-Config-ETag"] == tag

        changed = await client.put("/sandbox/config", json={"sample_rate": 25})
        assert changed.status_code == 200
        again = await client.get("/v1/config", headers={"If-None-Match": tag})
        assert (again.status_code, again.json()["sample_rate"]) == (200, 25)
        assert (await client.post("/v1/events", json=event())).headers["X-Moesif-Config-ETag"] != tag
        assert (await client.put("/sandbox/config", json=[])).status_code == 400

    run(scenario)


def test_is_healthy_and_knows_no_other_pages(run):
    async def scenario(sandbox, client):
        assert (await client.get("/health/probe")).json() == {"status": True, "region": "sandbox"}
        assert (await client.post("/v1/nothing", json={})).status_code == 404
        assert (await client.get("/v1/events")).status_code == 405

    run(scenario)
