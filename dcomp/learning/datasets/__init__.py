"""Data sets by name, with images in the form that a network takes."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dcomp.errors import DataError, UsageError
from dcomp.learning.datasets import imagenette, small
from dcomp.learning.datasets.photos import PhotoDecoding
from dcomp.learning.datasets.preprocessing import Preprocessing
from dcomp.learning.datasets.split import Dataset, MemorySplit, Split
from dcomp.learning.factories import call_factory, find_factory
from dcomp.learning.task import FORM, Task
from dcomp.progress.observer import Observer
from dcomp.settings.fields import data_name, names_code

__all__ = ["Dataset", "ImageForm", "MemorySplit", "Preprocessing", "Split", "load"]

CACHE = Path("~/.cache/dcomp/data")

SMALL_IMAGE_SETS: dict[str, Callable[[Path], Dataset]] = {
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

DOWNLOADED = (*(name for name in SMALL_IMAGE_SETS if name != "digits"), "imagenette")
"""Data sets that are downloaded into a folder if they are not there."""


@dataclass(frozen=True)
class ImageForm:
    """The form of the images that a network takes, and how photos are read.

    Args:
        crop: height and width that the network takes; None: small images as they are, photos of `usual`.
        usual: height and width of photos, unless `crop` says otherwise.
        grayscale: one channel or three; None: as the data has them.
        resize: short side at which photos are stored; None: somewhat more than the crop, 256 for 224.
        workers: processes that decode photos; None: one a core.
        cache: folder for decoded photos; None: they are decoded whenever they are used.
        observer: watches while photos are decoded into the cache.
    """

    crop: int | None = None
    usual: int = 224
    grayscale: bool | None = None
    resize: int | None = None
    workers: int | None = None
    cache: Path | None = None
    observer: Observer = field(default_factory=Observer)


def load(name: str, data_dir: Path | None = None, form: ImageForm | None = None) -> Any:
    """Load a data set by name; return it as a `Dataset`, or as whatever a factory of the user returns.

    Args:
        name: one of `settings.DATA_NAMES`.
        data_dir: the folder that holds `MNIST/raw`, folders of photos and the like; see `root_of`.
        form: of the images.

    Raises:
        DataError: no such data set, or it cannot be loaded; the message then says what to put where.
    """
    form = form or ImageForm()
    check(name, data_dir)
    name = data_name(name)
    family, _, argument = name.partition(":")
    if family == "imagefolder":
        return _photos(_image_folder(argument, data_dir), form)
    if family == "imagenette":
        return _photos(imagenette.folder(argument or "full", root_of(data_dir)), form)
    root = root_of(data_dir, needed=name in DOWNLOADED)
    data = SMALL_IMAGE_SETS[name](root) if name in SMALL_IMAGE_SETS else _from_factory(name)
    if not isinstance(data, Dataset):
        return data
    return Dataset(*(_in_form(split, name, form) for split in (data.train, data.test)))


def _from_factory(name: str) -> Any:
    """Return what a factory of the user returns.

    Raises:
        DataError: there is no such factory, or it fails; for a `Task` without what it needs, with the right form.
    """
    try:
        return call_factory(name, DataError)
    except DataError as error:
        if f"{Task.__name__}.__init__()" not in str(error):
            raise
        raise DataError(f"{error}; {FORM}") from error


def check(name: str, data_dir: Path | None = None) -> None:
    """Check the name and the folder of a data set, without loading or downloading it.

    Raises:
        DataError: no such data set, or no such folder.
    """
    try:
        family, _, argument = data_name(name).partition(":")
    except ValueError as error:
        raise DataError(str(error)) from error
    root_of(data_dir, needed=family in DOWNLOADED)
    if family == "imagefolder":
        _image_folder(argument, data_dir)
    elif names_code(name):
        find_factory(name, DataError)


def root_of(data_dir: Path | None, *, needed: bool = True) -> Path:
    """Return the folder of data sets: the option's, else `$DCOMP_DATA`, else a cache folder.

    Raises:
        DataError: the option's folder does not exist; or the environment's does not, and is `needed`.
    """
    named = os.environ.get("DCOMP_DATA")
    root = (data_dir or Path(named or CACHE)).expanduser()
    if not root.is_dir() and (data_dir is not None or (named and needed)):
        option = "--data-dir (data_dir)" if data_dir is not None else "$DCOMP_DATA"
        raise DataError(f"{option}: {root} is no folder; name an existing folder, or create it")
    return root


def _image_folder(argument: str, data_dir: Path | None) -> Path:
    """Return the folder that `imagefolder:` names, from the current folder, else from the folder of data sets."""
    path = Path(argument).expanduser()
    places = [path, root_of(data_dir, needed=False) / path]  # equal for an absolute path
    for place in places:
        if place.is_dir():
            return place
    raise DataError(
        f"{' and '.join(dict.fromkeys(map(str, places)))}: no such folder of photos; put a folder for each class "
        "into it, as in train/CLASS/*.jpg and val/CLASS/*.jpg"
    )


def _photos(path: Path, form: ImageForm) -> Dataset:
    from dcomp.learning.datasets import image_folders  # here, not above: the others need no torchvision

    crop = form.crop or form.usual
    side = form.resize or 8 * round(crop / 7)
    if side < crop:
        raise UsageError(f"--resize {side} is less than the {crop} pixels that the network takes")
    channels = 1 if form.grayscale else 3
    return image_folders.load(path, PhotoDecoding(side, channels, form.workers, form.cache, form.observer), crop)


def _in_form(split: Split, name: str, form: ImageForm) -> Split:
    """Return an in-memory split in the form that the network takes; a split of the user's class stays as it is.

    Raises:
        DataError: its images are smaller.
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
