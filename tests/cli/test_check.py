"""``otel-moesif check``: every exporter of a configuration is tried, against real servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from otel_moesif.exporters.moesif.answer import remedy
from tests.exporters.servers import Http1, answered
from tests.ports import free_port

CONFIG = json.dumps({"app_id": "1:2", "sample_rate": 100}).encode()
WELL = answered(200, CONFIG)
KEY = "first-secret-1234"


@pytest.fixture
def plugin(monkeypatch, tmp_path):
    """What pip leaves behind of a plugin package."""
    site = tmp_path / "site"
    info = site / "acme_check-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme_check\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[otel_moesif]\nacme = acme_check\n")
    shutil.copy(Path(__file__).with_name("acme_check.py"), site)
    monkeypatch.syspath_prepend(site)
    yield
    sys.modules.pop("acme_check", None)


@pytest.fixture
def server():
    """Start HTTP servers that answer as told, in an event loop of their own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    open_ = contextlib.AsyncExitStack()

    def run(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    def start(*answers):
        return run(open_.enter_async_context(Http1(*answers)))

    yield start
    run(open_.aclose())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def check(command, tmp_path):
    """Check a configuration with these exporters, all in the pipeline but those whose name is ``unused``."""

    def check(exporters, *arguments, extensions=None, **service):
        used = [id_ for id_ in exporters if not id_.endswith("/unused")]
        pipeline = {"receivers": ["otlp"], "processors": ["apim_event"], "exporters": used}
        config = {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": "localhost:0"}}}},
            "processors": {"apim_event": None},
            "exporters": exporters,
            "extensions": extensions or {},
            "service": {"extensions": list(extensions or {}), "pipelines": {"traces": pipeline}, **service},
        }
        (tmp_path / "collector.yaml").write_text(yaml.safe_dump(config))
        return command("check", *arguments)

    return check


def test_all_is_well(check, server, tmp_path):
    moesif = server(WELL)
    said = check(
        {
            "moesif": {"endpoint": moesif.url, "application_id": KEY},
            "file": {"path": str(tmp_path / "out" / "events.jsonl")},
            "debug": None,
            "moesif/unused": {"application_id": "not-asked-for-1"},
        }
    )
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0] == f"ok      moesif: {moesif.url}, application id …1234"
    assert re.fullmatch(r" {8}accepted in \d+ ms over HTTP/1\.1; rates: 100 % of all calls", lines[1])
    assert lines[2] == f"ok      file: {tmp_path}/out/events.jsonl"
    assert re.fullmatch(r" {8}writable, \d+\.\d GiB free", lines[3])
    assert lines[4:] == [
        "-       debug: has no check",
        "-       moesif/unused: in no pipeline, not tried",
    ]


def test_no_events_are_sent_and_nothing_is_stored(check, server, tmp_path):
    moesif = server(WELL)
    check({"moesif": {"endpoint": moesif.url, "application_id": KEY}}, journal={"directory": "journal"})
    assert {request.line for request in moesif.requests} == {"GET /v1/config HTTP/1.1"}
    assert not (tmp_path / "journal").exists()


def test_one_that_is_not_well_makes_the_exit_code_1(check, server):
    well, wrong = server(WELL), server(answered(401, b'{"error": "unknown id"}'))
    said = check(
        {
            "moesif": {"endpoint": well.url, "application_id": KEY},
            "moesif/eu": {"endpoint": wrong.url, "application_id": "other-secret-5678"},
        }
    )
    assert said.code == 1
    assert said.out.splitlines()[0].startswith("ok      moesif: ")
    assert said.out.splitlines()[2:] == [
        f"NOT OK  moesif/eu: {wrong.url}, application id …5678",
        '        HTTP 401: {"error": "unknown id"}',
        f"        → {remedy(401)}",
    ]
    assert "secret" not in said.out + said.err


