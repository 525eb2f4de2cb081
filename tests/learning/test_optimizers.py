import copy
import inspect

import pytest
import torch
from torch import nn

from dcomp.errors import UsageError
from dcomp.learning import state
from dcomp.learning.held_weights import HeldWeights
from dcomp.learning.optimizers import check, make_optimizer
from dcomp.settings import QuantizeSettings, TrainSettings
from dcomp.settings.torch_optimizers import OPTIMIZERS, REFUSED

CLASSES = {
    name: kind
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
}
"""The optimizers of torch by the names of their classes."""


def settings(**changes):
    return TrainSettings(architecture="lenet5", data="digits", **{"epochs": 1, "lr": 0.01, **changes})


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    images, labels = torch.randn(32, 1, 8, 8, generator=chance), torch.randint(0, 5, (32,), generator=chance)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()


def weights_of(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_the_table_has_every_optimizer_of_torch_or_the_reason_why_not():
    assert {name.lower() for name in CLASSES} <= OPTIMIZERS.keys() | REFUSED.keys()
    assert not OPTIMIZERS.keys() & REFUSED.keys()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_table_says_what_an_optimizer_takes(name):
    kind = OPTIMIZERS[name]
    arguments = inspect.signature(CLASSES[kind.class_name]).parameters
    assert kind.takes_momentum == ("momentum" in arguments)
    assert kind.takes_weight_decay == ("weight_decay" in arguments)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sgd", {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0005, "fused": True}),
        ("adam", {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0005, "fused": True}),
        ("adamw", {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0005, "fused": True}),
        ("rmsprop", {"lr": 0.01, "momentum": 0, "weight_decay": 0.0005}),
    ],
)
def test_an_optimizer_has_the_options_of_settings_and_else_those_of_torch(name, expected):
    defaults = make_optimizer(network(), settings(optimizer=name)).defaults
    assert {key: defaults[key] for key in expected} == expected


def test_without_momentum_sgd_is_not_nesterovs():
    defaults = make_optimizer(network(), settings(momentum=0)).defaults
    assert (defaults["momentum"], defaults["nesterov"]) == (0, False)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss_and_continues_after_its_state_is_restored(name):
    chosen = settings(optimizer=name)
    model = network()
    optimizer = make_optimizer(model, chosen)
    losses = []
    for number in range(12):
        step(model, optimizer, seed=number % 3)
        images = torch.randn(32, 1, 8, 8, generator=(chance := torch.Generator().manual_seed(0)))
        labels = torch.randint(0, 5, (32,), generator=chance)
        losses.append(nn.functional.cross_entropy(model(images), labels).item())
    assert losses[-1] < losses[0]
    again = network()
    again.load_state_dict(model.state_dict())
    restored = make_optimizer(again, chosen)
    state.restore_optimizer(restored, *copy.deepcopy(state.optimizer_parts(optimizer)))
    for each, its_optimizer in ((model, optimizer), (again, restored)):
        for number in range(2):
            step(each, its_optimizer, seed=number)
    assert torch.equal(weights_of(model), weights_of(again))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zeros_and_shared_values_stay_so_in_every_step_of_every_optimizer(name):
    model = network()
    with torch.no_grad():
        model[0].weight[::2] = 0
        model[2].weight.copy_(model[2].weight.sign() / 10)
    held = HeldWeights(model)
    assert held.hold(["0.weight", "2.weight"]) == ["0.weight", "2.weight"]
    optimizer = make_optimizer(model, settings(optimizer=name))
    held.attach(optimizer)
    for number in range(5):
        step(model, optimizer, seed=number)
        assert not model[0].weight[::2].any()
        assert model[0].weight[1::2].all()
        assert model[2].weight.unique().numel() == 2


def test_muon_trains_matrices_and_adamw_all_else_at_one_rate():
    model = network()
    optimizer = make_optimizer(model, settings(optimizer="muon", lr=0.5, optimizer_option="ns_steps=3"))
    matrices, others = optimizer.param_groups
    assert [parameter.ndim for parameter in matrices["params"]] == [2]
    assert [parameter.ndim for parameter in others["params"]] == [4, 1, 1]
    assert (matrices["lr"], others["lr"]) == (0.5, 0.5)
    assert (matrices["ns_steps"], matrices["adjust_lr_fn"]) == (3, "match_rms_adamw")
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        group["weight_decay"] = 0.0
    before = weights_of(model)
    step(model, optimizer, seed=0)
    assert torch.equal(weights_of(model), before)


