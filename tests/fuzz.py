"""Damages containers and holds dcomp to its promise: only DcompErrors, no hang, no memory beyond the limit.

Run it as `python tests/fuzz.py --cases 200000 --seed 1`. Half of the cases have their checksums mended after the
damage, so that the parsers behind them are reached. A finding is written to a folder, with its traceback.
"""

import argparse
import faulthandler
import json
import sys
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import ml_dtypes
import numpy as np
import zstandard

import dcomp
from dcomp import dtypes
from dcomp.coding import encoder
from dcomp.coding.level import LEVELS
from dcomp.coding.wire import varint
from dcomp.container import layout
from dcomp.container.layout import Entry
from dcomp.container.reader import Container
from dcomp.errors import DcompError
from dcomp.tensors import Spec

GOLDEN = Path(__file__).parent / "golden"
SECONDS_A_CASE = 20
MAX_MEMORY = 1 << 24
MARGIN = 3
"""A case may take this many times its limit: the limit counts what decoding needs, not every buffer on the way."""

EXTREMES = [0, 1, 127, 128, 1 << 14, (1 << 31) - 1, 1 << 31, (1 << 40) + 1, (1 << 63) - 1]


def tensors_of_every_form() -> dict[str, np.ndarray]:
    """Small tensors that between them take every form, model and option of the format."""
    rng = np.random.default_rng(7)
    floats = rng.normal(size=600).astype(np.float32)
    walk = np.cumsum(rng.integers(-2, 3, 4800)).reshape(60, 80) % 37 + 1
    density = np.outer(rng.choice([0.1, 1, 1], 60), rng.choice([0.3, 1, 1], 80))
    structured = np.where(rng.random(walk.shape) < density, walk, 0).astype(np.float32)
    sparse = np.where(rng.random(walk.shape) < 0.05 * density, walk, 0).astype(np.float32)
    made = {
        "planes": floats,
        "raw": rng.integers(0, 256, 99, np.uint8),
        "zstd": np.tile(rng.integers(0, 256, 300, np.uint8), 3),
        "pruned": np.where(rng.random(600) < 0.1, floats, np.float32(0)),
        "structured": structured,
        "turned": np.ascontiguousarray(structured.T),
        "sparse": sparse,
        "walk": walk.astype(np.float32),
        "pairs": (rng.random(3000) < 0.1).astype(np.int8),
        "many values": rng.choice(floats, 3000),
        "zeros": np.zeros((7, 11), ml_dtypes.bfloat16),
        "one value": np.full(1000, np.nan),
        "tied": floats.copy(),
        "scalar": np.array(-0.0, np.float32),
        "empty": np.zeros((3, 0), np.int8),
        "lone": np.eye(1, 5000, 4321, dtype=np.float32),
    }
    for name, dtype in dtypes.BY_NAME.items():
        made[name] = rng.integers(0, 256, 40 * dtype.itemsize, np.uint8).view(dtype)
    return made


def containers() -> list[bytes]:
    """The containers that are damaged: goldens, each form alone, and all together."""
    made = [path.read_bytes() for path in sorted(GOLDEN.glob("*.dcz"))]
    every = tensors_of_every_form()
    made += [dcomp.save({name: array}) for name, array in every.items()]
    made += [forged({"w": (array, encoder.encode(array, LEVELS["max"]).record)}) for array in every.values()]
    made.append(dcomp.save(every, {"key": "value", "ключ": "x" * 300}))
    made.append(dcomp.save({f"layer.{i}.weight": np.full(3, i, np.int16) for i in range(300)}))
    return made


def forged(records: dict[str, tuple[np.ndarray, bytes]]) -> bytes:
    """A container of given records, with right checksums."""
    entries = [
        Entry(name, Spec(array.dtype, array.shape), len(record), crc32(record))
        for name, (array, record) in records.items()
    ]
    return layout.write_header({}, entries) + b"".join(record for _, record in records.values())


