"""Tables, pictures and sentences of a sweep on several data sets: each says which it is of, and compares within it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from sweep_folder import OPERATIONS, SweepFolder

from harness.report import summary, tables
from harness.report.looks.gallery import find_looks
from harness.report.notebook import Findings
from harness.report.page.write import page_sections
from harness.report.read import read_report
from harness.report.section import Heading, Picture, Section, Table
from harness.report.sections import times
from harness.report.write import write_report

GROUNDS = {"cifar10": (0.5, 60.0), "svhn": (0.9, 600.0)}
"""Data set -> the accuracy of random selection, and its seconds."""

METHODS = {"random": (0.0, 0.0), "margin": (0.05, 60.0)}
"""Selector -> points and seconds more than random's."""


OVER_ALL = ("Over 2 grounds", "Who beats whom", "Overlap of the picks")
"""What is averaged over the data sets."""


def sweep(path, **space) -> SweepFolder:
    """Margin gains five points for a minute more on each data set, of which the second is easier and slower."""
    varied = {"dataset.name": {"values": list(GROUNDS)}, "selector.name": {"values": list(METHODS)}}
    folder = SweepFolder(path, reference={"selector": "random"}, parameters=varied, **space)
    rng = np.random.default_rng(0)
    for data, (level, seconds) in GROUNDS.items():
        for method, (gain, more) in METHODS.items():
            for seed in (1, 2, 3):
                end = level + gain + rng.normal(0, 0.003)
                parameters = {"dataset.name": data, "selector.name": method}
                took = seconds + more + rng.normal(0, 1)
                rows = folder.records(f"{data}{method}", seed, parameters, {100: end - 0.1, 200: end}, seconds=took)
                for row in (row for row in rows if "test/accuracy" in row["metrics"]):
                    row["metrics"]["test/accuracy/knn"] = row["metrics"]["test/accuracy"] - 0.1
                folder.append(rows)
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_report(sweep(tmp_path_factory.mktemp("grounds") / "q").path)


def placed(section: Section) -> list[tuple[str, Table | Picture]]:
    """The tables and pictures of a section, each under what stands above it."""
    above, found = section.title, []
    for part in section.parts:
        above = part.text if isinstance(part, Heading) else above
        found += [(above, part)] if isinstance(part, Table | Picture) else []
    return found


def test_every_table_of_methods_says_on_which_ground_they_are(report):
    of_page = [one for section in page_sections(report) for one in placed(section)]
    of_curves = [one for section in tables.curve_tables(report) for one in placed(section)]
    seen = []
    for above, table in [*of_page, *of_curves]:
        names = [str(row[0]) for row in table.rows] if isinstance(table, Table) else []
        assert len(set(names)) == len(names), f"{above}: rows of one name"
        if set(METHODS) <= set(names) and above not in OVER_ALL:
            assert re.search(r"\((cifar10|svhn)\)", above), f"{above} does not say of which data set it is"
            seen.append(above)
    assert {"Confirmed (svhn)", "The same under knn (cifar10)", "Over all rounds (svhn)"} <= set(seen)
    assert len([above for above in seen if above.startswith("Learning curves: ")]) == 2


def test_the_headings_are_seen_wherever_the_tables_are(report):
    text, page = summary.summary(report), (report.folder / "report.html").read_text()
    for ground in GROUNDS:
        assert f"## Confirmed ({ground})" in text
        assert f"## The same under knn ({ground})" in text
        assert f"<h3>Confirmed ({ground})</h3>" in page
        assert f"<p>Confirmed ({ground})</p>" in Findings(report)._repr_html_()
    heading, table = page.index("<h3>Confirmed (cifar10)</h3>"), page.index('aria-label="Confirmed (cifar10)')
    assert heading < table < page.index("<h3>Confirmed (svhn)</h3>") < page.index('aria-label="Confirmed (svhn)')


def test_what_is_said_of_the_reference_is_said_of_each_grounds(report):
    for text in (summary.summary(report), (report.folder / "report.html").read_text()):
        assert "Difference to random: " in text
        assert "to svhn · random" not in text
        assert "to cifar10 · random" not in text


