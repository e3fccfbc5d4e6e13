"""Where Tune's trials come from: a list of tasks, or Optuna's study and its journal, which outlives a kill."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, TrialState
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import Searcher

from harness.config.plan import Plan
from harness.config.schema import ConfigError
from harness.config.space import lookup
from harness.config.tasks import Candidate, Task
from harness.files import digest_of
from harness.records.folder import Recorder
from harness.records.rows import Record
from harness.seeding import derive
from harness.sweep.objectives import keys, values_so_far
from harness.sweep.worker import tune_config


class GivenTasks(Searcher):
    """Hands out tasks in their order, one to each trial of Tune's."""

    def __init__(self, tasks: Sequence[Task]):
        super().__init__()
        self._left = iter(tasks)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The next task, as Tune's configuration."""
        return tune_config([next(self._left)])

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Of no interest."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: resuming reads our own records."""


class StudySearch(Searcher):
    """Asks a study for configurations, and tells it how they ended; one that failed gets no made-up value."""

    def __init__(self, study: Study):
        super().__init__()
        self._study = study
        self._numbers: dict[str, int] = {}  # Tune's trial -> Optuna's

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """What Optuna suggests, as Tune's configuration."""
        self._numbers[trial_id], tasks = self._study.ask()
        return tune_config(tasks)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Tells Optuna how a trial ended."""
        number = self._numbers.pop(trial_id)
        if error or (result and result.get("failed")):
            self._study.tell(number, None)
        elif result:
            self._study.tell(number, [result[key] for key in keys(self._study.num_objectives)])
        else:
            self._study.forget(number)  # it never began

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study lies in the sweep's folder."""


