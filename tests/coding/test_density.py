import itertools

import numpy as np
import pytest

from dcomp.coding import density, lockstep
from dcomp.coding.density import Classes, CodedClasses
from dcomp.coding.wire import Cursor


@pytest.fixture
def classes(rng):
    rows, columns = rng.permutation([0, 1, 2] * 4), rng.permutation([0, 1] * 8)
    return Classes(rows.astype(np.uint8), columns.astype(np.uint8), (3, 2))


def test_a_cell_holds_rows_of_one_class_in_columns_of_one_class(classes):
    matrix = np.arange(12 * 16)
    cell_of = classes.cell_of(matrix).reshape(12, 16)
    assert np.array_equal(cell_of, classes.rows[:, None] * 2 + classes.columns)
    assert classes.cells == 6
    assert classes.sizes() == [32] * 6


def test_positions_in_a_cell_lead_back_to_those_of_the_matrix(classes, rng):
    positions = np.flatnonzero(rng.random(12 * 16) < 0.4)
    order, cells = classes.sorted_into_cells(positions)
    assert len(cells) == classes.cells
    assert all((np.diff(cell) > 0).all() for cell in cells)
    back = np.concatenate([classes.matrix_positions(number, cell) for number, cell in enumerate(cells)])
    assert np.array_equal(back, positions[order])


def test_an_element_of_a_cell_counts_in_row_major_order(classes):
    rows, columns = classes.members
    expected = (rows[1][:, None] * 16 + columns[1]).reshape(-1)
    assert np.array_equal(classes.matrix_positions(1 * 2 + 1, np.arange(32)), expected)


@pytest.mark.parametrize("counts", [(3, 2), (3, 1), (1, 2)])
def test_classes_come_back_from_their_bytes(classes, counts):
    rows = classes.rows if counts[0] > 1 else np.zeros(12, np.uint8)
    columns = classes.columns if counts[1] > 1 else np.zeros(16, np.uint8)
    cursor = Cursor(CodedClasses.encode(Classes(rows, columns, counts)).to_bytes(), "it")
    parsed = CodedClasses.parse(cursor, (12, 16))
    cursor.finish()
    assert len(parsed.streams) == sum(count > 1 for count in counts)
    decoded = parsed.decode((12, 16), iter(lockstep.decode_streams(parsed.streams)))
    assert (decoded.rows.tolist(), decoded.columns.tolist()) == (rows.tolist(), columns.tolist())


def test_the_entropy_of_a_density_is_that_of_a_coin():
    kept, size = np.array([0, 5, 10, 25, 0]), np.array([10, 10, 10, 100, 0])
    quarter = 100 * (0.25 * 2 + 0.75 * np.log2(4 / 3))
    assert density.entropy_of_density(kept, size) == pytest.approx([0, 10, 0, quarter, 0])


def saved_by(kept, size, classes):
    """Bits that lines take in these classes."""
    numbers = np.unique(classes)
    return sum(
        float(density.entropy_of_density(kept[classes == n].sum(), np.array(size * np.count_nonzero(classes == n))))
        for n in numbers
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_take_the_fewest_bits(rng, classes):
    kept, size = rng.integers(0, 50, 9), 50
    classes_of = density.classified(kept, size, classes)
    order = np.argsort(kept, kind="stable")
    best = min(
        saved_by(kept[order], size, np.searchsorted(cuts, np.arange(9), side="right"))
        for cuts in itertools.combinations(range(1, 9), classes - 1)
    )
    assert np.unique(classes_of).size == classes
    assert saved_by(kept, size, classes_of) == pytest.approx(best)
    assert (np.diff(classes_of[order].astype(int)) >= 0).all()


def test_there_are_no_more_classes_than_lines():
    assert sorted(density.classified(np.array([3, 9]), 10, 4).tolist()) == [0, 1]


def test_unevenness_is_the_variance_beyond_chance(rng):
    assert density.unevenness(np.array([0, 20])) == pytest.approx(0.9)  # (100 - 10) / 10^2
    assert abs(density.unevenness(rng.poisson(30, 10_000))) < 0.005
    assert density.unevenness(np.zeros(4)) == 0


def test_proposals_are_sorted_by_entropy(rng):
    rows = np.repeat([0.05, 0.6], 20)
    positions = np.flatnonzero(rng.random((40, 50)) < rows[:, None])
    proposals = density.propose_classes(positions, (40, 50), (2, 3))
    bits = [bits for bits, _ in proposals]
    assert bits == sorted(bits)
    assert sorted(classes.counts for _, classes in proposals) == [(1, 2), (1, 3), (2, 1), (2, 2), (3, 1), (3, 3)]
    assert proposals[0][1].counts[0] > 1
    for promised_bits, classes in proposals:
        cells = np.bincount(classes.cell_of(positions), minlength=classes.cells)
        lines = [np.bincount(lines) for lines in (classes.rows, classes.columns)]
        of_lines = sum(-(counts[counts > 0] * np.log2(counts[counts > 0] / counts.sum())).sum() for counts in lines)
        assert promised_bits == pytest.approx(
            density.entropy_of_density(cells, np.array(classes.sizes())).sum() + of_lines
        )


def test_classes_are_at_most_as_many_as_lines(rng):
    positions = np.flatnonzero(rng.random((2, 50)) < 0.3)
    counts = {classes.counts for _, classes in density.propose_classes(positions, (2, 50), (2, 3))}
    assert counts == {(2, 1), (2, 2), (1, 2), (1, 3)}


def test_positions_of_a_small_cell_in_a_large_matrix_do_not_wrap():
    rows, columns = 1 << 17, 1 << 16
    classes = Classes((np.arange(rows) >= rows - 2).astype(np.uint8), np.zeros(columns, np.uint8), (2, 1))
    places = np.array([0, 2 * columns - 1], np.uint32)  # the first element of the last two rows, and the last one
    assert classes.matrix_positions(1, places).tolist() == [(rows - 2) * columns, rows * columns - 1]
