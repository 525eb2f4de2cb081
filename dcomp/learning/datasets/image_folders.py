"""Folders of photos, one folder a class, on disk.

::

    PATH/train/CLASS/*.JPEG       or one PATH/CLASS/*.JPEG, a fifth of which are set aside
    PATH/val/CLASS/*.JPEG         `test` will do

Photos are stored as squares: the short side resized, the centre cut. Worker processes decode them for each
batch, or once into a file (`photos.Photos`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dcomp.errors import DataError, first_line
from dcomp.learning import vision
from dcomp.learning.datasets.photos import PhotoDecoding, Photos
from dcomp.learning.datasets.preprocessing import Preprocessing
from dcomp.learning.datasets.split import Dataset

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET_GRAY = (0.449,), (0.226,)
"""Means and deviations of ImageNet's channels, which stand for those of any photos."""

TEST_FOLDERS = ("val", "test")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class FolderSplit:
    """Some of the photos of a folder."""

    photos: Photos
    rows: Tensor
    labels: Tensor
    preprocessing: Preprocessing
    classes: int
    device: torch.device = CPU

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def channels(self) -> int:
        """1 for grayscale images, 3 for RGB."""
        return self.photos.decoding.channels

    @property
    def size(self) -> int:
        """Height of the images as a network takes them."""
        return self.preprocessing.crop or self.photos.decoding.side

    def subset(self, indices: Tensor) -> "FolderSplit":
        """Return the photos at `indices`."""
        return replace(self, rows=self.rows[indices], labels=self.labels[indices])

    def to(self, device: torch.device) -> "FolderSplit":
        """Return the same photos, with batches on another device; all together they would not fit there."""
        return replace(self, device=device)

    def batches(self, order: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield stored images and labels for each tensor of indices in `order`."""
        batches = list(order)
        images = self.photos.batches([self.rows[indices] for indices in batches])
        for indices, stored in zip(batches, images, strict=True):
            yield stored.to(self.device), self.labels[indices].to(self.device)


def load(path: Path, decoding: PhotoDecoding, crop: int) -> Dataset:
    """Find the photos of a folder; none is read yet.

    Args:
        path: holds `train` and `val` (or `test`), or a folder for each class.
        decoding: how photos are stored.
        crop: height and width that the network takes.

    Raises:
        DataError: no such folder, no photos in it, or classes that differ between its two parts.
    """
    mean, deviation = IMAGENET_GRAY if decoding.channels == 1 else IMAGENET
    preprocessing = Preprocessing(mean, deviation, crop=crop, usual="crop-flip")
    test_folders = [path / name for name in TEST_FOLDERS if (path / name).is_dir()]
    if not (path / "train").is_dir() or not test_folders:
        classes, everything = _split(path, decoding, preprocessing)
        order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(0))
        held_out = len(order) // 5
        return Dataset(everything.subset(order[held_out:]), everything.subset(order[:held_out]))
    classes, train = _split(path / "train", decoding, preprocessing)
    test_classes, test = _split(test_folders[0], decoding, preprocessing)
    if classes != test_classes:
        unmatched = ", ".join(sorted(set(classes) ^ set(test_classes)))
        raise DataError(
            f"{path / 'train'} and {test_folders[0]} should have folders of the same classes; only one has {unmatched}"
        )
    return Dataset(train, test)


def _split(folder: Path, decoding: PhotoDecoding, preprocessing: Preprocessing) -> tuple[list[str], FolderSplit]:
    try:
        images = vision.datasets.ImageFolder(str(folder))
    except OSError as error:
        raise DataError(
            f"{folder} is no folder of photos ({first_line(error)}); put a folder for each class there, as in "
            "train/CLASS/*.jpg and val/CLASS/*.jpg"
        ) from error
    paths, labels = zip(*images.samples, strict=True)
    photos = Photos(folder, list(paths), decoding)
    rows = torch.arange(len(paths))
    return images.classes, FolderSplit(photos, rows, torch.tensor(labels), preprocessing, len(images.classes))
