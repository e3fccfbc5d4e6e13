"""A Bayesian search asks for each configuration once, and is told of every ending what it was. Without Ray."""

from __future__ import annotations

import importlib.util
import pickle
import random
import sys
import threading
from collections import Counter
from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher
from trials import SMALL

from harness.config.plan import load_plan
from harness.config.schema import ConfigError
from harness.config.tasks import Candidate, Task
from harness.config.trial import TrialConfig
from harness.records.details import Details, Training
from harness.records.folder import Recorder
from harness.sweep import given
from harness.sweep.given import GivenTasks
from harness.sweep.preflight import num_suggested, preview
from harness.sweep.search import REPEATS, Study
from harness.sweep.worker import record_of, tasks_in

DISCRETE = {"classifier.lr": {"values": [1e-2, 1e-3]}, "classifier.weight_decay": {"values": [0.0, 1e-4]}}
WHOLE = {"classifier.epochs": {"min": 1, "max": 3}}
RANGES = {"classifier.lr": {"min": 1e-3, "max": 1e-1}, "classifier.weight_decay": {"min": 0.0, "max": 1e-3}}


def tasks_of(**more):
    asked = {
        "name": "q",
        "seeds": [0, 1, 2],
        "trial": SMALL,
        "parameters": {"selector": {"values": ["random", "margin"]}},
    }
    return load_plan(asked | more, {}).first_tasks()


def told(task, training: str, epoch: int, epochs: int) -> dict:
    return {"sent": [record_of(task, "epoch", epoch, {}), Details(training=Training(training, epoch, epochs))]}


class Slots:
    """Trials of Tune's, as `GivenTasks` hands them out."""

    def __init__(self, tasks):
        self.said: list[tuple] = []
        self.given = GivenTasks(tasks, lambda *of: self.said.append(of))
        self.number = 0

    def next(self):
        self.number += 1
        config = self.given.suggest(str(self.number))
        return (str(self.number), tasks_in(config)[0]) if config else None


def test_no_trial_holds_a_slot_while_another_trains_its_encoder():
    margin_first = [task for seed in (0, 1, 2) for task in tasks_of() if task.seed == seed]
    slots = Slots(margin_first)
    begun = [slots.next() for _ in range(3)]
    assert [task.seed for _, task in begun] == [0, 1, 2], "one of each encoder, though two of seed 0 come first"
    assert slots.next() is None
    waiting, other = slots.said[-1]
    assert (waiting, other) == (3, begun[0][1])
    name, task = begun[1]
    slots.given.on_trial_result(name, told(task, "pretrain", 1, 2))
    assert slots.next() is None, "the training has not ended"
    slots.given.on_trial_result(name, told(task, "pretrain", 2, 2))
    _, ready = slots.next()
    assert (ready.seed, slots.said[-1]) == (1, (0, None))
    slots.given.on_trial_complete(begun[0][0], error=True)
    _, another = slots.next()
    assert another.seed == 0, "what a failed trial did not train is for the next"


def test_an_encoder_that_is_there_holds_nobody_up():
    parameters = {"selector": {"values": ["random", "margin", "entropy", "coreset"]}}
    slots = Slots(tasks_of(seeds=[0], parameters=parameters))
    name, task = slots.next()
    assert slots.next() is None
    slots.given.on_trial_result(name, told(task, "pretrain", 2, 2))
    assert all(slots.next() for _ in range(3)), "though none of these has taken it from the cache yet"


def test_trials_that_go_on_for_more_rounds_wait_for_nobody():
    parameters = {"selector": {"values": ["random", "margin", "entropy", "coreset"]}}
    known = {("epoch", 1): {"pretrain/loss": 1.0}}
    slots = Slots([replace(task, known=known) for task in tasks_of(seeds=[0], parameters=parameters)])
    assert all(slots.next() for _ in range(4))


def test_where_nothing_is_shared_none_waits():
    tasks = GivenTasks(tasks_of(seeds=[0]), shared=False)
    assert tasks.suggest("1")
    assert tasks.suggest("2")


class SlowSlots:
    """The same by looking at all tasks that are left, each time."""

    def __init__(self, encoders: dict[int, dict[str, str]]):
        self.left, self.running, self.ready = dict(encoders), {}, set()
        self.needed = Counter(one for of in encoders.values() for one in of.values())

    def next(self, name: str) -> int | None:
        training = {one for of in self.running.values() for one in of.values()} - self.ready
        free = [number for number, of in self.left.items() if training.isdisjoint(of.values())]
        if not free:
            return None
        chosen = max(free, key=lambda number: max((self.needed[one] for one in self.left[number].values()), default=1))
        self.running[name] = self.left.pop(chosen)
        return chosen


