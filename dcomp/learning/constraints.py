"""Pruned and shared weights that stay so while the network trains.

Each constraint is a `torch.nn.utils.parametrize` parametrization: at every use the module computes its weight from the
tensor that trains. The optimizer sees that tensor alone, so a training loop needs no code for constraints:

- `Mask`       weight = original * mask
- `Codebook`   weight = centroids[codes], zero elsewhere; the trained parameter is the centroids alone, and
               autograd gives each the sum of its members' gradients (paper, section 3.3, equation 3)

`release` computes the weights once more and leaves a plain model.
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

MAX_FEW_VALUES = 256
"""Values up to which a tensor counts as shared: so few hardly ever come by chance."""

HALVES = (ml_dtypes.bfloat16, np.float16)


class Mask(nn.Module):
    """Holds pruned weights at zero. The mask is a buffer, so it travels with the model's state."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the masked weight, of the layer's shape."""
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
        """Return the weight, of the layer's shape; a centroid at zero is moved off it, or it would prune."""
        tiny = torch.finfo(centroids.dtype).tiny
        centroids = torch.where(centroids == 0, tiny, centroids)
        flat = centroids.new_zeros(self.shape.numel())
        return flat.index_copy(0, self.positions, centroids.index_select(0, self.codes)).reshape(self.shape)

    def right_inverse(self, _: Tensor) -> Tensor:
        """Return the centroids that the constraint began with."""
        return self._initial


def mask(model: nn.Module, name: str, kept: np.ndarray) -> None:
    """Set the mask of the parameter `name`; what an earlier mask pruned stays pruned.

    Args:
        model: holds the parameter.
        name: as in the model's state before any constraint, like `conv1.weight`.
        kept: bool, of the parameter's shape.
    """
    module, attribute = _locate(model, name)
    constraint = _constraint(module, attribute)
    kept_tensor = torch.tensor(kept, device=getattr(module, attribute).device)
    if not isinstance(constraint, Mask):
        _constrain(model, name, Mask(kept_tensor))
    else:
        constraint.mask &= kept_tensor


def restrict(model: nn.Module, name: str, kept: np.ndarray) -> None:
    """Remove what is not `kept` from the mask of the parameter `name`; a shared parameter stays as it is."""
    module, attribute = _locate(model, name)
    constraint = _constraint(module, attribute)
    if isinstance(constraint, Mask):
        constraint.mask &= torch.from_numpy(kept).to(constraint.mask.device)
    elif constraint is None:
        _constrain(model, name, Mask(torch.tensor(kept, device=getattr(module, attribute).device)))


def share(model: nn.Module, name: str) -> None:
    """Hold the parameter `name` at the distinct values it has now, and its zeros at zero."""
    module, attribute = _locate(model, name)
    if _constraint(module, attribute) is None:  # a weight that is tied to a shared one has a constraint
        weight = getattr(module, attribute).detach()
        flat = weight.reshape(-1)
        positions = flat.nonzero().squeeze(1)
        centroids, codes = flat[positions].unique(return_inverse=True)
        _constrain(model, name, Codebook(weight.shape, positions, codes, centroids))


