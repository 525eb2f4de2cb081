import torch

from dcomp.learning.running_squares import RunningSquares


def test_the_mean_is_over_the_gradients_since_it_was_read():
    squares = RunningSquares()
    assert squares.mean("w") is None
    for gradient in (1.0, 3.0):
        squares.add("w", torch.tensor([gradient]))
    assert squares.mean("w") == 5
    assert squares.mean("w") == 5  # nothing new
    squares.add("w", torch.tensor([2.0]))
    assert squares.mean("w") == 4


def test_a_scale_is_taken_out_and_sums_have_32_bits():
    squares = RunningSquares()
    squares.add("w", torch.tensor([512.0], dtype=torch.bfloat16), torch.tensor(256.0))
    assert squares.mean("w") == 4
    assert squares.mean("w").dtype == torch.float32


def test_a_state_continues():
    squares, other = RunningSquares(), RunningSquares()
    squares.add("w", torch.ones(1))
    squares.add("v", torch.ones(1))
    squares.mean("v")
    state = squares.state()
    squares.add("w", torch.full((1,), 9.0))  # does not change the state
    other.restore(state, {"w": torch.ones(1), "v": torch.ones(1)})
    other.add("w", torch.full((1,), 3.0))
    other.add("v", torch.full((1,), 3.0))
    assert (other.mean("w"), other.mean("v")) == (5, 9)
    other.keep_only({"v"})
    assert other.mean("w") is None
