"""Where the time of trials went: by hand, on a trial that ran, and on the page."""

from __future__ import annotations

import pytest
from sweep_folder import START, SweepFolder
from trials import configure

from harness.report.read import read_report
from harness.report.section import Table
from harness.report.sections.shares import SPENT, spent_of
from harness.report.sections.times import times


def history(*rounds, began=0, **ending):
    """Of rounds (labels, second, select, train, evaluate, cached); the last one is the ending, with these totals."""
    records = {("labels", 0, "running"): {"step_kind": "labels", "time": START + 1000 * began, "metrics": {}}}
    for place, (labels, second, select, train, evaluate, cached) in enumerate(rounds):
        status = "finished" if place == len(rounds) - 1 else "running"
        metrics = {
            "time/round_select_seconds": select, "stage/select_cached": 0.0,
            "time/round_train_seconds": train, "stage/train_cached": float(cached),
            "time/round_evaluate_seconds": evaluate,
        }  # fmt: skip
        metrics |= {f"time/{name}_seconds": value for name, value in ending.items()} if status == "finished" else {}
        record = {"step_kind": "labels", "step": labels, "time": START + 1000 * second, "metrics": metrics}
        records["labels", labels, status] = record | {"trial": "t", "status": status}
    return records


def test_what_came_from_the_cache_was_not_spent():
    """A first training from the cache that once took 50 s; an encoder of 4 s; 2 s of pictures; 3 s of the rest."""
    rounds = [(100, 10, 0.0, 50.0, 1.0, True), (200, 22, 3.0, 5.0, 2.0, False)]
    spent = spent_of(history(*rounds, total=65.0, saved=50.0, wall=18.0, portrait=2.0))
    assert spent == {
        "encoder": 4, "select": 3, "train": 5, "evaluate": 3, "pictures": 2, "waiting": 2, "rest": 3
    }  # fmt: skip
    assert sum(spent.values()) == 22


def test_pictures_from_the_cache_were_not_spent():
    spent = spent_of(history((100, 9, 1.0, 5.0, 1.0, False), total=7.0, saved=0.0, wall=8.0, portrait=30.0))
    assert (spent["pictures"], spent["waiting"], spent["rest"]) == (1, 0, 1)


def test_a_trial_that_went_on_later_and_one_that_did_not_end_are_of_no_use():
    rounds = [(100, 10, 0.0, 8.0, 1.0, False), (200, 5000, 1.0, 2.0, 1.0, False)]
    assert spent_of(history(*rounds, total=13.0, saved=8.0, wall=5.0)) is None
    assert spent_of(history((100, 10, 0.0, 8.0, 1.0, False))) is None
    cached = [(100, 10, 0.0, 8.0, 1.0, True), (200, 86400, 0.1, 0.2, 0.1, False)]
    assert spent_of(history(*cached, total=13.0, saved=12.6, wall=0.4)) is None


def test_of_a_trial_that_ran_all_parts_are_there_and_add_up(fresh):
    rows, totals = fresh().run(configure(labels={"start": 20, "budget": 10, "rounds": 2}, selector="coreset"))
    records = {}
    clock = 0.0
    for place, (kind, step, metrics, _) in enumerate(rows):
        clock = totals["time/wall_seconds"] * place / (len(rows) - 1)
        records[kind, step, "running"] = {"step_kind": kind, "time": 1000 * clock, "metrics": metrics}
    kind, step, metrics, _ = rows[-1]
    del records[kind, step, "running"]
    ending = {"step_kind": kind, "time": 1000 * clock + 500, "metrics": {**metrics, **totals}, "status": "finished"}
    records[kind, step, "finished"] = ending
    spent = spent_of(records)
    assert tuple(spent) == SPENT
    assert sum(spent.values()) == pytest.approx(totals["time/wall_seconds"] + 0.5)
    assert spent["waiting"] == pytest.approx(0.5)
    for part, name in (("select", "select"), ("train", "train"), ("evaluate", "evaluate")):
        assert spent[part] == pytest.approx(totals[f"time/{name}_seconds"])
        assert spent[part] > 0
    assert spent["encoder"] == pytest.approx(totals["time/pretrain_seconds"] + totals["time/encode_seconds"])
    assert 0 < spent["rest"] < totals["time/wall_seconds"]


def test_the_page_says_it_of_each_configuration_and_of_all(tmp_path):
    sweep = SweepFolder(tmp_path / "s")
    for name, select in (("random", 0.0), ("coreset", 6.0)):
        for seed in (1, 2):
            made = history((200, 10 + select, select, 6.0, 1.0, False), total=7.0 + select, saved=0.0,
                           wall=9.0 + select)  # fmt: skip
            base = {"trial": f"confirm-{name}-s{seed}", "configuration": name, "phase": "confirm", "seed": seed,
                    "parameters": {"selector.name": name}}  # fmt: skip
            accuracy = {"val/accuracy": 0.6 + 0.01 * seed, "labels/used": 200}
            sweep.append(
                [
                    {**record, **base, "step": step, "status": status, "metrics": record["metrics"] | accuracy}
                    for (_, step, status), record in made.items()
                ]
            )
    (table,) = [part for part in times(read_report(sweep.path)).parts if isinstance(part, Table)]
    assert table.name == "Where the time went"
    rows = {str(row[0]): [float(cell.value) for cell in row[1:]] for row in table.rows}
    assert list(rows) == ["random", "coreset", "all trials"]
    assert rows["random"] == pytest.approx([10, 0, 0, 60, 10, 0, 10, 20])
    assert rows["coreset"] == pytest.approx([16, 0, 37.5, 37.5, 6.25, 0, 6.25, 12.5])
    assert rows["all trials"] == pytest.approx([13, 0, 600 / 26, 1200 / 26, 200 / 26, 0, 200 / 26, 400 / 26])
    assert "at most 30 % of a trial (confirm-random-s" in table.notes[1]
