"""Early stopping judges a configuration once, by its first seed; its other seeds run if that survives. Without Ray."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.tune.search import Searcher
from trials import SMALL

from harness.config.plan import Plan, load_plan
from harness.config.tasks import Task
from harness.records.details import Details, Training
from harness.records.folder import Recorder
from harness.records.rows import by_trial, last, read_rows
from harness.seeding import derive
from harness.sweep import callback, driver, worker
from harness.sweep.given import GivenTasks
from harness.sweep.search import Study
from harness.sweep.worker import record_of, tasks_in
from harness.trial.run import Folders

RATES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


def question(method: str = "grid", rule: str = "asha", **more) -> Plan:
    cap = {} if method == "grid" else {"run_cap": len(RATES)}
    asked = {
        "name": "q",
        "method": method,
        "seeds": [0, 1, 2],
        "early_terminate": {"type": rule, "eta": 2},
        "confirm": {"seeds": [7]},
        "portrait": False,
        "trial": {**SMALL, "labels": {"start": 20, "budget": 0, "rounds": 0}},
        "parameters": {"pretrain.lr": {"values": RATES}},
    }
    return load_plan(asked | cap | more, {})


class Ended(BaseException):
    """A worker ends in the middle of a report."""


class Trial:
    """What Tune's schedulers and callbacks know of a trial."""

    error_file = None

    def __init__(self, name: str, config: dict):
        self.trial_id, self.config, self.last_result = name, config, {}


class Tunes:
    """In place of Tune: its trials one after the other, in this process, each of made-up trainings of three epochs.

    Attributes:
        ran: the trials that trained.
        dying: those whose worker dies in its training.
    """

    def __init__(self, folder: Path, monkeypatch):
        self.folder, self.ran, self.dying = folder / "sweep", [], set()
        self.folder.mkdir()
        self.number, self.handed = 0, []
        parts = {
            "with_parameters": lambda work, job: functools.partial(work, job=job),
            "with_resources": lambda work, _: work,
        }
        configs = dict.fromkeys(("TuneConfig", "RunConfig", "FailureConfig"), lambda **settings: settings)
        monkeypatch.setattr(driver, "tune", SimpleNamespace(**parts, **configs, Tuner=self.tuner))
        monkeypatch.setattr(driver, "ConcurrencyLimiter", lambda search, _: search)
        context = SimpleNamespace(get_trial_id=lambda: "of_tune")
        monkeypatch.setattr(worker, "tune", SimpleNamespace(report=self.report, get_context=lambda: context))
        monkeypatch.setattr(worker, "run", self.train)
        for module, name in [(worker, "limit_passed"), (worker, "ended_before"), (callback, "limit_passed"),
                             (callback, "note_ending"), (callback, "forget_endings")]:  # fmt: skip
            monkeypatch.setattr(module, name, lambda *_: None)

    def run(self, plan: Plan) -> bool:
        """A run of the sweep, as a new driver; whether it is complete."""
        self.ran.clear()
        self.recorder = Recorder(self.folder, lambda record: None)
        display = SimpleNamespace(begin=lambda *_: None, waits=lambda *_: None, add=lambda *_: None)
        placement, interrupts = SimpleNamespace(resources={}, concurrent=1), SimpleNamespace(pressed=0)
        folders = Folders(self.folder, self.folder)
        complete = driver.Sweep(plan, folders, placement, self.recorder, display, interrupts).run()
        self.recorder.close()
        return complete

    def tuner(self, work, *, tune_config, run_config):
        self.search, self.scheduler = tune_config["search_alg"], tune_config["scheduler"]
        (self.callback,) = run_config["callbacks"]
        return SimpleNamespace(fit=lambda: [self.one(work) for _ in range(tune_config["num_samples"])])

    def one(self, work) -> None:
        """A trial of Tune's, as its controller takes it."""
        self.number += 1
        config = self.search.suggest(str(self.number))
        if config == Searcher.FINISHED:
            return
        self.trial = Trial(str(self.number), config)
        self.handed.append([task.trial_id for task in tasks_in(config)])
        if self.scheduler:
            self.scheduler.on_trial_add(None, self.trial)
        try:
            work(config)
        except Ended as ended:
            if str(ended) == "died":
                self.search.on_trial_complete(self.trial.trial_id, error=True)
                self.callback.on_trial_error(1, [], self.trial)
                return
        if self.scheduler:
            self.scheduler.on_trial_complete(None, self.trial, self.trial.last_result)
        self.search.on_trial_complete(self.trial.trial_id, self.trial.last_result)
        self.callback.on_trial_complete(1, [], self.trial)

    def report(self, told: dict) -> None:
        self.trial.last_result = told = {**told, "training_iteration": 1}
        controller = SimpleNamespace(get_live_trials=list)
        stops = told.get("done") or (
            self.scheduler is not None and self.scheduler.on_trial_result(controller, self.trial, told) == "STOP"
        )
        if not stops:
            self.search.on_trial_result(self.trial.trial_id, told)
        self.callback.on_trial_result(1, [], self.trial, told)
        if stops and not told.get("done"):
            raise Ended("stopped")

    def train(self, config, seed, folders, tell, *, with_test, deliver, mapped, bound):
        """Good by chance alone, and by another one under each seed."""
        (task,) = [one for one in tasks_in(self.trial.config) if one.seed == seed]
        self.ran.append(task.trial_id)
        accuracy = derive(seed, f"{config.pretrain.lr}") % 1000 / 1000
        for epoch in (1, 2, 3):
            tell("epoch", epoch, {"pretrain/knn_accuracy": accuracy}, Details(training=Training("pretrain", epoch, 3)))
            if task.trial_id in self.dying:
                raise Ended("died")
        metrics = {"labels/used": 20.0, "val/accuracy": accuracy} | ({"test/accuracy": accuracy} if with_test else {})
        tell("labels", 20, metrics, Details())
        return metrics

    def statuses(self) -> dict[str, dict[int, str]]:
        """Configuration -> seed -> how it ended, of the search."""
        told: dict[str, dict[int, str]] = {}
        for newest in map(last, by_trial(read_rows(self.folder)[0]).values()):
            if newest["phase"] == "search":
                told.setdefault(newest["configuration"], {})[newest["seed"]] = newest["status"]
        return told