@pytest.mark.parametrize("seed", range(20))
def test_tasks_are_handed_out_as_if_all_were_looked_at_each_time(seed, monkeypatch):
    draw = random.Random(seed)
    tasks = [Task(Candidate({}, TrialConfig()), number, "search") for number in range(40)]
    names = ("pretrain", "teacher")[: draw.randint(1, 2)]
    encoders = {n: {name: f"{name}{draw.randint(0, 9)}" for name in names if draw.random() < 0.8} for n in range(40)}
    monkeypatch.setattr(given, "encoders_of", lambda task: encoders[task.seed])
    slots, slow = Slots(tasks), SlowSlots(encoders)
    held: dict[str, Task] = {}
    while slow.left or held:
        if slow.left and len(held) < 3:
            one, chosen = slots.next(), slow.next(str(slots.number))
            assert (one[1].seed if one else None) == chosen
            held |= {one[0]: one[1]} if one else {}
            if one is None:
                waiting, other = slots.said[-1]
                first = next(of for of in slow.left.values())  # the first that is left waits for one of its encoders
                assert waiting == len(slow.left)
                assert set(first.values()) & set(encoders[other.seed].values()) - slow.ready
        name = draw.choice(list(held))
        for training, encoder in encoders[held[name].seed].items():
            if draw.random() < 0.6:
                slots.given.on_trial_result(name, told(held[name], training, 2, 2))
                slow.ready.add(encoder)
                slow.needed[encoder] = 1
        if draw.random() < 0.5:
            slots.given.on_trial_complete(name, error=draw.random() < 0.5)
            del slow.running[name], held[name]


@pytest.mark.parametrize("encoders", [1, 2000], ids=["one encoder", "each its own"])
def test_what_a_task_costs_does_not_grow_with_the_number_of_tasks(encoders, monkeypatch):
    monkeypatch.setattr(given, "encoders_of", lambda task: {"pretrain": str(task.seed % encoders)})
    tasks = [Task(Candidate({}, TrialConfig()), number, "search") for number in range(2000)]
    slots, calls = Slots(tasks), 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    def one() -> None:
        name, task = slots.next()
        slots.given.on_trial_result(name, told(task, "pretrain", 2, 2))
        slots.given.on_trial_complete(name)

    one()  # what is looked up once for all
    sys.setprofile(count)
    try:
        for _ in range(100):
            one()
    finally:
        sys.setprofile(None)
    assert calls < 3000 * 100, "each of two thousand tasks is looked at"


def test_the_epoch_that_ends_a_trial_is_told_too_and_an_accuracy_counts_as_one(tmp_path):
    for metric, sign in (("val/accuracy", 1), ("val/loss", -1)):
        asked = plan(metric={"name": metric}, early_terminate={"type": "asha"})
        study = Study(asked, tmp_path / f"{sign}.log")
        search = study.search()
        search.suggest("a")
        search.on_trial_result("a", {"epoch": 1, "watch": 0.2})
        search.on_trial_complete("a", {"epoch": 2, "watch": 0.3})  # Tune gives it to the scheduler, and then only here
        (trial,) = trials_in(tmp_path / f"{sign}.log")
        assert trial.state.name == "PRUNED"
        assert trial.intermediate_values == {1: sign * 0.2, 2: sign * 0.3}


def test_a_combination_that_cannot_be_is_named():
    parameters = {"classifier.name": {"values": ["logistic", "svm"]}, "selector.name": {"values": ["random", "margin"]}}
    combination = r'parameters \{"classifier.name": "svm", "selector.name": "margin"\}: .*margin'
    with pytest.raises(ConfigError, match=combination):
        plan(parameters, run_cap=2)


def test_what_hands_out_tasks_can_be_pickled_though_a_terminal_looks_on():
    lock = threading.RLock()
    tasks = GivenTasks(tasks_of(), lambda number, other: lock)
    copied = pickle.loads(pickle.dumps(tasks))
    assert tasks_in(copied.suggest("1")) == tasks_in(tasks.suggest("1"))


def test_encoders_that_many_need_come_first_and_others_keep_their_order():
    parameters = {"ssl_method.temperature": {"values": [0.1, 0.2]}, "selector": {"values": ["random", "margin"]}}
    once, *often = tasks_of(seeds=[0], parameters=parameters)
    slots = Slots([once, *often[1:]])  # of the first encoder one trial, of the second two
    assert slots.next()[1].trial.ssl_method == often[1].trial.ssl_method
    assert slots.next()[1] == once
    without = Slots(tasks_of(trial={**SMALL, "ssl_method": "none"}))
    assert [without.next()[1] for _ in range(6)] == tasks_of(trial={**SMALL, "ssl_method": "none"})


