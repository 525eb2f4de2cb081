"""The compressor in loops of plain PyTorch."""

import copy
import doctest
import io
import json
import logging
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune as torch_prune

import dcomp
import dcomp.torch
from dcomp.cli import run
from dcomp.errors import ArchitectureError, CheckpointError, OutputError, UsageError
from dcomp.torch import Compressor
from dcomp.torch import compressor as compressor_module

PRUNE = {"sparsity": 0.8, "until": 2}
QUANTIZE = {"fc_bits": 2, "conv_bits": 2, "start": 3}

OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9, weight_decay=0.01, nesterov=True),
    "adam": lambda parameters: torch.optim.Adam(parameters, 0.01),
    "fused adam": lambda parameters: torch.optim.Adam(parameters, 0.01, fused=True),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, 0.01, amsgrad=True),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, 0.001, momentum=0.9, centered=True),
    "adafactor": lambda parameters: torch.optim.Adafactor(parameters, 0.01),
    "muon": lambda parameters: torch.optim.Muon(parameters, 0.01),
}

NOT_ELEMENTWISE = ("adafactor", "muon")
LAST_BITS = {"fused adam": 4}
"""How far, in units of the last bit, the momenta of equal weights may lie apart: a fused step rounds its ends apart."""


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 20, bias=False), nn.ReLU()
    ).append(nn.Linear(20, 5, bias=False))


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(16, 1, 8, 8, generator=generator), torch.randint(0, 5, (16,), generator=generator)


def train(model, optimizer, steps, after=lambda step: None):
    for step in steps:
        images, labels = batch(step)
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        after(step)


def start(optimizer="adam", *, model=None, **options):
    model = model or network()
    torch_optimizer = OPTIMIZERS[optimizer]([weight for weight in model.parameters() if weight.ndim > 1])
    options = {"steps_per_epoch": 5, "prune": PRUNE, "quantize": QUANTIZE} | options
    return model, torch_optimizer, Compressor(model, torch_optimizer, **options)


def bits(tensor):
    return tensor.detach().view(torch.int32)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zero_is_zero_and_equal_is_equal_after_every_step(name):
    model = network()
    if name == "muon":  # it is for matrices
        model[0].weight.requires_grad_(False)
    optimizer = OPTIMIZERS[name]([weight for weight in model.parameters() if name != "muon" or weight.ndim == 2])
    compressor = Compressor(model, optimizer, steps_per_epoch=5, prune=PRUNE, quantize=QUANTIZE)
    weights = dict(model.named_parameters())
    zeros = {key: torch.zeros_like(weight, dtype=torch.bool) for key, weight in weights.items()}
    codes, moved = {}, {key: set() for key in weights}

    def check(step):
        for key, weight in weights.items():
            zero = weight == 0
            assert (zeros[key] & ~zero).sum() == 0  # what was pruned stays pruned
            assert (bits(weight)[zero] == 0).all()  # and is not -0.0
            zeros[key] = zero
            if step >= 15:
                codes.setdefault(key, weight.detach().unique(return_inverse=True)[1])
                for code in codes[key].unique():
                    assert bits(weight)[codes[key] == code].unique().numel() == 1
            moved[key].add(float(weight.detach().abs().sum()))
            for state in optimizer.state[weight].values() if name not in NOT_ELEMENTWISE else ():
                if isinstance(state, torch.Tensor) and state.shape == weight.shape:
                    assert (state[zero] == 0).all()
                    for code in codes[key].unique() if step >= 15 else ():
                        members = bits(state)[codes[key] == code]
                        assert members.max() - members.min() <= LAST_BITS.get(name, 0)

    train(model, optimizer, range(25), check)
    assert compressor.sparsity == pytest.approx(0.8, abs=1e-3)
    assert all(len(weight.unique()) <= 5 for weight in weights.values())
    assert all(len(sums) > 20 for key, sums in moved.items() if weights[key].requires_grad)


