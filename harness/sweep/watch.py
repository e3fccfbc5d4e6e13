"""A process that outlives the sweep's: where that one ends in silence, as by Ray's C++, this one has the word."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import sys
import threading

INTERRUPTED = 130
"""The exit status of a sweep that ended before its last trial."""

NOTHING_RAN = 2
"""That of one that ended before its first trial."""

BEGUN = 255
"""What is told in place of a status, once there is a record."""

OF_FAULTS = {"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"}
"""Signals by which a process ends that is broken. A system may lack some, of these and the others."""

END_NOTHING = {"SIGCHLD", "SIGCONT", "SIGKILL", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH"}
"""What ends no process that does not ask for it, or cannot be heard."""

PR_SET_PDEATHSIG = 1  # prctl(2)

_told: int | None = None
"""In a process that is watched: the pipe by which it tells its exit status."""

_status: int | None = None
"""What was told last."""

_begun = False
"""Whether that there is a record was told."""


def ending_signals() -> set[int]:
    """The signals that end this process, or ended it but for Python's handlers: SLURM sends any that it is asked to.

    Not those that are ignored, as SIGHUP by `nohup`, or that somebody else hears; not those of faults.
    """
    of_sweep: set[int] = {signal.SIGINT, signal.SIGTERM}
    of_sweep |= {number for number in _numbers({"SIGHUP"}) if signal.getsignal(number) != signal.SIG_IGN}
    rest = signal.valid_signals() - _numbers(END_NOTHING | OF_FAULTS)
    return of_sweep | {number for number in rest if signal.getsignal(number) == signal.SIG_DFL}


def _numbers(names: set[str]) -> set[int]:
    return {signal.Signals[name] for name in names if name in signal.Signals.__members__}


def watch(resume: str) -> int | None:
    """Goes on in a child of this process, which stays behind, hands signals on and sees how the child ends.

    Both are in one process group, that of the terminal, and the child does not outlive this process. To be called while
    little is imported. A process with other threads goes on itself: none of them would be in the child.

    Args:
        resume: the command that continues the sweep.

    Returns:
        None in the child; in this process the exit status, when the child has ended: the one that was told. Else the
        child ended otherwise than it meant to, and that is said: `INTERRUPTED`, or `NOTHING_RAN`.
    """
    if _has_threads():
        return None
    if sys.platform != "linux":
        atexit.register(_end)
        return None
    heard = ending_signals() | _numbers(OF_FAULTS)
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
            as_it_is = info.si_signo in (signal.SIGINT, signal.SIGHUP)
            os.kill(child, info.si_signo if as_it_is else signal.SIGTERM)
    told = b""
    with contextlib.suppress(BlockingIOError):
        told = os.read(reading, 1024)
    if statuses := told.replace(bytes([BEGUN]), b""):
        return statuses[-1]
    how = how_it_ended(os.waitstatus_to_exitcode(status))
    shown = "\x1b[?25h" if sys.stderr.isatty() else ""  # a cursor that a bar had hidden
    with contextlib.suppress(OSError):
        then = "nothing that finished is lost; go on" if told else "it ran no trial; try again"
        print(f"{shown}stopped: the process of this sweep {how}; {then} with: {resume}", file=sys.stderr, flush=True)
    return INTERRUPTED if told else NOTHING_RAN


def _has_threads() -> bool:
    try:
        return len(os.listdir("/proc/self/task")) > 1
    except OSError:
        return threading.active_count() > 1


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
    _tell(status)


def tell_begun() -> None:
    """From here on there is a record: should this process end in silence, its sweep goes on from there."""
    global _begun
    if not _begun:
        _begun = True
        _tell(BEGUN)


def _tell(byte: int) -> None:
    if _told is not None:
        with contextlib.suppress(OSError):
            os.write(_told, bytes([byte]))


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
    if status >= 0:
        return f"ended with status {status}"
    names = {one.value: one.name for one in signal.Signals}  # of real-time ones few have any
    return f"was killed ({names.get(-status, f'signal {-status}')})"
