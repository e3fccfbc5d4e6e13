"""What can be known before the first trial: whether the data is there, whether budgets fit, what is shared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.config.label_free import has_labels
from harness.config.plan import Plan
from harness.config.schema import ConfigError, as_dict
from harness.config.space import CASE
from harness.config.tasks import Candidate, Task
from harness.config.trial import TrialConfig
from harness.data.decode import Prepared, peek
from harness.data.oracle import Oracle
from harness.data.splits import Data
from harness.files import digest_of
from harness.plugins import registry
from harness.progress import say
from harness.records.names import label
from harness.trial.lengths import for_images, images_learnt_from, settled
from harness.trial.pretraining import pretrain_key, pretrains
from harness.trial.rounds import start_pool
from harness.trial.run import decoded, divided, label_budget
from harness.trial.sizes import check_sizes

MAKE_THE_SAME = 20
"""Of so many times `run_cap` combinations it is looked how many make different trials; of more there are enough."""


def check_data(plan: Plan, cache: Path, *, download: bool = True) -> list[tuple[TrialConfig, Data]]:
    """Decodes every data set that the plan names and checks label budgets, batches and backbones against it.

    A data set is tried once, whatever else varies. What was decoded earlier is compared with its checksum, here once
    for all trials. What was decided by content, skipped or is there twice is in the notes of the data.

    Args:
        plan: of the sweep.
        cache: of decoded data sets.
        download: whether data sets may be opened that are not decoded yet and might download something for that; if
            not, these and their trials are not looked at.

    Returns:
        One trial configuration for each data set and split, with its data.

    Raises:
        ConfigError: what does not fit, all of it.
        FileNotFoundError: a data set is missing.
    """
    opened = _Opened(cache)
    problems: dict[str, None] = {}
    tested: dict[str, set[int]] = {}
    for candidate in plan.some_candidates():
        config = candidate.trial
        place = _place(plan, candidate, ("dataset",))
        try:
            if not download and may_download(config, cache):
                continue
            opened.decoded(config)
            place = _place(plan, candidate, ("dataset", "data"))
            data, oracle = opened.data(config)
            place = _place(plan, candidate)
            label_budget(config, len(oracle))
            settled(config, data)
            for section, encoder in config.encoders().items():
                _check_batch(encoder, data, section and f"{section}.")
            if plan.confirm and data.is_carved("test"):
                _check_tested(config, data, tested, fresh=plan.split == "fresh")
            start_pool(config.labels, 0, oracle)
            check_sizes(config, data)
        except ValueError as error:
            problems[f"{place}: {error}"] = None
    if problems:
        raise ConfigError(list(problems))
    return [(config, data) for config, data, _ in opened.parts.values()]


def _check_tested(config: TrialConfig, data: Data, tested: dict[str, set[int]], *, fresh: bool) -> None:
    """Whether no trial of a search sees images that are tested later, where test images are carved.

    Args:
        config: of a trial.
        data: its own, whose test set is carved.
        tested: the images of which test sets are carved -> which of them; filled here.
        fresh: whether each seed has a split of its own.
    """
    later = "would show the search images that are tested later"
    if fresh:
        raise ValueError(
            f"seeds.split: {config.dataset.name} has no test images of its own, and fresh splits {later}; leave "
            "`confirm` out, or use split: same"
        )
    images, _, rows = data.places["test"]
    if tested.setdefault(images, set(rows.tolist())) != set(rows.tolist()):
        raise ValueError(
            f"data: {config.dataset.name} has no test images of its own, and several test sets of it {later}; leave "
            "`confirm` out, or use one data.split_seed and one data.test"
        )


def say_notes(prepared: Iterable[tuple[TrialConfig, Data]]) -> None:
    """Says what was decided, converted, left out or is there twice of all data, each line once."""
    for note in dict.fromkeys(note for _, data in prepared for note in data.notes):
        say(note)


def _place(plan: Plan, candidate: Candidate, sections: tuple[str, ...] | None = None) -> str:
    """Which of the plan's trials is spoken of, by the parameters that set something in the sections; None: all."""
    chosen = {
        path: value
        for path, value in candidate.parameters.items()
        if sections is None or path.partition(".")[0] in (*sections, CASE)
    }
    return f"{plan.name}: trial ({label(chosen)})" if chosen else f"{plan.name}: trial"


class _Opened:
    """The data sets that a plan names, each tried once.

    Attributes:
        parts: `data_name` -> the first trial of these data, with them.
    """

    def __init__(self, cache: Path):
        self.parts: dict[str, tuple[TrialConfig, Data, Oracle]] = {}
        self._cache = cache
        self._sets: dict[str, Prepared | ValueError] = {}

    def data(self, config: TrialConfig) -> tuple[Data, Oracle]:
        """The data of a trial.

        Raises:
            ValueError: as before, where the data set was tried before.
        """
        name = data_name(config)
        if name not in self.parts:
            self.parts[name] = config, *divided(config, self.decoded(config), with_test=False)
        return self.parts[name][1:]

    def decoded(self, config: TrialConfig) -> Prepared:
        """The data set of a trial, before it is divided; raises as `data`."""
        name = digest_of({"dataset": config.dataset.as_dict(), "on_broken": config.data.on_broken})
        if name not in self._sets:
            try:
                self._sets[name] = decoded(config, self._cache, verify=True)
            except ValueError as error:
                self._sets[name] = error
        outcome = self._sets[name]
        if isinstance(outcome, ValueError):
            raise outcome
        return outcome


