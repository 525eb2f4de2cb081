import pytest

from dcomp.errors import RecipeError
from dcomp.settings.recipe import load

START = "name: r\ndata: digits\n"
SECTIONS = {
    "train": "train: {architecture: lenet300}\n",
    "prune": "prune: {sparsity: 0.9}\n",
    "finetune": "finetune: [{epochs: 2}, {epochs: 3}]\n",
    "quantize": "quantize: {fc_bits: 5}\n",
}


@pytest.fixture
def read(tmp_path):
    """A function that reads a recipe from its text."""

    def read(text, overrides=()):
        path = tmp_path / "r.yaml"
        path.write_text(text)
        return load(path, overrides)

    return read


def test_finetune_stands_between_prune_and_quantize(read):
    recipe = read(START + "".join(SECTIONS.values()))
    assert [name for name, _ in recipe.sections] == ["train", "prune", "finetune", "finetune.2", "quantize"]
    assert [section.data for section in recipe.finetune] == ["digits", "digits"]


@pytest.mark.parametrize("order", [["train", "finetune", "prune"], ["train", "prune", "quantize", "finetune"]])
def test_finetune_in_another_place_is_refused(read, order):
    with pytest.raises(RecipeError, match="finetune runs after prune and before quantize: write it there"):
        read(START + "".join(SECTIONS[name] for name in order))


@pytest.mark.parametrize("nothing", ["finetune:", "finetune: null", "finetune: []"])
def test_a_finetune_that_does_not_run_may_stand_anywhere(read, nothing):
    recipe = read(START + SECTIONS["train"] + nothing + "\n" + SECTIONS["prune"])
    assert [name for name, _ in recipe.sections] == ["train", "prune"]


def test_an_override_may_add_finetune(read):
    recipe = read(START + SECTIONS["train"] + SECTIONS["quantize"], ["finetune.epochs=3"])
    assert [name for name, _ in recipe.sections] == ["train", "finetune", "quantize"]


def test_finetune_without_epochs_is_refused(read):
    with pytest.raises(RecipeError, match=r"finetune\.epochs: is missing"):
        read(START + SECTIONS["train"] + "finetune: {lr: 0.1}\n")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("prune: {sparsty: 0.9}", r"prune.sparsty: there is no such key; did you mean sparsity\?"),
        ("quantize: [{fc_bits: 5, lamda: 0.1}]", r"quantize.1.lamda: there is no such key; did you mean lambda\?"),
        ("prune: {checkpoint: a.pt}", r"prune.checkpoint: there is no such key; it stands above the sections"),
        ("prunes: {sparsity: 0.9}", r"prunes: there is no such key; did you mean prune\?"),
        ("eval: {colour: red}", r"eval.colour: there is no such key$"),
    ],
)
def test_the_nearest_key_is_suggested_for_an_unknown_one(read, section, message):
    with pytest.raises(RecipeError, match=message):
        read(START + SECTIONS["train"] + section + "\n")


def test_a_key_that_begins_with_the_word_is_suggested(read):
    with pytest.raises(RecipeError, match=r"train.arch: there is no such key; did you mean architecture\?"):
        read(START + "train: {arch: lenet5, epochs: 1}\n")
