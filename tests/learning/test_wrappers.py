import pytest
import torch
from torch import nn
from torch.optim import swa_utils

from dcomp.errors import UsageError
from dcomp.learning import wrappers


def test_the_model_inside_wrappers_is_found():
    model = nn.Linear(2, 2)
    for wrapped in (
        model,
        nn.DataParallel(model),
        torch.compile(model),
        torch.compile(nn.DataParallel(model)),
        nn.DataParallel(torch.compile(model)),
    ):
        assert wrappers.unwrapped(wrapped) is model
    assert isinstance(wrappers.unwrapped(swa_utils.AveragedModel(model)), nn.Linear)


def test_names_lose_the_parts_of_wrappers_and_no_others():
    model = nn.ModuleDict({"module": nn.Linear(2, 2), "wrapped": nn.DataParallel(nn.Linear(2, 2))})
    model["compiled"] = torch.compile(nn.Sequential(nn.Linear(2, 2)))
    plain = wrappers.plain_names(model, model.state_dict())
    assert plain["module.weight"] == "module.weight"
    assert plain["wrapped.module.weight"] == "wrapped.weight"
    assert plain["compiled._orig_mod.0.weight"] == "compiled.0.weight"


def test_the_optimizer_inside_a_wrapper_is_found():
    class Wrapper:
        optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters())

    assert wrappers.unwrapped_optimizer(Wrapper()) is Wrapper.optimizer
    with pytest.raises(UsageError, match=r"a torch\.optim\.Optimizer, not a str"):
        wrappers.unwrapped_optimizer("sgd")
