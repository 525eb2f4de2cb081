import numpy as np

import dcomp
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.container.reader import Container
from dcomp.reporting.listing import describe_encoding, list_checkpoint, list_container


def test_the_encoding_in_words_is_that_of_the_record(rng):
    kept = rng.random((200, 300)) < 0.05
    tensors = {
        "positions, shared": np.where(kept, rng.choice([-1, 1, 2], kept.shape), 0).astype(np.float32),
        "shared": rng.choice([-1, 1, 2], 3000).astype(np.float32),
        "planes": rng.normal(size=3000).astype(np.float32),
        "raw": rng.integers(0, 256, 3000).astype(np.uint8),
    }
    container = Container(dcomp.save(tensors))
    for name in tensors:
        assert describe_encoding(container.record(name)[0]) == name


def test_a_tied_tensor_names_its_tie_and_has_no_record(rng):
    weights = rng.normal(size=300).astype(np.float32)
    listing = list_container(Container(dcomp.save({"a": weights, "b": weights.copy()})))
    record, tied = listing.tensors
    assert (tied.encoding, tied.bytes, tied.ratio, tied.crc) == (f"tied to {record.name}", 0, None, "")
    assert listing.header_bytes + record.bytes == listing.file_bytes


def test_a_checkpoint_lists_what_is_not_zero():
    listing = list_checkpoint(Checkpoint({"a": np.array([0, 1, 2, -0.0]), "empty": np.zeros((0, 3))}, {"key": "value"}))
    assert [(line.elements, line.kept, line.kept_percent) for line in listing.tensors] == [(4, 2, 50), (0, 0, 0)]
    assert (listing.elements, listing.kept, listing.metadata) == (4, 2, {"key": "value"})
