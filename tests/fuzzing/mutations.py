"""Damage to bytes, the same for every kind of file."""

from collections.abc import Callable

import numpy as np

from dcomp.coding.wire import varint

EXTREMES = [0, 1, 127, 128, 1 << 14, (1 << 31) - 1, 1 << 31, (1 << 40) + 1, (1 << 63) - 1]


def damaged(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One to three mutations of some bytes; `other` is what may be spliced in."""
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
