"""Damaged safetensors files: dcomp reads what the safetensors library reads, to the bit, and writes the file again."""

import json
import re
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from dcomp.checkpoints import dtypes
from dcomp.errors import CheckpointError
from dcomp.sources import load_checkpoint
from fuzzing.cases import Arrays, Case, Kind, arrays_of, demand, stricter, through_all_commands
from fuzzing.mutations import damaged

STRICTER = {
    "a key twice, of which the library takes the last": r"has the key .* twice",
    "a dtype that numpy and ml_dtypes lack": r"has dtype \w+, which dcomp does not read",
    "a shape that numpy, or a container, does not take": (
        r"has a shape that numpy does not take|has the shape|has \d+ dimensions"
    ),
    "a header with more than 1,000 nested brackets or integers of 4,300 digits": r"nested too deeply|integer string",
    "a file that begins like one of torch's, or like a container": r"torch checkpoint|pickled objects|dcz|container",
}
"""What dcomp refuses and the library reads, and the words by which the fuzzer knows it."""

NUMBERS = [0, 1, 2, 7, 8, 9, 16, 255, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63, 1 << 64, -1, 0.5, 10**30, True, None]


@cache
def files() -> list[bytes]:
    """The files that are damaged: every dtype, empty and scalar tensors, metadata, none, spellings of other tools."""
    rng = np.random.default_rng(3)
    every = {
        name: rng.integers(0, 2, 6 * dtype.itemsize, np.uint8).view(dtype) for name, dtype in dtypes.BY_NAME.items()
    }
    few = {
        "fc.weight": np.where(rng.random((8, 9)) < 0.2, rng.normal(size=(8, 9)), 0).astype(np.float32),
        "fc.bias": rng.normal(size=8).astype(ml_dtypes.bfloat16),
        "steps": np.array(3),
        "none": np.zeros((0, 4), np.int8),
        "ключ": rng.choice([1.0, 2.0], 40).astype(np.float16),
    }
    seeds = [written(few), written(few, {"format": "pt", "a": "b\n"}), written({}), written(every)]
    header, data = split(seeds[1])
    reordered = dict(reversed(header.items()))
    odd = {name: dict(reversed(entry.items())) for name, entry in reordered.items()}
    seeds += [joined(json.dumps(way, indent=indent).encode(), data) for way in (reordered, odd) for indent in (None, 1)]
    listed = {name: list(entry.values()) if name != "__metadata__" else entry for name, entry in header.items()}
    return [*seeds, joined(json.dumps(listed).encode(), data), *(path.read_bytes() for path in _golden())]


def _golden() -> list[Path]:
    return sorted(Path(__file__).parents[1].glob("golden/format-example.safetensors"))


