"""A collector that is restarted does not send again the profiles that it sent before."""

from __future__ import annotations

import json
import subprocess

from tests.e2e.collector import COMMAND, Collector, sandbox
from tests.e2e.traffic import TRACES, call, channel, request
from tests.processes import until

OPTIONS = {"users": {"enabled": True}, "identity": {"user_id": ["apiMethod"]}}


def test_a_restarted_collector_sends_no_second_profile(tmp_path):
    with sandbox(tmp_path) as moesif:
        collector = Collector(tmp_path, {"moesif/one": moesif.url}, exporter_options=OPTIONS)
        for _ in range(2):
            with collector.run() as process:
                with channel(collector.target) as connection:
                    body, transactions = request(3)
                    call(connection, TRACES, body)
                until(lambda wanted=transactions: set(wanted) <= set(moesif.transactions()), "the calls")
                process.terminate()
                assert process.wait(20) == 0, process.output()
            users = moesif.stats()["users"]
            assert users["received"] == users["kept"] == 1, process.output()
    (file,) = (collector.journal / "components").rglob("*.*")
    assert file == collector.journal / "components" / "exporters" / "moesif%2Fone" / "users.sent"
    status = [*COMMAND, "journal", "status", "--json", "--config", str(collector.file)]
    looked = subprocess.run(status, capture_output=True, text=True, check=False)
    assert looked.returncode == 0, looked.stderr  # whoever looks at the journal does not stumble over it
    assert json.loads(looked.stdout)