def test_each_tenant_has_a_verdict_of_its_own(check, server):
    moesif = server(WELL)
    table = {"acme": "acme-secret-2222", "globex": "globex-secret-3333"}
    routing = {"from": "apiCreatorTenantDomain", "table": table}
    said = check({"moesif": {"endpoint": moesif.url, "application_id": KEY, "routing": routing}})
    assert said.code == 0
    assert sorted(re.findall(r"ok +moesif: .*application id …(\d+)", said.out)) == ["1234", "2222", "3333"]
    assert "secret" not in said.out


def test_as_json(check, server):
    moesif = server(answered(402))
    said = check({"moesif": {"endpoint": moesif.url, "application_id": KEY}, "debug": None}, "--json")
    assert said.code == 1
    assert json.loads(said.out) == [
        {
            "kind": "exporters",
            "id": "moesif",
            "ok": False,
            "subject": f"{moesif.url}, application id …1234",
            "verdict": "HTTP 402",
            "remedy": "the subscription at Moesif is not active: see Billing in Moesif's account menu",
        },
        {
            "kind": "exporters",
            "id": "debug",
            "ok": None,
            "subject": "",
            "verdict": "has no check",
            "remedy": "",
        },
    ]


def test_all_are_tried_side_by_side_within_the_time_limit(check, server):
    silent = server(lambda writer: asyncio.Event().wait())
    exporter = {"endpoint": silent.url, "application_id": KEY}
    began = time.monotonic()
    said = check({f"moesif/{number}": exporter for number in range(5)}, "--timeout", "1s")
    assert time.monotonic() - began < 4
    assert said.code == 1
    assert said.out.splitlines() == [f"NOT OK  moesif/{number}: no verdict within 1 s" for number in range(5)]


@pytest.mark.parametrize(
    ("timeout", "said"), [("5", "must be a duration with its unit"), ("0s", "must be longer than zero")]
)
def test_a_time_limit_that_is_none(check, timeout, said):
    result = check({"debug": None}, "--timeout", timeout)
    assert result.code == 2
    assert result.err.startswith(f"otel-moesif: --timeout: {said}")


def test_a_configuration_with_mistakes(check):
    said = check({"moesif": {"application_id": ""}, "debug": {"colour": True}})
    assert (said.code, said.out) == (2, "")
    assert "exporters::moesif::application_id: must not be empty" in said.err
    assert "exporters::debug: " in said.err or "exporters::debug::colour" in said.err


def test_a_client_certificate_without_its_key_is_a_mistake_of_the_configuration(check):
    said = check({"moesif": {"application_id": KEY, "tls": {"cert_file": "cert.pem"}}})
    assert said.code == 2
    assert said.err == "exporters::moesif::tls: cert_file needs key_file beside it\n"


def test_an_option_of_other_collectors_is_answered(check):
    said = check({"moesif": {"application_id": KEY, "tls": {"insecure": True}}})
    assert said.code == 2
    assert "exporters::moesif::tls::insecure: is not an option here: https:// or http://" in said.err


def test_a_file_of_tls_that_is_missing(check):
    said = check({"moesif": {"application_id": KEY, "tls": {"ca_file": "absent.pem"}}})
    assert said.code == 1
    assert said.out == "NOT OK  moesif: tls::ca_file: cannot read absent.pem: No such file or directory\n"


def test_nothing_to_check(command, tmp_path):
    pytest.importorskip("otel_moesif_sandbox")
    config = {
        "extensions": {"moesif_sandbox": {"endpoint": "127.0.0.1:0"}},
        "service": {"extensions": ["moesif_sandbox"]},
    }
    (tmp_path / "sandbox.yaml").write_text(yaml.safe_dump(config))
    said = command("check", "--config", "sandbox.yaml")
    assert (said.code, said.out) == (0, "there are no exporters to check\n")


# -- plugins -------------------------------------------------------------------------------------------