def written(tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    """A file as the library writes it."""
    parts = {
        name: {"dtype": dtypes.NAME_OF[array.dtype], "shape": list(array.shape), "data": array.tobytes()}
        for name, array in tensors.items()
    }
    header, offset = {}, 0
    for name, part in parts.items():
        end = offset + len(part["data"])
        header[name] = {"dtype": part["dtype"], "shape": part["shape"], "data_offsets": [offset, end]}
        offset = end
    described = {**({"__metadata__": metadata} if metadata else {}), **header}
    return joined(
        json.dumps(described, separators=(",", ":")).encode(), b"".join(part["data"] for part in parts.values())
    )


def split(data: bytes) -> tuple[dict, bytes]:
    """Header and data of a file."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def joined(header: bytes, data: bytes) -> bytes:
    """A file of a header and data."""
    return len(header).to_bytes(8, "little") + header + data


def make(rng: np.random.Generator) -> Case:
    """Damage bytes anywhere, or those of the header, whose size is then right, or what the header says."""
    bases = files()
    base, other = (bases[int(place)] for place in rng.integers(len(bases), size=2))
    way = int(rng.integers(4))
    if way == 0:
        return Case(damaged(base, other, rng), base, mended=False)
    header, data = split(base)
    if way == 1:
        size = len(base) - len(data)
        return Case(joined(damaged(base[8:size], other, rng), data), base, mended=True)
    for _ in range(int(rng.integers(1, 3))):
        header = _changed(header, rng)
    text = _respelled(json.dumps(header, ensure_ascii=bool(rng.integers(2))), rng)
    if rng.random() < 0.2:
        data = damaged(data, other, rng)
    return Case(joined(text.encode(errors="surrogatepass"), data), base, mended=True)


def _changed(header: dict, rng: np.random.Generator) -> dict:
    """A header of which one thing is changed."""
    names = [name for name in header if name != "__metadata__" and isinstance(header[name], dict)]
    changed = dict(header)
    way = int(rng.integers(6))
    if not names or way == 0:
        changed["__metadata__"] = [{"k": "v"}, {}, None, {"k": 1}, {"": "\0"}, 3][int(rng.integers(6))]
        return changed
    name = names[int(rng.integers(len(names)))]
    entry = dict(header[name])
    if way == 1:
        entry["dtype"] = [*dtypes.BY_NAME, "F4", "F6_E2M3", "X", ""][int(rng.integers(len(dtypes.BY_NAME) + 4))]
    elif way == 2:
        shape = list(entry["shape"]) or [1]
        shape[int(rng.integers(len(shape)))] = NUMBERS[int(rng.integers(len(NUMBERS)))]
        entry["shape"] = [shape, shape[::-1], [*shape, 1], [*shape, 0], [1] * 70][int(rng.integers(5))]
    elif way == 3:
        offsets = list(entry["data_offsets"])
        offsets[int(rng.integers(2))] = NUMBERS[int(rng.integers(len(NUMBERS)))]
        entry["data_offsets"] = offsets
    elif way == 4:
        entry["more"] = [1, [[[[]]]], {"a": {}}][int(rng.integers(3))]
    else:
        changed[["", "a\0b", "\ud800", "__metadata__ ", name + "."][int(rng.integers(5))]] = changed.pop(name)
        return changed
    changed[name] = entry
    return changed


def _respelled(text: str, rng: np.random.Generator) -> str:
    """The same JSON, or nearly, in another spelling."""
    ways = [
        lambda: text,
        lambda: text + " " * int(rng.integers(9)),
        lambda: text.replace(":", " :\n "),
        lambda: re.sub(r'("[^"]+": \{[^{}]*\})', r"\1, \1", text, count=1),
        lambda: text.replace('"dtype"', '"dtype": "F32", "dtype"', 1),
        lambda: text[:-1] + ', "deep": ' + "[" * 2000 + "]" * 2000 + "}",
        lambda: text.replace("[", "[" + "1" * 5000 + ",", 1),
    ]
    return ways[int(rng.integers(len(ways) + 6)) % len(ways) if rng.random() < 0.4 else 0]()


def judge(case: Case, path: Path) -> str:
    """Read a file as dcomp does and as the library does, and put it through all commands.

    Raises:
        FindingError: dcomp reads what the library refuses, or other tensors, or does not give the file back.
    """
    theirs = _read_by_the_library(case.data)
    try:
        loaded = load_checkpoint(path)
        ours = arrays_of(loaded)
        restored = through_all_commands(loaded)
    except CheckpointError as error:
        if theirs is None:
            return "refused by both"
        return stricter(error, STRICTER, "the library")
    demand(theirs is not None, "dcomp reads what the library refuses")
    demand(ours == theirs, "dcomp reads other tensors than the library")
    demand(restored == case.data, "decode does not give the file back")
    return "read"


def _read_by_the_library(data: bytes) -> Arrays | None:
    try:
        loaded = safetensors.deserialize(data)
    except safetensors.SafetensorError:
        return None
    return {name: (entry["dtype"], tuple(entry["shape"]), bytes(entry["data"])) for name, entry in loaded}


KIND = Kind(".safetensors", make, judge)