def damaged(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One to three mutations of some bytes."""
    for _ in range(int(rng.integers(1, 4))):
        data = MUTATIONS[int(rng.integers(len(MUTATIONS)))](data, other, rng)
    return data


def _flip(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    changed[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _set(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    changed[int(rng.integers(len(data)))] = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))]))
    return bytes(changed)


def _near_the_start(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return _set(data[:48], other, rng) + data[48:]


def _cut(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data) + 1))]


def _extend(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return data + rng.bytes(int(rng.integers(1, 20)))


def _splice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data) + 1))] + other[int(rng.integers(len(other) + 1)) :]


def _repeat(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    begin, end = _range(data, rng)
    return data[:end] + data[begin:end] * int(rng.integers(1, 4)) + data[end:]


def _delete(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    begin, end = _range(data, rng)
    return data[:begin] + data[end:]


def _swap(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    begin, end = _range(data, rng)
    return data[:begin] + data[end : 2 * end - begin] + data[begin:end] + data[2 * end - begin :]


def _number(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(min(len(data), 64) + 1))
    return data[:place] + varint(int(rng.choice(EXTREMES))) + data[place + int(rng.integers(3)) :]


def _range(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    begin = int(rng.integers(len(data) + 1))
    return begin, min(len(data), begin + int(rng.integers(1, 30)))


Mutation = Callable[[bytes, bytes, np.random.Generator], bytes]
MUTATIONS: list[Mutation] = [
    _flip, _set, _near_the_start, _near_the_start, _cut, _extend, _splice, _repeat, _delete, _swap, _number,
]  # fmt: skip


def mended(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Damage records or the directory of a whole container, and set all checksums right."""
    container = Container(data)
    if rng.random() < 0.3:
        return _directory_damaged(data, other, rng)
    entries, records = [], []
    damage_at = int(rng.integers(max(1, len(container.directory.entries))))
    for place, entry in enumerate(container.directory.entries):
        if entry.tied_to is not None:
            entries.append(entry)
            continue
        record = bytes(container.record(entry.name))
        if place == damage_at:
            record = damaged(record, other, rng) or b"\0"
        entries.append(Entry(entry.name, entry.spec, len(record), crc32(record)))
        records.append(record)
    return layout.write_header(container.metadata, entries) + b"".join(records)


def _directory_damaged(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    size, start = 0, 6
    while data[start] & 128:
        size, start = size | (data[start] & 127) << 7 * (start - 6), start + 1
    size, start = size | data[start] << 7 * (start - 6), start + 1
    directory = data[start : start + size]
    if data[5] & 1:
        directory = zstandard.ZstdDecompressor().decompress(directory)
    directory = damaged(directory, other, rng)
    header = data[:5] + b"\0" + varint(len(directory)) + directory
    return header + crc32(header).to_bytes(4, "little") + data[start + size + 4 :]


def case(bases: list[bytes], number: int, seed: int) -> tuple[bytes, bytes, bool]:
    """The bytes of a case, the container they were made of, and whether checksums were mended."""
    rng = np.random.default_rng([seed, number])
    base, other = (bases[int(place)] for place in rng.integers(len(bases), size=2))
    mend = bool(rng.random() < 0.6)
    return (mended if mend else damaged)(base, other, rng), base, mend


class FindingError(Exception):
    """A promise that was broken."""


def try_case(data: bytes, base: bytes, known: set[bytes], *, mend: bool, max_memory: int = MAX_MEMORY) -> str:
    """Decode a case; what came of it, in a word.

    Raises:
        FindingError: damage that no checksum noticed.
        Exception: whatever else dcomp should not have raised.
    """
    try:
        decoded = Container(data).decode(max_memory=max_memory)
    except DcompError as error:
        return type(error).__name__
    if not mend:
        whole = Container(base).decode()
        same = list(whole) == list(decoded) and all(whole[name].tobytes() == decoded[name].tobytes() for name in whole)
        if not same and data not in known and data[:4] == b"\x89DCZ":
            raise FindingError("a damaged file was decoded as something else")
    return "decoded"


def run(cases: Iterator[int], seed: int, findings: Path | None, watch_memory: int = 16) -> Counter[str]:
    """Try cases; those that break a promise are kept. Every so many cases the peak of memory is looked at."""
    bases = containers()
    known = set(bases)  # splicing may give another of them, whole
    outcomes: Counter[str] = Counter()
    for number in cases:
        data, base, mend = case(bases, number, seed)
        faulthandler.dump_traceback_later(SECONDS_A_CASE, exit=True)
        watched = watch_memory and number % watch_memory == 0
        if watched:
            tracemalloc.start()
        try:
            outcomes[try_case(data, base, known, mend=mend)] += 1
            if watched and (peak := tracemalloc.get_traced_memory()[1]) > MARGIN * MAX_MEMORY:
                raise FindingError(f"{peak:,} bytes of memory")
        except Exception:
            outcomes["findings"] += 1
            if findings is None:
                raise
            findings.mkdir(exist_ok=True)
            (findings / f"{seed}-{number}.dcz").write_bytes(data)
            (findings / f"{seed}-{number}.txt").write_text(traceback.format_exc())
        finally:
            if watched:
                tracemalloc.stop()
            faulthandler.cancel_dump_traceback_later()
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    arguments = parser.parse_args()
    started = time.perf_counter()
    outcomes = run(iter(range(arguments.start, arguments.start + arguments.cases)), arguments.seed, arguments.findings)
    seconds = round(time.perf_counter() - started, 1)
    print(json.dumps({"seed": arguments.seed, "cases": arguments.cases, "seconds": seconds, **outcomes}))
    sys.exit(1 if outcomes["findings"] else 0)


if __name__ == "__main__":
    main()
