"""--key: which network of a file of torch a command reads."""

import pytest
import torch

COMMANDS = [
    ["encode", "-o", "x.dcz"],
    ["prune", "--sparsity", "0.5", "-o", "x"],
    ["quantize", "--fc-bits", "2", "-o", "x"],
    ["finetune", "--arch", "lenet300", "--data", "digits", "--epochs", "1", "-o", "x"],
    ["eval", "--arch", "lenet300", "--data", "digits"],
    ["sensitivity", "--arch", "lenet300", "--data", "digits", "--prune", "0.5", "--bits", "none"],
    ["report"],
    ["inspect"],
    ["bench", "-t", "0", "--levels", "1"],
]


@pytest.fixture
def folder(tmp_path, lenet_like, monkeypatch):
    state = {name: torch.from_numpy(array) for name, array in lenet_like.tensors.items()}
    torch.save({"net": state, "ema": {name: 2 * tensor for name, tensor in state.items()}}, tmp_path / "two.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_command_that_reads_a_checkpoint_chooses_one_of_several_networks(dcomp, folder, command):
    code, _, err = dcomp(*command, "two.pth")
    assert (code, "two.pth holds several networks: 'net' (6 tensors, 1,066,440 bytes), 'ema' (" in err) == (1, True), (
        err
    )
    code, _, err = dcomp(*command, "two.pth", "--key", "ema")
    assert (code, "the tensors under 'ema' are read, those under 'net' are left out" in err) == (0, True), err


@pytest.mark.parametrize("command", [["encode", "-o", "y"], ["report"], ["inspect"]], ids=lambda command: command[0])
@pytest.mark.parametrize("name", ["lenet300.safetensors", "x.dcz"])
def test_a_key_for_a_file_without_keys_is_refused(dcomp, dense_file, folder, command, name):
    dcomp("encode", dense_file, "-o", "x.dcz")
    code, _, err = dcomp(*command, name, "--key", "ema")
    assert (code, err) == (
        2,
        f"error: --key chooses a network in a file of torch, and {name} is none: leave --key out\n",
    )


def test_a_note_about_a_pipe_calls_it_by_its_name(dcomp, folder, monkeypatch):
    monkeypatch.setattr("sys.stdin", open("two.pth"))  # noqa: PTH123, SIM115  # as the interpreter opens it
    code, _, err = dcomp("encode", "--key", "net", "-o", "x.dcz")
    assert (code, err.startswith("standard input: the tensors under 'net' are read")) == (0, True)
