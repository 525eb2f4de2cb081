"""Stop a command on Ctrl-C or SIGTERM within a second or two, without a temporary file left."""

import contextlib
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from dcomp.errors import INTERRUPTED, TERMINATED
from dcomp.system.temporary import remove_parts

GRACE = 1.0
"""Seconds in which Python must handle a signal; a call of numpy or zstd may keep it busy for minutes."""

INTERRUPTION = "interrupted; no file is half written"

STDERR_DESCRIPTOR = 2
SHOW_CURSOR = b"\x1b[?25h"

_handled = threading.Event()


def listen() -> None:
    """Let both signals end the program by an exception, or at once if that takes too long."""
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a shell ignores it
        signal.signal(signal.SIGINT, _interrupt)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    if hasattr(os, "register_at_fork"):  # a fork has its own signals
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_watch, args=(reading,), daemon=True).start()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    _handled.set()
    sys.exit(TERMINATED)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    _handled.set()
    raise KeyboardInterrupt


def _watch(signals: int) -> None:
    """End the program when a signal is not handled in time, but for signals that training handles."""
    while True:
        number = os.read(signals, 1)[0]
        if signal.getsignal(number) in (_terminate, _interrupt) and not _handled.wait(GRACE):
            remove_parts()
            with contextlib.suppress(OSError):
                os.write(STDERR_DESCRIPTOR, SHOW_CURSOR if os.isatty(STDERR_DESCRIPTOR) else b"")  # bars hide it
                os.write(STDERR_DESCRIPTOR, f"{INTERRUPTION}\n".encode() if number == signal.SIGINT else b"")
            os._exit(INTERRUPTED if number == signal.SIGINT else TERMINATED)
        _handled.clear()
