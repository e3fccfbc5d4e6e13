"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from harness.messages import printable

LINE_SECONDS = 30.0
"""How often a line is printed where there is no terminal; shorter work prints nothing."""

_hushed: ContextVar[bool] = ContextVar("hushed", default=False)


@contextlib.contextmanager
def hushed(quiet: bool) -> Iterator[None]:
    """Inside the block nothing is shown, if `quiet`."""
    before = _hushed.set(quiet)
    try:
        yield
    finally:
        _hushed.reset(before)


def say(line: str) -> None:
    """Says something on stderr, unless it is hushed."""
    if not _hushed.get():
        say_anyway(line)


def say_anyway(line: str) -> None:
    """Says something on stderr, also where it is hushed; where nobody reads that any more, the work goes on."""
    try:
        print(printable(line), file=sys.stderr, flush=True)
    except OSError:
        drop_output(2)


def forgive_output() -> None:
    """From here on stdout shows `?` for a character that its encoding lacks, such as the plus-minus sign on an ASCII
    terminal: what took hours is not to end in an error for that. On stderr Python does so by itself.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def drop_output(*streams: int) -> None:
    """From here on what is printed goes nowhere, on both or these: a pipe's reader, or the terminal, is gone."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in streams or (1, 2):
            os.dup2(nowhere, stream)
        os.close(nowhere)


def until_reader_leaves(command: Callable[..., int]) -> Callable[..., int]:
    """A command that ends without a word, with status 1, once nobody reads what it prints, as in `| head`."""

    @functools.wraps(command)
    def run(*arguments: Any, **named: Any) -> int:
        try:
            status = command(*arguments, **named)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            if not _reader_has_left():  # another pipe, or a socket
                raise
            drop_output()
            return 1

    return run


def _reader_has_left() -> bool:
    """Whether nobody reads stdout any more."""
    out = select.poll()
    out.register(1, select.POLLOUT)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in out.poll(0))


@contextlib.contextmanager
def track(total: int, description: str) -> Iterator[Callable[[int], None]]:
    """Shows on stderr how far work of `total` units has come.

    Yields:
        `advance(n)`: call it after `n` more units, from any thread.
    """
    if _hushed.get():
        yield lambda n: None
        return
    description = printable(description)
    if _on_terminal():
        with _bar(total, description) as advance:
            yield advance
    else:
        yield _lines(total, description)


@contextlib.contextmanager
def working(description: str) -> Iterator[None]:
    """Shows on a terminal's stderr that work of unknown length goes on inside the block; nothing elsewhere."""
    if _hushed.get() or not _on_terminal():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(description):
        yield


def _on_terminal() -> bool:
    # Looked for here and not imported above: a trial alone runs where rich is not installed.
    return sys.stderr.isatty() and importlib.util.find_spec("rich") is not None


@contextlib.contextmanager
def _bar(total: int, description: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda n: progress.advance(task, n)


def _lines(total: int, description: str) -> Callable[[int], None]:
    lock = threading.Lock()
    start = last = time.monotonic()
    done = 0

    def advance(n: int) -> None:
        nonlocal done, last
        with lock:
            done += n
            now = time.monotonic()
            if now - last < LINE_SECONDS:
                return
            last = now
            say_anyway(f"{description}: {done} of {total} after {now - start:.0f} s")

    return advance
