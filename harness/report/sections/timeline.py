"""Which slot did what when, and how much of the time all of them worked."""

from __future__ import annotations

import itertools
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from harness import messages
from harness.records.rows import History
from harness.report.model import Report
from harness.report.pictures import style
from harness.report.section import Picture, Section

PRETRAINED, ROUND = "pre-training", "selection, classifier, measuring"
WORK_COLOURS = {PRETRAINED: "#0072B2", ROUND: "#009E73"}
"""What is done between two records of a trial -> its colour."""

PAUSE = 300.0
"""Seconds without any trial from which on it is a pause of the sweep, and not part of the picture."""

MILLISECOND = 1e-3
"""Of times, in seconds: a record holds milliseconds."""

MOST_SLOTS = 32
"""How many slots have a row."""

TOLD_TRIALS = 300
"""Of how many trials the page tells the names: the longest."""

FINE = 1 / 2000
"""Shorter gaps and bars than this share of the width are drawn as one."""


@dataclass(frozen=True)
class Work:
    """What one trial did.

    Attributes:
        trial: its name.
        node: where it ran; empty where no record says it.
        parts: what was done, from when to when, in seconds; one follows the other.
    """

    trial: str
    node: str
    parts: Sequence[tuple[str, float, float]]

    @property
    def start(self) -> float:
        """Of its first part."""
        return self.parts[0][1]

    @property
    def end(self) -> float:
        """Of its last part."""
        return self.parts[-1][2]


def timeline(report: Report) -> Section | None:
    """None where fewer than two trials have two records."""
    done = [work for trial, history in report.histories.items() if (work := work_of(trial, history))]
    if len(done) < 2:
        return None
    done, paused = without_pauses([run for work in done for run in runs_of(work)])
    rows = in_slots(done)
    number = max(len(rows), _asked(report))
    length = max(work.end for work in done)
    full, mean = shares_busy(done, number)
    slots = messages.count(number, "slot")
    together = f", all at once {100 * full:.0f} %" if number > 1 else ""
    said = [
        "A row is a slot, which runs one trial at a time; a bar, what came before one of its records. "
        f"{slots.capitalize()} worked {100 * mean:.0f} % of the time{together}. Where there is no bar a slot had no "
        "trial: a worker was started, an encoder was awaited that another slot trained, or nothing was left to do.",
        f"Pauses of the sweep, {messages.duration(paused)} in all, are left out." if paused else "",
        f"The first {MOST_SLOTS} of {len(rows)} slots." if len(rows) > MOST_SLOTS else "",
    ]
    picture = Picture(
        "timeline",
        partial(_draw, rows[:MOST_SLOTS], length),
        f"What {slots} did in {messages.duration(length)}: at work {100 * mean:.0f} % of the time{together}",
        " ".join(filter(None, said)),
    )
    return Section("What ran when", "timeline", [picture])


def _asked(report: Report) -> int:
    """How many trials were to run side by side when the sweep was started last; 0 where that is not known."""
    asked = report.environment.get("concurrent_trials")
    return asked if isinstance(asked, int) else 0


def work_of(trial: str, history: History) -> Work | None:
    """What a trial did, by the times of its records; None of a trial with fewer than two.

    Between the rounds of a trial that went on later, for more, it did nothing: its last run says how long it took.
    """
    records = sorted(history.values(), key=lambda record: record["time"])
    last = records[-1]["metrics"]
    end = records[-1]["time"] / 1000
    ran = last.get("time/wall_seconds")
    began = end - ran - last.get("time/portrait_seconds", 0.0) if ran is not None else -float("inf")
    parts = []
    for before, record in itertools.pairwise(records):
        start, stop = before["time"] / 1000, record["time"] / 1000
        pretrains = record["step_kind"] == "epoch" and any(name.startswith("pretrain/") for name in record["metrics"])
        start = max(start, began) if stop > began else start
        if stop > start:
            parts.append((PRETRAINED if pretrains else ROUND, start, stop))
    return Work(trial, str(records[-1].get("node") or ""), parts) if parts else None


def runs_of(work: Work) -> list[Work]:
    """One for each unbroken stretch: a trial that went on later, for more, held no slot in between."""
    runs: list[list[tuple[str, float, float]]] = []
    for part in work.parts:
        if runs and part[1] - runs[-1][-1][2] <= MILLISECOND:
            runs[-1].append(part)
        else:
            runs.append([part])
    return [Work(work.trial, work.node, run) for run in runs]


