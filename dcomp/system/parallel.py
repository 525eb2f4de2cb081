"""Tasks in several processes at once, for work that numpy does in many short steps.

Threads would not do: each step holds the interpreter's lock for about as long as numpy works without it. So workers are
forks, which see what was in memory before; their results come back as bytes. That suits encoding, whose results are
small: decoding is about as fast as its results could be passed on.
"""

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from typing import IO

import numpy as np

from dcomp import errors
from dcomp.errors import DcompError
from dcomp.system.temporary import writing_temporary_files

Task = Callable[[], Sequence[bytes | memoryview]]
"""Gives its result in parts."""

try:
    import fcntl
except ImportError:  # no processes are forked there either
    fcntl = None  # type: ignore[assignment]

PIPE_BYTES = 1 << 20
"""What a pipe should hold, so that a worker need not wait while its result is read."""

OK, FAILED = b"\0", b"\1"


def results(tasks: Sequence[Task], workers: int) -> Iterator[tuple[int, list[bytes | memoryview]]]:
    """Run tasks and give each result as it comes, with the number of its task; the first tasks are started first.

    Args:
        tasks: what to run; with one worker, or where processes cannot be forked, here and in order.
        workers: how many processes.

    Workers end with this process, however that ends, and at once where the results are no longer asked for.

    Raises:
        DcompError: that of a task that failed.
    """
    workers = min(workers, len(tasks))
    if workers < 2 or not hasattr(os, "fork"):
        for number, task in enumerate(tasks):
            yield number, list(task())
        return
    queue = _filled(len(tasks))
    children: dict[Connection, int] = {}
    parent_is_gone, parent_is_here = os.pipe()
    try:
        for _ in range(workers):
            ours, theirs, child = _started()
            if child == 0:  # a pipe whose reading end a worker holds open is never seen to break
                for inherited in (ours, *children):
                    inherited.close()
                os.close(parent_is_here)
                threading.Thread(target=_end_after, args=(parent_is_gone,), daemon=True).start()
                _work(tasks, queue, theirs)
            theirs.close()
            children[ours] = child
        done = 0
        while done < len(tasks):
            if not children:
                raise DcompError("a worker process was killed; fewer of them (-T) take less memory")
            for connection in wait(list(children)):
                assert isinstance(connection, Connection)
                try:
                    yield _received(connection)
                    done += 1
                except EOFError:  # it has found no more tasks
                    connection.close()
                    os.waitpid(children.pop(connection), 0)
    finally:
        queue.close()
        for end in (parent_is_gone, parent_is_here):
            os.close(end)
        for connection, child in children.items():
            connection.close()
            os.kill(child, signal.SIGKILL)  # it has nothing to tidy up, and its task may take minutes
            os.waitpid(child, 0)


def _end_after(parent_is_gone: int) -> None:
    """End this process when nobody holds the other end of a pipe any more, which its parent alone does."""
    os.read(parent_is_gone, 1)
    os._exit(1)


def _started() -> tuple[Connection, Connection, int]:
    """Fork a worker; both ends of a pipe for its results, and its number, which is 0 in the worker itself.

    Raises:
        DcompError: the system allows no more processes, or open files.
    """
    try:
        return *_pipe(), os.fork()
    except OSError as error:
        raise DcompError(f"cannot start a worker process: {error.strerror}; ask for fewer of them (-T)") from error


def _pipe() -> tuple[Connection, Connection]:
    """A pipe that takes a large part of a result at once, so that a worker goes on while its result is read."""
    ours, theirs = Pipe(duplex=False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # more than an ordinary user may have
            fcntl.fcntl(theirs.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return ours, theirs


def _filled(count: int) -> IO[bytes]:
    """A file from which each number below `count` can be read once: processes that share it share their place in it."""
    with writing_temporary_files():
        queue = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # `results` closes it
        queue.write(np.arange(count, dtype=np.uint32).tobytes())
        queue.seek(0)
    return queue


def _work(tasks: Sequence[Task], queue: IO[bytes], connection: Connection) -> None:
    """Run tasks until there are no more, and leave the process."""
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
    except (BrokenPipeError, KeyboardInterrupt):  # whoever waited for the results has gone
        pass
    finally:
        os._exit(0)


def _received(connection: Connection) -> tuple[int, list[bytes | memoryview]]:
    """A task's number and result.

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
