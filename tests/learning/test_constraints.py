import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dcomp.learning import constraints


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))


def train(model: nn.Module, steps: int = 20) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        loss = F.cross_entropy(
            model(torch.randn(16, 1, 8, 8, generator=generator)), torch.randint(0, 5, (16,), generator=generator)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_a_mask_holds_while_the_rest_trains(model):
    kept = np.random.default_rng(0).random((5, 144)) < 0.3
    constraints.mask(model, "2.weight", kept)
    before = constraints.effective(model, "2.weight")
    train(model)
    after = constraints.effective(model, "2.weight")
    assert np.array_equal(after != 0, kept)
    assert (after[kept] != before[kept]).all()


def test_what_was_pruned_stays_pruned_when_a_mask_is_set_again(model):
    kept = np.zeros((5, 144), bool)
    kept[:2] = True
    constraints.mask(model, "2.weight", kept)
    constraints.mask(model, "2.weight", ~kept | (np.arange(144) < 7))
    assert np.count_nonzero(constraints.effective(model, "2.weight")) == 14


def shared_model(model: nn.Module) -> np.ndarray:
    codes = np.random.default_rng(0).integers(0, 4, (5, 144))
    weight = np.array([0, -0.5, 0.25, 0.75], np.float32)[codes]
    with torch.no_grad():
        model[2].weight.copy_(torch.from_numpy(weight))
    constraints.share(model, "2.weight")
    return codes


def test_shared_weights_stay_shared_while_centroids_train(model):
    codes = shared_model(model)
    assert np.array_equal(constraints.effective(model, "2.weight")[codes == 3], np.full((codes == 3).sum(), 0.75))
    train(model)
    after = constraints.effective(model, "2.weight")
    for code in range(4):
        assert np.unique(after[codes == code]).size == 1
    assert (after[codes == 0] == 0).all()
    assert not {-0.5, 0.25, 0.75} & set(np.unique(after).tolist())


def test_the_gradient_of_a_centroid_is_the_sum_over_its_members(model):
    codes = shared_model(model)
    images = torch.randn(4, 1, 8, 8)
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))
    plain[0].load_state_dict(model[0].state_dict())
    with torch.no_grad():
        plain[2].weight.copy_(model[2].weight)
        plain[2].bias.copy_(model[2].bias)
    for network in (model, plain):
        network(images).square().sum().backward()
    gradient = plain[2].weight.grad.numpy()
    expected = [gradient[codes == code].sum() for code in (1, 2, 3)]
    assert model[2].parametrizations.weight.original.grad.numpy() == pytest.approx(expected, rel=1e-4)


def test_a_centroid_never_becomes_zero(model):
    shared_model(model)
    with torch.no_grad():
        model[2].parametrizations.weight.original.zero_()
    constraints.release(model)
    assert np.count_nonzero(model[2].weight.detach().numpy()) > 400


def test_release_leaves_a_plain_model_with_the_weights_it_used(model):
    shared_model(model)
    constraints.mask(model, "0.weight", np.random.default_rng(0).random((4, 1, 3, 3)) < 0.5)
    train(model)
    used = [constraints.effective(model, name) for name in ("0.weight", "2.weight")]
    constraints.release(model)
    assert sorted(model.state_dict()) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert np.array_equal(model[0].weight.detach().numpy(), used[0])
    assert np.array_equal(model[2].weight.detach().numpy(), used[1])


def test_restricting_masks_weights_and_leaves_codebooks(model):
    kept = np.random.default_rng(0).random((4, 1, 3, 3)) < 0.5
    constraints.mask(model, "0.weight", kept)
    alive = np.ones_like(kept)
    alive[2] = False
    constraints.restrict(model, "0.weight", alive)
    constraints.restrict(model, "0.bias", np.array([True, False, True, True]))
    shared_model(model)
    shared = constraints.effective(model, "2.weight")
    constraints.restrict(model, "2.weight", np.zeros((5, 144), bool))
    assert np.array_equal(constraints.effective(model, "0.weight") != 0, kept & alive)
    assert np.array_equal(constraints.effective(model, "0.bias") != 0, [True, False, True, True])
    assert np.array_equal(constraints.effective(model, "2.weight"), shared)


def test_hold_recognizes_shared_and_pruned_weights(model):
    with torch.no_grad():
        model[2].weight.copy_(torch.randint(-2, 3, (5, 144)) / 4)
        model[0].weight[:2] = 0
    constraints.hold(model, ["0.weight", "2.weight"])
    held = [type(module.parametrizations.weight[0]) for module in (model[0], model[2])]
    assert held == [constraints.Mask, constraints.Codebook]


