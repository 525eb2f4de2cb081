"""Settings that change weights: `dcomp prune` and `dcomp quantize`."""

from typing import Self

from pydantic import (
    Field,
    model_validator,
)

from dcomp.checkpoints.layers import Kind, Rule
from dcomp.pruning.criteria import CRITERIA
from dcomp.pruning.schedule import Schedule, ScheduleName
from dcomp.quantization import MAX_BITS, Init
from dcomp.settings.fields import (
    AUTO_BITS,
    LAYER_LIMITS,
    UNITS,
    BitCount,
    BitRules,
    CheckpointFile,
    CodebookValues,
    Criterion,
    Epochs,
    Fraction,
    Kinds,
    Optimizer,
    Patterns,
    PrunePlan,
    QuantizePlan,
    Rules,
    Scope,
    Structure,
    Unit,
    hint_at_fraction,
    is_for_all_layers,
)
from dcomp.settings.learning import OPTIMIZER_HELP, LearningSettings
from dcomp.settings.panels import AMOUNT, MOVES, TRAINING, VALUES, WHICH, shown

MAX_MOVES = 100_000
"""The most moves of the masks in a training; all of them are listed before it begins."""


class ChosenSettings(LearningSettings):
    """Which tensors of a checkpoint to change, by name."""

    only: Patterns = Field(
        (), description="Change only tensors whose names match; repeatable.", json_schema_extra=shown(WHICH, "REGEX")
    )
    skip: Patterns = Field(
        (), description="Do not change tensors whose names match; repeatable.", json_schema_extra=shown(WHICH, "REGEX")
    )