class Study:
    """Optuna's study of a search: what was asked, and what it was told of that.

    Every trial of Optuna's keeps the parameters that it stands for.

    Args:
        plan: the sweep.
        file: Optuna's journal.

    Raises:
        ConfigError: the journal is damaged.
    """

    def __init__(self, plan: Plan, file: Path):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        mend_journal(file)
        self._plan = plan
        self._study = self._opened(JournalStorage(JournalFileBackend(str(file))))

    def _opened(self, storage: JournalStorage) -> optuna.Study:
        """The study of this question; where the question grew, a new one that begins with what was asked before.

        Optuna lets no parameter of a study get more values, and no value that it was told change.
        """
        names = [study.study_name for study in storage.get_all_studies()] or ["search"]
        asked = self._plan.as_dict()
        about = {key: asked[key] for key in ("seeds", "cases", "parameters")}
        question = digest_of(about | {"rounds": lookup(self._plan.space.trial, self._plan.growing)})
        study = self._create(storage, names[-1])
        if study.user_attrs.get("question", question) != question:
            names.append(f"search-{len(names) + 1}")
            study = self._create(storage, names[-1])
        if len(names) > 1:
            before = optuna.load_study(study_name=names[-2], storage=storage).get_trials()
            kept = [trial for trial in before if "parameters" in trial.user_attrs]
            for trial in kept[len(study.get_trials(deepcopy=False)) :]:  # a kill may have come in between
                study.add_trial(self._asked_again(trial))
        if "question" not in study.user_attrs:
            study.set_user_attr("question", question)
        return study

    def _create(self, storage: JournalStorage, name: str) -> optuna.Study:
        directions = [objective.direction for objective in self._plan.metric]
        return optuna.create_study(study_name=name, storage=storage, directions=directions, load_if_exists=True)

    def _asked_again(self, asked: FrozenTrial) -> FrozenTrial:
        """A trial of a smaller question's study, as one of this study's that is open, or failed."""
        given = optuna.trial.FixedTrial(asked.params)
        self._plan.space.suggest(given)
        return optuna.trial.create_trial(
            state=TrialState.RUNNING if asked.state == TrialState.COMPLETE else asked.state,
            params=given.params,
            distributions=given.distributions,
            user_attrs=asked.user_attrs,
        )

    @property
    def num_objectives(self) -> int:
        """How many values it is told of a configuration."""
        return len(self._plan.metric)

    @property
    def num_told(self) -> int:
        """How many configurations have ended."""
        return len(self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL)))

    def search(self) -> StudySearch:
        """A search that goes on from what the study was told; its draws depend on how much that is."""
        plan = self._plan
        assert plan.run_cap is not None
        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            self._study.sampler = optuna.samplers.TPESampler(
                seed=derive(plan.seeds[0], f"search/{self.num_told}") % 2**32,
                multivariate=True,
                group=True,
                constant_liar=True,
                n_startup_trials=max(5, min(10, plan.run_cap // 3)),
            )
        return StudySearch(self)

    def ask(self) -> tuple[int, list[Task]]:
        """Optuna's number of a configuration that it suggests, and the trials to run."""
        asked = self._study.ask()
        candidate = self._plan.candidate(self._plan.space.suggest(asked))
        asked.set_user_attr("parameters", candidate.parameters)
        return asked.number, self._tasks(candidate)

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        """Ends a configuration: a value for each objective; None, or one that is no number, where a trial failed."""
        if values is None or not all(map(math.isfinite, values)):
            self._study.tell(number, state=TrialState.FAIL)
        else:
            self._study.tell(number, list(values))

    def forget(self, number: int) -> None:
        """Ends a configuration of which nothing is known."""
        self._study.tell(number, state=TrialState.PRUNED)

    def open_tasks(self, recorder: Recorder) -> list[Task]:
        """The trials to finish, after an interrupt, before the study is asked again.

        Those are the trials of configurations that it was not told of, and of others those whose ending was lost
        since (its line was damaged).
        """
        tasks: dict[str, Task] = {}  # one configuration may be suggested twice
        for asked in self._study.get_trials(states=(TrialState.RUNNING, TrialState.COMPLETE, TrialState.FAIL)):
            if "parameters" in asked.user_attrs:
                suggested = self._tasks(self._plan.candidate(asked.user_attrs["parameters"]))
                left = suggested if asked.state == TrialState.RUNNING else _lost(suggested, recorder)
                tasks |= {task.trial_id: task for task in left}
            elif asked.state == TrialState.RUNNING:
                self.forget(asked.number)  # the study had not come that far
        return list(tasks.values())

    def tell_endings(self, recorder: Recorder) -> None:
        """Tells it of the configurations that have ended since it was asked for them."""
        for asked in self._study.get_trials(states=(TrialState.RUNNING,)):
            tasks = self._tasks(self._plan.candidate(asked.user_attrs["parameters"]))
            endings = [one for task in tasks if (one := recorder.ending(task.trial_id, task.trial.labels.total))]
            if len(endings) == len(tasks):
                failed = any(ending["status"] == "failed" for ending in endings)
                self.tell(asked.number, None if failed else self._means(endings))

    def _means(self, endings: list[Record]) -> list[float]:
        names = [objective.name for objective in self._plan.metric]
        values = [
            [ending["metrics"][name] for name in names]
            if ending["status"] == "finished"
            else values_so_far(names, ending["metrics"])
            for ending in endings
        ]
        return [sum(column) / len(column) for column in zip(*values, strict=True)]

    def _tasks(self, candidate: Candidate) -> list[Task]:
        return [self._plan.task(candidate, seed, "search") for seed in self._plan.seeds]


def _lost(tasks: list[Task], recorder: Recorder) -> list[Task]:
    """Those of a configuration that was told which have no ending; seeds after one that broke off never began."""
    lost = []
    broke_off = False
    for task in tasks:
        ending = recorder.ending(task.trial_id)
        if ending is None and (not broke_off or recorder.unfinished([task.trial_id])):
            lost.append(task)
        broke_off = broke_off or (ending is not None and ending["status"] != "finished")
    return lost


def mend_journal(file: Path) -> None:
    """Removes what a killed process left of Optuna's journal: its lock, and the half of a line at the end.

    Raises:
        ConfigError: another line is damaged.
    """
    for lock in file.parent.glob(f"{file.name}.lock*"):  # the sweep's folder is ours alone
        lock.unlink()
    if not file.exists():
        return
    lines = file.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        with file.open("r+b") as journal:
            journal.truncate(sum(map(len, lines[:-1])))
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            json.loads(line)
        except ValueError:
            where = f"{file}: line {number} is damaged"
            raise ConfigError([f"{where}; move it away, and the search starts anew with the stages it has"]) from None


def early_stopping(plan: Plan) -> TrialScheduler | None:
    """Stops trials by what is watched of an epoch; reports without it are left alone."""
    rule = plan.early_terminate
    mode = "min" if plan.watched and plan.watched.direction == "minimize" else "max"
    shared = {"time_attr": "epoch", "metric": "watch", "mode": mode, "grace_period": rule.min_iter}
    if rule.type == "asha":
        longest = 10_000  # longer than any pre-training: rungs are eta apart from min_iter on
        return AsyncHyperBandScheduler(
            **shared, max_t=longest, reduction_factor=rule.eta, brackets=1, stop_last_trials=False
        )
    return MedianStoppingRule(**shared) if rule.type == "median" else None
