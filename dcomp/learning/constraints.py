"""Pruned and shared weights that stay so while the network trains.

Each constraint is a `torch.nn.utils.parametrize` parametrization: the module computes its weight from
something smaller at every use. The optimizer sees only that, so no training loop knows about it:

- `Mask`       weight = original * mask
- `Codebook`   weight = centroids[codes], zero elsewhere; the trained parameter is the centroids alone, and
               autograd gives each the sum of its members' gradients (paper, section 3.3, equation 3)

`release` computes the weights a last time and leaves a plain model.
"""

from collections.abc import Iterable, Iterator

import ml_dtypes
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dcomp.checkpoints import dtypes
from dcomp.checkpoints.tensors import Spec, Tensors
from dcomp.learning.conversion import numpy_dtype, to_numpy
from dcomp.quantization import MAX_BITS

FEW = 256
"""Values that so many weights hardly ever have by chance."""

HALVES = (ml_dtypes.bfloat16, np.float16)


class Mask(nn.Module):
    """Holds pruned weights at zero. The mask is a buffer, so it travels with the model's state."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """Weight -> masked weight, both of the layer's shape."""
        return torch.where(self.mask, weight, 0)


class Codebook(nn.Module):
    """Holds weights at shared values; the layer's parameter becomes the centroids, shape (k,)."""

    positions: Tensor
    codes: Tensor

    def __init__(self, shape: torch.Size, positions: Tensor, codes: Tensor, centroids: Tensor) -> None:
        super().__init__()
        self.shape = shape
        self._initial = centroids
        self.register_buffer("positions", positions)
        self.register_buffer("codes", codes)

    def forward(self, centroids: Tensor) -> Tensor:
        """Centroids (k,) -> weight of the layer's shape. A centroid at zero is moved off it, or it would prune."""
        tiny = torch.finfo(centroids.dtype).tiny
        centroids = torch.where(centroids == 0, tiny, centroids)
        flat = centroids.new_zeros(self.shape.numel())
        return flat.index_copy(0, self.positions, centroids.index_select(0, self.codes)).reshape(self.shape)

    def right_inverse(self, _: Tensor) -> Tensor:
        """The centroids that the constraint was made with."""
        return self._initial


def mask(model: nn.Module, name: str, kept: np.ndarray) -> None:
    """Set the mask of the parameter `name`; what an earlier mask pruned stays pruned.

    Args:
        model: holds the parameter.
        name: as in the model's state before any constraint, like `conv1.weight`.
        kept: bool, of the parameter's shape.
    """
    module, attribute = _locate(model, name)
    held = _constraint(module, attribute)
    kept_tensor = torch.tensor(kept, device=getattr(module, attribute).device)
    if not isinstance(held, Mask):
        _constrain(model, name, Mask(kept_tensor))
    else:
        held.mask &= kept_tensor


def restrict(model: nn.Module, name: str, kept: np.ndarray) -> None:
    """Take from the mask of the parameter `name` what is not `kept` as well; a shared one is left as it is."""
    module, attribute = _locate(model, name)
    held = _constraint(module, attribute)
    if isinstance(held, Mask):
        held.mask &= torch.from_numpy(kept).to(held.mask.device)
    elif held is None:
        _constrain(model, name, Mask(torch.tensor(kept, device=getattr(module, attribute).device)))


def share(model: nn.Module, name: str) -> None:
    """Hold the parameter `name` at the distinct values it has now, and its zeros at zero."""
    module, attribute = _locate(model, name)
    if _constraint(module, attribute) is None:  # it is where its weight is tied to one that is shared
        weight = getattr(module, attribute).detach()
        flat = weight.reshape(-1)
        positions = flat.nonzero().squeeze(1)
        centroids, codes = flat[positions].unique(return_inverse=True)
        _constrain(model, name, Codebook(weight.shape, positions, codes, centroids))


