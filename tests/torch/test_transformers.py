"""The callback of Transformers, in real Trainers."""

import json
import shutil
import sys
from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import load_file

import dcomp.torch
from dcomp.errors import CheckpointError, UsageError
from dcomp.torch.transformers import ENTRY, SQUARES, CompressorCallback

# isort: split
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

PRUNE = {"sparsity": 0.8, "until": 2, "every": 0.5}
QUANTIZE = {"bits": 2, "start": 3, "skip": ["wpe"]}


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield from texts() * 100


class Reporter(TrainerCallback):
    """A callback that the Trainer lists before those of a user, as it does with TensorBoard's."""

    def __init__(self):
        self.logged = []

    def on_log(self, args, state, control, logs, **kwargs):
        self.logged.append(dict(logs))


def texts():
    """90 sequences of 8 tokens."""
    tokens = torch.randint(0, 12, (90, 8), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": text, "labels": text} for text in tokens]


def language_model():
    torch.manual_seed(0)
    config = {"vocab_size": 12, "n_positions": 8, "n_embd": 16, "n_layer": 1, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**config, bos_token_id=0, eos_token_id=0))


def callback(**options):
    return CompressorCallback(**{"prune": PRUNE, "quantize": QUANTIZE} | options)


def trainer_of(folder, *callbacks, data=None, **options):
    """A Trainer of five epochs, of 9 batches and 5 steps each."""
    arguments = {
        **{"per_device_train_batch_size": 10, "gradient_accumulation_steps": 2, "num_train_epochs": 5},
        **{"learning_rate": 0.01, "logging_steps": 2, "save_strategy": "no", "report_to": "none"},
        **{"disable_tqdm": True, "use_cpu": True},
    } | options
    return Trainer(
        language_model(),
        TrainingArguments(str(folder), **arguments),
        train_dataset=texts() if data is None else data,
        eval_dataset=texts()[:20],
        callbacks=list(callbacks),
    )


def weights(model):
    return {name: weight.detach() for name, weight in model.named_parameters() if weight.ndim > 1}


def check_compressed(model):
    """Check the zeros and the shared values that PRUNE and QUANTIZE ask for."""
    by_name = weights(model)
    zeros = sum(int((weight == 0).sum()) for weight in by_name.values())
    assert zeros == pytest.approx(0.8 * sum(weight.numel() for weight in by_name.values()), abs=1)
    assert all(len(weight.unique()) <= 5 for name, weight in by_name.items() if "wpe" not in name)


def test_a_trainer_prunes_shares_and_writes_the_file(tmp_path):
    compressing = callback(output=tmp_path / "lm.dcz")
    trainer = trainer_of(tmp_path, compressing)
    trainer.train()
    check_compressed(trainer.model)
    assert compressing.compressor.step == trainer.state.global_step == 25
    assert compressing.compressor.time == 5
    loaded = dcomp.torch.load_file(tmp_path / "lm.dcz")
    assert all(torch.equal(loaded[name], value) for name, value in trainer.model.state_dict().items())
    assert trainer.model.lm_head.weight is trainer.model.transformer.wte.weight
    trainer.save_model(tmp_path / "saved")
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "saved")
    assert all(map(torch.equal, weights(again).values(), weights(trainer.model).values()))


def test_logs_have_sparsity_and_once_an_epoch_bytes(tmp_path):
    compressing = callback(output=tmp_path / "lm.dcz")
    trainer = trainer_of(tmp_path, compressing)
    trainer.train()
    logs = trainer.state.log_history
    assert logs[0]["sparsity"] == 0
    assert logs[-1]["sparsity"] == pytest.approx(0.8, abs=1e-3)
    sizes = [entry["dcz_bytes"] for entry in logs if "dcz_bytes" in entry]
    assert len(sizes) == 5
    assert sizes[-1] == (tmp_path / "lm.dcz").stat().st_size < sizes[0]
    assert "sparsity" not in trainer.evaluate()  # training has ended


@pytest.mark.parametrize("logs_to", [True, False])
def test_reporters_that_come_first_get_the_figures_too_if_told(tmp_path, logs_to):
    compressing, reporter = callback(), Reporter()
    trainer = trainer_of(tmp_path, reporter, compressing, num_train_epochs=4)
    if logs_to:
        compressing.log_to(trainer)
    trainer.train()
    assert all(("sparsity" in logs) == logs_to for logs in reporter.logged)
    assert any("dcz_bytes" in logs for logs in reporter.logged) == logs_to
    assert len(reporter.logged) == 11


def test_bytes_are_not_measured_where_they_are_not_wanted(tmp_path):
    trainer = trainer_of(tmp_path, callback(log_bytes=False), num_train_epochs=4)
    trainer.train()
    assert all("sparsity" in logs and "dcz_bytes" not in logs for logs in trainer.state.log_history)