def test_minutes_buy_points_beyond_the_reference_of_the_same_ground(report):
    gains = next(table for table in times.times(report).tables if table.name == times.GAINS)
    bought = {str(row[0]): row[-1].show().value for row in gains.rows}
    assert bought["cifar10 · margin"] == pytest.approx(5, abs=0.5)
    assert bought["svhn · margin"] == pytest.approx(5, abs=0.5)
    assert bought["svhn · random"] is bought["cifar10 · random"] is None


def test_no_ground_beats_another_in_time_and_accuracy(report):
    parts = placed(times.times(report))
    shown = {part.stem: (above, part.alt) for above, part in parts if isinstance(part, Picture)}
    for stem, ground in (("pareto", "cifar10"), ("pareto_2", "svhn")):
        above, alt = shown[stem]
        assert f"({ground})" in above
        assert alt.endswith("nothing beats random, margin in both")
    assert shown["seconds"][0] == "Seconds per stage", "of all data sets"


def test_looks_compare_with_the_reference_of_the_same_ground(tmp_path):
    folder = sweep(tmp_path / "q")
    for file in folder.path.glob("trials/*svhn*/confusion_matrix_*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"class_names": ["zero", "one"]}))
    looks = {look.stem: look for look in find_looks(read_report(folder.path))}
    assert "Diamonds: cifar10 · random, the reference" in looks["classes"].caption
    assert "Of other classes, and so not here: svhn · margin, svhn · random." in looks["balance"].caption
    assert [str(row[0]) for row in looks["balance"].rows] == ["cifar10 · margin", "cifar10 · random", "(the pool)"]
    colours = [axes.patches[0].get_facecolor() for axes in looks["balance"].draw().axes if axes.patches]
    assert colours[0] != colours[1], "the reference's, too"


def test_of_every_reference_it_is_said_what_it_lacks(tmp_path):
    folder = sweep(tmp_path / "q", seeds=[1, 2, 3, 4])
    for name in ("cifar10random", "svhnrandom"):
        data = name.removesuffix("random")
        parameters = {"dataset.name": data, "selector.name": "random"}
        folder.trial(name, 4, parameters, {}, status="failed", error="OutOfMemoryError")
    notes = " ".join(read_report(folder.path).notes)
    for ground in GROUNDS:
        assert f"The reference, {ground} · random, has no result under seed 4" in notes


def test_augmentations_and_parameters_are_compared_within_each_ground(tmp_path):
    chosen = list(OPERATIONS[:3])
    varied = {"dataset.name": {"values": list(GROUNDS)}}
    varied |= {f"augmentation.{half}": {"values": chosen} for half in ("first", "second")}
    varied |= {"ssl_method.temperature": {"values": [0.1, 0.2]}}
    folder = SweepFolder(tmp_path / "q", seeds=[0], reference={"augmentation.first": "crop"}, parameters=varied)
    number = 0
    for data, (level, _) in GROUNDS.items():
        for first in chosen:
            for second in chosen:
                for temperature in (0.1, 0.2):
                    number += 1
                    parameters = {"dataset.name": data, "augmentation.first": first, "augmentation.second": second}
                    parameters |= {"ssl_method.temperature": temperature}
                    folder.trial(f"c{number:02}", 0, parameters, {100: level + 0.001 * number})
    shown = [one for section in page_sections(read_report(folder.path)) for one in placed(section)]
    found = {part.stem: (above, part) for above, part in shown if isinstance(part, Picture)}
    for stem in ("pairs", "importance", "parallel", "scatter"):
        for suffix, ground in (("", "cifar10"), ("_2", "svhn")):
            above, picture = found[f"{stem}{suffix}"]
            assert above.endswith(f"({ground})")
            assert picture.draw()
    assert "18 configurations" in found["parallel"][1].caption
    highest, lowest = (max(found[stem][1].draw.args[0].panels["best"].values()) for stem in ("pairs_2", "pairs"))
    assert lowest < 0.6 < 0.8 < highest
