"""What commands read: pipes, names in the home folder, and files that no output may replace."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from dcomp.cli.inputs import input_file


@pytest.fixture
def folder(dense_file, dcomp, monkeypatch):
    monkeypatch.chdir(dense_file.parent)
    dense_file.rename("m.safetensors")
    assert dcomp("encode", "m.safetensors")[0] == 0
    os.link("m.safetensors", "linked")
    (dense_file.parent / "symlinked").symlink_to("m.safetensors")
    return dense_file.parent


EVAL = ["--data", "digits", "--epochs", "1"]
PRUNE = ["prune", "m.safetensors", "--sparsity", "0.5"]
SWEEP = ["sweep", "r.yaml", "--set", "seed=0,1", "--out", "out"]

OVER_INPUTS = {
    "the input by another name": ["encode", "m.safetensors", "-o", "linked", "-f"],
    "the input by a link": ["encode", "m.safetensors", "-o", "symlinked", "-f"],
    "the input by a longer path": ["decode", "m.dcz", "-o", "./m.dcz", "-f"],
    "the sibling that is the input": ["encode", "m.dcz", "-f"],
    "a log over the input": [*PRUNE, *EVAL, "-o", "p", "--log", "m.safetensors", "-f"],
    "an output over the teacher": [*PRUNE, *EVAL, "-o", "m.dcz", "--distill", "m.dcz", "-f"],
    "a log over the teacher": [*PRUNE, *EVAL, "-o", "p", "--log", "m.dcz", "--distill", "m.dcz", "-f"],
    "an output over the weights to rewind to": [*PRUNE, "-o", "m.dcz", "--rewind", "m.dcz", "-f"],
    "the sibling that is the weights to rewind to": [*PRUNE, "--rewind", "m.pruned.safetensors", "-f"],
    "an output over the plan": [*PRUNE, "-o", "plan.yaml", "--plan", "plan.yaml", "-f"],
    "finetuning over its input": ["finetune", "m.dcz", *EVAL, "-o", "m.dcz", "-f"],
    "a log over the input of finetune": ["finetune", "m.dcz", *EVAL, "-o", "x", "--log", "m.dcz", "-f"],
    "the default output over the teacher": ["train", "lenet300", *EVAL, "--distill", "lenet300.safetensors", "-f"],
    "curves over the input": ["sensitivity", "m.dcz", "--data", "digits", "--plot", "m.dcz", "-f"],
    "a plan over the input": ["sensitivity", "m.dcz", "--data", "digits", "--max-drop", "1", "--plan", "m.dcz", "-f"],
    "a table over the recipe": [*SWEEP, "--csv", "r.yaml", "-f"],
    "a plot over the recipe": [*SWEEP, "--plot", "r.yaml", "-f"],
}


@pytest.mark.parametrize("case", OVER_INPUTS)
def test_no_output_replaces_a_file_that_the_command_reads(folder, dcomp, case):
    for name in ("m.pruned.safetensors", "lenet300.safetensors"):
        (folder / name).write_bytes((folder / "m.safetensors").read_bytes())
    (folder / "plan.yaml").write_text("prune: {fc1.weight: 0.5}\n")
    (folder / "r.yaml").write_text("name: r\n")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, out, err = dcomp(*OVER_INPUTS[case])
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.endswith("is the input; name another output\n")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def dcomp_in_shell(command):
    script = command.replace("dcomp ", f"{sys.executable} -m dcomp ")
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "command",
    [
        "dcomp encode -o m.safetensors -f < m.safetensors",
        "dcomp encode - -o linked -f < m.safetensors",
        "dcomp encode /dev/stdin -o m.safetensors -f < m.safetensors",
        "dcomp encode m.safetensors -o - >> m.safetensors",
        "dcomp encode <> m.safetensors >&0",
    ],
)
def test_standard_streams_count_as_the_files_that_they_are(folder, command):
    before = (folder / "m.safetensors").read_bytes()
    done = dcomp_in_shell(command)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is the input; name another output" in done.stderr
    assert (folder / "m.safetensors").read_bytes() == before


def test_two_outputs_are_two_files(folder, dcomp):
    code, _, err = dcomp(*PRUNE, *EVAL, "-o", "p", "--log", "p")
    assert (code, err) == (1, "error: p is named for two outputs; name two files\n")


def test_no_shard_of_the_input_is_replaced(folder, dcomp):
    (folder / "model").mkdir()
    (folder / "m.safetensors").rename("model/model-00001-of-00001.safetensors")
    names = [f"fc{number}.{kind}" for number in (1, 2, 3) for kind in ("weight", "bias")]
    index = json.dumps({"weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")})
    (folder / "model" / "model.safetensors.index.json").write_text(index)
    before = {path.name: path.read_bytes() for path in (folder / "model").iterdir()}
    for name in before:
        for command in (["encode", "model"], ["prune", "model", "--sparsity", "0.5"]):
            code, _, err = dcomp(*command, "-o", f"model/{name}", "-f")
            assert (code, "is the input; name another output" in err) == (1, True)
    code, _, err = dcomp("prune", "model", "--sparsity", "0.5", "-o", "model", "-f")
    assert (code, "is the input; name another output" in err) == (1, True)
    assert {path.name: path.read_bytes() for path in (folder / "model").iterdir()} == before


@pytest.mark.parametrize(
    "command",
    [
        "dcomp encode <(cat m.safetensors) -o x.dcz && cmp x.dcz m.dcz",
        "mkfifo pipe; cat m.dcz > pipe & dcomp report pipe",
        "dcomp verify m.dcz --against <(cat m.safetensors)",
        "cat m.safetensors | dcomp verify m.dcz --against -",
        "dcomp report <(cat m.dcz) --against <(cat m.safetensors)",
        "cat m.safetensors | dcomp encode /dev/stdin -o x.dcz && cmp x.dcz m.dcz",
    ],
)
def test_a_pipe_with_a_name_is_read_like_standard_input(folder, command):
    done = dcomp_in_shell(command)
    assert done.returncode == 0, done.stderr


def opened_by_reader(pipe):
    """The writing end of a pipe, once somebody reads it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            time.sleep(0.05)
    raise AssertionError("nobody reads it")


