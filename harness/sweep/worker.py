"""In a worker: the tasks of one configuration, which are one trial of Tune's, in turn."""

from __future__ import annotations

import functools
import math
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from ray import tune
from ray.tune.result import DONE

from harness.config.checks import goals_of
from harness.config.schema import as_dict
from harness.config.tasks import Task
from harness.config.trial import ComputeConfig, TrialConfig
from harness.files import refusal
from harness.messages import cause_of, traceback_of
from harness.metrics import varies_by_run
from harness.records.details import Details
from harness.records.rows import Record
from harness.sweep.inquiry import enter
from harness.sweep.notes import ended_before, limit_passed, note_limit
from harness.sweep.objectives import as_reported, judged_by, values_so_far
from harness.trial.memory import keep_freed_memory, watched_memory
from harness.trial.origin import origin_of
from harness.trial.run import Folders, run


class Sealed:
    """Tasks on their way to a worker, which Tune neither walks nor copies, as it does mappings and lists."""

    def __init__(self, tasks: Sequence[Task]):
        self.tasks = tuple(tasks)

    def __deepcopy__(self, memo: object) -> Sealed:
        return self


def tune_config(tasks: Sequence[Task]) -> dict[str, Any]:
    """The configuration of a trial of Tune's: a configuration of ours under one or several seeds."""
    return {"tasks": Sealed(tasks)}


def tasks_in(config: Mapping[str, Any]) -> tuple[Task, ...]:
    """The tasks of a trial of Tune's, from its configuration."""
    return config["tasks"].tasks


@dataclass(frozen=True)
class Job:
    """What every trial of a sweep needs, sent to the workers once.

    Attributes:
        metrics: what the search improves.
        watched: the one of them by which early stopping judges an epoch; None: the validation accuracy.
        folders: caches, absolute.
        threads: of a trial.
        memory_gb: 2**30 bytes that a trial's process may hold; None: as many as there are.
        cwd: the driver's working folder, to which relative paths refer.
        judging_seed: that of a plan; where there is one an encoder is measured after each epoch, if nobody says when.
    """

    metrics: tuple[str, ...]
    watched: str | None
    folders: Folders
    threads: int
    memory_gb: float | None
    cwd: str
    judging_seed: int | None = None

    def as_run(self, trial: TrialConfig) -> TrialConfig:
        """A trial with a measurement after each epoch, where these are judged: rungs compare trials at equal epochs."""
        asked: Any = trial.pretrain.knn_every
        if self.judging_seed is None or asked != "auto":
            return trial
        return replace(trial, pretrain=replace(trial.pretrain, knn_every=1))

    @property
    def nothing(self) -> dict[str, float]:
        """A report to Tune that says nothing of the objectives."""
        return as_reported([0.0] * len(self.metrics))


def run_in_worker(config: dict[str, Any], job: Job) -> None:
    """One trial of Tune's: one configuration, under each of its seeds in turn."""
    _begin(job)
    values: list[list[float]] = []
    ending: dict[str, Any] = {}
    for task in tasks_in(config):
        if ending:
            tune.report(ending)
        totals, ending = ended_before(tune.get_context().get_trial_id(), task.trial_id), {}
        if totals is None:
            totals, ending = _run(task, job)
        goals = goals_of(task.trial, job.metrics, task.phase == "search")
        values.append([totals.get(name, math.nan if name in goals else 0.0) for name in job.metrics])
    means = [sum(column) / len(column) for column in zip(*values, strict=True)]
    failed = any(math.isnan(mean) for mean in means)
    # With the last ending, and as the end: each report waits until the driver has taken it.
    tune.report(ending | (job.nothing if failed else as_reported(means)) | {"failed": failed, DONE: True})


def portray_in_worker(config: dict[str, Any], job: Job) -> None:
    """Takes a trial that has ended from the stage cache once more, for its encoder's portrait alone."""
    _begin(job)
    (task,) = tasks_in(config)

    def send(portrait: Mapping[str, Any]) -> None:
        tune.report({"portrait_of": task.trial_id, **portrait, **job.nothing})

    cause = limit_passed(task.trial_id)
    if cause:
        send({"warning": cause})
        return
    send({})  # from here on the time counts
    try:
        check_device(task.trial.compute)
        with watched_memory(job.memory_gb, lambda cause: end_own_worker(task.trial_id, cause)):
            run(task.trial, task.seed, job.folders, lambda *_: None, with_test=False, deliver=send,
                mapped=task.portrait)  # fmt: skip
    except Exception as error:  # its stages are gone, and what makes them anew fails
        _tell_refusal(error, job)
        send({"warning": cause_of(error)})
    tune.report(job.nothing | {DONE: True})


def _begin(job: Job) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGHUP))  # which a plugin's processes may need
    keep_freed_memory()
    enter(job.cwd)
    torch.set_num_threads(job.threads)


