"""Ctrl-C, SIGTERM, and a full disk."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

STOPPED_AT_ONCE = 130
"""The exit status after a second Ctrl-C."""


class Interrupts:
    """Ctrl-C: once, and the sweep stops tidily; twice, and it stops at once.

    Inside the block SIGINT, also where a shell started us with it ignored, SIGTERM and SIGUSR1 are ours; afterwards
    they are as they were. Outside the main thread, where Python hands out no signals, nothing is touched.

    Args:
        resume: the command that continues the sweep, whose process a second Ctrl-C ends; None in a process that is
            not the sweep's, such as a notebook's: the second Ctrl-C raises KeyboardInterrupt.

    Attributes:
        pressed: whether Ctrl-C was pressed.
    """

    def __init__(self, resume: str | None = None):
        self.pressed = False
        self._resume = resume
        self._in_tune = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            ours = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
            self._before = {number: signal.getsignal(number) for number in ours}
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]
        self._before = {}

    def install(self) -> None:
        """Takes over again what `ray.init` took."""
        if self._before:
            signal.signal(signal.SIGINT, self._interrupt)
            signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))

    @contextlib.contextmanager
    def stopping_tune(self) -> Iterator[None]:
        """Inside the block the first Ctrl-C lets Tune end its trials and return."""
        if self._before:
            signal.signal(signal.SIGUSR1, signal.default_int_handler)  # until Tune takes it over
        self._in_tune = True
        try:
            yield
        finally:
            self._in_tune = False

    def _interrupt(self, *_: object) -> None:
        if self.pressed and self._resume is None:
            raise KeyboardInterrupt
        if self.pressed:
            print(f"stopped at once; go on with: {self._resume}", file=sys.stderr, flush=True)
            os._exit(STOPPED_AT_ONCE)  # Ray's processes end with this one
        self.pressed = True
        print("stopping; Ctrl-C again stops at once", file=sys.stderr, flush=True)
        if not self._in_tune:
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGUSR1)  # which Tune listens to as to SIGINT


class NoSpaceError(OSError):
    """A disk is full, so that the sweep cannot go on."""

    def __init__(self, cause: BaseException):
        place = getattr(cause, "filename", None)
        super().__init__(f"no space left on the device: {place or getattr(cause, 'strerror', None) or cause}")