def plan(parameters=DISCRETE, **more):
    return load_plan(
        {"name": "q", "method": "bayes", "run_cap": 12, "trial": SMALL, "parameters": parameters, **more}, {}
    )


def all_asked(study: Study, most: int = 50) -> list[str]:
    """The configurations that it suggests until it has no more, each told a value."""
    asked = []
    while (suggested := study.ask()) and len(asked) < most:
        number, tasks = suggested
        asked.append(tasks[0].candidate.configuration)
        study.tell(number, [0.5 + len(asked) / 100] * study.num_objectives)
    return asked


BLUR = {"first": {"name": "blur", "kernel_size": 3}, "second": "noise"}
ODD = {"augmentation.first.kernel_size": {"min": 3, "max": 9}}
VIT = {"name": "vit", "dim": 48, "heads": 4, "depth": 1}
HEADS = {"backbone.heads": {"values": [3, 4]}, "backbone.dim": {"min": 48, "max": 60}}


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
@pytest.mark.parametrize(
    ("trial", "parameters", "number"),
    [({"augmentation": BLUR}, ODD, 4), ({"backbone": VIT}, HEADS, 9)],
    ids=["odd", "a multiple of another"],
)
def test_a_suggestion_that_makes_no_trial_is_left_out_and_tells_the_sampler_nothing(
    tmp_path, trial, parameters, number, name
):
    asked = plan(parameters, trial=SMALL | trial, sampler=name, run_cap=50)
    study = Study(asked, tmp_path / "optuna.log")
    study.search()
    configurations = all_asked(study)
    assert len(set(configurations)) == len(configurations) == number == study.num_told
    trials = trials_in(tmp_path / "optuna.log")
    left_out = [one for one in trials if one.state == TrialState.FAIL]
    assert [one.user_attrs["left_out"] for one in left_out] == study.left_out
    assert study.left_out
    assert all(problem.startswith("parameters {") and ": trial." in problem for problem in study.left_out)
    assert not any("parameters" in one.user_attrs for one in left_out)
    again = Study(asked, tmp_path / "optuna.log")
    again.search()
    assert again.num_told == number
    assert again.ask() is None


def trials_in(file) -> list[optuna.trial.FrozenTrial]:
    storage = optuna.storages.journal.JournalStorage(optuna.storages.journal.JournalFileBackend(str(file)))
    return optuna.load_study(study_name="search", storage=storage).trials


@pytest.mark.parametrize(("parameters", "number"), [(DISCRETE, 4), (WHOLE, 3)])
def test_each_configuration_of_a_discrete_space_is_tried_once_and_then_it_ends(tmp_path, parameters, number):
    study = Study(plan(parameters), tmp_path / "optuna.log")
    study.search()
    asked = all_asked(study)
    assert len(asked) == len(set(asked)) == number
    assert study.is_exhausted
    assert study.num_told == number
    again = Study(plan(parameters), tmp_path / "optuna.log")
    again.search()
    assert again.ask() is None


def test_a_space_of_fewer_configurations_than_run_cap_is_counted_and_said():
    note = "there are 4 configurations, fewer than run_cap: 12; each is tried once"
    assert num_suggested(plan()) == 4
    assert note in preview(plan()).splitlines()
    assert ": bayes, searched by val/accuracy\n" in preview(plan())
    assert num_suggested(plan(run_cap=3)) == 3
    assert "fewer than run_cap" not in preview(plan(run_cap=3))
    assert num_suggested(plan(RANGES)) == 12
    assert note in preview(plan(method="random")).splitlines()


class Stuck(optuna.samplers.BaseSampler):
    """Always suggests the same."""

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, name, distribution):
        return distribution.choices[0]


class Turn(Stuck):
    """Suggests the values of a list in turn, and then nothing but the last."""

    def __init__(self, *values):
        self.values = list(values)

    def sample_independent(self, study, trial, name, distribution):
        return self.values.pop(0) if len(self.values) > 1 else self.values[0]


def test_what_is_left_out_counts_as_a_repeat_and_random_draws_take_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.sweep.search.sampler", lambda plan, seed: Turn(3, 4))
    study = Study(plan(ODD, trial=SMALL | {"augmentation": BLUR}), tmp_path / "optuna.log")
    study.search()
    assert len(all_asked(study, 2)) == 2
    states = [one.state for one in trials_in(tmp_path / "optuna.log")]
    assert states[: 1 + REPEATS] == [TrialState.COMPLETE, *[TrialState.FAIL] * REPEATS]


