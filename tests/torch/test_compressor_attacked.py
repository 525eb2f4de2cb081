"""The compressor given what it cannot use: each gets one clear error, and what it holds stays held."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from dcomp.errors import CheckpointError, UsageError
from dcomp.torch import Compressor
from dcomp.torch.callbacks import LoopCallback

ONCE = {"sparsity": 0.5, "schedule": "oneshot"}
GRADUAL = {"sparsity": 0.5, "until": 8, "every": 2, "criterion": "fisher"}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 4))


def train(model, optimizer, steps, factor=1.0):
    for _ in range(steps):
        optimizer.zero_grad()
        (model(torch.rand(8, 20)).square().mean() * factor).backward()
        optimizer.step()


def start(prune=GRADUAL, **options):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return model, optimizer, Compressor(model, optimizer, prune=prune, **options)


def embedding():
    model = nn.Sequential(nn.Embedding(20, 8, sparse=True))
    return model, torch.optim.SGD(model.parameters(), 0.1)


@pytest.mark.parametrize("criterion", ["magnitude", "fisher"])
def test_sparse_gradients_are_refused(criterion):
    model, optimizer = embedding()
    Compressor(model, optimizer, prune={**ONCE, "criterion": criterion, "only": "weight"})
    model(torch.arange(5)).square().mean().backward()
    with pytest.raises(UsageError, match="has a sparse gradient: make its layer with sparse=False"):
        optimizer.step()


def test_gradients_that_are_nan_move_no_zero_and_stop_the_next_move():
    model, optimizer, _ = start(ONCE, quantize={"bits": 2, "start": 3})
    train(model, optimizer, 1)
    zeros = model[0].weight == 0
    train(model, optimizer, 2, factor=float("nan"))
    assert model[0].weight.isnan().any()
    assert torch.equal(model[0].weight == 0, zeros)
    with pytest.raises(CheckpointError, match=r"0\.weight holds infinities or NaNs, which cannot be pruned or shared"):
        train(model, optimizer, 1)


def replace(model):
    model[0].weight = nn.Parameter(torch.rand(16, 20))


def remove(model):
    model[0] = nn.Identity()


def resize(model):
    model[0].weight.data = torch.rand(30, 20)


@pytest.mark.parametrize("change", [replace, remove, resize])
def test_parameters_that_are_replaced_are_refused_instead_of_left_dense(change, tmp_path):
    model, optimizer, compressor = start(ONCE)
    train(model, optimizer, 2)
    change(model)
    for use in (lambda: compressor.save(tmp_path / "x.dcz"), compressor.report, compressor.finish):
        with pytest.raises(UsageError, match=r"0\.weight.*: replaced in the model since the compressor began"):
            use()
    assert not (tmp_path / "x.dcz").exists()


@pytest.mark.parametrize("weight", [torch.rand(16, 40)[:, ::2], torch.rand(1, 20).expand(16, 20)])
def test_a_parameter_that_is_part_of_a_tensor_is_refused(weight):
    model = network()
    model[0].weight = nn.Parameter(weight)
    with pytest.raises(UsageError, match=r"0\.weight is a part of a larger tensor, or repeats its elements"):
        Compressor(model, torch.optim.SGD(model.parameters(), 0.1), prune=ONCE)


def test_a_second_compressor_waits_for_the_end_of_the_first():
    model, optimizer, compressor = start(ONCE)
    train(model, optimizer, 1)
    with pytest.raises(UsageError, match="this optimizer has a compressor already: give all sections to one"):
        Compressor(model, optimizer, quantize={"bits": 2})
    compressor.finish()
    second = Compressor(model, optimizer, quantize={"bits": 2})
    train(model, optimizer, 1)
    assert (second.phase, second.sparsity, len(model[0].weight.unique())) == ("shared", 0.5, 5)


def test_a_compressor_of_an_interrupted_loop_lets_go():
    model, optimizer, compressor = start(ONCE)
    train(model, optimizer, 1)
    compressor.detach()
    zeros = model[0].weight == 0
    train(model, optimizer, 1)
    assert (model[0].weight[zeros] != 0).any()
    assert Compressor(model, optimizer, prune=ONCE, hold=False).phase == "dense"


def test_a_callback_begins_again_on_the_optimizer_of_an_interrupted_training():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    callback = LoopCallback(prune=ONCE)
    for _ in range(2):
        callback._begin(model, optimizer, 3, None)
    train(model, optimizer, 1)
    assert (callback.compressor.step, callback.compressor.sparsity) == (1, 0.5)


def test_a_compressor_that_could_not_begin_leaves_the_optimizer_free(monkeypatch):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monkeypatch.setattr(Compressor, "_hold", lambda compressor: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Compressor(model, optimizer, prune=ONCE)
    monkeypatch.undo()
    Compressor(model, optimizer, prune=ONCE)
    train(model, optimizer, 1)
    assert (model[0].weight == 0).any()


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
def test_a_compressor_is_not_copied_but_model_and_optimizer_are(copied):
    model, optimizer, compressor = start(ONCE)
    train(model, optimizer, 1)
    with pytest.raises(UsageError, match=r"cannot be copied or pickled: keep its state_dict\(\)"):
        copied(compressor)
    copied((model, optimizer))
    train(model, optimizer, 1)
    assert compressor.step == 2


@pytest.mark.parametrize("inputs", ["x", {"x": torch.rand(2, 20)}])
def test_example_inputs_that_are_no_batch_are_refused_at_once(inputs):
    with pytest.raises(UsageError, match=r"remove_dead_units needs example_inputs: a batch of inputs"):
        start({**ONCE, "remove_dead_units": True}, example_inputs=inputs)


def test_example_inputs_that_the_model_does_not_take_are_one_error():
    model, optimizer, _ = start({**ONCE, "remove_dead_units": True}, example_inputs=torch.rand(2, 7))
    with pytest.raises(UsageError, match="the model does not take example_inputs: mat1 and mat2"):
        train(model, optimizer, 1)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    "wrong",
    [
        *({"step": step} for step in (-1, 2.5, float("nan"), None)),
        *({"held": held} for held in (None, {}, {"masked": {"none": 1}, "shared": {}}, {"masked": None, "shared": {}})),
        *({"facts": facts} for facts in (None, [], [None], [{}], [None, None])),
        *(
            {"squares": {"sums": sums, "counts": {"0.weight": 1}}}
            for sums in (None, {"0.weight": torch.ones(3)}, {"x": 1})
        ),
        {"squares": {"sums": {"0.weight": torch.ones(16, 20)}, "counts": {"0.weight": 0}, "were_read": []}},
    ],
    ids=str,
)
def test_a_state_that_is_refused_changes_nothing(wrong):
    model, optimizer, compressor = start()
    train(model, optimizer, 3)
    state, zeros = compressor.state_dict(), model[0].weight == 0
    assert zeros.any()
    with pytest.raises(CheckpointError, match=r"the compressor does not fit|no state of a compressor"):
        compressor.load_state_dict({**state, **wrong})
    train(model, optimizer, 8)
    assert (compressor.phase, compressor.step, compressor.sparsity) == ("pruned", 11, 0.5)
    assert (model[0].weight[zeros] == 0).all()


def test_numbers_of_numpy_are_numbers():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options = {"sparsity": np.float32(0.5), "until": np.int64(1)}
    compressor = Compressor(model, optimizer, steps_per_epoch=np.int64(3), prune=options)
    train(model, optimizer, 4)
    assert (compressor.phase, compressor.sparsity) == ("pruned", 0.5)
    with pytest.raises(UsageError, match="steps_per_epoch is the number of optimizer steps"):
        Compressor(model, optimizer, steps_per_epoch=True, prune=options)


def test_weights_of_8_bits_count_in_the_sparsity():
    model = network()
    kept = (torch.arange(320).reshape(16, 20) % 2).float()
    model.register_parameter("table", nn.Parameter(kept.to(torch.float8_e4m3fn), requires_grad=False))
    compressor = Compressor(model, torch.optim.SGD(model.parameters(), 0.1), hold=False)
    assert compressor.sparsity == pytest.approx(160 / (320 + 64 + 320))
