"""Imagenette (fast.ai): ten easy classes of ImageNet, 9,469 photos to train on and 3,925 to test."""

from pathlib import Path

from dcomp.errors import DataError, first_line

FOLDER_NAMES = {"full": "imagenette2", "320px": "imagenette2-320", "160px": "imagenette2-160"}


def folder(size: str, root: Path) -> Path:
    """Return the folder under `root` that holds `train` and `val`; download it if it is not there.

    Args:
        size: of the photos: `full`, or their short side, `320px` or `160px`.
        root: the folder of data sets.

    Raises:
        DataError: it is not there and cannot be downloaded.
    """
    path = root / FOLDER_NAMES[size]
    if (path / "train").is_dir() and (path / "val").is_dir():
        return path
    from dcomp.learning import vision  # here, not above: a folder that is there needs no torchvision

    try:
        vision.datasets.Imagenette(str(root), split="train", size=size, download=True)
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(
            f"imagenette is not in {path} and cannot be downloaded ({first_line(error)}); put its folders train and "
            f"val there (they come in {FOLDER_NAMES[size]}.tgz), or name another folder with --data-dir"
        ) from error
    return path