@pytest.mark.parametrize("command", ["report pipe", "encode pipe -o x", "verify m.dcz --against pipe"])
def test_a_pipe_that_gives_nothing_hears_sigterm(folder, command):
    os.mkfifo("pipe")
    process = subprocess.Popen([sys.executable, "-m", "dcomp", *command.split()], stderr=subprocess.PIPE)
    writing = opened_by_reader("pipe")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143
    os.close(writing)


@pytest.mark.parametrize("option", ["--rewind", "--distill"])
def test_a_pipe_that_would_be_read_twice_is_refused(folder, dcomp, option):
    os.mkfifo("pipe")
    more = EVAL if option == "--distill" else []
    code, _, err = dcomp(*PRUNE, *more, option, "pipe", "-o", "x")
    assert (code, "pipe is a pipe or device" in err) == (1, True)


def test_standard_input_is_for_one_input(folder, dcomp):
    code, _, err = dcomp("verify", "-", "--against", "-")
    assert (code, err) == (2, "error: standard input is named for two inputs; name a file for one of them\n")


@pytest.mark.parametrize("command", ["encode", "report", "decode", "inspect", "verify", "prune --sparsity 0.5"])
def test_garbage_on_standard_input_is_called_by_that_name(folder, command):
    done = dcomp_in_shell(f"echo garbage | dcomp {command}")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "standard input" in done.stderr
    assert "/tmp" not in done.stderr


def test_garbage_from_a_pipe_is_called_by_its_name(folder, dcomp):
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: (folder / "pipe").write_text("garbage"))
    writer.start()
    code, _, err = dcomp("encode", "pipe", "-o", "x")
    writer.join()
    assert (code, err.startswith("error: pipe is not a checkpoint")) == (1, True)


