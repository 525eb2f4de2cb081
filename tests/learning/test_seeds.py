from dcomp.learning.seeds import mixed


def test_seeds_differ_if_any_number_does():
    numbers = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert len({mixed(*some) for some in numbers}) == 4
    assert mixed(1, 2, 3) == mixed(1, 2, 3)
