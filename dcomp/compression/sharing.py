"""What the settings of `quantize` ask of a checkpoint: which tensors share how many values, and those values."""

from collections.abc import Iterable, Mapping

import ml_dtypes
import numpy as np

from dcomp.checkpoints import layers
from dcomp.checkpoints.layers import Aliases
from dcomp.coding.values import SMALLEST_IN_PLANES
from dcomp.compression.choice import Choice, ParameterNames, check_finite
from dcomp.errors import UsageError
from dcomp.progress.observer import Observer
from dcomp.quantization import entropy
from dcomp.settings import QuantizeSettings
from dcomp.settings.fields import CodebookValues

FOUND = 0
"""In place of bits: as many as are worth their bytes."""

FOUND_WITHIN = 8
"""Bits that are found are no more than so many."""

RATE_WEIGHT = 0.01
"""What a bit is worth where bits are found and nothing is said about it."""


def rounded(tensors: Mapping[str, np.ndarray], names: Iterable[str], values: CodebookValues) -> dict[str, np.ndarray]:
    """The tensors named, their elements rounded to what a smaller type can hold; what is not zero stays so."""
    kind = ml_dtypes.bfloat16 if values == "bfloat16" else np.dtype(values)
    limits = ml_dtypes.finfo(kind)
    made = {}
    for name in names:
        array = tensors[name]
        nearest = np.clip(array, limits.min, limits.max).astype(kind).astype(array.dtype)
        least = np.copysign(np.asarray(limits.smallest_subnormal, array.dtype), array)
        made[name] = np.where((nearest == 0) & (array != 0), least, nearest)
    return made


def bits_of(
    tensors: Mapping[str, np.ndarray],
    settings: QuantizeSettings,
    observer: Observer,
    network: ParameterNames | None = None,
) -> dict[Aliases, int]:
    """The bits of each tensor that is to share values, by its names; what was asked for and is not there is told.

    Raises:
        UsageError: no such layers.
        CheckpointError: weights that are not finite.
    """
    by_kind = settings.bits_of_kind
    for kind in by_kind:
        if not layers.select(tensors, (kind,)):
            observer.note(f"the checkpoint has no {kind} tensor to quantize")
    kinds = tuple(dict.fromkeys([*layers.WEIGHTS, *by_kind]))
    choice = Choice(tensors, kinds, settings, "tensor to quantize", network)
    for note in choice.notes():
        observer.note(note)
    own = choice.values()
    kind_of = {names: layers.kind_of(names[0], tensors[names[0]]) for names in choice.aliases}
    bits = {names: by_kind[kind] for names, kind in kind_of.items() if kind in by_kind}
    bits |= {names: int(own[names[0]]) for names in choice.aliases if names[0] in own}
    if (others := FOUND if settings.auto else settings.bits_of_all) is not None:
        bits |= {names: others for names, kind in kind_of.items() if names not in bits and kind in layers.WEIGHTS}
    if not bits and not by_kind:
        raise UsageError(f"nothing is asked for {', '.join(choice.names)}: give conv_bits (--conv-bits) or fc_bits")
    if not bits:
        left = " that only and skip leave" if settings.only or settings.skip else ""
        raise UsageError(f"the checkpoint has no {' or '.join(by_kind)} tensor to quantize{left}")
    check_finite({names[0]: tensors[names[0]] for names in bits})
    return bits


def shared(
    tensors: Mapping[str, np.ndarray], bits: Mapping[Aliases, int], settings: QuantizeSettings, observer: Observer
) -> dict[str, np.ndarray]:
    """The tensors that `bits` has, their kept weights at no more than 2^bits values each (paper, section 3)."""
    rng = np.random.default_rng(settings.seed)
    made: dict[str, np.ndarray] = {}
    smaller: list[str] = []
    for names, own_bits in bits.items():
        weights = tensors[names[0]]
        kept = weights[weights != 0]
        codebook, codes = _shared_values(kept, own_bits, settings, rng)
        result = np.zeros_like(weights)
        result[weights != 0] = codebook[codes]
        made |= dict.fromkeys(names, result)
        if own_bits == FOUND:
            observer.note(f"{names[0]}: {codebook.size} values are worth their bytes")
        elif codebook.size < 2**own_bits:
            smaller.append(f"{names[0]} {codebook.size} of {2**own_bits}")
    if smaller:
        observer.note(f"smaller codebooks than the bits allow, which saves bytes: {layers.listed(smaller)}")
    return made


def _shared_values(
    kept: np.ndarray, bits: int, settings: QuantizeSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Codebook and codes; with bits that are to be found, what the codebook takes is weighed as well."""
    if bits != FOUND:
        return entropy.cluster_with_rate(kept, bits, settings.rate_weight, settings.init, rng)
    narrow = min(kept.itemsize, 4 if settings.codebook_values == "float32" else 2)
    weight = settings.rate_weight or RATE_WEIGHT

    def codebook_bits(size: int) -> float:
        return 8 * size * (kept.itemsize if size < SMALLEST_IN_PLANES else narrow)

    return entropy.cluster_with_rate(kept, FOUND_WITHIN, weight, settings.init, rng, codebook_bits=codebook_bits)
