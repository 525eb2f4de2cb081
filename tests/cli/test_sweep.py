"""Sweeps of tiny recipes on scikit-learn's digits."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from dcomp.runs.grid import MAX_POINTS

RECIPE = """
name: tiny
data: digits
device: cpu
train: {architecture: lenet300, epochs: 1}
prune: {sparsity: 0.9}
quantize: {fc_bits: 4}
eval: {max_error: 1}
report: {min_ratio: 1000}
"""


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_points_run_their_common_stages_once(recipe, tmp_path, dcomp):
    pytest.importorskip("matplotlib")
    out, plot = tmp_path / "out", tmp_path / "front.png"
    values = ["--set", "prune.sparsity=0.5,0.95", "--set", "quantize.fc_bits=2,4"]
    code, stdout, err = dcomp("sweep", recipe, *values, "--out", out, "-j", "2", "--plot", plot)
    assert code == 0, err
    assert stdout.splitlines()[-1] == str(out / "front.csv")
    rows = rows_of(out / "front.csv")
    assert len(rows) == 4
    sizes = [int(row["bytes"]) for row in rows]
    assert sizes == sorted(sizes)
    assert rows[0]["on_front"] == "1"
    assert (rows[0]["prune.sparsity"], rows[0]["quantize.fc_bits"]) == ("0.95", "2")
    folders = [path for path in out.iterdir() if path.is_dir()]
    assert len(folders) == 4
    assert len({(folder / "train.safetensors").stat().st_ino for folder in folders}) == 1
    assert all(json.loads((folder / "summary.json").read_text())["stages"] for folder in folders)
    assert plot.read_bytes().startswith(b"\x89PNG")
    code, stdout, err = dcomp("sweep", recipe, *values, "--out", out, "--json")
    document = json.loads(stdout)
    assert [point["bytes"] for point in document["points"]] == sizes
    assert document["failed"] == {}


def test_a_failed_point_leaves_the_others(recipe, tmp_path, dcomp):
    missing = tmp_path / "nowhere.safetensors"
    code, stdout, err = dcomp(
        "sweep", recipe, "--set", f"prune.rewind={missing},null", "--out", tmp_path / "out", "--json"
    )
    assert code == 1
    assert "1 of 2 points failed" in err
    assert f"cannot read {missing}" in err
    assert len(json.loads(stdout)["points"]) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["prune.sparsity=0.9"], "a sweep needs two values of a key"),
        (["prune.sparsity=0.5,1.5"], "at prune.sparsity=1.5: in the recipe"),
        (["prune.sparsity=0.5,0.5"], "0.5 occurs twice"),
        (["eval=null", "seed=0,1"], "has no section eval"),
        (["seed=" + ",".join(map(str, range(MAX_POINTS + 1)))], "give fewer values"),
    ],
)
def test_mistakes_stop_before_anything_runs(recipe, tmp_path, dcomp, values, message):
    sets = [word for value in values for word in ("--set", value)]
    code, _, err = dcomp("sweep", recipe, *sets, "--out", tmp_path / "out")
    assert code in (1, 2)
    assert message in err
    assert not (tmp_path / "out").exists()


def test_another_table_is_not_replaced(recipe, tmp_path, dcomp):
    other = tmp_path / "precious.csv"
    other.write_text("name,price\nring,1\n")
    code, _, err = dcomp("sweep", recipe, "--set", "seed=0,1", "--out", tmp_path / "out", "--csv", other)
    assert (code, f"{other} exists" in err) == (1, True)
    assert other.read_text() == "name,price\nring,1\n"


def test_a_stopped_sweep_says_how_to_continue(recipe, tmp_path):
    command = ["sweep", str(recipe), "--set", "train.epochs=400,500", "--out", str(tmp_path / "out")]
    process = subprocess.Popen([sys.executable, "-m", "dcomp", *command], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/*/train.csv")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; 0 of 2 points are done" in err
    assert "continue with: dcomp sweep" in err
    assert list(tmp_path.glob("out/*/train.safetensors.*.state"))


def test_runs_of_a_sweep_that_was_killed_save_their_state_and_end(recipe, tmp_path):
    command = ["sweep", str(recipe), "--set", "train.epochs=400,500", "--out", str(tmp_path / "out"), "-q"]
    process = subprocess.Popen([sys.executable, "-m", "dcomp", *command])
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/*/train.csv")) and time.monotonic() < deadline:
        time.sleep(0.05)
    (lock,) = tmp_path.glob("out/*/.dcomp.lock")
    worker = int(lock.read_text().split()[0])
    assert worker != process.pid
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(worker, 0)
            time.sleep(0.05)
    assert list(tmp_path.glob("out/*/train.safetensors.*.state"))
    assert not lock.exists()
