import errno
import os
import time

import numpy as np
import pytest

from dcomp import save
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.container import writer
from dcomp.container.reader import Container
from dcomp.errors import CheckpointError, DcompError
from dcomp.system import parallel
from dcomp.system.files import Counted


class Bytes(Counted):
    def __init__(self):
        super().__init__()
        self.data = b""

    def write(self, data):
        self.data += bytes(data)
        return super().write(data)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_gives_its_result_once(workers):
    tasks = [lambda i=i: [bytes([i]) * i, memoryview(b"end")] for i in range(40)]
    task_results = dict(parallel.results(tasks, workers))
    assert {number: b"".join(parts) for number, parts in task_results.items()} == {
        i: bytes([i]) * i + b"end" for i in range(40)
    }


def fail():
    raise CheckpointError("what is wrong")


def test_an_error_in_a_worker_is_the_error():
    with pytest.raises(CheckpointError, match="what is wrong"):
        list(parallel.results([lambda: [b"fine"], fail], 2))


@pytest.mark.parametrize(("error", "text"), [(MemoryError(), "MemoryError"), (ValueError("\ud800"), "\\?")])
def test_any_error_in_a_worker_is_raised(error, text):
    def task():
        raise error

    with pytest.raises(DcompError, match=text):
        list(parallel.results([task, lambda: [b"fine"]], 2))


def test_a_damaged_container_is_one_error(rng, tmp_path, dcomp):
    tensors = {f"w{i}": rng.normal(size=(i + 1) * 500).astype(np.float32) for i in range(9)}
    data = bytearray(save(tensors))
    data[Container(bytes(data)).entries["w4"].offset + 9] ^= 1
    path = tmp_path / "damaged.dcz"
    path.write_bytes(data)
    for workers in (1, 2, 4):
        code, out, err = dcomp("encode", path, "-o", tmp_path / "again.dcz", "-w", workers, "-q")
        assert (code, out) == (1, "")
        assert err == "error: tensor 'w4': its checksum does not match, the file is damaged\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["damaged.dcz"]


def test_a_killed_worker_is_an_error():
    with pytest.raises(DcompError, match="was killed"):
        list(parallel.results([lambda: os.kill(os.getpid(), 9), lambda: os.kill(os.getpid(), 9)], 2))


def test_any_number_of_workers_gives_the_same_bytes(rng):
    tensors = {f"w{i}": rng.normal(size=(i + 1) * 500).astype(np.float32) for i in range(9)}
    tensors["tied"] = tensors["w3"]
    containers = []
    for workers in (1, 2, 3):
        stream = Bytes()
        writer.write(Checkpoint(tensors, {"a": "b"}), stream, workers=workers)
        containers.append(stream.data)
    assert containers[0] == containers[1] == containers[2] == save(tensors, {"a": "b"})


def test_more_tasks_than_a_pipe_holds_are_run():
    task_results = dict(parallel.results([lambda: [b"x"]] * 20_000, 2))
    assert len(task_results) == 20_000


def test_a_failing_fork_is_one_error(monkeypatch):
    def refuse():
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    message = r"cannot start a worker process: Resource temporarily unavailable; ask for fewer of them \(--workers\)"
    with pytest.raises(DcompError, match=message):
        list(parallel.results([lambda: [b"x"]] * 3, 2))


def test_workers_end_with_their_iterator():
    results = parallel.results([lambda: [os.getpid().to_bytes(8)], *[lambda: time.sleep(100) or [b""]] * 2], 2)
    worker = int.from_bytes(next(results)[1][0])
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
