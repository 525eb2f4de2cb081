"""Settings of networks, data and training."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from dcomp.settings.base import Settings
from dcomp.settings.fields import (
    MAX_SEED,
    NETWORKS,
    TRANSFORMERS,
    Augment,
    CheckpointFile,
    DataName,
    DistillLoss,
    LrSchedule,
    NetworkName,
    Optimizer,
    OptimizerOptions,
    Patterns,
    Precision,
    Provenance,
    UserPath,
    config_of_transformers,
)
from dcomp.settings.panels import DATA, MACHINE, NETWORK, SEED_AND_NOTES, TRAINING, shown
from dcomp.settings.torch_optimizers import OPTIMIZERS

OPTIMIZER_HELP = f"Optimizer of torch: {', '.join(OPTIMIZERS)}."


class NetworkSettings(Settings):
    """How a network is built; by default as in the checkpoint, or as the data requires."""

    classes: int | None = Field(
        None,
        ge=1,
        description="Number of classes; by default that of the data.",
        json_schema_extra=shown(NETWORK),
    )
    grayscale: bool | None = Field(
        None,
        description="Images of one channel, or three; by default as the data.",
        json_schema_extra=shown(NETWORK),
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Fraction of activations to drop while training.",
        json_schema_extra=shown(NETWORK),
    )
    crop: int | None = Field(
        None, ge=1, description="Height and width of the images.", json_schema_extra=shown(NETWORK, "PIXELS")
    )


class DataSettings(NetworkSettings):
    """Which data set, where it is stored, and how photos are read."""

    data: DataName | None = Field(
        None, description="A data set, like mnist, or module:factory.", json_schema_extra=shown(metavar="NAME")
    )
    data_dir: UserPath | None = Field(
        None,
        description="Folder that holds data sets, as in DIR/MNIST/raw; else $DCOMP_DATA, else a cache folder.",
        json_schema_extra=shown(DATA, "DIR"),
    )
    resize: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Short side of stored photos; by default 8/7 of the size that the network takes.",
        json_schema_extra=shown(DATA, "PIXELS"),
    )
    workers: int | None = Field(
        None,
        ge=0,
        le=256,
        description="Processes that decode photos; one per core by default.",
        json_schema_extra=shown(MACHINE),
    )
    cache: UserPath | None = Field(
        None,
        description="Folder to keep decoded photos in, for the next epochs and runs.",
        json_schema_extra=shown(DATA, "DIR"),
    )
    device: str = Field(
        "auto", description="auto, cpu, cuda, cuda:1, mps ...", json_schema_extra=shown(MACHINE, "NAME")
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Threads to compute with; by default the free ones, and one for a small network.",
        json_schema_extra=shown(MACHINE),
    )
    trust_code: bool = Field(
        False,
        description="Run the code that checkpoints name as their network or data.",
        json_schema_extra=shown(NETWORK),
    )


class LearningSettings(DataSettings):
    """How a network trains, in any stage."""

    epochs: int = Field(0, ge=0, description="Passes over the training data.")
    batch_size: int = Field(64, ge=1, le=1 << 31, description="Examples in a step.", json_schema_extra=shown(TRAINING))
    lr: float = Field(0.02, gt=0, description="Initial learning rate.")
    momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Momentum of sgd (Nesterov's, 0.9 unless given), of rmsprop and of muon.",
        json_schema_extra=shown(TRAINING),
    )
    weight_decay: float = Field(
        0.0005, ge=0, description="L2 penalty of the optimizer.", json_schema_extra=shown(TRAINING)
    )
    optimizer: Optimizer = Field("sgd", description=OPTIMIZER_HELP, json_schema_extra=shown(TRAINING, "NAME"))
    lr_schedule: LrSchedule = Field(
        "cosine", description="How the learning rate changes.", json_schema_extra=shown(TRAINING, "NAME")
    )
    warmup: float = Field(
        0.0,
        ge=0,
        description="Epochs in which the learning rate rises to --lr first.",
        json_schema_extra=shown(TRAINING, "EPOCHS"),
    )
    patience: int = Field(
        5,
        ge=0,
        description="For plateau: epochs without a lower validation loss before the learning rate falls.",
        json_schema_extra=shown(TRAINING, "EPOCHS"),
    )
    clip_norm: float | None = Field(
        None, gt=0, description="Norm to which longer gradients are scaled.", json_schema_extra=shown(TRAINING)
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Part of each label to spread over all classes.", json_schema_extra=shown(TRAINING)
    )
    precision: Precision = Field(
        "fp32",
        description="Type to compute in; with bf16, weights stay float32.",
        json_schema_extra=shown(MACHINE, "NAME"),
    )
    compile: bool = Field(
        False,
        description="Compile the network; saves time if an epoch takes minutes.",
        json_schema_extra=shown(MACHINE),
    )
    augment: Augment = Field(
        "auto",
        description="Change training images: shift moves them by up to a pixel; affine turns, scales and moves "
        "them; crop-flip cuts them at random and mirrors half; auto is crop-flip for photos and CIFAR, else none.",
        json_schema_extra=shown(TRAINING, "NAME"),
    )
    distill: CheckpointFile | None = Field(
        None,
        description="Checkpoint of a teacher: the network learns its outputs, and the labels as well.",
        json_schema_extra=shown(TRAINING, "FILE"),
    )
    temperature: float = Field(
        4.0, gt=0, description="For distill by kl: divisor of both networks' logits.", json_schema_extra=shown(TRAINING)
    )
    alpha: float = Field(
        0.5,
        ge=0,
        le=1,
        description="For distill: the teacher's part of the loss; with 1 no labels are needed.",
        json_schema_extra=shown(TRAINING),
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Keep a moving average of the weights, with this decay at each step; try 0.999.",
        json_schema_extra=shown(TRAINING),
    )
    val_split: float = Field(
        0.08,
        ge=0,
        lt=1,
        description="Part of the training data for validation, which chooses the best epoch; 0 keeps the last epoch.",
        json_schema_extra=shown(TRAINING),
    )
    seed: int = Field(
        0,
        ge=0,
        le=MAX_SEED,
        description="Seed of everything that chance decides.",
        json_schema_extra=shown(SEED_AND_NOTES),
    )
    provenance: Provenance = Field(
        "full",
        description="Notes in the metadata: full (settings and epochs), settings, or none.",
        json_schema_extra=shown(SEED_AND_NOTES, "NAME"),
    )
    optimizer_option: OptimizerOptions = Field(
        (),
        description="Option of the optimizer, by its name in torch, as betas=0.9,0.99; repeatable.",
        json_schema_extra=shown(TRAINING, "KEY=X"),
    )
    l1: float | None = Field(
        None,
        gt=0,
        description="L1 penalty: this times the sum of all weights' sizes; biases have none.",
        json_schema_extra=shown(TRAINING),
    )
    freeze: Patterns = Field(
        (),
        description="Do not train tensors whose names match, in this stage; repeatable.",
        json_schema_extra=shown(TRAINING, "REGEX"),
    )
    early_stop: int | None = Field(
        None,
        ge=1,
        description="Stop after this many epochs without a better one by validation.",
        json_schema_extra=shown(TRAINING, "EPOCHS"),
    )
    min_epochs: int = Field(
        0,
        ge=0,
        description="For early-stop: the fewest epochs of a training.",
        json_schema_extra=shown(TRAINING, "EPOCHS"),
    )
    distill_loss: DistillLoss | None = Field(
        None,
        description="How outputs differ from the teacher's: kl (divergence), mse or cosine; by default kl for classes, "
        "else mse.",
        json_schema_extra=shown(TRAINING, "NAME"),
    )
    distill_at: Patterns = Field(
        (),
        description="Compare the outputs of modules whose whole names match too, by mse or cosine; repeatable.",
        json_schema_extra=shown(TRAINING, "REGEX"),
    )

    @model_validator(mode="after")
    def _parts_fit_epochs(self) -> Self:
        if self.epochs and self.warmup >= self.epochs:
            raise ValueError(f"warmup < epochs must hold, not {self.warmup:g} < {self.epochs}")
        if self.epochs and self.min_epochs > self.epochs:
            raise ValueError(f"min_epochs <= epochs must hold, not {self.min_epochs} <= {self.epochs}")
        return self


class TrainSettings(LearningSettings):
    """`dcomp train`: from scratch, or from torchvision's weights."""

    architecture: NetworkName = Field(description=f"{', '.join(NETWORKS)}.")
    pretrained: bool = Field(False, description="Start from torchvision's weights.")
    epochs: int = Field(20, ge=1, description="Passes over the training data.")

    def named_files(self) -> dict[str, Path]:
        """Return the files that these settings name, by key; one may describe the network."""
        files = super().named_files()
        if self.architecture.startswith(TRANSFORMERS):
            files["architecture"] = config_of_transformers(self.architecture.removeprefix(TRANSFORMERS))
        return files


class FinetuneSettings(LearningSettings):
    """`dcomp finetune`: train further; zeros stay zero, and shared values stay shared."""

    epochs: int = Field(ge=1, description="Passes over the training data.")
    choose_after: int = Field(
        0,
        ge=0,
        description="Choose the best of the epochs after this one; 0: of all, and of the start.",
        json_schema_extra=shown(TRAINING, "EPOCH"),
    )

    @model_validator(mode="after")
    def _leaves_an_epoch_to_choose(self) -> Self:
        if self.choose_after >= self.epochs:
            raise ValueError(f"choose_after is below the {self.epochs} epochs, not {self.choose_after}")
        return self
