"""`python -m harness.sweep FILE`: runs a search space with Ray Tune. What joins a cluster lies in `harness.cluster`.

Grid and random searches are lists that are known before the first trial; bayes asks Optuna. A trial that ends is
written to `rows.jsonl` at once, and everything that a trial computes lies in the stage cache; so a sweep that was
interrupted, however brutally, is continued by running what has no ending yet.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import logging
import math
import os
import shlex
import signal
import socket
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import messages, progress
from harness.config.plan import Plan, Task, goal_of, load
from harness.config.schema import ConfigError, as_dict
from harness.config.space import Suggester
from harness.encoders import export
from harness.files import no_space, replace_text
from harness.live import Progress
from harness.metrics import WATCHED
from harness.placement import Node, Placement, place
from harness.preflight import check_data, preview
from harness.records import environment
from harness.records.folder import Recorder, open_folder
from harness.records.mirror import Mirror, is_remote, local_folder
from harness.records.rows import FINAL
from harness.report import model, terminal
from harness.report import write as report
from harness.seeding import derive
from harness.tracking.server import tracking_uri
from harness.tracking.tracker import Tracker
from harness.trial.memory import keep_freed_memory
from harness.trial.memory_limit import can_watch_memory, watched_memory
from harness.trial.run import Folders, run

FINISHED, SOME_FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses."""

STATUS_SECONDS = 60.0
"""How long a log, where there is no terminal to draw on, may stay without a line."""

MAX_FAILURES = 2
"""How often a trial whose worker died is tried again."""

os.environ.update(
    {
        "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0: no output of Ray's own
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths keep their meaning in workers
        "RAY_memory_monitor_refresh_ms": "0",  # it would end the whole sweep, not the trial that needs too much
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_worker_niceness": "0",  # the default of 15 would let any other process distort the times
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # `Interrupts` is ours
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "600",  # resuming reads our own records, not Ray's snapshots
    }
)

import ray
from ray import tune
from ray.experimental import internal_kv
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from harness import cluster

# ---------------------------------------------------------------- in a worker


def run_in_worker(config: dict[str, Any], job: Job) -> None:
    """One Tune trial: one configuration, under each of its seeds in turn."""
    import torch

    keep_freed_memory()
    cluster.enter(job.cwd)
    torch.set_num_threads(job.threads)
    config = config.get("task", config)
    candidate = job.plan.candidate(config["parameters"])
    if config.get("only_portrait"):
        _portray(Task(candidate, config["seeds"][0], config["phase"]), job)
        return
    objectives: list[list[float]] = []
    for seed in config["seeds"]:
        task = Task(candidate, seed, config["phase"])
        totals = _ended_before(task.trial_id)
        if totals is None:
            totals = _run_task(task, job)
        objectives.append([totals.get(m.name, math.nan) for m in job.plan.metric])
    means = [sum(values) / len(values) for values in zip(*objectives, strict=True)]
    failed = any(math.isnan(value) for value in means)
    tune.report(_objectives([0.0] * len(means) if failed else means) | {"failed": failed})


