"""Damaged files of torch: dcomp reads what `torch.load(mmap=False)` reads of them, to the bit, or refuses."""

import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from struct import pack

import numpy as np
import torch
from torch.nn.utils import prune

from dcomp.errors import CheckpointError
from dcomp.learning.conversion import NAME_OF
from dcomp.sources import load_checkpoint
from fuzzing.cases import (
    MAX_MEMORY,
    Arrays,
    Case,
    FindingError,
    Kind,
    arrays_of,
    demand,
    stricter,
    through_all_commands,
)
from fuzzing.mutations import EXTREMES, damaged

STRICTER = {
    "a record that does not fit its checksum, or the zip file's directory": (
        r"the record .* is damaged|a record has two sizes|called a folder|in none of its records"
        r"|zip|[Bb]ad magic|File name in directory|overlap|decompress"
        r"|it was cut while|EOFError|compression|encrypted|central directory|codec can't decode"
        r"|invalid (distance|code|block|stored)"
    ),
    "more memory than is allowed": r"more than the limit of",
    "tensors that are no plain arrays of a dtype of safetensors": (
        r"sparse, nested or quantized|has dtype|no data: it is on the meta device|which is more than its elements"
    ),
    "names that are none, or that two tensors have": (
        r"whose keys both give the name|which is neither a string nor an integer|no string that UTF-8 can hold"
    ),
    "no named tensors": r"not named tensors|holds no tensors|holds a storage|set of tensors|tensors as keys",
    "no network, or several": r"holds several networks|state of an optimizer, and no weights",
    "shared values and codes that do not fit": r"has codes|values and codes|two shapes|has \d+ codes for",
    "a nest too deep, or that holds itself": r"nests its entries",
    "a pruned weight that torch cannot multiply": r"cannot be multiplied by its mask",
    "a shape that numpy, or a container, does not take": (
        r"has a shape that numpy does not take|has the shape|has \d+ dimensions"
    ),
    "data that are not in the file, where torch gives whatever was in memory": (
        r"elements that are not in the file|bytes more than the file has|the data of tensors are missing"
        r"|to resize storage"
    ),
    "a file that does not begin like one of torch's": r"safetensors file",
}
"""What dcomp refuses and torch reads, and the words by which the fuzzer knows it."""

NETWORK_KEYS = ("state_dict", "model", "model_state")


def contents() -> Iterator[object]:
    """What is saved: plain states, pruned and nested ones, and every kind of tensor that is none."""
    torch.manual_seed(1)
    weight = torch.where(torch.rand(6, 7) < 0.3, torch.randn(6, 7), 0.0)
    yield {"fc.weight": weight, "fc.bias": torch.randn(6), "steps": torch.tensor(3)}
    yield {"a": weight, "tied": weight, "turned": weight.T, "part": weight[1:, ::2], "none": torch.empty(0, 3)}
    yield {str(dtype): torch.randint(0, 2, (5,)).to(dtype) for dtype in (torch.bool, torch.int8, torch.int64)}
    yield {str(dtype): torch.randn(4).to(dtype) for dtype in (torch.float16, torch.bfloat16, torch.float64)}
    yield {"conj": torch.randn(3, dtype=torch.complex64).conj(), "expanded": torch.ones(1).expand(2, 5)}
    layer = torch.nn.Linear(5, 4)
    prune.random_unstructured(layer, "weight", amount=8)
    yield layer.state_dict()
    yield {"w_orig": torch.tensor([-1.0, 2, -3]), "w_mask": torch.tensor([0.0, 1, 0.5])}
    yield {"state_dict": {"w": weight}, "epoch": 3, "optimizer": {"state": {0: {"m": torch.ones(2)}}}}
    yield {"net": {"w": weight}, "ema": torch.ones(3), "adam": {"state": {0: {"m": weight}}, "param_groups": []}}
    yield {"generator": {"w": weight}, "discriminator": {"w": weight}}
    codes = {"weight_centers": torch.tensor([[1.0], [2.0]]), "weight_indices": torch.tensor([0, 1, 1])}
    yield {**codes, "weight_mask": torch.tensor([1.0, 0, 1, 1]), "weight_orig": torch.ones(4)}
    yield {"encoder": {"w": torch.ones(3)}, "layers": [torch.zeros(2), {1: torch.ones(2)}], "step": torch.tensor(2)}
    yield {1: torch.ones(2), "1": torch.ones(3)}
    yield {"w": torch.empty(3, device="meta"), "v": torch.ones(2)}
    yield {"w": torch.eye(3).to_sparse(), "v": torch.ones(2)}
    yield {"w": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}
    yield {"w": torch.nn.Parameter(torch.ones(3)), "more": ("text", 1.5, None, True, b"bytes", 1 << 70)}


