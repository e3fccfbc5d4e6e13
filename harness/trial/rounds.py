"""The rounds: select, reveal, train, measure."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import metrics
from harness.api import Augmentation, Backbone, Companion, Images, Pool, Selector, SSLMethod
from harness.config.schema import as_dict
from harness.config.trial import LabelsConfig, TrialConfig
from harness.data.oracle import Oracle
from harness.data.splits import Data
from harness.files import digest_of
from harness.plugins import registry
from harness.seeding import derive, generator, seeded
from harness.trial import companions, heads, joint
from harness.trial.joint import JointModel
from harness.trial.models import Encoder, HeadModel, PoolOutputs, RoundModel, TunedModel
from harness.trial.pretrain import embedding_std
from harness.trial.runtime import Runtime
from harness.trial.stages import Checkpoint, Stage, StageCache

Report = Callable[[str, int, Mapping[str, float], Mapping[str, Any]], None]
"""Receives what a trial finds, as it finds it: the step's kind ("epoch" or "labels"), the step (the epoch, or the
number of labels used), metrics by name (`harness.metrics`), and details, JSON values that are not metrics: the
`selected` positions, the `class_counts` of all labels bought so far and the `pool_counts` of the pool, the
`confusion_matrix` (on test data where the trial reads them, else on validation data), the names of the `stages` that
hold the round's model; of an epoch, the `training` it belongs to, its number there and how many `epochs` that has."""


REPORTS = 20
"""Epochs of a fine-tuning that are reported, at most: on few labels an epoch takes no longer than its report."""


@dataclass
class Costs:
    """Seconds by purpose; a cached stage counts the seconds it took when it was computed."""

    pretrain: float = 0.0
    encode: float = 0.0
    select: float = 0.0
    train: float = 0.0
    evaluate: float = 0.0
    pretrain_cached: bool = False

    def metrics(self) -> dict[str, float]:
        """As `time/*`, with their total."""
        purposes = ("pretrain", "encode", "select", "train", "evaluate")
        parts = {f"time/{purpose}_seconds": getattr(self, purpose) for purpose in purposes}
        total = {"time/total_seconds": sum(parts.values())}
        return parts | total | {"stage/pretrain_cached": float(self.pretrain_cached)}


@dataclass(frozen=True)
class Trained:
    """The model of a round and the name of the stage that trained it."""

    model: RoundModel
    digest: str


def start_pool(labels: LabelsConfig, seed: int, oracle: Oracle) -> Tensor:
    """i64 [L]: the positions of the start pool, the same for every selector; reveals nothing."""
    if labels.start == "all":
        return torch.arange(len(oracle))
    if labels.start == 0:
        return torch.empty(0, dtype=torch.int64)
    return oracle.draw_start(labels.start, stratified=labels.stratified, rng=generator(seed, "start_pool"))


