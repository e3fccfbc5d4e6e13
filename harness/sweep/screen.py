"""What a person sees while a sweep runs: how it stands, and where that is shown."""

from __future__ import annotations

import functools
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rich.console import RenderableType

from harness.config.tasks import Task
from harness.messages import count, printable
from harness.metrics import WATCHED
from harness.progress import say_anyway
from harness.records.details import Details, Training
from harness.records.names import label
from harness.records.rows import FINAL, Record

TRIALS_SHOWN = 4
"""Running trials with a line of their own; of the others it is said how many do what."""

STATUS_SECONDS = 60.0
"""How long a log, where there is no terminal to draw on, may stay without a line."""


@dataclass(frozen=True)
class Running:
    """A trial that runs.

    Attributes:
        record: its newest.
        training: what the newest epoch belongs to; None between trainings.
        pace: seconds of an epoch; after the first of a trial, all since the trial began; None where it is not known.
    """

    record: Record
    training: Training | None = None
    pace: float | None = None

    def then(self, record: Record, training: Training | None) -> Running:
        """After another record."""
        before = self.training
        if training and training.epoch == 1 and not before and record is not self.record:
            return Running(record, training, (record["time"] - self.record["time"]) / 1000)  # with what came before it
        epochs = training.epoch - before.epoch if training and before and training.name == before.name else 0
        if epochs < 1:
            return Running(record, training)
        return Running(record, training, (record["time"] - self.record["time"]) / 1000 / epochs)

    @property
    def state(self) -> str:
        """What it is doing, in a word."""
        if self.training:
            return self.training.name
        return "rounds" if self.record["step"] else "starting"

    @property
    def position(self) -> str:
        """`pretrain 3/20`, `300 labels`."""
        if self.training:
            return f"{self.state} {self.training.epoch}/{self.training.epochs}"
        return f"{self.record['step']} labels" if self.record["step"] else self.state

    @property
    def rate(self) -> str:
        """`1,240 img/s` in a training."""
        metrics = self.record["metrics"]
        rates = [value for name, value in metrics.items() if name.startswith("throughput/")] if self.training else []
        return f"{rates[0]:,.0f} img/s" if rates else ""

    @property
    def left(self) -> str:
        """The time that the training will still take, `0:42`."""
        if self.pace is None or self.training is None:
            return ""
        return f"{clock(self.pace * (self.training.epochs - self.training.epoch))} left"