def _run_task(task: Task, job: Job) -> dict[str, float]:
    """Runs a trial and reports each record; a trial that fails reports its cause and lets the sweep go on."""

    def send(step_kind: str, step: int, metrics: Mapping[str, float], details: Mapping[str, Any], **more: Any) -> None:
        record = {
            "trial": task.trial_id,
            "configuration": task.candidate.configuration,
            "phase": task.phase,
            "seed": task.seed,
            "status": "running",
            "step_kind": step_kind,
            "step": step,
            "time": int(time.time() * 1000),
            "node": socket.gethostname(),
            "parameters": task.candidate.parameters,
            "metrics": dict(metrics),
            **more,
        }
        watch = _watched(metrics)
        watched = {"epoch": step, "watch": watch} if step_kind == "epoch" and watch is not None else {}
        proxies = [_proxy(m.name, metrics) for m in job.plan.metric]
        # In a list, into which Tune does not look: it would keep statistics of every number until the sweep ends.
        tune.report({"sent": [record, dict(details)], **watched, **_objectives(proxies)})

    cause = _limit_passed(task.trial_id)
    if cause:  # by an earlier worker, which was ended for it
        send("labels", 0, {}, {"error": cause}, status="failed", error=cause)
        return {}
    send("labels", 0, {}, {"config": as_dict(task.candidate.trial)})
    portrait: dict[str, Any] = {}
    try:
        with watched_memory(job.plan.resources.memory_gb, lambda cause: _end_own_worker(task.trial_id, cause)):
            totals = run(
                task.candidate.trial,
                task.seed,
                job.folders,
                send,
                with_test=task.phase == "confirm",
                deliver=portrait.update if job.plan.portrays(task) else None,
            )
        for metric in job.plan.metric:
            if not math.isfinite(totals.get(metric.name, math.nan)):
                raise ValueError(f"{metric.name} is {totals.get(metric.name, 'not measured in this trial')}")
    except Exception as error:
        import traceback

        if no_space(error):  # no fault of the trial's: the sweep stops, and tries it again when it is resumed
            tune.report({"no_space": str(error), **_objectives([0.0] * len(job.plan.metric))})
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        send("labels", 0, {}, {"error": traceback.format_exc()}, status="failed", error=cause)
        return {}
    warning = {"warning": portrait.pop("warning")} if "warning" in portrait else {}
    send("labels", int(totals["labels/used"]), totals, portrait, status="finished", **warning)
    return totals


def _portray(task: Task, job: Job) -> None:
    """Takes a trial that has ended from the stage cache once more, for its encoder's portrait alone."""
    nothing = _objectives([0.0] * len(job.plan.metric))

    def send(found: Mapping[str, Any]) -> None:
        tune.report({"portrait_of": task.trial_id, **found, **nothing})

    cause = _limit_passed(task.trial_id)
    if cause:  # by an earlier worker, which was ended for it
        send({"warning": cause})
        return
    send({})  # from here on the time counts
    try:
        with watched_memory(job.plan.resources.memory_gb, lambda cause: _end_own_worker(task.trial_id, cause)):
            run(task.candidate.trial, task.seed, job.folders, lambda *_: None, with_test=False, deliver=send)
    except Exception as error:  # its stages are gone, and what makes them anew fails
        if no_space(error):
            tune.report({"no_space": str(error), **nothing})
        send({"warning": f"{type(error).__name__}: {error}"})
    tune.report(nothing)


def _proxy(metric: str, metrics: Mapping[str, float]) -> float:
    """What an early-stopped trial counts for in the search: what was seen of it."""
    watch = _watched(metrics)
    return watch if metric.startswith("val/") and watch is not None else 0.0


def _watched(metrics: Mapping[str, float]) -> float | None:
    """The validation accuracy after an epoch, by which a trial may be stopped early."""
    return next((metrics[name] for name in WATCHED if name in metrics), None)


# What the next worker of a trial must know is noted in Ray's own store, which every node reaches. A cluster outlives
# the sweep, so each run has keys of its own.
#
# - A worker that passed a limit is ended, as nothing else ends a stuck call; the next one reports the cause.
# - A worker that dies in the second of several seeds leaves the first one finished; the next one goes on after it.


def _key(*parts: str) -> str:
    return "/".join(("selbench", ray.get_runtime_context().get_job_id(), *parts))


def _end_own_worker(trial_id: str, cause: str) -> None:
    _note_limit(trial_id, cause)
    os.kill(os.getpid(), signal.SIGKILL)


def _note_limit(trial_id: str, cause: str) -> None:
    internal_kv._internal_kv_put(_key("limit", trial_id), cause.encode())


def _limit_passed(trial_id: str) -> str | None:
    """The limit that a trial passed in this run of the sweep."""
    found = internal_kv._internal_kv_get(_key("limit", trial_id))
    return found.decode() if found else None


