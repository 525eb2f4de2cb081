"""encode, decode and report on a generated VGG-16 of ImageNet's size; `python tests/benchmarks/vgg16.py`."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from checkpoints import vgg16
from safetensors.numpy import save_file


def measured(*arguments: str) -> str:
    """Seconds and peak memory of a command."""
    started = time.perf_counter()
    child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-m", "dcomp", *arguments])
    _, status, usage = os.wait4(child, 0)
    assert status == 0
    return f"{arguments[0]}: {time.perf_counter() - started:.2f} s, peak {usage.ru_maxrss * 1024 / 1e6:,.0f} MB"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        dense, encoded, decoded = (
            str(Path(folder) / name) for name in ("vgg16.safetensors", "vgg16.dcz", "back.safetensors")
        )
        save_file(vgg16(), dense)
        lines = [
            measured("encode", dense, "-o", encoded, "-q"),
            measured("decode", encoded, "-o", decoded, "-q"),
            measured("report", encoded, "--json"),
        ]
        assert Path(dense).read_bytes() == Path(decoded).read_bytes()
        subprocess.run([sys.executable, "-m", "dcomp", "report", encoded], check=True)
        print(f"{Path(dense).stat().st_size:,} bytes in {Path(encoded).stat().st_size:,}", *lines, sep="\n")


if __name__ == "__main__":
    main()
