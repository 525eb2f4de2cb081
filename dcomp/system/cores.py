"""The processors that this process may use, the free ones among them, and how threads wait for each other."""

import os
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dcomp.system.ranks import LOCAL_WORLD_SIZE

THREADS = "OMP_NUM_THREADS"
"""The variable that sets the number of threads; torch and numpy read it when they are imported."""

WAIT_POLICY = "OMP_WAIT_POLICY"
PASSIVE = {WAIT_POLICY: "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Variables that let threads sleep while they wait; GNU's and LLVM's OpenMP read them when they are loaded."""

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
PROCESSOR_TIMES = Path("/proc/stat")
IDLE = (3, 4)  # places of the idle times in a row: idle, and waiting for input or output
WATCHED = 0.2  # seconds for which processors are watched


def wait_passively() -> None:
    """Let OpenMP's threads sleep while they wait, unless the environment sets it; call this before torch is imported.

    A thread that spins keeps the processor from the threads that it waits for.
    """
    if not PASSIVE.keys() & os.environ.keys():
        os.environ.update(PASSIVE)


_free: int | None = None  # cached, so that all stages of a run compute alike


def free() -> int:
    """Count the allowed processors that no other process keeps busy, at least 1.

    The first call watches them for a fifth of a second. Processes that train together share the free processors.
    """
    global _free
    if _free is None:
        _free = max(1, min(in_affinity() - round(busy()), allowed()) // LOCAL_WORLD_SIZE)
    return _free


def take(count: int | None) -> None:
    """Set the number that `free` returns; with None, let it count again."""
    global _free
    _free = count


def allowed() -> int:
    """Count the processors that affinity and the quota of the control groups allow, at least 1."""
    limit = quota()
    return in_affinity() if limit is None else max(1, min(in_affinity(), int(limit)))


def in_affinity() -> int:
    """Count the processors that the affinity allows."""
    return len(_affinity()) or os.cpu_count() or 1


def quota(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """Read how many processors' time the control groups allow (cgroup v1 and v2); None: no limit.

    Args:
        root: where control groups are mounted.
        membership: a file that lists the control groups of this process.
    """
    limits = [limit for folder in _groups(root, membership) if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def busy(seconds: float = WATCHED, source: Path = PROCESSOR_TIMES) -> float:
    """Measure how many of the allowed processors are busy, while this process sleeps for `seconds`.

    Where the system does not report it, return the load of the last minute.
    """
    before = _times(source)
    if not before:
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    time.sleep(seconds)
    after = _times(source)
    return sum(_busy_part(before[number], after[number]) for number in before.keys() & after.keys())


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _groups(root: Path, membership: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups, and of the groups around them."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        mounts = [root / controllers, root / "cpu"] if controllers else [root, root / "unified"]
        path = PurePosixPath(group.lstrip("/"))
        for mount in mounts:
            yield from (mount / part for part in (path, *path.parents))


def _limit(folder: Path) -> float | None:
    """Read how many processors' time one control group allows."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return int(quota) / int(period) if quota.isdecimal() else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _times(source: Path) -> dict[int, tuple[int, int]]:
    """Return for each allowed processor its busy ticks and all ticks; nothing where the system reports none."""
    try:
        lines = source.read_text().splitlines()
    except OSError:
        return {}
    rows = {name: [int(number) for number in numbers] for name, *numbers in map(str.split, lines) if name[:3] == "cpu"}
    times = {number: rows[f"cpu{number}"][:8] for number in _affinity() if f"cpu{number}" in rows}
    return {number: (sum(row) - sum(row[place] for place in IDLE), sum(row)) for number, row in times.items()}


def _busy_part(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Return the fraction of the ticks between two readings in which a processor was busy."""
    ticks = after[1] - before[1]
    return (after[0] - before[0]) / ticks if ticks else 0.0
