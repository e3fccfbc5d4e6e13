"""Optuna's search: what it suggests, what it is told, and how its journal goes on after a kill."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from harness.config.plan import Plan, Task
from harness.config.schema import ConfigError
from harness.config.space import Suggester
from harness.sweep.worker import proxy_value


class SuggestAssignments:
    """Optuna's define-by-run function; a class because Tune pickles it."""

    def __init__(self, plan: Plan, seeds: list[int]):
        self._plan = plan
        self._seeds = seeds

    def __call__(self, suggester: Suggester) -> dict[str, Any]:
        """A Tune configuration for what Optuna suggests."""
        assignment = self._plan.space.suggest(suggester)
        candidate = self._plan.candidate(assignment)
        return tune_config([Task(candidate, seed, "search") for seed in self._seeds])


class AssignmentSearch(OptunaSearch):
    """Optuna's search; a trial that failed is told as failed, not with a made-up value."""

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Tells Optuna how a trial ended."""
        failed = bool(result and result.get("failed"))
        super().on_trial_complete(trial_id, None if failed else result, error or failed)


def tune_config(tasks: list[Task]) -> dict[str, Any]:
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


def scheduler_of(plan: Plan) -> TrialScheduler | None:
    """Early stopping on the validation accuracy after an epoch; reports without it are left alone."""
    about = plan.early_terminate
    shared = {"time_attr": "epoch", "metric": "watch", "mode": "max", "grace_period": about.min_iter}
    if about.type == "asha":
        longest = 10_000  # longer than any pre-training: rungs are eta apart from min_iter on
        return AsyncHyperBandScheduler(
            **shared, max_t=longest, reduction_factor=about.eta, brackets=1, stop_last_trials=False
        )
    return MedianStoppingRule(**shared) if about.type == "median" else None


def num_told(storage: Any) -> int:
    """How many configurations of the study have ended."""
    import optuna
    from optuna.trial import TrialState

    try:
        study = optuna.load_study(study_name="search", storage=storage)
    except KeyError:
        return 0
    return len(study.get_trials(states=[TrialState.COMPLETE, TrialState.FAIL]))


def values_told(ending: Mapping[str, Any], plan: Plan) -> list[float]:
    """What a finished or early-stopped trial is told to the study as."""
    metrics = ending["metrics"]
    if ending["status"] == "finished":
        return [metrics[metric.name] for metric in plan.metric]
    return [proxy_value(metric.name, metrics) for metric in plan.metric]


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
