"""The callback of Lightning, in real Trainers."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import dcomp.torch
from dcomp.errors import OutputError, UsageError
from dcomp.torch.lightning import CompressorCallback

# isort: split
import lightning.pytorch as pl
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision

PRUNE = {"sparsity": 0.8, "until": 2, "every": 0.5}
QUANTIZE = {"bits": 2, "start": 3}
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec"),
]


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))

    def forward(self, inputs):
        return self.layers(inputs)

    def training_step(self, batch):
        inputs, labels = batch
        return F.cross_entropy(self(inputs), labels)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.randn(20), 1


def loader():
    """Nine batches, in the same order in each epoch."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(72, 20, generator=generator)
    return DataLoader(TensorDataset(inputs, torch.randint(0, 5, (72,), generator=generator)), batch_size=8)


def callback(**options):
    return CompressorCallback(**{"prune": PRUNE, "quantize": QUANTIZE} | options)


def fit(folder, *callbacks, epochs=5, module=None, data=None, ckpt_path=None, **options):
    module = module or Module()
    options = {"logger": False, "enable_checkpointing": False} | QUIET | options
    trainer = pl.Trainer(max_epochs=epochs, callbacks=[*callbacks], default_root_dir=folder, **options)
    trainer.fit(module, loader() if data is None else data, ckpt_path=ckpt_path)
    return module, trainer


def weights(module):
    return [weight.detach() for weight in module.parameters() if weight.ndim > 1]


def check_compressed(module):
    """Check the zeros and the shared values that PRUNE and QUANTIZE ask for."""
    zeros = sum(int((weight == 0).sum()) for weight in weights(module))
    assert zeros == 600  # of 20 * 30 + 30 * 5
    assert all(len(weight.unique()) <= 5 for weight in weights(module))


def test_a_trainer_prunes_shares_and_writes_the_file(tmp_path):
    compressing = callback(output=tmp_path / "net.dcz")
    module, _ = fit(tmp_path, compressing)
    check_compressed(module)
    loaded = dcomp.torch.load_file(tmp_path / "net.dcz")
    assert all(torch.equal(loaded[name], value) for name, value in module.state_dict().items())
    assert compressing.compressor.phase == "shared"
    assert (tmp_path / "net.dcz").stat().st_size == compressing.compressor.report().file_bytes


def test_sparsity_and_exact_bytes_are_logged_once_an_epoch(tmp_path):
    compressing = callback(output=tmp_path / "net.dcz")
    logger = CSVLogger(tmp_path)
    fit(tmp_path, compressing, logger=logger, log_every_n_steps=1)
    rows = list(csv.DictReader(Path(logger.experiment.metrics_file_path).read_text().splitlines()))
    assert [round(float(row["sparsity"]), 3) for row in rows] == [0.463, 0.788, 0.8, 0.8, 0.8]
    sizes = [float(row["dcz_bytes"]) for row in rows]
    assert sizes[0] > sizes[1] > sizes[3]
    assert sizes[-1] == (tmp_path / "net.dcz").stat().st_size


def test_bytes_are_not_measured_where_they_are_not_wanted(tmp_path):
    _, trainer = fit(tmp_path, callback(log_bytes=False), epochs=4)
    assert set(trainer.callback_metrics) == {"sparsity"}


def test_epochs_have_the_steps_of_accumulated_batches(tmp_path):
    compressing = callback()
    module, trainer = fit(tmp_path, compressing, accumulate_grad_batches=2)
    assert trainer.global_step == compressing.compressor.step == 25  # of 9 batches: 2, 2, 2, 2 and 1
    assert compressing.compressor.time == 5
    check_compressed(module)


@pytest.mark.parametrize(("epochs", "criterion"), [(1, "fisher"), (2, "magnitude"), (4, "fisher")])
def test_a_resumed_training_ends_with_the_same_bytes(tmp_path, epochs, criterion):
    prune = {**PRUNE, "every": 0.7, "criterion": criterion}
    checkpoints = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, monitor=None)
    unstopped, _ = fit(
        tmp_path, callback(prune=prune, output=tmp_path / "a.dcz"), checkpoints, enable_checkpointing=True
    )
    resumed, _ = fit(
        tmp_path,
        callback(prune=prune, output=tmp_path / "b.dcz"),
        ckpt_path=tmp_path / f"epoch={epochs - 1}.ckpt",
    )
    assert (tmp_path / "a.dcz").read_bytes() == (tmp_path / "b.dcz").read_bytes()
    check_compressed(unstopped)
    assert all(map(torch.equal, weights(unstopped), weights(resumed)))


def test_a_checkpoint_holds_the_state_as_plain_data(tmp_path):
    _, trainer = fit(tmp_path, callback(), epochs=4)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert state["callbacks"]["CompressorCallback"]["step"] == 36
    assert set(state["state_dict"]) == set(Module().state_dict())


def test_a_checkpoint_without_the_callback_begins_the_schedule(tmp_path):
    _, trainer = fit(tmp_path, epochs=1)
    trainer.save_checkpoint(tmp_path / "dense.ckpt")
    compressing = callback()
    module, _ = fit(tmp_path, compressing, epochs=5, ckpt_path=tmp_path / "dense.ckpt")
    check_compressed(module)
    assert compressing.compressor.step == 36


