"""Settings of networks, data, training and measuring."""

from typing import Self

from pydantic import (
    Field,
    model_validator,
)

from dcomp.settings.base import WITHOUT_EFFECT, Settings
from dcomp.settings.fields import (
    MAX_SEED,
    NETWORKS,
    Augment,
    BitCounts,
    DataName,
    FileName,
    LrSchedule,
    NetworkName,
    Optimizer,
    Precision,
    Provenance,
    Sparsities,
    UserPath,
)
from dcomp.settings.panels import DATA, MACHINE, NETWORK, NOTES, TRAINING, shown


class NetworkSettings(Settings):
    """How a network is built; unset fields are as in the checkpoint, else as the data needs them."""

    classes: int | None = Field(
        None,
        ge=1,
        description="Classes that the network tells apart; as in the data.",
        json_schema_extra=shown(NETWORK),
    )
    grayscale: bool | None = Field(
        None, description="See one channel, or three; as in the data.", json_schema_extra=shown(NETWORK)
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Fraction of activations to drop while training.",
        json_schema_extra=shown(NETWORK),
    )
    crop: int | None = Field(
        None, ge=1, description="Height and width of its images.", json_schema_extra=shown(NETWORK, "PIXELS")
    )


class DataSettings(NetworkSettings):
    """Which data set, where it is kept, and how photos are read."""

    data: DataName | None = Field(
        None, description="Data set, like mnist or imagefolder:PATH.", json_schema_extra=shown(metavar="NAME")
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
        description="Short side at which photos are stored; 8/7 of what the network sees.",
        json_schema_extra=shown(DATA, "PIXELS"),
    )
    workers: int | None = Field(
        None, ge=0, le=256, description="Processes that decode photos; one a core.", json_schema_extra=shown(MACHINE)
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
        description="Threads that compute; those that are free, one for a small network.",
        json_schema_extra=shown(MACHINE),
    )


class LearningSettings(DataSettings):
    """How a network trains, in any stage."""

    epochs: int = Field(0, ge=0, description="Passes over the training data.")
    batch_size: int = Field(64, ge=1, le=1 << 31, description="Examples in a step.", json_schema_extra=shown(TRAINING))
    lr: float = Field(0.02, gt=0, description="Initial learning rate.")
    momentum: float = Field(
        0.9, ge=0, lt=1, description="For sgd: Nesterov momentum.", json_schema_extra=shown(TRAINING)
    )
    weight_decay: float = Field(
        0.0005, ge=0, description="L2 penalty of the optimizer.", json_schema_extra=shown(TRAINING)
    )
    optimizer: Optimizer = Field("sgd", description="Optimizer.", json_schema_extra=shown(TRAINING, "NAME"))
    lr_schedule: LrSchedule = Field(
        "cosine", description="Course of the learning rate.", json_schema_extra=shown(TRAINING, "NAME")
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
        0.0, ge=0, lt=1, description="Part of a label spread over all classes.", json_schema_extra=shown(TRAINING)
    )
    precision: Precision = Field(
        "fp32",
        description="Type to compute in; bf16 keeps float32 weights.",
        json_schema_extra=shown(MACHINE, "NAME"),
    )
    compile: bool = Field(
        False,
        description="Compile the network; pays where an epoch takes minutes.",
        json_schema_extra=shown(MACHINE),
    )
    augment: Augment = Field(
        "auto",
        description="Change training images: shift moves them by up to a pixel; affine turns, scales and moves "
        "them; crop-flip cuts them at random and mirrors half; auto is crop-flip for photos and CIFAR, else none.",
        json_schema_extra=shown(TRAINING, "NAME"),
    )
    distill: FileName | None = Field(
        None,
        description="Checkpoint of a teacher, whose answers the network learns beside the labels.",
        json_schema_extra=shown(TRAINING, "FILE"),
    )
    temperature: float = Field(
        4.0, gt=0, description="For distill: divisor of both networks' logits.", json_schema_extra=shown(TRAINING)
    )
    alpha: float = Field(
        0.5, ge=0, le=1, description="For distill: the teacher's part of the loss.", json_schema_extra=shown(TRAINING)
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay at each step of a moving average of the weights, which is kept; try 0.999.",
        json_schema_extra=shown(TRAINING),
    )
    val_split: float = Field(
        0.08,
        ge=0,
        lt=1,
        description="Part of the training data set aside to choose the best epoch by; 0 keeps the last epoch.",
        json_schema_extra=shown(TRAINING),
    )
    seed: int = Field(
        0, ge=0, le=MAX_SEED, description="Seed of everything that chance decides.", json_schema_extra=shown(NOTES)
    )
    provenance: Provenance = Field(
        "full",
        description="Notes in the metadata: settings and epochs, settings, or none, for the smallest files.",
        json_schema_extra=shown(NOTES, "NAME"),
    )

    @model_validator(mode="after")
    def _warmup_fits_epochs(self) -> Self:
        if self.epochs and self.warmup >= self.epochs:
            raise ValueError(f"warmup < epochs must hold, not {self.warmup:g} < {self.epochs}")
        return self


class TrainSettings(LearningSettings):
    """`dcomp train`: from scratch, or from torchvision's weights."""

    architecture: NetworkName = Field(description=f"{', '.join(NETWORKS)}.")
    pretrained: bool = Field(False, description="Start from torchvision's weights.")
    epochs: int = Field(20, ge=1, description="Passes over the training data.")


class FinetuneSettings(LearningSettings):
    """`dcomp finetune`: train on, with zeros and shared values held."""

    epochs: int = Field(ge=1, description="Passes over the training data.")


class EvalSettings(DataSettings):
    """`dcomp eval`."""

    precision: Precision = Field("fp32", description="Type to compute in.", json_schema_extra=shown(MACHINE, "NAME"))
    max_error: float | None = Field(None, ge=0, le=100, description="Exit 3 if the top-1 error in percent is above.")

    @property
    def examples(self) -> str:
        """Return the data set that errors are measured on, and the settings that may change them."""
        changes = self.model_dump(mode="json", exclude_defaults=True, exclude=WITHOUT_EFFECT | {"data", "max_error"})
        return " ".join([str(self.data), *(f"{key}={value}" for key, value in changes.items())])


class SensitivitySettings(DataSettings):
    """`dcomp sensitivity`."""

    prune: Sparsities = Field(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
        description="Sparsities to try, or none.",
        json_schema_extra=shown(metavar="X,..."),
    )
    bits: BitCounts = Field(
        (1, 2, 3, 4, 5, 6, 7, 8),
        description="Bits of shared values to try, or none.",
        json_schema_extra=shown(metavar="N,..."),
    )
    limit: int | None = Field(None, ge=1, description="Measure on the first N of the validation examples only.")
    val_split: float = Field(0.08, gt=0, lt=1, description="Part of the training data that is measured on.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed by which that part is drawn.")
    max_drop: float | None = Field(
        None, ge=0, le=100, description="Percentage points of top-1 accuracy that a plan as a whole may cost."
    )

    @model_validator(mode="after")
    def _some_amount(self) -> Self:
        if not (self.prune or self.bits):
            raise ValueError("nothing to try: give sparsities (--prune) or bits (--bits)")
        return self
