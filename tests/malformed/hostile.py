"""Makes small files that ask for much memory or time, and puts each through a reader under a limit of 64 MiB.

`python hostile.py make FOLDER` makes them; `python hostile.py decode FOLDER` prints for each, as JSON, its name, the
memory that was taken so far, the seconds of a processor, and what came of it. `READERS` are the other words.
"""

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import zstandard
from test_malformed import container, entry, header, string, varint

import dcomp
from dcomp import outputs, stages
from dcomp.container import verification
from dcomp.container.reader import Container
from dcomp.errors import DcompError
from dcomp.reporting import render, size_tables, tables
from dcomp.reporting.listing import list_container

MIB = 1 << 20
LIMIT = 64 * MIB


class Bits:
    """A bit string that is written field by field."""

    def __init__(self) -> None:
        self.digits = ""

    def put(self, value: int, width: int) -> "Bits":
        self.digits += f"{value:0{width}b}"
        return self

    def run(self, letters: int) -> "Bits":
        """So many letters without a code."""
        if letters:
            self.put(0b1111, 4).put(letters, 2 * letters.bit_length() - 1)
        return self

    def __bytes__(self) -> bytes:
        digits = self.digits + "0" * (-len(self.digits) % 8)
        return bytes(int(digits[place : place + 8], 2) for place in range(0, len(digits), 8))


def lone(alphabet: int, bits: Bits | None = None) -> Bits:
    """Code lengths of letter 0 alone."""
    return (bits or Bits()).put(0b11100000, 8).run(alphabet - 1)


def long(alphabet: int, bits: Bits | None = None) -> Bits:
    """Code lengths 1, 2, ... 16, 16: a table of 2^16 entries for a stream of ten bytes."""
    bits = (bits or Bits()).put(0b11100000, 8)
    for _ in range(15):
        bits.put(0b100, 3)
    return bits.put(0, 1).run(alphabet - 17)