def test_mixed_precision_and_clipped_gradients_go_on(tmp_path):
    module, _ = fit(tmp_path, callback(), precision="bf16-mixed", gradient_clip_val=0.1)
    check_compressed(module)


def test_steps_that_the_scaler_of_float16_skips_do_not_count(tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**25)  # too large for the first steps
    compressing = callback()
    module, trainer = fit(tmp_path, compressing, plugins=MixedPrecision("16-mixed", "cpu", scaler))
    assert 27 < compressing.compressor.step < trainer.global_step == 45
    check_compressed(module)


def test_an_average_is_compressed_in_the_end(tmp_path):
    average = EMAWeightAveraging(decay=0.9)
    averaged, _ = fit(tmp_path, average, callback(output=tmp_path / "net.dcz"))
    check_compressed(averaged)
    plain, _ = fit(tmp_path, callback())
    assert not any(map(torch.equal, weights(averaged), weights(plain)))
    loaded = dcomp.torch.load_file(tmp_path / "net.dcz")
    assert all(torch.equal(loaded[name], value) for name, value in averaged.state_dict().items())


def test_an_average_that_comes_after_is_refused(tmp_path):
    with pytest.raises(UsageError, match="list CompressorCallback after"):
        fit(tmp_path, callback(), EMAWeightAveraging())


class Adversaries(Module):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.critic = nn.Linear(5, 1)

    def training_step(self, batch):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.critic(self(batch[0])).square().mean())
            optimizer.step()

    def configure_optimizers(self):
        parts = (self.layers, self.critic)
        return [torch.optim.Adam(part.parameters(), 0.01) for part in parts]


class OfTheLayers(CompressorCallback):
    def optimizer_of(self, trainer):
        return trainer.optimizers[0]


def test_one_of_several_optimizers_is_chosen(tmp_path):
    with pytest.raises(UsageError, match="2 optimizers: override optimizer_of"):
        fit(tmp_path, callback(), module=Adversaries())
    module, _ = fit(tmp_path, OfTheLayers(prune=PRUNE, quantize=QUANTIZE), module=Adversaries())
    check_compressed(module.layers)
    assert (module.critic.weight != 0).all()


def test_data_without_length_needs_times_in_steps(tmp_path):
    data = DataLoader(Endless(), batch_size=8)
    with pytest.raises(UsageError, match="give in_steps=True"):
        fit(tmp_path, callback(), data=data, max_steps=20)
    steps = callback(prune={"sparsity": 0.8, "until": 10, "every": 5}, quantize={"bits": 2, "start": 15}, in_steps=True)
    module, _ = fit(tmp_path, steps, data=data, epochs=-1, max_steps=20)
    check_compressed(module)


def test_dead_units_are_removed_with_the_module_s_example_input(tmp_path):
    module = Module()
    module.example_input_array = torch.randn(2, 20)
    compressing = callback(prune={**PRUNE, "sparsity": 0.97, "remove_dead_units": True}, quantize=None)
    fit(tmp_path, compressing, module=module)
    alive = (module.layers[0].weight != 0).any(1) & (module.layers[2].weight != 0).any(0)
    assert not alive.all()
    assert (module.layers[2].weight[:, ~alive] == 0).all()


def test_a_training_that_ends_too_early_says_what_is_missing(tmp_path):
    with pytest.warns(UserWarning, match="not done: quantize at 3"):
        fit(tmp_path, callback(), epochs=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prune": None, "quantize": None}, "say what to compress"),
        ({"prune": {"sparsity": 90, "until": 2}, "quantize": {"bits": 5, "lr": 1}}, "2 mistakes"),
    ],
)
def test_mistakes_are_refused_before_training(options, message):
    with pytest.raises(UsageError, match=message):
        callback(**options)


def test_an_existing_file_is_refused_before_training(tmp_path):
    (tmp_path / "net.dcz").write_bytes(b"")
    with pytest.raises(OutputError, match="exists"):
        callback(output=tmp_path / "net.dcz")
    fit(tmp_path, callback(output=tmp_path / "net.dcz", overwrite=True))
    assert dcomp.load_file(tmp_path / "net.dcz").keys() == Module().state_dict().keys()


def test_without_lightning_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.delitem(sys.modules, "dcomp.torch.lightning")
    with pytest.raises(UsageError, match=r"pip install 'dcomp\[lightning\]'"):
        import dcomp.torch.lightning  # noqa: F401  # its import is what fails


IN_TWO_PROCESSES = """
import sys
sys.path.insert(0, sys.argv[1])
from test_lightning import *

if __name__ == "__main__":
    module, trainer = fit("folder", callback(output="net.dcz"), strategy="ddp", devices=2)
    check_compressed(module)
    print(trainer.global_rank, trainer.global_step)
"""


def test_two_processes_compress_the_same(tmp_path):
    (tmp_path / "script.py").write_text(IN_TWO_PROCESSES)
    done = subprocess.run(
        [sys.executable, "script.py", Path(__file__).parent],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert {"0 25", "1 25"} <= set(done.stdout.splitlines())  # of 9 batches each has 5
    assert all(len(array[array != 0]) for array in dcomp.load_file(tmp_path / "net.dcz").values())
