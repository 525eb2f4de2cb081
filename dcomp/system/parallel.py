"""Tasks in several processes at the same time, for work that numpy does in many short steps.

Threads do not help: each step holds the interpreter's lock for about as long as numpy works without it. So workers are
forks, which share the memory of their parent; their results come back as bytes. Encoding has small results. Decoding
is about as fast as its results could be passed between processes, and so has no workers.
"""

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from typing import IO

import numpy as np

from dcomp import errors
from dcomp.errors import DcompError
from dcomp.system.temporary import writing_temporary_files

Task = Callable[[], Sequence[bytes | memoryview]]
"""Returns its result in parts."""

try:
    import fcntl
except ImportError:  # no processes are forked there either
    fcntl = None  # type: ignore[assignment]

PIPE_BYTES = 1 << 20
"""Size of a pipe's buffer, so that a worker need not wait while its result is read."""

OK, FAILED = b"\0", b"\1"


def results(tasks: Sequence[Task], workers: int) -> Iterator[tuple[int, list[bytes | memoryview]]]:
    """Run tasks in worker processes, and yield the number and result of each task when it is done.

    The tasks start in order. Workers end with this process, also where that is killed, and as soon as the iterator is
    closed.

    Args:
        tasks: functions to run; with one worker, or where a system cannot fork, in this process and in order.
        workers: how many processes.

    Raises:
        DcompError: that of a task that failed, or a worker was killed, or cannot be started.
    """
    workers = min(workers, len(tasks))
    if workers < 2 or not hasattr(os, "fork"):
        for number, task in enumerate(tasks):
            yield number, list(task())
        return
    queue = _number_queue(len(tasks))
    children: dict[Connection, int] = {}
    lifeline = os.pipe()
    try:
        for _ in range(workers):
            connection, child = _start_worker(tasks, queue, lifeline, children)
            children[connection] = child
        yield from _collected(children, len(tasks))
    finally:
        queue.close()
        for end in lifeline:
            os.close(end)
        for connection, child in children.items():
            connection.close()
            os.kill(child, signal.SIGKILL)  # it has nothing to clean up, and its task may take minutes
            os.waitpid(child, 0)


def _start_worker(
    tasks: Sequence[Task], queue: IO[bytes], lifeline: tuple[int, int], siblings: Iterable[Connection]
) -> tuple[Connection, int]:
    """Fork a worker, which runs tasks and ends.

    Args:
        tasks: all tasks.
        queue: the numbers of the tasks that no worker has started.
        lifeline: both ends of a pipe; once no process has the second one open, this process has ended.
        siblings: connections to the workers before.

    Returns:
        a connection to read results from, and the id of the process.

    Raises:
        DcompError: the system allows no more processes, or open files.
    """
    try:
        ours, theirs = _pipe()
        child = os.fork()
    except OSError as error:
        raise DcompError(
            f"cannot start a worker process: {error.strerror}; ask for fewer of them (--workers)"
        ) from error
    if child == 0:
        for inherited in (ours, *siblings):  # a pipe whose reading end a worker keeps open never breaks
            inherited.close()
        os.close(lifeline[1])
        threading.Thread(target=_exit_with_parent, args=(lifeline[0],), daemon=True).start()
        _work(tasks, queue, theirs)
    theirs.close()
    return ours, child


def _exit_with_parent(lifeline: int) -> None:
    """End this process when its parent, which alone has the other end of the pipe open, has ended."""
    os.read(lifeline, 1)
    os._exit(1)


def _collected(children: dict[Connection, int], count: int) -> Iterator[tuple[int, list[bytes | memoryview]]]:
    """Yield the results of `count` tasks; remove workers that end from `children`."""
    done = 0
    while done < count:
        if not children:
            raise DcompError("a worker process was killed; fewer of them (--workers) take less memory")
        for connection in wait(list(children)):
            assert isinstance(connection, Connection)
            try:
                yield _received(connection)
                done += 1
            except EOFError:  # no task is left for it
                connection.close()
                os.waitpid(children.pop(connection), 0)


def _pipe() -> tuple[Connection, Connection]:
    """Open a pipe with a large buffer, so that a worker continues while its result is read."""
    ours, theirs = Pipe(duplex=False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # more than a user is allowed
            fcntl.fcntl(theirs.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return ours, theirs


def _number_queue(count: int) -> IO[bytes]:
    """Return a file of the numbers below `count`; processes that share it share its position, and read each once."""
    with writing_temporary_files():
        queue = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # `results` closes it
        queue.write(np.arange(count, dtype=np.uint32).tobytes())
        queue.seek(0)
    return queue


def _work(tasks: Sequence[Task], queue: IO[bytes], connection: Connection) -> None:
    """Run tasks until none is left, and end this process."""
    try:
        while number := queue.read(4):
            try:
                parts, status = list(tasks[int.from_bytes(number, "little")]()), OK
            except Exception as error:
                text = str(error) or type(error).__name__
                parts, status = [type(error).__name__.encode(), text.encode(errors="replace")], FAILED
            connection.send_bytes(number + status + len(parts).to_bytes(4, "little"))
            for part in parts:
                connection.send_bytes(part)
            del parts
    except (BrokenPipeError, KeyboardInterrupt):  # the parent needs no more results
        pass
    finally:
        os._exit(0)


def _received(connection: Connection) -> tuple[int, list[bytes | memoryview]]:
    """Read a task's number and result.

    Raises:
        EOFError: the worker has ended.
        DcompError: that of the task.
    """
    head = connection.recv_bytes()
    parts: list[bytes | memoryview] = [connection.recv_bytes() for _ in range(int.from_bytes(head[5:], "little"))]
    if head[4:5] == FAILED:
        name, message = (bytes(part).decode() for part in parts)
        raise getattr(errors, name, DcompError)(message)
    return int.from_bytes(head[:4], "little"), parts