@pytest.mark.parametrize(("weights", "values"), [(500, 256), (50, 32), (4, 2)])
def test_few_weights_of_fewer_values_are_a_codebook(weights, values):
    rng = np.random.default_rng(0)
    codes = np.concatenate([np.arange(values), rng.integers(0, values, weights - values)])
    assert constraints.is_shared(rng.normal(size=values).astype(np.float32)[codes])
    assert not constraints.is_shared(rng.normal(size=weights).astype(np.float32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("count", [50, 290, 5000])
def test_trained_weights_of_16_bits_are_no_codebook(dtype, count):
    weights = 0.05 * torch.randn(count, generator=torch.Generator().manual_seed(0))
    assert not constraints.is_shared(constraints.to_numpy(weights.to(dtype)))


def test_more_than_256_shared_values_stay_shared():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 933, (200, 150))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 150), nn.ReLU(), nn.Linear(150, 200))
    with torch.no_grad():
        model[3].weight.copy_(torch.from_numpy(rng.normal(size=933).astype(np.float32)[codes]))
    before = constraints.effective(model, "3.weight")
    assert constraints.hold(model, ["1.weight", "3.weight"]) == ["3.weight"]
    train(model)
    after = constraints.effective(model, "3.weight")
    assert np.unique(after).size == np.unique(before).size == 933
    assert (after != before).any()
    assert all(np.unique(after[codes == code]).size == 1 for code in range(0, 933, 50))


def shared_values(dtype, values, weights):
    rng = np.random.default_rng(0)
    codes = np.concatenate([np.arange(values), rng.integers(0, values, weights - values)])
    return np.unique(rng.normal(size=2 * values).astype(dtype))[:values][codes]


@pytest.mark.parametrize(
    ("values", "weights", "shared"),
    [(257, 600, True), (257, 500, False), (256, 300, True), (65_536, 200_000, True), (65_537, 200_000, False)],
)
def test_up_to_65536_values_are_a_codebook_with_two_weights_each(values, weights, shared):
    assert constraints.is_shared(shared_values(np.float32, values, weights)) is shared


def test_all_values_of_a_tensor_count():
    weights = np.concatenate([shared_values(np.float32, 1000, 1 << 18), shared_values(np.float32, 99_000, 99_000)])
    assert not constraints.is_shared(weights)


@pytest.mark.parametrize("kind", [ml_dtypes.bfloat16, np.float16])
def test_more_than_256_values_of_16_bits_are_unclear(kind):
    weights = np.random.default_rng(0).normal(size=(200, 500)).astype(kind).astype(np.float32)
    model = nn.Sequential(nn.Linear(500, 200))
    with torch.no_grad():
        model[0].weight.copy_(torch.from_numpy(weights))
    assert constraints.hold(model, ["0.weight"]) == []
    assert constraints.unclear(model, ["0.weight", "0.bias"]) == ["0.weight"]
    assert not constraints.is_unclear(np.random.default_rng(0).normal(size=(200, 500)).astype(np.float32))


def test_hold_leaves_scales_and_shifts_alone_as_they_are_made():
    norm = nn.Sequential(nn.BatchNorm2d(8))
    assert constraints.hold(norm, ["0.weight", "0.bias"]) == []
    with torch.no_grad():
        norm[0].bias[3:] = torch.arange(1.0, 6)
    assert constraints.hold(norm, ["0.weight", "0.bias"]) == ["0.bias"]


def test_hold_leaves_buffers_alone(model):
    model.register_buffer("places", torch.eye(4))
    assert constraints.hold(model, ["places"]) == []


