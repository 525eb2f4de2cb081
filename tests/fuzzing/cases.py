"""What a kind of input is to the fuzzer, and how a checkpoint goes through all that files go through."""

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dcomp import outputs, stages
from dcomp.checkpoints import dtypes, tensors
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.container.reader import Container
from dcomp.container.verification import verify
from dcomp.errors import DcompError
from dcomp.reporting import listing

MAX_MEMORY = 1 << 24

Arrays = dict[str, tuple[str, tuple[int, ...], bytes]]
"""dtype, shape and bytes of tensors, by name."""


class FindingError(Exception):
    """A promise that was broken."""


@dataclass(frozen=True)
class Case:
    """A damaged file, what it was made of, and whether checksums or sizes were set right after the damage."""

    data: bytes
    base: bytes
    mended: bool


@dataclass(frozen=True)
class Kind:
    """An input of dcomp: how its files end, how a case is made of a random generator, and who judges it.

    `judge` gives what came of a case, in a word or two, and raises FindingError, or what dcomp should not have raised.
    """

    suffix: str
    make: Callable[[np.random.Generator], Case]
    judge: Callable[[Case, Path], str]


def arrays_of(loaded: Checkpoint) -> Arrays:
    """The tensors of a checkpoint as their bytes."""
    return {
        name: (dtypes.NAME_OF[array.dtype], array.shape, dtypes.bit_patterns(array).tobytes())
        for name, array in tensors.stream(loaded.tensors)
    }


def stricter(error: Exception, reasons: Mapping[str, str], reader: str) -> str:
    """The outcome of a file that a reader reads and dcomp refuses: one of the reasons, regular expressions, fits.

    Raises:
        FindingError: none does.
    """
    is_known = any(re.search(words, str(error)) for words in reasons.values())
    demand(is_known, f"{reader} reads what dcomp refuses: {error}")
    return "stricter"


def demand(condition: bool, sentence: str) -> None:
    """Raise FindingError with the sentence unless the condition holds."""
    if not condition:
        raise FindingError(sentence)


def through_all_commands(loaded: Checkpoint) -> bytes:
    """Encode, list, report, verify and decode a checkpoint; the safetensors file that comes out.

    Raises:
        DcompError: it cannot be encoded.
        FindingError: it could, and another stage disagrees.
    """
    buffer = io.BytesIO()
    stages.encode(loaded, buffer)
    try:
        container = Container(buffer.getvalue())
        listing.list_container(container)
        stages.report(container)
        verify(container, loaded)
        restored = io.BytesIO()
        outputs.save(stages.decode(container), restored)
    except DcompError as error:
        raise FindingError(f"encoded, and then refused: {error}") from error
    return restored.getvalue()
