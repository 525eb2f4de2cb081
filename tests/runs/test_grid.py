import pytest

from dcomp.errors import RecipeError
from dcomp.runs import grid

RECIPE = """
name: tiny
data: digits
train: {architecture: lenet300, epochs: 2}
prune: {sparsity: 0.9}
quantize: {fc_bits: 5}
eval: {}
"""


@pytest.mark.parametrize(
    ("text", "values"),
    {
        "0.97": ["0.97"],
        "0.97, 0.98": ["0.97", "0.98"],
        "[1,2],3": ["[1,2]", "3"],
        "['^fc1$=0.9,]', fc2=0.5],null": ["['^fc1$=0.9,]', fc2=0.5]", "null"],
        "{sparsity: 0.5, only: [a,b]},{count: 3}": ["{sparsity: 0.5, only: [a,b]}", "{count: 3}"],
        "'conv,linear',\"bias\"": ["'conv,linear'", '"bias"'],
        "o'clock,b'c": ["o'clock", "b'c"],
        "": [""],
    }.items(),
)
def test_commas_split_values_outside_brackets_and_quotes(text, values):
    assert grid.split_values(text) == values


@pytest.mark.parametrize("text", ["[1,2", "{a: [1}", "'a,b"])
def test_an_open_bracket_is_a_mistake(text):
    with pytest.raises(ValueError, match="is missing"):
        grid.split_values(text)


def test_points_are_all_combinations_in_order(recipe):
    grid_points = grid.points(recipe, ["prune.sparsity=0.8,0.9", "quantize.fc_bits=3", "seed=0,1"])
    names = ["prune.sparsity=0.8,seed=0", "prune.sparsity=0.8,seed=1", "prune.sparsity=0.9,seed=0"]
    assert [point.name for point in grid_points] == [*names, "prune.sparsity=0.9,seed=1"]
    assert [(p.recipe.prune[0].sparsity, p.recipe.train.seed) for p in grid_points] == [
        (0.8, 0),
        (0.8, 1),
        (0.9, 0),
        (0.9, 1),
    ]
    assert all(point.recipe.quantize[0].fc_bits == 3 for point in grid_points)
    assert grid_points[0].values == {"prune.sparsity": "0.8", "seed": "0"}


def test_a_fixed_override_is_not_split(recipe):
    grid_points = grid.points(recipe, ["seed=0,1"], ['data_dir="a,b"'])
    assert [str(point.recipe.train.data_dir) for point in grid_points] == ["a,b", "a,b"]


def test_names_are_distinct_names_of_folders():
    names = [grid.name_of({"plan": value}) for value in ("a/b", "a:b", "../a", "a" * 300, "a" * 301, "a_b")]
    assert len(set(names)) == len(names)
    assert names[-1] == "plan=a_b"
    assert all("/" not in name and len(name) < 200 for name in names)


MISTAKES = {
    "one value": (["seed=1"], "a sweep needs two values of a key"),
    "no override at all": ([], "a sweep needs two values of a key"),
    "a key without values": (["seed"], "--set seed: write it as key=value"),
    "a value that is missing": (["seed=1,,2"], "--set seed=1,,2: there is no value before or after a comma"),
    "a value twice": (["seed=1,2,1"], "--set seed=1,2,1: 1 occurs twice"),
    "a key twice": (["seed=1,2", "seed=3"], "--set seed=3: seed is set twice"),
    "a bracket that is open": (["prune.layer=[a,b"], r"--set prune.layer=\[a,b: \] is missing"),
    "too many points": (
        [f"seed={','.join(map(str, range(101)))}", "quantize.fc_bits=1,2,3,4,5,6,7,8,9,10"],
        "the grid has 1,010 points, and a sweep has at most 1,000",
    ),
    "a mistake in one point": (["prune.sparsity=0.5,1.5"], "at prune.sparsity=1.5: in the recipe .*: prune.sparsity: "),
    "a mistake in some points": (
        ["prune.sparsity=0.5,1.5", "seed=0,1,2"],
        "^at prune.sparsity=1.5,seed=0 and 2 more points: in the recipe",
    ),
    "a mistake in all points": (["seed=0,1", "train.lr=-1"], "^in the recipe .*: train.lr: input should be greater"),
    "no errors to compare": (["seed=0,1", "eval=null"], "has no section eval, so no errors to compare"),
    "several mistakes": (
        ["prune.sparsity=1.5,2.5", "seed=0,-1"],
        "^the grid has 4 mistakes:\n  at prune.sparsity=1.5,seed=0: .*not 1.5.*\n  at prune.sparsity=1.5,seed=-1: ",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_in_a_grid_are_refused(recipe, case):
    overrides, message = MISTAKES[case]
    with pytest.raises(RecipeError, match=message):
        grid.points(recipe, overrides)


def shape(branches):
    """A branch as (number of points, last stage in common, branches)."""
    return [(len(branch.points), branch.last, shape(branch.branches)) for branch in branches]


ALONE = (1, None, [])


def test_equal_first_stages_make_a_branch(recipe):
    tree = grid.branches(grid.points(recipe, ["prune.sparsity=0.8,0.9", "quantize.fc_bits=3,4"]))
    both = (2, "prune", [ALONE, ALONE])
    assert shape(tree) == [(4, "train", [both, both])]


def test_points_with_other_seeds_share_no_stage(recipe):
    assert shape(grid.branches(grid.points(recipe, ["seed=0,1"]))) == [ALONE, ALONE]


def test_a_missing_section_parts_points(recipe):
    tree = grid.branches(grid.points(recipe, ["quantize=null,{fc_bits: 4},{fc_bits: 5}"]))
    assert shape(tree) == [(3, "prune", [ALONE, ALONE, ALONE])]


def test_points_with_equal_checkpoints_share_all_stages(recipe):
    tree = grid.branches(grid.points(recipe, ["encode.level=fast,max"]))
    assert shape(tree) == [(2, "quantize", [ALONE, ALONE])]


def test_points_with_other_starts_share_no_stage(tmp_path):
    path = tmp_path / "from.yaml"
    path.write_text("name: a\narchitecture: lenet300\nprune: {sparsity: 0.9}\neval: {data: digits}\n")
    both = grid.branches(grid.points(path, ["checkpoint=a,b", "encode.level=fast,max"]))
    assert shape(both) == [(2, "prune", [ALONE, ALONE])] * 2
    assert shape(grid.branches(grid.points(path, ["prune=null", "checkpoint=a,b"]))) == [ALONE, ALONE]
