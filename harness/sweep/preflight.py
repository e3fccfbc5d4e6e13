"""What can be known before the first trial: whether the data is there, whether budgets fit, what is shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.config.label_free import has_labels
from harness.config.plan import Plan
from harness.config.schema import ConfigError, as_dict
from harness.config.tasks import Task
from harness.config.trial import TrialConfig
from harness.data.oracle import Oracle
from harness.data.splits import Data
from harness.files import digest_of
from harness.plugins import registry
from harness.records.names import label
from harness.trial.pretraining import pretrain_key, pretrains
from harness.trial.rounds import start_pool
from harness.trial.run import label_budget, load_data
from harness.trial.sizes import check_sizes


def check_data(plan: Plan, cache: Path) -> list[tuple[TrialConfig, Data]]:
    """Decodes every data set that the plan names and checks label budgets, batches and backbones against it.

    What was decoded earlier is compared with its checksum, here once for all trials.

    Returns:
        One trial configuration for each data set and split, with its data.

    Raises:
        ConfigError: what does not fit, all of it.
        FileNotFoundError: a data set is missing.
    """
    prepared: dict[str, tuple[TrialConfig, Data, Oracle]] = {}
    problems: dict[str, None] = {}
    for candidate in plan.some_candidates():
        config = candidate.trial
        place = f"trial ({label(candidate.parameters)})" if candidate.parameters else "trial"
        try:
            name = data_name(config)
            if name not in prepared:
                prepared[name] = config, *load_data(config, cache, with_test=False, verify=True)
            _, data, oracle = prepared[name]
            label_budget(config, len(oracle))
            _check_batch(config, data)
            if plan.split == "fresh" and plan.confirm and data.carved:
                raise ValueError(
                    f"seeds.split: {config.dataset.name} has no test images of its own, and fresh splits would show "
                    "the search images that are tested later; leave `confirm` out, or use split: same"
                )
            start_pool(config.labels, 0, oracle)
            check_sizes(config, data)
        except ValueError as error:
            problems[f"{plan.name}: {place}: {error}"] = None
    if problems:
        raise ConfigError(list(problems))
    return [(config, data) for config, data, _ in prepared.values()]


def _check_batch(config: TrialConfig, data: Data) -> None:
    images = len(data.pool) + (len(data.unlabeled_extra) if data.unlabeled_extra is not None else 0)
    method: Any = registry.find_plugin("ssl_methods", config.ssl_method.name)
    few = getattr(method, "labeled_only", False)  # then a batch may be as small as the labels are few
    if pretrains(config) and not few and config.pretrain.batch_size > images:
        raise ValueError(
            f"pretrain.batch_size: {config.pretrain.batch_size} is more than the pool has; use at most {images}"
        )


def data_name(config: TrialConfig) -> str:
    """Names a data set and its split by the settings, without a look at the data."""
    return digest_of({"dataset": config.dataset.as_dict(), "data": as_dict(config.data)})


def preview(plan: Plan) -> str:
    """The trials of a plan and the stages they share, as text."""
    lines = [f"{plan.name}: {plan.method}, {' and '.join(m.name for m in plan.metric)}"]
    tasks = plan.first_tasks()
    if plan.method == "bayes":
        lines.append(f"search: {plan.run_cap} configurations x {len(plan.seeds)} seeds, chosen by Optuna as it goes:")
        lines += [f"  {path}: {_range(about)}" for path, about in plan.as_dict()["parameters"].items()]
    else:
        lines.append(f"{tasks[0].phase}: {len(plan.candidates)} configurations x {len(plan.seeds)} seeds")
        lines += [f"  {task.trial_id}  {label(task.candidate.parameters)} seed {task.seed}" for task in tasks]
        lines.append(_sharing(tasks))
    if plan.confirm:
        read = "test set read" if any(has_labels(one.trial) for one in plan.some_candidates()) else "no test set"
        configurations = f"{plan.confirm.top} best + {len(plan.confirm.references)} references"
        lines.append(f"confirm: {configurations}, each x {len(plan.confirm.seeds)} fresh seeds, {read}")
    return "\n".join(lines)


def _range(about: dict[str, Any]) -> str:
    if "values" in about:
        return f"one of {about['values']}"
    return f"{about['distribution']} from {about['min']} to {about['max']}"


def _sharing(tasks: list[Task]) -> str:
    keys = []
    for task in tasks:
        key = pretrain_key(task.trial, task.seed, data_name(task.trial))
        if key["trained"]:
            keys.append(digest_of(key))
    shared = len(keys) - len(set(keys))
    labeled = [task.trial.labels for task in tasks if has_labels(task.trial)]
    rounds = sum(labels.rounds + (labels.start != 0) for labels in labeled)
    return (
        f"stages: {len(set(keys))} pre-trainings for {len(keys)} trials that need one ({shared} shared), "
        f"{rounds} classifier trainings"
        + ("" if labeled else ": not a single label, so encoders are compared by how their features lie")
    )
