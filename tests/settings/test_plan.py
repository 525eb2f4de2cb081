import numpy as np
import pytest
import yaml

from dcomp import sources
from dcomp.checkpoints.layers import Rule, apply_rules
from dcomp.errors import RecipeError, UsageError
from dcomp.runs.run import Run
from dcomp.settings import PruneSettings, QuantizeSettings, plan, recipe
from dcomp.settings.plan import Plan

NAMES = [("fc1.weight",), ("fc10.weight",), ("block.fc1.weight",), ("fc1_weight",), ("odd [name]+.weight",)]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(Plan({"fc1.weight": 0.9, "odd [name]+.weight": 0.123456}, {"fc1.weight": 4}).as_yaml("two\nlines"))
    return path


def test_a_written_plan_gives_each_layer_its_amount(file):
    rules = [Rule.parse(text) for text in plan.rules(file, "prune")]
    assert apply_rules(NAMES, rules) == {"fc1.weight": 0.9, "odd [name]+.weight": 0.123456}
    assert plan.rules(file, "quantize") == (r"^fc1\.weight$=4",)
    assert file.read_text().startswith("# two\n# lines\nprune:\n")


def test_a_stage_without_amounts_has_no_section():
    assert yaml.safe_load(Plan({}, {"fc1.weight": 4}).as_yaml("")) == {"quantize": {"bits": [r"^fc1\.weight$=4"]}}


def test_settings_hold_the_rules_of_a_plan_not_its_path(file):
    pruning = PruneSettings(plan=file)
    assert pruning.plan == plan.rules(file, "prune")
    assert PruneSettings.model_validate(pruning.model_dump(exclude_unset=True)) == pruning
    assert QuantizeSettings(plan=str(file)).rules == [Rule.parse(r"^fc1\.weight$=4")]


def test_a_rule_of_ones_own_goes_over_the_plan(file):
    settings = PruneSettings(plan=file, layer="fc1=0.5")
    assert apply_rules(NAMES, settings.rules)["fc1.weight"] == 0.5


def test_the_sparsities_of_a_plan_are_no_thresholds(file):
    with pytest.raises(ValueError, match="a plan holds sparsities"):
        PruneSettings(plan=file, criterion="std", threshold=1)


def test_a_recipe_may_name_a_plan_or_hold_its_sections(file, tmp_path):
    base = {"name": "r", "checkpoint": "x.safetensors"}
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({**base, "plan": str(file), "prune": {}, "quantize": {"fc_bits": 5}}))
    by_path = recipe.load(path)
    path.write_text(yaml.safe_dump(base) + file.read_text())
    pasted = recipe.load(path)
    assert by_path.prune[0].rules == pasted.prune[0].rules
    assert by_path.quantize[0].rules == pasted.quantize[0].rules


def test_a_stage_without_a_section_of_the_plan_uses_its_settings(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(Plan({}, {"fc1.weight": 4}).as_yaml(""))
    assert plan.rules(path, "prune") == ()
    assert PruneSettings(plan=path, sparsity=0.5).rules == []
    with pytest.raises(ValueError, match=r"give a sparsity, like 0\.9"):
        PruneSettings(plan=path)


def test_a_plan_serves_several_sections_each_with_its_own_layers(dense_file, tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(Plan({"fc1.weight": 0.5, "fc2.weight": 0.25}, {"fc1.weight": 4, "fc3.weight": 2}).as_yaml(""))
    (tmp_path / "r.yaml").write_text(
        f"name: r\ncheckpoint: {dense_file}\nplan: {path}\nprune: [{{only: fc1}}, {{skip: fc1, layer: fc3=0.1}}]\n"
        "quantize: [{only: fc1}, {fc_bits: 5, skip: fc1}]\n"
    )
    Run(recipe.load(tmp_path / "r.yaml"), tmp_path / "out").run()
    made = sources.load_checkpoint(tmp_path / "out" / "model.dcz").tensors
    weights = [made[f"fc{number}.weight"] for number in (1, 2, 3)]
    assert [np.count_nonzero(array == 0) for array in weights] == [117_600, 7_500, 100]
    assert [np.ceil(np.log2(np.unique(array[array != 0]).size)) for array in weights] == [4, 5, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "is not a mapping"),
        ("prune: {layer: [a=1]}\nprune: {layer: [a=1]}", "prune occurs twice"),
        ("prunes: {layer: [a=1]}", "has sections prune and quantize, not prunes"),
        ("{}", "has no section prune or quantize"),
        ("prune: [a=1]", "prune holds layer and nothing else"),
        ("prune: {layer: [a=1], epochs: 3}", "prune holds layer and nothing else"),
        ("prune: {layer: []}", "should be a list of REGEX=VALUE"),
        ("prune: {layer: {a: 1}}", "should be a list of REGEX=VALUE"),
    ],
)
def test_a_file_that_is_no_plan_is_refused_with_a_reason(tmp_path, text, message):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        plan.rules(tmp_path / "p.yaml", "prune")
    with pytest.raises(UsageError, match=f"--plan: .*{message}"):
        PruneSettings.from_options(plan=tmp_path / "p.yaml")