def _run(task: Task, job: Job) -> tuple[dict[str, float], dict[str, Any]]:
    """Runs a trial and reports each record but its ending; one that fails ends with its cause, and the sweep goes on.

    One that goes on for more rounds takes those that it has from the cache of stages, and reports what is new.

    Returns:
        The totals, none of a trial that failed, and the report of its ending.
    """
    report_of = functools.partial(_report, task, job, _origin(task, job))
    last_round: dict[str, Any] = {}  # it waits for the ending, and stands in its record
    known = dict(task.known)

    def tell(step_kind: str, step: int, metrics: Mapping[str, float], details: Details) -> None:
        if step_kind == "labels" and step == (task.trial.labels.total or step) and (step_kind, step) not in known:
            last_round.update(step=step, metrics=metrics, details=details)
        else:
            send(step_kind, step, metrics, details)

    def send(step_kind: str, step: int, metrics: Mapping[str, float], details: Details) -> None:
        if (step_kind, step) in known:
            check_known(known[step_kind, step], metrics, f"{step_kind} {step}")
            return
        for later in [place for place in known if place[0] == step_kind and place[1] > step]:
            del known[later]  # a record of before is lost, and what follows counts only if it is told after it
        is_judged = step_kind == "epoch" and task.seed == job.judging_seed
        judged = judged_by(job.watched, metrics) if is_judged else None
        watched = {"epoch": step, "watch": judged} if judged is not None else {}
        so_far = as_reported(values_so_far(job.metrics, metrics))
        tune.report(report_of(step_kind, step, metrics, details) | watched | so_far)

    cause = limit_passed(task.trial_id)
    if cause:
        return {}, report_of("labels", 0, {}, Details(error=cause), status="failed", error=cause)
    begin = Details(config=as_dict(task.trial))
    if task.known:
        tune.report({"goes_on": [task.trial_id, begin], **job.nothing})
    else:
        send("labels", 0, {}, begin)
    portrait: dict[str, Any] = {}
    deliver = portrait.update if task.portrait else None
    try:
        check_device(task.trial.compute)
        with watched_memory(job.memory_gb, lambda cause: end_own_worker(task.trial_id, cause)):
            with_test, bound = task.phase != "search", task.candidate.bound
            totals = run(job.as_run(task.trial), task.seed, job.folders, tell, with_test=with_test, deliver=deliver,
                         mapped=task.portrait, bound=bound)  # fmt: skip
        for name in goals_of(task.trial, job.metrics, task.phase == "search"):
            if not math.isfinite(totals.get(name, math.nan)):
                raise ValueError(f"{name} is {totals.get(name, 'not measured in this trial')}")
    except Exception as error:
        _tell_refusal(error, job)
        if last_round:
            send("labels", **last_round)
        details = Details(error=traceback_of(error))
        return {}, report_of("labels", 0, {}, details, status="failed", error=cause_of(error))
    warning = {"warning": portrait.pop("warning")} if "warning" in portrait else {}
    of_round, details = last_round.get("metrics", {}), replace(last_round.get("details", Details()), **portrait)
    metrics, used = {**of_round, **totals}, int(totals["labels/used"])
    return totals, report_of("labels", used, metrics, details, status="finished", **warning)


def _report(
    task: Task,
    job: Job,
    origin: Mapping[str, Any],
    step_kind: str,
    step: int,
    metrics: Mapping[str, float],
    details: Details,
    **more: Any,
) -> dict[str, Any]:
    """A record as a report to Tune that says nothing of the objectives."""
    record = {**record_of(task, step_kind, step, metrics), "node": socket.gethostname(), **origin, **more}
    # In a list, into which Tune does not look: it would keep statistics of every number until the sweep ends.
    return {"sent": [record, details], **job.nothing}


def _tell_refusal(error: Exception, job: Job) -> None:
    """Ends the sweep where a disk takes nothing more, which is no fault of the trial's: resuming tries it again."""
    refused = refusal(error, job.folders.stages, job.folders.cache)
    if refused:
        tune.report({"refused": [refused.errno, refused.strerror, refused.filename], **job.nothing})


def check_known(before: Mapping[str, float], now: Mapping[str, float], place: str) -> None:
    """Whether a step that is computed once more gives what it gave, so that more rounds may follow on it.

    Raises:
        ValueError: it does not, as on another kind of machine; times do not count.
    """
    for name, value in before.items():
        again = now.get(name)
        if not varies_by_run(name) and again != value and not (again != again and value != value):  # NaN is not itself
            raise ValueError(
                f"no round can be added: at {place}, {name} was {value:.9g} and is {again} now (another machine?); "
                "--resume runs this trial anew"
            )


def _origin(task: Task, job: Job) -> dict[str, Any]:
    """What the trial is computed from; nothing where that fails, as the trial then will, with the cause."""
    try:
        return origin_of(task.trial, job.folders.cache).as_dict()
    except Exception:
        return {}


def record_of(task: Task, step_kind: str, step: int, metrics: Mapping[str, float]) -> Record:
    """A record of a trial that runs, as of now."""
    return {
        "trial": task.trial_id,
        "configuration": task.candidate.configuration,
        "phase": task.phase,
        "seed": task.seed,
        "status": "running",
        "step_kind": step_kind,
        "step": step,
        "time": int(time.time() * 1000),
        "parameters": task.candidate.parameters,
        "metrics": dict(metrics),
    }


def check_device(compute: ComputeConfig) -> None:
    """Whether this machine has what a trial computes on; the driver could ask its own alone.

    Raises:
        RuntimeError: it has not.
    """
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            f"compute.device is cuda, but {socket.gethostname()} has no CUDA device for this trial; let resources.gpus "
            "be above 0, or use cpu or auto"
        )


def end_own_worker(trial_id: str, cause: str) -> None:
    """Notes the limit that was passed, and ends this process, as nothing else ends a stuck call."""
    note_limit(trial_id, cause)
    os.kill(os.getpid(), signal.SIGKILL)
