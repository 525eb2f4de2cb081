"""What the settings of `quantize` ask of a checkpoint: which tensors share how many values, and those values."""

from collections.abc import Mapping

import numpy as np

from dcomp import layers
from dcomp.compression import choice
from dcomp.errors import UsageError
from dcomp.observer import Observer
from dcomp.quantization import entropy
from dcomp.settings import QuantizeSettings


def bits_of(tensors: Mapping[str, np.ndarray], settings: QuantizeSettings, observer: Observer) -> dict[str, int]:
    """The bits of each tensor that is to share values; kinds asked for that are not there are told.

    Raises:
        UsageError: no such layers.
        CheckpointError: weights that are not finite.
    """
    by_kind = settings.bits_of_kind
    for kind in by_kind:
        if not layers.select(tensors, (kind,)):
            observer.note(f"the checkpoint has no {kind} tensor to quantize")
    candidates = choice.names(
        tensors, tuple(dict.fromkeys([*layers.WEIGHTS, *by_kind])), settings, "tensor to quantize"
    )
    kinds = {name: layers.kind_of(name, tensors[name]) for name in candidates}
    bits = {name: by_kind[kind] for name, kind in kinds.items() if kind in by_kind}
    bits |= {name: int(value) for name, value in layers.apply_rules(candidates, settings.rules).items()}
    if not bits:
        left = " that only and skip leave" if settings.only or settings.skip else ""
        raise UsageError(f"the checkpoint has no {' or '.join(by_kind)} tensor to quantize{left}")
    choice.check_finite({name: tensors[name] for name in bits})
    return bits


def shared(
    tensors: Mapping[str, np.ndarray], bits: Mapping[str, int], settings: QuantizeSettings, observer: Observer
) -> dict[str, np.ndarray]:
    """The tensors named by `bits`, their kept weights at no more than 2^bits values each (paper, section 3)."""
    rng = np.random.default_rng(settings.seed)
    made: dict[str, np.ndarray] = {}
    for name, own_bits in bits.items():
        weights = tensors[name]
        kept = weights[weights != 0]
        codebook, codes = entropy.share(kept, own_bits, settings.rate_weight, settings.init, rng)
        made[name] = np.zeros_like(weights)
        made[name][weights != 0] = codebook[codes]
        if codebook.size < 2**own_bits:
            observer.note(f"{name}: {codebook.size} values, fewer than the {2**own_bits} that {own_bits} bits allow")
    return made
