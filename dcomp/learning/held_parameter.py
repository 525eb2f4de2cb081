"""A parameter that is held: pruned weights stay zero, and the members of a shared value equal.

Both classes change gradients before a step of the optimizer, and weights after it; see `held_weights`.
"""

import torch
from torch import Tensor

INTEGER_OF_SIZE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integers with the bytes of a floating-point type."""


class Mask:
    """The pruned weights of a parameter, which stay zero."""

    def __init__(self, kept: Tensor) -> None:
        """Take a bool tensor of the parameter's shape and device, True where a weight is kept."""
        self._bits = _all_bits(kept)

    def keep_only(self, kept: Tensor) -> None:
        """Prune further weights."""
        self._bits &= _all_bits(kept)

    @property
    def count(self) -> int:
        """How many weights are pruned."""
        return self._bits.numel() - int(self._bits.count_nonzero())

    def join_gradient(self, gradient: Tensor) -> None:
        """Set the gradient of pruned weights to zero, in place."""
        self._clear(gradient)

    def trained_part(self, gradient: Tensor) -> Tensor:
        """Return the gradient of what trains, after `join_gradient`."""
        return gradient

    def enforce(self, weights: Tensor, *, are_equal: bool) -> None:
        """Set pruned weights to zero, in place."""
        self._clear(weights)

    def _clear(self, tensor: Tensor) -> None:
        """Set all bits of pruned elements to zero, in place: on a CPU a seventh of the time of `masked_fill_`."""
        tensor.view(INTEGER_OF_SIZE[tensor.element_size()]).bitwise_and_(self._bits)


class Codebook:
    """The shared values of a parameter, and its zeros.

    Attributes:
        positions: of the kept weights in the parameter's memory, in row-major order of the weights; shape (n,).
        codes: the value of each, shape (n,).
        first: the position of a member of each value, shape (k,).
    """

    def __init__(self, weights: Tensor) -> None:
        """Read the distinct values of weights."""
        row_major = weights.detach().reshape(-1)
        kept = row_major.nonzero().squeeze(1)
        values, self.codes = row_major[kept].unique(return_inverse=True)
        places = torch.arange(weights.numel(), device=weights.device)
        memory_places = torch.empty_like(weights, dtype=torch.long)  # with the strides of the weights
        _flat(memory_places).copy_(places)
        self.positions = memory_places.reshape(-1)[kept]
        members = torch.empty(len(values), dtype=torch.long, device=weights.device)
        members.scatter_reduce_(0, self.codes, places[: len(kept)], "amin", include_self=False)
        self.first = self.positions[members]
        self._counts = torch.bincount(self.codes, minlength=len(values))

    def join_gradient(self, gradient: Tensor) -> None:
        """Give each member of a value the sum of all its members' gradients, in place; pruned weights get zero."""
        self._set(gradient, self._sums(gradient).to(gradient.dtype))

    def trained_part(self, gradient: Tensor) -> Tensor:
        """Return the gradients of the values, shape (k,), after `join_gradient`."""
        return _flat(gradient).index_select(0, self.first)

    def enforce(self, weights: Tensor, *, are_equal: bool) -> None:
        """Make all members of a value equal and pruned weights zero, in place; a value at zero is moved off it.

        Args:
            weights: of the parameter's shape and strides.
            are_equal: whether the members are equal but for rounding, so that one of them is the value; else their mean
                is.
        """
        values = _flat(weights).index_select(0, self.first)
        if not are_equal:  # the mean of the differences to a member is exact where all members are equal
            differences = torch.zeros_like(weights)
            self._set(differences, values)
            differences.sub_(weights)
            values = values - (self._sums(differences) / self._counts).to(values.dtype)
        self._set(weights, values.masked_fill_(values == 0, torch.finfo(values.dtype).tiny))

    def _sums(self, tensor: Tensor) -> Tensor:
        """Return the sum over the members of each value, shape (k,), in float32 at least."""
        members = _flat(tensor).index_select(0, self.positions)
        members = members if members.element_size() >= 4 else members.float()
        return members.new_zeros(len(self.first)).scatter_add_(0, self.codes, members)

    def _set(self, tensor: Tensor, values: Tensor) -> None:
        _flat(tensor).zero_().scatter_(0, self.positions, values.index_select(0, self.codes))


def _all_bits(kept: Tensor) -> Tensor:
    """Return int8 numbers with all bits set where a mask is True, and none elsewhere."""
    return -kept.to(torch.int8)


def _flat(tensor: Tensor) -> Tensor:
    """Return a view of all elements in the order of memory; strides, as of channels-last weights, do not count."""
    return tensor.as_strided((tensor.numel(),), (1,))