class PruneSettings(ChosenSettings):
    """`dcomp prune`: a sparsity, a count, an amount, a threshold or a ratio, for all layers or by `layer`."""

    sparsity: Fraction | None = Field(None, description="Fraction of weights that become zero.")
    count: int | None = Field(
        None, ge=0, description="Number of weights (or rows) to set to zero.", json_schema_extra=shown(AMOUNT)
    )
    amount: Fraction | None = Field(
        None,
        description="Fraction of the kept weights that each move sets to zero, up to --sparsity if that is given.",
        json_schema_extra=shown(AMOUNT),
    )
    threshold: float | None = Field(
        None,
        gt=0,
        description="For criterion std: keep weights above X standard deviations of their layer.",
        json_schema_extra=shown(AMOUNT),
    )
    target_ratio: float | None = Field(
        None, gt=1, description="Prune for a .dcz file R times smaller.", json_schema_extra=shown(metavar="R")
    )
    code_bits: int = Field(
        5,
        ge=1,
        le=MAX_BITS,
        description="For target-ratio: bits of kept weights after quantize.",
        json_schema_extra=shown(AMOUNT),
    )
    layer: Rules = Field(
        (),
        description="Sparsity (count, amount, threshold) of layers whose names match; repeatable.",
        json_schema_extra=shown(metavar="REGEX=X"),
    )
    criterion: Criterion = Field(
        "magnitude",
        description=f"How weights are ranked: {', '.join(CRITERIA)}, or package.module:function.",
        json_schema_extra=shown(WHICH, "NAME"),
    )
    scope: Scope | None = Field(
        None,
        description="Rank the weights of all layers together, or of each layer; by default global, for rows layer.",
        json_schema_extra=shown(WHICH, "NAME"),
    )
    structure: Structure = Field(
        "weight",
        description="Prune single weights, or whole rows: neurons and filters.",
        json_schema_extra=shown(WHICH, "NAME"),
    )
    plan: PrunePlan = Field(
        (),
        description="Plan of dcomp sensitivity: a sparsity for each layer; --layer takes precedence.",
        json_schema_extra=shown(AMOUNT, "FILE"),
    )
    kinds: Kinds = Field(
        ("conv", "linear"),
        description="Kinds of tensors to prune: conv, linear, bias.",
        json_schema_extra=shown(WHICH, "KIND,..."),
    )
    schedule: ScheduleName = Field(
        "gradual",
        description="How sparsity grows while the network trains.",
        json_schema_extra=shown(MOVES, "NAME"),
    )
    start: float = Field(0.0, ge=0, description="Epoch of the first move.", json_schema_extra=shown(MOVES, "EPOCH"))
    until: float | None = Field(
        None,
        ge=0,
        description="Epoch of the last move; by default half of --epochs.",
        json_schema_extra=shown(MOVES, "EPOCH"),
    )
    every: float = Field(
        1.0, ge=0.001, description="Epochs between two moves.", json_schema_extra=shown(MOVES, "EPOCHS")
    )
    at: Epochs = Field(
        (),
        description="Epochs of all moves, in place of start, until and every.",
        json_schema_extra=shown(MOVES, "EPOCH,..."),
    )
    remove_dead_units: bool = Field(
        False,
        description="Also prune units without inputs or outputs, with their biases.",
        json_schema_extra=shown(WHICH),
    )
    rewind: CheckpointFile | None = Field(
        None,
        description="Reset kept weights to their values in this checkpoint: a lottery ticket.",
        json_schema_extra=shown(MOVES, "FILE"),
    )
    mask: CheckpointFile | None = Field(
        None,
        description="Prune what is zero in this file: a checkpoint, or masks of 0 and 1 by the names of tensors.",
        json_schema_extra=shown(AMOUNT, "FILE"),
    )

    @model_validator(mode="after")
    def _check_amounts(self) -> Self:
        if not self.rules and self.mask is None and all(getattr(self, unit) is None for unit in UNITS):
            raise ValueError("give a sparsity, like 0.9, or a count or an amount")
        fits, limit = LAYER_LIMITS[self.unit]
        if misfits := [rule.value for rule in self.rules if not fits(rule.value)]:
            hint = hint_at_fraction(misfits[0]) if self.unit in ("sparsity", "amount") else ""
            raise ValueError(f"{limit}, not {misfits[0]:g}{hint}")
        return self

    @model_validator(mode="after")
    def _moves_within_epochs(self) -> Self:
        if self.at:
            self._check_listed_moves()
        elif self.epochs and not self.start <= self.moves_until < self.epochs:
            times = f"{self.start:g} <= {self.moves_until:g} < {self.epochs}"
            raise ValueError(f"start <= until < epochs must hold, not {times}")
        elif (moves := (self.moves_until - self.start) / self.every) > MAX_MOVES:
            raise ValueError(f"masks move at most {MAX_MOVES:,} times, not {moves:.6g}: give a longer every")
        return self

    def _check_listed_moves(self) -> None:
        if self.schedule == "oneshot" and len(self.at) > 1:
            raise ValueError("schedule oneshot moves the masks once: give one epoch in at")
        if list(self.at) != sorted(set(self.at)) or self.at[-1] >= self.epochs:
            listed = ", ".join(f"{time:g}" for time in self.at)
            raise ValueError(f"the moves in at must ascend and be below the {self.epochs} epochs, not {listed}")

    @property
    def unit(self) -> Unit:
        """Return the unit of the amount that the user set; the rules have the same unit."""
        if self.cap is not None:
            return "amount"
        return next((unit for unit in UNITS if getattr(self, unit) is not None), "sparsity")

    @property
    def cap(self) -> float | None:
        """Return the sparsity at which an amount ends; None without one."""
        return self.sparsity if self.amount is not None else None

    @property
    def together(self) -> bool:
        """Return whether all layers share one budget; if not, each layer has one."""
        return (self.scope or ("layer" if self.structure == "row" else "global")) == "global"

    @property
    def planned(self) -> list[Rule]:
        """Return the plan's rules."""
        return [Rule.parse(text) for text in self.plan]

    @property
    def layer_rules(self) -> list[Rule]:
        """Return the rules of `layer`, which take precedence over the plan's."""
        return [Rule.parse(text) for text in self.layer]

    @property
    def rules(self) -> list[Rule]:
        """Return the plan's rules, then those of `layer`."""
        return [*self.planned, *self.layer_rules]

    @property
    def moves_until(self) -> float:
        """Return the epoch of the last move of the masks."""
        return self.until if self.until is not None else max(self.start, self.epochs / 2)

    @property
    def mask_schedule(self) -> Schedule:
        """Return the schedule by which masks move while the network trains; without epochs they move once."""
        if not self.epochs:
            return Schedule("oneshot")
        if self.mask is not None:
            return Schedule("oneshot", self.start)
        schedule = Schedule(self.schedule, self.start, self.moves_until, self.every, self.at)
        return schedule if self.amount is None else Schedule("iterative", at=tuple(schedule.moves()))


