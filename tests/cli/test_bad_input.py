"""Whatever a person gets wrong: one clear `error:` line, the right exit code, and no file changed."""

import subprocess
import sys
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch

from dcomp.checkpoints import safetensors_file
from dcomp.checkpoints.checkpoint import Checkpoint


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_run_does_not_replace_files_that_no_run_made(tmp_path, dcomp):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "prune.safetensors").write_text("mine")
    (tmp_path / "r.yaml").write_text("name: r\ntrain: {architecture: lenet300, data: digits, epochs: 1}\n")
    code, _, err = dcomp("run", tmp_path / "r.yaml", "--out", tmp_path / "out")
    assert code == 1
    assert "prune.safetensors exists; --force replaces it" in err
    assert snapshot(tmp_path / "out") == {"prune.safetensors": b"mine"}


@pytest.fixture
def folder(dense_file, dcomp, monkeypatch):
    """A folder with a checkpoint, a container, and damaged or unsuitable versions of both."""
    home = dense_file.parent
    monkeypatch.chdir(home)
    monkeypatch.setenv("DCOMP_DATA", str(home / "no-data"))
    assert dcomp("encode", "lenet300.safetensors")[0] == 0
    whole = (home / "lenet300.dcz").read_bytes()
    (home / "cut.dcz").write_bytes(whole[: len(whole) // 2])
    (home / "flipped.dcz").write_bytes(whole[:-100] + bytes([whole[-100] ^ 4]) + whole[-99:])
    (home / "empty.dcz").write_bytes(b"")
    (home / "broken.safetensors").write_bytes((80).to_bytes(8, "little") + b"{" * 80)
    (home / "text.txt").write_text("hello")
    torch.save({"model": PurePosixPath("x")}, home / "pickle.pt")
    anonymous = Checkpoint({"w": np.ones((3, 4), np.float32)})
    with (home / "anonymous.safetensors").open("wb") as file:
        safetensors_file.save(anonymous, file)
    (home / "five.yaml").write_text(
        "name: five\ndata: mnist\ntrain: {architecture: lenet5, epochs: 0, lr: fast}\n"
        "prune: {sparsity: 1.5, colour: red}\nquantize: {conv_bits: 0}\n"
    )
    (home / "twice.yaml").write_text("name: twice\nprune: {sparsity: 0.5}\nprune: {sparsity: 0.9}\n")
    (home / "badnet.py").write_text(
        "from torch import nn\n"
        "def narrow(): return nn.Linear(3, 10)\n"
        "def few(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 5))\n"
    )
    broken = safetensors_file.load_file(home / "lenet300.safetensors")
    with (home / "nan.safetensors").open("wb") as file:
        safetensors_file.save(broken.replaced({"fc3.bias": np.full(10, np.nan, np.float32)}), file)
    (home / "blocks.yaml").write_text(
        "name: blocks\ndata: mnist\ncheckpoint: lenet300.safetensors\n"
        "prune: [{sparsity: 0.5}, {sparsity: 1.5}, 7]\nquantize: [{fc_bits: 5, init: best}]\n"
    )
    (home / "list.yaml").write_text("- 1\n- 2\n")
    (home / "broken.yaml").write_text("name: [\n")
    (home / "nothing.yaml").write_text("name: nothing\n")
    return home


EVAL = ["--data", "digits"]

BAD_NETWORKS = {
    "a data set without its folder": (
        ["eval", "lenet300.dcz", "--data", "imagefolder:"],
        2,
        "--data: there is no data",
    ),
    "a folder that is not there": (["train", "alexnet", "--data", "imagefolder:no"], 1, "no such folder of photos"),
    "a data set that does not come": (
        ["train", "lenet5", "--data", "ownnet:data"],
        1,
        "cannot make ownnet:data",
    ),
    "code that makes no data set": (
        ["train", "lenet5", "--data", "os:getcwd"],
        1,
        "os:getcwd returned a str; a factory",
    ),
    "images that are too small": (["train", "alexnet", *EVAL], 1, "alexnet sees images of at least 67x67 pixels"),
    "a crop beyond the image": (["train", "lenet5", *EVAL, "--crop", "40"], 1, "the images of digits are 28x28"),
    "classes that are too few": (["train", "lenet5", *EVAL, "--classes", "5"], 1, "gives (1, 5) for one image"),
    "no class at all": (["train", "lenet5", *EVAL, "--classes", "0"], 2, "--classes: input should be greater"),
    "dropout of everything": (["train", "lenet5", *EVAL, "--dropout", "1"], 2, "--dropout: input should be less"),
    "dropout that is not there": (
        ["train", "torchvision:resnet18", *EVAL, "--dropout", "0.5"],
        1,
        "torchvision's resnet18 has no dropout",
    ),
    "no such network of torchvision's": (
        ["train", "torchvision:resnet19", *EVAL],
        1,
        "name a network of your own as package.module:factory",
    ),
    "weights that nobody has": (["train", "lenet5", *EVAL, "--pretrained"], 1, "--pretrained goes with torchvision:"),
}

PRUNE = ["prune", "lenet300.safetensors"]

BAD_BYTES = {
    "a ratio and a sparsity": ([*PRUNE, "--sparsity", "0.9", "--target-ratio", "50"], 2, "both set the amount"),
    "a ratio and a threshold": (
        [*PRUNE, "--target-ratio", "50", "--criterion", "std", "--threshold", "1"],
        2,
        "--criterion std takes --threshold: leave --target-ratio out",
    ),
    "a ratio of one": ([*PRUNE, "--target-ratio", "1"], 2, "--target-ratio: input should be greater than 1"),
    "a ratio for one layer": (
        [*PRUNE, "--target-ratio", "50", "--layer", "fc1=0.5"],
        2,
        "--target-ratio has all weights share one budget: leave --layer out",
    ),
    "bits of codes and no ratio": ([*PRUNE, "--sparsity", "0.9", "--code-bits", "3"], 2, "give --target-ratio as well"),
    "a temperature and no teacher": (
        [*PRUNE, "--sparsity", "0.9", *EVAL, "--epochs", "1", "--temperature", "2"],
        2,
        "--temperature would do nothing without a teacher: name its checkpoint in --distill",
    ),
    "a teacher and no training": (
        [*PRUNE, "--sparsity", "0.9", "--distill", "lenet300.safetensors"],
        2,
        "--distill would do nothing without training: give --epochs as well",
    ),
    "an average of no training": ([*PRUNE, "--sparsity", "0.9", "--ema", "0.9"], 2, "--ema would do nothing"),
    "a ratio out of reach": ([*PRUNE, "--target-ratio", "5000"], 2, "prune biases too"),
    "gradients without training": ([*PRUNE, "--sparsity", "0.9", "--criterion", "fisher"], 2, "needs gradients"),
    "dead units without training": ([*PRUNE, "--sparsity", "0.9", "--remove-dead-units"], 2, "give --epochs as well"),
    "a teacher that is not there": (
        [*PRUNE, "--sparsity", "0.9", *EVAL, "--epochs", "1", "--distill", "nowhere.safetensors"],
        1,
        "cannot read nowhere.safetensors",
    ),
    "a teacher of no network": (
        [*PRUNE, "--sparsity", "0.9", *EVAL, "--epochs", "1", "--distill", "anonymous.safetensors"],
        1,
        "does not say which architecture",
    ),
    "a temperature of zero": (["train", "lenet5", *EVAL, "--temperature", "0"], 2, "--temperature: input should be"),
    "a decay of one": (["train", "lenet5", *EVAL, "--ema", "1"], 2, "--ema: input should be less than 1"),
    "a negative lambda": (
        ["quantize", "lenet300.safetensors", "--fc-bits", "4", "--lambda", "-1"],
        2,
        "--lambda: input should be greater",
    ),
}

CASES = {
    **BAD_BYTES,
    "a missing file": (["encode", "nowhere.safetensors"], 1, "cannot read nowhere.safetensors: No such file"),
    "a folder as input": (["encode", "."], 2, ". is a folder without"),
    "an empty container": (["decode", "empty.dcz"], 1, "cannot read empty.dcz"),
    "a container cut short": (["decode", "cut.dcz"], 1, "cut.dcz: the container should have"),
    "a flipped bit": (["decode", "flipped.dcz"], 1, "its checksum does not match, the file is damaged"),
    "a checkpoint to decode": (
        ["decode", "lenet300.safetensors"],
        1,
        "not a dcz container; it begins as a checkpoint, of which dcomp encode makes a container",
    ),
    "torch's file to decode": (["decode", "pickle.pt"], 1, "it begins as a checkpoint, of which dcomp encode makes"),
    "a checkpoint to run": (
        ["run", "pickle.pt"],
        2,
        "pickle.pt is not a text in UTF-8, so it is no recipe: name a YAML file",
    ),
    "shared weights by the name of a container": (
        ["quantize", "lenet300.safetensors", "--fc-bits", "5", "-o", "x.DCZ"],
        2,
        "quantize writes .safetensors files: name it x.safetensors (-o); dcomp encode writes .dcz files",
    ),
    "pruned weights by the name of a container": (
        [*PRUNE, "--sparsity", "0.9", "-o", "x.dcz"],
        2,
        "prune writes .safetensors files: name it x.safetensors (-o); dcomp encode writes .dcz files",
    ),
    "decoded weights by the name of Lightning's files": (
        ["decode", "lenet300.dcz", "-o", "x.ckpt"],
        2,
        "decode writes .safetensors files: name it x.safetensors (-o), or .pth for torch.load",
    ),
    "decoded weights by the name of an ONNX model": (
        ["decode", "lenet300.dcz", "-o", "x.onnx"],
        2,
        "decode writes .safetensors files: name it x.safetensors (-o); x.onnx would be the name of an ONNX model",
    ),
    "a network by the name of Lightning's files": (
        ["train", "lenet5", "--data", "digits", "-o", "x.ckpt"],
        2,
        "train writes .safetensors files: name it x.safetensors (-o), or .pth for torch.load",
    ),
    "a container by the name of a checkpoint": (
        ["encode", "lenet300.safetensors", "-o", "x.safetensors"],
        2,
        "encode writes .dcz files: name it x.dcz (-o); dcomp decode writes .safetensors files",
    ),
    "a container by the name of torch's files": (
        ["encode", "lenet300.safetensors", "-o", "x.ckpt"],
        2,
        "encode writes .dcz files: name it x.dcz (-o)",
    ),
    "a broken header": (["encode", "broken.safetensors"], 1, "not a readable safetensors file"),
    "a text file": (["prune", "text.txt", "--sparsity", "0.5"], 1, "is not a checkpoint: dcomp reads"),
    "a pickle": (["encode", "pickle.pt"], 1, "can run code when read, and is refused"),
    "no architecture": (["eval", "anonymous.safetensors", *EVAL], 1, "add --arch NAME"),
    "a wrong architecture": (["eval", "lenet300.dcz", *EVAL, "--arch", "lenet5"], 1, "does not fit lenet5"),
    "an unknown architecture": (
        ["train", "lenet6", *EVAL],
        2,
        "error: ARCHITECTURE: there is no architecture 'lenet6'; did you mean lenet5? There are",
    ),
    "an unknown data set": (["eval", "lenet300.dcz", "--data", "mnits"], 2, "--data: there is no data set 'mnits'"),
    **BAD_NETWORKS,
    "no data set": (["eval", "lenet300.dcz"], 2, "the checkpoint records none: name one in data (--data)"),
    "training without data": (["train", "lenet5"], 2, "training needs data: name a data set (--data), like mnist"),
    "a sparsity of 1.5": (
        ["prune", "lenet300.safetensors", "--sparsity", "1.5"],
        2,
        "--sparsity: must be at least 0 and below 1, not 1.5",
    ),
    "a sparsity that is no number": (
        ["prune", "lenet300.safetensors", "--sparsity", "x"],
        2,
        "Invalid value for '--sparsity'",
    ),
    "no sparsity": (["prune", "lenet300.safetensors"], 2, "give a sparsity, like 0.9"),
    "an unknown layer": (
        ["prune", "lenet300.safetensors", "--sparsity", "0.9", "--layer", "conv=0.5"],
        2,
        "no layer matches 'conv'; there are fc1.weight, fc2.weight, fc3.weight",
    ),
    "a rule without a value": (
        ["prune", "lenet300.safetensors", "--sparsity", "0.9", "--layer", "fc1"],
        2,
        "--layer: 'fc1' is not of the form REGEX=VALUE",
    ),
    "a layer's sparsity of 2": (
        ["prune", "lenet300.safetensors", "--layer", "fc1=2"],
        2,
        "must be at least 0 and below 1",
    ),
    "a threshold without std": (["prune", "lenet300.safetensors", "--threshold", "1"], 2, "goes with criterion std"),
    "an unknown kind": (
        ["prune", "lenet300.safetensors", "--sparsity", "0.9", "--kinds", "conv,dense"],
        2,
        "--kinds: input should be 'conv', 'linear' or 'bias', not 'dense'",
    ),
    "masks that move too long": (
        ["prune", "lenet300.safetensors", "--sparsity", "0.9", "--epochs", "3", "--until", "3", *EVAL],
        2,
        "start <= until < epochs must hold, not 0 <= 3 < 3",
    ),
    "two amounts": (["prune", "lenet300.safetensors", "--sparsity", "0.9", "--count", "5"], 2, "give one"),
    "an amount of 1": (
        ["prune", "lenet300.safetensors", "--amount", "1"],
        2,
        "--amount: must be at least 0 and below",
    ),
    "more zeros than weights": (["prune", "lenet300.safetensors", "--count", "300000"], 2, "where there are 266,200"),
    "half a weight": (["prune", "lenet300.safetensors", "--count", "1", "--layer", "fc1=0.5"], 2, "a whole number"),
    "no layer left": (["prune", "lenet300.safetensors", "--count", "1", "--skip", "fc"], 2, "and skip choose none"),
    "a name that is no expression": (["prune", "lenet300.safetensors", "--only", "("], 2, "--only: '(' is not a reg"),
    "rows of all layers": (
        ["prune", "lenet300.safetensors", "--sparsity", "0.9", "--structure", "row", "--scope", "global"],
        2,
        "leave --scope global out",
    ),
    "moves without epochs": (
        ["prune", "lenet300.safetensors", "--count", "1", "--at", "1"],
        2,
        "give --epochs as well",
    ),
    "moves that descend": (
        ["prune", "lenet300.safetensors", "--count", "1", "--at", "2,1", "--epochs", "3", *EVAL],
        2,
        "the moves in at must ascend and be below the 3 epochs, not 2, 1",
    ),
    "moves that are no numbers": (["prune", "lenet300.safetensors", "--count", "1", "--at", "1;2"], 2, "--at: input"),
    "moves listed and counted": (
        ["prune", "lenet300.safetensors", "--count", "1", "--at", "1,2", "--every", "2", "--epochs", "3", *EVAL],
        2,
        "--at lists all moves of the masks: leave --every out",
    ),
    "one shot at two epochs": (
        [
            "prune",
            "lenet300.safetensors",
            "--count",
            "1",
            "--at",
            "1,2",
            "--schedule",
            "oneshot",
            "--epochs",
            "3",
            *EVAL,
        ],
        2,
        "schedule oneshot moves the masks once: give one epoch in at",
    ),
    "nothing to resume": ([*PRUNE, "--sparsity", "0.5", "--resume"], 2, "--resume would do nothing without training"),
    "training on from a checkpoint": (
        ["train", "lenet5", "--from", "lenet300.safetensors"],
        2,
        "No such option: --from",
    ),
    "an amount at a uniform pace": (
        [*PRUNE, "--amount", "0.5", "--schedule", "uniform", "--epochs", "4", *EVAL],
        2,
        "as schedule iterative does: leave --schedule uniform out",
    ),
    "momentum of adam": (
        ["train", "lenet5", *EVAL, "--optimizer", "adam", "--momentum", "0.9"],
        2,
        "--momentum would do nothing with this optimizer: give --optimizer sgd or muon or rmsprop as well",
    ),
    "patience without plateau": (
        ["train", "lenet5", *EVAL, "--patience", "5"],
        2,
        "give --lr-schedule plateau as well",
    ),
    "finetuning without epochs": (["finetune", "lenet300.safetensors", *EVAL], 2, "--epochs: is missing"),
    "rewinding to nothing": (
        ["prune", "lenet300.safetensors", "--count", "1", "--rewind", "nowhere"],
        1,
        "cannot read nowhere",
    ),
    "rewinding to another network": (
        ["prune", "lenet300.safetensors", "--count", "1", "--rewind", "anonymous.safetensors"],
        1,
        "cannot rewind: fc1.weight is absent where the pruned network has (300, 784)",
    ),
    "rewinding again and again": (
        ["prune", "lenet300.safetensors", "--count", "1", "--rewind", "x", "--epochs", "3", *EVAL],
        2,
        "give --schedule oneshot, and prune again for each round",
    ),
    "sharing after the end": (
        ["quantize", "lenet300.safetensors", "--fc-bits", "5", "--start", "3", "--epochs", "2", *EVAL],
        2,
        "start <= epochs must hold, not 3 <= 2",
    ),
    "an override beyond a list": (
        ["run", "blocks.yaml", "--set", "prune.4.sparsity=1"],
        2,
        "this is a list, so 4 should be a number from 1 to 3",
    ),
    "an override of a list by a key": (
        ["run", "blocks.yaml", "--set", "prune.sparsity=1"],
        2,
        "this is a list, so",
    ),
    "0 bits": (["quantize", "lenet300.safetensors", "--fc-bits", "0"], 2, "--fc-bits: input should be greater"),
    "17 bits for a layer": (["quantize", "lenet300.safetensors", "--bits", "fc1=17"], 2, "a whole number from 1 to 16"),
    "no bits": (["quantize", "lenet300.safetensors"], 2, "say how many bits, like bits 5 (--bits 5)"),
    "no convolutions": (["quantize", "lenet300.safetensors", "--conv-bits", "8"], 2, "no conv tensor to quantize"),
    "an output that exists": (["encode", "lenet300.safetensors"], 1, "lenet300.dcz exists; --force replaces it"),
    "the input as output": (
        ["prune", "lenet300.safetensors", "--sparsity", "0.9", "-f", "-o", "lenet300.safetensors"],
        1,
        "is the input; name another output",
    ),
    "a folder as output": (["encode", "lenet300.safetensors", "-o", "."], 1, ". is a folder; name a file"),
    "an output in no folder": (
        ["encode", "lenet300.safetensors", "-o", "no/x.dcz"],
        1,
        "the folder no does not exist; create it first",
    ),
    "a tensor that is not there": (["decode", "lenet300.dcz", "--tensor", "conv"], 2, "no tensor matches 'conv'"),
    "a broken expression": (["decode", "lenet300.dcz", "--tensor", "("], 2, "is not a regular expression"),
    "too little memory": (["decode", "lenet300.dcz", "--max-memory", "0.0001"], 1, "(--max-memory) raises it"),
    "a ratio that is missed": (["report", "lenet300.dcz", "--min-ratio", "39"], 3, "below the 39 required"),
    "two formats at once": (["report", "lenet300.dcz", "--json", "--csv"], 2, "exclude each other"),
    "an unknown option": (["encode", "lenet300.safetensors", "--fast"], 2, "No such option: --fast"),
    "an unknown command": (["compress", "lenet300.safetensors"], 2, "No such command 'compress'"),
    "an unknown device": (["eval", "lenet300.dcz", *EVAL, "--device", "abacus"], 2, "--device abacus: not available"),
    "a missing recipe": (["run", "none.yaml"], 2, "cannot read the recipe none.yaml"),
    "a recipe that is no mapping": (["run", "list.yaml"], 2, "not a mapping of keys to values"),
    "a recipe that is no YAML": (["run", "broken.yaml"], 2, "the recipe broken.yaml is not valid YAML"),
    "a recipe with a section twice": (["run", "twice.yaml"], 2, "prune occurs twice"),
    "a recipe with a list for a section": (["run", "nothing.yaml", "--set", "train=[1]"], 2, "a section of keys"),
    "a recipe whose name leads elsewhere": (["run", "nothing.yaml", "--set", "name=.."], 2, "should match pattern"),
    "an override without a key": (["run", "nothing.yaml", "--set", "=5"], 2, "write it as key=value"),
    "bits that are no number": (["quantize", "lenet300.safetensors", "--bits", "fc1=nan"], 2, "not a finite number"),
    "a negative threshold for a layer": (
        ["prune", "lenet300.safetensors", "--criterion", "std", "--threshold", "1", "--layer", "fc1=-3"],
        2,
        "must be above 0",
    ),
    "a seed beyond 64 bits": (["train", "lenet5", *EVAL, "--seed", "9" * 23], 2, "--seed: input should be less"),
    "a warm-up longer than one of two trainings": (
        ["quantize", "lenet300.safetensors", "--fc-bits", "4", "--epochs", "9", "--start", "8", "--warmup", "1", *EVAL],
        2,
        "both trainings begin with warmup epochs: give fewer than 1, not 1",
    ),
    "a log of no epochs": (
        ["prune", "lenet300.safetensors", "--count", "1", "--log", "x"],
        2,
        "--log would do nothing",
    ),
    "curves of no epochs": (
        ["quantize", "lenet300.safetensors", "--fc-bits", "4", "--tensorboard", "x"],
        2,
        "--tensorboard would do nothing without training: give --epochs",
    ),
    "three options of no epochs": (
        ["prune", "lenet300.safetensors", "--count", "1", "--arch", "lenet300", "--log", "x", "--save-every", "9"],
        2,
        "--arch, --log and --save-every would do nothing without training: give --epochs as well",
    ),
    "a warm-up longer than the run": (["train", "lenet5", *EVAL, "--epochs", "2", "--warmup", "2"], 2, "2 < 2"),
    "plateau without validation": (
        ["train", "lenet5", *EVAL, "--lr-schedule", "plateau", "--val-split", "0"],
        2,
        "goes by validation",
    ),
    "nothing to take up": (["train", "lenet5", *EVAL, "--resume"], 2, "there is no lenet5.safetensors.state"),
    "nothing to take up in a pipe": (
        ["prune", "lenet300.safetensors", "--sparsity", "0.5", "--epochs", "1", *EVAL, "-o", "-", "--resume"],
        2,
        "--resume needs an output file",
    ),
    "a precision of 8 bits": (["train", "lenet5", *EVAL, "--precision", "fp8"], 2, "Invalid value for '--precision'"),
    "a gradient without length": (["train", "lenet5", *EVAL, "--clip-norm", "0"], 2, "--clip-norm: input should be"),
    "a log that exists": (["train", "lenet5", *EVAL, "--log", "text.txt"], 1, "text.txt exists; --force replaces it"),
    "a log in no folder": (
        ["train", "lenet5", *EVAL, "--log", "no/log.csv"],
        1,
        "the folder no does not exist; create it first",
    ),
    "a network for other images": (["train", "badnet:narrow", *EVAL], 1, "badnet:narrow does not take images of shape"),
    "a network for fewer classes": (["train", "badnet:few", *EVAL], 1, "gives (1, 5) for one image, not (1, 10)"),
    "a network that answers NaN": (["eval", "nan.safetensors", *EVAL], 1, "the network's loss is nan"),
    "a recipe without a start": (["run", "nothing.yaml"], 2, "give either a section train or a checkpoint"),
    "an override without a value": (["run", "nothing.yaml", "--set", "seed"], 2, "write it as key=value"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_error_and_changes_no_file(folder, dcomp, case):
    arguments, code, message = CASES[case]
    before = snapshot(folder)
    found, out, err = dcomp(*arguments)
    assert found == code
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert message in lines[0]
    assert "Traceback" not in err
    assert not out or case in ("a ratio that is missed",)
    assert snapshot(folder) == before


def test_all_mistakes_of_a_recipe_are_told_at_once(folder, dcomp):
    code, _, err = dcomp("run", "five.yaml")
    assert code == 2
    assert err.startswith("error: the recipe five.yaml has 5 mistakes:\n")
    for key in ("train.epochs", "train.lr", "prune.sparsity", "prune.colour", "quantize.conv_bits"):
        assert f"\n  {key}: " in err


def test_a_mistake_in_a_list_of_sections_is_told_with_the_number_of_its_section(folder, dcomp):
    _, _, err = dcomp("run", "blocks.yaml")
    assert err.startswith("error: the recipe blocks.yaml has 3 mistakes:\n")
    for place in (
        "prune.2.sparsity: must be at least 0",
        "prune.3: should be a section of keys and values, not 7",
        "quantize.1.init: ",
    ):
        assert f"\n  {place}" in err
    _, _, err = dcomp("run", "blocks.yaml", "--set", "prune.3={count: 1}", "--set", "quantize=5")
    assert "\n  quantize: should be a section of keys and values, not 5" in err


def test_an_error_above_its_bound_fails_after_printing(folder, dcomp):
    code, out, err = dcomp("eval", "lenet300.dcz", *EVAL, "--max-error", "1")
    assert code == 3
    assert "top-1 error" in out
    assert "is above the 1 % allowed" in err


def test_binary_does_not_go_to_a_terminal(folder, dcomp, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    code, out, err = dcomp("encode", "lenet300.safetensors", "-o", "-")
    assert (code, out) == (1, "")
    assert "would go to the terminal" in err


def test_a_terminal_as_input_asks_for_a_file(folder, dcomp, monkeypatch):
    monkeypatch.setattr("sys.stdin", type("Tty", (), {"isatty": lambda self: True})())
    code, _, err = dcomp("report")
    assert code == 2
    assert err == "error: no input: name a file, or pipe one in\n"


def test_debug_shows_the_traceback(folder, dcomp, monkeypatch):
    monkeypatch.setenv("DCOMP_DEBUG", "1")
    with pytest.raises(Exception, match="cannot read nowhere"):
        dcomp("encode", "nowhere")


def test_an_interrupted_run_leaves_no_half_file(folder):
    code = "import sys, dcomp.stages as s; from dcomp.cli import run\n"
    code += "def stop(*_, **__): raise KeyboardInterrupt\n"
    code += "s.encode = stop; sys.exit(run(['encode', 'lenet300.safetensors', '-f']))"
    before = snapshot(folder)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert snapshot(folder) == before
