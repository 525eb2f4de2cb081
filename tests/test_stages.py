import io
import json
from dataclasses import replace

import numpy as np
import pytest

import dcomp
from dcomp import outputs, stages
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.container.reader import Container
from dcomp.errors import CheckpointError, GateError, UsageError
from dcomp.progress.observer import Observer
from dcomp.settings import (
    EvalSettings,
    FinetuneSettings,
    PruneSettings,
    QuantizeSettings,
    ReportSettings,
    TrainSettings,
)

WEIGHTS = ["fc1.weight", "fc2.weight", "fc3.weight"]


class Notes(Observer):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def zeros(checkpoint, names=WEIGHTS):
    return sum(int((checkpoint.tensors[name] == 0).sum()) for name in names)


@pytest.mark.parametrize("criterion", ["magnitude", "random"])
@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("sparsity", [0.0, 0.123456, 0.9])
def test_the_sparsity_asked_for_is_the_sparsity_found(lenet_like, criterion, scope, sparsity):
    settings = PruneSettings(sparsity=sparsity, criterion=criterion, scope=scope)
    pruned = stages.prune(lenet_like, settings)
    if scope == "global":
        assert zeros(pruned) == round(266_200 * sparsity)
    else:
        sizes = [lenet_like.tensors[name].size for name in WEIGHTS]
        assert [zeros(pruned, [name]) for name in WEIGHTS] == [round(size * sparsity) for size in sizes]


def test_pruning_leaves_biases_and_kept_weights_alone(lenet_like):
    pruned = stages.prune(lenet_like, PruneSettings(sparsity=0.9))
    for name, array in lenet_like.tensors.items():
        kept = pruned.tensors[name] != 0
        assert np.array_equal(pruned.tensors[name][kept], array[kept])
        assert kept.all() or name in WEIGHTS


def test_the_std_criterion_keeps_what_exceeds_the_threshold(lenet_like):
    pruned = stages.prune(lenet_like, PruneSettings(criterion="std", threshold=1.0, layer=("fc3=2.0",)))
    for name, factor in {"fc1.weight": 1.0, "fc3.weight": 2.0}.items():
        array = lenet_like.tensors[name]
        assert np.array_equal(pruned.tensors[name] != 0, np.abs(array) >= factor * array.std(dtype=np.float64))


def test_pruning_again_to_less_says_that_more_is_zero_already(lenet_like):
    notes = Notes()
    once = stages.prune(lenet_like, PruneSettings(sparsity=0.9))
    again = stages.prune(once, PruneSettings(sparsity=0.5), notes)
    assert zeros(again) == zeros(once)
    assert "more weights than that were zero already" in notes.lines[-1]


def test_weights_that_are_not_finite_are_refused(lenet_like):
    lenet_like.tensors["fc2.weight"][0, 0] = np.nan
    with pytest.raises(CheckpointError, match=r"fc2\.weight holds infinities or NaNs"):
        stages.prune(lenet_like, PruneSettings(sparsity=0.9))


def test_a_kind_that_is_not_there_is_refused(lenet_like):
    with pytest.raises(UsageError, match="no conv weights"):
        stages.prune(lenet_like, PruneSettings(sparsity=0.9, kinds="conv"))
    with pytest.raises(UsageError, match="no conv tensor to quantize"):
        stages.quantize(lenet_like, QuantizeSettings(conv_bits=8))


def test_bits_for_an_absent_kind_are_noted(lenet_like):
    notes = Notes()
    stages.quantize(lenet_like, QuantizeSettings(conv_bits=8, fc_bits=5), notes)
    assert notes.lines[0] == "the checkpoint has no conv tensor to quantize"


def test_tensors_that_quantize_leaves_alone_may_be_infinite(lenet_like):
    infinite = lenet_like.replaced({"mask": np.full(3, -np.inf, np.float32)})
    shared = stages.quantize(infinite, QuantizeSettings(fc_bits=3))
    assert np.isinf(shared.tensors["mask"]).all()


def test_rules_leave_biases_alone_unless_biases_are_asked_for(lenet_like):
    shared = stages.quantize(lenet_like, QuantizeSettings(bits=("fc1=3",)))
    assert np.unique(shared.tensors["fc1.weight"]).size == 8
    assert np.array_equal(shared.tensors["fc1.bias"], lenet_like.tensors["fc1.bias"])
    both = stages.quantize(lenet_like, QuantizeSettings(bias_bits=4, bits=("fc1=3",)))
    assert np.unique(both.tensors["fc1.bias"]).size == 8