def test_whatever_a_plugin_does_is_its_verdict(plugin, check):
    said = check({"buggy": None, "refuses": None, "plain": None})
    assert said.code == 1
    lines = [
        re.sub(r":\d+\)$", ":?)", line)
        for line in said.out.splitlines()
        if line not in {"started", "stopped"}
    ]
    assert lines == [
        "NOT OK  buggy: TypeError: raised in check (acme_check.py:?)",
        "NOT OK  refuses: broker: no such [31mtopic",
        "-       plain: has no check",
    ]
    assert said.out.count("started\n") == 2
    assert said.out.count("stopped\n") == 3


def test_one_that_does_not_stop_is_told_but_has_its_verdict(plugin, check):
    said = check({"stubborn": None})
    assert said.code == 0
    assert "a component failed to stop: ValueError: raised in shutdown (acme_check.py:" in said.err


def test_an_extension_may_have_a_check_too(plugin, check):
    said = check({"debug": None}, extensions={"reaches": None})
    assert said.code == 1
    assert said.out.splitlines()[:3] == [
        "NOT OK  extensions::reaches: vault",
        "        is sealed",
        "        → unseal it",
    ]


# -- beside a running collector ------------------------------------------------------------------------


def test_the_sandbox_is_started_where_nobody_else_did(check):
    pytest.importorskip("otel_moesif_sandbox")
    port = free_port()
    exporter = {"endpoint": f"http://127.0.0.1:{port}", "application_id": "sandbox"}
    said = check({"moesif": exporter}, extensions={"moesif_sandbox": {"endpoint": f"127.0.0.1:{port}"}})
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("ok      moesif: ")


def test_a_running_collector_is_in_nobodys_way(check, server, journal, tmp_path):
    """It holds the journal, the sandbox's port, the receiver's and that of the metrics."""
    pytest.importorskip("otel_moesif_sandbox")
    sandbox = server(WELL)
    said = check(
        {"moesif": {"endpoint": sandbox.url, "application_id": KEY}},
        extensions={"moesif_sandbox": {"endpoint": f"127.0.0.1:{sandbox.port}"}},
        journal={"directory": str(tmp_path / "journal")},
        telemetry={"metrics": {"address": f"127.0.0.1:{sandbox.port}"}},
    )
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0].startswith("-       extensions::moesif_sandbox: ")
    assert "the port is in use" in lines[0]
    assert lines[1] == "        → nothing, if a collector is running here: then its own answers below"
    assert lines[2].startswith("ok      moesif: ")


def test_an_extension_that_cannot_start_for_another_reason(check):
    pytest.importorskip("otel_moesif_sandbox")
    # RFC 5737: an address that no machine has
    said = check({"debug": None}, extensions={"moesif_sandbox": {"endpoint": "192.0.2.1:0"}})
    assert said.code == 1
    assert said.out.startswith("NOT OK  extensions::moesif_sandbox: ")


# -- files ---------------------------------------------------------------------------------------------


def test_what_a_collector_is_writing_to_a_file_is_left_alone(check, tmp_path):
    (tmp_path / "events.jsonl").write_text('{"apiName": "ha')
    said = check({"file": {"path": "events.jsonl"}})
    assert said.code == 0
    assert (tmp_path / "events.jsonl").read_text() == '{"apiName": "ha'


def test_a_directory_that_is_a_file(check, tmp_path):
    (tmp_path / "taken").touch()
    said = check({"file": {"path": "taken/events.jsonl"}})
    assert said.code == 1
    assert said.out.startswith("NOT OK  file: cannot write events to taken/events.jsonl: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission(check, tmp_path):
    directory = tmp_path / "closed"
    directory.mkdir()
    (directory / "events.jsonl").touch()
    directory.chmod(0o500)
    said = check({"file": {"path": "closed/events.jsonl"}})
    directory.chmod(0o700)
    assert said.code == 1
    assert "closed is not writable" in said.out
