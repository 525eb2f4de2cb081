"""The compressor in two processes, as torchrun starts them."""

import os
import subprocess
import sys

import pytest
import torch

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from dcomp.torch import Compressor

dist.init_process_group("gloo")
rank, count = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
wrapped = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
wrapped = torch.compile(wrapped, backend="aot_eager") if sys.argv[1:] else wrapped
optimizer = torch.optim.Adam(wrapped.parameters(), 0.01)
prune = dict(sparsity=0.8, until=2, criterion="fisher", only="^0.weight$|^2.weight$")
compressor = Compressor(wrapped, optimizer, steps_per_epoch=5, prune=prune, quantize=dict(bits=2, start=3))
for step in range(20):
    generator = torch.Generator().manual_seed(step)
    inputs, labels = torch.randn(16, 20, generator=generator), torch.randint(0, 4, (16,), generator=generator)
    optimizer.zero_grad()
    F.cross_entropy(wrapped(inputs[rank::count]), labels[rank::count]).backward()
    optimizer.step()
torch.save([model.state_dict(), compressor.state_dict()], f"of-{rank}-of-{count}.pt")
if rank == 0:
    compressor.save(f"by-{count}.dcz")
dist.destroy_process_group()
"""


def launch(folder, processes, *arguments):
    (folder / "script.py").write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [sys.executable, *launcher, "script.py", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"of-{rank}-of-{processes}.pt", weights_only=True) for rank in range(processes)]


@pytest.mark.parametrize("arguments", [(), ("compiled",)], ids=["plain", "compiled"])
def test_two_processes_compress_what_one_does(tmp_path, arguments):
    ((one, one_state),) = launch(tmp_path, 1)
    (first, state), (second, other_state) = launch(tmp_path, 2, *arguments)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert state["held"] == other_state["held"] == one_state["held"]
    assert sum(int((first[name] == 0).sum()) for name in ("0.weight", "2.weight")) == 576
    for name in ("0.weight", "2.weight"):
        assert len(first[name].unique()) == 5
        assert torch.allclose(first[name], one[name], atol=1e-3)
    sizes = [(tmp_path / f"by-{count}.dcz").stat().st_size for count in (1, 2)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