def hold(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Hold what parameters already are: shared ones shared, pruned ones pruned; the names of those that are either."""
    held = []
    for name in names:
        module, attribute = _locate(model, name)
        if _constraint(module, attribute) is not None or not isinstance(getattr(module, attribute), nn.Parameter):
            continue
        weight = to_numpy(getattr(module, attribute))
        if weight.ndim == 1 and np.all(weight == weight[0]):  # scales of one and shifts of zero, as they are made
            continue
        if is_shared(weight):
            share(model, name)
        elif np.any(weight == 0):
            mask(model, name, weight != 0)
        else:
            continue
        held.append(name)
    return held


def is_shared(weight: np.ndarray) -> bool:
    """Whether few enough values stand for the kept weights to be a codebook.

    Up to 256 values are, for at least eight weights to seven values: so few weights hardly ever meet by chance, not
    even in 16 bits. Up to 65,536 are, for at least two weights each, unless 16 bits can hold them (`is_unclear`).
    """
    values, count = _few_values(weight)
    if not 0 < values.size <= count * 7 // 8:
        return False
    return values.size <= FEW or (values.size <= count // 2 and not _fit_16_bits(values))


def is_unclear(weight: np.ndarray) -> bool:
    """Whether values may be shared or not: more than 256 that 16 bits hold, as all weights of a bfloat16 network."""
    values, count = _few_values(weight)
    return FEW < values.size <= count // 2 and _fit_16_bits(values)


def _few_values(weight: np.ndarray) -> tuple[np.ndarray, int]:
    """The distinct values of the kept weights, none if there are more than a codebook has, and the number of those."""
    kept = dtypes.bit_patterns(weight[weight != 0])
    if np.unique(kept[: 4 << MAX_BITS]).size > 1 << MAX_BITS:  # of a large tensor that is not shared, the first tell
        return weight[:0].reshape(-1), kept.size
    values = np.unique(kept).view(weight.dtype)
    return (values if values.size <= 1 << MAX_BITS else values[:0]), kept.size


def _fit_16_bits(values: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return any(np.array_equal(values.astype(kind).astype(values.dtype), values) for kind in HALVES)


def unclear(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Those of the parameters that are not held, and of which `is_unclear` whether they are shared."""
    places = ((name, *_locate(model, name)) for name in names)
    free = [name for name, module, attribute in places if _constraint(module, attribute) is None]
    return [name for name in free if is_unclear(effective(model, name))]


def sparsities(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Zeros and size of each weight that is no bias, by the name that it has without constraints."""
    with torch.no_grad():
        weights = {name: tensor for name, tensor in _effective_parameters(model) if tensor.ndim > 1}
        return {name: (int((weight == 0).sum()), weight.numel()) for name, weight in weights.items()}


def effective(model: nn.Module, name: str) -> np.ndarray:
    """The parameter `name` as the network uses it, constraints applied."""
    module, attribute = _locate(model, name)
    with torch.no_grad():
        return to_numpy(getattr(module, attribute))


def trained(model: nn.Module, name: str) -> Tensor:
    """What trains for the parameter `name`, of its shape: what lies behind its mask if it is under one."""
    module, attribute = _locate(model, name)
    held = isinstance(_constraint(module, attribute), Mask)
    return _parameter(module, attribute) if held else getattr(module, attribute)


def effective_tensors(model: nn.Module) -> Tensors:
    """All weights that are no biases as the network uses them, constraints applied; each is read when asked for."""
    specs = {
        name: Spec(numpy_dtype(tensor, name), tuple(tensor.shape))
        for name, tensor in _effective_parameters(model)
        if tensor.ndim > 1
    }
    return Tensors(specs, lambda names: [effective(model, name) for name in names])


def release(model: nn.Module) -> None:
    """Write constrained weights out and take the constraints off: a plain model is left, tied weights still tied."""
    held = [
        (module, attribute) for module in model.modules() for attribute in list(getattr(module, "parametrizations", ()))
    ]
    with torch.no_grad():
        weights = {id(_parameter(*place)): (_parameter(*place), getattr(*place).clone()) for place in held}
        for module, attribute in held:
            parametrize.remove_parametrizations(module, attribute, leave_parametrized=False)
        for parameter, weight in weights.values():
            parameter.data = weight


def _constrain(model: nn.Module, name: str, constraint: nn.Module) -> None:
    """Put a constraint on a parameter, wherever it is used: tied weights stay tied."""
    module, attribute = _locate(model, name)
    parameter = getattr(module, attribute)
    places = [
        (user, key)
        for user in model.modules()
        for key, value in user.named_parameters(recurse=False)
        if value is parameter
    ]
    for user, key in places:  # unsafe: a second place of a codebook finds centroids where its weight was
        parametrize.register_parametrization(user, key, constraint, unsafe=(user, key) != (module, attribute))


def _parameter(module: nn.Module, attribute: str) -> nn.Parameter:
    """What trains under a constraint; the same for all places of a tied weight."""
    return module.parametrizations[attribute].original  # type: ignore[index,union-attr]  # a ParametrizationList


def _effective_parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for path, module in model.named_modules():
        if path.rpartition(".")[0].endswith("parametrizations"):
            continue
        names = [
            *getattr(module, "parametrizations", ()),
            *(name for name, _ in module.named_parameters(recurse=False)),
        ]
        for name in names:
            yield f"{path}.{name}".lstrip("."), getattr(module, name)


def _locate(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    return model.get_submodule(path), attribute


def _constraint(module: nn.Module, attribute: str) -> nn.Module | None:
    if not parametrize.is_parametrized(module, attribute):
        return None
    return module.parametrizations[attribute][0]  # type: ignore[index,return-value]  # a ParametrizationList
