"""Stored images -> the input of a network: cropped, augmented, normalized.

*Stored* images are uint8 of shape (n, channels, height, width); a network takes float32 of the same rank. Images
are cut before they are normalized, so only pixels that are used are normalized.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dcomp.settings import Augment

SHIFT = 1  # pixels, each way
TURN, SCALE, MOVE = 10.0, 0.1, 0.05  # of `affine`, each way: degrees, of the size, of the height or width
MARGIN = 4  # black pixels around small images before they are cropped, as is usual for CIFAR


@dataclass(frozen=True)
class Preprocessing:
    """How the images of a data set are cut and normalized.

    Args:
        mean: of the pixels, 0 to 1, for each channel.
        deviation: likewise.
        crop: height and width that the network takes; None: whole images.
        usual: the augmentation of `auto`.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    crop: int | None = None
    usual: Augment = "none"

    def train(self, images: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
        """Return a network's input of stored images, augmented by chance.

        `shift` moves each image by up to one pixel either way, edges repeated. `affine` turns each by up to 10 degrees,
        scales it by up to a tenth and moves it by up to a twentieth, edges repeated. `crop-flip` cuts each at a random
        place, from a black margin where it is no larger than the crop, and mirrors half of them.
        """
        match self.usual if augment == "auto" else augment:
            case "shift":
                offsets = torch.randint(0, 2 * SHIFT + 1, (2, len(images), 1), generator=generator).squeeze(2)
                images = _cut(self._centre(images), offsets - SHIFT, self.size_of(images))
            case "affine":
                images = _transformed(self._centre(images), torch.rand((4, len(images)), generator=generator) * 2 - 1)
            case "crop-flip":
                height, width = self.size_of(images)
                if images.shape[2:] == (height, width):
                    images = F.pad(images, (MARGIN,) * 4)
                room = torch.tensor([images.shape[2] - height, images.shape[3] - width]) + 1
                chance = torch.rand((3, len(images)), generator=generator)
                images = _cut(images, (chance[:2] * room.unsqueeze(1)).long(), (height, width))
                images = _mirrored(images, (chance[2] < 0.5).to(images.device))
            case _:
                images = self._centre(images)
        return self._normalized(images)

    def test(self, images: Tensor) -> Tensor:
        """Return a network's input of stored images: their centres."""
        return self._normalized(self._centre(images))

    def size_of(self, images: Tensor) -> tuple[int, int]:
        """Return height and width of the input that stored images give."""
        return (self.crop, self.crop) if self.crop else (images.shape[2], images.shape[3])

    def _centre(self, images: Tensor) -> Tensor:
        height, width = self.size_of(images)
        top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
        return images[:, :, top : top + height, left : left + width]

    def _normalized(self, images: Tensor) -> Tensor:
        mean, deviation = (
            torch.tensor(value, device=images.device).reshape(-1, 1, 1) for value in (self.mean, self.deviation)
        )
        return images.float().div_(255).sub_(mean).div_(deviation)


def _transformed(images: Tensor, chance: Tensor) -> Tensor:
    """Turn, scale and move each image, bilinear between pixels; `chance`, shape (4, n), lies in -1 to 1."""
    turn, scale, across, down = chance.to(images.device)
    angle, zoom = turn * math.radians(TURN), 1 + scale * SCALE
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    rows = torch.stack([cos, -sin, across * 2 * MOVE, sin, cos, down * 2 * MOVE], 1).reshape(-1, 2, 3)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def _cut(images: Tensor, offsets: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut a window out of each image, whose edges repeat beyond it; `offsets`, (2, n), are top and left."""
    offsets = offsets.to(images.device).unsqueeze(2)
    rows, columns = (
        (torch.arange(length, device=images.device) + start).clamp_(0, limit - 1)
        for length, start, limit in zip(size, offsets, images.shape[2:], strict=True)
    )
    example = torch.arange(len(images), device=images.device).reshape(-1, 1, 1)
    return images.movedim(1, -1)[example, rows.unsqueeze(2), columns.unsqueeze(1)].movedim(-1, 1)


def _mirrored(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the chosen images."""
    rows = images.movedim(1, -1)  # as they lie in memory
    rows[chosen] = rows[chosen].flip(2)
    return rows.movedim(-1, 1)
