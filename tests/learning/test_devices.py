import pytest
import torch

from dcomp.errors import UsageError
from dcomp.learning import devices


def test_a_device_that_is_not_there_is_a_usage_error():
    assert devices.choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="try auto or cpu"):
        devices.choose_device("abacus")
    with pytest.raises(UsageError, match="give one of auto, cpu"):
        devices.choose_device("meta")


def test_bf16_computes_in_bfloat16_and_leaves_weights_in_float32():
    layer = torch.nn.Linear(3, 2)
    with devices.in_precision(torch.device("cpu"), "bf16"):
        assert layer(torch.ones(1, 3)).dtype == torch.bfloat16
    assert layer.weight.dtype == torch.float32


def test_without_a_compiler_the_error_says_to_leave_the_option_out(monkeypatch):
    def fails(function):
        raise RuntimeError("no C++ compiler\nand a long explanation")

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(UsageError, match=r"--compile does not work here \(no C\+\+ compiler\); leave it out"):
        devices.check_compiler(torch.device("cpu"))
