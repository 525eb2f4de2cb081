"""The tensors of a checkpoint whose weights share values, the bits of each, and its shared values."""

from collections.abc import Mapping

import ml_dtypes
import numpy as np

from dcomp.checkpoints import layers
from dcomp.checkpoints.layers import Aliases
from dcomp.coding.tuning import MIN_CODEBOOK_IN_PLANES
from dcomp.compression.choice import Choice, ParameterNames, check_finite
from dcomp.errors import UsageError
from dcomp.progress.observer import Observer
from dcomp.quantization import entropy
from dcomp.settings import QuantizeSettings

Weights = Mapping[str, np.ndarray]

AUTO_SIZE = 0
"""In place of bits: as many values as make the file small."""

MAX_AUTO_BITS = 8
"""The most bits that `AUTO_SIZE` chooses."""

AUTO_RATE_WEIGHT = 0.01
"""The weight of a bit for `AUTO_SIZE`, unless the settings give one; see `entropy.cluster_with_rate`."""


class Sharing:
    """The tensors of a checkpoint whose weights are to share values, and the bits of each.

    Attributes:
        bits: of each tensor, by its names; `AUTO_SIZE` where the number of values is chosen here.
    """

    def __init__(
        self,
        tensors: Weights,
        settings: QuantizeSettings,
        observer: Observer,
        network: ParameterNames | None = None,
    ) -> None:
        """Choose the tensors; note kinds that have bits, and no tensor in the checkpoint.

        Raises:
            UsageError: no such layers.
            CheckpointError: weights that are not finite.
        """
        self._settings = settings
        self.bits = _bits_of(tensors, settings, observer, network)
        check_finite({names[0]: tensors[names[0]] for names in self.bits})

    @property
    def names(self) -> list[str]:
        """All names of the tensors."""
        return [name for aliases in self.bits for name in aliases]

    @property
    def start(self) -> int:
        """The epoch at which weights are shared."""
        return self._settings.start

    @property
    def epochs_after(self) -> int:
        """Epochs in which the shared values train."""
        return self._settings.epochs - self._settings.start

    def at_once(self, tensors: Weights, observer: Observer) -> dict[str, np.ndarray]:
        """Return the tensors with their kept weights at no more than 2^bits values each (paper, section 3)."""
        observer.activity("sharing weights")
        rng = np.random.default_rng(self._settings.seed)
        shared: dict[str, np.ndarray] = {}
        smaller: list[str] = []
        for names, bits in self.bits.items():
            weights = tensors[names[0]]
            kept = weights[weights != 0]
            codebook, codes = _share(kept, bits, self._settings, rng)
            shared |= dict.fromkeys(names, from_codebook(weights != 0, codebook, codes))
            if bits == AUTO_SIZE:
                observer.note(f"{names[0]}: {codebook.size} shared values chosen")
            elif codebook.size < 2**bits:
                smaller.append(f"{names[0]} {codebook.size} of {2**bits}")
        if smaller:
            observer.note(f"smaller codebooks than the bits allow, which saves bytes: {layers.listed(smaller)}")
        observer.finished()
        return shared

    def rounded(self, tensors: Weights) -> dict[str, np.ndarray]:
        """Return the tensors that change when shared values are rounded to the type that the settings name."""
        if self._settings.codebook_values == "float32":
            return {}
        dtype = np.dtype(ml_dtypes.bfloat16 if self._settings.codebook_values == "bfloat16" else np.float16)
        return {name: _rounded(tensors[name], dtype) for name in self.names}


def from_codebook(kept: np.ndarray, codebook: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return weights of the shape of the mask `kept`: `codebook[codes]` where it is True, zero elsewhere."""
    weights = np.zeros(kept.shape, codebook.dtype)
    weights[kept] = codebook[codes]
    return weights


def _bits_of(
    tensors: Weights, settings: QuantizeSettings, observer: Observer, network: ParameterNames | None
) -> dict[Aliases, int]:
    """Return the bits of each tensor, by its names.

    Raises:
        UsageError: no tensor has any.
    """
    by_kind = settings.bits_of_kind
    for kind in by_kind:
        if not layers.select(tensors, (kind,)):
            observer.note(f"the checkpoint has no {kind} tensor to quantize")
    kinds = tuple(dict.fromkeys([*layers.WEIGHTS, *by_kind]))
    choice = Choice(tensors, kinds, settings, "tensor to quantize", network)
    for note in choice.notes():
        observer.note(note)
    by_rule = choice.values()
    kind_of = {names: layers.kind_of(names[0], tensors[names[0]]) for names in choice.aliases}
    bits = {names: by_kind[kind] for names, kind in kind_of.items() if kind in by_kind}
    bits |= {names: int(by_rule[names[0]]) for names in choice.aliases if names[0] in by_rule}
    if (default := AUTO_SIZE if settings.auto else settings.bits_of_all) is not None:
        bits |= {names: default for names, kind in kind_of.items() if names not in bits and kind in layers.WEIGHTS}
    if not bits and not by_kind:
        raise UsageError(f"no bits are given for {', '.join(choice.names)}: give conv_bits (--conv-bits) or fc_bits")
    if not bits:
        chosen = " that only and skip choose" if settings.only or settings.skip else ""
        raise UsageError(f"the checkpoint has no {' or '.join(by_kind)} tensor to quantize{chosen}")
    return bits


def _share(
    kept: np.ndarray, bits: int, settings: QuantizeSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return codebook and codes of weights; for `AUTO_SIZE` the bytes of the codebook count too."""
    if bits != AUTO_SIZE:
        return entropy.cluster_with_rate(kept, bits, settings.rate_weight, settings.init, rng)
    bytes_of_value = min(kept.itemsize, 4 if settings.codebook_values == "float32" else 2)
    weight = settings.rate_weight or AUTO_RATE_WEIGHT

    def codebook_bits(size: int) -> float:
        return 8 * size * (kept.itemsize if size < MIN_CODEBOOK_IN_PLANES else bytes_of_value)

    return entropy.cluster_with_rate(kept, MAX_AUTO_BITS, weight, settings.init, rng, codebook_bits=codebook_bits)


def _rounded(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the array with its elements rounded to the values of a smaller type; no element becomes zero."""
    limits = ml_dtypes.finfo(dtype)
    nearest = np.clip(array, limits.min, limits.max).astype(dtype).astype(array.dtype)
    smallest = np.copysign(np.asarray(limits.smallest_subnormal, array.dtype), array)
    return np.where((nearest == 0) & (array != 0), smallest, nearest)
