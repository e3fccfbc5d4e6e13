"""Every trial: how its trainings went, epoch by epoch, and where its files are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from matplotlib.figure import Figure

from harness.metrics import known
from harness.records import rows as record_rows
from harness.report import words
from harness.report.cells import Empty, Quantity, Text
from harness.report.entry import Entry
from harness.report.model import Report
from harness.report.pictures import style
from harness.report.section import Column, Heading, Picture, Section, Table

PAGE_TRIALS = 300
"""How many trials the page lists."""

DRAWN = 30
"""How many different trainings are drawn; the first configurations' are coloured."""

OVER_EPOCHS = (
    "pretrain/loss", "pretrain/knn_accuracy", "pretrain/rankme", "finetune/loss", "joint/loss", "joint/val_accuracy"
)  # fmt: skip
"""What is drawn over the epochs, where it was measured; three at most."""


@dataclass(frozen=True)
class Course:
    """A trial's training, which trials that share it have in common.

    Attributes:
        curves: metric -> epoch -> value.
        trials: (configuration, seed, trial) of all that have it.
    """

    curves: Mapping[str, Mapping[int, float]]
    trials: list[tuple[Entry, int, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Whose it is."""
        (entry, seed, _), *others = self.trials
        more = f" and {len(others)} more" if others else ""
        return f"{entry.label}, seed {seed}{more}"

    @property
    def owners(self) -> str:
        """The configurations that have it: `coreset`, or `coreset and 3 more`."""
        first, *others = dict.fromkeys(entry.label for entry, _, _ in self.trials)
        return f"{first} and {len(others)} more" if others else first


def trials(report: Report) -> Section | None:
    """None where no trial of a configuration has ended."""
    listed = [
        (entry, seed, trial)
        for entry in [*report.confirmed, *report.searched]
        for seed, trial in sorted(entry.trials.items())
    ]
    if not listed:
        return None
    section = Section("Trials", "trials")
    trainings = _trainings(report, listed)
    watched = [metric for metric in OVER_EPOCHS if any(one.curves.get(metric) for one in trainings)][:3]
    if watched:
        section.parts += [Heading("How they were trained"), _curves(trainings, watched)]
    shown = listed[:PAGE_TRIALS]
    if len(shown) < len(listed):
        section.caption = f"The first {len(shown):,} of {len(listed):,}; the folder `trials` has them all."
    section.parts += [Heading("One by one"), _table(report, shown, watched)]
    return section


def _trainings(report: Report, listed: Sequence[tuple[Entry, int, str]]) -> list[Course]:
    """The different ones, in the order of the trials."""
    trainings: dict[str, Course] = {}
    for entry, seed, trial in listed:
        curves = _epochs(report, trial)
        if any(len(curve) > 1 for curve in curves.values()):
            trainings.setdefault(repr(curves), Course(curves)).trials.append((entry, seed, trial))
            if len(trainings) == DRAWN:
                break
    return list(trainings.values())


def _epochs(report: Report, trial: str) -> dict[str, dict[int, float]]:
    """Metric -> epoch -> value, of what is drawn."""
    records = [record for record in report.histories[trial].values() if record["step_kind"] == "epoch"]
    return {
        metric: {record["step"]: value for record in records if (value := record["metrics"].get(metric)) is not None}
        for metric in OVER_EPOCHS
    }


def _curves(trainings: Sequence[Course], watched: Sequence[str]) -> Picture:
    names = list(dict.fromkeys(one.owners for one in trainings))
    gray = f" The first {style.MAX_COLOURED} configurations are coloured." if len(names) > style.MAX_COLOURED else ""
    return Picture(
        "training",
        partial(_draw, trainings, watched, names),
        f"{', '.join(watched)} by epoch, a line a trial",
        f"A line a training; trials that share one, such as those of one encoder and seed, share its line.{gray}",
    )


def _draw(trainings: Sequence[Course], watched: Sequence[str], names: Sequence[str]) -> Figure:
    figure = style.canvas(3.6 * len(watched) + 2.2, 3.4)
    for axes, metric in zip(figure.subplots(1, len(watched), squeeze=False)[0], watched, strict=True):
        factor = words.scale(metric)[0]
        for one in reversed(trainings):
            curve = one.curves.get(metric) or {}
            trial, number = one.trials[0][2], names.index(one.owners)
            colour = style.COLOURS[number] if number < style.MAX_COLOURED else style.UNCLEAR
            values = [factor * value for value in curve.values()]
            label = one.owners if number < style.MAX_COLOURED else "_"
            marker = "o" if len(curve) < 40 else ""
            axes.plot(list(curve), values, color=colour, linewidth=1.2, marker=marker, markersize=3, label=label)
            told = [f"epoch {epoch}: {metric} {words.show_number(metric, value)}" for epoch, value in curve.items()]
            style.tell(axes, one.name, list(curve), values, told, f"#{trial}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(words.axis(metric))
        axes.set_xlim(left=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        style.clean(axes)
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    shown = [name for name in names[: style.MAX_COLOURED] if name in lines]
    handles = [lines[name] for name in shown]
    figure.legend(handles, [style.short(name) for name in shown], loc="outside right upper", frameon=False)
    return figure


def _table(report: Report, listed: Sequence[tuple[Entry, int, str]], watched: Sequence[str]) -> Table:
    measure = report.measure if report.confirmed else report.goal
    last = [record_rows.last(report.histories[trial]) for _, _, trial in listed]
    epochs = [_epochs(report, trial) for _, _, trial in listed]
    columns = [
        Column("trial", [Text(trial, link=f"trials/{trial}/") for _, _, trial in listed], essential=True),
        Column("configuration", [Text(entry.label) for entry, _, _ in listed]),
        Column("seed", [Quantity("labels/used", seed) for _, seed, _ in listed], essential=True),
        Column(measure, [Quantity(measure, entry.values.get(measure, {}).get(seed)) for entry, seed, _ in listed],
               essential=True),
        *(Column(f"last {metric}", [_last(curves[metric], metric) for curves in epochs]) for metric in watched),
        Column("seconds", [_value(entry, "time/total_seconds", seed) for entry, seed, _ in listed]),
        Column("status", [Text(record["status"]) for record in last]),
    ]  # fmt: skip
    return Table(columns, ["A trial's name leads to its folder, beside this page."], "Trials", [t for *_, t in listed])


def _last(curve: Mapping[int, float], metric: str) -> Quantity | Empty:
    return Quantity(metric, curve[max(curve)]) if curve and known(metric) else Empty()


def _value(entry: Entry, metric: str, seed: int) -> Quantity:
    return Quantity(metric, entry.values.get(metric, {}).get(seed))
