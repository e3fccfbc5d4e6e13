"""A process that outlives the sweep's: where that one ends in silence, as by Ray's C++, this one has the word."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import sys

INTERRUPTED = 130
"""The exit status of a sweep that ended before its last trial."""

PR_SET_PDEATHSIG = 1  # prctl(2)

_told: int | None = None
"""In a process that is watched: the pipe by which it tells its exit status."""

_status: int | None = None
"""What was told last."""


def watch(resume: str) -> int | None:
    """Goes on in a child of this process, which stays behind, hands signals on and sees how the child ends.

    Both are in one process group, that of the terminal, and the child does not outlive this process. To be called while
    there is one thread and little is imported.

    Args:
        resume: the command that continues the sweep.

    Returns:
        None in the child; in this process the exit status, when the child has ended: the one that was told, else
        `INTERRUPTED`, for then the child ended otherwise than it meant to, and that is said.
    """
    if sys.platform != "linux":
        atexit.register(_end)
        return None
    heard = {signal.SIGINT, signal.SIGTERM}
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        heard.add(signal.SIGHUP)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard | {signal.SIGCHLD})
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    parent, child = os.getpid(), os.fork()
    if not child:
        _begin(parent, reading, writing)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    os.close(writing)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        info = signal.sigwaitinfo(heard | {signal.SIGCHLD})
        of_terminal = info.si_signo == signal.SIGINT and info.si_code > 0  # which tells all of its group
        if info.si_signo != signal.SIGCHLD and not of_terminal:
            os.kill(child, info.si_signo)
    with contextlib.suppress(BlockingIOError):
        if told := os.read(reading, 1024):
            return told[-1]
    how = how_it_ended(os.waitstatus_to_exitcode(status))
    shown = "\x1b[?25h" if sys.stderr.isatty() else ""  # a cursor that a bar had hidden
    with contextlib.suppress(OSError):
        said = f"the process of this sweep {how}; nothing that finished is lost; go on with: {resume}"
        print(f"{shown}stopped: {said}", file=sys.stderr, flush=True)
    return INTERRUPTED


def _begin(parent: int, reading: int, writing: int) -> None:
    """In the child: ends with its parent, tells it by the pipe, and takes nothing down that goes with the process."""
    global _told
    _told = writing
    atexit.register(_end)  # first of all, so it is called last
    os.close(reading)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(INTERRUPTED)


def tell_status(status: int) -> None:
    """From here on, whatever ends this process, its exit status is this one, and who watches says nothing."""
    global _status
    _status = status
    if _told is not None:
        with contextlib.suppress(OSError):
            os.write(_told, bytes([status]))


def _end() -> None:
    if _status is not None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(_status)


def leave(status: int) -> None:
    """Ends the process at once, with this exit status."""
    tell_status(status)
    os._exit(status)


def how_it_ended(status: int) -> str:
    """Of a process, in words: `was killed (SIGKILL)`, `ended with status 1`."""
    return f"was killed ({signal.Signals(-status).name})" if status < 0 else f"ended with status {status}"
