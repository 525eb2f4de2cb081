"""Commands joined by pipes and by the paths they print, as a shell runs them."""

import subprocess
import sys
from pathlib import Path

import pytest

from dcomp.checkpoints import safetensors_file
from dcomp.container.reader import Container

DCOMP = f"{sys.executable} -m dcomp"


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("dcomp ", f"{DCOMP} ")], cwd=folder, capture_output=True
    )


PIPE = "dcomp prune lenet300.safetensors --sparsity 0.9 -o - | dcomp quantize --fc-bits 5 | dcomp encode -o piped.dcz"
STEPS = "dcomp encode $(dcomp quantize $(dcomp prune lenet300.safetensors --sparsity 0.9) --fc-bits 5) -o stepped.dcz"


def test_a_pipe_gives_the_same_bytes_as_its_stages_one_by_one(dense_file):
    piped = shell(PIPE, dense_file.parent)
    stepped = shell(STEPS, dense_file.parent)
    assert (piped.returncode, stepped.returncode) == (0, 0), piped.stderr + stepped.stderr
    assert piped.stdout == b"piped.dcz\n"
    folder = dense_file.parent
    assert (folder / "piped.dcz").read_bytes() == (folder / "stepped.dcz").read_bytes()
    decoded = shell("dcomp decode piped.dcz -o - > decoded.safetensors", folder)
    assert decoded.returncode == 0, decoded.stderr
    assert (folder / "decoded.safetensors").read_bytes() == (folder / "lenet300.quantized.safetensors").read_bytes()


def test_standard_input_goes_to_standard_output(dense_file):
    done = shell(
        "cat lenet300.safetensors | dcomp encode | dcomp decode - | cmp - lenet300.safetensors", dense_file.parent
    )
    assert done.returncode == 0, done.stderr


def test_a_stage_that_fails_stops_the_pipe_with_its_error_first(dense_file):
    done = shell(PIPE.replace("0.9", "1.5"), dense_file.parent)
    assert done.returncode != 0
    assert b"error: --sparsity: must be at least 0 and below 1, not 1.5" in done.stderr
    assert b"standard input is empty" in done.stderr
    assert not (dense_file.parent / "piped.dcz").exists()


def test_a_reader_that_stops_early_is_no_traceback(dense_file):
    done = shell("dcomp encode lenet300.safetensors -o - | head -c 10 > /dev/null", dense_file.parent)
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("output", ["-o /dev/full", "-o - > /dev/full"])
def test_a_full_disk_is_one_error(dense_file, output):
    done = shell(f"dcomp encode lenet300.safetensors {output}", dense_file.parent)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(b"error: ")
    assert b"No space left" in done.stderr


def test_outputs_get_clear_names(dense_file, dcomp):
    folder = dense_file.parent
    assert dcomp("prune", dense_file, "--sparsity", "0.9")[1] == f"{folder}/lenet300.pruned.safetensors\n"
    pruned = folder / "lenet300.pruned.safetensors"
    assert dcomp("quantize", pruned, "--fc-bits", "5")[1] == f"{folder}/lenet300.quantized.safetensors\n"
    assert dcomp("encode", folder / "lenet300.quantized.safetensors")[1] == f"{folder}/lenet300.dcz\n"
    assert dcomp("decode", folder / "lenet300.dcz")[1] == f"{folder}/lenet300.decoded.safetensors\n"


def test_decode_restores_single_tensors(dense_file, dcomp):
    dcomp("encode", dense_file)
    container = dense_file.with_suffix(".dcz")
    out = dense_file.with_name("some.safetensors")
    assert dcomp("decode", container, "--tensor", "bias$", "-o", out)[0] == 0
    assert list(safetensors_file.load_file(out).tensors) == ["fc1.bias", "fc2.bias", "fc3.bias"]
    assert Container.open(container).names == list(safetensors_file.load_file(dense_file).tensors)
