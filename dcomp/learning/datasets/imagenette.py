"""Imagenette (fast.ai): ten easy classes of ImageNet, 9,469 photos to train on and 3,925 to test."""

from pathlib import Path

from dcomp.errors import DataError, first_line

FOLDERS = {"full": "imagenette2", "320px": "imagenette2-320", "160px": "imagenette2-160"}


def folder(size: str, root: Path) -> Path:
    """The folder under `root` that holds `train` and `val`, downloaded if it is not there.

    Args:
        size: of the photos: `full`, or their short side, `320px` or `160px`.
        root: the folder of data sets.

    Raises:
        DataError: it is not there and cannot be downloaded.
    """
    found = root / FOLDERS[size]
    if (found / "train").is_dir() and (found / "val").is_dir():
        return found
    from dcomp.learning import vision  # here, not above: what is there needs no torchvision to be found

    try:
        vision.datasets.Imagenette(str(root), split="train", size=size, download=True)
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(
            f"imagenette is not in {found} and cannot be downloaded ({first_line(error)}); put its folders train and "
            f"val there (they come in {FOLDERS[size]}.tgz), or name another folder with --data-dir"
        ) from error
    return found