def surviving(statuses: dict[str, dict[int, str]]) -> Iterator[str]:
    return (configuration for configuration, of in statuses.items() if "stopped" not in of.values())


@pytest.fixture
def tunes(tmp_path, monkeypatch):
    return Tunes(tmp_path, monkeypatch)


@pytest.mark.parametrize("rule", ["asha", "median"])
@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
def test_a_configuration_is_judged_by_its_first_seed_and_the_others_run_if_it_survives(tunes, method, rule):
    assert tunes.run(question(method, rule))
    statuses = tunes.statuses()
    assert len(statuses) == len(RATES)
    survived = list(surviving(statuses))
    assert 0 < len(survived) < len(RATES)
    for configuration, of in statuses.items():
        assert of == (dict.fromkeys((0, 1, 2), "finished") if configuration in survived else {0: "stopped"})
    assert sum(trial.startswith("confirm") for trial in tunes.ran) == 1
    assert tunes.run(question(method, rule))
    assert not tunes.ran, "a sweep that is complete has nothing left"


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
def test_seeds_that_are_added_are_those_of_what_was_not_stopped(tunes, method):
    tunes.run(question(method, seeds=[0]))
    survived = set(surviving(tunes.statuses()))
    tunes.handed.clear()
    assert tunes.run(question(method, seeds=[0, 3, 4]))
    assert {frozenset(of) for of in tunes.handed if of[0].startswith("search")} == {
        frozenset(f"search-{one}-s{seed}" for seed in (3, 4)) for one in survived
    }
    assert set(surviving(tunes.statuses())) == survived, "what has ended is not judged anew"