def test_a_network_without_matrices_has_no_part_for_muon():
    optimizer = make_optimizer(nn.Conv2d(1, 1, 3), settings(optimizer="muon"))
    assert [len(group["params"]) for group in optimizer.param_groups] == [2]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"optimizer_option": "betas=0.5,0.75"}, {"betas": (0.5, 0.75)}),
        ({"optimizer_option": ["eps=1e-3", "amsgrad=true"]}, {"eps": 0.001, "amsgrad": True}),
    ],
)
def test_options_of_an_optimizer_have_the_names_of_torch(options, expected):
    defaults = make_optimizer(network(), settings(optimizer="adam", **options)).defaults
    assert {key: defaults[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer_option": "beta=0.5,0.75"}, r"AdamW of torch has no option 'beta'; did you mean betas\?"),
        ({"optimizer_option": "x=1"}, r"AdamW of torch has no option 'x'; it has lr, betas, eps, weight_decay"),
        ({"optimizer_option": "betas=2,3"}, r"AdamW of torch refuses its options: Invalid beta parameter"),
        ({"optimizer_option": "betas=0.5"}, r"AdamW of torch refuses its options: "),
        ({"optimizer_option": "eps=small"}, r"AdamW of torch refuses its options: "),
    ],
)
def test_an_option_that_the_optimizer_has_not_is_one_error(options, message):
    with pytest.raises(UsageError, match=message):
        check(settings(optimizer="adamw", **options))


def test_an_optimizer_that_this_torch_has_not_is_one_error(monkeypatch):
    monkeypatch.delattr(torch.optim, "Adafactor")
    with pytest.raises(UsageError, match="has no optimizer Adafactor: a later torch has"):
        check(settings(optimizer="adafactor"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adan"}, "there is no optimizer 'adan'; did you mean adam\\? There are sgd, adam, adamw"),
        ({"optimizer": "LBFGS"}, "LBFGS cannot be used: it computes the loss several times in a step"),
        ({"optimizer": "SparseAdam"}, "SparseAdam cannot be used: it needs sparse gradients"),
        ({"optimizer_option": "betas"}, "'betas' is not of the form KEY=VALUE, like betas=0.9,0.99"),
        ({"optimizer_option": "lr=1"}, "lr of the optimizer has an option of that name: give lr itself"),
        ({"optimizer_option": "eps=inf"}, "'inf' in 'eps=inf' is not finite"),
        ({"optimizer_option": ["eps=1", "eps=2"]}, "eps is given twice"),
        ({"optimizer": "rprop", "weight_decay": 0.1}, "--optimizer rprop has no weight decay: leave --weight-decay"),
        ({"optimizer": "adam", "momentum": 0.1}, "give --optimizer sgd or muon or rmsprop as well"),
    ],
)
def test_an_optimizer_that_cannot_be_used_is_refused_with_the_reason(options, message):
    with pytest.raises(UsageError, match=message):
        QuantizeSettings.from_options(fc_bits=4, epochs=1, data="digits", **options)


def test_names_of_optimizers_are_taken_in_any_case():
    assert settings(optimizer="NAdam").optimizer == "nadam"


def stepped(model: nn.Module, held: HeldWeights | None = None, **changes) -> dict[str, torch.Tensor]:
    """The change of each parameter in a step by sgd at rate 1 of a loss without gradients."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = make_optimizer(model, settings(lr=1.0, momentum=0, weight_decay=0, **changes))
    if held is not None:
        held.attach(optimizer)
    (0 * model(torch.ones(1, 1, 8, 8))).sum().backward()
    optimizer.step()
    return {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()}


def test_an_l1_penalty_moves_each_weight_to_zero_by_the_same_and_no_bias():
    model = network()
    signs = {name: parameter.detach().sign() for name, parameter in model.named_parameters()}
    changes = stepped(model, l1=0.001)
    for name in ("0.weight", "2.weight"):
        assert torch.allclose(changes[name], -0.001 * signs[name], atol=1e-6)
    assert not changes["0.bias"].any()
    assert not changes["2.bias"].any()


def test_zeros_stay_zero_and_shared_values_add_up_their_members_penalties():
    model = network()
    with torch.no_grad():
        model[0].weight[::2] = 0
        model[2].weight.copy_(model[2].weight.sign())
    held = HeldWeights(model)
    held.hold(["0.weight", "2.weight"])
    positive = int((model[2].weight > 0).sum())
    changes = stepped(model, held, l1=1e-4)
    assert not model[0].weight[::2].any()
    assert model[2].weight.unique().numel() == 2
    assert changes["2.weight"].min() == pytest.approx(-1e-4 * positive, rel=1e-3)


def test_frozen_weights_have_no_penalty():
    model = network()
    model[2].weight.requires_grad_(False)
    changes = stepped(model, l1=0.001)
    assert not changes["2.weight"].any()
    assert changes["0.weight"].all()


def test_without_a_penalty_nothing_moves_where_the_loss_has_no_gradients():
    assert not any(change.any() for change in stepped(network()).values())
