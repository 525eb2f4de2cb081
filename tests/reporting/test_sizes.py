import io

import numpy as np
import pytest

import dcomp
from dcomp import stages
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.container.reader import Container
from dcomp.errors import LimitError
from dcomp.reporting.sizes import measure_container
from dcomp.settings import PruneSettings, QuantizeSettings


def report_of(tensors, **metadata):
    return measure_container(Container(dcomp.save(tensors, metadata)))


def rows_of(tensors):
    return {row.name: row for row in report_of(tensors).rows}


def pruned(rng, size, density, values=(-1, 1, 2, 4)):
    kept = rng.random(size) < density
    return np.where(kept, rng.choice(values, size), 0).astype(np.float32)


def test_zeros_are_not_kept_where_zero_is_a_code(lenet_like):
    sparse = stages.prune(lenet_like, PruneSettings(sparsity=0.5, scope="layer"))
    shared = stages.quantize(sparse, QuantizeSettings(fc_bits=5))
    buffer = io.BytesIO()
    stages.encode(shared, buffer)
    rows = {row.name: row for row in stages.report(Container(buffer.getvalue())).rows}
    for layer in ("fc1", "fc2", "fc3"):
        row = rows[f"{layer}.weight"]
        assert row.kept_percent == pytest.approx(50, abs=0.1)
        assert row.weight_bits == 5  # zero has a code in the file, and is none of the 32 values
    assert rows["fc1.weight"].index_bits_coded == 0


@pytest.mark.parametrize("density", [0.02, 0.4, 0.9, 0.999])
@pytest.mark.parametrize("values", [(1, 2, 3), None])
def test_the_kept_percentage_is_true_for_every_encoding(rng, density, values):
    free = rng.normal(size=20_000).astype(np.float32)
    array = np.where(rng.random(20_000) < density, free if values is None else rng.choice(values, 20_000), 0)
    row = rows_of({"w": array.astype(np.float32)})["w"]
    assert (row.kept, row.kept_percent) == (np.count_nonzero(array), 100 * np.count_nonzero(array) / 20_000)


def test_negative_zeros_are_not_kept(rng):
    array = rng.normal(size=4000).astype(np.float32) * (rng.random(4000) < 0.3)  # a mask leaves -0.0
    assert rows_of({"w": array.astype(np.float32)})["w"].kept == np.count_nonzero(array)


def test_estimated_index_bits_have_the_best_fixed_width(rng):
    row = rows_of({"w": pruned(rng, (480, 640), 0.38)})["w"]
    assert row.index_bits == pytest.approx(2.63, abs=0.02)  # two bits, and a filler for each three zeros
    assert row.index_bits_coded == pytest.approx(2.55, abs=0.05)


def test_bits_of_weights_and_positions_are_all_bits_of_the_record(rng):
    report = report_of({"a": pruned(rng, 9000, 0.1), "b": pruned(rng, 9000, 0.9), "c": rng.normal(size=50)})
    for row in [*report.rows, report.total]:
        bits = row.weight_bits_coded + (row.index_bits_coded or 0)
        assert bits * row.kept == pytest.approx(8 * row.bytes)
    assert report.rows[0].index_bits_coded * report.rows[0].kept == 8 * report.rows[0].index_bytes > 0


