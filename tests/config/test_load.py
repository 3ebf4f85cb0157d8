import pytest

from otel_moesif.config import load
from otel_moesif.errors import ConfigError, StartError


def write(tmp_path, **files):
    paths = []
    for name, text in files.items():
        paths.append(tmp_path / f"{name}.yaml")
        paths[-1].write_text(text)
    return paths


def test_files_then_overrides(tmp_path):
    paths = write(
        tmp_path, a="x: {k: 1, l: [1]}\ny: 1\n", b="x: {l: [2], m: '${env:M}'}\ny: null\n", c="# nothing\n"
    )
    raw = load(paths, ["x.k=${env:M}", "z.moesif/eu.e=v"], {"M": "7"})
    assert raw.data == {"x": {"k": "7", "l": [2], "m": "7"}, "y": None, "z": {"moesif/eu": {"e": "v"}}}
    assert raw.data["x"]["k"].value == 7
    assert raw.findings == ()
    assert raw.sources == tuple(str(path) for path in paths)


def test_no_file_at_all_is_for_overrides_only():
    assert load([], ["a.b=c"], {}).data == {"a": {"b": "c"}}


def test_missing_files_are_one_line(tmp_path):
    with pytest.raises(StartError) as caught:
        load([tmp_path / "no.yaml", tmp_path], [], {})
    assert str(caught.value) == (
        f"cannot read the configuration: {tmp_path / 'no.yaml'}: No such file or directory; "
        f"{tmp_path}: Is a directory (--config FILE names it, `otel-moesif init` writes one)"
    )


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(StartError, match="not a UTF-8 text"):
        load([tmp_path / "c.yaml"], [], {})


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert load([tmp_path / "c.yaml"], [], {}).data == {"a": 1}


def test_all_that_stands_in_the_way_is_said_together(tmp_path):
    a, b, c = write(tmp_path, a="x: [1]}\n", b="- 1\n", c="k: 1\nk: '${env:NOPE}'\n")
    with pytest.raises(ConfigError) as caught:
        load([a, b, c], ["exporters.moesif.application_id:hunter2", "secret.=hunter2"], {})
    lines = str(caught.value).splitlines()
    assert lines == [
        f"{a}:1:7: not valid YAML: while parsing a block mapping, expected <block end>, but found '}}'",
        f"{b}: must be a map at the top (receivers, exporters, service …)",
        "--set: must look like key.key=value, for example exporters.debug.verbosity=detailed",
        "--set secret.: must look like key.key=value, for example exporters.debug.verbosity=detailed",
        f"k: is set twice, first in line 1 ({c}, line 2)",
        "k: environment variable NOPE is not set (set it, or give a default: ${env:NOPE:-default})",
    ]


def test_what_can_wait_is_left_for_validate(tmp_path):
    raw = load(write(tmp_path, a="k: 1\nk: 2\nv: ${NOPE}\n"), [], {})
    assert [finding.loc for finding in raw.findings] == [("k",), ("v",)]