def zeros(head: bytes, lengths: Bits, symbols: int, bits: int | None = None) -> bytes:
    """A stream of one block, all of whose bits are zero, one for each symbol if not said."""
    bits = symbols if bits is None else bits
    return head + bytes(lengths) + varint(bits) + bytes((bits + 7) // 8)


def chain(lengths: Callable[[int, Bits], Bits], codes: int, alphabet: int, symbols: int, bits: int) -> bytes:
    """A chain of one block."""
    tables = Bits()
    for _ in range(codes):
        lengths(alphabet, tables)
    return zeros(bytes([0x20, codes]), tables, symbols, bits)


TWO = b"\x04\x02ab"
"""The beginning of a record without positions that shares two values."""

ONE_LANE = zeros(b"\0", Bits().put(0b111000000, 9), 1 << 16)
"""A stream of one block, of a bit a symbol."""

LONE_CLASS = b"\0" + bytes(lone(2))
"""A stream whose symbols are all 0, whatever their number."""


def one(record: bytes, *shape: int, dtype: int = 1) -> bytes:
    return container(entry(dtype=dtype, shape=shape, record=record), records=record)


def many(count: int, record: bytes, *shape: int) -> bytes:
    """A container of a record so many times."""
    entries = b"".join(entry(name=f"{i:x}", dtype=1, shape=shape, record=record) for i in range(count))
    return directory(b"\0" + varint(count) + entries) + record * count


def named(*names: str) -> bytes:
    """A container of empty tensors of these names."""
    entries = b"".join(entry(name=name, dtype=1, shape=(0,), record=b"\0") for name in names)
    return directory(b"\0" + varint(len(names)) + entries) + b"\0" * len(names)


def directory(content: bytes) -> bytes:
    return header(zstandard.compress(content, 19), flags=1)


def framed(nbytes: int) -> bytes:
    return in_frame(bytes(nbytes))


def in_frame(content: bytes) -> bytes:
    frame = zstandard.compress(content)
    return varint(len(frame)) + frame


def ones_and_a_zero(nbytes: int) -> bytes:
    return b"\1" * (nbytes // 2) + b"\0" + b"\1" * (nbytes - nbytes // 2 - 1)


def key(number: int) -> bytes:
    return string(f"{number:x}") + b"\0"


def kept(count: int) -> bytes:
    """A record that keeps every element, by a code of no bits, at the one value that there is."""
    return b"\x05" + varint(count) + b"\x01\0" + LONE_CLASS + b"\x01a\0\xe0"


def crowded_cells() -> bytes:
    """A record of 256 cells, each with a gap of 16 bits and a table of 2^16 entries."""
    each = Bits().put(0b11100011, 8).put(0, 15)
    classes = b"\0" + bytes(each) + varint(64) + bytes.fromhex("0123456789abcdef")
    cell = varint(1) + bytes([16]) + varint(0) + zeros(b"\0", long(1 << 16), 1)
    return b"\x21\x10\x10" + classes * 2 + cell * 256 + bytes(256)


def tied_to_another_shape() -> bytes:
    record = b"\x02" + framed(20 * MIB)
    other = string("w") + b"\x01\x02" + varint(20) + varint(MIB) + varint(0) + varint(0)
    return container(entry(name="a", dtype=1, shape=(20 * MIB,), record=record), other, records=record)


def ties(count: int, record: bytes, *shape: int) -> bytes:
    """Many tensors that are tied to one."""
    spec = bytes([1, len(shape)]) + b"".join(map(varint, shape))
    first = string("a") + spec + varint(len(record)) + crc32(record).to_bytes(4, "little")
    empty_entries = b"".join(string(f"{i:x}_") + spec + b"\0\0" for i in range(count))
    return directory(b"\0" + varint(count + 1) + first + empty_entries) + record


FILES: dict[str, Callable[[], bytes]] = {
    "a chain of no bits": lambda: one(TWO + chain(lone, 2, 2, 1 << 16, 0), 1 << 16),
    "a hundred chains of no bits": lambda: many(100, TWO + chain(lone, 2, 2, 1 << 16, 0), 1 << 16),
    "a hundred chains of as few bits as may be": lambda: many(100, TWO + chain(lone, 2, 2, 8192, 512), 8192),
    "blocks of a chain of no bits": lambda: one(
        TWO + b"\x21\x02" + bytes(lone(2, lone(2))) + varint(0) + varint(0) + b"\0", 1 << 40
    ),
    "fewer blocks of a chain of no bits": lambda: one(
        TWO + b"\x21\x02" + bytes(lone(2, lone(2))) + varint(0) + varint(0) + b"\0", 1 << 25
    ),
    "large tables of small streams": lambda: many(2500, b"\x06\x02" + zeros(b"\0", long(256), 3), 3),
    "large tables of small chains": lambda: many(300, b"\x04\x20" + bytes(32) + chain(long, 16, 32, 4, 4), 4),
    "large tables of small cells": lambda: many(8, crowded_cells(), 16, 16),
    "long Golomb codes": lambda: many(1500, b"\x01\x01\0\x80\x20\0\0\x0d\0\0a", 1),
    "classes of many rows": lambda: one(b"\x21\x02\x01" + LONE_CLASS + b"\0\0", 60 * MIB, 1),
    "classes of fewer rows": lambda: one(b"\x21\x02\x01" + LONE_CLASS + b"\0\0", MIB, 1),
    "implicit classes": lambda: one(b"\x21\x01\x02" + LONE_CLASS + b"\0\0", 1, 1 << 40),
    "every element kept by no bits": lambda: one(kept(1 << 40), 1 << 40),
    "fewer elements kept by no bits": lambda: one(kept(1 << 20), 1 << 20),
    "all zero": lambda: one(b"\x01\0", 1 << 40),
    "fewer zeros": lambda: one(b"\x01\0", 60 * MIB),
    "zeros, columns first": lambda: one(b"\x11\0", 4096, 7168),
    "rows of no columns": lambda: one(b"\0", 1 << 40, 0),
    "a frame of zeros": lambda: one(b"\x02" + framed(30 * MIB), 30 * MIB),
    "a frame of too many zeros": lambda: one(b"\x02" + framed(300 * MIB), 300 * MIB),
    "ones and a zero": lambda: one(b"\x02" + in_frame(ones_and_a_zero(30 * MIB)), 30 * MIB),
    "ones and a zero, columns first": lambda: one(b"\x12" + in_frame(ones_and_a_zero(20 * MIB)), 4096, 5120),
    "zero and one by turns": lambda: one(b"\x02" + in_frame(b"\0\1" * 15 * MIB), 30 * MIB),
    "zero and one by turns, columns first": lambda: one(b"\x12" + in_frame(b"\0\1" * 10 * MIB), 4096, 5120),
    "planes of zeros": lambda: one(b"\x06" + (b"\x01" + framed(3 * MIB)) * 8, 3 * MIB, dtype=12),
    "a wide index": lambda: one(
        TWO + b"\x01\xe0\0" + varint(MIB) + varint(256) + bytes([32]) + bytes(4095 * 4) + bytes(MIB // 8), MIB
    ),
    "streams of one block": lambda: many(20, TWO + ONE_LANE, 1 << 16),
    "tied to another shape": tied_to_another_shape,
    "many ties to a slow record": lambda: ties(900, TWO + ONE_LANE, 1 << 16),
    "more ties to a small one": lambda: ties(20_000, crowded_cells(), 16, 16),
    "metadata of many keys": lambda: directory(varint(10**6) + b"".join(map(key, range(10**6))) + b"\0"),
    "metadata of as many keys as may be": lambda: directory(
        varint(1 << 16) + b"".join(map(key, range(1 << 16))) + b"\0"
    ),
    "a long value of metadata": lambda: directory(b"\x01\x01k" + varint(60 * MIB) + b"a" * 60 * MIB + b"\0"),
    "a value of wide letters": lambda: directory(b"\x01\x01k" + string("\U0001f600" + "a" * 10 * MIB) + b"\0"),
    "long names": lambda: named(*(f"{i:x}" + "a" * (MIB >> 1) for i in range(10))),
    "long names of modules": lambda: named(*(f"{i:x}" + "." * 80_000 for i in range(60))),
    "long names of wide letters": lambda: named(*("\u5bec" * 80_000 + f"{i:x}" for i in range(20))),
    "long names of control characters": lambda: named(*("\x1b" * 80_000 + f"{i:x}" for i in range(60))),
    "long names that differ in the middle": lambda: named(*("a" * 500 + f"{i:x}" + "a" * 500 for i in range(4500))),
    "names that differ near an end": lambda: named(*("a" * 190 + f"{i:x}" + "b" * 200 for i in range(3000))),
    "two longer names": lambda: named("a" * 5 * (MIB >> 1), "b" * 5 * (MIB >> 1)),
    "many tensors": lambda: many(1 << 17, b"\x01\0", 5),
    "fewer tensors": lambda: many(30_000, b"\x01\0", 5),
}


def printed(show: Callable[[], None]) -> None:
    """Print for a pipe, and for a terminal."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        for columns in ("", "80"):
            os.environ["COLUMNS"] = columns
            show()


class Nowhere:
    """A file that keeps nothing."""

    def write(self, data: bytes) -> int:
        return len(data)


def inspect(path: Path) -> None:
    listing = list_container(Container.open(path, max_memory=LIMIT))
    printed(lambda: tables.print_tables(render.metadata_table(listing.metadata), render.container_table(listing)))


def report(path: Path) -> None:
    measured = stages.report(Container.open(path, max_memory=LIMIT))
    measured.as_dict()
    size_tables.as_csv(measured)
    size_tables.hint_at_fewer_rows(measured)
    printed(lambda: size_tables.print_report(measured))


def last_of(path: Path) -> tuple[dcomp.api.OpenContainer, str]:
    opened = dcomp.open(path, max_memory=LIMIT)
    return opened, (opened.keys() or ["none"])[-1]


def get_tensor(path: Path) -> None:
    opened, name = last_of(path)
    opened.get_tensor(name)


def get_csr(path: Path) -> None:
    opened, name = last_of(path)
    opened.get_csr(name)


READERS: dict[str, Callable[[Path], object]] = {
    "decode": lambda path: outputs.save(stages.decode(Container.open(path, max_memory=LIMIT)), Nowhere()),
    "load": lambda path: dcomp.load_file(path, max_memory=LIMIT),
    "report": report,
    "inspect": inspect,
    "verify": lambda path: verification.verify(Container.open(path, max_memory=LIMIT)),
    "get_tensor": get_tensor,
    "get_csr": get_csr,
}


def peak() -> int:
    """Bytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def readings(reader: str, folder: Path) -> Iterator[tuple[str, int, float, str]]:
    """For each file its name, the memory and the seconds that it took, and what came of it."""
    before = peak()
    for name in FILES:
        started = time.process_time()
        try:
            READERS[reader](folder / name)
            outcome = "read"
        except DcompError as error:
            outcome = type(error).__name__
        yield name, peak() - before, time.process_time() - started, outcome


if __name__ == "__main__":
    command, folder = sys.argv[1], Path(sys.argv[2])
    if command == "make":
        for name, make in FILES.items():
            (folder / name).write_bytes(make())
    else:
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        for reading in readings(command, folder):
            print(json.dumps(reading), flush=True)
