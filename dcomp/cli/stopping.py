"""Ctrl-C and SIGTERM: they end a command within a second or two, and no temporary file stays."""

import contextlib
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from dcomp.errors import INTERRUPTED, TERMINATED
from dcomp.system.files import remove_parts

GRACE = 1.0
"""Seconds that Python has to hear a signal; a call of numpy or zstd may keep it busy for minutes."""

INTERRUPTION = "interrupted; no file is half written"

STDERR_DESCRIPTOR = 2
SHOW_CURSOR = b"\x1b[?25h"

_heard = threading.Event()


def listen() -> None:
    """Have both signals end the program by an exception, and where that takes too long, at once."""
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a shell has it ignored
        signal.signal(signal.SIGINT, _interrupt)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    if hasattr(os, "register_at_fork"):  # the signals of a fork are not ours
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_watch, args=(reading,), daemon=True).start()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    _heard.set()
    sys.exit(TERMINATED)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    _heard.set()
    raise KeyboardInterrupt


def _watch(signals: int) -> None:
    """End the program when a signal is not heard in time; those that training listens to are its affair."""
    while True:
        number = os.read(signals, 1)[0]
        if signal.getsignal(number) in (_terminate, _interrupt) and not _heard.wait(GRACE):
            remove_parts()
            with contextlib.suppress(OSError):
                os.write(STDERR_DESCRIPTOR, SHOW_CURSOR if os.isatty(STDERR_DESCRIPTOR) else b"")  # bars hide it
                os.write(STDERR_DESCRIPTOR, f"{INTERRUPTION}\n".encode() if number == signal.SIGINT else b"")
            os._exit(INTERRUPTED if number == signal.SIGINT else TERMINATED)
        _heard.clear()
