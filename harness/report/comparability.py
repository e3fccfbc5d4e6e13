"""Which configurations of several sweeps can be compared, why others cannot, and what else must be known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations, product
from typing import Any

from harness.config.extension import section_asked, settings_of
from harness.config.schema import by_path, lies_in
from harness.records.names import EXACT, show_value
from harness.records.rows import DIGITS, last
from harness.report.blocks import GROUNDS
from harness.report.compare import flattery
from harness.report.entry import Entry
from harness.report.mixture import DATA
from harness.report.model import Report

SETTINGS = 6
"""How many settings that differ are named."""


@dataclass(frozen=True, eq=False)
class Side:
    """Confirmed configurations of one sweep, any two of which can be compared.

    Attributes:
        sweep: its name.
        report: the sweep.
        entries: of one ground, of the same data and number of labels; best by the measure first.
    """

    sweep: str
    report: Report
    entries: list[Entry]

    @property
    def name(self) -> str:
        """The sweep's, and the ground where there are several."""
        block = self.entries[0].block
        return f"{self.sweep} on {block}" if block else self.sweep

    @cached_property
    def best(self) -> Entry:
        """The one of these that is chosen, as `Report.best` is."""
        ordered = self.report.ordered(self.report.chosen_by)
        return next((entry for entry in ordered if entry in self.entries), self.entries[0])

    @cached_property
    def flattery(self) -> float:
        """By how much the best would look better than it is, were all of these equal."""
        return flattery(self.report.scores(self.report.measure, self.entries))


def sides_of(report: Report, sweep: str = "") -> list[Side]:
    """A sweep's confirmed configurations, parted as far as they cannot be compared."""
    sides: list[Side] = []
    for entry in report.confirmed:
        for side in sides:
            first = side.entries[0]
            if first.block == entry.block and not between_entries(report, first, report, entry):
                side.entries.append(entry)
                break
        else:
            sides.append(Side(sweep, report, [entry]))
    return sides


def _images(report: Report, entry: Entry) -> dict[int, str]:
    """Seed -> the digits of its trial's images and their split.

    Empty where these are not known: of trials that did not record them, in a sweep over several data sets.
    """
    digits = {one["fingerprint"][:DIGITS] for one in report.environment["datasets"]}
    only = digits.pop() if len(digits) == 1 else ""
    return {seed: last(report.histories[trial]).get("data", only) for seed, trial in entry.trials.items()}


def _labels(report: Report, entry: Entry) -> dict[int, tuple[float, ...]]:
    """Seed -> with how many labels the measure was taken: an area with those of all rounds, else those of the last."""
    used = entry.values.get("labels/used", {})
    if not report.measure.endswith("/aubc"):
        return {seed: (number,) for seed, number in used.items()}
    rounds = entry.curves["labels/used"].items()
    return {seed: tuple(step for step, by_seed in rounds if seed in by_seed) for seed in used}


def _disagree(one: Mapping[int, object], other: Mapping[int, object]) -> bool:
    """Whether two differ under a seed that both have; where they share none, whether they have nothing in common."""
    both = one.keys() & other.keys()
    return any(one[seed] != other[seed] for seed in both) if both else set(one.values()).isdisjoint(other.values())


def obstacles(one: Report, other: Report) -> list[str]:
    """Why figures of two sweeps say nothing about each other; empty where some do."""
    sides = [_between_sides(a, b) for a, b in product(sides_of(one), sides_of(other))]
    return [*between_sweeps(one, other), *min(sides, key=len, default=[])]


def between_sweeps(one: Report, other: Report) -> list[str]:
    """Why no configuration of the one can be compared with any of the other."""
    stops = [*one.mixed, *other.mixed]
    if not one.confirmed or not other.confirmed:
        return [*stops, "a search alone has no figures on fresh seeds"]
    if one.measure != other.measure:
        stops.append(f"one measures {one.measure}, the other {other.measure}")
    if one.has_fresh_splits != other.has_fresh_splits:
        stops.append("one has a single split of the data, the other a fresh one for each seed")
    return stops


def between_entries(one: Report, left: Entry, other: Report, right: Entry) -> list[str]:
    """Why two configurations, each of its sweep, cannot be compared, though their sweeps may be."""
    stops, data = [], (_images(one, left), _images(other, right))
    if one is not other and any("" in of_seed.values() for of_seed in data):
        stops.append("it was not recorded which trials have which images")
    elif _disagree(*data):
        stops.append("the images or their split differ")
    if _disagree(_labels(one, left), _labels(other, right)):
        stops.append("they used different numbers of labels")
    return stops


