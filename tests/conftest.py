"""What tests share: small checkpoints, the real MNIST where it is, and the command line run in this process."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; torch reads it when it is imported
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and tables would be made to fit

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from dcomp.checkpoints import safetensors_file
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.cli import run

# A busy machine is no failure; HYPOTHESIS_PROFILE=thorough draws more.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("default"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def lenet_like(rng: np.random.Generator) -> Checkpoint:
    """A dense checkpoint with the names and shapes of lenet300, and its metadata."""
    shapes = {"fc1": (300, 784), "fc2": (100, 300), "fc3": (10, 100)}
    tensors = {}
    for name, shape in shapes.items():
        tensors[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)
        tensors[f"{name}.bias"] = rng.normal(size=shape[0]).astype(np.float32)
    return Checkpoint(tensors, {"dcomp.architecture": "lenet300"})


@pytest.fixture
def dense_file(tmp_path: Path, lenet_like: Checkpoint) -> Path:
    path = tmp_path / "lenet300.safetensors"
    with path.open("wb") as file:
        safetensors_file.save(lenet_like, file)
    return path


@pytest.fixture
def dcomp(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line; gives the exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def recipe(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The file of a recipe: of what the module of the test calls RECIPE."""
    path = tmp_path / "tiny.yaml"
    path.write_text(request.module.RECIPE)
    return path


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder that holds the real MNIST; tests that need it are skipped where it is not."""
    for folder in (os.environ.get("DCOMP_DATA"), Path(__file__).parents[2] / "shared" / "data"):
        if folder and (Path(folder) / "MNIST" / "raw" / "t10k-images-idx3-ubyte").exists():
            return Path(folder)
    pytest.skip("MNIST is neither in $DCOMP_DATA nor in ../shared/data")
