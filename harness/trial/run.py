"""One configuration and one seed become records."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from harness.api import SemiSupervisedMethod, SSLMethod
from harness.config.tasks import MAPPED, Bound
from harness.config.trial import TrialConfig
from harness.data import splits
from harness.data.decode import Prepared, prepare
from harness.data.oracle import Oracle
from harness.messages import printable
from harness.metrics import area_under_curve
from harness.plugins import registry
from harness.trial import portray
from harness.trial.context import Context, Costs
from harness.trial.encoding import chooser_of, encoder_of, teacher_of
from harness.trial.epochs import Listener, Reporter
from harness.trial.headroom import BestOfMany
from harness.trial.lengths import settled
from harness.trial.memory import PeakMemory
from harness.trial.pretraining import build_method, encoder_inputs, label_free_scores, pretrained, pretrains
from harness.trial.ridge import KERNEL_LIMIT
from harness.trial.rounds import Rounds, start_pool
from harness.trial.runtime import runtime_of
from harness.trial.sizes import check_sizes
from harness.trial.stages import StageCache, machine


@dataclass(frozen=True)
class Folders:
    """Where a trial finds and leaves files.

    Attributes:
        cache: decoded data sets.
        stages: results of stages.
    """

    cache: Path
    stages: Path


def run(
    config: TrialConfig,
    seed: int,
    folders: Folders,
    listener: Listener,
    *,
    with_test: bool,
    deliver: portray.Deliver | None = None,
    mapped: int = MAPPED,
    bound: Bound | None = None,
) -> dict[str, float]:
    """Runs one trial.

    Args:
        config: what to do.
        seed: all randomness of the trial comes from it.
        folders: caches.
        listener: hears a record after each epoch of training the encoder and after each round.
        with_test: whether the test set is read, once for each round's model.
        deliver: receives a portrait of the encoder at the end, of `mapped` images at most; None: none is made.
        bound: of an upper bound of what selectors gain; the trial's own selector is then not asked.

    Returns:
        The totals of the trial: labels, times, memory and the last round's accuracies.
    """
    started, memory = time.perf_counter(), PeakMemory()
    data, oracle = load_data(config, folders.cache, with_test=with_test)
    config = settled(config, data)
    oracle.with_budget(label_budget(config, len(oracle)))
    check_sizes(config, data)
    inputs = encoder_inputs(config, data)
    if inputs.shape != data.image_shape or inputs.normalized_by not in ("data", "nothing"):
        print(printable(f"backbone {config.backbone.name} is shown {inputs}"), file=sys.stderr)
    runtime = runtime_of(config.compute, inputs)
    context = Context(
        config=config,
        seed=seed,
        data=data,
        oracle=oracle,
        start=start_pool(config.labels, seed, oracle),
        inputs=inputs,
        runtime=runtime,
        views=registry.build(config.augmentation),
        stages=StageCache(folders.stages, machine(runtime.device.type)),
        costs=Costs(),
        reporter=Reporter(listener),
    )
    method = build_method(config, data, seed, runtime)
    stage = pretrained(context, method)
    context.costs.add("pretrain", stage.seconds, cached=stage.cached)
    rounds = _rounds(context, method.eval(), stage.digest, bound)
    rounds.run()
    totals = _totals(rounds) | label_free_scores(context, method, stage) | _costs(rounds)
    totals |= {"stage/pretrain_cached": float(stage.cached)}
    totals |= {"time/wall_seconds": time.perf_counter() - started, "memory/peak_bytes": memory.peak(runtime.device)}
    if deliver:
        uses_views = method.num_views > 0 and (config.mode == "joint" or pretrains(config))
        totals["time/portrait_seconds"] = portray.portray(rounds, uses_views, deliver, mapped)
    return totals


def _rounds(context: Context, method: SSLMethod, digest: str, bound: Bound | None) -> Rounds:
    """What selects, trains and measures on the encoder that a method has pre-trained."""
    encoder = encoder_of(context, method.backbone, digest)
    chooser, teacher = chooser_of(context), teacher_of(context)
    if bound:
        return BestOfMany(context, encoder, method, chooser, teacher, bound=bound)
    return Rounds(context, encoder, method, chooser, teacher)


def _costs(rounds: Rounds) -> dict[str, float]:
    """All that the trial cost, its encoders' features included."""
    costs, chooser = rounds.context.costs, rounds.chooser
    encoders = {"encode": rounds.encoder} | ({"selection_encoder": chooser.encoder} if chooser else {})
    encoders |= {"teacher": rounds.teacher} if rounds.teacher else {}
    for purpose, one in encoders.items():
        costs.add(purpose, one.cost.seconds)
        costs.add(purpose, one.cost.saved_seconds + one.cost.found_seconds, cached=True)
    cached = {"stage/selection_encoder_cached": float(chooser.cached)} if chooser else {}
    return costs.metrics() | cached


def decoded(config: TrialConfig, cache: Path, *, verify: bool = False) -> Prepared:
    """The trial's data set, decoded on first use; `verify` as in `decode.prepare`."""
    return prepare(
        registry.build(config.dataset),
        config.dataset.name,
        cache,
        settings=config.dataset.as_dict(),
        verify=verify,
        skip_broken=config.data.on_broken == "skip",
    )


def load_data(config: TrialConfig, cache: Path, *, with_test: bool) -> tuple[splits.Data, Oracle]:
    """The trial's images and the oracle of its pool, decoded on first use."""
    return divided(config, decoded(config, cache), with_test=with_test)


def divided(config: TrialConfig, prepared: Prepared, *, with_test: bool) -> tuple[splits.Data, Oracle]:
    """The same, of the trial's data set when it is decoded."""
    device = config.compute.resolved().device
    return splits.divide(prepared, config.dataset.name, config.data, with_test=with_test, device=device)


def label_budget(config: TrialConfig, pool_size: int) -> int:
    """How many labels the whole trial may see, of a pool with as many labels as `pool_size`.

    Raises:
        ValueError: more than the pool has, or than a classifier can learn from, or all of it where some must stay
            unlabelled.
    """
    labels = config.labels
    total = pool_size if labels.total is None else labels.total
    heads = (config.classifier, *config.beside, *((config.teacher.classifier,) if config.teacher else ()))
    if total > KERNEL_LIMIT and "kernel_ridge" in [head.name for head in heads]:
        raise ValueError(f"classifier: kernel_ridge takes at most {KERNEL_LIMIT} labels, not {total}; use ridge")
    if labels.total is None:
        return total
    if total == pool_size and issubclass(
        registry.find_plugin("ssl_methods", config.ssl_method.name), SemiSupervisedMethod
    ):
        raise ValueError(
            f"labels: {total} of {pool_size} images leave {config.ssl_method.name} no unlabelled one; "
            f"use at most {pool_size - 1}"
        )
    if total > pool_size:
        raise ValueError(
            f"labels: start {labels.start} + {len(labels.budgets)} rounds with a budget of {labels.budget} = {total} "
            f"labels, but the pool has {pool_size}; use at most {pool_size}"
        )
    return total


def _totals(rounds: Rounds) -> dict[str, float]:
    """The last round's metrics, and the area under each accuracy curve where there are several rounds."""
    _, last = rounds.curve[-1]
    totals = {name: value for name, value in last.items() if not name.startswith(("time/", "stage/"))}
    if len(rounds.curve) > 1:
        for split in ("val", "test"):
            if f"{split}/accuracy" in last:
                points = [(labels, metrics[f"{split}/accuracy"]) for labels, metrics in rounds.curve]
                totals[f"{split}/aubc"] = area_under_curve(points)
    return totals
