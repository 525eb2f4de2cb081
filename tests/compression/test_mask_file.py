import numpy as np
import pytest
import torch

from dcomp import stages
from dcomp.checkpoints import safetensors_file
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.compression.pruning import Pruning
from dcomp.errors import CheckpointError, UsageError
from dcomp.settings import PruneSettings


@pytest.fixture
def kept(rng):
    """Masks of the weights of lenet300, of which a third is kept."""
    return {name: rng.random(shape) < 1 / 3 for name, shape in (("fc1.weight", (300, 784)), ("fc2.weight", (100, 300)))}


@pytest.fixture
def written(tmp_path):
    """Write tensors to a file, and return its path."""

    def write(tensors, name="masks.safetensors"):
        path = tmp_path / name
        with path.open("wb") as file:
            safetensors_file.save(Checkpoint(tensors, {}), file)
        return path

    return write


def pruned(checkpoint, path, **settings):
    return stages.prune(checkpoint, PruneSettings(mask=path, **settings))


def is_pruned_as(checkpoint, original, kept):
    """Whether the tensors with a mask have its zeros, and everything else is as it was."""
    expected = {
        name: np.where(kept[name], array, 0) if name in kept else array for name, array in original.tensors.items()
    }
    return all(np.array_equal(checkpoint.tensors[name], array) for name, array in expected.items())


FORMS = {
    "bool": lambda kept: kept,
    "numbers": lambda kept: {name: mask.astype(np.uint8) for name, mask in kept.items()},
    "suffix": lambda kept: {f"{name}_mask": mask.astype(np.float32) for name, mask in kept.items()},
    "prefix": lambda kept: {f"module._orig_mod.{name}_mask": mask for name, mask in kept.items()},
    "checkpoint": lambda kept: {name: np.where(mask, -0.5, 0).astype(np.float32) for name, mask in kept.items()},
    "negative zeros": lambda kept: {name: np.where(mask, 2.5, -0.0) for name, mask in kept.items()},
    "mask beside weights": lambda kept: {
        name + end: array
        for name, mask in kept.items()
        for end, array in (("", np.ones(mask.shape, np.float32)), ("_mask", mask))
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_exactly_what_is_zero_in_a_mask_becomes_zero(lenet_like, kept, written, form):
    path = written(FORMS[form](kept))
    assert is_pruned_as(pruned(lenet_like, path), lenet_like, kept)


def test_masks_may_be_in_any_file_that_holds_a_checkpoint(lenet_like, kept, tmp_path):
    tensors = {f"{name}_mask": torch.from_numpy(mask) for name, mask in kept.items()}
    torch.save(tensors, tmp_path / "masks.pt")
    assert is_pruned_as(pruned(lenet_like, tmp_path / "masks.pt"), lenet_like, kept)


def test_a_pruned_checkpoint_gives_its_masks_to_another(lenet_like, written):
    ticket = stages.prune(lenet_like, PruneSettings(sparsity=0.9))
    other = lenet_like.replaced({name: array + 1 for name, array in lenet_like.tensors.items()})
    same_zeros = pruned(other, written(ticket.tensors))
    for name in ("fc1.weight", "fc2.weight", "fc3.weight"):
        assert np.array_equal(same_zeros.tensors[name] == 0, ticket.tensors[name] == 0)


def test_kinds_only_and_skip_choose_among_the_masks_and_the_rest_is_told(lenet_like, kept):
    kept["fc1.bias"] = np.zeros(300, bool)
    settings = PruneSettings(mask="masks.npz", only="fc[13]")
    pruning = Pruning(lenet_like.tensors, settings, given_masks=Checkpoint(kept, {}))
    assert list(pruning.at_once()) == ["fc1.weight"]
    notes = list(pruning.notes(lenet_like.replaced(pruning.at_once()).tensors))
    assert notes[0].startswith("fc1.weight: sparsity 0.66")
    assert notes[1] == "fc3.weight: not pruned, as masks.npz has no mask for it"
    assert notes[2].startswith("fc2.weight, fc1.bias: not pruned, as kinds, only and skip do not choose")


def test_a_tied_weight_is_pruned_by_a_mask_of_any_of_its_names(lenet_like, kept, written):
    tied = lenet_like.replaced({"again.weight": lenet_like.tensors["fc1.weight"]})
    result = pruned(tied, written({"again.weight": kept["fc1.weight"]}))
    for name in ("fc1.weight", "again.weight"):
        assert np.array_equal(result.tensors[name] != 0, kept["fc1.weight"])


def test_masks_hold_while_the_network_retrains(lenet_like, kept, written):
    result = pruned(lenet_like, written(kept), epochs=2, start=0.5, data="digits", batch_size=256, val_split=0)
    for name, mask in kept.items():
        assert not result.tensors[name][~mask].any()
        assert result.tensors[name][mask].all()
        assert not np.array_equal(result.tensors[name][mask], lenet_like.tensors[name][mask])
    assert result.tensors["fc3.weight"].all()


def test_a_lottery_ticket_may_have_the_masks_of_a_file(lenet_like, kept, written):
    early = lenet_like.replaced({name: 2 * array for name, array in lenet_like.tensors.items()})
    ticket = pruned(lenet_like, written(kept), rewind=written(early.tensors, "early.safetensors"))
    assert is_pruned_as(ticket, early, kept)


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        ({"fc1.weight": np.ones((784, 300), bool)}, CheckpointError, r"fc1.weight has shape \(784, 300\), but its"),
        (
            {"fc1.weight_mask": np.full((300, 784), 0.5)},
            CheckpointError,
            "fc1.weight_mask holds other values than 0 and 1, so it is no mask",
        ),
        ({"conv": np.ones(3)}, CheckpointError, "has no mask for fc1.weight, fc2.weight, fc3.weight; it has conv"),
        ({"fc1.weight": np.zeros((300, 784), bool)}, UsageError, "leave none of the weights, and so no network"),
    ],
)
def test_masks_that_do_not_fit_are_one_error(lenet_like, written, tensors, error, message):
    with pytest.raises(error, match=message):
        pruned(lenet_like, written(tensors))


@pytest.mark.parametrize("options", [{"sparsity": 0.5}, {"scope": "layer"}, {"at": [1]}, {"schedule": "gradual"}])
def test_a_mask_leaves_nothing_to_other_amounts(options):
    with pytest.raises(UsageError, match="--mask says which weights become zero, all in one move: leave --"):
        PruneSettings.from_options(mask="m", epochs=4, data="digits", **options)


def test_a_file_that_is_missing_or_the_output_is_one_error(dense_file, dcomp):
    code, _, err = dcomp("prune", dense_file, "--mask", dense_file.with_name("none"))
    assert (code, "cannot read" in err) == (1, True)
    code, _, err = dcomp("prune", dense_file, "--mask", dense_file, "-o", dense_file, "--force")
    assert code == 1
    assert "lenet300.safetensors" in err


def test_a_recipe_may_take_the_masks_of_an_earlier_stage(dense_file, dcomp, tmp_path):
    (tmp_path / "r.yaml").write_text(
        f"name: r\ncheckpoint: {dense_file}\nprune: [{{sparsity: 0.9}}, {{mask: prune}}]\nquantize: {{bits: 5}}\n"
    )
    code, _, err = dcomp("run", tmp_path / "r.yaml", "--out", tmp_path / "out")
    assert code == 0, err
    first, second = (safetensors_file.load_file(tmp_path / "out" / f"prune{n}.safetensors") for n in ("", ".2"))
    assert all(np.array_equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
