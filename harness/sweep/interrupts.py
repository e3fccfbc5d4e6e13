"""Ctrl-C, SIGTERM, SIGHUP, and what else ends a sweep early: a full disk, what died that it needs."""

from __future__ import annotations

import contextvars
import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from harness.progress import drop_output
from harness.sweep.watch import INTERRUPTED, ending_signals, leave, tell_status

GRACE_SECONDS = 4.0
"""How long trials may take to end after the first; Ray may no longer be there to end them."""

ECHO_SECONDS = 0.3
"""Within which a second Ctrl-C is the first one: `kill` to a group reaches this process, and once more by `watch`."""

PATIENCE = 7.0
"""Seconds in which whoever sends a signal expects us to be done, a few less than the ten after which some kill."""

LEAST_SECONDS = 0.5
"""Of a piece of what follows the trials, also where there is no time left."""

AFTERWARDS = "after the trials"
"""The threads that do what follows them; one that was not done in time goes on."""

Done = TypeVar("Done")


class Interrupts:
    """Ctrl-C: once, and the sweep stops tidily; twice, and it stops at once. What else ends a process: as Ctrl-C once.

    Before the trials that raises KeyboardInterrupt. After them nothing is left to be stopped, and what follows them is
    done in a few seconds or left out.

    Inside the block SIGINT, also where a shell started us with it ignored, and the other `ending_signals` are ours;
    afterwards they are as they were. SIGHUP stays ignored where it is (`nohup`). Outside the main thread, where Python
    hands out no signals, nothing is touched.

    Args:
        resume: the command that continues the sweep, whose process a second Ctrl-C ends; None in a process that is
            not the sweep's, such as a notebook's: the second Ctrl-C raises KeyboardInterrupt.
        begun: whether there is something to end tidily. Before, the first Ctrl-C ends the process: an exception may be
            lost, or become another one, in the libraries that are imported then.

    Attributes:
        begun: as above; to be set when there is.
        status: the exit status, once all is done but to say so: then Ctrl-C ends the sweep's process with it, and the
            rest is not listened to.
        pressed: whether Ctrl-C was pressed, or such a signal came.
        deadline: by when, in monotonic time, what follows the trials is to be done; a person who ended them waits, and
            may press again.
        at_once: called before a second Ctrl-C ends the process.
    """

    def __init__(self, resume: str | None = None, *, begun: bool = True):
        self.begun = begun
        self.status: int | None = None
        self.pressed = False
        self.deadline = math.inf
        self.at_once: Callable[[], object] = lambda: None
        self._resume = resume
        self._attending = self._over = False
        self._since = -math.inf
        self._before: dict[int, object] = {}

    @property
    def own_process(self) -> bool:
        """Whether this process is the sweep's alone and ends with it."""
        return self._resume is not None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in ending_signals()}
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]
        self._before = {}

    def install(self) -> None:
        """Takes over again what `ray.init` took."""
        for number in self._before:
            signal.signal(number, self._interrupt)

    def attend(self, work: Callable[[], bool], died: Callable[[], str]) -> bool:
        """Does the work in a thread of its own, so that this one can leave it whatever the work waits for.

        Args:
            work: ends soon after `pressed` is true.
            died: what it needs and is no more, in words; empty as long as all is there.

        Returns:
            What the work returns.

        Raises:
            KeyboardInterrupt: it was told to end and did.
            AbandonedError: it was told to end and did not, or what it needs died.
            Exception: what it raises.
        """
        pressed = 0.0
        self._attending = True
        try:
            outcome = _begin(work, "trials")
            while not wait([outcome], timeout=0.2).done:
                dead = died()
                pressed = pressed or (time.monotonic() if self.pressed else 0.0)
                if dead:  # Ray ends this process soon, without a word, so ours comes at once
                    self.deadline = 0.0
                    if self.own_process:
                        tell_status(INTERRUPTED)
                    if self.own_process and not self.pressed:
                        self._say(f"stopped: {dead}; nothing that finished is lost; go on with: {self._resume}")
                if dead or (pressed and time.monotonic() > pressed + GRACE_SECONDS):
                    raise AbandonedError("" if pressed else dead)
            return outcome.result()
        except KeyboardInterrupt:
            if wait([outcome], timeout=GRACE_SECONDS).done:  # at once, but for a second Ctrl-C in a notebook
                raise
            raise AbandonedError("") from None
        finally:
            self._over = True
            self._attending = False

    def finish(self, work: Callable[[], Done], spare: float = 0.0, least: float = LEAST_SECONDS) -> Done:
        """Does a piece of what follows the trials, in a thread of its own, by the deadline.

        Args:
            work: that.
            spare: seconds before the deadline that it leaves to others.
            least: seconds that it has in any case.

        Returns:
            What the work returns.

        Raises:
            NoTimeError: it is not done by then.
            Exception: what it raises.
        """
        until = time.monotonic() + least
        outcome = _begin(work, AFTERWARDS)
        while not wait([outcome], timeout=0.1).done:
            if time.monotonic() > max(self.deadline - spare, until) + 0.2:  # what minds `left` itself comes before
                raise NoTimeError("there was no time")
        return outcome.result()

    def left(self, most: float, least: float = LEAST_SECONDS) -> float:
        """Seconds that a piece of what follows the trials may take, of so many."""
        return min(most, max(least, self.deadline - time.monotonic()))

    def _interrupt(self, number: int, frame: object) -> None:
        if number != signal.SIGINT or self._over:
            self.deadline = min(self.deadline, time.monotonic() + PATIENCE)
        if (self.pressed or self.status is not None) and number != signal.SIGINT:
            return  # whoever ends jobs may say so twice, to the process and to its group
        if self.own_process and time.monotonic() < self._since + ECHO_SECONDS:
            return
        if self.status is not None and self.own_process:
            leave(self.status)
        if not self.begun:
            self._say(f"interrupted; go on with: {self._resume}")
            leave(INTERRUPTED)
        if (self.pressed or self.status is not None) and not self.own_process:
            raise KeyboardInterrupt
        if self.pressed:
            self._say(f"stopped at once; go on with: {self._resume}")
            self.at_once()
            leave(INTERRUPTED)
        self.pressed = True
        self._since = time.monotonic()
        again = number == signal.SIGINT or not self.own_process
        self._say("stopping; Ctrl-C again stops at once" if again else f"stopping; go on with: {self._resume}")
        if not self._attending and not self._over:
            raise KeyboardInterrupt

    def _say(self, line: str) -> None:
        """Says it, and from here on nothing to a terminal that is gone: what is written to it raises."""
        try:
            print(line, file=sys.stderr, flush=True)
        except OSError:
            drop_output()


def _begin(work: Callable[[], Done], name: str) -> Future[Done]:
    """What a thread of this name will have made of the work."""
    outcome: Future[Done] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome.set_result(context.run(work))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return outcome


class NoTimeError(Exception):
    """What follows the trials is not done by the deadline."""


class NoSpaceError(OSError):
    """A disk is full, so that the sweep cannot go on."""

    def __init__(self, cause: BaseException):
        place = getattr(cause, "filename", None)
        super().__init__(f"no space left on the device: {place or getattr(cause, 'strerror', None) or cause}")


class AbandonedError(RuntimeError):
    """Trials were left to themselves: says why, or nothing where they were told to end."""
