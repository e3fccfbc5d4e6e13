"""Exit statuses, Ctrl-C, and a full disk."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

FINISHED, SOME_FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses."""


class Interrupts:
    """Ctrl-C: once, and the sweep stops tidily; twice, and it stops at once.

    Args:
        resume: the command that continues the sweep.

    Attributes:
        pressed: whether Ctrl-C was pressed.
    """

    def __init__(self, resume: str):
        self.resume = resume
        self.pressed = False
        self._in_tune = False
        self._before = signal.getsignal(signal.SIGINT)

    def __enter__(self) -> Interrupts:
        """Takes over SIGINT, also where a shell started us with it ignored, and SIGTERM."""
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        """Puts the handler of SIGINT back."""
        signal.signal(signal.SIGINT, self._before or signal.default_int_handler)

    def install(self) -> None:
        """Takes over again what `ray.init` took."""
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))

    @contextlib.contextmanager
    def stopping_tune(self) -> Iterator[None]:
        """Inside the block the first Ctrl-C lets Tune end its trials and return."""
        signal.signal(signal.SIGUSR1, signal.default_int_handler)  # until Tune takes it over
        self._in_tune = True
        try:
            yield
        finally:
            self._in_tune = False

    def _interrupt(self, *_: object) -> None:
        if self.pressed:
            print(f"stopped at once; go on with: {self.resume}", file=sys.stderr, flush=True)
            os._exit(INTERRUPTED)  # Ray's processes end with this one
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
