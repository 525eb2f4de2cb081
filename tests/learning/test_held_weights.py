import shutil
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dcomp.errors import UsageError
from dcomp.learning.held_weights import ELEMENTWISE, HeldWeights


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))


def weights_of(model: nn.Module, name: str) -> np.ndarray:
    return model.get_parameter(name).detach().numpy().copy()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.01)


OPTIMIZERS = {
    "sgd": sgd,
    "fused adam": lambda model: torch.optim.Adam(model.parameters(), 0.01, fused=True),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), 0.01, weight_decay=0.1),
    "rmsprop": lambda model: torch.optim.RMSprop(model.parameters(), 0.01, momentum=0.5),
    "adafactor, which is not elementwise": lambda model: torch.optim.Adafactor(model.parameters(), 0.05),
}


def gradients(model: nn.Module, generator: torch.Generator) -> torch.Tensor:
    images = torch.randn(16, 1, 8, 8, generator=generator)
    loss = F.cross_entropy(model(images), torch.randint(0, 5, (16,), generator=generator))
    model.zero_grad()
    loss.backward()
    return loss


def train(model: nn.Module, held: HeldWeights, steps: int = 20, seed: int = 1) -> None:
    optimizer = sgd(model)
    held.attach(optimizer)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        gradients(model, generator)
        optimizer.step()


CODES = np.random.default_rng(0).integers(0, 4, (5, 144))
VALUES = np.array([0, -0.5, 0.25, 0.75], np.float32)


def share(model: nn.Module) -> HeldWeights:
    """Share the weights of the last layer, a quarter of which are zero."""
    with torch.no_grad():
        model[2].weight.copy_(torch.from_numpy(VALUES[CODES]))
    held = HeldWeights(model)
    held.share("2.weight")
    return held


def test_a_mask_holds_while_the_rest_trains(model):
    kept = np.random.default_rng(0).random((5, 144)) < 0.3
    held = HeldWeights(model)
    held.mask("2.weight", kept)
    before = weights_of(model, "2.weight")
    train(model, held)
    after = weights_of(model, "2.weight")
    assert np.array_equal(after != 0, kept)
    assert (after[kept] != before[kept]).all()


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_zero_is_zero_and_equal_is_equal_after_every_step(model, make, memory_format):
    model[0] = nn.Conv2d(2, 4, 3)
    model.to(memory_format=memory_format)
    held = share(model)
    kept = np.random.default_rng(1).random((4, 2, 3, 3)) < 0.5
    held.mask("0.weight", kept)
    optimizer = make(model)
    held.attach(optimizer)
    generator = torch.Generator().manual_seed(1)
    for _ in range(12):
        loss = F.cross_entropy(model(torch.randn(16, 2, 8, 8, generator=generator)), torch.arange(16) % 5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        masked, shared = weights_of(model, "0.weight"), weights_of(model, "2.weight")
        assert np.array_equal(masked != 0, kept)
        assert not np.signbit(masked[~kept]).any()
        assert (shared[CODES == 0] == 0).all()
        assert [np.unique(shared[code == CODES]).size for code in (1, 2, 3)] == [1, 1, 1]
    assert not set(VALUES[1:].tolist()) & set(np.unique(shared).tolist())


@pytest.mark.parametrize("make", list(OPTIMIZERS.values())[:4], ids=list(OPTIMIZERS)[:4])
def test_a_shared_value_trains_as_a_parameter_of_its_number_would(model, make):
    held = share(model)
    optimizer = make(model)
    held.attach(optimizer)
    by_number = nn.ParameterList([torch.from_numpy(VALUES[1:].copy())])
    reference = make(by_number)
    generator = torch.Generator().manual_seed(1)
    for _ in range(10):
        gradients(model, generator)
        gradient = model[2].weight.grad.numpy()
        sums = [gradient[code == CODES].sum(dtype=np.float64) for code in (1, 2, 3)]
        by_number[0].grad = torch.tensor(sums, dtype=torch.float32)
        optimizer.step()
        reference.step()
    shared = weights_of(model, "2.weight")
    assert [shared[code == CODES][0] for code in (1, 2, 3)] == pytest.approx(by_number[0].tolist(), rel=1e-5)


def test_momentum_of_what_a_mask_prunes_is_cleared(model):
    held = HeldWeights(model)
    train(model, held)
    optimizer = sgd(model)
    held.attach(optimizer)
    generator = torch.Generator().manual_seed(1)
    gradients(model, generator)
    optimizer.step()
    kept = np.random.default_rng(0).random((5, 144)) < 0.3
    held.mask("2.weight", kept)
    momentum = optimizer.state[model[2].weight]["momentum_buffer"].numpy()
    assert np.array_equal(momentum != 0, kept)
    gradients(model, generator)
    optimizer.step()
    assert np.array_equal(optimizer.state[model[2].weight]["momentum_buffer"].numpy() != 0, kept)


def test_what_was_pruned_stays_pruned_when_a_mask_is_set_again(model):
    held = HeldWeights(model)
    kept = np.zeros((5, 144), bool)
    kept[:2] = True
    held.mask("2.weight", kept)
    held.mask("2.weight", ~kept | (np.arange(144) < 7))
    assert np.count_nonzero(weights_of(model, "2.weight")) == 14


def test_members_that_an_optimizer_drives_apart_get_their_mean(model):
    held = share(model)

    class Apart(torch.optim.Optimizer):
        @torch.no_grad()
        def step(self):
            for number, weight in enumerate(model[2].weight.view(-1)):
                weight += number

    held.attach(Apart(model.parameters(), {}))
    held._optimizer.step()
    moved = weights_of(model, "2.weight")
    for code in (1, 2, 3):
        places = np.flatnonzero(code == CODES)
        assert moved.reshape(-1)[places] == pytest.approx(VALUES[code] + places.mean(), rel=1e-5)
    assert Apart not in ELEMENTWISE


def test_gradients_of_a_closure_are_joined_too(model):
    stepped, closed = model, nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))
    closed.load_state_dict(stepped.state_dict())
    called = []
    for network, by_closure in ((stepped, False), (closed, True)):
        held = share(network)
        optimizer = sgd(network)
        held.attach(optimizer, lambda: called.append(1))
        generator = torch.Generator().manual_seed(3)
        for _ in range(3):
            if by_closure:
                optimizer.step(lambda network=network, generator=generator: gradients(network, generator))
            else:
                gradients(network, generator)
                optimizer.step()
    assert np.array_equal(weights_of(stepped, "2.weight"), weights_of(closed, "2.weight"))
    assert len(called) == 6