@cache
def files() -> list[bytes]:
    """Every content as torch writes it, packed by another tool, in the older format, and without checksums."""
    seeds = []
    for content in contents():
        plain = saved(content)
        seeds += [plain, zipped(records(plain), packed=True)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                seeds.append(saved(content, _use_new_zipfile_serialization=False))
            except (NotImplementedError, RuntimeError):  # conj and meta are not for the older format
                continue
    torch.serialization.set_crc32_options(False)
    seeds.append(saved(next(contents())))
    torch.serialization.set_crc32_options(True)
    return seeds


def saved(content: object, **options: bool) -> bytes:
    """The file that torch writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


Records = list[tuple[str, bytes]]


@cache
def records(data: bytes) -> Records:
    """Names and contents of the records of a zip file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, _read(archive, info)) for info in archive.infolist()]


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as file:
        file._expected_crc = None  # some files have none
        return file.read()


def zipped(content: Records, *, packed: bool) -> bytes:
    """A zip file of records, with right checksums."""
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two records of one name are wanted
        for name, data in content:
            archive.writestr(name, data)
    return buffer.getvalue()


def make(rng: np.random.Generator) -> Case:
    """Damage bytes anywhere, or a record, or its pickle, or the list of records, with checksums that fit again."""
    bases = files()
    base, other = (bases[int(place)] for place in rng.integers(len(bases), size=2))
    way = int(rng.integers(6))
    if not base.startswith(b"PK"):
        return Case(_legacy_damaged(base, other, rng) if way % 2 else damaged(base, other, rng), base, bool(way % 2))
    if way == 0:
        return Case(damaged(base, other, rng), base, mended=False)
    if way == 1:
        return Case(directory_damaged(base, rng), base, mended=False)
    changed = list(records(base))
    for _ in range(int(rng.integers(1, 3))):
        changed = records_damaged(changed, rng) if way < 4 else _pickle_damaged(changed, rng)
    return Case(zipped(changed, packed=bool(rng.integers(2))), base, mended=True)


def directory_damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A number changed in one of the headers of a record: sizes, checksums, offsets, methods."""
    changed = bytearray(data)
    places = [match.start() for match in re.finditer(rb"PK\x01\x02|PK\x03\x04|PK\x05\x06", data)]
    place = places[int(rng.integers(len(places)))] + int(rng.integers(4, 46))
    size = int(rng.choice([1, 2, 4]))
    if place + size <= len(changed):
        old = int.from_bytes(changed[place : place + size], "little")
        new = int(rng.choice([0, 1, 8, old + 1, max(0, old - 4), old * 2, old ^ 1, 255]))
        changed[place : place + size] = (new % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(changed)


def records_damaged(content: Records, rng: np.random.Generator) -> Records:
    place = int(rng.integers(len(content)))
    name, data = content[place]
    other = content[int(rng.integers(len(content)))]
    cut = int(rng.integers(len(data) + 1))
    ways: list[Records] = [
        [(name, data[:cut])],
        [(name, data + bytes(int(rng.integers(1, 9))))],
        [(name, damaged(data, other[1], rng))],
        [(other[0], data)],
        [(name, other[1])],
        [],
        [(name, data), (name, other[1])],
        [(name + "x", data)],
    ]
    return content[:place] + ways[int(rng.integers(len(ways)))] + content[place + 1 :]


def _pickle_damaged(content: Records, rng: np.random.Generator) -> Records:
    return [(name, _opcode_damaged(data, rng) if name.endswith("data.pkl") else data) for name, data in content]


def _legacy_damaged(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The older format, one after the other: three pickles that say what it is, the state, the storages' keys."""
    stream = io.BytesIO(data)
    for _ in range(3):
        pickletools.dis(stream, out=io.StringIO())
    begin = stream.tell()
    pickletools.dis(stream, out=io.StringIO())
    end = stream.tell()
    return data[:begin] + _opcode_damaged(data[begin:end], rng) + data[end:]


