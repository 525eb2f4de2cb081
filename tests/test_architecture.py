"""The house: imports run downward only, and what must start fast imports no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dcomp

HOUSE = Path(dcomp.__file__).parent

FLOORS = [  # from the ground up; a module imports from its own room, and from floors below its own
    ["errors"],
    ["system"],
    ["checkpoints"],
    ["coding", "pruning", "quantization"],
    ["progress"],
    ["settings"],
    ["container"],
    ["learning"],
    ["compression"],
    ["sources", "outputs"],
    ["reporting"],
    ["stages", "api"],
    ["runs"],
    ["cli"],
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ABOVE_ALL = {"__init__", "__main__", "torch"}  # torch is the name under which users import it


def room_of(path: Path) -> str:
    return path.relative_to(HOUSE).with_suffix("").parts[0]


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "dcomp" else {node.module}
            )
    return found


MODULES = [path for path in HOUSE.rglob("*.py") if room_of(path) not in ABOVE_ALL]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_imports_run_downward_only(path):
    floor = FLOOR_OF[room_of(path)]
    for module in imports_of(path):
        if not module.startswith("dcomp.") or module.split(".")[1] in (room_of(path), "__version__"):
            continue
        assert FLOOR_OF[module.split(".")[1]] < floor, f"{path.name} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_only_learning_imports_torch(path):
    roots = {module.split(".")[0] for module in imports_of(path)}
    assert room_of(path) == "learning" or not roots & {"torch", "torchvision", "sklearn"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_no_file_passes_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


WITHOUT_TORCH = """
import sys
from dcomp.cli import run
code = run(sys.argv[1:])
loaded = {"torch", "torchvision", "sklearn"} & set(sys.modules)
sys.exit(f"imported {loaded}" if loaded else code)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["prune", "lenet300.safetensors", "--sparsity", "0.9", "-o", "out"],
        ["prune", "lenet300.safetensors", "--sparsity", "0.9", "--criterion", "numpy:abs", "-o", "out"],
        ["quantize", "lenet300.safetensors", "--fc-bits", "5", "-o", "out"],
        ["encode", "lenet300.safetensors", "-o", "out"],
        ["decode", "lenet300.dcz", "-o", "out"],
        ["decode", "lenet300.dcz", "-o", "out.npz"],
        ["decode", "lenet300.dcz", "--like", "."],
        ["encode", "lenet300.npz", "-o", "out"],
        ["prune", "folder", "--sparsity", "0.9"],
        ["report", "lenet300.dcz"],
        ["report", "lenet300.safetensors"],
        ["inspect", "lenet300.dcz"],
        ["inspect", "lenet300.safetensors"],
        ["verify", "lenet300.dcz", "--against", "lenet300.safetensors"],
        ["bench", "lenet300.safetensors", "-t", "0", "--levels", "1"],
    ],
    ids=" ".join,
)
def test_file_commands_never_import_torch(dense_file, arguments, dcomp):
    assert dcomp("encode", dense_file)[0] == 0
    assert dcomp("decode", dense_file.with_suffix(".dcz"), "-o", dense_file.with_suffix(".npz"))[0] == 0
    (dense_file.parent / "folder").mkdir()
    (dense_file.parent / "folder" / "model.safetensors").hardlink_to(dense_file)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments], cwd=dense_file.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_help_needs_no_numpy():
    code = "import sys; from dcomp.cli import run; run(['--help']); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
