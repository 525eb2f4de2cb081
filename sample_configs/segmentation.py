"""A segmentation network and its task: which pixels of a noisy image belong to handwritten digits."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import dcomp

SIDE = 24
DIGITS = 3  # in an image
BRIGHT = 6  # of 16: pixels from here on belong to a digit


class UNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) of three levels; logits of shape (n, height, width) for images."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first, self.second = block(1, width), block(width, 2 * width)
        self.bottom = block(2 * width, 4 * width)
        self.up_second = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.after_second = block(4 * width, 2 * width)
        self.up_first = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.after_first = block(2 * width, width)
        self.output = nn.Conv2d(width, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return a logit for each pixel."""
        first = self.first(images)
        second = self.second(F.max_pool2d(first, 2))
        bottom = self.bottom(F.max_pool2d(second, 2))
        second = self.after_second(torch.cat([second, self.up_second(bottom)], 1))
        first = self.after_first(torch.cat([first, self.up_first(second)], 1))
        return self.output(first).squeeze(1)


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Return two convolutions, each with batch normalization."""
    layers = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def scenes(digits: Tensor, count: int, seed: int) -> TensorDataset:
    """Return images (count, 1, SIDE, SIDE) of digits at random places, under noise, and the digits' pixels."""
    chance = torch.Generator().manual_seed(seed)
    images = torch.zeros(count, SIDE, SIDE)
    for image in images:
        for digit in digits[torch.randint(len(digits), (DIGITS,), generator=chance)]:
            top, left = torch.randint(SIDE - 7, (2,), generator=chance).tolist()
            place = image[top : top + 8, left : left + 8]
            place.copy_(torch.maximum(place, digit))
    masks = images >= BRIGHT
    light = torch.rand(count, 1, 1, generator=chance) + 0.5
    noise = torch.randn(count, SIDE, SIDE, generator=chance)
    return TensorDataset((light * images / 16 + 0.25 * noise).unsqueeze(1), masks)


def loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """Return the mean binary cross-entropy of the pixels."""
    images, masks = batch
    return F.binary_cross_entropy_with_logits(model(images), masks.float())


def metrics(model: nn.Module, batch: list[Tensor]) -> dict[str, Tensor]:
    """Return the mean intersection over union of the images, and the part of wrong pixels."""
    images, masks = batch
    answers = model(images) > 0
    shared, either = (answers & masks).sum((1, 2)), (answers | masks).sum((1, 2))
    return {"iou": (shared / either.clamp(min=1)).mean(), "pixel_error": (answers != masks).float().mean()}


def network() -> nn.Module:
    """Return a U-Net with fresh weights."""
    return UNet()


def task(train_images: int = 2000, test_images: int = 400) -> dcomp.Task:
    """Return the task; a part of the training images is for validation, as `val_split` says."""
    digits = torch.from_numpy(load_digits().images).float()
    train, test = scenes(digits[:1400], train_images, seed=1), scenes(digits[1400:], test_images, seed=2)
    return dcomp.Task(train=train, test=test, loss=loss, metrics=metrics, judge="iou", lower_is_better=False)