@cache
def _opcodes(data: bytes) -> list[tuple[str, object, int, int]]:
    """Opcodes of a pickle: name, argument, where it begins and where it ends."""
    operations = [(opcode.name, argument, begin) for opcode, argument, begin in pickletools.genops(data)]
    ends = [begin for _, _, begin in operations[1:]] + [operations[-1][2] + 1]
    return [(*entry, end) for entry, end in zip(operations, ends, strict=True)]


def _opcode_damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A pickle of which one number, one text or one opcode is another."""
    try:
        opcodes = _opcodes(data)
    except (ValueError, pickle.UnpicklingError, IndexError):  # it was damaged before
        return damaged(data, data, rng)
    way = int(rng.integers(5))
    names_of = {0: ("BININT", "BININT1", "BININT2"), 1: ("BINUNICODE", "GLOBAL"), 2: ("NEWTRUE", "NEWFALSE", "NONE")}
    chosen = [entry for entry in opcodes if way not in names_of or entry[0] in names_of[way]] or opcodes
    name, argument, begin, end = chosen[int(rng.integers(len(chosen)))]
    other = opcodes[int(rng.integers(len(opcodes)))]
    if way == 0 and isinstance(argument, int):
        near = [argument + 1, argument - 1, argument * 2, -argument, 0, *EXTREMES]
        near = [number for number in near if -(1 << 31) <= number < 1 << 31]
        new = pickle.BININT + pack("<i", int(rng.choice(near)))
    elif name == "BINUNICODE":
        texts = [
            "w",
            "0",
            "1",
            "fc.weight_mask",
            "a\0",
            "meta",
            "cuda:0",
            "state_dict",
            "storage",
            str(argument) + "_orig",
        ]
        text = texts[int(rng.integers(len(texts)))].encode()
        new = pickle.BINUNICODE + pack("<I", len(text)) + text
    elif name == "GLOBAL":
        new = pickle.GLOBAL + GLOBALS[int(rng.integers(len(GLOBALS)))].replace(" ", "\n").encode() + b"\n"
    else:
        new = [data[other[2] : other[3]], b"", pickle.NONE, pickle.NEWTRUE][int(rng.integers(4))]
    return data[:begin] + new + data[end:]


GLOBALS = [
    "torch FloatStorage", "torch DoubleStorage", "torch HalfStorage", "torch BoolStorage", "torch ByteStorage",
    "torch.storage UntypedStorage", "torch ComplexFloatStorage", "torch QInt8Storage", "collections OrderedDict",
    "collections Counter", "torch Size", "torch Tensor", "torch FloatTensor", "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_parameter", "torch._utils _rebuild_sparse_tensor", "torch._utils _rebuild_qtensor",
    "torch._utils _rebuild_tensor_v3", "torch._utils _rebuild_meta_tensor_no_storage", "torch.nn.parameter Parameter",
    "torch._utils _rebuild_nested_tensor", "torch float16", "__builtin__ set", "os system", "builtins complex",
]  # fmt: skip


def judge(case: Case, path: Path) -> str:
    """Read a file as dcomp does and as torch does, and put it through all commands.

    Raises:
        FindingError: dcomp reads what torch refuses, or other tensors, or does not give them back.
    """
    theirs, why = _read_by_torch(path)
    try:
        loaded = load_checkpoint(path, max_memory=MAX_MEMORY)
        ours = arrays_of(loaded)
        restored = through_all_commands(loaded)
    except CheckpointError as error:
        if theirs is None and why is not None:
            return "refused by both"
        return stricter(error, STRICTER, "torch")
    if theirs is None:
        raise FindingError(f"dcomp reads what torch refuses, or gives no plain tensors in: {why}")
    demand(ours == theirs, "dcomp reads other tensors than torch")
    path.with_suffix(".restored.safetensors").write_bytes(restored)
    demand(arrays_of(load_checkpoint(path.with_suffix(".restored.safetensors"))) == ours, "decode gives other tensors")
    return "read"


def _read_by_torch(path: Path) -> tuple[Arrays | None, Exception | None]:
    """The tensors that torch reads, put together by what a state means; or why there are none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
        except Exception as error:
            return None, error
        try:
            return _named(content), None
        except Exception:  # what torch reads and nobody can name or look into
            return None, None


