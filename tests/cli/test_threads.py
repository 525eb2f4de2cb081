"""`--threads`, on the command line and in recipes."""

import pytest
import torch

from dcomp.errors import UsageError
from dcomp.settings import recipe as recipe_file

RECIPE = """
name: tiny
data: digits
device: cpu
train: {architecture: lenet300, epochs: 1}
prune: {sparsity: 0.5}
eval: {}
"""


@pytest.fixture
def torch_threads():
    """The number of torch's threads, which comes back."""
    before = torch.get_num_threads()
    yield torch.get_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("command", [["prune", "--sparsity", "0.5"], ["quantize", "--fc-bits", "5"]])
def test_threads_of_a_stage_that_does_not_train_are_refused(dcomp, dense_file, command):
    code, _, err = dcomp(*command, dense_file, "--threads", "2")
    assert (code, err) == (2, "error: --threads would do nothing without training: give --epochs as well\n")
    assert dcomp(*command, dense_file, "--threads", "0")[0] == 2


def test_eval_and_sensitivity_compute_on_the_threads_asked_for(dcomp, dense_file, torch_threads):
    assert dcomp("eval", dense_file, "--data", "digits", "--threads", "3")[0] == 0
    assert torch_threads() == 3
    few = ["--limit", "10", "--prune", "0.5", "--bits", "4"]
    assert dcomp("sensitivity", dense_file, "--data", "digits", *few, "--threads", "2")[0] == 0
    assert torch_threads() == 2


def test_another_number_of_threads_runs_no_stage_of_a_recipe_again(dcomp, recipe, tmp_path, torch_threads):
    assert dcomp("run", recipe, "--out", tmp_path / "out", "--threads", "2")[0] == 0
    assert torch_threads() == 2
    code, _, err = dcomp("run", recipe, "--out", tmp_path / "out", "--threads", "1")
    assert (code, err.count("done before")) == (0, 3)


def test_a_recipes_threads_are_those_of_all_its_sections_and_no_part_of_the_result(recipe):
    with_threads, without = (recipe_file.load(recipe, overrides) for overrides in (["threads=3"], []))
    assert [section.threads for _, section in with_threads.sections] == [3, 3]
    assert with_threads.eval.threads == 3
    for (_, one), (_, other) in zip(with_threads.sections, without.sections, strict=True):
        assert one.arguments() == other.arguments()
    assert with_threads.eval.examples == without.eval.examples


@pytest.mark.parametrize(("jobs", "each"), [(1, 8), (2, 4), (3, 2)])
def test_a_sweep_divides_the_threads_asked_for_between_its_runs(dcomp, recipe, tmp_path, monkeypatch, jobs, each):
    def started(points, *arguments, **options):
        raise UsageError(f"threads {[point.recipe.threads for point in points]}")

    monkeypatch.setattr("dcomp.runs.sweep.Sweep", started)
    arguments = ["--set", "seed=0,1", "-j", jobs, "--threads", "8", "--out", tmp_path / "out"]
    assert f"threads [{each}, {each}]" in dcomp("sweep", recipe, *arguments)[2]


def test_workers_are_processes_also_where_they_encode(dcomp, dense_file):
    assert dcomp("encode", dense_file, "--workers", "2", "--dry-run")[0] == 0
    assert "No such option" in dcomp("encode", dense_file, "--threads", "2", "--dry-run")[2]