def test_a_closure_that_is_called_often_counts_as_one_step(model):
    held = share(model)
    calls, steps = [], []
    optimizer = torch.optim.LBFGS(model.parameters(), 0.01, max_iter=4)
    held.attach(optimizer, lambda: steps.append(1))

    def closure():
        calls.append(1)
        return gradients(model, torch.Generator().manual_seed(0))

    optimizer.step(closure=closure)
    assert len(calls) > 1 and len(steps) == 1
    shared = weights_of(model, "2.weight")
    assert [np.unique(shared[code == CODES]).size for code in range(4)] == [1, 1, 1, 1]


def test_a_norm_of_gradients_counts_a_shared_value_once(model):
    held = share(model)
    optimizer = sgd(model)
    held.attach(optimizer)
    gradients(model, torch.Generator().manual_seed(0))
    sums = [model[2].weight.grad.numpy()[code == CODES].sum() for code in (1, 2, 3)]
    optimizer.step()
    trained = list(held.trained_gradients())
    assert [len(gradient.reshape(-1)) for gradient in trained] == [36, 4, 3, 5]
    assert sorted(trained[2].tolist()) == pytest.approx(sorted(sums), rel=1e-4)


def test_sparse_gradients_are_refused():
    model = nn.Embedding(20, 8, sparse=True)
    held = HeldWeights(model)
    held.mask("weight", np.eye(20, 8, dtype=bool))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    held.attach(optimizer)
    model(torch.arange(3)).sum().backward()
    with pytest.raises(UsageError, match="sparse=False"):
        optimizer.step()


def test_a_gradient_with_other_strides_is_joined_in_place(model):
    model[0] = nn.Conv2d(2, 4, 3)
    model.to(memory_format=torch.channels_last)
    held = HeldWeights(model)
    kept = np.random.default_rng(1).random((4, 2, 3, 3)) < 0.5
    held.mask("0.weight", kept)
    optimizer = sgd(model)
    held.attach(optimizer)
    gradient = torch.ones(4, 2, 3, 3)
    model[0].weight.grad = gradient
    optimizer.step()
    assert np.array_equal(gradient.numpy() != 0, kept)


def test_a_shared_value_never_becomes_zero(model):
    held = share(model)
    with torch.no_grad():
        model[2].weight.zero_()
    held.enforce()
    assert np.array_equal(weights_of(model, "2.weight") != 0, CODES != 0)


