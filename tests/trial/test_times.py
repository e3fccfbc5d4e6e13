"""What a trial's seconds mean: one name is one quantity, and what was saved and what was spent are the total."""

import json
import shutil
import time
from types import SimpleNamespace

import pytest
from sweep_folder import SweepFolder
from trials import configure, rounds_of

from harness.api import Backbone
from harness.metrics import PER_ROUND, known
from harness.report.read import read_report
from harness.trial.run import load_data
from harness.trial.runtime import Runtime

ROUNDS = {"labels": {"start": 20, "budget": 10, "rounds": 3}, "selector": "coreset", "classifier__epochs": 2}
PARTS = ("pretrain", "encode", "select", "train", "evaluate")


@pytest.fixture(scope="module")
def bench(cache, tmp_path_factory):
    from trials import Bench

    return Bench(cache, tmp_path_factory.mktemp("stages"))


@pytest.fixture(scope="module")
def stages(bench):
    """The stages of one trial: (kind, number of its round) -> folder; a trial trains on its start pool, too."""
    bench.run(configure(**ROUNDS))
    order = {
        kind: sorted((bench.folders.stages / kind).iterdir(), key=lambda folder: _meta(folder)["finished"])
        for kind in ("pretrain", "select", "train")
    }
    assert {kind: len(folders) for kind, folders in order.items()} == {"pretrain": 1, "select": 3, "train": 4}
    first = {"pretrain": 0, "select": 1, "train": 0}
    return {(kind, first[kind] + n): folder for kind, folders in order.items() for n, folder in enumerate(folders)}


def _meta(folder):
    return json.loads((folder / "meta.json").read_text())


def test_a_name_means_one_quantity_in_every_record_of_a_step(fresh):
    config = configure(**ROUNDS | {"classifier": ["linear", "knn"]})
    rows, totals = fresh().run(config, with_test=True)
    rounds = [metrics for _, _, metrics, _ in rounds_of(rows)]
    both = rounds[-1].keys() & totals.keys()
    assert {"val/accuracy", "labels/used"} <= both
    assert {name: rounds[-1][name] for name in both} == {name: totals[name] for name in both}
    of_rounds = {name for name in rounds[-1] if name.startswith(("time/", "stage/"))}
    assert {known(name).name for name in of_rounds} == set(PER_ROUND)
    for name in ("select", "train", "evaluate"):
        each = [metrics.get(f"time/round_{name}_seconds", 0.0) for metrics in rounds]
        assert totals[f"time/{name}_seconds"] == pytest.approx(sum(each))
        assert min(each[1:]) > 0


SUBSETS = [
    [],
    [("pretrain", 0)],
    [("select", 3)],
    [("select", 1), ("select", 2)],
    [("train", 3), ("select", 3)],
    [("train", 0), ("train", 1), ("train", 2)],
    [("pretrain", 0), ("train", 3)],
    [("select", 1), ("train", 1), ("select", 2), ("train", 2), ("select", 3), ("train", 3)],
    [("pretrain", 0), *(("select", n) for n in (1, 2, 3)), *(("train", n) for n in (0, 1, 2, 3))],
]


@pytest.mark.parametrize("deleted", SUBSETS, ids=lambda some: " ".join(f"{kind}{n}" for kind, n in some) or "none")
def test_saved_and_spent_are_the_total_whatever_the_cache_lacks(bench, stages, tmp_path, deleted):
    for stage in deleted:
        shutil.rmtree(stages[stage])
    before = time.time()
    rows, totals = bench.run(configure(**ROUNDS))
    computed = [stage for stage, folder in stages.items() if _meta(folder)["finished"] >= before]
    assert sorted(computed) == sorted(deleted)
    spent = sum(_meta(stages[stage])["seconds"] for stage in computed)
    spent += totals["time/encode_seconds"] + totals["time/evaluate_seconds"]
    assert totals["time/saved_seconds"] + spent == pytest.approx(totals["time/total_seconds"])
    assert totals["time/total_seconds"] == pytest.approx(sum(totals[f"time/{part}_seconds"] for part in PARTS))
    for number, (_, _, metrics, _) in enumerate(rounds_of(rows)):
        for kind in ("select", "train")[number == 0 :]:
            assert metrics[f"stage/{kind}_cached"] == float((kind, number) not in deleted)

    left = [kind for kind in ("pretrain", "select", "train") if {s for s in stages if s[0] == kind} - set(deleted)]
    for names in (totals, _as_recorded_before(rows, totals)):
        report = read_report(_folder(tmp_path / f"{len(list(tmp_path.iterdir()))}", rows, names))
        assert report.saved == pytest.approx(report.seconds - spent)
        (entry,) = report.confirmed
        assert entry.cached == left


FINETUNE = {"name": "finetune", "epochs": 1}


@pytest.mark.parametrize("heads", [[FINETUNE], [FINETUNE, "knn"], ["knn"]], ids=["finetune", "finetune, knn", "knn"])
def test_encoding_the_pool_is_charged_once_and_under_its_own_name(fresh, heads, monkeypatch):
    bench, forward = fresh(), Runtime.forward
    config = configure(**ROUNDS | {"selector": "typiclust", "classifier": heads, "pretrain__epochs": 1})
    pool = len(load_data(config, bench.folders.cache, with_test=False)[0].pool)

    encoded = []

    def noted(self, network, images, *rest):
        encoded.extend([network] * (isinstance(network, Backbone) and len(images) == pool))
        return forward(self, network, images, *rest)

    late = lambda: time.perf_counter() + 1000 * len(encoded)  # noqa: E731
    clock = SimpleNamespace(perf_counter=late, monotonic=time.monotonic, time=time.time)
    monkeypatch.setattr(Runtime, "forward", noted)
    monkeypatch.setattr("harness.trial.models.time", clock)
    monkeypatch.setattr("harness.trial.stages.time", clock)
    first, again = (bench.run(config)[1] for _ in range(2))
    assert 1000 < first["time/encode_seconds"] < 2000
    assert first["time/select_seconds"] < 1000
    assert 1000 < again["time/encode_seconds"] < 2000
    assert again["time/select_seconds"] == first["time/select_seconds"]
    assert again["time/total_seconds"] == pytest.approx(sum(again[f"time/{part}_seconds"] for part in PARTS))


def _as_recorded_before(rows, totals):
    """Renames what a round took, in place, to the name of the trial's seconds; the totals without what was saved."""
    for _, _, metrics, _ in rounds_of(rows):
        for name in [name for name in metrics if name.startswith("time/round_")]:
            metrics[name.replace("round_", "")] = metrics.pop(name)
    return {name: value for name, value in totals.items() if name != "time/saved_seconds"}


def _folder(path, rows, totals):
    """A sweep's folder with this one trial."""
    sweep = SweepFolder(path)
    base = {"trial": "confirm-c-s0", "configuration": "c", "phase": "confirm", "seed": 0, "parameters": {}}
    steps = [(kind, step, metrics, "running") for kind, step, metrics, _ in rows]
    steps.append(("labels", int(totals["labels/used"]), totals, "finished"))
    sweep.append(
        [
            base | {"step_kind": kind, "step": step, "metrics": metrics, "status": status, "time": number}
            for number, (kind, step, metrics, status) in enumerate(steps)
        ]
    )
    return path
