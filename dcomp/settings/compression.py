"""What becomes of the weights: `dcomp prune` and `dcomp quantize`."""

from typing import Self

from pydantic import (
    Field,
    model_validator,
)

from dcomp.checkpoints.layers import Kind, Rule
from dcomp.pruning.schedule import Schedule, ScheduleName
from dcomp.quantization import MAX_BITS, Init
from dcomp.settings.fields import (
    AUTO,
    LAYER_LIMITS,
    UNITS,
    BitCount,
    BitRules,
    CodebookValues,
    Criterion,
    Epochs,
    FileName,
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
    did_you_mean_a_fraction,
    speaks_of_all,
)
from dcomp.settings.learning import LearningSettings


class ChosenSettings(LearningSettings):
    """How some tensors of a checkpoint are changed: which, by name."""

    only: Patterns = Field((), description="REGEX of the names to change, all others left alone; repeatable.")
    skip: Patterns = Field((), description="REGEX of names to leave alone; repeatable.")


class PruneSettings(ChosenSettings):
    """`dcomp prune`. What is asked for is a sparsity, a count, an amount or a threshold, all layers' or by `layer`."""

    sparsity: Fraction | None = Field(None, description="Fraction of weights that become zero.")
    count: int | None = Field(None, ge=0, description="Number of weights (or rows) that become zero.")
    amount: Fraction | None = Field(None, description="Fraction of what is left that each move sets to zero.")
    threshold: float | None = Field(
        None, gt=0, description="For std: keep what exceeds S standard deviations, as found."
    )
    target_ratio: float | None = Field(
        None, gt=1, description="Prune for a file of 1/R of the dense bytes, notes in metadata aside."
    )
    code_bits: int = Field(5, ge=1, le=MAX_BITS, description="For target_ratio: bits that kept weights will have.")
    layer: Rules = Field(
        (), description="REGEX=VALUE for layers of their own, in the unit of the rest, else sparsity; repeatable."
    )
    criterion: Criterion = Field(
        "magnitude", description="What a weight is kept for; fisher: what the loss would lose, by squared gradients."
    )
    scope: Scope | None = Field(
        None, description="One budget for all layers, or one for each; global, but layer for rows."
    )
    structure: Structure = Field("weight", description="Prune single weights, or whole rows: neurons and filters.")
    plan: PrunePlan = Field((), description="Plan of dcomp sensitivity; --layer overrides it.")
    kinds: Kinds = Field(("conv", "linear"), description="Kinds of tensors to prune, of conv, linear and bias.")
    schedule: ScheduleName = Field("gradual", description="How sparsity grows while the network retrains.")
    start: float = Field(0.0, ge=0, description="Epoch of the first move of the masks.")
    until: float | None = Field(None, ge=0, description="Epoch of the last move; half of --epochs unless given.")
    every: float = Field(1.0, ge=0.001, description="Epochs between two moves.")
    at: Epochs = Field((), description="Epochs of all moves, in place of start, until and every.")
    remove_dead_units: bool = Field(
        False, description="While retraining, prune what is left without input or output, biases too."
    )
    rewind: FileName | None = Field(
        None, description="Checkpoint whose values the kept weights, and all else, go back to: a lottery ticket."
    )

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        given = [unit for unit in UNITS if getattr(self, unit) is not None]
        if self.criterion == "std":
            if self.threshold is None:
                raise ValueError("criterion std prunes by threshold: give one, like 1.0")
            if len(given) > 1:
                other = next(unit for unit in given if unit != "threshold")
                raise ValueError(f"criterion std takes a threshold and no {other}")
            if self.structure == "row":
                raise ValueError("criterion std judges single weights: leave structure row out")
        elif self.threshold is not None:
            raise ValueError("a threshold goes with criterion std")
        elif len(given) > 1:
            raise ValueError(f"{' and '.join(given)} say the same in two ways: give one")
        elif not given and not self.rules:
            raise ValueError("give a sparsity, like 0.9, or a count or an amount")
        if self.target_ratio is not None:
            self._check_target_ratio()
        elif self.changes("code_bits"):
            raise ValueError("code_bits is for a budget of bytes: give a target_ratio as well")
        if self.plan and (self.unit != "sparsity" or self.structure != "weight"):
            raise ValueError("a plan holds sparsities of single weights: no other unit and no structure goes with it")
        fits, limit = LAYER_LIMITS[self.unit]
        if wrong := [rule.value for rule in self.rules if not fits(rule.value)]:
            hint = did_you_mean_a_fraction(wrong[0]) if self.unit in ("sparsity", "amount") else ""
            raise ValueError(f"{limit}, not {wrong[0]:g}{hint}")
        if self.structure == "row" and self.scope == "global":
            raise ValueError("structure row ranks the rows of one layer: leave scope global out")
        return self

    def _check_target_ratio(self) -> None:
        if self.rules or not self.together or self.structure != "weight":
            raise ValueError(
                "target_ratio has all weights share one budget: leave layer, plan, scope and structure out"
            )

    @model_validator(mode="after")
    def _moves_within_epochs(self) -> Self:
        if self.at:
            self._check_listed_moves()
        elif self.epochs and not self.start <= self.moves_until < self.epochs:
            times = f"{self.start:g} <= {self.moves_until:g} < {self.epochs}"
            raise ValueError(f"start <= until < epochs must hold, not {times}")
        return self

    @model_validator(mode="after")
    def _retrains_as_asked(self) -> Self:
        if not self.epochs and self.criterion == "fisher":
            raise ValueError("criterion fisher needs gradients, and so a network that retrains: give epochs as well")
        if self.criterion == "fisher" and (self.rewind or self.structure == "row"):
            raise ValueError("criterion fisher judges single weights while they train: leave rewind and structure out")
        if not self.epochs and self.remove_dead_units:
            raise ValueError("remove_dead_units needs a network that retrains: give epochs as well")
        if self.rewind and self.epochs and (self.schedule != "oneshot" or self.start or self.at):
            raise ValueError(
                "rewind prunes once, before the network retrains: give schedule oneshot, and a section for each round"
            )
        return self

    def _check_listed_moves(self) -> None:
        if not self.epochs:
            raise ValueError("moves at listed epochs need a network that retrains: give epochs as well")
        if self.start or self.until is not None or self.every != 1:
            raise ValueError("at lists all moves: leave start, until and every out")
        if self.schedule == "oneshot" and len(self.at) > 1:
            raise ValueError("schedule oneshot moves masks once: give one epoch in at")
        if list(self.at) != sorted(set(self.at)) or self.at[-1] >= self.epochs:
            listed = ", ".join(f"{time:g}" for time in self.at)
            raise ValueError(f"the moves in at ascend and lie below the {self.epochs} epochs, not so {listed}")

    @property
    def unit(self) -> Unit:
        """What is asked for, and what the values of rules mean."""
        return next((unit for unit in UNITS if getattr(self, unit) is not None), "sparsity")

    @property
    def together(self) -> bool:
        """Whether all layers share one budget; else each has its own."""
        return (self.scope or ("layer" if self.structure == "row" else "global")) == "global"

    @property
    def planned(self) -> list[Rule]:
        """What the plan asks for single layers."""
        return [Rule.parse(text) for text in self.plan]

    @property
    def layer_rules(self) -> list[Rule]:
        """What is asked for single layers besides the plan, and goes over it."""
        return [Rule.parse(text) for text in self.layer]

    @property
    def rules(self) -> list[Rule]:
        """All that is asked for single layers."""
        return [*self.planned, *self.layer_rules]

    @property
    def moves_until(self) -> float:
        """When masks come to rest."""
        return self.until if self.until is not None else max(self.start, self.epochs / 2)

    @property
    def mask_schedule(self) -> Schedule:
        """The schedule by which masks move while the network retrains; without epochs they move once."""
        if not self.epochs:
            return Schedule("oneshot")
        schedule = Schedule(self.schedule, self.start, self.moves_until, self.every, self.at)
        return schedule if self.amount is None else Schedule("iterative", at=tuple(schedule.moves()))