@dataclass
class Rounds:
    """One trial's rounds, from the start pool to the last training.

    Attributes:
        config: the trial's.
        seed: the trial's.
        data: images, and the labels of the validation and test sets.
        oracle: with its budget set.
        start: i64, positions of the start pool.
        runtime: device and precision.
        encoder: pre-trained, under the first classifier.
        method: the SSL method that holds the encoder.
        views: the augmentation of pre-training.
        stages: the cache.
        costs: added to as time is spent.
        report: called after each epoch of a training of the encoder, and after each round.
        epochs: of training so far, so that every epoch of a trial has a number of its own.
        curve: number of labels and metrics of each round so far.
        bought: i64 positions that were labelled: the start pool, then each round's picks.
        last: the model of the last round.
    """

    config: TrialConfig
    seed: int
    data: Data
    oracle: Oracle
    start: Tensor
    runtime: Runtime
    encoder: Encoder
    method: SSLMethod
    views: Augmentation
    stages: StageCache
    costs: Costs
    report: Report
    epochs: int = 0
    curve: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    bought: list[Tensor] = field(default_factory=list)
    last: Trained | None = None

    def run(self) -> None:
        """Trains and measures at the start pool (if it has labels) and after each selection."""
        labeled, last = self.start, None
        self.bought.append(labeled)
        if len(labeled):
            last = self._train_and_measure(labeled, last, {}, None)
        for number in range(1, self.config.labels.rounds + 1):
            picks, selection = self._select(labeled, last, number)
            labeled = torch.cat([labeled, picks]).sort().values
            self.bought.append(picks)
            last = self._train_and_measure(labeled, last, selection, picks)
        self.last = last

    def _key(self) -> dict[str, Any]:
        return {
            "data": self.data.fingerprint,
            "normalize": self.config.data.normalize,
            "seed": self.seed,
            "compute": as_dict(self.config.compute.resolved()),
        }

    # ------------------------------------------------------------ select

    def _select(self, labeled: Tensor, last: Trained | None, number: int) -> tuple[Tensor, dict[str, float]]:
        spec, views, budget = self.config.selector, self.config.augmentation, self.config.labels.budget
        key = self._key() | {
            "model": last.digest if last else self.encoder.digest,
            "selector": spec.as_dict(),
            "ssl_method": self.config.ssl_method.as_dict(),  # an untrained encoder's digest does not hold it
            "views": views.as_dict(),
            "labeled": digest_of({"positions": labeled.tolist()}),
            "budget": budget,
            "round": number,
        }
        fixed = self.config.classifier.name != "finetune"  # then the encoder's features are needed whatever is shown
        if fixed or (last is None and not spec.hyperparameters.get("pool_subset")):
            self.encoder.features("pool")  # paid for once per trial, whichever selector reads them first
        plugins = registry.sources(spec, views, self.config.ssl_method)
        stage = self.stages.run("select", key, lambda _: {"picks": self._picks(labeled, last, number)}, plugins)
        self.costs.select += stage.seconds
        return stage.value["picks"], {"time/select_seconds": stage.seconds, "stage/select_cached": float(stage.cached)}

    def _picks(self, labeled: Tensor, last: Trained | None, number: int) -> Tensor:
        is_unlabeled, budget = self._is_unlabeled(labeled), self.config.labels.budget
        seed = derive(self.seed, f"select/{number}")
        selector: Selector = registry.build(self.config.selector)
        rows = shown_rows(is_unlabeled, selector.pool_subset, generator(seed, "pool_subset"))
        shown = is_unlabeled if rows is None else is_unlabeled[rows]
        pool = Pool(
            images=self.data.pool if rows is None else self.data.pool.subset(rows),
            labeled=(~shown).nonzero().flatten(),
            unlabeled=shown.nonzero().flatten(),
            labels=self.oracle.reveal(labeled),
            num_classes=self.data.num_classes,
            model=self._outputs(last, seed, rows),
        )
        picks = selector.select(pool, budget, rng=generator(seed, "selector"))
        picks = _checked_picks(picks, shown, budget, self.config.selector.name)
        return picks if rows is None else rows[picks]

    def _is_unlabeled(self, labeled: Tensor) -> Tensor:
        mask = torch.ones(len(self.data.pool), dtype=torch.bool)
        mask[labeled] = False
        return mask

    def _outputs(self, last: Trained | None, seed: int, rows: Tensor | None = None) -> PoolOutputs:
        model = last.model if last else None
        method = model.network.method if model and isinstance(model.network, JointModel) else self.method
        return PoolOutputs(self.data.pool, rows, self.encoder, model, method, self.views, self.runtime, seed)

    # ------------------------------------------------------------ train

    def _train_and_measure(
        self, labeled: Tensor, last: Trained | None, selection: dict[str, float], picks: Tensor | None
    ) -> Trained:
        labels = self.oracle.reveal(labeled)
        trained, stage = self._train(labeled, labels, last)
        self.costs.train += stage.seconds
        results, details = self._measure(trained.model, labeled, labels)
        self.costs.evaluate += results["time/evaluate_seconds"]
        results |= self._joint_metrics(trained.model, stage) | self._measure_beside(trained, labeled, labels)
        self.costs.encode = self.encoder.seconds
        results |= selection | {"time/train_seconds": stage.seconds, "stage/train_cached": float(stage.cached)}
        results |= {"labels/used": float(self.oracle.used), "labels/val": float(len(self.data.val_labels))}
        details["class_counts"] = torch.bincount(labels, minlength=self.data.num_classes).tolist()
        details["pool_counts"] = self.oracle.class_counts.tolist()
        details["stages"] = {
            "pretrain": self.encoder.digest,
            "train": trained.digest,
            "compute": as_dict(self.config.compute.resolved()),
        }
        if picks is not None:
            details["selected"] = picks.tolist()
        self.curve.append((self.oracle.used, results))
        self.report("labels", self.oracle.used, results, details)
        return trained

    def _train(self, labeled: Tensor, labels: Tensor, last: Trained | None) -> tuple[Trained, Stage]:
        """This round's model of the first classifier."""
        if self.config.mode == "joint":
            model, stage = self._train_jointly(labeled, labels, last)
        else:
            model, stage = self._fit(self.encoder, labeled, labels, last)
        return Trained(model, stage.digest), stage

    def _training_key(self, encoder: Encoder, labeled: Tensor, last: Trained | None) -> dict[str, Any]:
        key = self._key() | {
            "encoder": encoder.digest,
            "classifier": encoder.config.as_read(),
            "labeled": digest_of({"positions": labeled.tolist()}),
        }
        if encoder.config.warm_start and last:
            key["warm_start"] = last.digest
        return key

    def _fit(self, encoder: Encoder, labeled: Tensor, labels: Tensor, last: Trained | None) -> tuple[RoundModel, Stage]:
        """The classifier of an encoder: fine-tuned with it, or a fixed head."""
        key, settings = self._training_key(encoder, labeled, last), encoder.config
        if settings.name == "finetune":
            return self._finetune(encoder, labeled, labels, last, key)
        inputs = encoder.inputs("pool")[labeled]
        num_classes = self.data.num_classes
        fit = lambda _: heads.fit(settings, inputs, labels, num_classes, self.seed)  # noqa: E731
        stage = self.stages.run("train", key, fit)
        return HeadModel(encoder, heads.predictor(settings, stage.value, inputs, labels, num_classes)), stage

    def _finetune(
        self, encoder: Encoder, labeled: Tensor, labels: Tensor, last: Trained | None, key: dict[str, Any]
    ) -> tuple[RoundModel, Stage]:
        settings, images = encoder.config, self.data.pool.subset(labeled)
        network = heads.finetuned_model(encoder.backbone, self.data.num_classes, self.runtime, self.seed)
        companion, plugins = self._companion(network.backbone, images, key), registry.sources(settings.augmentation)
        if companion:
            plugins += registry.sources(self.config.selector)
        if settings.warm_start and last:
            assert isinstance(last.model, TunedModel)
            network.load_state_dict(last.model.network.state_dict())
            if companion and last.model.companion:
                companion.load_state_dict(last.model.companion.state_dict())
        augmentation = registry.build(settings.augmentation)
        epochs = None
        if settings is self.config.classifier:  # those beside it would train on the same axis
            epochs = _Epochs(self, "finetune", settings.epochs, every=-(-settings.epochs // REPORTS))
        stage = self.stages.run(
            "train",
            key,
            lambda checkpoint: heads.finetune(
                network,
                images,
                labels,
                augmentation,
                settings,
                self.runtime,
                self.seed,
                checkpoint,
                companion,
                on_epoch=epochs.report if epochs else None,
            ),
            plugins,
        )
        if epochs:
            epochs.finish(stage.value["history"])
        network.load_state_dict(stage.value["model"])
        if companion:
            companion.load_state_dict(stage.value["companion"])
        return TunedModel(network, self.runtime, encoder.parts, companion), stage

    def _companion(self, backbone: Backbone, images: Images, key: dict[str, Any]) -> Companion | None:
        """What the selector has trained beside the classifier, if anything; then it is added to the training's key."""
        spec = self.config.selector
        selector: Selector = registry.build(spec)
        if not self.config.labels.rounds or "companion_outputs" not in selector.reads:
            return None
        key["companion"] = {name: value for name, value in spec.as_dict().items() if name != "pool_subset"}
        return companions.build(selector, backbone, images, self.runtime, self.seed)

    def _train_jointly(self, labeled: Tensor, labels: Tensor, last: Trained | None) -> tuple[RoundModel, Stage]:
        config, key = self.config, self._training_key(self.encoder, labeled, last)
        key |= {
            "joint": as_dict(config.joint),
            "ssl_method": config.ssl_method.as_dict(),
            "views": config.augmentation.as_dict(),
            "last": last.digest if last and config.joint.unlabeled == "lowest_loss" else None,
        }
        with seeded(self.seed, "joint/init"):
            model = JointModel(copy.deepcopy(self.method), self.data.num_classes)
        self.runtime.place(model)
        if config.classifier.warm_start and last:
            model.load_state_dict(last.model.network.state_dict())

        def compute(checkpoint: Checkpoint) -> dict[str, Any]:
            seed = derive(self.seed, f"joint/{len(labeled)}")
            losses = (lambda: self._outputs(last, seed).ssl_loss()) if last else None
            others = joint.unlabeled_positions(
                config.joint,
                self._is_unlabeled(labeled).nonzero().flatten(),
                len(labeled),
                losses,
                generator(seed, "unlabeled"),
            )
            material = joint.Material(
                self.data.pool.subset(labeled),
                labels,
                self.data.pool.subset(others),
                registry.build(config.classifier.augmentation),
                self.views,
            )
            return joint.train(
                model,
                material,
                config.classifier,
                config.joint,
                self.runtime,
                self.seed,
                checkpoint,
                validate=lambda: {"joint/val_accuracy": self._val_accuracy(model)},
                on_epoch=epochs.report,
            )

        epochs = _Epochs(self, "joint", config.classifier.epochs)
        plugins = registry.sources(config.ssl_method, config.augmentation, config.classifier.augmentation)
        stage = self.stages.run("train", key, compute, plugins)
        epochs.finish(joint.epochs_of(stage.value))
        model.load_state_dict(stage.value["model"])
        return TunedModel(model, self.runtime, self.encoder.parts), stage

    def _val_accuracy(self, network: JointModel) -> float:
        predictions = self.runtime.forward(network, self.data.val).argmax(1)
        return float((predictions == self.data.val_labels).double().mean())

    # ------------------------------------------------------------ measure

    def _joint_metrics(self, model: RoundModel, stage: Stage) -> dict[str, float]:
        """The losses of a joint training's last epoch, and whether its features have collapsed."""
        if self.config.mode != "joint":
            return {}
        spread = embedding_std(model.features("val"))
        return stage.value["history"][-1] | {"joint/embedding_std": spread}

    def _measure_beside(self, trained: Trained, labeled: Tensor, labels: Tensor) -> dict[str, float]:
        """What the further classifiers reach on the same labels and the same encoder, as `val/accuracy/knn`."""
        results: dict[str, float] = {}
        encoder = self.encoder
        if isinstance(trained.model.network, JointModel):  # the encoder is this round's
            backbone, parts = trained.model.backbone, encoder.parts
            encoder = Encoder(backbone, trained.digest, self.runtime, parts, encoder.config, self.seed)
        for settings in self.config.beside:
            model, stage = self._fit(encoder.under(settings), labeled, labels, None)
            found, _ = self._measure(model, labeled, labels)
            found["time/train_seconds"] = stage.seconds
            results |= {f"{name}/{settings.name}": value for name, value in found.items()}
        return results

    def _measure(self, model: RoundModel, labeled: Tensor, labels: Tensor) -> tuple[dict[str, float], dict[str, Any]]:
        if isinstance(model, HeadModel):  # what the encoder costs is counted there
            for part in model.encoder.parts:
                model.encoder.inputs(part)
        started = time.perf_counter()
        train_logits = self._logits_of_labeled(model, labeled)
        results = {"train/accuracy": float((train_logits.argmax(1) == labels).float().mean())}
        details: dict[str, Any] = {}
        for split, truth in (("val", self.data.val_labels), ("test", self.data.test_labels)):
            if truth is None:
                continue
            logits = model.logits(split)
            matrix = metrics.confusion_matrix(truth, logits.argmax(1), self.data.num_classes)
            results |= {f"{split}/{name}": value for name, value in metrics.scores(matrix).items()}
            results[f"{split}/loss"] = float(F.cross_entropy(logits, truth))
            details["confusion_matrix"] = {
                "class_names": list(self.data.class_names),
                "matrix": matrix.tolist(),
                "split": split,
            }
        return results | {"time/evaluate_seconds": time.perf_counter() - started}, details

    def _logits_of_labeled(self, model: RoundModel, labeled: Tensor) -> Tensor:
        if isinstance(model, TunedModel):
            return self.runtime.forward(model.network, self.data.pool.subset(labeled))
        return model.logits("pool")[labeled]


class _Epochs:
    """Reports the epochs of one training of a round, also those of a stage that was found and not computed.

    Args:
        rounds: whose training it is; counts the epochs.
        name: of the training, for people.
        total: epochs that it has.
        every: reports each of this many, and the last.
    """

    def __init__(self, rounds: Rounds, name: str, total: int, every: int = 1):
        self._report = rounds.report
        self._before = rounds.epochs
        self._about = {"training": name, "epochs": total}
        self._total = total
        self._every = every
        self._last = 0
        rounds.epochs += total

    def report(self, epoch: int, found: Mapping[str, float]) -> None:
        """One epoch, from 1."""
        self._last = epoch
        if epoch % self._every == 0 or epoch == self._total:
            self._report("epoch", self._before + epoch, found, self._about | {"epoch": epoch})

    def finish(self, history: list[dict[str, float]]) -> None:
        """The epochs that have not been reported yet."""
        for epoch, found in enumerate(history[self._last :], start=self._last + 1):
            self.report(epoch, found)


def shown_rows(is_unlabeled: Tensor, size: int | None, rng: torch.Generator) -> Tensor | None:
    """i64 [n], sorted: the labelled rows of the pool and a uniform draw of `size` others.

    Args:
        is_unlabeled: bool [N].
        size: None for all.
        rng: draws.

    Returns:
        None where every row is shown.
    """
    unlabeled = is_unlabeled.nonzero().flatten()
    if size is None or size >= len(unlabeled):
        return None
    drawn = unlabeled[torch.randperm(len(unlabeled), generator=rng)[:size]]
    return torch.cat([(~is_unlabeled).nonzero().flatten(), drawn]).sort().values


def _checked_picks(picks: Any, unlabeled: Tensor, budget: int, name: str) -> Tensor:
    """A selector's answer, on the CPU; it is checked like any input."""
    if not isinstance(picks, Tensor):
        raise ValueError(f"selector {name!r} returned {type(picks).__name__}, not a tensor int64 [{budget}]")
    if picks.dtype != torch.int64 or picks.shape != (budget,):
        raise ValueError(f"selector {name!r} returned {picks.dtype} {list(picks.shape)}, not int64 [{budget}]")
    picks = picks.cpu()
    if not bool(((picks >= 0) & (picks < len(unlabeled))).all()):
        raise ValueError(f"selector {name!r} returned positions outside 0 .. {len(unlabeled) - 1}")
    if len(picks.unique()) != budget or not bool(unlabeled[picks].all()):
        raise ValueError(f"selector {name!r} returned positions that repeat or are not unlabelled")
    return picks
