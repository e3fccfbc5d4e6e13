"""Where the trials of a search come from: Optuna's study and its journal, which outlives a kill."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import Searcher

from harness.config.plan import Plan
from harness.config.schema import ConfigError
from harness.config.search import MOST_OF_GP
from harness.config.space import lookup
from harness.config.tasks import Candidate, Task
from harness.files import digest_of, replace, state_of
from harness.progress import say_anyway
from harness.records.folder import Recorder
from harness.records.rows import Record
from harness.seeding import derive
from harness.sweep.objectives import judged_by, keys
from harness.sweep.worker import tune_config

REPEATS = 5
"""So often a sampler may suggest what was suggested before or makes no trial; then random draws take its place."""


class StudySearch(Searcher):
    """Asks a study for configurations, and tells it how they ended; one that failed gets no made-up value."""

    def __init__(self, study: Study):
        super().__init__()
        self._study = study
        self._numbers: dict[str, int] = {}  # Tune's trial -> Optuna's
        self._watched: dict[str, dict[int, float]] = {}  # Tune's trial -> epoch -> what early stopping watches

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """What Optuna suggests, as Tune's configuration; that there is nothing left to try."""
        suggested = self._study.ask()
        if suggested is None:
            return self.FINISHED
        self._numbers[trial_id], tasks = suggested
        self._watched[trial_id] = {}
        return tune_config(tasks)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Remembers what early stopping watches."""
        if "watch" in result:
            self._watched[trial_id][result["epoch"]] = result["watch"]

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Tells Optuna how a trial ended."""
        number, watched = self._numbers.pop(trial_id), self._watched.pop(trial_id)
        if error or (result and result.get("failed")):
            self._study.tell(number, None)
        elif result and "failed" in result:
            self._study.tell(number, [result[key] for key in keys(self._study.num_objectives)])
        elif result:
            if "watch" in result:  # Tune tells a searcher of no result that ends a trial
                watched[result["epoch"]] = result["watch"]
            self._study.tell_stopped(number, watched)
        else:
            self._study.forget(number)  # it never began

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study lies in the sweep's folder."""


