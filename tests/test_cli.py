"""The real command in processes of its own: exit codes, output, signals."""

import asyncio
import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from otel_moesif import StartError
from otel_moesif.cli import serve
from otel_moesif.cli.exits import report
from otel_moesif.cli.logs import ConsoleFormatter, JsonFormatter
from otel_moesif.config import load, validate
from otel_moesif.plugins import Registry
from tests.processes import Process

COMMAND = [sys.executable, "-m", "otel_moesif"]

PLUGIN = """
import asyncio

from otel_moesif import ExtensionFactory, Settings, StartError, hookimpl


class Extension:
    def __init__(self, config, context):
        pass

    async def start(self):
        pass

    async def shutdown(self):
        pass


class Refuses(Extension):
    async def start(self):
        raise StartError("localhost:80: port is in use")


class Buggy(Extension):
    async def start(self):
        raise RuntimeError("who wrote this")


class Slow(Extension):
    async def start(self):
        await asyncio.sleep(60)


class Hangs(Extension):
    async def shutdown(self):
        print("hanging", flush=True)
        await asyncio.sleep(60)


@hookimpl
def otel_moesif_components():
    kinds = {"quiet": Extension, "refuses": Refuses, "buggy": Buggy, "slow": Slow, "hangs": Hangs}
    return [ExtensionFactory(type_, Settings, class_, f"It is {type_}") for type_, class_ in kinds.items()]
"""


def install(directory, name, module):
    """What pip leaves behind of a plugin package."""
    info = directory / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[otel_moesif]\nacme = {name}\n")
    (directory / f"{name}.py").write_text(module)


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    directory = tmp_path_factory.mktemp("site")
    install(directory, "acme_plugin", PLUGIN)
    return {"PYTHONPATH": str(directory)}


@pytest.fixture
def command(plugins, tmp_path):
    """Run the command in an empty directory, beside the plugin above."""

    def command(*arguments, **environ):
        return subprocess.run(
            [*COMMAND, *arguments],
            env={**os.environ, **plugins, **environ},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return command


@pytest.fixture
def collector(tmp_path):
    """A configuration file that runs these extensions and nothing else."""

    def collector(*extensions):
        path = tmp_path / "collector.yaml"
        config = {
            "extensions": dict.fromkeys(extensions),
            "service": {
                "extensions": list(extensions),
                "telemetry": {"metrics": {"address": None}},
                "shutdown_timeout": "30s",
            },
        }
        path.write_text(yaml.safe_dump(config))
        return path

    return collector


def test_version_is_fast_to_say(command):
    said = command("--version")
    assert (said.returncode, said.stderr) == (0, "")
    assert re.fullmatch(r"otel-moesif \d+\.\d+\.\d+\n", said.stdout)


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_what_is_slow_to_import_is_imported_by_who_needs_it(argument):
    code = (
        "import sys\n"
        "from otel_moesif.cli import main\n"
        f"sys.argv = ['otel-moesif', {argument!r}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('loaded:', *sorted({'polars', 'pyarrow', 'grpc', 'httpx', 'uvicorn'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "loaded:"


def test_help_names_every_command(command):
    said = command("--help").stdout
    for name in ("run", "validate", "components", "print-config", "demo", "sandbox", "--version"):
        assert name in said


def test_no_such_option_is_exit_2(command):
    assert command("run", "--nope").returncode == 2
    assert command("nope").returncode == 2


@pytest.mark.parametrize("name", ["run", "validate", "print-config"])
def test_a_missing_file_is_one_line_and_exit_1(command, name):
    said = command(name)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == (
        "cannot read the configuration: collector.yaml: No such file or directory "
        "(--config FILE names it, `otel-moesif init` writes one)\n"
    )


@pytest.mark.parametrize("name", ["run", "validate", "print-config"])
def test_every_mistake_is_a_line_and_exit_2(command, tmp_path, name):
    (tmp_path / "a.yaml").write_text("exporters: {moesfi: , debug: {x: '${env:NOPE}'}}\n")
    (tmp_path / "b.yaml").write_text("service: {pipelines: {traces: {receivers: [otlp]}}}\n")
    said = command(name, "-c", "a.yaml", "--config", "b.yaml", "--set", "service.shutdown_timeout=soon")
    assert (said.returncode, said.stdout) == (2, "")
    lines = said.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "exporters::moesfi",
        "exporters::debug::x",
        "exporters::debug::x",
        "service::pipelines::traces::exporters",
        "service::pipelines::traces::processors",
        "service::pipelines::traces::receivers",
        "service::shutdown_timeout",
    ]
    assert lines[0] == 'exporters::moesfi: unknown exporter type "moesfi" (installed: debug, file, moesif)'


def test_validate_says_what_it_would_run(command, collector):
    collector("quiet")
    said = command("validate")
    assert (said.returncode, said.stdout) == (0, "collector.yaml: ok (0 pipelines; extensions: quiet)\n")


def test_print_config_shows_defaults_and_no_secret(command, tmp_path):
    (tmp_path / "collector.yaml").write_text(
        """
receivers: {otlp: {protocols: {grpc: }}}
processors: {apim_event: }
exporters: {moesif: {endpoint: "http://localhost:1", application_id: "${env:KEY}"}}
service: {pipelines: {traces: {receivers: [otlp], processors: [apim_event], exporters: [moesif]}}}
"""
    )
    said = command("print-config", "--set", "exporters.moesif.timeout=200ms", KEY="hunter2")
    assert (said.returncode, said.stderr) == (0, "")
    assert "hunter2" not in said.stdout
    shown = yaml.safe_load(said.stdout)
    assert shown["exporters"]["moesif"]["application_id"] == "[REDACTED]"
    assert shown["exporters"]["moesif"]["timeout"] == "200ms"
    assert shown["service"]["shutdown_timeout"] == "20s"


def test_components_as_table_and_as_json(command):
    listed = json.loads(command("components", "--json").stdout)
    ours = next(component for component in listed if component["type"] == "quiet")
    assert ours == {
        "kind": "extensions",
        "type": "quiet",
        "description": "It is quiet",
        "distribution": "acme_plugin",
        "version": "1.2",
        "entry_point": "acme",
    }
    table = command("components").stdout.splitlines()
    assert len(table) == len(listed) + 1
    assert any(line.split()[:4] == ["extensions", "quiet", "acme_plugin:acme", "1.2"] for line in table)


def test_a_broken_plugin_is_named_and_exit_2(command, tmp_path):
    install(tmp_path / "site", "broken_plugin", "1 / 0")
    said = command("components", PYTHONPATH=str(tmp_path / "site"))
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == (
        "plugin broken_plugin 1.2 (entry point acme): cannot be imported: "
        "ZeroDivisionError: division by zero\n"
    )


def test_what_cannot_start_is_one_line_and_exit_1(command, collector):
    collector("quiet", "refuses")
    said = command("run")
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1] == "localhost:80: port is in use"
    assert "Traceback" not in said.stderr


