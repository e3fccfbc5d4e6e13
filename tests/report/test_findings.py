"""A report that is asked from Python."""

from __future__ import annotations

import pandas as pd
import pytest
from sweep_folder import SweepFolder, selection_sweep

from harness.report.frames import leaderboard
from harness.report.notebook import Findings
from harness.report.read import read_report
from harness.report.write import write_report

GAINS = {"random": 0.0, "good": 0.06}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return selection_sweep(
        tmp_path_factory.mktemp("notebook") / "s", GAINS, seeds=[1, 2], rounds=2, reference={"selector": "random"}
    )


@pytest.fixture(scope="module")
def findings(sweep):
    return Findings(read_report(sweep.path))


def test_the_leaderboard_is_that_of_the_file(sweep, findings):
    report = write_report(sweep.path)
    assert findings.answer == report.answer
    frame = pd.read_csv(sweep.path / "leaderboard.csv")
    assert list(findings.leaderboard().columns) == list(frame.columns)
    assert findings.leaderboard()["test/accuracy"].tolist() == pytest.approx(frame["test/accuracy"].tolist())
    assert leaderboard(report).label.tolist() == ["good", "random"]


def test_rows_are_tidy(findings):
    rows = findings.rows()
    one = rows[(rows.trial == "confirm-good-s2") & (rows.metric == "val/accuracy")]
    assert one.step.tolist() == [200, 400, 600]
    assert set(one.step_kind) == {"labels"}
    assert set(one["selector.name"]) == {"good"}
    losses = rows[(rows.trial == "confirm-good-s2") & (rows.metric == "pretrain/loss")]
    assert (losses.step_kind.tolist(), losses.value.tolist()) == (["epoch"] * 2, [5.0, 2.5])
    assert not rows.duplicated(["trial", "step_kind", "step", "status", "metric"]).any()


def test_curves_by_labels_and_by_epoch(findings):
    curves = findings.curves("test/accuracy")
    assert list(curves) == ["phase", "configuration", "label", "seed", "trial", "labels", "value"]
    entry = findings.report.confirmed[0]
    for row in curves[curves.configuration == entry.id].itertuples():
        assert row.value == entry.curves["test/accuracy"][row.labels][row.seed]
    assert len(curves) == 2 * 2 * 3
    assert set(findings.curves("pretrain/knn_accuracy").epoch) == {1, 2}
    assert not findings.curves("labels/used").duplicated(["trial", "labels"]).any()
    with pytest.raises(ValueError, match=r"no trial .* recorded 'val/acuracy'; did you mean 'val/accuracy'\?"):
        findings.curves("val/acuracy")


def test_the_ending_of_a_stopped_trial_is_no_point_of_a_curve(tmp_path):
    sweep = SweepFolder(tmp_path / "s")
    sweep.trial("a", 0, {"ssl_method.temperature": 0.1}, {200: 0.8}, phase="search")
    rows = sweep.trial("b", 0, {"ssl_method.temperature": 0.2}, {}, phase="search", status="running")
    ending = {"status": "stopped", "step_kind": "labels", "step": 0, "time": rows[-1]["time"] + 1}
    sweep.append([rows[-1] | ending])
    curves = Findings(read_report(sweep.path)).curves("pretrain/knn_accuracy")
    assert curves.epoch.tolist() == [1, 2, 1, 2]
    assert curves.value.tolist() == pytest.approx([0.6, 0.7, 0.6, 0.7])


def test_figures_are_those_of_the_folder(sweep, findings):
    write_report(sweep.path)
    assert set(findings.figures) == {path.stem for path in sweep.path.glob("*.svg")}
    figure = findings.figure("curves")
    assert [axes.get_ylabel() for axes in figure.axes] == ["test/accuracy (%)", "val/accuracy (%)"]
    assert findings.figure("curves") is not figure
    with pytest.raises(ValueError, match=r"no picture 'curve'; did you mean 'curves'\?"):
        findings.figure("curve")


def test_a_notebook_shows_the_answer_and_the_leaderboard(tmp_path):
    sweep = SweepFolder(tmp_path / "s", name="a <b>")
    sweep.trial("a", 0, {"ssl_method.temperature": 0.1}, {200: 0.8}, phase="search")
    sweep.trial("b", 0, {"ssl_method.temperature": 0.2}, {200: 0.9}, phase="search")
    findings = Findings(read_report(sweep.path))
    html = findings._repr_html_()
    assert html.startswith("<p><b>a &lt;b&gt;</b>: temperature 0.2 reached val/accuracy 0.9000")
    assert html.index("<td>temperature 0.2</td>") < html.index("<td>temperature 0.1</td>")
    assert findings.leaderboard().phase.tolist() == ["search", "search"]
    assert repr(findings) == f"a <b>: {findings.answer}"