class Tied(nn.Module):
    """A word's vector is also what its logit is computed by."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, words):
        return self.head(self.embedding(words))


def train_tied(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    for _ in range(5):
        loss = F.cross_entropy(model(torch.arange(20)), torch.arange(20).roll(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("name", ["embedding.weight", "head.weight"])
def test_tied_weights_stay_tied_under_a_mask(name):
    torch.manual_seed(0)
    model = Tied()
    kept = np.random.default_rng(0).random((20, 8)) < 0.4
    constraints.mask(model, name, kept)
    constraints.mask(model, "head.weight", kept)
    train_tied(model)
    constraints.release(model)
    assert model.head.weight is model.embedding.weight
    assert np.array_equal(model.head.weight.detach().numpy() != 0, kept)


def test_tied_weights_share_one_codebook():
    torch.manual_seed(0)
    model = Tied()
    with torch.no_grad():
        model.head.weight.copy_((model.head.weight * 2).round() / 2)
    zeros = (model.head.weight == 0).numpy(force=True)
    constraints.share(model, "embedding.weight")
    constraints.share(model, "head.weight")
    assert len(list(model.parameters())) == 1
    before = constraints.effective(model, "head.weight")
    train_tied(model)
    used = constraints.effective(model, "head.weight")
    constraints.release(model)
    assert model.head.weight is model.embedding.weight
    assert np.array_equal(model.embedding.weight.detach().numpy(), used)
    assert np.array_equal(used == 0, zeros)
    assert np.unique(used).size == np.unique(before).size
    assert (used != before)[~zeros].any()


def test_a_state_goes_into_a_network_under_the_same_constraints(model):
    shared_model(model)
    constraints.mask(model, "0.weight", np.ones((4, 1, 3, 3), bool))
    fresh = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))
    constraints.mask(fresh, "0.weight", np.ones((4, 1, 3, 3), bool))
    shared_model(fresh)
    constraints.mask(model, "0.weight", np.random.default_rng(0).random((4, 1, 3, 3)) < 0.5)  # a mask that moved since
    train(model)
    fresh.load_state_dict(model.state_dict())
    for one in (fresh, model):
        train(one)
    for name in ("0.weight", "2.weight"):
        assert np.array_equal(constraints.effective(fresh, name), constraints.effective(model, name))


def test_sparsities_count_the_zeros_of_weights_that_are_no_biases(model):
    constraints.mask(model, "0.weight", np.arange(36).reshape(4, 1, 3, 3) >= 9)
    assert constraints.sparsities(model) == {"0.weight": (9, 36), "2.weight": (0, 720)}


def test_reported_weights_are_those_that_the_network_uses(model):
    kept = np.random.default_rng(0).random((5, 144)) < 0.3
    constraints.mask(model, "2.weight", kept)
    weights = constraints.effective_tensors(model)
    assert list(weights) == ["0.weight", "2.weight"]
    assert [array.shape for array in weights.values()] == [(4, 1, 3, 3), (5, 144)]
    assert np.array_equal(weights["2.weight"] != 0, kept)


@pytest.mark.parametrize(("kept", "values", "shared"), [(8, 7, True), (8, 8, False), (16, 14, True), (16, 15, False)])
def test_a_codebook_has_at_most_seven_values_for_eight_weights(kept, values, shared):
    weights = np.arange(kept) % values + 1
    assert constraints.is_shared(weights.astype(np.float32)) == shared
    assert not constraints.is_shared(np.zeros(8, np.float32))


def test_a_codebook_has_no_more_values_than_its_bits_allow():
    weights = np.concatenate([np.full(2000, 1), np.arange(1, 256), np.full(20_000, 1)]).astype(np.float32)
    assert constraints.is_shared(np.append(weights, np.float32(256)))
    late = np.append(weights, np.arange(256, 70_000).repeat(2)).astype(np.float32)
    assert not constraints.is_shared(late)


def test_only_parameters_under_no_constraint_are_held_and_named(model):
    shared_model(model)
    with torch.no_grad():
        model[0].weight[1] = 0
    assert constraints.hold(model, ["0.weight", "0.bias", "2.weight", "2.bias"]) == ["0.weight"]


def test_what_a_mask_pruned_stays_pruned_under_the_next(model):
    kept = np.zeros((4, 1, 3, 3), bool)
    kept[0] = True
    constraints.mask(model, "0.weight", kept)
    constraints.mask(model, "0.weight", np.ones_like(kept))
    assert np.array_equal(constraints.effective(model, "0.weight") != 0, kept)


def test_what_is_restricted_does_not_learn_on(model):
    kept = np.array([True, False, True, False])
    constraints.restrict(model, "0.bias", kept)
    model(torch.randn(4, 1, 8, 8)).square().sum().backward()
    assert np.array_equal(constraints.trained(model, "0.bias").grad.numpy() != 0, kept)


def test_reported_weights_are_matrices_and_kernels(model):
    shown = constraints.effective_tensors(model)
    assert {name: array.shape for name, array in shown.items()} == {"0.weight": (4, 1, 3, 3), "2.weight": (5, 144)}