def test_a_repeated_suggestion_is_answered_from_its_record_and_costs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.sweep.search.sampler", lambda plan, seed: Stuck())
    study = Study(plan(), tmp_path / "optuna.log")
    study.search()
    assert len(set(all_asked(study, 2))) == 2
    repeats = [one for one in trials_in(tmp_path / "optuna.log") if "parameters" not in one.user_attrs]
    assert repeats
    assert {one.value for one in repeats if one.state == TrialState.COMPLETE} <= {0.51, 0.52}
    assert any(one.state == TrialState.COMPLETE for one in repeats)
    assert study.num_told == 2


def test_a_trial_stopped_early_is_pruned_with_what_was_watched_and_costs_its_place(tmp_path):
    study = Study(plan(), tmp_path / "optuna.log")
    search = study.search()
    config = search.suggest("of_tune")
    (task,) = tasks_in(config)
    for epoch, accuracy in ((1, 0.2), (2, 0.3)):
        search.on_trial_result("of_tune", {"epoch": epoch, "watch": accuracy, "objective_0": accuracy})
    search.on_trial_complete("of_tune", {"objective_0": 0.3})
    (told,) = trials_in(tmp_path / "optuna.log")
    assert told.state == TrialState.PRUNED
    assert told.intermediate_values == {1: 0.2, 2: 0.3}
    reopened = Study(plan(), tmp_path / "optuna.log")
    assert reopened.num_told == 1
    reopened.search()
    assert task.candidate.configuration not in all_asked(reopened)


def test_one_that_never_began_is_forgotten_and_may_come_again(tmp_path):
    study = Study(plan(), tmp_path / "optuna.log")
    search = study.search()
    (task,) = tasks_in(search.suggest("of_tune"))
    search.on_trial_complete("of_tune", None)
    assert study.num_told == 0
    assert task.candidate.configuration in all_asked(study)
    assert search.suggest("another") == Searcher.FINISHED


def test_what_was_stopped_before_an_interrupt_is_told_from_its_records(tmp_path):
    study, recorder = Study(plan(), tmp_path / "optuna.log"), Recorder(tmp_path, lambda record: None)
    study.search()
    _, (task,) = study.ask()
    for epoch in (1, 2):
        recorder.write(record_of(task, "epoch", epoch, {"pretrain/knn_accuracy": epoch / 10}), Details())
    ending = record_of(task, "labels", 0, {"pretrain/knn_accuracy": 0.2}) | {"status": "stopped"}
    recorder.write(ending, Details())
    again = Study(plan(), tmp_path / "optuna.log")
    assert again.open_tasks(recorder) == [task]  # which the records say has ended
    again.tell_endings(recorder)
    recorder.close()
    (told,) = trials_in(tmp_path / "optuna.log")
    assert (told.state, told.intermediate_values) == (TrialState.PRUNED, {1: 0.1, 2: 0.2})


SAMPLERS = {
    "tpe": optuna.samplers.TPESampler,
    "gp": optuna.samplers.GPSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "nsga2": optuna.samplers.NSGAIISampler,
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_optunas_samplers_suggest_by_name(tmp_path, name):
    asked = plan(RANGES, sampler=name, run_cap=7)
    study = Study(asked, tmp_path / "optuna.log")
    study.search()
    assert isinstance(study.sampler, SAMPLERS[name])
    assert len(set(all_asked(study, 7))) == 7
    assert asked.as_dict()["sampler"] == name


def test_auto_takes_a_gaussian_process_for_few_configurations_of_numbers(tmp_path):
    two = [{"name": "val/accuracy"}, {"name": "time/total_seconds"}]
    for number, (kind, asked) in enumerate(
        [
            (optuna.samplers.GPSampler, plan(RANGES, sampler="auto")),
            (optuna.samplers.TPESampler, plan(RANGES, sampler="auto", run_cap=1000)),
            (optuna.samplers.TPESampler, plan(DISCRETE, sampler="auto")),
            (optuna.samplers.TPESampler, plan(RANGES, sampler="auto", metric=two)),
        ]
    ):
        study = Study(asked, tmp_path / f"{number}.log")
        study.search()
        assert isinstance(study.sampler, kind)


def test_what_a_sampler_cannot_do_is_refused(tmp_path, monkeypatch):
    two = [{"name": "val/accuracy"}, {"name": "time/total_seconds"}]
    with pytest.raises(ConfigError, match="cmaes improves one metric; use nsga2 or tpe for several"):
        plan(RANGES, sampler="cmaes", metric=two)
    with pytest.raises(ConfigError, match="sampler: is for method bayes; with random leave it out"):
        plan(method="random", sampler="gp")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"cmaes needs a package; pip install 'selbench\[cmaes\]'"):
        Study(plan(RANGES, sampler="cmaes"), tmp_path / "optuna.log").search()
