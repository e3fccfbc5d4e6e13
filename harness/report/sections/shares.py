"""Where the time of trials went: what each spent itself on which of its parts, and how much was none of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.records.rows import History, last
from harness.report.cells import Number, Text
from harness.report.entry import Entry
from harness.report.model import Report
from harness.report.section import Table

SPENT = ("encoder", "select", "train", "evaluate", "pictures", "waiting", "rest")
"""The parts of a trial's time, which add up to all of it."""

OUTSIDE = ("pictures", "waiting", "rest")
"""Those that neither learn nor choose nor measure."""

SLACK = 0.01
"""Seconds by which clocks may differ."""

LONGEST_WAIT = 60.0
"""Seconds that a trial which ran in one piece may have waited, or as long as it ran: more lies between two runs."""


def where_the_time_went(report: Report, entries: Sequence[Entry]) -> Table | None:
    """The shares of each configuration's trials and of all trials; None where no trial says how long it took."""
    spent = {trial: one for trial, history in report.histories.items() if (one := spent_of(history))}
    rows = [(entry.label, [spent[trial] for trial in entry.trials.values() if trial in spent]) for entry in entries]
    rows = [(label, some) for label, some in rows if some]
    if not rows:
        return None
    if len(rows) > 1 or len(spent) > len(rows[0][1]):
        rows.append(("all trials", list(spent.values())))
    cells = [[Text(label), Number(_total(some) / len(some), ".3g"), *_shares(some)] for label, some in rows]
    titles = ("configuration", "seconds a trial", *(f"{part} %" for part in SPENT))
    outside = {trial: sum(one[part] for part in OUTSIDE) / sum(one.values()) for trial, one in spent.items()}
    most = max(outside, key=outside.__getitem__)
    ended = sum("time/wall_seconds" in last(history)["metrics"] for history in report.histories.values())
    notes = [
        "Of the time from a trial's first record to its last, without what came from the cache. Encoder: training it, "
        "its features. Pictures: what the page shows of it. Waiting: until the sweep has taken a record. Rest: "
        "measuring the encoder between epochs, reading the data, looking up and keeping stages, classifiers beside the "
        "first one.",
        f"Pictures, waiting and rest together are at most {100 * outside[most]:.0f} % of a trial ({most}).",
        f"{ended - len(spent)} trials that went on later are left out." if ended > len(spent) else "",
    ]
    return Table.of_rows(titles, cells, list(filter(None, notes)), "Where the time went")


def spent_of(history: History) -> dict[str, float] | None:
    """Seconds by the parts of `SPENT`; None of a trial that did not end, or that had several runs."""
    ending = last(history)["metrics"]
    if not {"time/wall_seconds", "time/total_seconds", "time/saved_seconds"} <= ending.keys():
        return None
    rounds = [record["metrics"] for record in history.values() if record["step_kind"] == "labels"]
    parts = {purpose: _of_rounds(rounds, purpose) for purpose in ("select", "train", "evaluate")}
    stages = ending["time/total_seconds"] - ending["time/saved_seconds"]
    times = [record["time"] for record in history.values()]
    wall, whole = ending["time/wall_seconds"], (max(times) - min(times)) / 1000
    pictures = max(0.0, min(ending.get("time/portrait_seconds", 0.0), whole - wall))  # none, if they were kept
    parts |= {"encoder": stages - sum(parts.values()), "pictures": pictures, "rest": wall - stages}
    parts["waiting"] = whole - wall - pictures
    if min(parts.values()) < -SLACK or parts["waiting"] > max(LONGEST_WAIT, wall):
        return None
    return {part: max(0.0, parts[part]) for part in SPENT}


def _of_rounds(rounds: Iterable[Mapping[str, float]], purpose: str) -> float:
    """What the rounds spent on a purpose themselves."""
    name, cached = f"time/round_{purpose}_seconds", f"stage/{purpose}_cached"
    return sum(metrics[name] for metrics in rounds if name in metrics and not metrics.get(cached))


def _total(some: Sequence[Mapping[str, float]]) -> float:
    return sum(sum(one.values()) for one in some)


def _shares(some: Sequence[Mapping[str, float]]) -> list[Number]:
    """In percent, of the trials together."""
    total = _total(some)
    return [Number(100 * sum(one[part] for one in some) / total, ".0f") for part in SPENT]
