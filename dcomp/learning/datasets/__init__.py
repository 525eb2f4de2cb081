"""Data sets by name, as a network wants them."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dcomp.errors import DataError, UsageError
from dcomp.learning.datasets import imagenette, small
from dcomp.learning.datasets.photos import Storage
from dcomp.learning.datasets.preprocessing import Preprocessing
from dcomp.learning.datasets.split import Dataset, MemorySplit, Split
from dcomp.learning.factories import call_factory
from dcomp.observer import Observer, Silent
from dcomp.settings import DATA_NAMES

__all__ = ["Dataset", "Form", "MemorySplit", "Preprocessing", "Split", "load"]

CACHE = Path("~/.cache/dcomp/data")

SMALL: dict[str, Callable[[Path], Dataset]] = {
    "mnist": partial(small.mnist, "MNIST", ((0.1307,), (0.3081,))),
    "fashion-mnist": partial(small.mnist, "FashionMNIST", ((0.2860,), (0.3530,))),
    "cifar10": partial(
        small.cifar, "CIFAR10", "cifar-10-batches-py", ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    ),
    "cifar100": partial(
        small.cifar, "CIFAR100", "cifar-100-python", ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
    ),
    "digits": small.digits,
}


@dataclass(frozen=True)
class Form:
    """The form in which a network wants its images, and how photos are read.

    Args:
        crop: height and width that the network takes; None: small images as they are, photos of `usual`.
        usual: height and width of photos, unless `crop` says otherwise.
        grayscale: one channel or three; None: as the data has them.
        resize: short side at which photos are stored; None: somewhat more than the crop, 256 for 224.
        workers: processes that decode photos; None: one a core.
        cache: folder for decoded photos; None: they are decoded whenever they are used.
        observer: told when photos are decoded into the cache.
    """

    crop: int | None = None
    usual: int = 224
    grayscale: bool | None = None
    resize: int | None = None
    workers: int | None = None
    cache: Path | None = None
    observer: Observer = field(default_factory=Silent)


def load(name: str, data_dir: Path | None = None, form: Form | None = None) -> Dataset:
    """Load a data set by name.

    Args:
        name: one of `settings.DATA_NAMES`.
        data_dir: the folder that holds `MNIST/raw` and the like; else `$DCOMP_DATA`, else a cache folder.
        form: how the network wants the images.

    Raises:
        DataError: no such data set, or it cannot be had; then says what to put where.
    """
    form = form or Form()
    root = data_dir or Path(os.environ.get("DCOMP_DATA") or CACHE).expanduser()
    family, separator, argument = name.partition(":")
    if name in SMALL:
        found = SMALL[name](root)
    elif family == "imagefolder":
        return _photos(Path(argument).expanduser(), form)
    elif family == "imagenette":
        return _photos(imagenette.folder(argument or "full", root), form)
    elif separator:
        found = _from_factory(name)
    else:
        raise DataError(f"no data set {name!r}; there are {', '.join(DATA_NAMES)}")
    return Dataset(*(_in_form(split, name, form) for split in (found.train, found.test)))


def _photos(path: Path, form: Form) -> Dataset:
    from dcomp.learning.datasets import folders  # here, not above: the others need no torchvision

    crop = form.crop or form.usual
    side = form.resize or 8 * round(crop / 7)
    if side < crop:
        raise UsageError(f"--resize {side} is less than the {crop} pixels that the network takes")
    channels = 1 if form.grayscale else 3
    return folders.load(path, Storage(side, channels, form.workers, form.cache, form.observer), crop)


def _in_form(split: Split, name: str, form: Form) -> Split:
    """An in-memory split as the network wants it; one of the user's own kind is as it is.

    Raises:
        DataError: its images are smaller than that.
    """
    if not isinstance(split, MemorySplit):
        return split
    if form.crop and form.crop > min(split.images.shape[2:]):
        height, width = split.images.shape[2:]
        raise DataError(
            f"the images of {name} are {height}x{width}, and the network takes {form.crop}x{form.crop}; "
            "give another --crop to a network that is not trained yet"
        )
    return split.in_form(grayscale=form.grayscale, crop=form.crop)


def _from_factory(name: str) -> Dataset:
    found = call_factory(name, DataError)
    if not isinstance(found, Dataset):
        raise DataError(f"{name} made a {type(found).__name__}, not a dcomp.learning.datasets.Dataset")
    return found
