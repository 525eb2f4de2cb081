"""Each row of the table of requirements is tripped by an input that is made from the row."""

import pytest
from pydantic import ValidationError

from dcomp.errors import RecipeError, UsageError
from dcomp.settings import FinetuneSettings, LearningSettings, PruneSettings, QuantizeSettings, TrainSettings
from dcomp.settings.recipe import load
from dcomp.settings.requirements import REQUIREMENTS, TRAINING_OPTIONS, applies, field_of

CLASSES = (PruneSettings, QuantizeSettings, FinetuneSettings, TrainSettings)
CANDIDATES = (
    *(0.5, 1, 2, "digits", "fc1=0.5", ["fc1=0.5"]),
    *("adam", "sgd", "constant", "fp32", "none", "gradual", "layer", "row", "random", "kl"),
)
"""Values of which each field takes one."""

CASES = [(row, option) for row in REQUIREMENTS for option in row.options]


def is_taken(kind, field, value):
    try:
        kind.model_validate({field: value})
    except ValidationError as error:
        return not any(detail["loc"][:1] == (field,) for detail in error.errors())
    return True


def value_for(kind, condition):
    """A value with which a condition holds."""
    field, _, value = condition.partition("=")
    if value:
        return value
    return next(candidate for candidate in CANDIDATES if is_taken(kind, field, candidate))


def value_against(kind, condition):
    """A value with which a condition does not hold; None where the default does that."""
    field, _, value = condition.partition("=")
    default = kind.model_fields[field_of(condition)].default
    if condition.endswith(">0"):
        return 0 if default else None
    if not value or default != value:
        return None
    return next(other for other in CANDIDATES if other != value and is_taken(kind, field, other))


def input_for(row, option):
    """A class of settings, and fields that violate a row by one of its options and no other row of this option."""
    for kind in CLASSES:
        if applies(row, kind.model_fields) and field_of(option) in kind.model_fields:
            against = {field_of(need): value_against(kind, need) for need in reversed(row.needs)}
            fields = {field: value for field, value in against.items() if value is not None}
            fields |= {field_of(condition): value_for(kind, condition) for condition in row.excludes}
            fields |= {field_of(option): value_for(kind, option)}
            fields |= {"epochs": 4, "data": "digits"} if row.where else {}
            return kind, {field: value for field, value in fields.items() if value is not None}
    raise AssertionError(f"no class of settings has what {row} is about")


def message_of(row, option, kind):
    return row.message.format(**{field: field for field in kind.model_fields}, options=option.replace("=", " "))


@pytest.mark.parametrize(("row", "option"), CASES, ids=[f"{option} {row.message[:40]}" for row, option in CASES])
def test_each_row_refuses_an_input_made_from_it(row, option):
    kind, fields = input_for(row, option)
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(fields)
    assert message_of(row, option, kind) in str(caught.value)


NEEDS = [(row, option) for row, option in CASES if row.needs]


@pytest.mark.parametrize(("row", "option"), NEEDS, ids=[f"{option} {row.message[:40]}" for row, option in NEEDS])
def test_each_row_accepts_an_input_with_its_need(row, option):
    kind, fields = input_for(row, option)
    need = row.needs[0]
    value = 9 if need == "epochs>0" else 0.5 if need.endswith(">0") else value_for(kind, need)
    try:
        kind.model_validate(fields | {field_of(need): value})
    except ValidationError as error:
        assert message_of(row, option, kind) not in str(error)


def test_each_row_needs_or_excludes_something():
    assert all(bool(row.needs) != bool(row.excludes) for row in REQUIREMENTS)


def test_each_option_of_training_is_in_the_table():
    assert set(LearningSettings.model_fields) - set(TRAINING_OPTIONS) == {"epochs", "seed", "provenance"}


def test_a_default_that_a_person_gives_counts_as_given():
    with pytest.raises(UsageError, match="--lr and --momentum would do nothing without training: give --epochs"):
        PruneSettings.from_options(sparsity=0.5, lr=0.02, momentum=0.9)


