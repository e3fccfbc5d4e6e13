"""In the driver: one run of a plan, from its first trial to its last."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune.search import ConcurrencyLimiter, Searcher

from harness.config.plan import Plan
from harness.config.tasks import Phase, Task, mapped
from harness.files import no_space
from harness.messages import count
from harness.progress import say
from harness.records.folder import Recorder
from harness.sweep.callback import MAX_FAILURES, RecordCallback
from harness.sweep.given import GivenTasks
from harness.sweep.interrupts import Interrupts, NoSpaceError
from harness.sweep.placement import Placement
from harness.sweep.preflight import fewer_than_asked, num_tried
from harness.sweep.screen import Display
from harness.sweep.search import Study, early_stopping
from harness.sweep.worker import Job, portray_in_worker, run_in_worker
from harness.trial.run import Folders


class Sweep:
    """One run of a plan: its search, and the second phase."""

    def __init__(
        self,
        plan: Plan,
        folders: Folders,
        placement: Placement,
        recorder: Recorder,
        display: Display,
        interrupts: Interrupts,
        *,
        shared_stages: bool = True,
    ):
        self._plan = plan
        self._shared_stages = shared_stages  # by all nodes
        self._placement = placement
        self._recorder = recorder
        self._display = display
        self._interrupts = interrupts
        self._job = Job(
            metrics=tuple(objective.name for objective in plan.metric),
            watched=plan.watched.name if plan.watched else None,
            folders=folders,
            threads=plan.resources.threads,
            memory_gb=plan.resources.memory_gb,
            cwd=os.getcwd(),
            judging_seed=plan.judging_seed,
        )

    def run(self) -> bool:
        """All phases; whether every trial has an ending."""
        plan = self._plan
        tried = num_tried(plan)
        for note in fewer_than_asked(plan, tried):
            say(note)
        if plan.block is not None:
            complete = self._resolve(plan.block)
        else:
            complete = self._search(tried) if plan.method == "bayes" else self._run_all(plan.first_tasks())
        if complete and plan.confirm:
            best = plan.confirm.chosen(self._recorder.best(plan.metric))
            complete = self._run_all(plan.confirm_tasks([*best, *self._recorder.confirmed()]))
        elif complete and plan.searches and plan.portrait:
            self._portray_best()
        if complete and plan.bounds:
            complete = self._run_all(plan.headroom_tasks())
        return complete

    def _resolve(self, block: int) -> bool:
        """Adds seeds in blocks, as long as a comparison with the reference is open: to the two of it alone.

        Seeds beyond the first block that have begun before the question grew belong to it: all have as many rounds.
        """
        from harness.report.read import read_report
        from harness.report.sequential import Looks
        from harness.report.unresolved import unresolved

        seeds, tasks = self._plan.seeds, self._plan.first_tasks()
        for size in Looks(seeds, block).sizes:
            if not self._run_all([t for t in tasks if t.seed in seeds[:size] or self._recorder.has_begun(t.trial_id)]):
                return False
            more = unresolved(read_report(self._recorder.folder), size)
            tasks = [task for task in tasks if task.candidate.configuration in more]
        return True

    def _run_all(self, tasks: list[Task]) -> bool:
        """Runs those of the tasks, all of one phase, that need running; whether none does then."""
        in_turn = {task.phase for task in tasks} == {"search"} and self._plan.judging_seed is not None
        find_left = self._recorder.left_in_turn if in_turn else self._recorder.left
        left = find_left(tasks)
        given = GivenTasks(left, self._display.waits, shared=self._shared_stages, in_turn=in_turn)
        if tasks:
            self._display.begin(tasks[0].phase, len(tasks), len(tasks) - len(left), given.num_pretrainings)
        if left:
            self._fit(run_in_worker, given, given.number, tasks[0].phase)
        return not find_left(tasks, retry_failed=False)

    def _search(self, cap: int) -> bool:
        """Finishes what an interrupted run left open, and asks Optuna for what is then left of so many."""
        study = Study(self._plan, self._recorder.folder / "optuna.log")
        complete = self._run_all(study.open_tasks(self._recorder))
        study.tell_endings(self._recorder)
        if not complete:
            return False
        seeds, done = len(self._plan.seeds), study.num_told
        self._display.begin("search", cap * seeds, done * seeds)
        if done < cap:
            self._fit(run_in_worker, study.search(), cap - done, "search")
        if study.left_out:
            number = count(len(study.left_out), "suggestion")
            say(f"{number} made no valid trial and did not run; the first: {study.left_out[0]}")
        return study.num_told >= cap or study.is_exhausted

    def _portray_best(self) -> None:
        """Leaves a portrait of the best of a search that nothing confirms."""
        for assignment in self._recorder.best(self._plan.metric, 1):
            candidate = self._plan.candidate(assignment)
            tasks = [self._plan.task(candidate, seed, "search") for seed in self._plan.seeds]
            task = next(replace(task, portrait=mapped(self._plan.portrait)) for task in tasks if self._finished(task))
            if not (self._recorder.folder / "trials" / task.trial_id / "portrait.npz").exists():
                self._fit(portray_in_worker, GivenTasks([task]), 1, "search")

    def _finished(self, task: Task) -> bool:
        ending = self._recorder.ending(task.trial_id)
        return ending is not None and ending["status"] == "finished"

    def _fit(self, work: Callable[[dict[str, Any], Job], None], search: Searcher, number: int, phase: Phase) -> None:
        """Lets Tune do so many pieces of work.

        Raises:
            KeyboardInterrupt: a person ended them.
            NoSpaceError, OSError: what trials leave behind cannot be written.
        """
        limit = self._plan.resources.time_limit
        callback = RecordCallback(self._recorder, self._display, limit, lambda: self._interrupts.pressed)
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(work, job=self._job), dict(self._placement.resources)),
            tune_config=tune.TuneConfig(
                search_alg=ConcurrencyLimiter(search, self._placement.concurrent),
                scheduler=early_stopping(self._plan) if phase == "search" else None,
                num_samples=number,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=f"{phase}-{int(time.time())}",
                storage_path=str((self._recorder.folder / "ray").resolve()),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
                callbacks=[callback],
            ),
        )
        try:
            tuner.fit()
        except Exception as error:
            if no_space(callback.unwritten or error):
                raise NoSpaceError(callback.unwritten or error) from error
            if callback.unwritten:
                raise callback.unwritten from None  # without what Tune wrapped around it
            raise