def test_the_schedule_is_that_of_the_recipe():
    model, optimizer, compressor = start(prune={"sparsity": 0.8, "until": 2, "every": 0.5}, quantize=None)
    sparsities = []
    train(model, optimizer, range(14), lambda step: sparsities.append(compressor.sparsity))
    changes = [step for step in range(1, 14) if sparsities[step] != sparsities[step - 1]]
    assert changes == [3, 5, 8, 10]  # the first steps at or after epochs 0.5, 1, 1.5 and 2
    assert sparsities[-1] == pytest.approx(0.8, abs=1e-3)


def test_phase_and_sparsity_say_what_goes_on():
    model, optimizer, compressor = start()
    phases = [compressor.phase]
    train(model, optimizer, range(20), lambda step: phases.append(compressor.phase))
    assert phases[0] == "dense"
    assert phases[6] == "pruning 0.70 of 0.8"
    assert phases[11] == "pruned"
    assert phases[16] == phases[20] == "shared"
    assert (compressor.step, compressor.time, compressor.to_come) == (20, 4.0, "")


def test_without_steps_per_epoch_times_are_steps():
    model, optimizer, compressor = start(
        steps_per_epoch=None, prune={"sparsity": 0.8, "until": 10, "every": 5}, quantize={"bits": 2, "start": 12}
    )
    train(model, optimizer, range(11))
    assert compressor.phase == "pruned"
    train(model, optimizer, range(11, 13))
    assert compressor.phase == "shared"


def test_the_user_s_loop_trains_the_same_without_sections():
    model, plain = network(), network()
    optimizer, its = OPTIMIZERS["adam"](model.parameters()), OPTIMIZERS["adam"](plain.parameters())
    Compressor(model, optimizer)
    train(model, optimizer, range(5))
    train(plain, its, range(5))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_sections_come_in_lists_and_begin_with_the_weights_of_their_time():
    prune = [{"sparsity": 0.5, "schedule": "oneshot"}, {"amount": 0.5, "at": [2], "skip": "^0"}]
    quantize = [{"conv_bits": 3, "start": 1}, {"fc_bits": 2, "start": 3}]
    model = network()
    with pytest.raises(UsageError, match=r"0\.weight: prune"):
        start(model=model, prune={"sparsity": 0.5, "at": [2]}, quantize=quantize)
    model, optimizer, compressor = start(model=model, prune=prune, quantize=quantize)
    train(model, optimizer, range(20))
    linear = torch.cat([model[3].weight.flatten(), model[5].weight.flatten()])
    before = 0.5 * sum(weight.numel() for weight in model.parameters())
    assert (linear == 0).sum() > 0.7 * linear.numel()
    assert sum(int((weight == 0).sum()) for weight in model.parameters()) > 1.4 * before
    assert [len(weight.unique()) for weight in model.parameters()] == [9, 5, 5]
    assert compressor.phase == "shared"


def test_a_criterion_takes_the_gradients_of_the_loop():
    model, optimizer, _ = start("sgd", prune={"sparsity": 0.5, "at": [1], "criterion": "fisher"}, quantize=None)
    squares, kept = [], []

    def gather(step):
        squares.append(model[3].weight.grad.square())

    optimizer.register_step_pre_hook(lambda *_: kept.append(model[3].weight.detach().clone()))
    train(model, optimizer, range(5), gather)
    images, labels = batch(5)
    optimizer.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    squares.append(model[3].weight.grad.square())
    before = [weight.detach().clone() for weight in model.parameters()]
    optimizer.step()
    scores = before[1].abs() * torch.stack(squares).mean(0).sqrt()
    pruned = model[3].weight == 0
    assert 0 < pruned.float().mean() < 1
    assert scores[pruned].max() <= scores[~pruned].min()


def states(model, optimizer, compressor):
    """The states after torch has written and read them."""
    buffer = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict(), compressor.state_dict()], buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("name", ["sgd", "adam", "fused adam", "muon"])
