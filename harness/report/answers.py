"""The answer to a sweep's question in words, and what belongs to it: the data, their levels, the training.

Every place that shows an answer shows these paragraphs: the terminal, the summary, the page, MLflow, a notebook.
"""

from __future__ import annotations

import math

import numpy as np

from harness.metrics import FEW_STEPS
from harness.records import names
from harness.report import across_tables, round_tables, words
from harness.report.cells import Difference, Mean
from harness.report.entry import Entry
from harness.report.model import Report

DATA_SETS_SHOWN = 3
"""So many data sets are described; of more their names are listed."""


def answer_of(report: Report) -> str:
    """The verdict, in one or a few sentences; over all rounds where there are several, and the measure has a curve."""
    if report.mixed:
        return f"No answer. {report.mixed[0]}"
    if not report.confirmed:
        return _answer_of_search(report)
    if report.across:
        return across_tables.answer_across(report.across)
    over_rounds = round_tables.answer_over_rounds(report.rounds) if report.rounds else ""
    return (over_rounds if report.is_judged_by_area else "") or _answer_of_last_round(report)


def beside_answer(report: Report) -> list[str]:
    """What else belongs to the answer, a paragraph each."""
    apart = report.across or not report.is_judged_by_area
    over_rounds = round_tables.answers_over_rounds(report.rounds) if report.rounds and apart else []
    return [text for text in (*over_rounds, _measured_on(report), _training(report)) if text]


def _answer_of_last_round(report: Report) -> str:
    best, reference, name, count = report.best, report.reference, report.measure, len(report.confirmed)
    assert reference is not None
    if best.mean(name) is None:
        return f"No confirmed configuration reported {name}."
    score = f"{name} {Mean(name, report.headline)} ({words.seeds(best)}{_beside(report, best)})"
    if count == 1:
        return f"{best.label} reached {score}; nothing was confirmed beside it to compare it with."
    by = f" by {report.chosen_by}" if report.chosen_by != name else ""
    first = f"{best.label}{', the reference,' if best is reference else ''} was the best of {count}{by} with {score}."
    if report.flattery:
        flattery = words.show_number(name, report.flattery)
        first += f" To be the best of {count} flatters, by {flattery} if all were equal; the interval allows for it."
    return f"{first} {_against_reference(report, best, reference)}"


def _beside(report: Report, best: Entry) -> str:
    """Whose seeds a figure is of that is not the mean of its own."""
    own, shown, reference = best.mean(report.measure), report.headline, report.reference_on(best.block)
    if own is None or shown is None or reference is None or math.isclose(own, shown.mean):
        return ""
    return f", set beside all {len(reference.seeds)} of {reference.label}"


def _against_reference(report: Report, best: Entry, reference: Entry) -> str:
    """How the best lies to the reference, or where the reference is best, the next to it."""
    other, versus = best, f"Against the reference, {reference.label}, that is"
    if best is reference:
        other = next(entry for entry in report.ordered(report.chosen_by) if entry is not reference)
        versus = f"The next, {other.label}, lies at"
    if other.judgement is None:
        return f"{other.label} and {reference.label} share no seed and cannot be compared."
    versus += f" {Difference(report.measure, other.judgement)}"
    n = other.judgement.difference.n
    if n == 1:
        return f"{versus}; one seed gives no interval, so this may be luck."
    versus += f" (95 %, paired over {n} seeds): {other.verdict}"
    if other.kind != "none" or other.judgement.smallest is None:
        return f"{versus}."
    smallest = words.show_number(report.measure, other.judgement.smallest)
    return f"{versus}; so many seeds and images can resolve differences of {smallest} or more."


def _answer_of_search(report: Report) -> str:
    if not report.searched or report.searched[0].mean(report.goal) is None:
        return "No trial has finished."
    best, count = report.searched[0], len(report.searched)
    score = f"{report.goal} {Mean(report.goal, best.estimate(report.goal))}"
    chosen = f"the best of {count} on the data it was chosen by" if count > 1 else "the only one"
    return f"{best.label} reached {score}, {chosen}: not confirmed on fresh seeds or on test data."


FEW_NAMED = 5
"""Configurations that are named one by one."""


def _measured_on(report: Report) -> str:
    """The data sets, each once however it was split; of a single one also what it gives for nothing."""
    sets = report.environment["datasets"]
    named = list(dict.fromkeys(map(names.called, sets)))
    said = list(dict.fromkeys(words.counted(names.called(one), one) for one in sets))  # one may be asked for in parts
    text = f"Data: {'; '.join(named if len(said) > DATA_SETS_SHOWN else said)}."
    return f"{text} {_for_nothing(report)}".strip() if len(said) == 1 else text


def _for_nothing(report: Report) -> str:
    """What chance and the largest class reach, and how far the images alone leave the best accuracy in doubt."""
    entries = report.confirmed or report.searched
    shown = report.best if report.confirmed else next(iter(entries), None)
    measure = report.measure if report.confirmed else report.goal
    split, _, name = measure.partition("/")
    mean = shown.mean(f"{split}/accuracy") if shown else None
    matrices = [left.last_confusion for left in shown.files.values()] if shown else []
    of_classes = [one for one in matrices if one and one.split == split and one.matrix.sum()]
    if name not in ("accuracy", "aubc") or mean is None or not of_classes:
        return ""
    of_class = np.mean([one.matrix.sum(1) / one.matrix.sum() for one in of_classes], axis=0)
    largest, images = int(of_class.argmax()), int(of_classes[0].matrix.sum())
    share, chance = float(of_class[largest]), 1 / len(of_class)
    levels = f"chance {chance:.1%}, always {of_classes[0].class_names[largest]!r} {share:.1%}"
    if f"{chance:.1%}" == f"{share:.1%}":
        levels = f"chance, or always one class, {chance:.1%}"
    half = 100 * 1.96 * math.sqrt(mean * (1 - mean) / images)
    kind = {"val": "validation", "test": "test"}[split]
    below = f" {shown.label} is not above that." if shown and mean <= max(share, chance) else ""
    alone = f"{images:,} {kind} images alone leave an accuracy uncertain by {half:.1f} points"
    return f"Without learning: {levels.replace('%', ' %')}.{below} {alone}."


def _training(report: Report) -> str:
    """How many gradient steps the encoders made, and whose were too few to say anything."""
    entries = report.confirmed or [entry for entry in report.searched if entry.ending == "finished"]
    steps = {entry.label: mean for entry in entries if (mean := entry.mean("pretrain/steps")) is not None}
    if not steps:
        return ""
    least, most = min(steps.values()), max(steps.values())
    of = f"{least:,.0f} to {most:,.0f}" if least < most else f"{most:,.0f}"
    few = [name for name, number in steps.items() if number < FEW_STEPS]
    text = f"Pre-trained for {of} gradient steps."
    if not few:
        return text
    more = f" and {len(few) - FEW_NAMED} more" if len(few) > FEW_NAMED else ""
    whose = "That is" if len(few) == len(steps) else f"Under {FEW_STEPS}: {', '.join(few[:FEW_NAMED])}{more}. That is"
    return f"{text} {whose} too few to say what such a pre-training is worth; raise pretrain.epochs."
