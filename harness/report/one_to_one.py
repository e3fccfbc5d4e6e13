"""One configuration against another, be they of different grounds or sweeps."""

from __future__ import annotations

from harness.report.compare import Judgement, Scores, judge
from harness.report.entry import Entry
from harness.report.model import Report
from harness.report.sequential import Looks


def judge_pair(
    report: Report, metric: str, entry: Entry, other: Entry, *, looks: Looks | None, shift: float = 0.0
) -> Judgement | None:
    """The first against the second, over the seeds that both have: a family alone.

    Args:
        report: of the first.
        metric: by which.
        entry: the first.
        other: the second.
        looks: at which either may have been kept from growing; None: at none.
        shift: is added to each value of the first.

    Returns:
        None where they share no seed.
    """
    both = {"entry": entry, "other": other}
    values = {name: dict(one.values.get(metric, {})) for name, one in both.items()}
    lacking = {name for name, one in both.items() if one.asked - values[name].keys()}
    values["entry"] = {seed: value + shift for seed, value in values["entry"].items()}
    family = {metric: Scores(values, lambda name: both[name].outcomes(metric), lacking)}
    judged = judge(family, "other", maximize=report.maximize, worth=report.worth(metric), looks=looks)
    return judged[metric].get("entry")
