"""Shares of the headroom: the interval holds what it promises, and an upper bound stands among no methods."""

from __future__ import annotations

import numpy as np
import pytest
from sweep_folder import replace_rows, selection_sweep

from harness.records.rows import read_rows
from harness.report.headroom import share_of_headroom
from harness.report.pictures.rounds import ATTAINABLE, overview
from harness.report.read import read_report
from harness.report.round_tables import answer_over_rounds
from harness.report.summary import summary


def by_seed(values):
    return dict(enumerate(np.asarray(values, float).tolist()))


def test_the_interval_of_a_share_holds_the_truth_as_often_as_it_says():
    """Correlated gains of eight seeds, drawn 4,000 times; the true share is .4."""
    rng = np.random.default_rng(0)
    cover = np.array([[0.0004, 0.0002], [0.0002, 0.0006]])
    held = []
    for draw in rng.multivariate_normal([0.04, 0.1], cover, size=(4000, 8)):
        share = share_of_headroom(by_seed(draw[:, 0]), by_seed([0] * 8), by_seed(draw[:, 1]))
        held.append(share.low <= 0.4 <= share.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.011)  # three standard errors


def test_shares_by_hand():
    reference, bound = by_seed([0.5, 0.6]), by_seed([0.7, 0.8])
    assert str(share_of_headroom(by_seed([0.6, 0.7]), reference, bound)) == "50 % [50, 50]"
    assert str(share_of_headroom(by_seed([0.6]), reference, bound)) == "50 %"
    assert share_of_headroom(by_seed([0.6, 0.7]), bound, reference) is None  # the bound gains nothing
    assert share_of_headroom({7: 0.6}, reference, bound) is None
    uncertain = share_of_headroom(by_seed([0.6, 0.7]), reference, by_seed([0.5, 0.9]))
    assert uncertain.mean == pytest.approx(0.1 / 0.15)
    assert uncertain.low is None


@pytest.fixture
def sweep(tmp_path):
    """Three selectors, and a bound that lies two points above the first."""
    sweep = selection_sweep(
        tmp_path / "s", {"random": 0.0, "good": 0.06, "bound": 0.12}, rounds=3, reference={"selector": "random"}
    )
    lines, _ = read_rows(sweep.path)
    for line in lines:
        if line["configuration"] == "bound":
            line |= {"phase": "headroom", "parameters": {"headroom": "best of 9 batches"}}
            line["metrics"]["labels/looked_at"] = 1234.0
    replace_rows(sweep.path / "rows.jsonl", lines)
    return sweep


def test_an_upper_bound_is_a_line_and_no_method(sweep):
    report = read_report(sweep.path)
    assert [entry.id for entry in report.confirmed] == ["good", "random"]
    assert report.rounds.cases == ["good", "random"]
    (setting,) = report.rounds.settings
    areas, bound = setting.areas["test/accuracy"], setting.attainable.areas["test/accuracy"]
    gain = np.mean([areas["good"][s] - areas["random"][s] for s in bound])
    most = np.mean([bound[s] - areas["random"][s] for s in bound])
    share = share_of_headroom(areas["good"], areas["random"], bound)
    assert share.mean == pytest.approx(gain / most)
    text = summary(report)
    assert f"| {share} |" in text
    assert "labels of 1,234 images" in text
    assert "| bound |" not in text
    assert f"good gained {share} of what the best batches" in answer_over_rounds(report.rounds)
    lines = {line.get_label() for line in overview(report.rounds, setting).axes[0].get_lines()}
    assert lines == {"good", "random", ATTAINABLE}


def test_of_two_upper_bounds_the_newer_one_is_drawn(sweep):
    lines, _ = read_rows(sweep.path)
    before = [line for line in lines if line["phase"] == "headroom"]
    changes = {"configuration": "older", "time": 0, "parameters": {"headroom": "best of 4 batches"}}
    older = [line | changes | {"trial": line["trial"].replace("bound", "older")} for line in before]
    replace_rows(sweep.path / "rows.jsonl", [*lines, *older])
    (bound,) = read_report(sweep.path).bounds
    assert bound.id == "bound"
    assert read_report(sweep.path).rounds.settings[0].attainable is not None


def test_without_a_bound_nothing_is_said_of_headroom(tmp_path):
    sweep = selection_sweep(tmp_path / "s", {"random": 0.0, "good": 0.06}, rounds=3, reference={"selector": "random"})
    report = read_report(sweep.path)
    assert report.rounds.settings[0].attainable is None
    assert "headroom" not in summary(report)