def test_a_bug_has_a_traceback_and_exit_70(command, collector):
    collector("buggy")
    said = command("run")
    assert said.returncode == 70
    assert "Traceback (most recent call last):" in said.stderr
    # Where it was raised, but not its text, in which there could be a secret.
    assert "RuntimeError: raised in start (acme_plugin.py:" in said.stderr
    assert "RuntimeError: who wrote this" not in said.stderr
    assert said.stderr.splitlines()[-1] == "otel-moesif: this is a bug in otel-moesif or in a plugin"


def test_an_output_that_takes_no_more_is_one_line_and_exit_1():
    full_device = Path("/dev/full")
    if not full_device.exists():
        pytest.skip("there is no /dev/full here")
    with full_device.open("w") as full:
        said = subprocess.run(
            [*COMMAND, "components"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (said.returncode, said.stderr) == (1, "otel-moesif: cannot write: No space left on device\n")


@pytest.fixture
def started(plugins, tmp_path, collector):
    """The command ``run`` in the background."""

    def started(*extensions, options=()):
        path = collector(*extensions)
        return Process([*COMMAND, "run", "-c", str(path), *options], tmp_path / "log", plugins)

    return started


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_gracefully(started, signum):
    with started("quiet") as process:
        process.until(lambda: "ready" in process.output(), "ready")
        os.kill(process.pid, signum)
        assert process.wait() == 0
    assert f"{signum.name}: stopping" in process.output()
    assert "Traceback" not in process.output()


def test_a_signal_during_the_start_stops_as_well(started):
    with started("slow", options=("--set", "service.telemetry.logs.level=debug")) as process:
        # Nothing says that a start has begun but the handler that is there from then on.
        process.until(lambda: handles(process.pid, signal.SIGTERM), "a handler")
        process.terminate()
        assert process.wait() == 0
    assert "Traceback" not in process.output()


def handles(pid, signum):
    """Whether a process has a handler of its own for a signal (proc(5), SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(re.search(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)[1], 16)
    return bool(caught >> (signum - 1) & 1)


def test_a_second_signal_stops_at_once(started):
    with started("hangs") as process:
        process.until(lambda: "ready" in process.output(), "ready")
        process.terminate()
        process.until(lambda: "hanging" in process.output(), "the shutdown")
        before = time.monotonic()
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - before < 2
    assert process.output().splitlines()[-1] == "otel-moesif: stopped at once by a second signal"


def test_the_log_is_one_line_per_record(started):
    with started("quiet") as process:
        process.until(lambda: "ready" in process.output(), "ready")
    for line in process.output().splitlines():
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  info   [a-z_.]+  .+", line)


def test_the_log_as_json(started):
    with started("quiet", options=("--set", "service.telemetry.logs.encoding=json")) as process:
        process.until(lambda: "ready" in process.output(), "ready")
    records = [json.loads(line) for line in process.output().splitlines()]
    assert records[-1].items() >= {"level": "info", "component": "service", "message": "ready"}.items()


def test_the_log_level_counts(started):
    with started("quiet", options=("--set", "service.telemetry.logs.level=WARN")) as process:
        process.until(lambda: handles(process.pid, signal.SIGTERM), "a handler")
        process.terminate()
        assert process.wait() == 0
    assert process.output() == ""


def failed_record():
    try:
        int("two\nlines", base=99)
    except ValueError:
        return logging.LogRecord(
            "otel_moesif.exporters.moesif", logging.WARNING, "", 0, "%s\nagain", ("it",), sys.exc_info()
        )


def test_an_exception_stays_in_its_line():
    line = ConsoleFormatter().format(failed_record())
    assert "\n" not in line
    place = r"ValueError: raised in failed_record \(test_cli\.py:\d+\)"
    assert re.search(rf"  warn   exporters\.moesif  it again  {place}$", line)
    fields = json.loads(JsonFormatter().format(failed_record()))
    assert fields["message"] == "it\nagain"
    assert "test_cli.py" in fields["stacktrace"]
    assert "base must be" not in line + fields["error"] + fields["stacktrace"]  # its text could hold a secret


FAILING = """
import asyncio, gc, threading
from otel_moesif.cli.logs import configure
from otel_moesif.config.model import LogsSettings

async def run():
    asyncio.get_running_loop().call_soon(int, "hunter2")
    task = asyncio.ensure_future(asyncio.to_thread(int, "hunter2"))
    await asyncio.wait({task})
    del task
    gc.collect()

configure(LogsSettings())
asyncio.run(run())
threading.Thread(target=int, args=["hunter2"]).start()
"""


def test_what_fails_where_nobody_looks_is_told_without_quoting():
    said = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, check=True).stderr
    assert [line.split("  ")[2] for line in said.splitlines()] == ["asyncio", "asyncio", "otel_moesif"]
    assert said.count("ValueError") == 3
    assert "hunter2" not in said


def test_several_reasons_not_to_start_are_several_lines(capsys):
    group = ExceptionGroup("start", [StartError("one"), ExceptionGroup("more", [StartError("two")])])
    assert report(group) == 1
    assert capsys.readouterr().err == "one\ntwo\n"


def test_when_a_part_dies_the_rest_is_stopped_and_the_exit_code_is_1(monkeypatch, capsys):
    calls = []

    class Dying:
        def __init__(self, config, registry):
            calls.append("built")

        async def start(self):
            calls.append("start")

        async def shutdown(self):
            calls.append("shutdown")

        async def wait_failed(self):
            return OSError(errno.EIO, "disk\nis gone")

    monkeypatch.setattr("otel_moesif.service.Service", Dying)
    assert asyncio.run(serve._serve(None, None)) == 1
    assert calls == ["built", "start", "shutdown"]
    said = "otel-moesif: stopping, because a part of the collector failed: OSError: disk is gone\n"
    assert capsys.readouterr().err == said
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_sandbox_alone():
    registry = Registry.load()
    config = serve.sandbox_config(registry, "[::1]:0")
    assert not config.pipelines
    (extension,) = config.extensions.values()
    assert extension.settings.endpoint == "[::1]:0"
    assert serve.sandbox_config(Registry.of({}), "localhost:0") is None


def test_the_sandbox_as_a_command(tmp_path):
    with Process([*COMMAND, "sandbox", "--endpoint", "localhost:0"], tmp_path / "log") as process:
        process.until(lambda: "ready" in process.output(), "ready")
        process.terminate()
        assert process.wait() == 0


def test_the_worked_example_is_valid(pytestconfig):
    config = validate(load([pytestconfig.rootpath / "collector.yaml"], [], {}), Registry.load())
    assert config.pipelines
