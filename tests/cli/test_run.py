import json
import os
from pathlib import Path

import numpy as np
import pytest

from dcomp import sources
from dcomp.checkpoints import safetensors_file
from dcomp.cli.console import Terminal
from dcomp.container.reader import Container
from dcomp.progress.observer import Observer
from dcomp.runs.run import Run
from dcomp.settings import recipe as recipe_file
from dcomp.settings.recipe import load
from dcomp.system import locks

RECIPE = """
name: tiny
data: digits
train: {architecture: lenet300, epochs: 2, batch_size: 64, lr: 0.05}
prune: {sparsity: 0.9, epochs: 2, until: 1}
quantize: {fc_bits: 5, epochs: 1}
eval: {}
"""


def test_a_run_leaves_every_checkpoint_and_a_summary(recipe, dcomp, tmp_path):
    out = tmp_path / "out"
    code, printed, _ = dcomp("run", recipe, "--out", out)
    assert code == 0
    files = {path.name for path in out.iterdir()}
    checkpoints = {"train.safetensors", "prune.safetensors", "quantize.safetensors", "model.dcz"}
    assert files == {*checkpoints, "summary.json", "stages.json", "train.csv", "prune.csv", "quantize.csv"}
    summary = json.loads((out / "summary.json").read_text())
    assert [stage["stage"] for stage in summary["stages"]] == ["train", "prune", "quantize", "encode"]
    assert summary["sizes"]["file_bytes"] == (out / "model.dcz").stat().st_size
    assert [round(stage["sparsity"], 2) for stage in summary["stages"]] == [0, 0.9, 0.9, 0.9]
    assert summary["stages"][2]["top1_error"] == summary["stages"][3]["top1_error"]
    assert f"{summary['sizes']['file_bytes']:,}" in printed
    assert Container.open(out / "model.dcz").metadata["dcomp.architecture"] == "lenet300"


def test_the_tables_of_a_run_agree(recipe, dcomp, tmp_path):
    out = tmp_path / "out"
    sizes, _, stages = dcomp("run", recipe, "--out", out)[1].rstrip().rsplit("\n\n", 2)
    file_row = next(line.split() for line in sizes.splitlines() if line.startswith("whole file"))
    encoded = stages.splitlines()[-1].split()
    summary = json.loads((out / "summary.json").read_text())
    assert encoded[:2] == ["encode", "model.dcz"]
    assert (encoded[2], encoded[3], encoded[4]) == (f"{summary['sizes']['file_bytes']:,}", file_row[-1], file_row[3])
    assert summary["stages"][-1]["kept_percent"] == summary["sizes"]["total"]["kept_percent"]
    report = json.loads(dcomp("report", out / "model.dcz", "--json")[1])
    assert report == summary["sizes"]
    assert dcomp("report", out / "quantize.safetensors", "--json")[1] == dcomp("report", out / "model.dcz", "--json")[1]
    for stage in ("train", "prune", "quantize"):
        listing = json.loads(dcomp("inspect", out / f"{stage}.safetensors", "--json")[1])
        kept = next(line["kept_percent"] for line in summary["stages"] if line["stage"] == stage)
        assert listing["kept_percent"] == kept


def test_a_rerun_goes_on_from_the_stages_already_done(recipe, dcomp, tmp_path):
    out = tmp_path / "out"
    assert dcomp("run", recipe, "--out", out)[0] == 0
    first = (out / "model.dcz").read_bytes()
    _, _, err = dcomp("run", recipe, "--out", out)
    assert [line.split(":")[0] for line in err.splitlines()] == ["train", "prune", "quantize", "encode"]
    assert err.count("done before") == 4
    _, _, err = dcomp("run", recipe, "--out", out, "--set", "quantize.fc_bits=3")
    assert err.count("done before") == 2
    assert (out / "model.dcz").stat().st_size < len(first)
    (out / "prune.safetensors").write_bytes(b"damaged")
    _, _, err = dcomp("run", recipe, "--out", out)
    assert err.count("done before") == 1
    assert (out / "model.dcz").read_bytes() == first


def test_errors_are_measured_again_without_running_stages_again(recipe, dcomp, tmp_path):
    out = tmp_path / "out"
    dcomp("run", recipe, "--out", out, "--set", "eval=null")
    assert json.loads((out / "summary.json").read_text())["stages"][0]["top1_error"] is None
    _, _, err = dcomp("run", recipe, "--out", out)
    assert err.count("done before") == 4
    assert json.loads((out / "summary.json").read_text())["stages"][0]["top1_error"] > 0