class QuantizeSettings(ChosenSettings):
    """`dcomp quantize`. Centroids train by Adam, as their gradients are sums over very different numbers of weights."""

    conv_bits: BitCount | None = Field(None, description="Bits of a convolution's codes: 2^N values.")
    fc_bits: BitCount | None = Field(None, description="Bits of a fully connected layer's codes.")
    bias_bits: BitCount | None = Field(
        None,
        description="Bits of biases and normalization tensors; by default these do not share values.",
        json_schema_extra=shown(VALUES),
    )
    bits: BitRules = Field(
        (),
        description="Bits of all other layers, or of matching ones, repeatable; auto: dcomp chooses.",
        json_schema_extra=shown(metavar="[REGEX=]N"),
    )
    plan: QuantizePlan = Field(
        (),
        description="Plan of dcomp sensitivity: bits for each layer; --bits takes precedence.",
        json_schema_extra=shown(VALUES, "FILE"),
    )
    rate_weight: float = Field(
        0.0,
        alias="lambda",
        ge=0,
        description="Also minimize the bits of codes: a bit costs this part of the mean square.",
        json_schema_extra=shown(VALUES),
    )
    init: Init = Field(
        "linear",
        description="Where k-means starts; optimal is exact, but slower, and gives more bytes.",
        json_schema_extra=shown(VALUES, "NAME"),
    )
    start: int = Field(
        0,
        ge=0,
        description="Epoch at which weights are shared; before, they train with zeros fixed.",
        json_schema_extra=shown(VALUES, "EPOCH"),
    )
    optimizer: Optimizer = Field("adam", description=OPTIMIZER_HELP, json_schema_extra=shown(TRAINING, "NAME"))
    lr: float = Field(0.0002, gt=0, description="Initial learning rate.")
    weight_decay: float = Field(
        0.0, ge=0, description="L2 penalty of the optimizer.", json_schema_extra=shown(TRAINING)
    )
    codebook_values: CodebookValues = Field(
        "float32",
        description="Type of the shared values in the end; 16 bits make smaller codebooks.",
        json_schema_extra=shown(VALUES, "TYPE"),
    )

    @model_validator(mode="after")
    def _some_bits(self) -> Self:
        if not (self.bits_of_kind or self.rules or self.bits_of_all is not None or self.auto):
            raise ValueError("say how many bits, like bits 5 (--bits 5), or conv_bits and fc_bits")
        if self.bits_of_all is not None and not 1 <= self.bits_of_all <= MAX_BITS:
            raise ValueError(f"bits are a whole number from 1 to {MAX_BITS}, not {self.bits_of_all}")
        if any(rule.value != int(rule.value) or not 1 <= rule.value <= MAX_BITS for rule in self.rules):
            raise ValueError(f"the bits of a layer are a whole number from 1 to {MAX_BITS}")
        return self

    @model_validator(mode="after")
    def _starts_within_epochs(self) -> Self:
        if self.start > self.epochs:
            raise ValueError(f"start <= epochs must hold, not {self.start} <= {self.epochs}")
        shorter = min(self.start, self.epochs - self.start)
        if shorter and self.warmup >= shorter:
            raise ValueError(f"both trainings begin with warmup epochs: give fewer than {shorter}, not {self.warmup:g}")
        return self

    @property
    def planned(self) -> list[Rule]:
        """Return the plan's rules."""
        return [Rule.parse(text) for text in self.plan]

    @property
    def layer_rules(self) -> list[Rule]:
        """Return the rules of `bits`, which take precedence over the plan's."""
        return [Rule.parse(text) for text in self.bits if not is_for_all_layers(text)]

    @property
    def bits_of_all(self) -> int | None:
        """Return the bits of the layers that no other setting names; None if not set."""
        return next((int(text) for text in self.bits if text.isdecimal()), None)

    @property
    def auto(self) -> bool:
        """Return whether dcomp chooses the bits of the layers that no other setting names."""
        return AUTO_BITS in self.bits

    @property
    def rules(self) -> list[Rule]:
        """Return the plan's rules, then those of `bits`."""
        return [*self.planned, *self.layer_rules]

    @property
    def bits_of_kind(self) -> dict[Kind, int]:
        """Return the bits of each kind of tensor that has some."""
        by_kind: dict[Kind, int | None] = {"conv": self.conv_bits, "linear": self.fc_bits, "bias": self.bias_bits}
        return {kind: bits for kind, bits in by_kind.items() if bits is not None}