def _named(content: dict) -> Arrays:
    """The tensors of the network by name; weights in two parts are multiplied."""
    flat = {keys: tensor for keys, tensor in _flat(content, (), 0) if not _is_of_optimizer(content, keys)}
    place = _place(flat)
    flat = {keys[len(place) :]: tensor for keys, tensor in flat.items() if keys[: len(place)] == place}
    counts = Counter(".".join(map(str, keys)) for keys in flat)
    assert max(counts.values()) == 1
    state = {".".join(map(str, keys)): tensor for keys, tensor in flat.items()}
    assert sum(tensor.nbytes for tensor in state.values()) < 4 * MAX_MEMORY
    for name in [name for name in state if name.endswith("weight_centers")]:
        _look_up(state, name.removesuffix("_centers"))
    for name in list(state):
        weight = name.removesuffix("_orig")
        mask = state.get(weight + "_mask")
        if name != weight and mask is not None and weight not in state and mask.shape == state[name].shape:
            product = state[name] * mask.to(state[name].dtype)
            state[weight] = torch.where((product == 0) & (mask == 0), torch.zeros_like(product), product)
            del state[name], state[weight + "_mask"]
    return {name: _bits(tensor) for name, tensor in state.items()}


def _look_up(state: dict[str, torch.Tensor], weight: str) -> None:
    """Put a weight in the place of its shared values, codes, mask and original."""
    centers, codes = state[f"{weight}_centers"], state.get(f"{weight}_indices")
    is_column = centers.dim() in (1, 2) and centers.numel() == len(centers)
    if codes is None or not is_column or codes.dtype in (torch.bool,) or codes.dtype.is_floating_point:
        return
    parts = [state.pop(f"{weight}{end}", None) for end in ("_mask", "_orig", "", "_centers", "_indices")]
    mask, kept = parts[0], next(part for part in (*parts[:3], codes) if part is not None)
    assert ((codes >= 0) & (codes < len(centers))).all()
    values = centers.reshape(-1)[codes.reshape(-1).long()]
    everywhere = mask is None and values.numel() == kept.numel()
    chosen = torch.ones(kept.numel(), dtype=torch.bool) if everywhere else kept.reshape(-1) != 0
    assert int(chosen.sum()) == values.numel()
    state[weight] = torch.zeros(kept.numel(), dtype=centers.dtype)
    state[weight][chosen] = values
    state[weight] = state[weight].reshape(kept.shape)


def _is_of_optimizer(content: object, keys: tuple) -> bool:
    """Whether a dictionary on the way to a tensor has the keys of an optimizer's state."""
    ways = [content]
    for key in keys[:-1]:
        ways.append(ways[-1][key])
    return any(isinstance(way, dict) and "state" in way and "param_groups" in way for way in ways)


def _place(flat: dict[tuple, torch.Tensor]) -> tuple:
    """The keys of the network: the usual ones, else those of the only dictionary with weights in it."""
    place: tuple = ()
    while usual := [
        key for key in NETWORK_KEYS for keys in flat if keys[: len(place) + 1] == (*place, key) != keys and key
    ]:
        place = (*place, usual[0])
    if place:
        return place
    for rank in (2, 1, 0):
        holders = {
            keys[:-1]
            for keys, tensor in flat.items()
            if type(keys[-1]) is str and tensor.dtype.is_floating_point and tensor.dim() >= rank
        }
        if holders:
            (only,) = {min((h for h in holders if holder[: len(h)] == h), key=len) for holder in holders}
            return only
    return ()


def _flat(value: object, keys: tuple, depth: int) -> Iterator[tuple[tuple, torch.Tensor]]:
    assert depth < 40
    if isinstance(value, torch.Tensor):
        yield keys, value
    elif isinstance(value, dict | list | tuple):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(child, (*keys, key), depth + 1)


def _bits(tensor: torch.Tensor) -> tuple[str, tuple[int, ...], bytes]:
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
    flat = plain.as_strided((plain.numel(),), (1,)).view(torch.uint8)
    return NAME_OF[tensor.dtype], tuple(tensor.shape), flat.numpy().tobytes()


KIND = Kind(".pt", make, judge)
