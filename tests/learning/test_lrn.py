import pytest
import torch
from torch import nn

from dcomp.learning.architectures import lrn


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("block", [64, 1 << 18])
def test_values_and_gradients_are_those_of_torchs_own(memory, block, monkeypatch):
    monkeypatch.setattr(lrn, "BLOCK", block)
    torch.manual_seed(0)
    ours = (torch.randn(3, 16, 5, 7, dtype=torch.float64) * 100).to(memory_format=memory).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    found = lrn.LocalResponseNorm(5, 1e-4)(ours)
    expected = nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)(theirs)
    torch.testing.assert_close(found, expected)
    upper = torch.randn_like(expected)
    torch.testing.assert_close(torch.autograd.grad(found, ours, upper), torch.autograd.grad(expected, theirs, upper))


def test_bfloat16_under_autocast_is_as_exact_as_bfloat16_is():
    x = torch.randn(2, 96, 9, 9).mul(100).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = lrn.LocalResponseNorm()(x)
    expected = nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)(x.detach().float())
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y.float(), expected, rtol=0.02, atol=1e-3)
    assert torch.autograd.grad(y.sum(), x)[0].dtype == torch.bfloat16
