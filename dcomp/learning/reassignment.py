"""The last pass over shared weights: codes are assigned again, where fewer bits cost no loss.

For a weight that takes another code's value, d away, the loss changes by about g d + h d^2 / 2 (LeCun et al. 1990,
"Optimal Brain Damage", equation 1, whose g is zero), where h is what squared gradients say of the curvature. Of the
shorter codes each weight has one that costs the least for the bits it saves. Those weights that pay the least for a bit
take theirs: all of them, or half, or half of that, until the loss, measured, is no higher than is allowed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcomp.learning import fisher
from dcomp.learning.datasets import Split
from dcomp.learning.losses import Loss
from dcomp.settings import QuantizeSettings

TRIES = 16
"""Numbers of weights that are tried, each half of the one before."""

EPSILON = 1e-12

CHUNK = 1 << 22
"""Weights, times the values of their codebook, that are compared at a time."""


@dataclass(frozen=True)
class _Shared:
    """A tensor's kept weights: where they are, their codes, each code's value and bits; slope and curvature of each."""

    positions: Tensor
    codes: Tensor
    values: Tensor
    lengths: Tensor
    slopes: Tensor
    curvatures: Tensor

    def cheapest(self) -> tuple[Tensor, Tensor]:
        """The shorter code of each weight that costs least for a bit, and that cost; infinity where there is none."""
        codes, costs = [], []
        for part in torch.arange(len(self.codes), device=self.codes.device).split(max(1, CHUNK // len(self.values))):
            own = self.codes[part]
            away = self.values - self.values[own].unsqueeze(1)
            change = self.slopes[part].unsqueeze(1) * away + self.curvatures[part].unsqueeze(1) * away.square() / 2
            saved = self.lengths[own].unsqueeze(1) - self.lengths
            dear = change.clamp(min=0) / saved - EPSILON * saved  # of those that cost nothing, what saves most
            least = torch.where(saved > 0, dear, math.inf).min(1)
            codes.append(least.indices)
            costs.append(least.values)
        return torch.cat(codes), torch.cat(costs)


def reassign(
    model: nn.Module, parameters: Mapping[str, Tensor], train: Split, settings: QuantizeSettings, loss: Loss
) -> float:
    """Give shared weights of a plain model other codes of their codebooks; zeros stay. The bits that this saves.

    Args:
        model: without constraints.
        parameters: those that share values, each once, under any names.
        train: examples by which the loss is measured.
        settings: by which part the loss may rise (`reassign`); batch size, augmentation, precision and seed.
        loss: what must not rise by more.
    """
    parameters = {name: parameter for name, parameter in parameters.items() if parameter.count_nonzero()}
    if not parameters:
        return 0.0
    slopes, squares = fisher.gradients(model, parameters, train, settings, loss, settings.seed)
    shared = {
        name: _shared(parameter.detach(), slopes[name], squares[name] * settings.batch_size)
        for name, parameter in parameters.items()
    }
    cheaper = {name: own.cheapest() for name, own in shared.items()}
    costs = torch.cat([cost for _, cost in cheaper.values()]).sort().values
    assert settings.reassign is not None  # or nobody had asked
    allowed = _measured(model, train, settings, loss) * (1 + settings.reassign)
    count = int(costs.isfinite().sum())
    for number in range(TRIES):
        taken = count >> number
        if not taken:
            break
        highest = costs[taken - 1]
        codes = {
            name: torch.where(cheaper[name][1] <= highest, cheaper[name][0], shared[name].codes) for name in shared
        }
        _assign(parameters, shared, codes)
        if _measured(model, train, settings, loss) <= allowed:
            return sum(float((own.lengths[own.codes] - own.lengths[codes[name]]).sum()) for name, own in shared.items())
    _assign(parameters, shared, {name: own.codes for name, own in shared.items()})
    return 0.0


def _shared(weight: Tensor, slope: Tensor, curvature: Tensor) -> _Shared:
    positions = weight.reshape(-1).nonzero().squeeze(1)
    values, codes, counts = weight.reshape(-1)[positions].unique(return_inverse=True, return_counts=True)
    lengths = -torch.log2(counts / counts.sum())
    return _Shared(positions, codes, values, lengths, slope.reshape(-1)[positions], curvature.reshape(-1)[positions])


@torch.no_grad()
def _assign(parameters: Mapping[str, Tensor], shared: Mapping[str, _Shared], codes: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        own = shared[name]
        flat = torch.zeros_like(parameter).reshape(-1)
        flat[own.positions] = own.values[codes[name]]
        parameter.copy_(flat.reshape(parameter.shape))


@torch.no_grad()
def _measured(model: nn.Module, train: Split, settings: QuantizeSettings, loss: Loss) -> float:
    return float(torch.stack(list(fisher.losses(model, train, settings, loss, settings.seed))).mean())
