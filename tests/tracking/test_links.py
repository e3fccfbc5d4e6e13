"""Where MLflow shows a sweep, and what its run says of the answer."""

import json

import pytest
from sweep_folder import SweepFolder

from harness.report.read import read_report
from harness.sweep.command import farewell
from harness.sweep.session import Outcome
from harness.tracking import __main__ as tracking
from harness.tracking.delivery import figures_of
from harness.tracking.experiment import folder_or_name
from harness.tracking.links import links, view_tag
from harness.tracking.models import fetch_model


def test_the_farewell_leads_to_runs_and_charts(tmp_path, capsys):
    farewell(Outcome(tmp_path, "https://me:secret@box/", complete=True, experiment="7"), "")
    runs = "https://box/#/experiments/7/runs?workflowType=machine_learning"
    said = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    assert said == [["runs:", runs], ["charts:", f"{runs}&compareRunsMode=CHART&viewStateShareKey=charts"]]
    assert links("sqlite:////a/mlflow.db", "2")["runs"].startswith("http://127.0.0.1:5000/#/experiments/2/runs?")


def test_charts_show_what_is_compared_by_the_metric_of_the_question():
    def view(method, metric, confirm=None):
        name, value = view_tag({"method": method, "metric": [{"name": metric}], "confirm": confirm})
        assert links("http://box", "7")["charts"].endswith(f"&viewStateShareKey={name.rpartition('.')[2]}")
        shown = json.loads(value)
        tags = [key["groupByData"] for key in shown["groupBy"]["groupByKeys"] if key["mode"] == "tag"]
        assert tags == ["differs"]
        return shown["searchFilter"], shown["chartsSearchFilter"]

    assert view("grid", "val/accuracy") == ("tags.phase = 'confirm'", "^(val|test)/accuracy$")
    assert view("bayes", "val/macro_f1") == ("tags.phase = 'search'", "^(val|test)/macro_f1$")
    assert view("random", "pretrain/rankme", {"top": 1}) == ("tags.phase = 'confirm'", "^pretrain/rankme$")


def test_looking_up_links_creates_nothing(tmp_path, capsys):
    results = tmp_path / "runs"
    (results / "augment").mkdir(parents=True)
    (tmp_path / "mlflow.db").write_bytes(b"")
    missing = {
        "gone": "gone: no such folder",
        "runs/augment": "runs/augment has no mlflow.db",
        "mlflow.db": "mlflow.db: no such folder",
    }
    for folder, message in missing.items():
        assert tracking.main(["links", str(tmp_path / folder)]) == 2
        assert capsys.readouterr().err.startswith(f"tracking: {tmp_path}/{message}")
    assert tracking.main(["links", str(tmp_path), "--tracking-uri", f"sqlite:///{tmp_path}/no/m.db"]) == 2
    assert capsys.readouterr().err == f"tracking: {tmp_path}/no has no m.db, and so no sweep of MLflow\n"
    with pytest.raises(ValueError, match=r"no has no m.db, and so no sweep of MLflow"):
        fetch_model("0" * 32, f"sqlite:///{tmp_path}/no/m.db", tmp_path)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "mlflow.db", results, results / "augment"]


def test_links_of_a_database_without_sweeps_say_so(uri, tmp_path, capsys):
    assert tracking.main(["links", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no sweep in {uri}\n"


def test_data_sets_are_called_by_their_folder():
    assert folder_or_name({"name": "image_folder", "path": "my/photos/"}) == "photos"
    assert folder_or_name({"name": "cifar10", "path": None}) == folder_or_name({"name": "cifar10"}) == "cifar10"


def test_the_answers_figures_are_those_of_the_report(tmp_path):
    sweep = SweepFolder(tmp_path / "s", reference={"selector": "random"})
    for name, gain in (("random", 0.0), ("coreset", 0.1)):
        for seed in (1, 2, 3):
            sweep.trial(name, seed, {"selector.name": name}, {200: 0.6 + gain * (1 + seed**2 / 30)})
    report = read_report(sweep.path)
    figures = figures_of(report)
    best, reference = report.confirmed
    assert figures.pop("best/n_seeds") == 3
    assert figures == {
        "best/test/accuracy": best.mean("test/accuracy"),
        "reference/test/accuracy": reference.mean("test/accuracy"),
        "difference/test/accuracy": best.judgement.difference.mean,
        "difference_half/test/accuracy": best.judgement.difference.half,
    }
    assert figures_of(read_report(SweepFolderOfSearch(tmp_path / "t").path)) == {}


class SweepFolderOfSearch(SweepFolder):
    """A search that nothing confirmed."""

    def __init__(self, path):
        super().__init__(path)
        self.trial("a", 0, {"selector.name": "random"}, {200: 0.8}, phase="search")