@pytest.mark.parametrize(
    ("criterion", "step", "restores"),
    [("fisher", 5, False), ("fisher", 7, True), ("magnitude", 7, False), ("magnitude", 20, True)],
)
def test_a_resumed_training_ends_with_the_same_bytes(tmp_path, criterion, step, restores):
    prune = {**PRUNE, "every": 0.7, "criterion": criterion}
    saving = {"save_strategy": "steps", "save_steps": 1 if step == 7 else 5}
    trainer_of(tmp_path, callback(prune=prune, output=tmp_path / "a.dcz"), **saving).train()
    going_on = callback(prune=prune, output=tmp_path / "b.dcz")
    resumed = trainer_of(tmp_path, going_on, restore_callback_states_from_checkpoint=restores, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert (tmp_path / "a.dcz").read_bytes() == (tmp_path / "b.dcz").read_bytes()
    check_compressed(resumed.model)
    assert going_on.compressor.step == 25


def test_a_checkpoint_holds_no_masks_and_squares_only_while_they_are_needed(tmp_path):
    prune = {**PRUNE, "criterion": "fisher"}
    trainer_of(tmp_path, callback(prune=prune), save_strategy="epoch").train()
    steps = {step for step in range(5, 30, 5) if (tmp_path / f"checkpoint-{step}" / SQUARES).exists()}
    assert steps == {5, 10}
    entry = json.loads((tmp_path / "checkpoint-5/trainer_state.json").read_text())["stateful_callbacks"][ENTRY]
    assert entry["step"] == 5
    assert len(json.dumps(entry)) < 2500


def test_a_moved_checkpoint_is_found_by_its_argument(tmp_path):
    prune = {**PRUNE, "criterion": "fisher"}
    trainer_of(tmp_path / "first", callback(prune=prune), save_strategy="epoch", num_train_epochs=4).train()
    moved = str(tmp_path / "moved")
    shutil.move(tmp_path / "first/checkpoint-5", moved)
    second = trainer_of(tmp_path / "second", callback(prune=prune))
    with pytest.raises(CheckpointError, match=rf"{SQUARES} .* TrainingArguments\(resume_from_checkpoint"):
        second.train(resume_from_checkpoint=moved)
    third = trainer_of(tmp_path / "third", callback(prune=prune), resume_from_checkpoint=moved)
    third.train(resume_from_checkpoint=moved)
    check_compressed(third.model)


def test_a_checkpoint_without_the_callback_begins_the_schedule(tmp_path):
    trainer_of(tmp_path, num_train_epochs=1, save_strategy="epoch").train()
    compressing = callback()
    trainer = trainer_of(tmp_path, compressing, save_strategy="epoch")
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert compressing.compressor.step == 20
    check_compressed(trainer.model)
    assert (tmp_path / "checkpoint-25").exists()


@pytest.mark.parametrize("entry", [3, {}, {"squares": {"counts": {}}}, {"squares": {"counts": 3}}])
def test_a_damaged_entry_is_refused(tmp_path, entry):
    trainer_of(tmp_path, callback(), num_train_epochs=4, save_strategy="epoch").train()
    path = tmp_path / "checkpoint-5/trainer_state.json"
    state = json.loads(path.read_text())
    state["stateful_callbacks"][ENTRY] = entry
    path.write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match=r"no state of a compressor|is not in"):
        trainer_of(tmp_path, callback()).train(resume_from_checkpoint=str(path.parent))


def test_a_callback_trains_twice(tmp_path):
    compressing = callback()
    for _ in range(2):
        trainer = trainer_of(tmp_path, compressing)
        trainer.train()
        assert compressing.compressor.step == 25
        check_compressed(trainer.model)


@pytest.mark.parametrize(("scores", "best"), [(range(5), 5), (range(5, 0, -1), 25)], ids=["dense", "compressed"])
def test_the_best_checkpoint_is_written_as_it_was(tmp_path, scores, best):
    trainer = trainer_of(
        tmp_path,
        callback(prune={**PRUNE, "every": 0.7}, output=tmp_path / "lm.dcz"),
        **{"save_strategy": "epoch", "eval_strategy": "epoch", "load_best_model_at_end": True},
        **{"metric_for_best_model": "score", "greater_is_better": False},
    )
    given = iter(scores)
    trainer.compute_metrics = lambda predictions: {"score": next(given)}
    with pytest.warns(match="the loop ended at 1; not done") if best == 5 else nullcontext():
        trainer.train()
    written = dcomp.torch.load_file(tmp_path / "lm.dcz")
    saved = load_file(tmp_path / f"checkpoint-{best}/model.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in saved.items())
    if best == 25:
        check_compressed(trainer.model)


def test_data_without_length_needs_times_in_steps(tmp_path):
    with pytest.raises(UsageError, match="give in_steps=True"):
        trainer_of(tmp_path, callback(), data=Endless(), max_steps=20).train()
    prune, quantize = {"sparsity": 0.8, "until": 10, "every": 5}, {**QUANTIZE, "start": 15}
    trainer = trainer_of(
        tmp_path, callback(prune=prune, quantize=quantize, in_steps=True), data=Endless(), max_steps=20
    )
    trainer.train()
    check_compressed(trainer.model)


def test_two_callbacks_are_refused(tmp_path):
    with pytest.raises(UsageError, match="one CompressorCallback"):
        trainer_of(tmp_path, callback(), callback()).train()


def test_without_transformers_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "dcomp.torch.transformers")
    with pytest.raises(UsageError, match=r"pip install 'dcomp\[transformers\]'"):
        import dcomp.torch.transformers  # noqa: F401  # its import is what fails