def test_restricting_masks_weights_and_leaves_shared_values(model):
    held = share(model)
    shared = weights_of(model, "2.weight")
    kept = np.random.default_rng(0).random((4, 1, 3, 3)) < 0.5
    held.mask("0.weight", kept)
    alive = np.ones_like(kept)
    alive[2] = False
    held.restrict("0.weight", alive)
    held.restrict("0.bias", np.array([True, False, True, True]))
    held.restrict("2.weight", np.zeros((5, 144), bool))
    assert np.array_equal(weights_of(model, "0.weight") != 0, kept & alive)
    assert np.array_equal(weights_of(model, "0.bias") != 0, [True, False, True, True])
    assert np.array_equal(weights_of(model, "2.weight"), shared)


def test_shared_and_pruned_weights_are_recognized(model):
    with torch.no_grad():
        model[2].weight.copy_(torch.randint(-2, 3, (5, 144)) / 4)
        model[0].weight[:2] = 0
    held = HeldWeights(model)
    assert held.hold(["0.weight", "0.bias", "2.weight", "2.bias"]) == ["0.weight", "2.weight"]
    train(model, held)
    assert (weights_of(model, "0.weight")[:2] == 0).all()
    assert np.unique(weights_of(model, "2.weight")).size == 5


def test_only_parameters_that_are_not_held_are_held_and_named(model):
    held = share(model)
    with torch.no_grad():
        model[0].weight[1] = 0
    assert held.hold(["0.weight", "0.bias", "2.weight", "2.bias"]) == ["0.weight"]


def test_more_than_256_shared_values_stay_shared():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 933, (200, 150))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 150), nn.ReLU(), nn.Linear(150, 200))
    with torch.no_grad():
        model[3].weight.copy_(torch.from_numpy(rng.normal(size=933).astype(np.float32)[codes]))
    before = weights_of(model, "3.weight")
    held = HeldWeights(model)
    assert held.hold(["1.weight", "3.weight"]) == ["3.weight"]
    train(model, held)
    after = weights_of(model, "3.weight")
    assert np.unique(after).size == np.unique(before).size == 933
    assert (after != before).any()
    assert all(np.unique(after[codes == code]).size == 1 for code in range(0, 933, 50))


def test_values_of_16_bits_are_unclear():
    weights = np.random.default_rng(0).normal(size=(200, 500)).astype(np.float16).astype(np.float32)
    model = nn.Sequential(nn.Linear(500, 200))
    with torch.no_grad():
        model[0].weight.copy_(torch.from_numpy(weights))
    held = HeldWeights(model)
    assert held.hold(["0.weight"]) == []
    assert held.unclear(["0.weight", "0.bias"]) == ["0.weight"]


def test_scales_and_shifts_as_they_are_made_are_left_alone():
    norm = nn.Sequential(nn.BatchNorm2d(8))
    held = HeldWeights(norm)
    assert held.hold(["0.weight", "0.bias", "0.running_mean"]) == []
    with torch.no_grad():
        norm[0].bias[3:] = torch.arange(1.0, 6)
    assert held.hold(["0.weight", "0.bias"]) == ["0.bias"]


