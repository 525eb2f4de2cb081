"""The network in a person's own training loop: its weights as arrays, and what holds them at zero or shared."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dcomp.checkpoints import layers
from dcomp.checkpoints.tensors import Tensors
from dcomp.errors import ArchitectureError, CheckpointError, UsageError, first_line
from dcomp.learning import paths, wrappers
from dcomp.learning.architectures import parameters_of
from dcomp.learning.conversion import lazy_arrays, to_arrays, to_numpy, to_torch
from dcomp.learning.held_weights import HeldWeights, check_dense
from dcomp.learning.running_squares import RunningSquares
from dcomp.quantization.recognition import is_shared

WEIGHTS_PER_VALUE = 8
"""Weights for each value from which on 16-bit weights count as shared: so few values hardly ever come by chance."""


class LoopNetwork:
    """A model and the optimizer that trains it. Names are those of the model's state, without those of wrappers.

    Attributes:
        model: without wrappers.
        optimizer: without wrappers.
        squares: of the gradients that the sections need.
        parameters: for each name in the state the first name of its parameter; None for what is not changed here.
        left_out: the parameters that another optimizer may train.
    """

    def __init__(self, model: nn.Module, optimizer: object, example_inputs: Tensor | None = None) -> None:
        """Take the model, its optimizer, and a batch of inputs if units without paths are to be removed.

        Raises:
            UsageError: the model's parameters are not here, or the optimizer trains none of them.
        """
        if not isinstance(model, nn.Module):
            raise UsageError(f"give the model of the loop, a torch.nn.Module, not a {type(model).__name__}")
        self.model = wrappers.unwrapped(model)
        self.optimizer = wrappers.unwrapped_optimizer(optimizer)
        wrappers.check_weights_are_here(self.model)
        self.squares = RunningSquares()
        self._example_inputs = example_inputs
        self._held = HeldWeights(self.model)
        first_names = parameters_of(self.model)
        self._plain_names = wrappers.plain_names(self.model, first_names)
        self._state_names = {plain: name for name, plain in self._plain_names.items()}
        trained = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        named = {name: self.model.get_parameter(name) for name, first in first_names.items() if name == first}
        if not any(id(parameter) in trained for parameter in named.values()):
            raise UsageError("the optimizer trains no parameter of the model: give the optimizer of this model")
        others = [name for name, parameter in named.items() if parameter.requires_grad and id(parameter) not in trained]
        self._first_parameters = {name: (parameter, parameter.shape) for name, parameter in named.items()}
        self.left_out = [self._plain_names[name] for name in others]
        self.parameters = {
            self._plain_names[name]: None if first is None or first in others else self._plain_names[first]
            for name, first in first_names.items()
        }

    def attach(self, on_gradients: Callable[[], None]) -> None:
        """Hang the hooks on the optimizer; see `HeldWeights.attach`."""
        self._held.attach(self.optimizer, on_gradients)

    def detach(self) -> None:
        """Remove the hooks from the optimizer."""
        self._held.detach()

    def tensors(self) -> Tensors:
        """Return the state; a tensor is read when it is indexed.

        Raises:
            UsageError: parameters were replaced.
        """
        self._check_parameters()
        state = {self._plain_names.get(name, name): value for name, value in self.model.state_dict().items()}
        return lazy_arrays({name: value for name, value in state.items() if isinstance(value, Tensor)})

    def exact_tensors(self) -> dict[str, np.ndarray]:
        """Return the state with zeros and shared values exact, also where a person has changed the weights since.

        Raises:
            CheckpointError: the state holds what safetensors does not have.
            UsageError: parameters were replaced.
        """
        self._check_parameters()
        state = self.model.state_dict()
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        exact = {name: self._held.exact(name, value) if name in parameters else value for name, value in state.items()}
        return to_arrays({self._plain_names.get(name, name): value for name, value in exact.items()})

    def set(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy arrays into parameters."""
        with torch.no_grad():
            for name, array in arrays.items():
                self._parameter(name).copy_(to_torch(array))

    def mask(self, masks: Mapping[str, np.ndarray]) -> None:
        """Hold weights at zero where their mask is False; earlier zeros stay zero."""
        for name, kept in masks.items():
            self._held.mask(self._state_names[name], kept)

    def mask_dead(self) -> None:
        """Hold weights and biases that lie on no path from input to output at zero, except shared ones.

        Raises:
            UsageError: the model does not take the example inputs, or it has layers whose paths are unknown.
        """
        assert isinstance(self._example_inputs, Tensor)  # a compressor refuses sections that need them without any
        modes = {module: module.training for module in self.model.modules()}
        try:
            alive = paths.alive(self.model, self._example_inputs)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise UsageError(f"the model does not take example_inputs: {first_line(error)}") from error
        finally:
            for module, mode in modes.items():
                module.training = mode
        for name, mask in alive.items():
            if self.parameters[self._plain_names[name]] is not None:
                self._held.restrict(name, mask)

    def share(self, shared: Mapping[str, np.ndarray]) -> None:
        """Give tensors these values, and hold them at these."""
        self.set(shared)
        names = [self._state_names[name] for name in shared]
        self._held.release(names)
        for name in names:
            self._held.share(name)

    def squared_gradients(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the mean squared gradients of tensors in the steps since this was last asked.

        Raises:
            UsageError: a tensor had no gradient.
        """
        means = {name: self.squares.mean(name) for name in names}
        if missing := [name for name, mean in means.items() if mean is None]:
            raise UsageError(
                f"{layers.listed(missing)}: no gradient has come yet, and the criterion needs one: "
                "leave frozen layers out (skip), or begin later"
            )
        return {
            name: to_numpy(mean.masked_fill(self._parameter(name) == 0, 0))
            for name, mean in means.items()
            if mean is not None
        }

    def add_squares(self, names: Iterable[str]) -> None:
        """Add the gradients of this step to the squares, as the loop would have them without a GradScaler's scale."""
        scale = getattr(self.optimizer, "grad_scale", None)  # of a fused optimizer, which divides by it itself
        for name in names:
            if (gradient := self._parameter(name).grad) is not None:
                check_dense(gradient)
                self.squares.add(name, gradient, 1.0 if scale is None else scale)

    def restore_squares(self, state: Mapping[str, Any]) -> None:
        """Restore the state of the squares."""
        self.squares.restore(state, {name: self._parameter(name) for name in state["sums"]})

    def hold_compressed(self) -> tuple[list[str], list[str]]:
        """Hold weights that are pruned or shared now, and vectors too if there are such weights.

        A tensor of nothing but zeros trains: fresh layers begin so.

        Returns:
            the names of those that are held as pruned, and as shared.
        """
        candidates = {name: array for name, array in self._changeable() if array.any()}
        held: list[str] = []
        for kinds in (layers.WEIGHTS, ("bias",)):
            names = layers.select(candidates, kinds)
            by_chance = {name for name in names if _may_be_shared_by_chance(candidates[name])}
            held += self._held.hold(self._state_names[name] for name in names if name not in by_chance)
            self.mask({name: candidates[name] != 0 for name in by_chance if not candidates[name].all()})
            if not held:
                break
        counts = self.held_counts()
        return list(counts["masked"]), list(counts["shared"])

    def held_counts(self) -> dict[str, dict[str, int]]:
        """Return the zeros of masked tensors, and the number of values of shared ones."""
        masked, shared = self._held.counts()
        return {
            "masked": {self._plain_names[name]: count for name, count in masked.items()},
            "shared": {self._plain_names[name]: count for name, count in shared.items()},
        }

    def hold_again(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Read masks and codes from weights that a loop was stopped with.

        Args:
            counts: what `held_counts` returned.

        Raises:
            CheckpointError: the weights are others.
        """
        tensors = self.tensors()
        for name, zeros in counts["masked"].items():
            if np.count_nonzero(tensors[name] == 0) < zeros:
                raise _not_loaded(name, f"{zeros} zeros")
        for name, values in counts["shared"].items():
            array = tensors[name]
            if np.unique(array[array != 0]).size > values:
                raise _not_loaded(name, f"{values} values")
        self._held.release()
        for name in counts["masked"]:
            self.mask({name: tensors[name] != 0})
        for name in counts["shared"]:
            self._held.share(self._state_names[name], keeps_state=True)

    def apply_to(self, other: nn.Module) -> None:
        """Give another model of the same names the same zeros, and shared values: the mean of each value's members.

        Raises:
            ArchitectureError: it has other parameters.
            UsageError: parameters of this model were replaced.
        """
        self._check_parameters()
        other = wrappers.unwrapped(other)
        parameters = dict(other.named_parameters(remove_duplicate=False))
        plain = wrappers.plain_names(other, parameters)
        by_name = {plain[name]: parameter for name, parameter in parameters.items()}
        held = {name for counts in self.held_counts().values() for name in counts}
        wrong = [name for name in held if name not in by_name or by_name[name].shape != self._parameter(name).shape]
        if wrong:
            raise ArchitectureError(f"the other model has no {layers.listed(sorted(wrong))} like that of this model")
        with torch.no_grad():
            for name in held:
                by_name[name].copy_(self._held.exact(self._state_names[name], by_name[name]))

    def _check_parameters(self) -> None:
        """Raise UsageError where the model has other parameters than at first, which nothing holds."""
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        replaced = [
            self._plain_names[name]
            for name, (parameter, shape) in self._first_parameters.items()
            if parameters.get(name) is not parameter or parameter.shape != shape
        ]
        if replaced:
            raise UsageError(
                f"{layers.listed(replaced)}: replaced in the model since the compressor began, so nothing holds them: "
                "change the model first, then make its optimizer and its compressor"
            )

    def _parameter(self, name: str) -> nn.Parameter:
        return self.model.get_parameter(self._state_names[name])

    def _changeable(self) -> Iterable[tuple[str, np.ndarray]]:
        """Yield the parameters of weights and biases that may be changed here, by first name."""
        tensors = self.tensors()
        names = [name for name, first in self.parameters.items() if name == first and name in tensors.specs]
        return ((name, tensors[name]) for name in names if layers.kind_of(name, tensors[name]) is not None)


def _may_be_shared_by_chance(array: np.ndarray) -> bool:
    """Tell whether 16-bit weights, which have few values anyway, only look shared."""
    if array.dtype.itemsize > 2 or not is_shared(array):
        return False
    kept = array[array != 0]
    return np.unique(kept).size * WEIGHTS_PER_VALUE > kept.size


def _not_loaded(name: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"the state of the compressor was taken when {name} had {what}, and it has not: load the states of the model "
        "and of the optimizer before that of the compressor"
    )
