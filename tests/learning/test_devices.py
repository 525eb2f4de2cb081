import pytest
import torch
from torch import nn

from dcomp.errors import UsageError
from dcomp.learning import architectures, devices
from dcomp.progress.observer import Observer
from dcomp.system import cores


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


class Notes(Observer):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


@pytest.fixture
def nobody_said(monkeypatch):
    """An environment that says nothing of threads, and three free processors; torch's own number comes back."""
    before = torch.get_num_threads()
    monkeypatch.delenv(cores.THREADS, raising=False)
    monkeypatch.setattr(cores, "_free", 3)
    monkeypatch.setattr(cores, "in_affinity", lambda: 4)
    monkeypatch.setattr(devices, "SHOWN_NOTES", set())
    yield
    torch.set_num_threads(before)


SMALL = nn.Linear(10, 10)
LARGE = nn.Sequential(nn.Linear(10, 2_000_000, bias=False))


@pytest.fixture
def chosen(trial_of):
    """The number of threads that is chosen for a network."""

    def choose(asked, model, notes=None):
        devices.choose_threads(asked, trial_of(model, torch.zeros(1, 10)), notes or Observer())
        return torch.get_num_threads()

    return choose


def test_a_small_network_uses_one_thread_and_a_large_one_those_that_are_free(nobody_said, chosen):
    notes = Notes()
    assert [chosen(None, model, notes) for model in (SMALL, LARGE, LARGE)] == [1, 3, 3]
    assert notes.lines == [
        "1 thread computes: enough for a small network; see --threads",
        "3 threads compute: 3 of 4 processors are free; see --threads",
    ]


def test_a_persons_number_of_threads_is_set_without_a_note(nobody_said, chosen, monkeypatch):
    notes = Notes()
    assert chosen(2, SMALL, notes) == 2
    monkeypatch.setenv(cores.THREADS, "2")
    assert chosen(None, SMALL, notes) == 2
    devices.restore_threads(4, None)
    assert torch.get_num_threads() == 2
    assert not notes.lines


def test_a_resumed_stage_has_as_many_threads_as_before(nobody_said, chosen):
    devices.restore_threads(2, None)
    assert torch.get_num_threads() == 2
    assert chosen(None, LARGE) == 2


def test_the_lenets_are_small_networks(trial_of):
    sizes = {"lenet300": (1, 28), "lenet5": (1, 28), "vgg16-cifar": (3, 32), "alexnet": (3, 227)}
    counts = {}
    for name, (channels, side) in sizes.items():
        trial = trial_of(architectures.build(name), torch.zeros(1, channels, side, side))
        counts[name] = trial.multiplications()
    assert counts["lenet300"] == 784 * 300 + 300 * 100 + 100 * 10
    assert [count <= devices.SMALL_NETWORK for count in counts.values()] == [True, True, False, False]