def test_quantizing_keeps_zeros_and_shares_values(lenet_like):
    pruned = stages.prune(lenet_like, PruneSettings(sparsity=0.9))
    shared = stages.quantize(pruned, QuantizeSettings(fc_bits=5, bits=("fc3=2",)))
    for name in WEIGHTS:
        before, after = pruned.tensors[name], shared.tensors[name]
        assert np.array_equal(before == 0, after == 0)
        assert np.unique(after[after != 0]).size <= (4 if name == "fc3.weight" else 32)
    assert np.array_equal(shared.tensors["fc1.bias"], pruned.tensors["fc1.bias"])


def test_biases_are_shared_when_asked(lenet_like):
    shared = stages.quantize(lenet_like, QuantizeSettings(bias_bits=3))
    assert np.unique(shared.tensors["fc1.bias"]).size <= 8
    assert np.array_equal(shared.tensors["fc1.weight"], lenet_like.tensors["fc1.weight"])


def test_fewer_values_than_bits_allow_are_fine_and_said(lenet_like):
    notes = Notes()
    coarse = lenet_like.replaced({"fc3.weight": np.sign(lenet_like.tensors["fc3.weight"])})
    shared = stages.quantize(coarse, QuantizeSettings(bits=("fc3.weight=5",)), notes)
    assert notes.lines == ["smaller codebooks than the bits allow, which saves bytes: fc3.weight 2 of 32"]
    assert np.array_equal(shared.tensors["fc3.weight"], coarse.tensors["fc3.weight"])


def test_one_note_lists_all_smaller_codebooks():
    tensors = {f"fc{number}.weight": np.array([[1, 2, 0], [2, 1, 3]], np.float32) for number in range(1, 6)}
    different = {name: array + number for number, (name, array) in enumerate(tensors.items())}
    notes = Notes()
    stages.quantize(Checkpoint(different, {}), QuantizeSettings(fc_bits=5), notes)
    [line] = notes.lines
    assert line.startswith("smaller codebooks than the bits allow, which saves bytes: fc1.weight 3 of 32, fc2.weight ")
    assert line.endswith(" of 32 and 2 more")


def test_costly_bits_leave_fewer_values(lenet_like):
    pruned = stages.prune(lenet_like, PruneSettings(sparsity=0.9))
    shared = stages.quantize(pruned, QuantizeSettings(fc_bits=5, rate_weight=0.05))
    assert shared.metadata["dcomp.quantize"] == '{"fc_bits":5,"lambda":0.05}'
    for name in WEIGHTS:
        before, after = pruned.tensors[name], shared.tensors[name]
        assert np.array_equal(before == 0, after == 0)
        assert np.unique(after[after != 0]).size < 20


DIGITS = {"data": "digits", "batch_size": 32, "lr": 0.05}


@pytest.fixture(scope="module")
def trained():
    return stages.train(TrainSettings(architecture="lenet300", epochs=4, **DIGITS))


def test_training_writes_its_metadata(trained):
    assert trained.metadata["dcomp.architecture"] == "lenet300"
    assert json.loads(trained.metadata["dcomp.train"]) == {"architecture": "lenet300", "epochs": 4, **DIGITS}
    assert trained.metadata["dcomp.version"] == dcomp.__version__
    history = json.loads(trained.metadata["dcomp.history"])
    assert [set(record) for record in history] == [{"epoch", "train_loss", "val_loss", "val_error"}] * 4
    assert history[-1]["val_error"] < 25


def test_finetuning_trains_the_network_on(trained):
    settings = FinetuneSettings(epochs=1, val_split=0, **{**DIGITS, "lr": 0.001})
    finetuned = stages.finetune(trained, settings)
    distance = np.abs(finetuned.tensors["fc1.weight"] - trained.tensors["fc1.weight"]).max()
    assert 0 < distance < 0.05
    assert json.loads(finetuned.metadata["dcomp.finetune"])["epochs"] == 1
    assert [record["epoch"] for record in json.loads(finetuned.metadata["dcomp.history"])] == [1]


