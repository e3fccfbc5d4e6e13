"""Which configurations need more seeds, where these are added until their comparisons are resolved."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from harness.report.compare import judge
from harness.report.model import Report


def unresolved(report: Report, size: int) -> set[str]:
    """The configurations that need more than the first so many seeds, the references of their grounds among them.

    Over several rounds the answer is by the area under the curve, and the table by the last round: neither may be open.
    """
    assert report.looks is not None
    seeds = set(report.looks.seeds[:size])
    judged = report.judgements(report.measure, seeds)
    more = {name for name, one in judged.items() if not one.settled}
    if report.is_judged_by_area:
        more |= _unresolved_by_area(report, seeds)
    grounds = {entry.block for entry in report.confirmed if entry.id in more}
    return more | {entry.id for entry in report.confirmed if entry.block in grounds and report.is_reference(entry)}


def _unresolved_by_area(report: Report, seeds: AbstractSet[int]) -> set[str]:
    """By the area under the curve of the measure, with the references of their settings."""
    assert report.rounds is not None
    measure = report.rounds.measure
    settings = [setting for setting in report.rounds.settings if setting.reference]
    areas = {number: setting.scores(measure, None).under(seeds) for number, setting in enumerate(settings)}
    more: set[str] = set()
    for reference in {setting.reference for setting in settings if setting.reference}:  # one, in whichever setting
        judged = judge(areas, reference, worth=report.worth(measure), looks=report.looks)
        for number, column in judged.items():
            if cases := {case for case, one in column.items() if not one.settled}:
                more |= {settings[number].configurations[case] for case in {*cases, reference}}
    return more
