"""A report that is asked from Python."""

from __future__ import annotations

import json

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


def test_records_have_one_row_per_trial_and_step_whatever_wrote_them(tmp_path):
    """The last round and the ending of a trial stand in one record, in old folders in two."""
    frames_of = {}
    for kind in ("old", "new"):
        sweep = SweepFolder(tmp_path / kind)
        for seed in (1, 2):
            rows = sweep.records("a", seed, {"selector.name": "a", "labels.budget": [20, 3]}, {20: 0.5, 40: 0.6})
            if kind == "new":
                *rows, last_round, ending = rows
                rows.append(ending | {"metrics": {**last_round["metrics"], **ending["metrics"]}})
            sweep.append(rows)
        sweep.trial("b", 3, {"selector.name": "b", "labels.budget": 20}, {}, status="failed", error="full")
        write_report(sweep.path)
        frames_of[kind] = pd.read_parquet(sweep.path / "records.parquet")
        report = read_report(sweep.path)
        assert report.confirmed[0].curves["test/accuracy"][40] == {1: 0.59, 2: 0.59}
        raw = pd.json_normalize(list(map(json.loads, (sweep.path / "rows.jsonl").read_text().splitlines())))
        counted = raw[raw["step_kind"] == "labels"].groupby("step")["metrics.val/accuracy"].count()
        assert counted[40] == 2
        assert raw.duplicated(["trial", "step_kind", "step"]).any() == (kind == "old")
    pd.testing.assert_frame_equal(frames_of["old"], frames_of["new"])
    frame = frames_of["new"]
    assert not frame.duplicated(["trial", "step_kind", "step"]).any()
    at_end = frame[(frame.step_kind == "labels") & (frame.step == 40)]
    assert at_end["test/accuracy"].tolist() == [0.59, 0.59]
    assert at_end["time/total_seconds"].tolist() == [10, 10]
    assert at_end["time/round_select_seconds"].tolist() == [0.5, 0.5]
    assert set(frame["labels.budget"]) == {"[20, 3]", "20"}
    assert frame[frame.trial == "confirm-b-s3"].status.tolist()[-1] == "failed"


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