@pytest.mark.parametrize("stop", [7, 18], ids=["while it prunes", "after sharing"])
@pytest.mark.parametrize(
    "prune",
    [
        PRUNE,
        {"sparsity": 0.8, "until": 2, "criterion": "fisher"},
        {"threshold": 1.0, "criterion": "std", "at": [0, 2]},
        {"target_ratio": 15, "until": 2},
        {"amount": 0.6, "sparsity": 0.8, "until": 2},
    ],
    ids=lambda prune: prune.get("criterion", next(iter(prune))),
)
def test_a_resumed_loop_ends_with_the_same_bytes(name, stop, prune):
    def begin():
        model = network()
        if name == "muon":
            model[0] = nn.Conv2d(1, 4, 3).requires_grad_(False)
            model = model.append(nn.Identity())
        optimizer = OPTIMIZERS[name]([weight for weight in model.parameters() if weight.requires_grad])
        section = {**prune, "skip": "^0"}
        return model, optimizer, Compressor(model, optimizer, steps_per_epoch=5, prune=section, quantize=QUANTIZE)

    model, optimizer, compressor = begin()
    frozen = copy.deepcopy(model[0].state_dict())
    train(model, optimizer, range(22))
    expected = dcomp.torch.save(model.state_dict())

    model, optimizer, compressor = begin()
    model[0].load_state_dict(frozen)
    train(model, optimizer, range(stop))
    saved = states(model, optimizer, compressor)
    model, optimizer, compressor = begin()
    for part, state in zip((model, optimizer, compressor), saved, strict=True):
        part.load_state_dict(state)
    train(model, optimizer, range(stop, 22))
    assert dcomp.torch.save(model.state_dict()) == expected


def test_a_compressor_may_be_made_before_or_after_the_states_are_loaded():
    model, optimizer, compressor = start()
    train(model, optimizer, range(18))
    saved = states(model, optimizer, compressor)
    train(model, optimizer, range(18, 22))
    model_2 = network()
    model_2.load_state_dict(saved[0])
    optimizer_2 = OPTIMIZERS["adam"](model_2.parameters())
    optimizer_2.load_state_dict(saved[1])
    made_2 = Compressor(model_2, optimizer_2, steps_per_epoch=5, prune=PRUNE, quantize=QUANTIZE)
    made_2.load_state_dict(saved[2])
    train(model_2, optimizer_2, range(18, 22))
    assert dcomp.torch.save(model_2.state_dict()) == dcomp.torch.save(model.state_dict())


def test_the_state_holds_no_masks_and_no_codes():
    model, optimizer, compressor = start()
    train(model, optimizer, range(18))
    assert len(json.dumps(compressor.state_dict())) < 1000


def test_a_state_needs_the_weights_of_its_model():
    model, optimizer, compressor = start()
    train(model, optimizer, range(18))
    state = compressor.state_dict()
    _, _, other = start()
    with pytest.raises(CheckpointError, match="load the states of the model and of the optimizer before"):
        other.load_state_dict(state)
    _, _, other = start(prune={"sparsity": 0.7, "until": 2})
    with pytest.raises(CheckpointError, match=r"other sections or .*: give the same, .*'sparsity': 0\.8") as caught:
        other.load_state_dict(state)
    assert "epochs'" not in str(caught.value)  # nobody gave them
    with pytest.raises(CheckpointError, match="no state of a compressor"):
        other.load_state_dict({"step": 3})


def test_save_writes_the_weights_and_finish_leaves_a_plain_model(tmp_path):
    model, optimizer, compressor = start()
    train(model, optimizer, range(18))
    compressor.save(tmp_path / "model.dcz", {"author": "me"})
    with pytest.raises(OutputError, match="exists"):
        compressor.save(tmp_path / "model.dcz")
    loaded = dcomp.torch.load_file(tmp_path / "model.dcz")
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
    with dcomp.open(tmp_path / "model.dcz") as file:
        assert file.metadata() == {"author": "me"}
    compressor.finish()
    compressor.finish()
    train(model, optimizer, range(18, 20))
    assert (model[3].weight == 0).float().mean() < 0.5
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_save_gives_exact_zeros_and_values_whatever_was_done_to_the_weights(tmp_path):
    model, optimizer, compressor = start()
    train(model, optimizer, range(18))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for weight in model.parameters():
            weight += torch.randn_like(weight) * 1e-4
    compressor.save(tmp_path / "model.dcz")
    for name, value in dcomp.torch.load_file(tmp_path / "model.dcz").items():
        assert torch.equal(value == 0, before[name] == 0)
        assert value.unique().numel() == before[name].unique().numel()
        assert torch.allclose(value, before[name], atol=1e-3)