@dataclass
class Standing:
    """How a sweep stands, as its records tell it. Knows nothing of Ray.

    Attributes:
        metric: what is improved.
        maximize: whether larger is better.
        total: trials of the present phase.
        before: those of them that ended in an earlier run.
        trainings: encoders that are pre-trained for the others; 0 where it is not known.
        phase: "search", "confirm" or "headroom".
        started: when this run of the phase began.
        counts: how many trials ended how in this run.
        running: trial -> what it is at, in the order in which they began.
        best: the best value that a trial finished with, and its last record.
        recent: the lines of the trials that ended last.
        waiting: how many trials wait for what; empty where none has to.
    """

    metric: str
    maximize: bool
    total: int = 0
    before: int = 0
    trainings: int = 0
    phase: str = ""
    started: float = field(default_factory=time.monotonic)
    counts: Counter[str] = field(default_factory=Counter)
    running: dict[str, Running] = field(default_factory=dict)
    best: tuple[float, Record] | None = None
    recent: list[str] = field(default_factory=list)
    waiting: str = ""

    def begin(self, phase: str, total: int, before: int, trainings: int = 0) -> None:
        """A phase starts; `before` of its trials ended in an earlier run, and the others pre-train so many encoders."""
        self.phase, self.total, self.before, self.trainings = phase, total, before, trainings
        self.counts.clear()
        self.running.clear()
        self.best = None
        self.started = time.monotonic()

    def add(self, record: Record, training: Training | None = None) -> str | None:
        """Takes in a record, and the training that an epoch belongs to; the line of a trial that ended, else None."""
        trial = record["trial"]
        if record["status"] not in FINAL:
            self.running[trial] = self.running.get(trial, Running(record)).then(record, training)
            return None
        self.running.pop(trial, None)
        self.counts[record["status"]] += 1
        value = record["metrics"].get(self.metric)
        if record["status"] == "finished" and value is not None:
            better = self.best is None or (value > self.best[0]) == self.maximize
            if better and (self.best is None or value != self.best[0]):
                self.best = value, record
        line = printable(f"[{self.done}/{self.total}] {self._outcome(record, value)}")
        self.recent = [*self.recent[-3:], line]
        return line

    def waits(self, number: int, other: Task | None) -> None:
        """So many trials wait for the encoder that another one trains; None: none does."""
        who = f"{label(other.candidate.parameters)} seed {other.seed}'s encoder" if other else ""
        self.waiting = f"{count(number, 'trial')} wait{'s' if number == 1 else ''} for {who}" if other else ""

    @property
    def done(self) -> int:
        """Trials of this phase that have ended, in this run or an earlier one."""
        return self.before + sum(self.counts.values())

    def _outcome(self, record: Record, value: float | None) -> str:
        what = f"{label(record['parameters'])} seed {record['seed']}"
        if record["status"] == "failed":
            return f"failed: {what}: {record.get('error', 'no cause given')}"
        if record["status"] == "stopped":
            names = dict.fromkeys((self.metric, *WATCHED))
            seen = [f", {name} {record['metrics'][name]:.4f}" for name in names if name in record["metrics"]]
            return f"stopped early: {what}" + "".join(seen)
        seconds, saved = (record["metrics"].get(f"time/{name}_seconds", 0.0) for name in ("wall", "saved"))
        took = f"{seconds:.1f} s" + (f", {saved:.1f} s cached" if saved >= 0.05 else "")
        return f"{self.metric} {value:.4f}  {what}  ({took})" if value is not None else what

    def eta(self) -> float | None:
        """Seconds left at the pace so far; None before the first trial has ended."""
        ended = sum(self.counts.values())
        if not ended:
            return None
        return (time.monotonic() - self.started) / ended * max(0, self.total - self.done)

    def training_left(self) -> float | None:
        """Seconds that all pre-trainings of the phase will still take, by those that run; None where none is timed."""
        names = ("pretrain", "selection", "teacher")
        timed = [one for one in self.running.values() if one.training and one.training.name in names and one.pace]
        if not timed or not self.trainings:
            return None
        each = sum(one.pace * one.training.epochs for one in timed if one.pace and one.training) / len(timed)
        done = sum(one.pace * one.training.epoch for one in timed if one.pace and one.training)
        return max(0.0, self.trainings * each - done) / len(timed)

    def status(self) -> str:
        """The state in one line, for a log."""
        left = self.eta()
        words = [f"{self.phase}: {self.done}/{self.total} done, {len(self.running)} running"]
        words += [" ".join(filter(None, (one.position, one.rate, one.left))) for one in self._shown()]
        training = self.training_left() if left is None else None
        words += [f"{clock(left)} left in all"] if left is not None else []
        words += [self.waiting] if self.waiting else []
        return "; ".join(words + ([f"about {clock(training)} of pre-training left in all"] if training else []))

    def render(self, width: int = 80) -> RenderableType:
        """The live view: at most ten lines of at most `width` characters."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        line = functools.partial(Text, overflow="ellipsis", no_wrap=True)
        lines: list[Any] = [self._head(width)]
        if self.best:
            value, record = self.best
            text = printable(f"best {self.metric} {value:.4f}  {label(record['parameters'])}")
            lines.append(line(text, style="green"))
        if self.running:
            table = Table.grid(padding=(0, 2, 0, 0), expand=True)
            table.add_column(no_wrap=True)
            table.add_column(no_wrap=True, justify="right")
            table.add_column(no_wrap=True, justify="right")
            table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
            table.add_column(no_wrap=True)
            for one in self._shown():
                what = Text(printable(label(one.record["parameters"])), style="default")
                table.add_row(f"  {one.position}", one.rate, one.left, what, f"seed {one.record['seed']}", style="cyan")
            lines.append(table)
        others = list(self.running.values())[TRIALS_SHOWN:]
        if others:
            states = Counter(one.state for one in others).most_common()
            doing = ", ".join(f"{count} {state}" for state, count in states)
            lines.append(line(f"  … and {len(others)} more: {doing}", style="cyan"))
        lines += [line(f"  {self.waiting}", style="dim")] if self.waiting else []
        lines += [line(f"  {text}", style="dim") for text in self.recent[-3:]]
        return Group(*lines)

    def _shown(self) -> list[Running]:
        """Those that began first: their lines stay where they are."""
        return list(self.running.values())[:TRIALS_SHOWN]

    def _head(self, width: int) -> RenderableType:
        """The phase, a bar as long as there is room for, the counts, the time left."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        left = self.eta()
        training = self.training_left() if left is None else None
        failed = self.counts["failed"]
        texts = [
            Text(self.phase, style="bold"),
            Text(f"{self.done}/{self.total} done"),
            Text(f"{len(self.running)} running"),
            Text(f"{failed} failed", style="bold red" if failed else "dim"),
            Text(f"{clock(left)} left" if left is not None else f"{clock(training)}+ left" if training else ""),
        ]
        room = width - sum(len(text) + 2 for text in texts) - 2
        head = Table.grid(padding=(0, 2, 0, 0))
        head.add_row(texts[0], ProgressBar(max(self.total, 1), self.done, width=max(1, min(24, room))), *texts[1:])
        return head


class Display:
    """The live view on a terminal; elsewhere a line per ended trial, and one a minute in between."""

    def __init__(self, standing: Standing, quiet: bool):
        from rich.console import Console
        from rich.live import Live

        self._standing = standing
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=2, get_renderable=self._render, transient=True)
        self._interactive = self._console.is_terminal and not self._console.is_dumb_terminal and not quiet
        self._said = time.monotonic()

    def __enter__(self) -> Display:
        if self._interactive:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._interactive:
            self._live.stop()

    def _render(self) -> Any:
        return self._standing.render(self._console.width)

    def begin(self, phase: str, total: int, before: int, trainings: int = 0) -> None:
        """Shows that a phase starts; see `Standing.begin`."""
        self._standing.begin(phase, total, before, trainings)

    def waits(self, number: int, other: Task | None) -> None:
        """Shows that so many trials wait for the encoder that another one trains."""
        self._standing.waits(number, other)

    def add(self, record: Record, details: Details) -> None:
        """Shows a record."""
        line = self._standing.add(record, details.training)
        if self._interactive or self._quiet:
            return
        if line is None and time.monotonic() - self._said >= STATUS_SECONDS:
            line = self._standing.status()
        if line:
            self._said = time.monotonic()
            say_anyway(line)


def clock(seconds: float) -> str:
    """`47 s`, `3:05`, `2:14:09`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"
