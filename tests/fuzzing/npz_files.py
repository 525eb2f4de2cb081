"""Damaged .npz files: dcomp reads what numpy reads of them, to the bit, or refuses."""

import io
import re
import zipfile
from functools import cache
from pathlib import Path

import numpy as np

from dcomp.checkpoints.dtypes import NAME_OF
from dcomp.errors import CheckpointError
from dcomp.sources import load_checkpoint
from fuzzing.cases import MAX_MEMORY, Arrays, Case, Kind, arrays_of, demand, stricter, through_all_commands
from fuzzing.mutations import damaged
from fuzzing.torch_files import Records, directory_damaged, records_damaged, zipped

STRICTER = {
    "sizes that do not fit": r"bytes in place of|arrays overlap|more than the limit of",
    "what is no array, or occurs twice": r"which is no array|twice",
    "a dtype of no checkpoint": r"which safetensors does not know|Python objects|is for records",
    "a shape that a container does not take": r"has the shape|has \d+ dimensions",
    "a name that no safetensors file can hold": r"cannot be a tensor's name|cannot encode",
    "no array at all, so that it is no .npz file": r"torch checkpoint|pickled objects|holds no tensors|not named",
    "a file that numpy takes for a single array": r"is not a checkpoint",
}
"""What dcomp refuses and numpy reads, and the words by which the fuzzer knows it."""


@cache
def files() -> list[bytes]:
    """Every dtype, shapes of every rank, columns first, big-endian, packed and not, and what is refused."""
    rng = np.random.default_rng(5)
    few = {"fc.weight": np.where(rng.random((8, 9)) < 0.2, rng.normal(size=(8, 9)), 0).astype("f4"), "s": np.array(3)}
    every = {dtype: rng.integers(0, 3, (2, 3)).astype(dtype) for dtype in ("?", "i1", "u2", "f2", "f8", "c8", ">f4")}
    odd = {"turned": np.asfortranarray(rng.normal(size=(4, 3))), "none": np.zeros((0, 4)), "a/b": np.ones(2)}
    refused = {"text": np.array(["a", "bc"]), "wide": np.ones(2, "c16"), "record": np.ones(2, [("a", "i4")])}
    seeds = []
    for arrays in (few, every, odd, few | refused):
        for save in (np.savez, np.savez_compressed):
            buffer = io.BytesIO()
            save(buffer, **arrays)
            seeds.append(buffer.getvalue())
    return seeds


@cache
def records(data: bytes) -> Records:
    """Names and contents of the arrays."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def make(rng: np.random.Generator) -> Case:
    """Damage bytes anywhere, the list of arrays, an array, or its header, with checksums that fit again."""
    bases = files()
    base, other = (bases[int(place)] for place in rng.integers(len(bases), size=2))
    way = int(rng.integers(5))
    if way == 0:
        return Case(damaged(base, other, rng), base, mended=False)
    if way == 1:
        return Case(directory_damaged(base, rng), base, mended=False)
    changed = records_damaged(records(base), rng) if way == 2 else _header_damaged(records(base), rng)
    return Case(zipped(changed, packed=bool(rng.integers(2))), base, mended=True)


def _header_damaged(content: Records, rng: np.random.Generator) -> Records:
    """A character, a number or a dtype in the header of an array is another."""
    place = int(rng.integers(len(content)))
    name, data = content[place]
    begin = int(rng.integers(min(len(data), 128)))
    numbers = [b"0", b"1", b"-3", b"7", b"99999999999999999999", b"(1,)", b"1.5", b"True"]
    dtypes = [b"'<f4'", b"'|O'", b"'>i8'", b"'<V3'", b"[('a', '<f4')]"]
    orders = [b"True", b"False", b"None"]
    ways = [
        data[:begin] + bytes([int(rng.integers(256))]) + data[begin + 1 :],
        re.sub(rb"\d+(?=[,)])", numbers[int(rng.integers(len(numbers)))], data, count=1),
        re.sub(rb"'[<>|]\w+'", dtypes[int(rng.integers(len(dtypes)))], data, count=1),
        re.sub(rb"False|True", orders[int(rng.integers(len(orders)))], data, count=1),
    ]
    return [*content[:place], (name, ways[int(rng.integers(len(ways)))]), *content[place + 1 :]]


def judge(case: Case, path: Path) -> str:
    """Read a file as dcomp does and as numpy does, and put it through all commands.

    Raises:
        FindingError: dcomp reads what numpy refuses, or other arrays, or does not give them back.
    """
    theirs = _read_by_numpy(path)
    try:
        loaded = load_checkpoint(path, max_memory=MAX_MEMORY)
        ours = arrays_of(loaded)
        through_all_commands(loaded)
    except CheckpointError as error:
        if theirs is None:
            return "refused by both"
        return stricter(error, STRICTER, "numpy")
    demand(theirs is not None, "dcomp reads what numpy refuses")
    demand(ours == theirs, "dcomp reads other arrays than numpy")
    return "read"


def _read_by_numpy(path: Path) -> Arrays | None:
    """The arrays that numpy reads; None if it refuses one."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            read = {name: archive[name] for name in archive.files}
            plain = {name: array.astype(array.dtype.newbyteorder("=")) for name, array in read.items()}
            return {name: (NAME_OF.get(array.dtype, ""), array.shape, array.tobytes()) for name, array in plain.items()}
    except Exception:
        return None


KIND = Kind(".npz", make, judge)