def test_finetuning_never_ends_worse_than_it_began(trained):
    finetuned = stages.finetune(trained, FinetuneSettings(epochs=1, **{**DIGITS, "lr": 0.4}))
    assert np.array_equal(finetuned.tensors["fc1.weight"], trained.tensors["fc1.weight"])


def test_finetune_with_choose_after_leaves_the_start_out(trained):
    settings = FinetuneSettings(epochs=2, choose_after=1, **{**DIGITS, "lr": 0.05})
    finetuned = stages.finetune(trained, settings)
    assert not np.array_equal(finetuned.tensors["fc1.weight"], trained.tensors["fc1.weight"])


def test_finetune_leaves_an_epoch_to_choose():
    with pytest.raises(ValueError, match="choose_after is below the 2 epochs, not 2"):
        FinetuneSettings(epochs=2, choose_after=2, data="digits")


def test_finetuning_holds_what_is_pruned_and_shared(trained):
    shared = stages.quantize(stages.prune(trained, PruneSettings(sparsity=0.9)), QuantizeSettings(bits=("fc2=3",)))
    finetuned = stages.finetune(shared, FinetuneSettings(epochs=1, **DIGITS))
    for name in ("fc1.weight", "fc2.weight", "fc3.weight"):
        assert np.array_equal(finetuned.tensors[name] == 0, shared.tensors[name] == 0)
    assert not np.array_equal(finetuned.tensors["fc1.weight"], shared.tensors["fc1.weight"])
    assert np.unique(finetuned.tensors["fc2.weight"]).size <= 9


def test_finetuning_holds_biases_that_are_pruned_as_a_whole(trained):
    pruned = trained.replaced({"fc1.bias": np.zeros_like(trained.tensors["fc1.bias"])})
    finetuned = stages.finetune(pruned, FinetuneSettings(epochs=1, **DIGITS))
    assert not finetuned.tensors["fc1.bias"].any()
    assert not np.array_equal(finetuned.tensors["fc2.bias"], trained.tensors["fc2.bias"])