@pytest.mark.parametrize("option", [["--batch-size", "64"], ["--compile"], ["--no-grayscale"], ["--arch", "lenet5"]])
def test_the_command_line_names_the_option_that_is_needed(dcomp, dense_file, option):
    code, out, err = dcomp("prune", dense_file, "--sparsity", "0.5", *option)
    assert (code, out) == (2, "")
    name = option[0].replace("--no-", "--")
    assert err == f"error: {name} would do nothing without training: give --epochs as well\n"


RECIPE = """
name: r
data: digits
device: cpu
seed: 3
train: {architecture: lenet300}
prune: {sparsity: 0.5}
quantize: [{fc_bits: 5}]
"""


def test_a_key_of_the_recipe_may_have_no_effect_in_a_section(tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE)
    recipe = load(tmp_path / "r.yaml")
    assert [section.data for _, section in recipe.sections] == ["digits"] * 3


@pytest.mark.parametrize("key", ["data=digits", "lr=0.1", "seed=0"])
def test_a_key_of_a_section_without_effect_is_refused(tmp_path, key):
    (tmp_path / "r.yaml").write_text(RECIPE)
    with pytest.raises(RecipeError, match=rf"prune: {key.partition('=')[0]} would do nothing .* give epochs"):
        load(tmp_path / "r.yaml", [f"prune.{key}"])


def test_a_key_of_the_recipe_can_exclude_a_key_of_a_section(tmp_path):
    (tmp_path / "plan.yaml").write_text("prune: {layer: [fc1=0.5]}\n")
    (tmp_path / "r.yaml").write_text(RECIPE + f"plan: {tmp_path / 'plan.yaml'}\n")
    with pytest.raises(RecipeError, match="a plan holds sparsities of single weights: leave structure row out"):
        load(tmp_path / "r.yaml", ["prune.structure=row"])


@pytest.mark.parametrize("kind", [PruneSettings, QuantizeSettings])
def test_a_flag_that_is_off_asks_for_nothing(kind):
    amount = {"sparsity": 0.5, "remove_dead_units": False} if kind is PruneSettings else {"fc_bits": 4}
    assert kind.model_validate({"compile": False, **amount}).epochs == 0


TRAINED = """
name: r
data: digits
train: {architecture: lenet300, momentum: 0.8}
prune: [{sparsity: 0.5, epochs: 2, lr: 0.1, start: 0, criterion: fisher}]
quantize: {fc_bits: 5, epochs: 2, batch_size: 32}
"""


@pytest.fixture
def trained(tmp_path):
    """The path of a recipe whose sections have options of training."""
    path = tmp_path / "r.yaml"
    path.write_text(TRAINED)
    return path


@pytest.mark.parametrize("override", ["quantize.epochs=0", "train.optimizer=adam"])
def test_keys_of_a_recipe_may_stay_where_an_override_takes_what_they_need(trained, override):
    assert load(trained, [override]).name == "r"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["quantize.epochs=0", "quantize.lr=0.1"], "quantize: lr would do nothing without training"),
        (["quantize.fc_bits=4", "quantize.momentum=0.5"], "quantize: momentum would do nothing with this optimizer"),
        (["prune.1.epochs=0"], "prune.1: criterion fisher needs gradients"),
    ],
)
def test_an_override_that_does_nothing_is_refused(trained, overrides, message):
    with pytest.raises(RecipeError, match=message):
        load(trained, overrides)


def test_an_override_in_a_list_of_sections_counts_for_its_section_alone(trained):
    trained.write_text(TRAINED.replace("}]", "}, {sparsity: 0.6, lr: 0.1}]"))
    with pytest.raises(RecipeError, match=r"prune\.2: lr would do nothing without training"):
        load(trained, ["prune.1.criterion=magnitude", "prune.1.epochs=0"])


def test_masks_that_would_move_endlessly_are_refused():
    with pytest.raises(UsageError, match=r"masks move at most 100,000 times, not 1e\+08: give a longer every"):
        PruneSettings.from_options(sparsity=0.5, epochs=200_000_000)
