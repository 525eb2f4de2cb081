"""Damages containers, files of torch and numpy, and safetensors files, and holds dcomp to its promises.

Nothing but DcompErrors comes out, in bounded time and memory. What is read is what `torch.load(mmap=False)`, numpy and
the safetensors library read; what they refuse is refused. What was encoded is decoded. Run it as

    python tests/fuzz.py --kind dcz --cases 200000 --seed 1 --processes 2
    python tests/fuzz.py --kind pt --cases 100000 --seed 1 --processes 2
    python tests/fuzz.py --kind safetensors --cases 100000 --seed 1 --processes 2
    python tests/fuzz.py --kind npz --cases 100000 --seed 1 --processes 2

A finding is written to a folder, with its traceback; `--start N --cases 1` tries case N again.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import io
import json
import multiprocessing
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing import containers, npz_files, safetensors_files, torch_files
from fuzzing.cases import MAX_MEMORY, Case, Kind, demand

from dcomp.cli import run as command_line

KINDS = {
    "dcz": containers.KIND,
    "pt": torch_files.KIND,
    "safetensors": safetensors_files.KIND,
    "npz": npz_files.KIND,
}

SECONDS_A_CASE = 5
"""Of the processor: a busy machine is no finding."""

MARGIN = 5
"""A case may take this many times the limit: it counts what decoding needs, not every buffer on the way."""

COMMAND_LINE_EVERY = 100
"""Every so many cases the command line is run as well."""

MEMORY_OF_A_PROCESS = 1 << 30
"""Address space that a process may take beyond what it begins with."""

SECONDS_OF_SILENCE = 120
"""A process that tries one case for so long hangs."""

KIB = 1 if sys.platform == "darwin" else 1024


class TookTooLongError(BaseException):
    """A case that took too long; no error that anybody catches."""


def case(kind: Kind, number: int, seed: int) -> Case:
    """The case of that number, the same whenever it is made."""
    return kind.make(np.random.default_rng([seed, number]))


def run(name: str, numbers: Iterable[int], seed: int, findings: Path | None, position=None) -> Counter[str]:
    """Try cases of a kind; those that break a promise are kept, or raised where there is no folder for them.

    `position`, where given, always has the number of the case that is tried.
    """
    kind, outcomes = KINDS[name], Counter()
    signal.signal(signal.SIGPROF, _too_long)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        path = Path(folder) / f"case{kind.suffix}"
        for number in numbers:
            if position is not None:
                position.value = number
            one_case = case(kind, number, seed)
            path.write_bytes(one_case.data)
            peak = _forget_peak()
            try:
                signal.setitimer(signal.ITIMER_PROF, SECONDS_A_CASE)
                outcomes[kind.judge(one_case, path)] += 1
                if number % COMMAND_LINE_EVERY == 0:
                    _through_the_command_line(path)
                growth = peak_bytes() - peak
                demand(growth <= MARGIN * MAX_MEMORY, f"{growth:,} bytes of memory")
            except (Exception, TookTooLongError):
                signal.setitimer(signal.ITIMER_PROF, 0)
                outcomes["findings"] += 1
                if findings is None:
                    raise
                _keep(one_case, findings / f"{name}-{seed}-{number}", kind.suffix)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
    return outcomes


def _too_long(*_: object) -> None:
    raise TookTooLongError(f"{SECONDS_A_CASE} seconds")


def _forget_peak() -> int:
    """Let the peak of memory begin anew where the system can; what it is then."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    """The most memory that the process has taken, since it was forgotten where the system can forget."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _through_the_command_line(path: Path) -> None:
    """Run each command on a file; it may fail with one line, and not with one that tells of a defect."""
    is_container = path.suffix == ".dcz"
    output = path.with_name("output")
    commands = [
        ["report", path],
        *([["inspect", path], ["verify", path], ["decode", path]] if is_container else [["encode", path]]),
    ]
    for command in commands:
        words = [str(word) for word in command] + (
            ["-f", "-o", str(output)] if command[0] in ("encode", "decode") else []
        )
        out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command_line(words)
        errors = [line for line in err.getvalue().splitlines() if line.startswith("error: ")]
        demand(code == 0 or len(errors) == 1, f"dcomp {command[0]} exits {code} and says {err.getvalue()!r}")
        demand("defect" not in err.getvalue(), f"dcomp {command[0]}: {err.getvalue()}")


def _keep(one_case: Case, stem: Path, suffix: str) -> None:
    stem.parent.mkdir(exist_ok=True, parents=True)
    stem.with_name(stem.name + suffix).write_bytes(one_case.data)
    stem.with_name(stem.name + ".txt").write_text(traceback.format_exc())


def _work(name, numbers, seed, findings, position, results) -> None:
    """A process: its memory is limited, and what it finds goes to `results`."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else None
    if pages is not None:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_OF_A_PROCESS,) * 2)
    results.put(run(name, numbers, seed, findings, position))


def run_in_processes(name: str, numbers: range, seed: int, findings: Path, processes: int) -> Counter[str]:
    """Try cases in several processes; one that dies or hangs is a finding, and another goes on behind its case."""
    context = multiprocessing.get_context("fork")
    total: Counter[str] = Counter()
    left = [numbers[part::processes] for part in range(processes)]
    running = {}
    while left or running:
        while left and len(running) < processes:
            part, position, results = left.pop(), context.Value("q", -1), context.SimpleQueue()
            process = context.Process(target=_work, args=(name, part, seed, findings, position, results))
            process.start()
            running[process] = part, position, results, [-1, time.monotonic()]
        time.sleep(0.2)
        for process, (part, position, results, seen) in list(running.items()):
            if seen[0] != position.value:
                seen[:] = position.value, time.monotonic()
            elif time.monotonic() - seen[1] > SECONDS_OF_SILENCE:
                process.kill()
                process.join()
            if not results.empty():
                total += results.get()
            elif process.is_alive():
                continue
            else:
                total["findings"] += 1
                print(f"case {position.value}: the process ended with {process.exitcode}", file=sys.stderr)
                left.append(part[part.index(position.value) + 1 :] if position.value in part else range(0))
            process.join()
            del running[process]
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=KINDS, default="dcz")
    parser.add_argument("--cases", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    arguments = parser.parse_args()
    started = time.perf_counter()
    numbers = range(arguments.start, arguments.start + arguments.cases)
    outcomes = run_in_processes(arguments.kind, numbers, arguments.seed, arguments.findings, arguments.processes)
    minutes = round((time.perf_counter() - started) / 60, 2)
    findings = outcomes.pop("findings", 0)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    summary = {"kind": arguments.kind, "seed": arguments.seed, "cases": arguments.cases, "minutes": minutes}
    summary["cases a second of a core"] = round(arguments.cases / (used.ru_utime + used.ru_stime))
    print(json.dumps({**summary, "findings": findings, "outcomes": dict(outcomes)}, indent=2))
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