def test_the_copy_of_standard_input_is_removed(folder, dcomp, tmp_path_factory, monkeypatch):
    spool = tmp_path_factory.mktemp("spool")
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    monkeypatch.setattr("sys.stdin", open("m.safetensors"))  # noqa: PTH123, SIM115  # as the interpreter opens it
    with input_file(None) as path:
        assert list(spool.iterdir()) == [path]
        assert path.read_bytes() == (folder / "m.safetensors").read_bytes()
    assert not list(spool.iterdir())


def test_paths_may_begin_in_the_home_folder(folder, dcomp, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert dcomp("encode", "~/m.safetensors", "--output=~/home.dcz")[:2] == (0, f"{folder}/home.dcz\n")
    assert dcomp("verify", "home.dcz", "--against=~/m.safetensors")[0] == 0


def test_a_name_that_begins_with_a_tilde_is_one(folder, dcomp):
    assert dcomp("encode", "m.safetensors", "-o", "~x.dcz")[:2] == (0, "~x.dcz\n")


DEVICES = [["report", "/dev/zero"], ["verify", "m.dcz", "--against", "/dev/zero"], ["run", "/dev/zero"]]


@pytest.mark.parametrize("arguments", DEVICES)
def test_a_device_is_no_input(folder, dcomp, arguments):
    code, _, err = dcomp(*arguments)
    assert (code, err) == (1, "error: /dev/zero is a device; name a file, or pipe one in\n")


@pytest.mark.parametrize("command", ["encode", "prune --sparsity 0.5", "decode", "eval --data digits"])
@pytest.mark.parametrize("name", ["nowhere", "nowhere/m.safetensors", "m.dcz/x"])
def test_a_missing_input_comes_before_a_wrong_output(folder, dcomp, command, name):
    code, _, err = dcomp(*command.split(), name)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("error: cannot read ")


@pytest.mark.parametrize("command", ["encode", "decode", "report", "prune --sparsity 0.5"])
def test_a_folder_without_a_checkpoint_is_one_error(folder, dcomp, command):
    code, _, err = dcomp(*command.split(), "/")
    words = "/ is a folder without model.safetensors, pytorch_model.bin or an index; name a file"
    assert (code, err) == (2, f"error: {words}\n")


def test_a_path_that_looks_like_an_option_is_printed_as_a_path(folder, dcomp):
    (folder / "-m.safetensors").write_bytes((folder / "m.safetensors").read_bytes())
    _, out, _ = dcomp("encode", "./-m.safetensors")
    assert out == "./-m.dcz\n"
    assert dcomp("verify", out.strip())[0] == 0


@pytest.mark.parametrize("command", ["| cmp - m.dcz", "> x && cmp x m.dcz"])
def test_standard_output_by_its_name_is_standard_output(folder, command):
    done = dcomp_in_shell(f"dcomp encode m.safetensors -o /dev/stdout {command}")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_dry_run_has_no_output(folder, dcomp):
    code, _, err = dcomp("encode", "m.safetensors", "--dry-run", "-o", "x")
    assert (code, err) == (2, "error: --dry-run writes nothing: leave -o out\n")


def test_a_lone_surrogate_in_a_name_is_one_error(folder, dcomp):
    torch.save({"\ud800": torch.ones(3, 4)}, "sur.pt")
    code, _, err = dcomp("prune", "sur.pt", "--sparsity", "0.5", "-q")
    assert (code, err) == (1, "error: '\\ud800' is the name of a tensor, and no string that UTF-8 can hold\n")


def test_a_recipe_from_a_pipe_is_for_one_run(folder, dcomp):
    os.mkfifo("pipe")
    code, _, err = dcomp("sweep", "pipe", "--set", "seed=0,1", "--out", "out")
    assert (code, "pipe is a pipe or device, and would be read more than once" in err) == (1, True)