def test_values_are_rounded_in_the_end(tmp_path):
    model, optimizer, compressor = start(quantize={**QUANTIZE, "codebook_values": "bfloat16"})
    train(model, optimizer, range(18))
    compressor.save(tmp_path / "model.dcz")
    assert not torch.equal(model[3].weight, model[3].weight.bfloat16().float())
    compressor.finish()
    assert torch.equal(model[3].weight, model[3].weight.bfloat16().float())
    assert torch.equal(dcomp.torch.load_file(tmp_path / "model.dcz")["3.weight"], model[3].weight)


def test_finish_does_what_is_due_at_the_end_and_says_what_is_missing(caplog):
    model, optimizer, compressor = start()
    train(model, optimizer, range(15))
    assert compressor.phase == "pruned"
    compressor.finish()
    assert (compressor.phase, compressor.to_come) == ("shared", "")
    model, optimizer, compressor = start()
    train(model, optimizer, range(7))
    with pytest.warns(UserWarning, match=r"ended at 1\.4; not done: the last move of prune at 2 and quantize at 3"):
        compressor.finish()
    assert 0 < compressor.sparsity < 0.8
    assert not [message for message in caplog.messages if "not done" in message]  # the warning says it, once


def test_a_save_before_the_end_says_what_is_to_come(tmp_path, caplog):
    model, optimizer, compressor = start()
    train(model, optimizer, range(7))
    compressor.save(tmp_path / "early.dcz")
    assert caplog.messages[-1] == ("saved at 1.4; still to come: the last move of prune at 2 and quantize at 3")
    assert compressor.notes[-1] == caplog.messages[-1]
    with pytest.raises(OutputError, match="exists"):
        compressor.save(tmp_path / "early.dcz")
    with pytest.warns(UserWarning, match="not done"):
        compressor.finish()
    compressor.save(tmp_path / "last.dcz")
    assert sum("still to come" in message for message in caplog.messages) == 1


def test_the_phase_names_no_target_where_layers_have_their_own():
    model, optimizer, made = start(prune={**PRUNE, "layer": {"^0": 0.5}})
    train(model, optimizer, range(6))
    assert re.fullmatch(r"pruning 0\.\d\d", made.phase)


def test_the_report_is_that_of_the_command_at_any_time(tmp_path, capfd):
    model, optimizer, compressor = start()
    assert compressor.report().ratio < 1.5
    train(model, optimizer, range(18))
    report = compressor.report()
    compressor.save(tmp_path / "model.dcz")
    assert report.file_bytes == (tmp_path / "model.dcz").stat().st_size
    capfd.readouterr()
    assert run(["report", str(tmp_path / "model.dcz")]) == 0
    assert capfd.readouterr().out.rstrip("\n") == str(report) == repr(report)


def test_gradients_accumulate_over_several_backward_passes():
    model, optimizer, compressor = start(quantize={**QUANTIZE, "start": 2})
    for step in range(15):
        optimizer.zero_grad()
        for part in range(2):
            images, labels = batch(2 * step + part)
            (F.cross_entropy(model(images), labels) / 2).backward()
        optimizer.step()
    assert compressor.step == 15
    assert compressor.sparsity == pytest.approx(0.8, abs=1e-3)
    assert all(len(weight.unique()) <= 5 for weight in model.parameters())


