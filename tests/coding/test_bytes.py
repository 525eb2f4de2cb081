"""The encoder's bytes on small tensors of every kind, at every level: no change of size passes unseen.

A change that is meant is written down by `python tests/coding/test_bytes.py`, which prints the table below anew.
"""

from hashlib import sha256

import ml_dtypes
import numpy as np
import pytest
import zstandard

from dcomp.coding import encoder
from dcomp.coding.level import LEVELS
from dcomp.coding.planes import Planes
from dcomp.coding.shared import Shared

ZSTD_OF_THE_TABLE = (1, 5, 7)
"""The release of Zstandard that made the frames below; those of another are about as large."""


def bell(rng, shape):
    """Floats that are distributed like trained weights, and the same on every machine."""
    return rng.integers(-(1 << 20), 1 << 20, (12, *shape)).sum(axis=0) / (1 << 26)


def kept(rng, array, density):
    """The array with only a part of its elements left."""
    return np.where(rng.random(array.shape) < density, array, array.dtype.type(0))


def shared(rng, shape, count, dtype=np.float32):
    """Few values, the middle ones more often."""
    codebook = np.sort(bell(rng, (count,))).astype(dtype)
    return codebook[rng.integers(0, count, (2, *shape)).sum(axis=0) // 2]


def _uneven(rng):
    density = np.outer(rng.integers(1, 9, 200) ** 2 / 100, rng.integers(1, 6, 120) / 5)
    return kept(rng, shared(rng, density.shape, 9), density)


def _down(rng):
    return kept(rng, shared(rng, (20, 240), 5), 0.25).repeat(8, axis=0)


def _walk(rng, rows=50, columns=300):
    return np.cumsum(rng.integers(-1, 2, (rows, columns)), axis=1) % 50 + 1


def _zeros_of_both_signs(rng):
    patterns = np.array([0, 0, 0, 1 << 31, 0x7FC00000, 0x7FC00001, 0xFFC01234, 1, 0x3F800000], np.uint32)
    return patterns[rng.integers(0, patterns.size, 2500)].view(np.float32)


FIXTURES = {
    "raw": lambda rng: rng.integers(-(1 << 62), 1 << 62, 70),
    "zstd": lambda rng: np.tile(rng.integers(1, 256, 700, np.uint8), 3),
    "planes of float32": lambda rng: bell(rng, (90, 100)).astype(np.float32),
    "planes of float64": lambda rng: bell(rng, (4000,)),
    "planes of float16": lambda rng: bell(rng, (90, 100)).astype(np.float16),
    "planes of bfloat16": lambda rng: bell(rng, (9000,)).astype(ml_dtypes.bfloat16),
    "float32 that was bfloat16": lambda rng: bell(rng, (40_000,)).astype(ml_dtypes.bfloat16).astype(np.float32),
    "pruned": lambda rng: kept(rng, bell(rng, (120, 150)).astype(np.float32), 0.1),
    "pruned by a third": lambda rng: kept(rng, bell(rng, (120, 150)).astype(np.float32), 0.7),
    "pruned and shared": lambda rng: kept(rng, shared(rng, (150, 200), 31), 0.1),
    "pruned and shared, of three dimensions": lambda rng: kept(rng, shared(rng, (16, 40, 25), 200), 0.4),
    "long gaps": lambda rng: kept(rng, shared(rng, (300_000,), 7), 0.0005),
    "few positions": lambda rng: kept(rng, shared(rng, (4000,), 3), 0.01),
    "shared, zeros among the codes": lambda rng: kept(rng, shared(rng, (9000,), 12), 0.93),
    "shared, no zeros": lambda rng: shared(rng, (9000,), 16),
    "shared, a codebook in planes": lambda rng: shared(rng, (20_000,), 900, np.float64),
    "two values": lambda rng: (rng.random(6000) < 0.1).astype(np.int8),
    "rows and columns of different density": _uneven,
    "runs down the columns": _down,
    "neighbours that resemble each other": lambda rng: _walk(rng).astype(np.int32),
    "neighbours, some apart": lambda rng: np.where((rng.random((50, 30)) < 0.3).repeat(10, axis=1), _walk(rng), 0),
    "zeros of both signs and payloads of NaNs": _zeros_of_both_signs,
    "complex": lambda rng: bell(rng, (300, 2)).astype(np.float32).view(np.complex64),
    "a lone element": lambda rng: np.eye(1, 5000, 4321, dtype=np.float32),
    "all zero": lambda rng: np.zeros((30, 40), np.float32),
    "all alike": lambda rng: np.full(999, -0.0),
    "a bias": lambda rng: bell(rng, (10,)).astype(np.float32),
    "a scalar": lambda rng: np.array(3, np.int64),
    "empty": lambda rng: np.zeros((3, 0), np.float16),
    "large, neighbours that resemble each other": lambda rng: _walk(rng, 300, 900).astype(np.int32) - 1,
    "large": lambda rng: kept(rng, shared(rng, (600, 500), 15), 0.2),
}

TABLE: dict[str, tuple[tuple[int, str], ...]] = {
    "raw": ((561, "9a30ab27d5e2"), (561, "9a30ab27d5e2"), (561, "9a30ab27d5e2")),
    "zstd": ((723, "ba3b998f4db6"), (723, "ba3b998f4db6"), (723, "ba3b998f4db6")),
    "planes of float32": ((27297, "f10a89ce98f3"), (27297, "f10a89ce98f3"), (27297, "f10a89ce98f3")),
    "planes of float64": ((12778, "ea01f65492f4"), (12778, "ea01f65492f4"), (12713, "a74c61743e17")),
    "planes of float16": ((15206, "d4366db7ec4f"), (15206, "d4366db7ec4f"), (15206, "d4366db7ec4f")),
    "planes of bfloat16": ((11918, "052ae84c0fd9"), (11918, "052ae84c0fd9"), (11918, "052ae84c0fd9")),
    "float32 that was bfloat16": ((53117, "e3590675d772"), (53117, "e3590675d772"), (52981, "192270d0c649")),
    "pruned": ((6550, "16d128db5ac5"), (6550, "16d128db5ac5"), (6549, "5a33ca82c7b1")),
    "pruned by a third": ((40309, "a31fd3c2e3b5"), (40309, "a31fd3c2e3b5"), (40309, "a31fd3c2e3b5")),
    "pruned and shared": ((3728, "a041f879b314"), (3728, "a041f879b314"), (3726, "2f22ec367a57")),
    "pruned and shared, of three dimensions": ((8664, "968525dbffef"), (8664, "968525dbffef"), (8659, "4ba9f04fac9c")),
    "long gaps": ((316, "c5b593399ec6"), (316, "c5b593399ec6"), (316, "c5b593399ec6")),
    "few positions": ((71, "85095e7f70a0"), (71, "85095e7f70a0"), (71, "85095e7f70a0")),
    "shared, zeros among the codes": ((3976, "ceb0a07ba176"), (3976, "ceb0a07ba176"), (3976, "ceb0a07ba176")),
    "shared, no zeros": ((4320, "63ac794dfe73"), (4320, "63ac794dfe73"), (4320, "63ac794dfe73")),
    "shared, a codebook in planes": ((26653, "7dc440c9b86e"), (26653, "7dc440c9b86e"), (26544, "92c8e065d7a1")),
    "two values": ((365, "441605aab3e8"), (365, "441605aab3e8"), (365, "441605aab3e8")),
    "rows and columns of different density": ((2960, "53a87f0f4541"), (2900, "c18a2671aeee"), (2895, "1aec2ecebf65")),
    "runs down the columns": ((5018, "f4c621ed15a9"), (2203, "9ea91358b62c"), (1683, "803444ce0e16")),
    "neighbours that resemble each other": ((6475, "6961c1fc3374"), (5042, "24cdb6a91aee"), (5042, "24cdb6a91aee")),
    "neighbours, some apart": ((2827, "0230ae326045"), (2336, "0483cf01ff9b"), (2336, "0483cf01ff9b")),
    "zeros of both signs and payloads of NaNs": ((874, "09dde1283cfc"), (874, "09dde1283cfc"), (874, "09dde1283cfc")),
    "complex": ((1994, "84dd9e9a63fd"), (1994, "84dd9e9a63fd"), (1989, "b6d6bd8f15f3")),
    "a lone element": ((14, "f5d38e2880d8"), (14, "f5d38e2880d8"), (14, "f5d38e2880d8")),
    "all zero": ((2, "47dc540c94ce"), (2, "47dc540c94ce"), (2, "47dc540c94ce")),
    "all alike": ((12, "ac6c5aea8c17"), (12, "ac6c5aea8c17"), (12, "ac6c5aea8c17")),
    "a bias": ((41, "cb94b848e4ca"), (41, "cb94b848e4ca"), (41, "cb94b848e4ca")),
    "a scalar": ((9, "5808c92598bb"), (9, "5808c92598bb"), (9, "5808c92598bb")),
    "empty": ((1, "6e340b9cffb3"), (1, "6e340b9cffb3"), (1, "6e340b9cffb3")),
    "large, neighbours that resemble each other": (
        (121531, "c20b8f0db99b"),
        (88920, "99f895ea5c1d"),
        (80655, "846e939148bd"),
    ),
    "large": ((55025, "20d14cdfa546"), (55025, "20d14cdfa546"), (55007, "224efa0cf01c")),
}
"""Of each fixture the record's size and the start of its SHA-256: fast, default, max."""


def array_of(name):
    return FIXTURES[name](np.random.default_rng(list(FIXTURES).index(name)))


def has_frames(encoded):
    """Whether Zstandard made some of the bytes."""
    forms = [encoded.values]
    if isinstance(encoded.values, Shared):
        forms = [encoded.values.codebook]
    forms += [plane for form in forms if isinstance(form, Planes) for plane in form.planes]
    return any(type(form).__name__ == "Zstd" for form in forms)


def measured(name, level):
    encoded = encoder.encode_tensor(array_of(name), LEVELS[level])
    return encoded.nbytes, sha256(encoded.record).hexdigest()[:12], has_frames(encoded)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", FIXTURES)
def test_the_encoder_writes_the_bytes_that_it_wrote_before(name, level):
    size, digest = TABLE[name][list(LEVELS).index(level)]
    nbytes, features, framed = measured(name, level)
    if framed and zstandard.ZSTD_VERSION != ZSTD_OF_THE_TABLE:
        assert abs(nbytes - size) <= 0.02 * size + 8
    else:
        assert (nbytes, features) == (size, digest)


def test_the_fixtures_take_every_form_and_model():
    every = [encoder.encode_tensor(array_of(name), LEVELS[level]) for name in FIXTURES for level in ("fast", "default")]
    seen = {type(encoded.values).__name__ for encoded in every}
    seen |= {stream.model.name for encoded in every for stream in encoded.streams}
    seen |= {"Golomb" for encoded in every for stream in encoded.streams if stream.implicit_code}
    seen |= {"apart" for encoded in every for stream in encoded.streams if stream.apart}
    seen |= {"columns first" for encoded in every if encoded.columns_first}
    seen |= {"fillers" for encoded in every if encoded.index is not None and encoded.index.fillers}
    seen |= {"classes" for encoded in every if encoded.index is not None and encoded.index.classes is not None}
    seen |= {"shared without positions" for one in every if isinstance(one.values, Shared) and one.index is None}
    planes = [encoded.values for encoded in every if isinstance(encoded.values, Planes)]
    planes += [one.values.codebook for one in every if isinstance(one.values, Shared)]
    seen |= {f"plane: {type(plane).__name__}" for one in planes if isinstance(one, Planes) for plane in one.planes}
    assert seen == {
        *("Raw", "Zstd", "Shared", "Planes", "PLAIN", "PAIRS", "CHAINED", "Golomb", "apart", "columns first"),
        *("fillers", "classes", "shared without positions"),
        *("plane: Raw", "plane: Zstd", "plane: HuffmanPlane", "plane: BitPlane"),
    }


if __name__ == "__main__":
    for name in FIXTURES:
        print(f'    "{name}": {tuple(measured(name, level)[:2] for level in LEVELS)},'.replace("'", '"'))