def without_pauses(done: Sequence[Work]) -> tuple[list[Work], float]:
    """The same from second 0 on, and the seconds of the pauses that were taken out."""
    out: list[tuple[float, float]] = []  # from when on how much is left out
    reached = left_out = min(work.start for work in done)
    out.append((reached, left_out))
    for start, end in sorted((start, end) for work in done for _, start, end in work.parts):
        if start - reached > PAUSE:
            left_out += start - reached
            out.append((start, left_out))
        reached = max(reached, end)

    def moved(time: float) -> float:
        return time - next(less for since, less in reversed(out) if since <= time)

    moved_all = [
        Work(
            work.trial, work.node, [(what, moved(start), moved(start) + end - start) for what, start, end in work.parts]
        )
        for work in done
    ]
    return moved_all, left_out - out[0][1]


def in_slots(done: Iterable[Work]) -> list[list[Work]]:
    """The work of each slot: a trial goes to the slot of its node that has been free for the shortest time."""
    slots: list[list[Work]] = []
    ends: dict[str, list[tuple[float, int]]] = {}  # of each node, in order: when a slot becomes free, and which
    for work in sorted(done, key=lambda work: work.start):
        of_node = ends.setdefault(work.node, [])
        place = bisect_right(of_node, work.start + MILLISECOND, key=lambda one: one[0])
        number = of_node.pop(place - 1)[1] if place else len(slots)
        if number == len(slots):
            slots.append([])
        slots[number].append(work)
        insort(of_node, (work.end, number))
    return sorted(slots, key=lambda slot: (slot[0].node, slot[0].start))


def shares_busy(done: Iterable[Work], slots: int) -> tuple[float, float]:
    """The share of the time in which all slots worked, and of the slots' time in which they did."""
    changes = sorted(change for work in done for _, start, end in work.parts for change in ((start, 1), (end, -1)))
    full = worked = 0.0
    running, before = 0, changes[0][0]
    for time, change in changes:
        full += (time - before) * (running >= slots)
        worked += (time - before) * running
        running, before = running + change, time
    length = (changes[-1][0] - changes[0][0]) or 1.0
    return full / length, worked / length / slots


def _draw(rows: Sequence[Sequence[Work]], length: float) -> Figure:
    unit, name = (1.0, "seconds") if length < 100 else (60.0, "minutes") if length < 6000 else (3600.0, "hours")
    figure = style.canvas(8.6, 0.3 * len(rows) + 1.15)
    axes = figure.subplots()
    longest = {
        work.trial for work in sorted((w for row in rows for w in row), key=lambda w: w.start - w.end)[:TOLD_TRIALS]
    }
    for place, row in enumerate(rows):
        for what, colour in WORK_COLOURS.items():
            spans = [(start, end) for work in row for part, start, end in work.parts if part == what]
            bars = [(start / unit, (end - start) / unit) for start, end in joined_bars(spans, FINE * length)]
            axes.broken_barh(bars, (place - 0.36, 0.72), facecolors=colour, linewidth=0)
        for work in (one for one in row if one.trial in longest):
            told = "\n".join(f"{what}: {messages.duration(seconds)}" for what, seconds in _seconds(work).items())
            style.tell(axes, work.trial, [(work.start + work.end) / 2 / unit], [place], [told], f"#{work.trial}")
    nodes = {row[0].node for row in rows}
    names = [f"{row[0].node} · {k + 1}" if len(nodes) > 1 else f"slot {k + 1}" for k, row in enumerate(rows)]
    axes.set_yticks(range(len(rows)), [style.short(one) for one in names], fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, length / unit)
    axes.set_xlabel(name)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    for what, colour in WORK_COLOURS.items():
        axes.plot([], [], color=colour, linewidth=6, solid_capstyle="butt", label=what)
    figure.legend(loc="outside upper center", ncols=len(WORK_COLOURS), frameon=False, fontsize=9, handlelength=1)
    return figure


def _seconds(work: Work) -> dict[str, float]:
    """What it did -> how long, all together."""
    return {
        what: sum(end - start for part, start, end in work.parts if part == what)
        for what in dict.fromkeys(part for part, _, _ in work.parts)
    }


def joined_bars(spans: Sequence[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """Spans in order, of which those that a gap no wider than this parts are one: thousands of bars are few."""
    kept: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if kept and start - kept[-1][1] <= gap:
            kept[-1] = kept[-1][0], max(end, kept[-1][1])
        else:
            kept.append((start, end))
    return kept