class Study:
    """Optuna's study of a search: what was asked, and what it was told of that.

    Every trial of Optuna's keeps the parameters that it stands for, but for those that repeat another: these are
    answered by that, and cost nothing.

    Args:
        plan: the sweep.
        file: Optuna's journal.

    Attributes:
        is_exhausted: whether nothing was left to suggest when it was asked last.

    Raises:
        ConfigError: the journal is damaged.
    """

    def __init__(self, plan: Plan, file: Path):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        mend_journal(file)
        self._plan = plan
        self._file = file
        self._study = self._opened(JournalStorage(JournalFileBackend(str(file))))
        self.is_exhausted = False
        self._numbers: dict[str, int] = {}  # configuration -> the trial of Optuna's that stands for it
        for asked in self._study.get_trials(deepcopy=False):
            if "parameters" in asked.user_attrs and not _is_forgotten(asked):
                configuration = plan.candidate(asked.user_attrs["parameters"]).configuration
                self._numbers.setdefault(configuration, asked.number)
        self._journal = bytearray()
        self._seen: tuple[int, ...] | None = None  # the file as it was when the journal was read to its end
        self._read_on()

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

    @contextlib.contextmanager
    def _journaled(self) -> Iterator[None]:
        """Around what is asked or told: the journal is written anew first where it was deleted, replaced or cut.

        It is read whole only where something else touched it, and else from where it was read to.
        """
        if state_of(self._file) != self._seen:
            there = self._file.read_bytes() if self._file.exists() else b""
            if not there.startswith(self._journal):
                say_anyway(f"{self._file} was deleted or changed while the sweep runs; written anew")
                replace(self._file, bytes(self._journal))
        yield
        self._read_on()

    def _read_on(self) -> None:
        with self._file.open("rb") as file:
            file.seek(len(self._journal))
            self._journal += file.read()
        state = state_of(self._file)
        self._seen = state if state and state[-1] == len(self._journal) else None  # or it was cut meanwhile

    @property
    def sampler(self) -> optuna.samplers.BaseSampler:
        """What suggests."""
        return self._study.sampler

    @property
    def num_objectives(self) -> int:
        """How many values it is told of a configuration."""
        return len(self._plan.metric)

    @property
    def num_told(self) -> int:
        """How many configurations have ended."""
        return sum(_has_ended(asked) for asked in self._study.get_trials(deepcopy=False))

    @property
    def left_out(self) -> list[str]:
        """Of each suggestion that made no valid trial, which it was and why."""
        attributes = (asked.user_attrs for asked in self._study.get_trials(deepcopy=False))
        return [about["left_out"] for about in attributes if "left_out" in about]

    def search(self) -> StudySearch:
        """A search that goes on from what the study was told; its draws depend on how much that is."""
        self._study.sampler = sampler(self._plan, derive(self._plan.seeds[0], f"search/{self.num_told}") % 2**32)
        return StudySearch(self)

    def ask(self) -> tuple[int, list[Task]] | None:
        """Optuna's number of a configuration that it suggests, and the trials to run; None where all have been tried.

        A suggestion that was made before is answered from its record, and one that makes no valid trial is left out. A
        sampler that does so `REPEATS` times is replaced by random draws until one is new.
        """
        with self._journaled():
            given = self._study.sampler
            try:
                for attempt in range(REPEATS + 20 * (len(self._numbers) + 1)):
                    if attempt == REPEATS:
                        self._study.sampler = optuna.samplers.RandomSampler(seed=len(self._numbers))
                    asked = self._study.ask()
                    assignment = self._plan.space.suggest(asked)
                    try:
                        candidate = self._plan.checked(assignment)
                    except ConfigError as error:
                        self._leave_out(asked, f"parameters {json.dumps(assignment)}: {error.problems[0]}")
                        continue
                    if candidate.configuration not in self._numbers:
                        self._numbers[candidate.configuration] = asked.number
                        asked.set_user_attr("parameters", candidate.parameters)
                        return asked.number, self._tasks(candidate)
                    self._repeat(asked.number, self._numbers[candidate.configuration])
            finally:
                self._study.sampler = given
            self.is_exhausted = True
            return None

    def _leave_out(self, asked: optuna.Trial, problem: str) -> None:
        """Ends a suggestion that makes no valid trial: as failed, of which samplers learn nothing, good or bad."""
        asked.set_user_attr("left_out", problem)
        self._study.tell(asked, state=TrialState.FAIL)

    def _repeat(self, number: int, before: int) -> None:
        """Answers a suggestion that was made before as the first one was, where that has ended."""
        first = self._study.get_trials(deepcopy=False)[before]
        if first.state == TrialState.COMPLETE:
            self._study.tell(number, list(first.values))
        else:
            self.forget(number)

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        """Ends a configuration: a value for each objective; None, or one that is no number, where a trial failed."""
        failed = values is None or not all(map(math.isfinite, values))
        with self._journaled():
            self._study.tell(number, None if failed else values, state=TrialState.FAIL if failed else None)

    def tell_stopped(self, number: int, watched: Mapping[int, float]) -> None:
        """Ends a configuration that was stopped early, which has no value, with what was watched after each epoch."""
        with self._journaled():
            asked = optuna.trial.Trial(self._study, self._study.get_trials(deepcopy=False)[number]._trial_id)
            asked.set_user_attr("stopped", True)
            # What is watched in place of a goal that no epoch measures is an accuracy, the higher the better.
            minimizes = self._study.directions[0] == StudyDirection.MINIMIZE
            sign = -1.0 if minimizes and self._plan.watched is None else 1.0
            if self.num_objectives == 1:  # Optuna keeps intermediate values of one objective alone
                for epoch, value in sorted(watched.items()):
                    asked.report(sign * value, epoch)
            self._study.tell(number, state=TrialState.PRUNED)

    def forget(self, number: int) -> None:
        """Ends a configuration of which nothing is known; it may be suggested again."""
        with self._journaled():
            self._study.tell(number, state=TrialState.PRUNED)
        self._numbers = {name: of for name, of in self._numbers.items() if of != number}

    def open_tasks(self, recorder: Recorder) -> list[Task]:
        """The trials to finish, after an interrupt, before the study is asked again.

        Those are the trials of configurations that it was not told of, and of others those whose ending was lost
        since (its line was damaged).
        """
        tasks: dict[str, Task] = {}  # one configuration may have been suggested twice
        for asked in self._study.get_trials():
            if "parameters" in asked.user_attrs and not _is_forgotten(asked):
                suggested = self._tasks(self._plan.candidate(asked.user_attrs["parameters"]))
                is_told = asked.state != TrialState.RUNNING
                left = recorder.left_in_turn(suggested, retry_failed=False) if is_told else suggested
                tasks |= {task.trial_id: task for task in left}
            elif asked.state == TrialState.RUNNING:
                self.forget(asked.number)  # the study had not come that far
        return list(tasks.values())

    def tell_endings(self, recorder: Recorder) -> None:
        """Tells it of the configurations that have ended since it was asked for them."""
        for asked in self._study.get_trials(states=(TrialState.RUNNING,)):
            tasks = self._tasks(self._plan.candidate(asked.user_attrs["parameters"]))
            endings = [one for task in tasks if (one := recorder.ending(task.trial_id, task.trial.labels.total))]
            statuses = {ending["status"] for ending in endings}
            if len(endings) == len(tasks) or "stopped" in statuses:
                if "stopped" in statuses and "failed" not in statuses:
                    self.tell_stopped(asked.number, self._watched(endings, recorder))
                else:
                    self.tell(asked.number, None if "failed" in statuses else self._means(endings))

    def _means(self, endings: list[Record]) -> list[float]:
        names = [objective.name for objective in self._plan.metric]
        return [sum(ending["metrics"][name] for ending in endings) / len(endings) for name in names]

    def _watched(self, endings: list[Record], recorder: Recorder) -> dict[int, float]:
        """What early stopping watched, by epoch."""
        goal = self._plan.watched.name if self._plan.watched else None
        told = {epoch: judged_by(goal, m) for one in endings for epoch, m in recorder.epochs(one["trial"]).items()}
        return {epoch: value for epoch, value in told.items() if value is not None}

    def _tasks(self, candidate: Candidate) -> list[Task]:
        return [self._plan.task(candidate, seed, "search") for seed in self._plan.seeds]


