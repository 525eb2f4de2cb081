import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import Replicate, distribute_tensor
from torch.optim import swa_utils

from dcomp.errors import UsageError
from dcomp.learning import wrappers


@pytest.fixture
def one_process():
    """A group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def fsdp(model):
    return FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))


def fsdp2(model):
    return fully_shard(model, mesh=init_device_mesh("cpu", (1,)))


def tensor_parallel(model):
    weight = distribute_tensor(model.weight.detach(), init_device_mesh("cpu", (1,)), [Replicate()])
    model.weight = nn.Parameter(weight)
    return model


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("shard", "name"), [(fsdp, "FSDP"), (fsdp2, "FSDP"), (tensor_parallel, "DTensor")])
def test_sharded_parameters_are_refused_by_name(one_process, shard, name):
    with pytest.raises(UsageError, match=f"^{name} shards the parameters of this model .* not supported: use Distri"):
        wrappers.check_weights_are_here(shard(nn.Linear(4, 4)))


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