class QuantizeSettings(ChosenSettings):
    """`dcomp quantize`. Centroids train by Adam: their gradients are sums over very different numbers of weights."""

    conv_bits: BitCount | None = Field(None, description="Bits of a convolution's codes: 2^bits shared values.")
    fc_bits: BitCount | None = Field(None, description="Bits of a fully connected layer's codes.")
    bias_bits: BitCount | None = Field(None, description="Bits for biases and normalization tensors, else left alone.")
    bits: BitRules = Field(
        (),
        description="N for all layers, where --conv-bits or --fc-bits do not say otherwise; REGEX=N for "
        "layers of their own, repeatable; auto: what is worth its bytes.",
    )
    plan: QuantizePlan = Field((), description="Plan of dcomp sensitivity; --bits overrides it.")
    rate_weight: float = Field(
        0.0, alias="lambda", ge=0, description="Weigh bits of codes too: a bit is worth this part of the mean square."
    )
    init: Init = Field("linear", description="Where k-means starts; optimal is exact, slower, and of more bytes.")
    start: int = Field(0, ge=0, description="Epoch at which weights are shared; until then they train, zeros held.")
    optimizer: Optimizer = Field("adam", description="Optimizer.")
    lr: float = Field(0.0002, gt=0, description="Learning rate at the start.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty of the optimizer.")
    codebook_values: CodebookValues = Field(
        "float32", description="Round shared values to this type at the end: codebooks of 16 or more take less."
    )

    @model_validator(mode="after")
    def _some_bits(self) -> Self:
        if not (self.bits_of_kind or self.rules or self.bits_of_all is not None or self.auto):
            raise ValueError("say how many bits, like 8 for conv_bits (--conv-bits) and 5 for fc_bits (--fc-bits)")
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
            raise ValueError(f"each training has a warm-up: it is shorter than {shorter} epochs, not {self.warmup:g}")
        return self

    @property
    def planned(self) -> list[Rule]:
        """The plan's per-layer bits."""
        return [Rule.parse(text) for text in self.plan]

    @property
    def layer_rules(self) -> list[Rule]:
        """Per-layer bits besides the plan's, which they go over."""
        return [Rule.parse(text) for text in self.bits if not speaks_of_all(text)]

    @property
    def bits_of_all(self) -> int | None:
        """Bits of all weights that nothing else is asked for."""
        return next((int(text) for text in self.bits if text.isdecimal()), None)

    @property
    def auto(self) -> bool:
        """Whether weights that nothing else is asked for share as many values as are worth their bytes."""
        return AUTO in self.bits

    @property
    def rules(self) -> list[Rule]:
        """All per-layer bits."""
        return [*self.planned, *self.layer_rules]

    @property
    def bits_of_kind(self) -> dict[Kind, int]:
        """Bits by kind of tensor, for the kinds that were asked for."""
        asked: dict[Kind, int | None] = {"conv": self.conv_bits, "linear": self.fc_bits, "bias": self.bias_bits}
        return {kind: bits for kind, bits in asked.items() if bits is not None}
