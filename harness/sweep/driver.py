"""In the driver: one run of a plan, from its first trial to its last."""

from __future__ import annotations

import time
import warnings
from typing import Any

from ray import tune
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter

from harness.config.plan import Plan, Task, goal_of
from harness.files import no_space
from harness.records.folder import Recorder
from harness.seeding import derive
from harness.sweep.callback import MAX_FAILURES, RecordCallback
from harness.sweep.interrupts import Interrupts, NoSpaceError
from harness.sweep.placement import Placement
from harness.sweep.screen import Display
from harness.sweep.search import (
    AssignmentSearch,
    Replay,
    SuggestAssignments,
    mend_journal,
    num_told,
    scheduler_of,
    tune_config,
    values_told,
)
from harness.sweep.worker import Job, run_in_worker
from harness.trial.run import Folders


class Sweep:
    """One run of a plan, from its first trial to its report."""

    def __init__(
        self,
        plan: Plan,
        folders: Folders,
        placement: Placement,
        recorder: Recorder,
        display: Display,
        interrupts: Interrupts,
    ):
        self.plan = plan
        self.recorder = recorder
        self.display = display
        self.interrupts = interrupts
        self.path = recorder.folder
        self.concurrent, self.resources = placement.concurrent, dict(placement.resources)
        self.job = Job(plan, folders, max(1, int(plan.resources.cpus)))

    def run(self) -> bool:
        """Both phases; whether every trial has an ending."""
        complete = self._bayes() if self.plan.method == "bayes" else self._list(self.plan.first_tasks())
        if complete and self.plan.confirm:
            best = self.recorder.best(self.plan.metric, self.plan.confirm.top)
            complete = self._list(self.plan.confirm_tasks(best))
        elif complete and self.plan.searches and self.plan.portrait:
            self._portray_best()
        return complete and not self.interrupts.pressed

    def _portray_best(self) -> None:
        """Leaves a portrait of the best of a search that nothing confirms."""
        for assignment in self.recorder.best(self.plan.metric, 1):
            tasks = [Task(self.plan.candidate(assignment), seed, "search") for seed in self.plan.seeds]
            task = next(task for task in tasks if self._finished(task))
            if not (self.path / "trials" / task.trial_id / "portrait.npz").exists():
                config = tune_config([task]) | {"only_portrait": True}
                self._fit({"task": tune.grid_search([config])}, BasicVariantGenerator(), num_samples=1)

    def _finished(self, task: Task) -> bool:
        ending = self.recorder.ending(task.trial_id)
        return ending is not None and ending["status"] == "finished"

    def _list(self, tasks: list[Task]) -> bool:
        """Runs those of the tasks that have no ending yet."""
        open_tasks = [task for task in tasks if not self.recorder.ended(task.trial_id)]
        if not tasks:
            return True
        self.display.progress.begin(tasks[0].phase, len(tasks), len(tasks) - len(open_tasks))
        if open_tasks:
            configs = [tune_config([task]) for task in open_tasks]
            generator = BasicVariantGenerator(max_concurrent=self.concurrent)
            self._fit({"task": tune.grid_search(configs)}, generator, num_samples=1)
        return all(self.recorder.ended(task.trial_id, retry_failed=False) for task in tasks)

    def _bayes(self) -> bool:
        """Asks Optuna for what is left of run_cap; its study lies in the sweep's folder."""
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalStorage

        assert self.plan.run_cap is not None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group` and `constant_liar`
        warnings.filterwarnings("ignore", message="The reported value is ignored")  # of a trial whose worker died
        mend_journal(self.path / "optuna.log")
        storage = JournalStorage(JournalFileBackend(str(self.path / "optuna.log")))
        metrics = [f"objective_{number}" for number in range(len(self.plan.metric))]
        modes = [goal_of(metric)[:3] for metric in self.plan.metric]
        single = len(metrics) == 1
        if not self._settle(storage):
            return False
        done = num_told(storage)
        sampler = optuna.samplers.TPESampler(
            seed=derive(self.plan.seeds[0], f"search/{done}") % 2**32,
            multivariate=True,
            group=True,
            constant_liar=True,
            n_startup_trials=max(5, min(10, self.plan.run_cap // 3)),
        )
        search = AssignmentSearch(
            SuggestAssignments(self.plan, list(self.plan.seeds)),
            metric=metrics[0] if single else metrics,
            mode=modes[0] if single else modes,
            sampler=sampler,
            study_name="search",
            storage=storage,
        )
        seeds = len(self.plan.seeds)
        self.display.progress.begin("search", self.plan.run_cap * seeds, done * seeds)
        left = self.plan.run_cap - done
        if left > 0:
            self._fit({}, ConcurrencyLimiter(search, self.concurrent), num_samples=left)
        return num_told(storage) >= self.plan.run_cap

    def _settle(self, storage: Any) -> bool:
        """Finishes the configurations that an interrupted run left open, and tells the study; whether all of them.

        Trials of a configuration that was told, whose ending was lost since (its line was damaged), are run again.
        """
        import optuna
        from optuna.trial import TrialState

        try:
            study = optuna.load_study(study_name="search", storage=storage)
        except KeyError:
            return True
        left: dict[int, list[Task]] = {}
        to_run: dict[str, Task] = {}  # one configuration may be suggested twice
        for asked in study.get_trials(states=[TrialState.RUNNING, TrialState.COMPLETE, TrialState.FAIL]):
            try:
                candidate = self.plan.candidate(self.plan.space.suggest(Replay(asked.params)))
            except KeyError:
                if asked.state == TrialState.RUNNING:
                    study.tell(asked.number, state=TrialState.PRUNED)
                continue
            tasks = [Task(candidate, seed, "search") for seed in self.plan.seeds]
            if asked.state == TrialState.RUNNING:
                left[asked.number] = tasks
            else:
                tasks = self._lost(tasks)
            to_run |= {task.trial_id: task for task in tasks}
        complete = self._list(list(to_run.values()))
        for number, tasks in left.items():
            endings = [self.recorder.ending(task.trial_id) for task in tasks]
            if any(ending is None for ending in endings):
                continue
            values = [values_told(ending, self.plan) for ending in endings if ending and ending["status"] != "failed"]
            if len(values) < len(endings):
                study.tell(number, state=TrialState.FAIL)
            else:
                study.tell(number, [sum(column) / len(column) for column in zip(*values, strict=True)])
        return complete

    def _lost(self, tasks: list[Task]) -> list[Task]:
        """Those of a configuration that was told which have no ending; seeds after one that broke off never began."""
        lost = []
        broke_off = False
        for task in tasks:
            ending = self.recorder.ending(task.trial_id)
            if ending is None and (not broke_off or self.recorder.unfinished([task.trial_id])):
                lost.append(task)
            broke_off = broke_off or (ending is not None and ending["status"] != "finished")
        return lost

    def _fit(self, space: dict[str, Any], search: Any, num_samples: int) -> None:
        callback = RecordCallback(self.recorder, self.display, self.plan.resources.time_limit)
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(run_in_worker, job=self.job), self.resources),
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=scheduler_of(self.plan) if self._is_search() else None,
                num_samples=num_samples,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=f"{self.display.progress.phase}-{int(time.time())}",
                storage_path=str((self.path / "ray").resolve()),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
                callbacks=[callback],
            ),
        )
        try:
            with self.interrupts.stopping_tune():
                tuner.fit()
        except Exception as error:
            if callback.no_space or no_space(error):
                raise NoSpaceError(callback.no_space or error) from error
            raise

    def _is_search(self) -> bool:
        return self.display.progress.phase == "search"
