import pytest
import torch

from dcomp.learning.datasets import Preprocessing

PLAIN = Preprocessing((0.0,), (1.0,))


def chance() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def dots(count: int, side: int) -> torch.Tensor:
    """Images with one white pixel, in the middle."""
    images = torch.zeros(count, 1, side, side, dtype=torch.uint8)
    images[:, :, side // 2, side // 2] = 255
    return images


def test_shift_moves_images_by_at_most_a_pixel():
    moved = PLAIN.train(dots(500, 7), "shift", chance())
    rows, columns = moved.squeeze(1).nonzero()[:, 1:].T
    assert moved.sum() == 500
    assert {(r, c) for r, c in zip(rows.tolist(), columns.tolist(), strict=True)} == {
        (r, c) for r in (2, 3, 4) for c in (2, 3, 4)
    }


def test_shift_repeats_edges():
    assert PLAIN.train(torch.full((50, 1, 4, 4), 255, dtype=torch.uint8), "shift", chance()).min() == 1


def test_small_images_are_cut_from_a_margin_of_four_black_pixels():
    moved = PLAIN.train(dots(2000, 15), "crop-flip", chance())
    rows, columns = moved.squeeze(1).nonzero()[:, 1:].T
    assert moved.shape == (2000, 1, 15, 15)
    assert (sorted(set(rows.tolist())), sorted(set(columns.tolist()))) == ([*range(3, 12)], [*range(3, 12)])


def test_crops_are_windows_and_half_of_them_are_mirrored():
    image = torch.arange(100, dtype=torch.uint8).reshape(1, 1, 10, 10)
    images = torch.cat([image, image + 100], 1).repeat(400, 1, 1, 1)
    cut = Preprocessing((0.0,), (1.0,), crop=6).train(images, "crop-flip", chance()).mul(255).round().int()
    mirrored = cut[:, 0, 0, 0] > cut[:, 0, 0, 1]
    straight = torch.where(mirrored.reshape(-1, 1, 1, 1), cut.flip(3), cut)
    windows = [(images[0, :, y : y + 6, x : x + 6]).int() for y in range(5) for x in range(5)]
    assert all(any(torch.equal(one, window) for window in windows) for one in straight)
    assert 150 < mirrored.sum() < 250
    assert straight[:, 0, 0, 0].unique().numel() == 25


def test_testing_takes_the_centre():
    image = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4)
    centre = Preprocessing((0.0,), (1 / 255,), crop=2).test(image)
    assert centre.flatten().tolist() == pytest.approx([5, 6, 9, 10])


def test_auto_is_what_is_usual_for_the_data():
    images = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8)
    usual = Preprocessing((0.0,) * 3, (1.0,) * 3, usual="crop-flip")
    assert torch.equal(usual.train(images, "auto", chance()), usual.train(images, "crop-flip", chance()))
    assert torch.equal(PLAIN.train(images, "auto", chance()), PLAIN.test(images))


def test_every_channel_has_a_mean_and_a_deviation():
    images = torch.full((2, 3, 2, 2), 51, dtype=torch.uint8)
    made = Preprocessing((0.2, 0.1, 0.0), (1.0, 0.5, 0.1)).test(images)
    assert made[0, :, 0, 0].tolist() == pytest.approx([0, 0.2, 2], abs=1e-6)


def test_affine_moves_each_image_a_little():
    moved = PLAIN.train(dots(300, 41), "affine", chance()).squeeze(1)
    found = moved.flatten(1).argmax(1)
    rows, columns = found // 41, found % 41
    assert len(set(found.tolist())) > 10
    assert all(17 <= place.min() < 20 < place.max() <= 23 for place in (rows, columns))
    assert torch.equal(moved, PLAIN.train(dots(300, 41), "affine", chance()).squeeze(1))


def test_affine_repeats_edges_and_keeps_sizes():
    bright = PLAIN.train(torch.full((50, 3, 8, 6), 255, dtype=torch.uint8), "affine", chance())
    assert bright.shape == (50, 3, 8, 6)
    assert bright.min() > 0.999
