import numpy as np
import pytest

from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.container.reader import Container
from dcomp.errors import DifferenceError
from dcomp.reporting import benchmark


def test_every_codec_has_a_row_of_sizes_and_speeds(lenet_like):
    rows = benchmark.measure_codecs(lenet_like, [3, 1], 0)
    assert [row.codec for row in rows] == ["dcz", "safetensors", "zstd -3", "zstd -1"]
    for row in rows:
        assert row.ratio == lenet_like.nbytes / row.bytes
        assert min(row.compress, row.decompress) > 0


def test_notes_name_each_codec(lenet_like):
    notes = []
    benchmark.measure_codecs(lenet_like, [], 0, notes.append)
    assert notes == ["dcz ...", "safetensors ..."]


def test_each_direction_of_each_codec_runs_for_the_time_asked_for(lenet_like, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))  # every run takes one second
    seen = []
    decode = Container.decode
    monkeypatch.setattr(Container, "decode", lambda self, **options: seen.append(1) or decode(self, **options))
    benchmark.measure_codecs(lenet_like, [], 3)
    assert len(seen) == 3


def test_a_codec_that_does_not_restore_is_an_error(lenet_like, monkeypatch):
    monkeypatch.setattr(Container, "decode", lambda self, **_: {name: -lenet_like.tensors[name] for name in self.names})
    with pytest.raises(DifferenceError, match=r"dcz did not restore tensor 'fc1\.weight' bit for bit"):
        benchmark.measure_codecs(lenet_like, [], 0)


def test_tensors_of_every_shape_come_back_from_every_codec():
    tensors = {"scalar": np.array(1.5), "empty": np.zeros((0, 3), np.float32), "nan": np.full(3, np.nan, np.float16)}
    assert len(benchmark.measure_codecs(Checkpoint(tensors, {}), [3], 0)) == 3
