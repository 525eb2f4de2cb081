"""Formats that dcomp does not read, by the first bytes of a file or the end of its name, and what to export instead."""

from dataclasses import dataclass
from pathlib import Path

STATE_DICT = "save the state_dict() of the network that it was exported from"


@dataclass(frozen=True)
class ForeignFormat:
    """A format that is refused.

    Attributes:
        name: as its users say it.
        instead: what to do.
        magic: bytes by which it is recognized; none where it has none.
        place: where they are in the file.
        suffixes: ends of file names by which it is recognized.
    """

    name: str
    instead: str
    magic: bytes = b""
    place: int = 0
    suffixes: tuple[str, ...] = ()

    def refusal(self, path: Path) -> str:
        """Return what to say of a file that has this format."""
        return f"{path} is {self.name}, which dcomp does not read: {self.instead}"


KERAS_PART = "model.weights.h5"
"""A part of every .keras file, which is a zip file."""

KERAS = 'load the model, and numpy.savez("X.npz", **{weight.path: weight.numpy() for weight in model.weights})'

FORMATS = (
    ForeignFormat("an ONNX model", f"{STATE_DICT}, or its initializers by numpy.savez", suffixes=(".onnx",)),
    ForeignFormat(
        "a GGUF file", "name the safetensors file or folder that it was converted from", b"GGUF", 0, (".gguf",)
    ),
    ForeignFormat("a TFLite model", f"in Keras, {KERAS}", b"TFL3", 4, (".tflite",)),
    ForeignFormat("an HDF5 file", f"in Keras, {KERAS}", b"\x89HDF\r\n\x1a\n", 0, (".h5", ".hdf5")),
    ForeignFormat("a Keras model", f"in Keras, {KERAS}", suffixes=(".keras",)),
    ForeignFormat("a TensorFlow graph", f"in TensorFlow, {KERAS}", suffixes=(".pb",)),
    ForeignFormat("a Core ML model", STATE_DICT, suffixes=(".mlmodel", ".mlpackage")),
    ForeignFormat("a Flax checkpoint", "save its parameters by safetensors.flax.save_file", suffixes=(".msgpack",)),
)
"""All of them; others may be added."""


def format_of(path: Path, start: bytes) -> ForeignFormat | None:
    """Return the format that a file has by its first bytes, else by its name; None where dcomp knows none."""
    by_bytes = (form for form in FORMATS if form.magic and start.startswith(form.magic, form.place))
    by_name = (form for form in FORMATS if path.suffix.lower() in form.suffixes)
    return next(by_bytes, None) or next(by_name, None)
