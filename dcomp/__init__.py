"""Deep Compression on checkpoint files: prune, share, Huffman-code, and write the real file.

These functions have the names of safetensors', and take and return numpy arrays; `dcomp.torch` has them for tensors.

>>> import dcomp, numpy as np
>>> data = dcomp.save({"fc.weight": np.eye(3, dtype=np.float32)})
>>> dcomp.load(data)["fc.weight"].shape
(3, 3)

They are imported when they are first used, so that the command line starts without numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcomp.api import load, load_file, open, save, save_file
    from dcomp.learning.task import Task

__version__ = "0.1.0"
__all__ = ["Task", "__version__", "load", "load_file", "open", "save", "save_file"]

PLACES = {"Task": "dcomp.learning.task"}
"""Modules of names that are in no `dcomp.api`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'dcomp' has no attribute {name!r}")
    return getattr(import_module(PLACES.get(name, "dcomp.api")), name)
