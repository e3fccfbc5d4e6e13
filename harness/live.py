"""What a person sees while a sweep runs: one live table on a terminal, one line per finished trial elsewhere."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness import records
from harness.records import FINAL, Record

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass
class Progress:
    """The state of a sweep as its records tell it. Knows nothing of Ray.

    Attributes:
        metric: what is improved.
        maximize: whether larger is better.
        total: trials of the present phase.
        phase: "search" or "confirm".
    """

    metric: str
    maximize: bool
    total: int = 0
    phase: str = ""
    started: float = field(default_factory=time.monotonic)
    counts: Counter[str] = field(default_factory=Counter)
    running: dict[str, Record] = field(default_factory=dict)
    best: tuple[float, Record] | None = None
    recent: list[str] = field(default_factory=list)
    found: int = 0

    def begin(self, phase: str, total: int, found: int) -> None:
        """A phase starts; `found` of its trials were finished by an earlier run."""
        self.phase, self.total, self.found = phase, total, found
        self.counts.clear()
        self.running.clear()
        self.best = None
        self.started = time.monotonic()

    def add(self, record: Record) -> str | None:
        """Takes in a record; the line of a trial that ended, else None."""
        trial = record["trial"]
        if record["status"] not in FINAL:
            self.running[trial] = record
            return None
        self.running.pop(trial, None)
        self.counts[record["status"]] += 1
        value = record["metrics"].get(self.metric)
        if record["status"] == "finished" and value is not None:
            better = self.best is None or (value > self.best[0]) == self.maximize
            if better and (self.best is None or value != self.best[0]):
                self.best = value, record
        line = f"[{self.done}/{self.total}] {self._outcome(record, value)}"
        self.recent = [*self.recent[-3:], line]
        return line

    @property
    def done(self) -> int:
        """Trials of this phase that have ended, in this run or an earlier one."""
        return self.found + sum(self.counts.values())

    def _outcome(self, record: Record, value: float | None) -> str:
        what = f"{label(record['parameters'])} seed {record['seed']}"
        if record["status"] == "failed":
            return f"failed: {what}: {record.get('error', 'no cause given')}"
        if record["status"] == "stopped":
            knn = record["metrics"].get("pretrain/knn_accuracy")
            return f"stopped early: {what}" + (f", k-NN {knn:.4f}" if knn is not None else "")
        seconds = record["metrics"].get("time/total_seconds", 0.0)
        return f"{self.metric} {value:.4f}  {what}  ({seconds:.1f} s)" if value is not None else what

    def eta(self) -> float | None:
        """Seconds left at the pace so far; None before the first trial has ended."""
        ended = sum(self.counts.values())
        if not ended:
            return None
        return (time.monotonic() - self.started) / ended * (self.total - self.done)

    def render(self) -> RenderableType:
        """The live view: at most twelve short lines."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        line = functools.partial(Text, overflow="ellipsis", no_wrap=True)
        head = Table.grid(padding=(0, 2))
        left = self.eta()
        head.add_row(
            Text(self.phase, style="bold"),
            ProgressBar(total=max(self.total, 1), completed=self.done, width=24),
            f"{self.done}/{self.total} done",
            f"{len(self.running)} running",
            Text(f"{self.counts['failed']} failed", style="bold red" if self.counts["failed"] else "dim"),
            f"{clock(left)} left" if left is not None else "",
        )
        lines: list[Any] = [head]
        if self.best:
            value, record = self.best
            lines.append(line(f"best {self.metric} {value:.4f}  {label(record['parameters'])}", style="green"))
        for record in list(self.running.values())[:4]:
            lines.append(line(f"  … {self._position(record)}", style="cyan"))
        if len(self.running) > 4:
            lines.append(Text(f"  … and {len(self.running) - 4} more", style="cyan"))
        lines += [line(f"  {text}", style="dim") for text in self.recent[-3:]]
        return Group(*lines)

    def _position(self, record: Record) -> str:
        where = f"epoch {record['step']}" if record["step_kind"] == "epoch" else f"{record['step']} labels"
        return f"{where}  {label(record['parameters'])} seed {record['seed']}"


def label(parameters: Mapping[str, Any]) -> str:
    """Parameters in a few words: `first crop, second blur, temperature 0.2`."""
    names = records.short_names(parameters)
    return ", ".join(f"{names[path]} {records.show(value)}" for path, value in parameters.items()) or "(no parameters)"


def clock(seconds: float) -> str:
    """`47 s`, `3:05`, `2:14:09`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"