@pytest.mark.parametrize("change", ["precision=bf16", "resize=64"])
def test_changed_data_settings_measure_errors_again(recipe, dcomp, tmp_path, change):
    measured = []
    for arguments in ([], ["--set", f"eval.{change}"], ["--set", "eval.workers=0", "--set", "eval.max_error=99"]):
        only_train = ["--set", "prune=null", "--set", "quantize=null"]
        assert dcomp("run", recipe, "--out", tmp_path / "out", *only_train, *arguments)[0] == 0
        measured.append(set(json.loads((tmp_path / "out" / "stages.json").read_text())["train"]["errors"]))
    assert measured == [{"digits"}, {"digits", f"digits {change}"}, {"digits", f"digits {change}"}]


def test_keys_above_the_sections_apply_to_each_section(recipe):
    read = load(recipe, ["resize=64", "cache=photos", "eval.resize=80"])
    assert [section.resize for section in (read.train, *read.prune, *read.quantize, read.eval)] == [64, 64, 64, 80]
    assert read.eval.cache == read.train.cache == Path("photos")


def test_a_failed_stage_keeps_earlier_stages_and_no_summary(recipe, dcomp, tmp_path):
    out = tmp_path / "out"
    assert dcomp("run", recipe, "--out", out)[0] == 0
    code, _, _ = dcomp("run", recipe, "--out", out, "--set", "quantize.lr=1e30")
    assert code == 1
    assert not (out / "summary.json").exists()
    _, _, err = dcomp("run", recipe, "--out", out)
    assert err.count("done before") == 4