def hold(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Constrain the parameters that are shared or pruned now, and return their names."""
    constrained = []
    for name in names:
        module, attribute = _locate(model, name)
        if _constraint(module, attribute) is not None or not isinstance(getattr(module, attribute), nn.Parameter):
            continue
        weight = to_numpy(getattr(module, attribute))
        if weight.ndim == 1 and np.all(weight == weight[0]):  # fresh scales are all one, fresh shifts all zero
            continue
        if is_shared(weight):
            share(model, name)
        elif np.any(weight == 0):
            mask(model, name, weight != 0)
        else:
            continue
        constrained.append(name)
    return constrained


def is_shared(weight: np.ndarray) -> bool:
    """Tell whether the kept weights have so few values that these are a codebook.

    Up to 256 values are a codebook if there are at least eight weights for seven values. Up to 65,536 are one if there
    are at least two weights for each, unless 16 bits can hold the values (`is_unclear`).
    """
    values, count = _few_values(weight)
    if not 0 < values.size <= count * 7 // 8:
        return False
    return values.size <= MAX_FEW_VALUES or (values.size <= count // 2 and not _fit_16_bits(values))


def is_unclear(weight: np.ndarray) -> bool:
    """Tell whether nothing shows if values are shared: more than 256 that 16 bits hold, as bfloat16 weights are."""
    values, count = _few_values(weight)
    return MAX_FEW_VALUES < values.size <= count // 2 and _fit_16_bits(values)


def _few_values(weight: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the distinct values of the kept weights, none if a codebook cannot hold them, and the weights' count."""
    kept = dtypes.bit_patterns(weight[weight != 0])
    if np.unique(kept[: 4 << MAX_BITS]).size > 1 << MAX_BITS:  # the first weights of a large tensor often suffice
        return weight[:0].reshape(-1), kept.size
    values = np.unique(kept).view(weight.dtype)
    return (values if values.size <= 1 << MAX_BITS else values[:0]), kept.size


def _fit_16_bits(values: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return any(np.array_equal(values.astype(kind).astype(values.dtype), values) for kind in HALVES)


def unclear(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Return the parameters without a constraint that may be shared or not (`is_unclear`)."""
    places = ((name, *_locate(model, name)) for name in names)
    free = [name for name, module, attribute in places if _constraint(module, attribute) is None]
    return [name for name in free if is_unclear(effective(model, name))]


def sparsities(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Return zeros and size of each weight that is no bias, by its name without constraints."""
    with torch.no_grad():
        weights = {name: tensor for name, tensor in _effective_parameters(model) if tensor.ndim > 1}
        return {name: (int((weight == 0).sum()), weight.numel()) for name, weight in weights.items()}


def effective(model: nn.Module, name: str) -> np.ndarray:
    """Return the parameter `name` as the network uses it, constraints applied."""
    module, attribute = _locate(model, name)
    with torch.no_grad():
        return to_numpy(getattr(module, attribute))


def trained(model: nn.Module, name: str) -> Tensor:
    """Return the tensor of the parameter's shape that trains: of a masked parameter, the one before its mask."""
    module, attribute = _locate(model, name)
    is_masked = isinstance(_constraint(module, attribute), Mask)
    return _parameter(module, attribute) if is_masked else getattr(module, attribute)


def effective_tensors(model: nn.Module) -> Tensors:
    """Return all weights that are no biases as the network uses them; each is read when it is indexed."""
    specs = {
        name: Spec(numpy_dtype(tensor, name), tuple(tensor.shape))
        for name, tensor in _effective_parameters(model)
        if tensor.ndim > 1
    }
    return Tensors(specs, lambda names: [effective(model, name) for name in names])


def release(model: nn.Module) -> None:
    """Compute constrained weights once more and remove the constraints; tied weights stay tied."""
    places = [
        (module, attribute) for module in model.modules() for attribute in list(getattr(module, "parametrizations", ()))
    ]
    with torch.no_grad():
        weights = {id(_parameter(*place)): (_parameter(*place), getattr(*place).clone()) for place in places}
        for module, attribute in places:
            parametrize.remove_parametrizations(module, attribute, leave_parametrized=False)
        for parameter, weight in weights.values():
            parameter.data = weight


def _constrain(model: nn.Module, name: str, constraint: nn.Module) -> None:
    """Constrain a parameter wherever it is used: tied weights stay tied."""
    module, attribute = _locate(model, name)
    parameter = getattr(module, attribute)
    places = [
        (user, key)
        for user in model.modules()
        for key, value in user.named_parameters(recurse=False)
        if value is parameter
    ]
    for user, key in places:  # unsafe: in its second place a codebook has centroids already
        parametrize.register_parametrization(user, key, constraint, unsafe=(user, key) != (module, attribute))


def _parameter(module: nn.Module, attribute: str) -> nn.Parameter:
    """Return the parameter that trains under a constraint; it is the same in all places of a tied weight."""
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