def _is_forgotten(asked: FrozenTrial) -> bool:
    """Whether nothing became known of a trial of Optuna's; one that was stopped early is pruned, too."""
    return asked.state == TrialState.PRUNED and "stopped" not in asked.user_attrs


def _has_ended(asked: FrozenTrial) -> bool:
    return asked.state.is_finished() and "parameters" in asked.user_attrs and not _is_forgotten(asked)


def sampler(plan: Plan, seed: int) -> optuna.samplers.BaseSampler:
    """What suggests configurations, by the name that the plan gives.

    Raises:
        ConfigError: its package is missing.
    """
    assert plan.run_cap is not None
    startup = max(5, min(10, plan.run_cap // 3))
    numbers = not any(parameter.values or parameter.when for parameter in plan.space.parameters)
    name = plan.sampler
    if name == "auto":
        name = "gp" if numbers and plan.run_cap <= MOST_OF_GP and len(plan.metric) == 1 else "tpe"
    with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
        if name == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        if name == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=max(4, min(50, plan.run_cap // 5)))
        if name == "cmaes":
            if importlib.util.find_spec("cmaes") is None:
                raise ConfigError([f"{plan.name}: sampler: cmaes needs a package; pip install 'selbench[cmaes]'"])
            return optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=startup
        )


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


class MedianRule(MedianStoppingRule):
    """Tune's rule, which takes every report for one of an epoch; here the last one is of none."""

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict) -> None:
        """Nothing: it was told of every epoch."""


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
    never = math.inf  # a trial that makes room for others would begin anew
    return MedianRule(**shared, min_time_slice=never) if rule.type == "median" else None