class Tied(nn.Module):
    """A word's vector is also what its logit is computed by."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, words):
        return self.head(self.embedding(words))


def train_tied(model: nn.Module, held: HeldWeights) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    held.attach(optimizer)
    for _ in range(5):
        loss = F.cross_entropy(model(torch.arange(20)), torch.arange(20).roll(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("name", ["embedding.weight", "head.weight"])
def test_tied_weights_have_one_mask(name):
    torch.manual_seed(0)
    model = Tied()
    kept = np.random.default_rng(0).random((20, 8)) < 0.4
    held = HeldWeights(model)
    held.mask(name, kept)
    held.mask("head.weight", kept)
    train_tied(model, held)
    assert model.head.weight is model.embedding.weight
    assert np.array_equal(model.head.weight.detach().numpy() != 0, kept)


def test_tied_weights_share_one_codebook():
    torch.manual_seed(0)
    model = Tied()
    with torch.no_grad():
        model.head.weight.copy_((model.head.weight * 2).round() / 2)
    before = weights_of(model, "head.weight")
    held = HeldWeights(model)
    held.share("embedding.weight")
    held.share("head.weight")
    train_tied(model, held)
    after = weights_of(model, "head.weight")
    assert np.array_equal(after == 0, before == 0)
    assert np.unique(after).size == np.unique(before).size
    assert (after != before)[before != 0].any()


def test_a_state_is_loaded_with_the_masks_that_its_zeros_are(model):
    held = share(model)
    held.mask("0.weight", np.random.default_rng(0).random((4, 1, 3, 3)) < 0.5)
    fresh = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))
    fresh_held = share(fresh)
    fresh_held.mask("0.weight", np.ones((4, 1, 3, 3), bool))
    train(model, held)
    fresh.load_state_dict(model.state_dict())
    fresh_held.read_masks()
    for network, weights in ((fresh, fresh_held), (model, held)):
        train(network, weights, seed=2)
    for name in ("0.weight", "2.weight"):
        assert np.array_equal(weights_of(fresh, name), weights_of(model, name))


def test_nothing_is_held_after_a_release(model):
    held = share(model)
    held.release()
    train(model, held)
    assert np.unique(weights_of(model, "2.weight")).size > 700


def test_an_optimizer_is_free_again_after_another_is_attached(model):
    held = share(model)
    first = sgd(model)
    held.attach(first)
    held.attach(sgd(model))
    gradients(model, torch.Generator().manual_seed(0))
    first.step()
    assert np.unique(weights_of(model, "2.weight")).size > 4


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_sees_masks_that_move(model):
    held = HeldWeights(model)
    compiled = torch.compile(model, backend="aot_eager")
    images = torch.randn(4, 1, 8, 8)
    compiled(images)
    held.mask("2.weight", np.zeros((5, 144), bool))
    assert torch.equal(compiled(images), model[2].bias.expand(4, 5))


def test_values_that_are_equal_already_keep_their_bits_where_means_are_taken(model):
    held = share(model)
    before = weights_of(model, "2.weight")
    assert np.array_equal(held.exact("2.weight", model[2].weight).detach().numpy(), before)
    apart = model[2].weight.detach() + 0.01 * torch.randn(5, 144)
    exact = held.exact("2.weight", apart).numpy()
    assert np.array_equal(exact == 0, CODES == 0)
    for code in (1, 2, 3):
        (value,) = np.unique(exact[code == CODES])
        assert value == pytest.approx(apart.numpy()[code == CODES].mean(), rel=1e-4)


def test_parameters_are_released_by_name(model):
    held = share(model)
    held.mask("0.weight", weights_of(model, "0.weight") > 0)
    zeros, values = held.counts()
    assert (list(zeros), values) == (["0.weight"], {"2.weight": 3})
    held.release(["2.weight"])
    assert held.counts() == (zeros, {})


def test_the_state_of_shared_weights_is_cleared_unless_it_goes_on(model):
    held = share(model)
    train(model, held)
    optimizer = held._optimizer
    for keeps_state in (True, False):
        held.release()
        held.share("2.weight", keeps_state=keeps_state)
        assert bool(optimizer.state[model[2].weight]["momentum_buffer"].any()) == keeps_state


OF_EVERY_KIND = {
    **{kind.__name__: partial(kind, lr=0.01) for kind in ELEMENTWISE},
    "SGD with momentum": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    "fused SGD with momentum": partial(torch.optim.SGD, lr=0.01, momentum=0.9, fused=True),
    "fused Adam": partial(torch.optim.Adam, lr=0.01, fused=True),
}


@pytest.mark.parametrize("make", OF_EVERY_KIND.values(), ids=OF_EVERY_KIND)
def test_state_of_weights_that_come_to_share_is_that_before_the_first_step(model, make):
    trained, fresh = model, nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))
    optimizer = make(trained.parameters())
    held = HeldWeights(trained)
    held.attach(optimizer)
    for seed in range(3):
        gradients(trained, torch.Generator().manual_seed(seed))
        optimizer.step()
    for network in (trained, fresh):
        with torch.no_grad():
            network[2].weight.copy_(torch.from_numpy(VALUES[CODES]))
    fresh[0].load_state_dict(trained[0].state_dict())
    fresh[2].load_state_dict(trained[2].state_dict())
    held.share("2.weight")
    fresh_held, fresh_optimizer = HeldWeights(fresh), make(fresh.parameters())
    fresh_held.share("2.weight")
    fresh_held.attach(fresh_optimizer)
    for network, stepping in ((trained, optimizer), (fresh, fresh_optimizer)):
        gradients(network, torch.Generator().manual_seed(9))
        stepping.step()
    assert np.array_equal(weights_of(trained, "2.weight"), weights_of(fresh, "2.weight"))