@pytest.mark.parametrize("method", ["grid", "random"])
def test_a_trial_whose_worker_died_is_tried_again_with_the_seeds_after_it(tunes, method):
    plan = question(method)
    first = plan.first_tasks()[0].candidate.configuration
    tunes.dying = {f"search-{first}-s1"}
    assert tunes.run(plan), "the sweep ends, though a seed of it never began"
    assert tunes.statuses()[first] == {0: "finished", 1: "failed"}
    tunes.dying.clear()
    assert tunes.run(plan)
    assert [trial for trial in tunes.ran if trial.startswith("search")] == [f"search-{first}-s{n}" for n in (1, 2)]
    assert tunes.statuses()[first] == dict.fromkeys((0, 1, 2), "finished")


def test_without_early_stopping_each_trial_is_one_of_tunes(tunes):
    assert tunes.run(question(early_terminate={"type": "none"}))
    assert {len(of) for of in tunes.handed} == {1}
    assert {status for of in tunes.statuses().values() for status in of.values()} == {"finished"}


def test_a_search_says_how_many_suggestions_made_no_trial(tunes, capsys):
    blur = {"first": {"name": "blur", "kernel_size": 3}, "second": "noise"}
    trial = {**SMALL, "augmentation": blur, "labels": {"start": 20, "budget": 0, "rounds": 0}}
    odd = {"augmentation.first.kernel_size": {"min": 3, "max": 9}}
    assert tunes.run(question("bayes", trial=trial, parameters=odd, early_terminate={"type": "none"}))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "made no valid trial" in line]
    assert 'did not run; the first: parameters {"augmentation.first.kernel_size": ' in line
    assert {tuple(of) for of in tunes.statuses().values()} == {(0, 1, 2)}
    assert len(tunes.statuses()) == 4


def test_a_first_seed_that_was_stopped_and_not_told_ends_its_configuration(tmp_path):
    plan = question("bayes")
    study, recorder = Study(plan, tmp_path / "optuna.log"), Recorder(tmp_path, lambda record: None)
    study.search()
    tasks = study.ask()[1]
    recorder.write(record_of(tasks[0], "epoch", 1, {"pretrain/knn_accuracy": 0.1}), Details())
    recorder.write(record_of(tasks[0], "labels", 0, {}) | {"status": "stopped"}, Details())
    again = Study(plan, tmp_path / "optuna.log")
    again.tell_endings(recorder)
    assert again.num_told == 1
    assert again.open_tasks(recorder) == []
    recorder.close()


# ---------------------------------------------------------------- which is handed out next


def told(task: Task, epoch: int) -> dict:
    return {"sent": [record_of(task, "epoch", epoch, {}), Details(training=Training("pretrain", epoch, 2))]}


def test_seeds_that_run_in_turn_hold_each_encoder_until_it_is_there_or_given_up():
    parameters = {"selector": {"values": ["random", "margin"]}}
    trial = {**SMALL, "labels": {"start": 20, "budget": 10, "rounds": 1}}
    tasks = question(seeds=[0, 1], trial=trial, parameters=parameters).first_tasks()
    said: list[tuple] = []
    given = GivenTasks(tasks, lambda *of: said.append(of), in_turn=True)
    assert (given.num_pretrainings, given.number) == (2, 2)
    assert tasks_in(given.suggest("a")) == tuple(tasks[:2])
    assert given.suggest("b") is None
    assert said[-1] == (2, tasks[0])
    given.on_trial_result("a", told(tasks[0], 2))
    assert given.suggest("b") is None
    assert said[-1] == (2, tasks[1]), "the second seed's encoder is still to come"
    given.on_trial_complete("a")
    assert tasks_in(given.suggest("b")) == tuple(tasks[2:])
