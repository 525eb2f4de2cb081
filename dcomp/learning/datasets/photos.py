"""Photo files -> stored images: decoded for each batch by worker processes, or once into a file mapped into memory."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader

from dcomp.errors import DataError, OutputError, first_line
from dcomp.learning import distributed
from dcomp.progress.observer import Observer
from dcomp.system import cores
from dcomp.system.files import replacing
from dcomp.system.ranks import LOCAL_WORLD_SIZE

ImageFile.LOAD_TRUNCATED_IMAGES = True  # what is missing of a photo is gray
CACHE_VERSION = 1
CACHE_BATCH = 64  # photos that a worker hands over at a time


@dataclass(frozen=True)
class PhotoDecoding:
    """How photos are decoded and stored, and by how many processes.

    Args:
        side: height and width of a stored photo.
        channels: 1 for grayscale, 3 for RGB.
        workers: processes that decode; None: one a core, which processes that train together share.
        cache: folder for the files of decoded photos; None: photos are decoded whenever they are used.
        observer: watches while a file is written.
    """

    side: int = 256
    channels: int = 3
    workers: int | None = None
    cache: Path | None = None
    observer: Observer = field(default_factory=Observer)

    def processes(self, sharing: int) -> int:
        """Return how many processes decode for this one, where `sharing` processes share the machine's cores."""
        return max(1, cores.allowed() // sharing) if self.workers is None else self.workers


class Photos:
    """The photos of a folder, as (side, side, channels) each; they are decoded when they are indexed."""

    def __init__(self, folder: Path, paths: Sequence[str], decoding: PhotoDecoding) -> None:
        """Take the folder, the paths of its photos, and how they are stored."""
        self.folder = folder
        self.paths = paths
        self.decoding = decoding

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Return a stored photo, (channels, side, side)."""
        return torch.from_numpy(decode(self.paths[index], self.decoding.side, self.decoding.channels)).movedim(-1, 0)

    def batches(self, order: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield stored photos, (n, channels, side, side), for each tensor of indices in `order`."""
        if self.decoding.cache is None:
            yield from self._decoded(order)
        else:
            for indices in order:
                yield self._cached[indices].movedim(-1, 1)

    def _decoded(self, order: Sequence[Tensor], sharing: int = LOCAL_WORLD_SIZE) -> Iterator[Tensor]:
        sampler = [indices.tolist() for indices in order]
        workers = min(self.decoding.processes(sharing), len(sampler) - 1)  # one batch is sooner decoded here
        try:
            yield from DataLoader(
                self,  # type: ignore[arg-type]  # a data set by its methods
                batch_sampler=sampler,
                num_workers=max(0, workers),
                generator=torch.Generator(),  # or it would draw from the one that makes the weights
            )
        except DataError as error:  # a worker's comes with its traceback
            raise DataError(str(error).strip().rpartition("DataError: ")[2]) from error

    @cached_property
    def _cached(self) -> Tensor:
        """All photos, (n, side, side, channels), mapped into memory from a file that is made if it is not there."""
        assert self.decoding.cache is not None  # `batches` has checked it
        path = self.decoding.cache / f"{self.folder.name}-{self._fingerprint()}.npy"
        with distributed.first_goes_ahead():
            if not path.exists():
                self._fill(path)
        try:
            return torch.from_numpy(np.load(path, mmap_mode="c"))  # torch takes no array that is read-only
        except (OSError, ValueError) as error:
            raise DataError(f"the cache {path} is damaged ({first_line(error)}); delete it") from error

    def _fingerprint(self) -> str:
        """Return a digest that changes when a photo is added, removed or changed, or stored otherwise."""
        files = [(path, stat.st_size, stat.st_mtime_ns) for path in self.paths for stat in [Path(path).stat()]]
        text = json.dumps(
            [CACHE_VERSION, self.decoding.side, self.decoding.channels, str(self.folder.resolve()), files]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _fill(self, path: Path) -> None:
        shape = len(self), self.decoding.side, self.decoding.side, self.decoding.channels
        observer = self.decoding.observer
        observer.note(f"{len(self):,} photos of {self.folder} are decoded into {path}")
        observer.activity("caching photos")
        observer.started_bytes(int(np.prod(shape)))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, force=True) as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for images in self._decoded(torch.arange(len(self)).split(CACHE_BATCH), sharing=1):
                    file.write(images.movedim(1, -1).contiguous().numpy().data)
                    observer.finished_bytes(images.nbytes)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        finally:
            observer.finished()


def decode(path: str, side: int, channels: int) -> np.ndarray:
    """Return a photo of any mode, its short side resized and its centre cut: (side, side, channels), uint8.

    Raises:
        DataError: it is not an image.
    """
    mode = "L" if channels == 1 else "RGB"
    try:
        with Image.open(path) as image:
            image.draft(mode, (side, side))  # a large JPEG is decoded at half its size, or less
            square = ImageOps.fit(image.convert(mode), (side, side), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no image that can be read ({first_line(error)}); mend or remove it") from error
    return np.asarray(square).reshape(side, side, channels).copy()
