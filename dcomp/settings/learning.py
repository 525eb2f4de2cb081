"""What a network is made with, what it sees, and how it trains and is measured."""

from typing import Self

from pydantic import (
    Field,
    model_validator,
)

from dcomp.settings.base import WITHOUT_EFFECT, Settings
from dcomp.settings.fields import (
    DATA_NAMES,
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


class NetworkSettings(Settings):
    """What a network is made with; what is not given is as in the checkpoint, else as the data needs it."""

    classes: int | None = Field(None, ge=1, description="Classes that the network tells apart.")
    grayscale: bool | None = Field(None, description="Whether it sees one channel, or three.")
    dropout: float | None = Field(None, ge=0, lt=1, description="Part of the activations that dropout leaves out.")
    crop: int | None = Field(None, ge=1, description="Height and width of the images that it sees.")


class DataSettings(NetworkSettings):
    """Which data set, where it is kept, and how photos are read."""

    data: DataName | None = Field(
        None, description=f"Data set, unless the checkpoint records it: {', '.join(DATA_NAMES)}."
    )
    data_dir: UserPath | None = Field(
        None, description="Folder that holds data sets, as in DIR/MNIST/raw; else $DCOMP_DATA, else a cache folder."
    )
    resize: int | None = Field(
        None, ge=1, le=4096, description="Short side at which photos are stored; 8/7 of what the network sees."
    )
    workers: int | None = Field(None, ge=0, le=256, description="Processes that decode photos; one a core.")
    cache: UserPath | None = Field(None, description="Folder to keep decoded photos in, for the next epochs and runs.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps ...")
    threads: int | None = Field(
        None, ge=1, le=4096, description="Threads that compute; those that are free, one for a small network."
    )


class LearningSettings(DataSettings):
    """How a network trains, in whatever stage."""

    epochs: int = Field(0, ge=0, description="Passes over the training data.")
    batch_size: int = Field(64, ge=1, le=1 << 31, description="Examples a step.")
    lr: float = Field(0.02, gt=0, description="Learning rate at the start.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov momentum of sgd.")
    weight_decay: float = Field(0.0005, ge=0, description="L2 penalty of the optimizer.")
    optimizer: Optimizer = Field("sgd", description="Optimizer.")
    lr_schedule: LrSchedule = Field("cosine", description="Course of the learning rate over the run.")
    warmup: float = Field(0.0, ge=0, description="Epochs in which the learning rate rises to --lr first.")
    patience: int = Field(5, ge=0, description="For plateau: epochs without a lower validation loss before --lr falls.")
    clip_norm: float | None = Field(None, gt=0, description="Longest gradient, all layers together; longer are scaled.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Part of a label that is spread over all classes.")
    precision: Precision = Field("fp32", description="What the network computes in; bf16 keeps float32 weights.")
    compile: bool = Field(False, description="Compile the network; pays where an epoch takes minutes.")
    augment: Augment = Field(
        "auto",
        description="Changes to training images: shift moves them by up to a pixel, affine turns, scales and moves "
        "them, crop-flip cuts them at random and mirrors half; auto: crop-flip for photos and CIFAR, else none.",
    )
    distill: FileName | None = Field(
        None, description="Checkpoint of a teacher, whose answers the network learns beside the labels."
    )
    temperature: float = Field(4.0, gt=0, description="For distill: divides the logits of both, which softens them.")
    alpha: float = Field(0.5, ge=0, le=1, description="For distill: part of the loss that the teacher's answers have.")
    ema: float | None = Field(
        None, gt=0, lt=1, description="Decay of a moving average of the weights, which is judged and kept; try 0.999."
    )
    val_split: float = Field(
        0.08, ge=0, lt=1, description="Part of the training data set aside to choose the best epoch by; 0: the last."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of everything that chance decides.")
    provenance: Provenance = Field(
        "full", description="What metadata tell: settings and epochs, settings, or none, for the smallest files."
    )

    @model_validator(mode="after")
    def _training_has_epochs(self) -> Self:
        for option in ("distill", "ema"):
            if not self.epochs and getattr(self, option) is not None:
                raise ValueError(f"{option} is for training: give epochs as well")
        return self

    @model_validator(mode="after")
    def _teacher_is_named(self) -> Self:
        if self.distill is None and self.changes("temperature", "alpha"):
            raise ValueError("temperature and alpha are for a teacher: name its checkpoint in distill")
        return self

    @model_validator(mode="after")
    def _schedule_fits_epochs(self) -> Self:
        if self.epochs and self.warmup >= self.epochs:
            raise ValueError(f"warmup < epochs must hold, not {self.warmup:g} < {self.epochs}")
        if self.lr_schedule == "plateau" and not self.val_split:
            raise ValueError("lr_schedule plateau goes by validation: give a val_split above 0")
        return self


class TrainSettings(LearningSettings):
    """`dcomp train`."""

    architecture: NetworkName = Field(description=f"{', '.join(NETWORKS)}.")
    pretrained: bool = Field(False, description="Start from torchvision's weights; they are downloaded.")
    epochs: int = Field(20, ge=1, description="Passes over the training data.")


class EvalSettings(DataSettings):
    """`dcomp eval`."""

    precision: Precision = Field("fp32", description="What the network computes in.")
    max_error: float | None = Field(None, ge=0, le=100, description="Exit 3 if the top-1 error in percent is above.")

    @property
    def examples(self) -> str:
        """What errors are measured on, and how: the data set, and what else is set that may change them."""
        others = self.model_dump(mode="json", exclude_defaults=True, exclude=WITHOUT_EFFECT | {"data", "max_error"})
        return " ".join([str(self.data), *(f"{key}={value}" for key, value in others.items())])


class SensitivitySettings(DataSettings):
    """`dcomp sensitivity`."""

    prune: Sparsities = Field(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95), description="Sparsities to try, or none."
    )
    bits: BitCounts = Field((1, 2, 3, 4, 5, 6, 7, 8), description="Bits of shared values to try, or none.")
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