def test_a_network_of_ones_own_runs_from_start_to_end(recipe, dcomp, tmp_path, monkeypatch):
    (tmp_path / "ownnet.py").write_text(
        "from torch import nn\ndef small(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    code, _, err = dcomp("run", recipe, "--out", tmp_path / "out", "--set", "train.architecture=ownnet:small")
    assert code == 0, err


def test_force_runs_every_stage_again(recipe, dcomp, tmp_path):
    out = tmp_path / "out"
    for arguments in ([], ["--force"]):
        _, _, err = dcomp("run", recipe, "--out", out, "--set", "train.epochs=1", *arguments)
    assert "done before" not in err


def test_a_stage_that_begins_anew_removes_what_it_has_logged(recipe, dcomp, tmp_path):
    out = tmp_path / "out"
    run = ["run", recipe, "--out", out, "--tensorboard", "--set", "train.epochs=1"]
    assert dcomp(*run)[0] == 0
    events = {stage: set((out / "tensorboard" / stage).iterdir()) for stage in ("train", "prune", "quantize")}
    assert all(len(files) == 1 for files in events.values())
    assert dcomp(*run, "--set", "quantize.epochs=0")[0] == 0
    assert set((out / "tensorboard" / "prune").iterdir()) == events["prune"]
    assert not (out / "tensorboard" / "quantize").exists()
    assert not (out / "quantize.csv").exists()
    assert dcomp(*run, "--force")[0] == 0
    for stage, old in events.items():
        new = set((out / "tensorboard" / stage).iterdir())
        assert (len(new), new & old) == (1, set())


def test_a_missed_bound_fails_after_the_summary_is_written(recipe, dcomp, tmp_path):
    out = tmp_path / "out"
    code, printed, err = dcomp("run", recipe, "--out", out, "--set", "report.min_ratio=1000", "--json")
    assert code == 3
    assert "below the 1000 required" in err
    assert json.loads(printed) == json.loads((out / "summary.json").read_text())


def test_a_run_may_start_from_a_checkpoint(dense_file, dcomp, tmp_path):
    path = tmp_path / "from.yaml"
    path.write_text(f"name: from\ncheckpoint: {dense_file}\nprune: {{sparsity: 0.9}}\nquantize: {{fc_bits: 5}}\n")
    code, printed, _ = dcomp("run", path, "--out", tmp_path / "out")
    assert code == 0
    assert "model.dcz" in printed


def test_curves_of_a_run_that_trains_nothing_are_refused(dense_file, dcomp, tmp_path):
    path = tmp_path / "from.yaml"
    path.write_text(f"name: from\ncheckpoint: {dense_file}\nprune: {{sparsity: 0.9}}\n")
    code, _, err = dcomp("run", path, "--out", tmp_path / "out", "--tensorboard")
    assert (code, "--tensorboard logs epochs, and no stage of" in err) == (2, True)


BLOCKS = """
name: blocks
data: digits
train: {architecture: lenet300, epochs: 1, lr: 0.05}
prune:
  - {sparsity: 0.5, only: fc1}
  - {sparsity: 0.25, only: fc2}
quantize:
  - {bits: fc1=4, epochs: 1}
  - {bits: [fc2=3]}
"""


def test_sections_in_a_list_run_in_order_each_with_a_file_and_a_row(dcomp, tmp_path):
    (tmp_path / "blocks.yaml").write_text(BLOCKS)
    out = tmp_path / "out"
    code, printed, err = dcomp("run", tmp_path / "blocks.yaml", "--out", out)
    assert code == 0, err
    stages = ["train", "prune", "prune.2", "quantize", "quantize.2", "encode"]
    assert [stage["stage"] for stage in json.loads((out / "summary.json").read_text())["stages"]] == stages
    assert all((out / f"{stage}.safetensors").is_file() and f"{stage}.safetensors" in printed for stage in stages[:-1])
    weights = sources.load_checkpoint(out / "model.dcz").tensors
    assert np.unique(weights["fc1.weight"]).size <= 17
    assert np.unique(weights["fc2.weight"]).size <= 9
    assert (weights["fc1.weight"] == 0).sum() == 117_600
    assert (weights["fc2.weight"] == 0).sum() == 7_500


FINETUNED = """
name: finetuned
data: digits
train: {architecture: lenet300, epochs: 1, lr: 0.05}
prune: {sparsity: 0.9}
finetune: {epochs: 1}
quantize: {fc_bits: 4}
"""


def test_finetune_runs_between_prune_and_quantize_and_keeps_the_masks(dcomp, tmp_path):
    (tmp_path / "finetuned.yaml").write_text(FINETUNED)
    out = tmp_path / "out"
    code, _, err = dcomp("run", tmp_path / "finetuned.yaml", "--out", out)
    assert code == 0, err
    names = [stage["stage"] for stage in json.loads((out / "summary.json").read_text())["stages"]]
    assert names == ["train", "prune", "finetune", "quantize", "encode"]
    pruned, finetuned = (sources.load_checkpoint(out / f"{name}.safetensors") for name in ("prune", "finetune"))
    before, after = pruned.tensors["fc1.weight"], finetuned.tensors["fc1.weight"]
    assert np.array_equal(before == 0, after == 0)
    assert not np.array_equal(before, after)


def test_a_section_added_below_leaves_those_above_done(dcomp, tmp_path):
    path, out = tmp_path / "blocks.yaml", tmp_path / "out"
    path.write_text(BLOCKS)
    assert dcomp("run", path, "--out", out, "--set", "quantize={bits: fc1=4, epochs: 1}")[0] == 0
    _, _, err = dcomp("run", path, "--out", out)
    assert err.count("done before") == 4
    _, _, err = dcomp("run", path, "--out", out, "--set", "prune.2.sparsity=0.3")
    assert err.count("done before") == 2


def test_a_changed_rewind_runs_its_stage_again(dense_file, dcomp, tmp_path):
    path, out, early = tmp_path / "ticket.yaml", tmp_path / "out", tmp_path / "early.safetensors"
    path.write_text(f"name: t\ncheckpoint: {dense_file}\nprune: {{sparsity: 0.9, rewind: {early}}}\n")
    early.write_bytes(dense_file.read_bytes())
    assert dcomp("run", path, "--out", out)[0] == 0
    assert dcomp("run", path, "--out", out)[2].count("done before") == 2
    assert dcomp("prune", early, "--sparsity", "0", "--kinds", "bias", "-f", "-o", tmp_path / "other")[0] == 0
    early.write_bytes((tmp_path / "other").read_bytes())
    assert "done before" not in dcomp("run", path, "--out", out)[2]


class Notes(Observer):
    """Keeps what it is told."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def test_a_run_adopts_equal_stages_of_another(recipe, tmp_path):
    one, other, notes = tmp_path / "one", tmp_path / "other", Notes()
    Run(recipe_file.load(recipe), one).prepare("prune")
    assert not (one / "quantize.safetensors").exists()
    other.mkdir()
    (other / "stages.json").write_text("{}")
    stale = other / "train.safetensors.0123.state"
    stale.write_bytes(b"of a run that was stopped")
    changed = recipe_file.load(recipe, ["prune.sparsity=0.5"])
    Run(changed, other, notes, other_runs=[tmp_path / "none", one]).prepare("prune")
    assert [line.split(",")[0] for line in notes.lines[:2]] == ["train: done before", "prune: running"]
    assert (other / "train.safetensors").samefile(one / "train.safetensors")
    assert (other / "train.csv").read_text() == (one / "train.csv").read_text()
    assert not stale.exists()


def test_a_damaged_file_of_another_run_is_not_adopted(recipe, tmp_path):
    one, notes = tmp_path / "one", Notes()
    Run(recipe_file.load(recipe), one).prepare("train")
    (one / "train.safetensors").write_bytes(b"damaged")
    Run(recipe_file.load(recipe), tmp_path / "other", notes, other_runs=[one]).prepare("train")
    assert notes.lines == ["train: running"]


def test_a_change_of_the_teacher_runs_its_student_again(dcomp, tmp_path):
    path, out = tmp_path / "taught.yaml", tmp_path / "out"
    path.write_text(
        "name: taught\ndata: digits\ntrain: {architecture: lenet300, epochs: 1}\n"
        "prune: {sparsity: 0.9, epochs: 1, until: 0, distill: train}\n"
    )
    code, _, err = dcomp("run", path, "--out", out, "--set", "prune.distill=nowhere")
    assert (code, "cannot read nowhere" in err) == (1, True)
    assert dcomp("run", path, "--out", out)[0] == 0
    assert dcomp("run", path, "--out", out)[2].count("done before") == 3
    assert dcomp("run", path, "--out", out, "--set", "prune.alpha=0.9")[2].count("done before") == 1


def test_a_stage_learns_from_no_later_one_not_even_of_a_run_before(dcomp, tmp_path):
    path, out = tmp_path / "taught.yaml", tmp_path / "out"
    path.write_text(
        "name: taught\ndata: digits\ntrain: {architecture: lenet300, epochs: 1}\n"
        "prune: {sparsity: 0.9, epochs: 1, until: 0}\nquantize: {fc_bits: 4}\n"
    )
    assert dcomp("run", path, "--out", out)[0] == 0
    before = (out / "quantize.safetensors").read_bytes()
    code, _, err = dcomp("run", path, "--out", out, "--set", "prune.distill=quantize")
    assert (code, "cannot read quantize" in err) == (1, True)
    assert (out / "quantize.safetensors").read_bytes() == before


def test_a_teacher_of_other_classes_is_an_error(dcomp, tmp_path):
    path = tmp_path / "taught.yaml"
    path.write_text(
        "name: taught\ndata: digits\ntrain: {architecture: lenet300, epochs: 1, classes: 12}\nquantize: {fc_bits: 4}\n"
    )
    assert dcomp("run", path, "--out", tmp_path / "out")[0] == 0
    teacher = tmp_path / "out" / "train.safetensors"
    code, _, err = dcomp(
        "train", "lenet300", "--data", "digits", "--epochs", "1", "--distill", teacher, "-o", tmp_path / "x"
    )
    assert (code, err.splitlines()[-1]) == (1, "error: the teacher has 12 classes, and the network 10")


QUICK = """
name: quick
checkpoint: lenet300.safetensors
prune: {sparsity: 0.9}
quantize: {fc_bits: 4}
"""


@pytest.fixture
def quick(dense_file, monkeypatch):
    """A recipe of stages that do not train, in the current folder."""
    monkeypatch.chdir(dense_file.parent)
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", 0)
    Path("quick.yaml").write_text(QUICK)
    return Path("quick.yaml")


@pytest.mark.parametrize(
    "command", [["run"], ["sweep", "--set", "prune.sparsity=0.5,0.9", "--set", "eval.data=digits"]]
)
def test_one_run_at_a_time_works_in_a_folder(quick, dcomp, command):
    Path("out").mkdir()
    with locks.exclusive(Path("out", ".dcomp.lock"), "out"):
        code, out, err = dcomp(command[0], quick, *command[1:], "--out", "out")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: process {os.getpid()} on ")
    assert "works in out; wait for it, stop it, or name another output" in err
    assert list(Path("out").iterdir()) == []


def test_a_lock_goes_with_its_run(quick, dcomp):
    assert dcomp("run", quick, "--out", "out")[0] == 0
    assert dcomp("run", quick, "--out", "out", "--set", "quantize.bits=['fc9=3']")[0] == 2
    assert not Path("out", ".dcomp.lock").exists()
    assert dcomp("run", quick, "--out", "out")[0] == 0


def test_a_run_sees_what_another_has_done_until_it_begins(quick, dcomp, capfd):
    waiting = Run(load(quick), Path("out"), Terminal())
    assert dcomp("run", quick, "--out", "out")[0] == 0
    waiting.run()
    assert capfd.readouterr().err.count("done before") == 3


OUTPUTS = ["prune.safetensors", "prune.csv", "quantize.safetensors", "train.csv", "model.dcz", "summary.json"]


@pytest.mark.parametrize("name", [*OUTPUTS, "stages.json", ".dcomp.lock"])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_folder_at_an_output_path_stops_before_any_stage(quick, dcomp, name, force):
    Path("out", name).mkdir(parents=True)
    code, _, err = dcomp("run", quick, "--out", "out", *force)
    assert (code, err) == (1, f"error: out/{name} is a folder, but must be a file; name another --out\n")
    assert [path.name for path in Path("out").iterdir()] == [name]


def test_a_run_does_not_write_over_what_it_reads(quick, dcomp):
    assert dcomp("run", quick, "--out", "out")[0] == 0
    before = Path("out", "prune.safetensors").read_bytes()
    code, _, err = dcomp("run", quick, "--out", "out", "--set", "checkpoint=out/prune.safetensors", "-f")
    assert (code, err) == (
        1,
        "error: the recipe reads out/prune.safetensors, which the run would replace; name another --out\n",
    )
    assert Path("out", "prune.safetensors").read_bytes() == before


def test_a_section_may_read_the_file_of_a_stage_before_it(quick, dcomp):
    rounds = "prune=[{sparsity: 0.5}, {sparsity: 0.9, rewind: out/prune.safetensors}]"
    for _ in range(2):
        code, _, err = dcomp("run", quick, "--out", "out", "--set", rounds)
        assert code == 0, err


def test_an_older_ledger_gives_the_same_summary(quick, dcomp):
    assert dcomp("run", quick, "--out", "out")[0] == 0
    path, summary = Path("out", "stages.json"), Path("out", "summary.json").read_text()
    ledger = json.loads(path.read_text())
    assert all(entry.pop("kept_percent") > 0 for entry in ledger.values())
    path.write_text(json.dumps(ledger))
    assert dcomp("run", quick, "--out", "out")[0] == 0
    assert Path("out", "summary.json").read_text() == summary


def test_a_damaged_ledger_is_one_error_and_force_begins_again(quick, dcomp):
    assert dcomp("run", quick, "--out", "out")[0] == 0
    path = Path("out", "stages.json")
    ledger = json.loads(path.read_text())
    ledger["prune"]["bytes"] = "many"
    path.write_text(json.dumps(ledger))
    code, _, err = dcomp("run", quick, "--out", "out")
    assert (code, err) == (1, "error: out/stages.json is damaged; --force runs every stage again\n")
    assert dcomp("run", quick, "--out", "out", "--force")[0] == 0


def test_a_damaged_ledger_of_another_run_is_no_reason_to_stop(quick, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "stages.json").write_text("damaged")
    Run(load(quick), Path("out"), other_runs=[tmp_path / "other"]).run()
    assert Path("out", "summary.json").exists()


def test_a_shard_that_changed_runs_the_stages_again(quick, dcomp, tmp_path):
    (tmp_path / "model").mkdir()
    Path("lenet300.safetensors").rename(tmp_path / "model" / "one.safetensors")
    shard = tmp_path / "model" / "one.safetensors"
    names = list(safetensors_file.load_file(shard).tensors)
    index = {"weight_map": dict.fromkeys(names, shard.name)}
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    sharded = ["--set", f"checkpoint={tmp_path / 'model'}", "--out", "out"]
    assert dcomp("run", quick, *sharded)[0] == 0
    assert dcomp("run", quick, *sharded)[2].count("done before") == 3
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    code, _, err = dcomp("run", quick, *sharded)
    assert (code, err.count("done before")) == (0, 0)


@pytest.mark.parametrize("key", ["checkpoint", "prune.rewind"])
def test_a_null_character_in_a_path_is_one_error(quick, dcomp, key):
    code, _, err = dcomp("run", quick, "--out", "out", "--set", rf'{key}="a\0b"')
    assert code > 0
    assert err.splitlines()[-1].startswith("error: ")
    assert "defect" not in err