@pytest.mark.parametrize("schedule", ["oneshot", "gradual", "iterative"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_retraining_reaches_the_sparsity_exactly(trained, schedule, scope):
    moves = {} if schedule == "oneshot" else {"until": 1, "every": 0.25}
    settings = PruneSettings(sparsity=0.9, epochs=3, schedule=schedule, scope=scope, **moves, **DIGITS)
    pruned = stages.prune(trained, settings)
    if scope == "global":
        assert zeros(pruned) == round(266_200 * 0.9)
    else:
        assert zeros(pruned, ["fc3.weight"]) == 900
    assert not np.array_equal(pruned.tensors["fc1.bias"], trained.tensors["fc1.bias"])
    assert list(pruned.tensors) == list(trained.tensors)


def test_layers_that_are_not_pruned_now_keep_zeros_and_shared_values(trained):
    first = stages.prune(trained, PruneSettings(layer=("fc1=0.95",)))
    first = stages.quantize(first, QuantizeSettings(bits=("fc2=3",)))
    pruned = stages.prune(first, PruneSettings(layer=("fc3=0.5",), epochs=1, until=0, **DIGITS))
    assert zeros(pruned, ["fc1.weight"]) == zeros(first, ["fc1.weight"])
    assert np.unique(pruned.tensors["fc2.weight"]).size == 8
    assert zeros(pruned, ["fc3.weight"]) == 500


def test_the_sparsity_is_met_however_late_masks_move_last(trained):
    settings = PruneSettings(sparsity=0.9, epochs=2, until=1.9999, **DIGITS)
    assert zeros(stages.prune(trained, settings)) == round(266_200 * 0.9)


def test_the_sparsity_is_met_in_dtypes_whose_small_weights_vanish(trained):
    tiny = {name: (array * 1e-6).astype(np.float16) for name, array in trained.tensors.items()}
    tiny = {name: np.where(array == 0, np.float16(1e-7), array) for name, array in tiny.items()}
    settings = PruneSettings(sparsity=0.5, epochs=1, until=0, **{**DIGITS, "lr": 1e-6})
    assert zeros(stages.prune(Checkpoint(tiny, trained.metadata), settings)) == round(266_200 * 0.5)


def test_codes_and_zeros_hold_while_centroids_train(trained):
    pruned = stages.prune(trained, PruneSettings(sparsity=0.9))
    shared = stages.quantize(pruned, QuantizeSettings(fc_bits=4))
    tuned = stages.quantize(pruned, QuantizeSettings(fc_bits=4, epochs=2, **{**DIGITS, "lr": 0.001}))
    for name in WEIGHTS:
        before, after = shared.tensors[name], tuned.tensors[name]
        assert np.array_equal(before == 0, after == 0)
        assert not np.array_equal(before, after)
        for value in np.unique(before):
            assert np.unique(after[before == value]).size == 1


def test_layers_that_were_shared_stay_shared(trained):
    first = stages.quantize(trained, QuantizeSettings(bits=("fc1=3",)))
    both = stages.quantize(first, QuantizeSettings(bits=("fc2=3",), epochs=1, **DIGITS))
    assert np.unique(both.tensors["fc1.weight"]).size == np.unique(first.tensors["fc1.weight"]).size == 8


def test_retraining_shared_weights_says_that_they_part(trained):
    shared = stages.quantize(trained, QuantizeSettings(bits=("fc1=3",)))
    notes = Notes()
    stages.prune(shared, PruneSettings(sparsity=0.5, epochs=1, until=0, **DIGITS), notes)
    assert notes.lines[0].startswith("fc1.weight: weights were shared")


def test_the_same_seed_gives_the_same_bytes(trained):
    settings = PruneSettings(sparsity=0.8, epochs=1, until=0.5, **DIGITS)
    one, other = (stages.prune(trained, settings) for _ in range(2))
    assert all(one.tensors[name].tobytes() == other.tensors[name].tobytes() for name in one.tensors)
    assert one.metadata == other.metadata


def test_other_dtypes_keep_their_dtype_through_retraining(trained):
    half = Checkpoint({name: a.astype(np.float16) for name, a in trained.tensors.items()}, trained.metadata)
    pruned = stages.prune(half, PruneSettings(sparsity=0.5, epochs=1, until=0.5, **DIGITS))
    assert {array.dtype for array in pruned.tensors.values()} == {np.dtype(np.float16)}


def test_evaluation_measures_the_test_examples(trained):
    result = stages.evaluate(trained, EvalSettings(data="digits"))
    assert result.count == 359
    assert 0 <= result.metrics["top5_error"] <= result.judged < 25
    with pytest.raises(GateError, match=r"is above the 0 % allowed"):
        stages.check_bounds(replace(result, metrics={"top1_error": 0.01}), EvalSettings(data="digits", max_error=0))


def encoded(checkpoint):
    buffer = io.BytesIO()
    stages.encode(checkpoint, buffer)
    return Container(buffer.getvalue())


def test_the_rows_of_a_report_and_the_overhead_add_up_to_the_file(lenet_like):
    pruned = stages.prune(lenet_like, PruneSettings(sparsity=0.9))
    container = encoded(stages.quantize(pruned, QuantizeSettings(fc_bits=5)))
    sizes = stages.report(container)
    assert sum(row.bytes for row in sizes.rows) + sizes.overhead == sizes.file_bytes == container.nbytes
    assert sizes.ratio == lenet_like.nbytes / container.nbytes
    row = sizes.rows[0]
    assert (row.weights, row.weight_bits, row.kept) == (235_200, 5, int((pruned.tensors["fc1.weight"] != 0).sum()))
    assert row.weight_bits_coded < 5.1
    assert row.index_bits_coded < row.index_bits


def test_a_report_counts_against_another_checkpoint(lenet_like):
    double = Checkpoint({name: array.astype(np.float64) for name, array in lenet_like.tensors.items()})
    container = encoded(lenet_like)
    assert stages.report(container, double).ratio == pytest.approx(2 * stages.report(container).ratio)
    with pytest.raises(GateError, match="below the 39 required"):
        stages.check_ratio(stages.report(container), ReportSettings(min_ratio=39))


def test_masks_move_at_the_epochs_listed(trained):
    settings = PruneSettings(count=200_000, schedule="uniform", at=[0.5, 1, 1.5], epochs=2, **DIGITS)
    assert zeros(stages.prune(trained, settings)) == 200_000


def test_each_move_takes_its_amount_while_the_network_retrains(trained):
    settings = PruneSettings(amount=0.5, at=[0, 0.5, 1], epochs=2, **DIGITS)
    assert zeros(stages.prune(trained, settings)) == round(266_200 * 0.875)


def test_a_threshold_prunes_at_each_move_what_lies_below_it_then(trained):
    settings = PruneSettings(criterion="std", threshold=1.0, at=[0, 1], epochs=2, weight_decay=0.1, **DIGITS)
    pruned = stages.prune(trained, settings)
    first = stages.prune(trained, PruneSettings(criterion="std", threshold=1.0))
    assert zeros(pruned) > zeros(first)


def test_whole_rows_stay_zero_while_the_network_retrains(trained):
    choice = {"structure": "row", "scope": "layer", "skip": "fc3"}
    pruned = stages.prune(trained, PruneSettings(sparsity=0.5, at=[0, 1], epochs=2, **choice, **DIGITS))
    for name, rows in {"fc1.weight": 150, "fc2.weight": 50}.items():
        assert (pruned.tensors[name] == 0).all(axis=1).sum() == rows
        assert zeros(pruned, [name]) == rows * pruned.tensors[name].shape[1]


@pytest.fixture
def beginning(trained, tmp_path):
    """The file of a checkpoint from before training."""
    early = Checkpoint({name: array * 0 + 0.5 for name, array in trained.tensors.items()})
    path = tmp_path / "beginning.safetensors"
    with path.open("wb") as file:
        outputs.save(early, file)
    return path


def test_a_lottery_ticket_has_earlier_values_where_weights_are_kept(trained, beginning):
    pruned = stages.prune(trained, PruneSettings(sparsity=0.9))
    ticket = stages.prune(trained, PruneSettings(sparsity=0.9, rewind=beginning))
    for name in WEIGHTS:
        assert np.array_equal(ticket.tensors[name], np.where(pruned.tensors[name] != 0, np.float32(0.5), 0))
    assert (ticket.tensors["fc1.bias"] == 0.5).all()
    assert json.loads(ticket.metadata["dcomp.prune"])["rewind"] == "beginning.safetensors"


def test_a_lottery_ticket_retrains_with_its_zeros_held(trained, beginning):
    ticket = stages.prune(trained, PruneSettings(sparsity=0.9, rewind=beginning))
    settings = PruneSettings(sparsity=0.9, rewind=beginning, schedule="oneshot", epochs=1, **DIGITS)
    retrained = stages.prune(trained, settings)
    assert all(np.array_equal(retrained.tensors[n] == 0, ticket.tensors[n] == 0) for n in WEIGHTS)
    assert not np.array_equal(retrained.tensors["fc1.weight"], ticket.tensors["fc1.weight"])


def test_weights_train_freely_until_they_are_shared(trained):
    pruned = stages.prune(trained, PruneSettings(sparsity=0.9))
    late = stages.quantize(pruned, QuantizeSettings(fc_bits=4, start=2, epochs=2, **{**DIGITS, "lr": 0.001}))
    at_once = stages.quantize(pruned, QuantizeSettings(fc_bits=4))
    for name in WEIGHTS:
        assert np.array_equal(late.tensors[name] == 0, pruned.tensors[name] == 0)
        assert np.unique(late.tensors[name]).size <= 17
        assert not np.array_equal(late.tensors[name], at_once.tensors[name])


def test_the_history_of_a_late_sharing_counts_its_epochs_on(trained):
    settings = QuantizeSettings(fc_bits=4, start=1, epochs=3, **{**DIGITS, "lr": 0.001})
    history = json.loads(stages.quantize(trained, settings).metadata["dcomp.history"])
    assert [record["epoch"] for record in history] == [1, 2, 3]


def test_kinds_that_are_shared_in_turn_all_stay_shared():
    lenet5 = stages.train(TrainSettings(architecture="lenet5", epochs=1, data="digits", batch_size=128))
    tuning = {"data": "digits", "batch_size": 128, "epochs": 1, "lr": 0.001, "val_split": 0}
    convolutions = stages.quantize(lenet5, QuantizeSettings(conv_bits=8, **tuning))
    both = stages.quantize(convolutions, QuantizeSettings(fc_bits=5, **tuning))
    found = {name: np.unique(array).size for name, array in both.tensors.items() if array.ndim > 1}
    for name in ("conv1.weight", "conv2.weight"):
        assert found[name] == np.unique(convolutions.tensors[name]).size <= 256
        assert not np.array_equal(both.tensors[name], convolutions.tensors[name])
    assert max(found["fc1.weight"], found["fc2.weight"]) <= 32


def test_biases_that_were_pruned_stay_so_while_others_train(trained):
    first = stages.prune(trained, PruneSettings(sparsity=0.5, kinds="bias", only="fc1"))
    shared = stages.quantize(first, QuantizeSettings(fc_bits=5, epochs=1, **{**DIGITS, "lr": 0.001}))
    assert zeros(shared, ["fc1.bias"]) == 150


def test_a_wrapped_networks_checkpoint_gets_the_networks_names(trained):
    wrapped = Checkpoint({f"model.{name}": array for name, array in trained.tensors.items()})
    judged = EvalSettings(data="digits")
    assert stages.evaluate(wrapped, judged, architecture="lenet300") == stages.evaluate(trained, judged)
    settings = PruneSettings(sparsity=0.5, epochs=1, until=0, **DIGITS)
    assert list(stages.prune(wrapped, settings, architecture="lenet300").tensors) == list(trained.tensors)
    assert list(stages.prune(wrapped, PruneSettings(sparsity=0.5)).tensors) == list(wrapped.tensors)


@pytest.mark.parametrize("values", ["bfloat16", "float16"])
def test_rounded_values_take_fewer_bytes(lenet_like, values):
    lenet_like.tensors["fc3.weight"][0, :3] = [1e-30, -1e-30, 1e30]
    pruned = stages.prune(lenet_like, PruneSettings(sparsity=0.9))
    whole, halved = (
        stages.quantize(pruned, QuantizeSettings(fc_bits=6, bias_bits=4, codebook_values=kind))
        for kind in ("float32", values)
    )
    sizes = []
    for made in (whole, halved):
        file = io.BytesIO()
        stages.encode(Checkpoint(made.tensors), file)
        sizes.append(len(file.getvalue()))
    assert sizes[1] < sizes[0] - 64
    for name, array in halved.tensors.items():
        assert array.dtype == np.float32
        assert np.array_equal(array != 0, whole.tensors[name] != 0)
        assert np.isfinite(array).all()
        near = np.abs(array) < 60_000
        assert array[near] == pytest.approx(whole.tensors[name][near], rel=2**-8, abs=1e-7)


def test_auto_chooses_the_bits_of_each_tensor(lenet_like):
    tensors = lenet_like.tensors
    tensors["fc2.weight"][:] = np.random.default_rng(1).choice([-2.0, -1.0, 1.0], tensors["fc2.weight"].shape)
    pruned = stages.prune(lenet_like, PruneSettings(sparsity=0.9, skip="fc2"))
    found = stages.quantize(pruned, QuantizeSettings(bits=("auto", "fc3=2")))
    counts = [np.unique(found.tensors[name][found.tensors[name] != 0]).size for name in WEIGHTS]
    assert counts[1:] == [3, 4]
    assert 4 <= counts[0] <= 64
    harder = stages.quantize(pruned, QuantizeSettings(bits="auto", rate_weight=0.3))
    assert np.unique(harder.tensors["fc1.weight"]).size < counts[0]
    assert np.array_equal(harder.tensors["fc1.weight"] != 0, pruned.tensors["fc1.weight"] != 0)


def test_a_layer_of_more_than_256_shared_values_keeps_them(lenet_like):
    wide = stages.quantize(lenet_like, QuantizeSettings(bits=["fc1=10"]))
    before = wide.tensors["fc1.weight"]
    settings = QuantizeSettings(bits=["fc2=4"], epochs=1, data="digits", batch_size=500, val_split=0)
    after = stages.quantize(wide, settings).tensors["fc1.weight"]
    assert np.unique(before).size == np.unique(after).size == 1024
    assert (after != before).any()
    for value in np.unique(before)[::100]:
        assert np.unique(after[before == value]).size == 1


def test_values_of_16_bits_that_may_be_shared_or_not_are_told(lenet_like):
    halves = lenet_like.replaced({"fc1.weight": lenet_like.tensors["fc1.weight"].astype(np.float16).astype(np.float32)})
    notes = Notes()
    settings = QuantizeSettings(bits=["fc2=4"], epochs=1, data="digits", batch_size=500, val_split=0)
    stages.quantize(halves, settings, notes)
    assert any(line.startswith("fc1.weight: more than 256 values, of 16 bits each") for line in notes.lines)
