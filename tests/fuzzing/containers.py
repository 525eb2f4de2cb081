"""Damaged containers: dcomp decodes what was encoded, or refuses; it takes no memory beyond its limit."""

from functools import cache
from pathlib import Path
from zlib import crc32

import ml_dtypes
import numpy as np
import zstandard

import dcomp
from dcomp import stages
from dcomp.checkpoints import dtypes
from dcomp.checkpoints.tensors import Spec
from dcomp.coding import encoder
from dcomp.coding.level import LEVELS
from dcomp.coding.wire import varint
from dcomp.container import layout
from dcomp.container.layout import Entry
from dcomp.container.reader import Container
from dcomp.container.verification import verify
from dcomp.errors import DcompError
from dcomp.reporting import listing
from fuzzing.cases import MAX_MEMORY, Case, Kind, demand
from fuzzing.mutations import damaged

GOLDEN = Path(__file__).parents[1] / "golden"


def tensors_of_every_form() -> dict[str, np.ndarray]:
    """Small tensors that between them take every form, model and option of the format."""
    rng = np.random.default_rng(7)
    floats = rng.normal(size=600).astype(np.float32)
    walk = np.cumsum(rng.integers(-2, 3, 4800)).reshape(60, 80) % 37 + 1
    density = np.outer(rng.choice([0.1, 1, 1], 60), rng.choice([0.3, 1, 1], 80))
    structured = np.where(rng.random(walk.shape) < density, walk, 0).astype(np.float32)
    sparse = np.where(rng.random(walk.shape) < 0.05 * density, walk, 0).astype(np.float32)
    files = {
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
        files[name] = rng.integers(0, 256, 40 * dtype.itemsize, np.uint8).view(dtype)
    return files


@cache
def containers() -> list[bytes]:
    """The containers that are damaged: goldens, each form alone, and all together."""
    files = [path.read_bytes() for path in sorted(GOLDEN.glob("*.dcz"))]
    every = tensors_of_every_form()
    files += [dcomp.save({name: array}) for name, array in every.items()]
    files += [forged({"w": (array, encoder.encode_tensor(array, LEVELS["max"]).record)}) for array in every.values()]
    files.append(dcomp.save(every, {"key": "value", "ключ": "x" * 300}))
    files.append(dcomp.save({f"layer.{i}.weight": np.full(3, i, np.int16) for i in range(300)}))
    files.append(dcomp.save({"a": np.zeros(50), "b": np.zeros(50), "c": np.zeros(400, np.int8)}))
    return files


def forged(records: dict[str, tuple[np.ndarray, bytes]]) -> bytes:
    """A container of given records, with right checksums."""
    entries = [
        Entry(name, Spec(array.dtype, array.shape), len(record), crc32(record))
        for name, (array, record) in records.items()
    ]
    return layout.write_header({}, entries) + b"".join(record for _, record in records.values())


def make(rng: np.random.Generator) -> Case:
    """Damage a container; more than half of the cases have their checksums set right, so that parsers are reached."""
    bases = containers()
    base, other = (bases[int(place)] for place in rng.integers(len(bases), size=2))
    mend = bool(rng.random() < 0.6)
    return Case((_mended if mend else damaged)(base, other, rng), base, mend)


def judge(case: Case, path: Path) -> str:
    """Put a container through inspect, report, verify and decode.

    Raises:
        FindingError: damage that no checksum noticed, or commands that disagree.
    """
    try:
        container = Container(case.data, max_memory=MAX_MEMORY)
    except DcompError as error:
        return type(error).__name__
    listed, reported, verified, decoded = (
        _outcome(stage)
        for stage in (
            lambda: listing.list_container(container),
            lambda: stages.report(container),
            lambda: verify(container),
            lambda: container.decode(),
        )
    )
    demand(not isinstance(listed, DcompError), f"the directory was read, and not listed: {listed}")
    if isinstance(decoded, DcompError):
        return type(decoded).__name__
    for words, result in (("verified", verified), ("reported", reported)):
        demand(not isinstance(result, DcompError), f"decoded, and not {words}: {result}")
    if not case.mended:
        expected = _decoded(case.base)
        same = list(expected) == list(decoded) and all(expected[name] == decoded[name].tobytes() for name in expected)
        demand(same or case.data in containers(), "a damaged file was decoded as something else")
    return "decoded"


def _outcome(stage):
    try:
        return stage()
    except DcompError as error:
        return error


@cache
def _decoded(data: bytes) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in Container(data).decode().items()}


@cache
def _opened(data: bytes) -> Container:
    return Container(data)


def _mended(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Damage records or the directory of a whole container, and set all checksums right."""
    container = _opened(data)
    if rng.random() < 0.3:
        return _directory_damaged(data, other, rng)
    entries, records = [], []
    damage_at = int(rng.integers(max(1, len(container.directory.entries))))
    for place, entry in enumerate(container.directory.entries):
        if entry.tied_to is not None:
            entries.append(entry)
            continue
        record, checksum = bytes(container.record(entry.name)), entry.checksum
        if place == damage_at:
            record = damaged(record, other, rng) or b"\0"
            checksum = crc32(record)
        entries.append(Entry(entry.name, entry.spec, len(record), checksum))
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


KIND = Kind(".dcz", make, judge)