def may_download(config: TrialConfig, cache: Path) -> bool:
    """Whether the data set of a trial is not decoded yet, and to open it may fetch files from elsewhere."""
    dataset = registry.build(config.dataset)
    if not dataset.downloads:
        return False
    skip = config.data.on_broken == "skip"
    settings = config.dataset.as_dict()
    return peek(dataset, config.dataset.name, cache, settings=settings, skip_broken=skip) is None


def _check_batch(config: TrialConfig, data: Data, section: str = "") -> None:
    method: Any = registry.find_plugin("ssl_methods", config.ssl_method.name)
    few = getattr(method, "labeled_only", False)  # then a batch may be as small as the labels are few
    images = images_learnt_from(config, data)
    if pretrains(config) and not few and for_images(config.pretrain, images).batch_size > images:
        raise ValueError(
            f"{section}pretrain.batch_size: {config.pretrain.batch_size} is more than the pool has; "
            f"use at most {images}"
        )


def data_name(config: TrialConfig) -> str:
    """Names a data set and its split by the settings, without a look at the data."""
    return digest_of({"dataset": config.dataset.as_dict(), "data": as_dict(config.data)})


def num_suggested(plan: Plan) -> int:
    """How many configurations a Bayesian search tries: `run_cap`, or all there are."""
    assert plan.run_cap is not None
    if not all(parameter.values for parameter in plan.space.parameters):
        return plan.run_cap
    try:
        assignments = plan.space.grid()
    except ValueError:  # more than could be counted
        return plan.run_cap
    if len(assignments) > MAKE_THE_SAME * plan.run_cap:
        return plan.run_cap
    different: set[str] = set()
    for one in assignments:
        with contextlib.suppress(ConfigError):  # of so many that not all were checked; it will be left out
            different.add(plan.checked(one).configuration)
        if len(different) == plan.run_cap:
            break
    return len(different)


def num_tried(plan: Plan) -> int:
    """How many configurations the first phase tries."""
    return num_suggested(plan) if plan.method == "bayes" else len(plan.candidates)


def fewer_than_asked(plan: Plan, number: int) -> list[str]:
    """Says that a search tries fewer configurations, so many, than `run_cap`, where there are no more."""
    if plan.run_cap is None or number >= plan.run_cap:
        return []
    return [f"there are {number} configurations, fewer than run_cap: {plan.run_cap}; each is tried once"]


def preview(plan: Plan) -> str:
    """The trials of a plan and the stages they share, as text."""
    tasks, tried = plan.first_tasks(), num_tried(plan)
    goals = " and ".join(metric.name for metric in plan.metric)
    judged = f"searched by {goals}" if plan.searches else f"judged by {goals.replace('val/', 'test/')}"
    lines = [f"{plan.name}: {plan.method}, {judged}"]
    times = f"{tried} configurations x {len(plan.seeds)} seeds"
    if plan.method == "bayes":
        lines.append(f"search: {times}, chosen by Optuna's {plan.sampler} as it goes:")
        lines += [f"  {path}: {_range(about)}" for path, about in plan.as_dict()["parameters"].items()]
    else:
        most = f", at most: {plan.block} at a time until resolved" if plan.block else ""
        lines.append(f"{tasks[0].phase}: {times}{most}")
        lines += [f"  {task.trial_id}  {label(task.candidate.parameters)} seed {task.seed}" for task in tasks]
        lines.append(_sharing(tasks))
    lines += fewer_than_asked(plan, tried)
    if plan.bounds:
        batches = plan.bounds[0].bound.batches if plan.bounds[0].bound else 0
        what = f"{len(plan.bounds)} upper bound{'' if len(plan.bounds) == 1 else 's'}"
        lines.append(
            f"headroom: {what} x {len(plan.seeds[: plan.block])} seeds, the best of {batches} batches in each round"
        )
    if plan.confirm:
        read = "test set read" if any(has_labels(one.trial) for one in plan.some_candidates()) else "no test set"
        distinct = f" of distinct {' and '.join(plan.confirm.distinct)}" if plan.confirm.distinct else ""
        configurations = f"{plan.confirm.top} best{distinct} + {len(plan.confirm.references)} references"
        lines.append(f"confirm: {configurations}, each x {len(plan.confirm.seeds)} fresh seeds, {read}")
    return "\n".join(lines)


def _range(about: dict[str, Any]) -> str:
    if "values" in about:
        return f"one of {about['values']}"
    return f"{about['distribution']} from {about['min']} to {about['max']}"


def encoders_of(task: Task) -> dict[str, str]:
    """The encoders that a task pre-trains, by the name of their training; tasks that share one have the same."""
    trials = task.trial.encoders().items()
    keys = {section or "pretrain": pretrain_key(one, task.seed, data_name(one)) for section, one in trials}
    return {training: digest_of(key) for training, key in keys.items() if key["trained"]}


def pretrainings(tasks: Iterable[Task]) -> list[str]:
    """The encoders that all tasks need, as often as they need them."""
    return [encoder for task in tasks for encoder in encoders_of(task).values()]


def _sharing(tasks: list[Task]) -> str:
    keys = pretrainings(tasks)
    shared = len(keys) - len(set(keys))
    labeled = [task.trial.labels for task in tasks if has_labels(task.trial)]
    rounds = sum(len(labels.budgets) + (labels.start != 0) for labels in labeled)
    return (
        f"stages: {len(set(keys))} pre-trainings for {len(keys)} trials that need one ({shared} shared), "
        f"{rounds} classifier trainings"
        + ("" if labeled else ": not a single label, so encoders are compared by how their features lie")
    )