@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
def test_steps_that_a_grad_scaler_skips_do_not_count(fused):
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 0.01, fused=fused)
    prune = {"sparsity": 0.8, "at": [4], "criterion": "fisher"}
    compressor = Compressor(model, optimizer, prune=prune, quantize={"bits": 2, "start": 8})
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for step in range(12):
        images, labels = batch(step)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels) * (float("inf") if step in (2, 9) else 1)
        scaler.scale(loss).backward()
        before = [weight.detach().clone() for weight in model.parameters()]
        scaler.step(optimizer)
        scaler.update()
        if step in (2, 9):
            assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        if step == 4:
            assert (compressor.step, compressor.phase) == (4, "dense")
    assert (compressor.step, compressor.phase) == (10, "shared")
    assert compressor.sparsity == pytest.approx(0.8, abs=1e-3)
    assert all(len(weight.unique()) <= 5 and weight.isfinite().all() for weight in model.parameters())


def test_a_scaled_loss_gives_the_same_masks():
    results = []
    for scale in (1.0, 2.0**10):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 0.05, fused=True)
        Compressor(model, optimizer, prune={"sparsity": 0.8, "at": [2, 4], "criterion": "fisher"})
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale != 1)
        for step in range(6):
            images, labels = batch(step)
            optimizer.zero_grad()
            scaler.scale(F.cross_entropy(model(images), labels)).backward()
            scaler.step(optimizer)
            scaler.update()
        results.append([weight == 0 for weight in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_compiled_model_keeps_its_names_and_zeros():
    model = network()
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = OPTIMIZERS["sgd"](compiled.parameters())
    compressor = Compressor(
        compiled, optimizer, steps_per_epoch=5, prune={**PRUNE, "only": "^3.weight$"}, quantize=QUANTIZE
    )
    train(compiled, optimizer, range(18))
    assert (model[3].weight == 0).float().mean() == pytest.approx(0.8, abs=1e-2)
    assert {row.name for row in compressor.report().sizes.rows} == set(model.state_dict())
    model, optimizer = network(), None
    model[3] = torch.compile(model[3], backend="aot_eager")
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    compressor = Compressor(model, optimizer, prune={"sparsity": 0.5, "schedule": "oneshot", "only": "^3.weight$"})
    train(model, optimizer, range(2))
    assert {row.name for row in compressor.report().sizes.rows} == set(network().state_dict())
    assert compressor.state_dict()["held"]["masked"] == {"3.weight": 1440}


def test_an_average_gets_the_same_zeros_and_values():
    model, optimizer, compressor = start()
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    train(model, optimizer, range(20), lambda step: average.update_parameters(model))
    before = {name: value.clone() for name, value in average.module.state_dict().items()}
    compressor.apply_to(average)
    for name, weight in model.named_parameters():
        other = average.module.get_parameter(name)
        assert torch.equal(other == 0, weight == 0)
        for value in weight.unique():
            members = other[weight == value]
            assert members.unique().numel() == 1
            mean = before[name][weight == value].mean() if value else 0
            assert float(members[0].detach()) == pytest.approx(float(mean), rel=1e-4)
    with pytest.raises(ArchitectureError, match=r"the other model has no 0\.weight"):
        compressor.apply_to(nn.Linear(3, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_16_bits_are_pruned_and_shared(dtype):
    model = nn.Sequential(nn.Linear(64, 100, bias=False), nn.Linear(100, 5, bias=False)).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    compressor = Compressor(model, optimizer, prune={"sparsity": 0.9, "at": [2, 4]}, quantize={"bits": 3, "start": 6})
    for step in range(12):
        images, labels = batch(step)
        optimizer.zero_grad()
        F.cross_entropy(model(images.flatten(1).to(dtype)).float(), labels).backward()
        optimizer.step()
        if step >= 6:
            assert all(len(weight.unique()) <= 9 for weight in model.parameters())
    assert compressor.sparsity == pytest.approx(0.9, abs=1e-3)
    assert {weight.dtype for weight in model.parameters()} == {dtype}


def test_fresh_weights_of_16_bits_are_not_taken_for_shared():
    model = nn.Linear(16, 8).to(torch.bfloat16)
    assert Compressor(model, torch.optim.SGD(model.parameters(), 0.1)).phase == "dense"


def test_a_sum_of_many_16_bit_gradients_is_exact_to_their_rounding():
    layer = nn.Linear(4096, 1, bias=False).to(torch.bfloat16)
    nn.init.constant_(layer.weight, 0.5)
    optimizer = torch.optim.SGD(layer.parameters(), 2.0**-12)
    Compressor(layer, optimizer)
    layer.weight.grad = torch.ones_like(layer.weight)
    optimizer.step()
    assert layer.weight.unique().tolist() == [-0.5]


def test_a_closure_is_prepared_each_time_it_is_called():
    model, optimizer, compressor = network(), None, None
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    compressor = Compressor(model, optimizer, prune={"sparsity": 0.5, "at": [1]}, quantize={"bits": 2, "start": 2})
    for step in range(4):
        images, labels = batch(step)

        def closure(images=images, labels=labels):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            return loss

        optimizer.step(closure)
    assert (compressor.step, compressor.sparsity) == (4, pytest.approx(0.5, abs=1e-3))
    assert all(len(weight.unique()) <= 5 for weight in model.parameters())


class Tied(nn.Module):
    """A language model whose output layer is its embedding."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(30, 16)
        self.output = nn.Linear(16, 30, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, words):
        return self.output(self.embedding(words))


def test_tied_weights_are_pruned_and_shared_once(tmp_path):
    model = Tied()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    compressor = Compressor(model, optimizer, prune={"sparsity": 0.75, "at": [1]}, quantize={"bits": 2, "start": 2})
    for step in range(5):
        words = torch.randint(0, 30, (64,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        F.cross_entropy(model(words), words).backward()
        optimizer.step()
    assert model.output.weight is model.embedding.weight
    assert (model.output.weight == 0).sum() == 360
    assert compressor.sparsity == 360 / sum(weight.numel() for weight in model.parameters())
    assert len(model.output.weight.unique()) <= 5
    compressor.save(tmp_path / "tied.dcz")
    assert set(dcomp.torch.load_file(tmp_path / "tied.dcz")) == {"embedding.weight", "output.weight"}


def test_frozen_weights_are_pruned_and_those_of_another_optimizer_left_out():
    model = network()
    model[0].requires_grad_(False)
    optimizer = OPTIMIZERS["adam"]([{"params": model[3].parameters(), "lr": 0.1}])
    compressor = Compressor(model, optimizer, prune={"sparsity": 0.8, "schedule": "oneshot"}, quantize={"bits": 2})
    before = model[5].weight.detach().clone()
    train(model, optimizer, range(3))
    assert (model[0].weight == 0).any()
    assert len(model[0].weight.unique()) <= 5
    assert torch.equal(model[5].weight, before)
    assert any(note.startswith("5.weight: not in this optimizer") for note in compressor.notes)
    model[0].requires_grad_(False)
    fisher = {"sparsity": 0.8, "at": [1], "criterion": "fisher"}
    model, optimizer, compressor = start(model=network())
    model[0].requires_grad_(False)
    compressor = Compressor(model, OPTIMIZERS["adam"](model[3].parameters()), prune=fisher, hold=False)
    with pytest.raises(UsageError, match=r"0\.weight: no gradient has come yet"):
        train(model, compressor._network.optimizer, range(3))


def test_what_is_compressed_already_is_held_unless_a_person_says_no(caplog):
    model, optimizer, compressor = start()
    train(model, optimizer, range(18))
    compressor.finish()
    with torch.no_grad():
        model[5].weight.zero_()  # as in a fresh layer
    held = [weight.detach() != 0 for weight in model.parameters()]
    for hold in (True, False):
        trained = copy.deepcopy(model)
        optimizer = OPTIMIZERS["sgd"](trained.parameters())
        other = Compressor(trained, optimizer, hold=hold, quantize={"bits": 2, "start": 99})
        assert other.phase == ("held" if hold else "dense")
        train(trained, optimizer, range(3))
        for weight, kept in list(zip(trained.parameters(), held, strict=True))[:2]:
            assert torch.equal(weight != 0, kept) == hold
            assert (len(weight.unique()) <= 5) == hold
        assert trained[5].weight.any()
    assert "0.weight, 3.weight: shared now, and held so; hold=False lets them train" in caplog.messages


def test_a_fresh_vector_with_zeros_trains():
    model = nn.LSTM(4, 8)
    with torch.no_grad():
        model.bias_ih_l0.zero_()[8:16] = 1  # the forget gates
    assert Compressor(model, torch.optim.SGD(model.parameters(), 0.1)).phase == "dense"


def test_dead_units_go_with_their_biases():
    model = nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    section = {"sparsity": 0.97, "at": [2], "remove_dead_units": True}
    with pytest.raises(UsageError, match=r"prune\.remove_dead_units needs example_inputs"):
        Compressor(model, optimizer, prune=section)
    model[1].eval()
    Compressor(model, optimizer, prune=section, example_inputs=torch.zeros(1, 20))
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.rand(8, 20)).square().sum().backward()
        optimizer.step()
    dead = ~(model[2].weight != 0).any(0)
    assert dead.sum() > 10
    assert (model[0].bias[dead] == 0).all()
    assert [module.training for module in model] == [True, False, True]


def prune_by_torch(model):
    torch_prune.random_unstructured(model[3], "weight", 0.5)


def make_lazy(model):
    model[3] = nn.LazyLinear(20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (prune_by_torch, r"torch\.nn\.utils\.prune holds 3\.weight as original and mask: call its remove\(\) before"),
        (make_lazy, r"3\.weight has no values yet: run the model once"),
    ],
    ids=["pruned by torch", "lazy"],
)
def test_models_without_plain_weights_are_refused_by_name(change, message):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    change(model)
    with pytest.raises(UsageError, match=message):
        Compressor(model, optimizer)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((nn.Linear(2, 2), torch.optim.SGD(nn.Linear(2, 2).parameters())), {}, "trains no parameter of the model"),
        ((nn.Linear(2, 2), 3), {}, r"a torch\.optim\.Optimizer, not a int"),
        ((3, 3), {}, r"a torch\.nn\.Module, not a int"),
        ((nn.Linear(2, 2), 3), {"steps_per_epoch": 2.5}, r"number of optimizer steps in an epoch, not 2\.5"),
        ((nn.Linear(2, 2), 3), {"prune": {"sparsity": 0.9, "at": [1], "lr": 1}}, "prune.lr: your loop does that"),
    ],
)
def test_wrong_arguments_get_one_error(arguments, options, message):
    with pytest.raises(UsageError, match=message):
        Compressor(*arguments, **options)


def test_sharing_before_the_last_move_is_refused():
    with pytest.raises(UsageError, match=r"prune ends at 2, after quantize has shared these weights at 0: give quan"):
        start(quantize={"bits": 2})


def test_notes_of_sections_are_information(caplog):
    caplog.set_level(logging.INFO, "dcomp")
    model, optimizer, compressor = start()
    train(model, optimizer, range(18))
    (record,) = [record for record in caplog.records if "sparsity 0.8" in record.getMessage()]
    assert record.levelno == logging.INFO
    assert record.getMessage() in compressor.notes


def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, attempted = doctest.testmod(compressor_module)
    assert (failed, attempted > 0) == (0, True)


def test_gradients_of_padded_rows_and_channels_last_weights_are_joined():
    model = network().to(memory_format=torch.channels_last)
    optimizer = OPTIMIZERS["adam"](model.parameters())
    Compressor(model, optimizer, steps_per_epoch=5, prune=PRUNE, quantize=QUANTIZE)
    train(model, optimizer, range(18))
    plain, optimizer, _ = start()
    train(plain, optimizer, range(18))
    for (name, weight), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert np.allclose(weight.detach().numpy(), other.detach().numpy(), atol=1e-4), name