def _note_ending(of_tune: str, record: Mapping[str, Any]) -> None:
    """Notes the totals of a trial that Tune's trial ran and whose ending is written; none for one that failed."""
    totals = record["metrics"] if record["status"] == "finished" else {}
    internal_kv._internal_kv_put(_key("ended", of_tune, record["trial"]), json.dumps(totals).encode())


def _forget_endings(of_tune: str) -> None:
    internal_kv._internal_kv_del(_key("ended", of_tune, ""), del_by_prefix=True)


def _ended_before(trial_id: str) -> dict[str, float] | None:
    """The totals of a trial that an earlier worker of the same trial of Tune's brought to its end."""
    found = internal_kv._internal_kv_get(_key("ended", tune.get_context().get_trial_id(), trial_id))
    return json.loads(found) if found else None


def _objectives(values: list[float]) -> dict[str, float]:
    return {f"objective_{number}": value for number, value in enumerate(values)}


class Job:
    """What every trial of a sweep needs, sent to the workers once.

    Attributes:
        plan: the sweep.
        folders: caches, absolute.
        threads: of a trial.
        cwd: the driver's working folder, to which relative paths refer.
    """

    def __init__(self, plan: Plan, folders: Folders, threads: int):
        self.plan = plan
        self.folders = folders
        self.threads = threads
        self.cwd = os.getcwd()


# ---------------------------------------------------------------- in the driver