def test_fillers_are_paid_by_the_weights_that_are_kept(rng):
    array = np.zeros(100_000, np.float32)
    array[:2000] = rng.choice([1, 2], 2000)
    array[-1] = 3  # behind a gap of 98,000
    row = rows_of({"w": array})["w"]
    sums = [width * (2001 + 97_999 // (2**width - 1)) for width in range(1, 18)]
    assert row.index_bits == min(sums) / 2001


def test_estimates_are_counted_as_in_the_paper(rng):
    array = pruned(rng, 30_000, 0.08)
    row = rows_of({"w": array})["w"]
    kept = np.count_nonzero(array)
    assert row.weight_bits == 2
    assert row.estimated_ratio_pruned == 30_000 / kept
    after_sharing = kept * (2 + row.index_bits) + 4 * 32
    assert row.estimated_ratio_shared == pytest.approx(30_000 * 32 / after_sharing)
    assert row.ratio == 120_000 / row.bytes


def test_shared_values_stored_as_floats_count_as_codes_before_huffman(rng):
    values = rng.normal(size=256).astype(np.float32)
    kernel = np.zeros(500, np.float32)
    kernel[:410] = np.concatenate([values, rng.choice(values, 154)])
    row = rows_of({"conv": rng.permutation(kernel).reshape(20, 1, 5, 5)})["conv"]
    assert (row.weight_bits, row.codebook_bits) == (8, 256 * 32)
    free = rows_of({"free": rng.normal(size=(20, 25)).astype(np.float32)})["free"]
    assert (free.weight_bits, free.codebook_bits) == (32, 0)


def test_the_totals_are_the_sums_of_the_rows(rng):
    report = report_of({"a": pruned(rng, 9000, 0.1), "b": rng.normal(size=300).astype(np.float32)})
    a, b = sorted(report.rows, key=lambda row: row.name)
    total = report.total
    assert (total.weights, total.kept, total.bytes) == (a.weights + b.weights, a.kept + b.kept, a.bytes + b.bytes)
    assert total.weight_bits == (2 * a.kept + 32 * b.kept) / total.kept
    assert total.index_bits == pytest.approx(a.index_bits * a.kept / total.kept)
    assert (b.index_bits, b.index_bits_coded) == (None, None)
    estimate = a.dense_bytes / a.estimated_ratio_shared + b.dense_bytes
    assert total.estimated_ratio_shared == pytest.approx(total.dense_bytes / estimate)


def test_tied_tensors_say_what_they_are_tied_to(rng):
    weights = pruned(rng, 3000, 0.1)
    report = report_of({"encoder": weights, "decoder": weights.copy(), "other": rng.normal(size=5)})
    rows = {row.name: row for row in report.rows}
    record, tied = (rows[name] for name in sorted(("encoder", "decoder"), key=lambda name: rows[name].bytes == 0))
    assert (tied.tied_to, record.tied_to) == (record.name, None)
    assert (tied.bytes, tied.ratio, tied.weight_bits_coded, tied.index_bits) == (0, None, None, None)
    assert (tied.kept, tied.weights) == (record.kept, record.weights)
    assert (tied.tensors, record.tensors, report.total.tensors) == (1, 1, 3)
    assert report.total.weight_bits_coded == pytest.approx(
        8 * (report.total.bytes - record.index_bytes) / (record.kept + 5)
    )


def test_two_biases_of_nothing_but_zeros_are_reported():
    report = report_of({"a.bias": np.zeros(64, np.float32), "b.bias": np.zeros(64, np.float32)})
    assert [row.tied_to for row in report.rows] == [None, "a.bias"]
    assert [(row.kept, row.index_bits, row.weight_bits) for row in report.rows] == [(0, None, None)] * 2
    assert report.total.kept_percent == 0


def test_a_tied_tensor_of_another_dtype_is_counted_again():
    array = np.array([1, 0, 1 << 32, 0], np.uint64)
    rows = rows_of({"a": array, "b": array.view(np.uint32).copy()})
    assert (rows["a"].weights, rows["a"].kept) == (4, 2)
    assert (rows["b"].tied_to, rows["b"].weights, rows["b"].kept) == ("a", 8, 2)


def test_a_report_takes_no_more_memory_than_it_may(rng):
    container = Container(dcomp.save({"w": pruned(rng, 100_000, 0.1)}))
    with pytest.raises(LimitError, match="--max-memory"):
        measure_container(container, max_memory=1000)


def test_another_checkpoint_counts_in_the_ratios(rng):
    checkpoint = {"w": pruned(rng, 2000, 0.2)}
    container = Container(dcomp.save(checkpoint))
    double = Checkpoint({"w": checkpoint["w"].astype(np.float64), "only here": np.ones(5)})
    report = stages.report(container, double)
    assert report.total.dense_bytes == 16_040
    assert report.rows[0].ratio == 16_000 / report.rows[0].bytes
