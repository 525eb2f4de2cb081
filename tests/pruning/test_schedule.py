import pytest

from dcomp.pruning.schedule import Schedule


def test_gradual_is_the_cubic_of_zhu_and_gupta():
    schedule = Schedule("gradual", start=2, until=10, every=1)
    times = schedule.moves()
    assert times == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    for i, time in enumerate(times):
        assert schedule.sparsity(time, 0.1, 0.9) == pytest.approx(0.9 + (0.1 - 0.9) * (1 - i / 8) ** 3)


def test_iterative_keeps_the_same_fraction_at_each_move():
    schedule = Schedule("iterative", until=3)
    kept = [1 - schedule.sparsity(time, 0.0, 0.875) for time in schedule.moves()]
    assert kept == pytest.approx([1, 0.5, 0.25, 0.125])


@pytest.mark.parametrize("name", ["oneshot", "gradual", "iterative"])
@pytest.mark.parametrize("final", [0.5, 1.0])
def test_every_schedule_ends_at_the_final_sparsity_exactly(name, final):
    schedule = Schedule(name, start=1, until=7.5, every=2)
    times = schedule.moves()
    found = [schedule.sparsity(time, 0.25, final) for time in times]
    assert found[-1] == final
    assert found == sorted(found)


def test_oneshot_moves_once_at_its_start():
    assert Schedule("oneshot", start=3, until=9).moves() == [3]


def test_uniform_takes_the_same_at_each_move():
    schedule = Schedule("uniform", until=4)
    assert [schedule.sparsity(time, 0.1, 0.9) for time in schedule.moves()] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])


@pytest.mark.parametrize(
    ("name", "found"),
    [("uniform", [0.3, 0.6, 0.9]), ("iterative", [1 - 0.1 ** (1 / 3), 1 - 0.1 ** (2 / 3), 0.9]), ("oneshot", [0.9])],
)
def test_every_move_that_is_listed_prunes_the_first_one_too(name, found):
    schedule = Schedule(name, at=(1, 3, 5)[: len(found)])
    assert schedule.moves() == [1, 3, 5][: len(found)]
    assert [schedule.sparsity(time, 0.0, 0.9) for time in schedule.moves()] == pytest.approx(found)


@pytest.mark.parametrize(
    ("start", "until", "every", "moves"),
    [
        (1, 4, 1, [1, 2, 3, 4]),
        (1, 4, 2, [1, 2.5, 4]),
        (0, 1, 0.25, [0, 0.25, 0.5, 0.75, 1]),
        (2, 3, 5, [2, 3]),
        (2, 2, 1, [2]),
        (2, 1, 1, [2]),
    ],
)
def test_moves_are_evenly_spaced_from_start_to_until(start, until, every, moves):
    assert Schedule("gradual", start=start, until=until, every=every).moves() == moves


def test_a_lone_move_reaches_the_final_sparsity():
    for name in ("oneshot", "gradual", "iterative", "uniform"):
        assert Schedule(name, start=2).sparsity(2, 0.1, 0.9) == 0.9


def test_the_first_of_several_moves_leaves_the_sparsity():
    for name in ("gradual", "iterative", "uniform"):
        assert Schedule(name, start=1, until=3).sparsity(1, 0.1, 0.9) == pytest.approx(0.1)


def test_where_all_is_pruned_already_nothing_changes():
    schedule = Schedule("iterative", until=2)
    assert [schedule.sparsity(time, 1.0, 1.0) for time in schedule.moves()] == [1, 1, 1]
    assert [schedule.sparsity(time, 0.0, 1.0) for time in schedule.moves()] == [0, 0.5, 1]


def test_a_schedule_that_ends_where_it_starts_moves_once():
    assert Schedule("gradual", start=3, until=3).moves() == [3]
    assert Schedule("gradual", start=3, until=2).moves() == [3]


@pytest.mark.parametrize(("initial", "final"), [(1.0, 1.0), (1.0, 0.5), (0.5, 1.0)])
def test_where_nothing_is_left_iterative_moves_go_evenly(initial, final):
    schedule = Schedule("iterative", until=2)
    assert schedule.sparsity(1, initial, final) == (initial + final) / 2