class RecordCallback(tune.Callback):
    """Writes what trials report, and the endings that a trial cannot report itself."""

    def __init__(self, recorder: Recorder, display: Display, time_limit: float | None):
        self._recorder = recorder
        self._display = display
        self._time_limit = time_limit
        self._running: dict[str, tuple[str, float]] = {}  # Tune's trial -> the trial that it runs, since when
        self.no_space: OSError | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune's snapshots are not used to resume, and a terminal cannot be pickled

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """A report of a trial."""
        if "no_space" in result:
            self._stop_for_space(OSError(errno.ENOSPC, result["no_space"]))
        if "portrait" in result:
            self._recorder.keep_portrait(result["portrait_of"], result["portrait"])
        elif "warning" in result:
            print(f"{result['portrait_of']}: {result['warning']}", file=sys.stderr)
        elif "portrait_of" in result:
            self._running[trial.trial_id] = result["portrait_of"], time.monotonic()
        if "sent" not in result:
            return
        record, details = result["sent"]
        if record["status"] in FINAL:
            self._running.pop(trial.trial_id, None)
        elif record["trial"] != self._running.get(trial.trial_id, ("", 0.0))[0] or "config" in details:
            self._running[trial.trial_id] = record["trial"], time.monotonic()
        self._write(record, details)
        if record["status"] in FINAL:
            _note_ending(trial.trial_id, record)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """Ends the workers of trials that take longer than they may."""
        if self._time_limit is None:
            return
        began = time.monotonic() - self._time_limit
        late = {own: name for own, (name, since) in self._running.items() if since < began}
        for about in trials if late else ():
            actor = about.temporary_state.ray_actor
            if about.trial_id in late and actor is not None:
                cause = f"TimeoutError: the trial took longer than resources.time_limit, {self._time_limit:g} seconds"
                _note_limit(late[about.trial_id], cause)
                del self._running[about.trial_id]
                ray.kill(actor)

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A worker died, and the trial waits for another."""
        self._running.pop(trial.trial_id, None)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial that ended without saying so was stopped early."""
        self._close(trial, "stopped")
        _forget_endings(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A worker died, and its retries are used up."""
        self._close(trial, "failed", error=_cause(trial))
        _forget_endings(trial.trial_id)

    def _close(self, trial: Any, status: str, **more: Any) -> None:
        self._running.pop(trial.trial_id, None)
        config = trial.config.get("task", trial.config)
        if config.get("only_portrait"):  # its trial has an ending
            return
        last = self._recorder.unfinished(config["trial_ids"])
        if last is None and status == "failed":  # it died before its first report
            left = [name for name in config["trial_ids"] if not self._recorder.ended(name)]
            last = _first_record(config, left[0]) if left else None
        if last:
            limit = {"error": _limit_passed(last["trial"])} if status == "failed" else {}
            ending = {**last, "status": status, "step_kind": "labels", "step": 0, "time": int(time.time() * 1000)}
            self._write(ending | more | {key: value for key, value in limit.items() if value}, {})

    def _write(self, record: dict[str, Any], details: Mapping[str, Any]) -> None:
        try:
            self._recorder.write(record, details)
        except OSError as error:
            if no_space(error):
                self._stop_for_space(error)
            raise
        self._display.add(record, details)

    def _stop_for_space(self, error: OSError) -> None:
        """Ends the sweep: trials that cannot leave their results behind are not worth running."""
        self.no_space = error
        raise error


def _first_record(config: Mapping[str, Any], trial_id: str) -> dict[str, Any]:
    """A record without metrics of a trial that has left none."""
    phase, configuration, seed = trial_id.split("-")
    return {
        "trial": trial_id,
        "configuration": configuration,
        "phase": phase,
        "seed": int(seed.removeprefix("s")),
        "parameters": config["parameters"],
        "metrics": {},
    }


def _cause(trial: Any) -> str:
    """Why a trial has no worker any more, from the file in which Tune notes it."""
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    except (OSError, TypeError):
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "The actor died" not in text:
        return lines[-1] if lines else "no cause is known"
    details = [line for line in lines if line.startswith("The actor is dead")]
    return f"the worker died {MAX_FAILURES + 1} times" + (f": {details[-1]}" if details else "")


class Display:
    """The live view on a terminal; elsewhere a line per ended trial, and one a minute in between."""

    def __init__(self, progress: Progress, quiet: bool):
        from rich.console import Console
        from rich.live import Live

        self.progress = progress
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=2, get_renderable=self._render, transient=True)
        self._interactive = self._console.is_terminal and not self._console.is_dumb_terminal and not quiet
        self._said = time.monotonic()

    def __enter__(self) -> Display:
        if self._interactive:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._interactive:
            self._live.stop()

    def _render(self) -> Any:
        return self.progress.render(self._console.width)

    def add(self, record: dict[str, Any], details: Mapping[str, Any]) -> None:
        """Shows a record."""
        line = self.progress.add(record, details)
        if self._interactive or self._quiet:
            return
        if line is None and time.monotonic() - self._said >= STATUS_SECONDS:
            line = self.progress.status()
        if line:
            self._said = time.monotonic()
            print(line, file=sys.stderr, flush=True)


class SuggestAssignments:
    """Optuna's define-by-run function; a class because Tune pickles it."""

    def __init__(self, plan: Plan, seeds: list[int]):
        self._plan = plan
        self._seeds = seeds

    def __call__(self, suggester: Suggester) -> dict[str, Any]:
        """A Tune configuration for what Optuna suggests."""
        assignment = self._plan.space.suggest(suggester)
        candidate = self._plan.candidate(assignment)
        return _tune_config([Task(candidate, seed, "search") for seed in self._seeds])


class AssignmentSearch(OptunaSearch):
    """Optuna's search; a trial that failed is told as failed, not with a made-up value."""

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Tells Optuna how a trial ended."""
        failed = bool(result and result.get("failed"))
        super().on_trial_complete(trial_id, None if failed else result, error or failed)


def _tune_config(tasks: list[Task]) -> dict[str, Any]:
    """One configuration under one or several seeds, as Tune hands it to a worker."""
    return {
        "parameters": tasks[0].candidate.parameters,
        "seeds": [task.seed for task in tasks],
        "phase": tasks[0].phase,
        "trial_ids": [task.trial_id for task in tasks],
    }


class Replay:
    """Suggests what a study suggested before: a `Suggester` over the parameters of one of its trials.

    Raises:
        KeyError: the study had not come that far.
    """

    def __init__(self, parameters: Mapping[str, Any]):
        self._parameters = parameters

    def suggest_categorical(self, name: str, choices: list[str]) -> str:
        """See `Suggester`."""
        return self._parameters[name]

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """See `Suggester`."""
        return self._parameters[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """See `Suggester`."""
        return self._parameters[name]


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
                config = _tune_config([task]) | {"only_portrait": True}
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
            configs = [_tune_config([task]) for task in open_tasks]
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
        done = _told(storage)
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
        return _told(storage) >= self.plan.run_cap

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
            values = [_values(ending, self.plan) for ending in endings if ending and ending["status"] != "failed"]
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
                scheduler=_scheduler(self.plan) if self._is_search() else None,
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


def _scheduler(plan: Plan) -> TrialScheduler | None:
    """Early stopping on the validation accuracy after an epoch; reports without it are left alone."""
    about = plan.early_terminate
    shared = {"time_attr": "epoch", "metric": "watch", "mode": "max", "grace_period": about.min_iter}
    if about.type == "asha":
        longest = 10_000  # longer than any pre-training: rungs are eta apart from min_iter on
        return AsyncHyperBandScheduler(
            **shared, max_t=longest, reduction_factor=about.eta, brackets=1, stop_last_trials=False
        )
    return MedianStoppingRule(**shared) if about.type == "median" else None


def _told(storage: Any) -> int:
    """How many configurations of the study have ended."""
    import optuna
    from optuna.trial import TrialState

    try:
        study = optuna.load_study(study_name="search", storage=storage)
    except KeyError:
        return 0
    return len(study.get_trials(states=[TrialState.COMPLETE, TrialState.FAIL]))


def _values(ending: Mapping[str, Any], plan: Plan) -> list[float]:
    """What a finished or early-stopped trial is told to the study as."""
    metrics = ending["metrics"]
    if ending["status"] == "finished":
        return [metrics[metric.name] for metric in plan.metric]
    return [_proxy(metric.name, metrics) for metric in plan.metric]


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


def _this_machine(cpus: float, gpus: float) -> Node:
    import torch

    sizes = [torch.cuda.get_device_properties(number).total_memory for number in range(torch.cuda.device_count())]
    return Node(socket.gethostname(), {"CPU": cpus, "GPU": gpus}, min(sizes, default=0))


def _before_ray() -> list[Node]:
    """This machine, before Ray is asked."""
    import torch

    return [_this_machine(os.cpu_count() or 1, torch.cuda.device_count())]


def _nodes(plan: Plan, options: argparse.Namespace, prepared: Sequence[Any]) -> tuple[list[Node], dict[str, Any]]:
    """What there is to run trials on, and what `environment.json` says of it beyond this machine."""
    if not options.address:
        there = ray.cluster_resources()
        return [_this_machine(there.get("CPU", 0), there.get("GPU", 0))], {}
    nodes = cluster.look(plan, prepared, _folders(options))
    for note in nodes.notes:
        print(note, file=sys.stderr)
    gpus = sorted({gpu for about in nodes.about for gpu in about["gpus"]})
    return nodes.all, {**nodes.compute, "gpus": gpus, "nodes": nodes.about, "shared_stages": nodes.shared_stages}


def _folders(options: argparse.Namespace) -> Folders:
    return Folders(options.cache.resolve(), options.stages.resolve())


@contextlib.contextmanager
def ray_session(plan: Plan | None = None, address: str | None = None) -> Iterator[None]:
    """A private Ray on this machine, gone afterwards, or a cluster, which gets the plan's code and is left as it is."""
    if address:
        assert plan is not None
        cluster.join(address, plan)
    else:
        ray.init(
            address="local",
            include_dashboard=False,
            configure_logging=True,
            logging_level="ERROR",
            log_to_driver=False,
            num_gpus=None,
        )
    for name in ("tune", "execution.tune_controller"):  # a worker that dies is reported by its trial, in one line
        logging.getLogger(f"ray.tune.{name}").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()


class Interrupts:
    """Ctrl-C: once, and the sweep stops tidily; twice, and it stops at once.

    Args:
        resume: the command that continues the sweep.

    Attributes:
        pressed: whether Ctrl-C was pressed.
    """

    def __init__(self, resume: str):
        self.resume = resume
        self.pressed = False
        self._in_tune = False
        self._before = signal.getsignal(signal.SIGINT)

    def __enter__(self) -> Interrupts:
        """Takes over SIGINT, also where a shell started us with it ignored, and SIGTERM."""
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        """Puts the handler of SIGINT back."""
        signal.signal(signal.SIGINT, self._before or signal.default_int_handler)

    def install(self) -> None:
        """Takes over again what `ray.init` took."""
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))

    @contextlib.contextmanager
    def stopping_tune(self) -> Iterator[None]:
        """Inside the block the first Ctrl-C lets Tune end its trials and return."""
        signal.signal(signal.SIGUSR1, signal.default_int_handler)  # until Tune takes it over
        self._in_tune = True
        try:
            yield
        finally:
            self._in_tune = False

    def _interrupt(self, *_: object) -> None:
        if self.pressed:
            print(f"stopped at once; go on with: {self.resume}", file=sys.stderr, flush=True)
            os._exit(INTERRUPTED)  # Ray's processes end with this one
        self.pressed = True
        print("stopping; Ctrl-C again stops at once", file=sys.stderr, flush=True)
        if not self._in_tune:
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGUSR1)  # which Tune listens to as to SIGINT


