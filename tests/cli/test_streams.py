"""Standard streams that are closed, that lack characters, or whose reader has seen enough; names of any bytes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dcomp.cli.streams import ESCAPING, prepare


@pytest.fixture
def folder(dense_file, dcomp, monkeypatch):
    monkeypatch.chdir(dense_file.parent)
    dense_file.rename("m.safetensors")
    assert dcomp("encode", "m.safetensors")[0] == 0
    return dense_file.parent


def in_shell(command, **variables):
    script = command.replace("dcomp ", f"{sys.executable} -m dcomp ")
    return subprocess.run(["bash", "-c", script], capture_output=True, timeout=60, env={**os.environ, **variables})


@pytest.mark.parametrize("command", ["report m.dcz", "encode m.safetensors -o x", "--help", "report nowhere"])
def test_a_closed_standard_output_is_one_error_before_the_work(folder, command):
    done = in_shell(f"dcomp {command} >&-")
    message = b"error: standard output is closed, where results are printed: leave it open, or write > /dev/null\n"
    assert (done.returncode, done.stderr) == (1, message)
    assert not (folder / "x").exists()


def test_a_closed_standard_error_leaves_results_and_exit_codes(folder):
    assert in_shell("dcomp encode m.safetensors -o x 2>&-").stdout == b"x\n"
    assert (folder / "x").read_bytes() == (folder / "m.dcz").read_bytes()
    assert in_shell("dcomp report nowhere 2>&-").returncode == 1


def test_a_closed_standard_input_is_empty_and_needed_by_no_file(folder):
    assert in_shell("dcomp encode m.safetensors -o x <&-").stdout == b"x\n"
    done = in_shell("dcomp report <&-")
    assert (done.returncode, done.stderr.startswith(b"error: standard input is empty: name a file")) == (2, True)


def test_the_output_is_whole_where_all_streams_are_closed(folder):
    assert in_shell("dcomp encode m.safetensors -o x <&- 2>&- > /dev/null").returncode == 0
    assert (folder / "x").read_bytes() == (folder / "m.dcz").read_bytes()


@pytest.mark.parametrize("name", [b"\xc3\xbcn\xc3\xaf", b"not-utf-8-\xff", b"line\nend"])
@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
    ids=lambda variables: ",".join("=".join(pair) for pair in variables.items()),
)
def test_the_path_of_a_result_has_the_bytes_of_its_name(folder, name, variables):
    output = os.fsencode(folder) + b"/" + name
    command = [sys.executable, "-m", "dcomp", "encode", "m.safetensors", "-q", "-o", output]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **variables})
    assert (done.returncode, done.stdout, done.stderr) == (0, output + b"\n", b"")
    assert Path(os.fsdecode(output)).is_file()


@pytest.mark.parametrize("name", [b"\xc3\xbcn\xc3\xaf", b"not-utf-8-\xff", b"line\nend", b"\x1b[31mred"])
@pytest.mark.parametrize("command", ["encode", "report", "decode", "verify", "inspect", "run", "prune --sparsity 0.5"])
def test_any_name_fits_into_an_error(folder, dcomp, name, command):
    code, out, err = dcomp(*command.split(), os.fsdecode(name))
    assert (code > 0, out, err.count("\n")) == (True, "", 1)
    assert err.startswith("error: ")
    assert "defect" not in err
    assert "\x1b" not in err


def test_what_an_encoding_lacks_is_escaped():
    prepare()
    assert "ü\udcff".encode("utf-8", ESCAPING) == b"\xc3\xbc\xff"
    assert "ü".encode("ascii", ESCAPING) == b"\\xfc"
    assert "\ud800".encode("utf-8", ESCAPING) == b"\\ud800"


@pytest.mark.parametrize(
    "command",
    [
        "dcomp report m.dcz --json | head -1",
        "dcomp inspect m.dcz | true",
        "dcomp encode m.safetensors -o - | head -c 5",
        "dcomp --help | true",
        "dcomp encode m.safetensors -o x 2>&1 | true",
        "dcomp report nowhere 2>&1 | true",
    ],
)
def test_a_reader_that_stops_early_is_no_error(folder, command):
    done = in_shell(command)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_standard_error_takes_no_result_away(folder):
    done = in_shell("dcomp encode m.safetensors -o x 2>/dev/full")
    assert (done.returncode, done.stdout) == (0, b"x\n")