def _between_sides(one: Side, other: Side) -> list[str]:
    """Why the bests of two sides cannot be compared, though their sweeps may be."""
    sides = [side for side in (one, other) if len(side.report.blocks) > 1]
    settings = [settings_of(side.report.space, side.best.parameters) for side in sides]
    varied = {path.partition(".")[0] for path in chain(*settings)}
    stops = between_entries(one.report, one.best, other.report, other.best)
    for section in GROUNDS:
        if section in varied and section not in DATA:  # data have fingerprints
            left, right = (
                by_path({section: section_asked(side.report.space, side.best.parameters, section)})
                for side in (one, other)
            )
            differ = sorted(path for path in left.keys() | right.keys() if left.get(path) != right.get(path))
            stops += [f"their grounds differ, by {differ[0]}"] if differ else []
    return stops


def comparable(a: Side, b: Side) -> bool:
    """Whether two sides are of two sweeps and nothing stands between them."""
    return a.report is not b.report and not between_sweeps(a.report, b.report) and not _between_sides(a, b)


def seeds_of(report: Report) -> set[int]:
    """The seeds of all confirmed configurations."""
    return {seed for entry in report.confirmed for seed in entry.seeds}


def cautions(one: Report, other: Report) -> list[str]:
    """What else differs, and must be known when figures are compared nevertheless."""
    warnings = []
    if one.confirmed and other.confirmed and len(seeds_of(one) & seeds_of(other)) < 2:
        warnings.append("they share fewer than two seeds, so differences cannot be paired and have no interval")
    commits = [report.environment.get("commit") for report in (one, other)]
    if commits[0] != commits[1]:
        warnings.append(f"the code differs (commits {', '.join(str(commit)[:12] for commit in commits)})")
    if one.environment.get("dirty") or other.environment.get("dirty"):
        warnings.append("code was changed after its commit")
    machines = [
        tuple(str(report.environment.get(key)) for key in ("cpu", "cores", "gpus", "concurrent_trials"))
        for report in (one, other)
    ]
    if machines[0] != machines[1]:
        warnings.append("the machines or their load differ, so seconds do not compare")
    precisions = [report.environment.get("precision") for report in (one, other)]
    if precisions[0] != precisions[1]:
        warnings.append(f"the precision differs ({', '.join(map(str, precisions))})")
    settings = _settings(one, other)
    if settings:
        shown = ", ".join(settings[:SETTINGS]) + (
            f" and {len(settings) - SETTINGS} more" if settings[SETTINGS:] else ""
        )
        warnings.append(f"the settings that neither sweep varies differ: {shown}")
    return warnings


def _settings(one: Report, other: Report) -> list[str]:
    """What both trials fix, and differently: `backbone.width 8 and 32`."""
    trials = [by_path(report.space.get("trial") or {}) for report in (one, other)]
    varied = {path for report in (one, other) for entry in report.confirmed for path in entry.parameters}
    fixed = [path for path in trials[0] if path in trials[1] and not _varies(path, varied)]
    values = {path: tuple(trial[path] for trial in trials) for path in fixed}
    return [f"{path} {' and '.join(_apart(a, b))}" for path, (a, b) in values.items() if a != b]


def _apart(one: Any, other: Any) -> tuple[str, str]:
    """Two different values, with as many digits as it takes to see that."""
    shown = show_value(one), show_value(other)
    return shown if shown[0] != shown[1] else (show_value(one, EXACT), show_value(other, EXACT))


def _varies(path: str, varied: set[str]) -> bool:
    """Whether the setting, or the section that it belongs to, is varied."""
    return any(lies_in(path, other) or lies_in(other, path) for other in varied)


def settings_that_differ(reports: Sequence[Report], names: Sequence[str]) -> list[str]:
    """A sentence for each pair of sweeps that differ in anything but the question."""
    said = []
    for (one, a), (other, b) in combinations(zip(names, reports, strict=True), 2):
        stops, warns = obstacles(a, b), cautions(a, b)
        if stops:
            said.append(f"{one} and {other} are not comparable: {'; '.join(stops)}.")
        elif part := _part(a, b, one, other):
            said.append(part)
        if warns:
            said.append(f"{one} and {other}: {'; '.join(warns)}.")
    return said


def _part(a: Report, b: Report, one: str, other: str) -> str:
    """Says how many of the configurations of two comparable sweeps are compared; empty where all are."""
    sides = sides_of(a), sides_of(b)
    pairs = [(x, y) for x, y in product(*sides) if not _between_sides(x, y)]
    used = [sum(len(side.entries) for side in of if any(side in pair for pair in pairs)) for of in sides]
    counts = [len(report.confirmed) for report in (a, b)]
    if used == counts:
        return ""
    of = [f"{k} of the {n} of {name}" for k, n, name in zip(used, counts, (one, other), strict=True)]
    return f"Of the same images, split, labels and ground, and so compared, are {' and '.join(of)}."