class NoSpaceError(OSError):
    """A disk is full, so that the sweep cannot go on."""

    def __init__(self, cause: BaseException):
        place = getattr(cause, "filename", None)
        super().__init__(f"no space left on the device: {place or getattr(cause, 'strerror', None) or cause}")


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    with progress.hushed(options.quiet), Interrupts(_resume_command(arguments)) as interrupts:
        try:
            plan = load(options.file, options.set)
            if options.dry_run:
                print(preview(plan))
                return FINISHED
            return _run(plan, options, interrupts)
        except (ConfigError, ValueError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
            print(error, file=sys.stderr)
            return WRONG
        except OSError as error:
            if not no_space(error):
                raise
            print(error if isinstance(error, NoSpaceError) else NoSpaceError(error), file=sys.stderr)
            print(f"make room and go on with: {interrupts.resume}", file=sys.stderr)
            return INTERRUPTED
        except KeyboardInterrupt:
            print(f"interrupted; go on with: {interrupts.resume}", file=sys.stderr)
            return INTERRUPTED


def _resume_command(arguments: list[str] | None) -> str:
    """The command that was given, with --resume and without the password of a URI."""
    given = [argument for argument in (sys.argv[1:] if arguments is None else arguments) if argument != "--resume"]
    return messages.public(shlex.join(["python", "-m", "harness.sweep", *given, "--resume"]))


def _run(plan: Plan, options: argparse.Namespace, interrupts: Interrupts) -> int:
    results = local_folder(options.results)
    path = results / plan.name
    uri = tracking_uri(options.tracking_uri, results)
    if options.address:
        cluster.check_address(options.address)
    else:
        place(plan.resources, _before_ray(), plan.name)
    if plan.resources.memory_gb is not None and not can_watch_memory():
        raise ConfigError([f"{plan.name}: resources.memory_gb: this system does not tell what a process holds"])
    prepared = check_data(plan, options.cache)
    mirror = Mirror(options.results, path) if is_remote(options.results) else None
    if mirror:
        mirror.fetch()
    with ray_session(plan, options.address):
        interrupts.install()
        nodes, beyond = _nodes(plan, options, prepared)
        export.check(plan, beyond.get("shared_stages", True))
        placement = place(plan.resources, nodes, plan.name)
        lock = open_folder(path, plan, resume=options.resume)
        try:
            about = environment.describe(path, prepared, concurrent=placement.concurrent) | beyond
            return _run_in_folder(path, uri, plan, about, placement, mirror, options, interrupts)
        finally:
            lock.release()


def _run_in_folder(
    path: Path,
    uri: str,
    plan: Plan,
    about: dict[str, Any],
    placement: Placement,
    mirror: Mirror | None,
    options: argparse.Namespace,
    interrupts: Interrupts,
) -> int:
    shown = Progress(plan.metric[0].name, goal_of(plan.metric[0]) == "maximize")
    complete, found = False, None
    problems: list[str] = []
    uncopied: list[str | None] = []
    replace_text(path / "environment.json", json.dumps(about, indent=1))
    tracker = Tracker(uri, plan.name, path, about)
    tracker.start()
    recorder = Recorder(path, tracker.record)
    if mirror:
        mirror.start()
    try:
        with Display(shown, options.quiet) as display:
            complete = Sweep(plan, _folders(options), placement, recorder, display, interrupts).run()
    except KeyboardInterrupt:
        complete = False
    finally:
        with contextlib.ExitStack() as ending:  # from the last to the first, even if one of them fails
            ending.callback(_finish_tracking, tracker, complete, path)
            if mirror:
                ending.callback(lambda: uncopied.append(mirror.close()))
            ending.callback(recorder.close)
            with progress.working("writing the report"):
                found = _write_report(path, problems)
            if found:
                problems = export.write(found, plan.log_model if complete else "none", _folders(options))
    if complete and found and not options.quiet:
        terminal.show(found)
    status = _farewell(path, uri, recorder, complete, interrupts)
    if mirror and not any(uncopied):
        print(f"copy:      {mirror.uri}")
    problems += [problem for problem in uncopied if problem]
    for problem in problems:
        print(problem, file=sys.stderr)
    return SOME_FAILED if problems and status == FINISHED else status


def _write_report(path: Path, problems: list[str]) -> model.Report | None:
    """The report; None where the sweep was interrupted before its first record, or where it cannot be made."""
    if not (path / "rows.jsonl").stat().st_size:
        return None
    try:
        return report.write(path)
    except Exception as error:  # the records are whole, and what follows the report is not to be lost with it
        if no_space(error):
            raise
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        problems.append(f"no report: {cause}; try again with: python -m harness.report {path}")
        return None


def _finish_tracking(tracker: Tracker, complete: bool, path: Path) -> None:
    with progress.working("sending the records to MLflow"):
        if complete:
            tracker.finish("finished", timeout=60.0, patient=True)
        else:
            tracker.finish("interrupted", timeout=20.0)  # a person waits, and the rest is delivered on resuming


def _farewell(path: Path, uri: str, recorder: Recorder, complete: bool, interrupts: Interrupts) -> int:
    if not complete:
        print(f"interrupted; go on with: {interrupts.resume}", file=sys.stderr)
        return INTERRUPTED
    shown = messages.public(uri)
    served = uri.startswith(("http://", "https://"))
    print(f"\nreport:    python -m harness.report {path}")
    print(f"MLflow UI: {shown if served else f'mlflow ui --backend-store-uri {shown}'}")
    failed = recorder.failed()
    for name, cause in failed.items():
        print(f"failed: {name}: {cause}", file=sys.stderr)
    return SOME_FAILED if failed else FINISHED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.sweep", description="Runs a search space.")
    parser.add_argument("file", type=Path, help="a search space, as YAML")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="override a leaf")
    parser.add_argument("--dry-run", action="store_true", help="show the trials and how many stages they share")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted sweep")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors and the farewell")
    parser.add_argument("--results", default="results/runs", metavar="DIR", help="or s3://BUCKET/PREFIX, gs://...")
    parser.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster to run on: auto, or HOST:PORT")
    parser.add_argument("--stages", type=Path, default=Path("results/runs/stages"), metavar="DIR")
    parser.add_argument("--cache", type=Path, default=Path("results/runs/data"), metavar="DIR", help="decoded data")
    parser.add_argument("--tracking-uri", metavar="URI", help="of MLflow; default: a SQLite file in the results")
    return parser


if __name__ == "__main__":
    # as __main__, classes of this module could not be pickled for the workers
    from harness.sweep import main as run_main

    sys.exit(run_main())
