"""A question over several data sets, encoders or budgets, in words and tables."""

from __future__ import annotations

from functools import partial

from harness.report import words
from harness.report.aggregates import Across
from harness.report.cells import Empty, Ends, Number, Text
from harness.report.model import Report
from harness.report.pictures import across as pictures
from harness.report.section import Column, Picture, Section, Table


def answer_across(across: Across) -> str:
    """Which method ranks best, and on how many grounds which methods differ from the reference."""
    count = len(across.grounds)
    methods = [one for one in across.methods if one.rank]
    head = f"By {across.measure} on {count} grounds ({', '.join(across.grounds)})"
    of = " of those that lack no run" if len(methods) < len(across.methods) else ""
    best = methods[0] if len(methods) > 1 else None
    ranked = f", {best.method} has the best mean rank{of}, {best.rank.value:.1f}." if best and best.rank else ":"
    differing = [one for one in across.methods if one.wins or one.losses]
    said = [f"{one.method} is better on {one.wins} and worse on {one.losses}" for one in differing]
    beyond = f"Against {across.reference}, beyond doubt: {', '.join(said)}." if said else ""
    compared = len(across.uncompared) < count
    nothing = f"Nothing differs from {across.reference} beyond doubt on any of them." if compared else ""
    left = f"Not compared on {', '.join(across.uncompared)}." if across.uncompared else ""
    return " ".join(filter(None, [f"{head}{ranked}", beyond or nothing, left]))


def across_sections(report: Report) -> list[Section]:
    """The aggregates and their profiles; none of a sweep on one ground."""
    across = report.across
    if across is None:
        return []
    factor, unit = words.scale(across.measure)
    in_unit = " (points)" if unit == "%" else ""
    methods = across.methods
    reference = next(one for one in methods if one.method == across.reference)
    columns = [
        Column("method", [Text(one.method) for one in methods], essential=True),
        Column("mean rank", [Ends(one.rank, ".2f") if one.rank else Empty() for one in methods], essential=True),
        Column(
            f"IQM of differences{in_unit}",
            [Ends(one.middle, "+.2f", factor) if one.middle else Empty() for one in methods],
            essential=True,
        ),
        *(
            Column(name, [Number(None if one is reference else getattr(one, name), ".0f") for one in methods])
            for name in ("wins", "ties", "losses", "runs")
        ),
    ]
    title = f"Over {len(across.grounds)} grounds"
    picture = Picture(
        "profiles",
        partial(pictures.draw_profiles, across),
        f"Performance profiles: share of runs that exceed {across.reference} by so much",
        f"For each difference to {across.reference} (same seed, same ground) the share of runs that reach it, every "
        "ground weighing the same; shaded: 95 % intervals. At 0: the share of runs that are no worse.",
    )
    pictures_of = [picture] if any(one.profile for one in methods) else []
    return [Section(title, "across", [*pictures_of, Table(columns, _notes(across), title)])]


def _notes(across: Across) -> list[str]:
    return [
        f"Grounds: {', '.join(across.grounds)}. Brackets: 95 % intervals that draw the seeds of each ground anew "
        "(stratified bootstrap, 2,000 draws; where each has eight seeds). They describe; the tables above judge.",
        f"Mean rank by {across.measure} over grounds and seeds, 1 is best; rank, IQM and profile of the methods that "
        "lack none.",
        f"IQM: interquartile mean of the differences to {across.reference} over all runs, every ground weighing the "
        "same, better upwards (Agarwal et al. 2021, https://arxiv.org/abs/2108.13264; there of scores that each task's "
        "own scale normalises).",
        f"Wins, losses: grounds on which the method is better, or worse, than {across.reference} after Holm's "
        "correction for all comparisons on all grounds; ties: neither can be said, or equivalent.",
    ]
