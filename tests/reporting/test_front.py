import itertools

from hypothesis import given
from hypothesis import strategies as st

from dcomp.progress.measurement import Measurement
from dcomp.reporting.front import PointResult, rank_points


def result(nbytes, error, **values):
    return PointResult(values, nbytes, 1000 / nbytes, Measurement({"top1_error": error, "loss": 1.0}), 0.9, 1.5)


def test_the_front_holds_whatever_no_other_point_beats():
    points = [(400, 1.5), (100, 3.0), (200, 2.0), (300, 2.0), (200, 2.5), (500, 1.0), (600, 1.2)]
    ranked = rank_points([result(*point) for point in points])
    assert [(r.result.bytes, r.result.measured.judged) for r in ranked if r.on_front] == [
        (100, 3.0),
        (200, 2.0),
        (400, 1.5),
        (500, 1.0),
    ]


def test_points_that_are_equal_are_both_on_the_front():
    assert [r.on_front for r in rank_points([result(100, 1.0), result(100, 1.0), result(101, 1.0)])] == [
        True,
        True,
        False,
    ]


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8))))
def test_the_front_of_random_points_is_right(points):
    ranked = rank_points([result(nbytes, float(error)) for nbytes, error in points])
    pairs = [(r.result.bytes, r.result.measured.judged) for r in ranked]
    assert pairs == sorted(points)
    for (pair, point), other in itertools.product(zip(pairs, ranked, strict=True), pairs):
        beaten = other != pair and other[0] <= pair[0] and other[1] <= pair[1]
        assert not (beaten and point.on_front)
    for pair, point in zip(pairs, ranked, strict=True):
        assert point.on_front or any(other != pair and other[0] <= pair[0] and other[1] <= pair[1] for other in pairs)


def test_values_and_figures_are_one_row():
    (point,) = rank_points([result(100, 1.0, seed="0")])
    assert list(point.as_dict()) == ["seed", "bytes", "ratio", "top1_error", "sparsity", "seconds", "on_front"]
