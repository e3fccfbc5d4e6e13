"""In a worker: one trial of Tune, one configuration under each of its seeds in turn."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray import tune
from ray.experimental import internal_kv

from harness.config.plan import Plan, Task
from harness.config.schema import as_dict
from harness.files import no_space
from harness.messages import cause_of
from harness.metrics import WATCHED
from harness.sweep import cluster
from harness.trial.memory import keep_freed_memory
from harness.trial.memory_limit import watched_memory
from harness.trial.run import Folders, run


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
    tune.report(objective_values([0.0] * len(means) if failed else means) | {"failed": failed})


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
        watch = watched_accuracy(metrics)
        watched = {"epoch": step, "watch": watch} if step_kind == "epoch" and watch is not None else {}
        proxies = [proxy_value(m.name, metrics) for m in job.plan.metric]
        # In a list, into which Tune does not look: it would keep statistics of every number until the sweep ends.
        tune.report({"sent": [record, dict(details)], **watched, **objective_values(proxies)})

    cause = limit_passed(task.trial_id)
    if cause:  # by an earlier worker, which was ended for it
        send("labels", 0, {}, {"error": cause}, status="failed", error=cause)
        return {}
    send("labels", 0, {}, {"config": as_dict(task.candidate.trial)})
    portrait: dict[str, Any] = {}
    try:
        with watched_memory(job.plan.resources.memory_gb, lambda cause: end_own_worker(task.trial_id, cause)):
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
            tune.report({"no_space": str(error), **objective_values([0.0] * len(job.plan.metric))})
        cause = cause_of(error)
        send("labels", 0, {}, {"error": traceback.format_exc()}, status="failed", error=cause)
        return {}
    warning = {"warning": portrait.pop("warning")} if "warning" in portrait else {}
    send("labels", int(totals["labels/used"]), totals, portrait, status="finished", **warning)
    return totals


def _portray(task: Task, job: Job) -> None:
    """Takes a trial that has ended from the stage cache once more, for its encoder's portrait alone."""
    nothing = objective_values([0.0] * len(job.plan.metric))

    def send(found: Mapping[str, Any]) -> None:
        tune.report({"portrait_of": task.trial_id, **found, **nothing})

    cause = limit_passed(task.trial_id)
    if cause:  # by an earlier worker, which was ended for it
        send({"warning": cause})
        return
    send({})  # from here on the time counts
    try:
        with watched_memory(job.plan.resources.memory_gb, lambda cause: end_own_worker(task.trial_id, cause)):
            run(task.candidate.trial, task.seed, job.folders, lambda *_: None, with_test=False, deliver=send)
    except Exception as error:  # its stages are gone, and what makes them anew fails
        if no_space(error):
            tune.report({"no_space": str(error), **nothing})
        send({"warning": cause_of(error)})
    tune.report(nothing)


def proxy_value(metric: str, metrics: Mapping[str, float]) -> float:
    """What an early-stopped trial counts for in the search: what was seen of it."""
    watch = watched_accuracy(metrics)
    return watch if metric.startswith("val/") and watch is not None else 0.0


def watched_accuracy(metrics: Mapping[str, float]) -> float | None:
    """The validation accuracy after an epoch, by which a trial may be stopped early."""
    return next((metrics[name] for name in WATCHED if name in metrics), None)


def _key(*parts: str) -> str:
    return "/".join(("selbench", ray.get_runtime_context().get_job_id(), *parts))


def end_own_worker(trial_id: str, cause: str) -> None:
    """Notes the limit that was passed, and ends this process, as nothing else ends a stuck call."""
    note_limit(trial_id, cause)
    os.kill(os.getpid(), signal.SIGKILL)


def note_limit(trial_id: str, cause: str) -> None:
    """Keeps the cause for the next worker of the trial."""
    internal_kv._internal_kv_put(_key("limit", trial_id), cause.encode())


def limit_passed(trial_id: str) -> str | None:
    """The limit that a trial passed in this run of the sweep."""
    found = internal_kv._internal_kv_get(_key("limit", trial_id))
    return found.decode() if found else None


def note_ending(of_tune: str, record: Mapping[str, Any]) -> None:
    """Notes the totals of a trial that Tune's trial ran and whose ending is written; none for one that failed."""
    totals = record["metrics"] if record["status"] == "finished" else {}
    internal_kv._internal_kv_put(_key("ended", of_tune, record["trial"]), json.dumps(totals).encode())


def forget_endings(of_tune: str) -> None:
    """Removes what was noted of the trials of one of Tune's."""
    internal_kv._internal_kv_del(_key("ended", of_tune, ""), del_by_prefix=True)


def _ended_before(trial_id: str) -> dict[str, float] | None:
    """The totals of a trial that an earlier worker of the same trial of Tune's brought to its end."""
    found = internal_kv._internal_kv_get(_key("ended", tune.get_context().get_trial_id(), trial_id))
    return json.loads(found) if found else None


def objective_values(values: list[float]) -> dict[str, float]:
    """As Tune and Optuna read them."""
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
