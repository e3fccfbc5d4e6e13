"""The rounds: select, reveal, train, measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import classify, lars, metrics, models, optimizers, plugins, represent, runtime, seeding
from harness.api import Augmentation, Pool, Selector, SSLMethod
from harness.config import TrialConfig
from harness.data import Data
from harness.models import Encoder, HeadModel, PoolOutputs, RoundModel, TunedModel
from harness.oracle import Oracle
from harness.runtime import Runtime
from harness.schema import as_dict
from harness.seeding import derive, generator
from harness.stages import Stage, StageCache, code_digest, digest_of

Report = Callable[[str, int, Mapping[str, float], Mapping[str, Any]], None]
"""Receives what a trial finds, as it finds it: the step's kind ("epoch" or "labels"), the step (the epoch, or the
number of labels used), metrics by name (`harness.metrics`), and details, JSON values that are not metrics: the
`selected` positions, the `confusion_matrix`."""


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


@dataclass
class Rounds:
    """One trial's rounds, from the start pool to the last training.

    Attributes:
        config: the trial's.
        seed: the trial's.
        data: images, and the labels of the validation and test sets.
        oracle: with its budget set.
        runtime: device and precision.
        encoder: pre-trained.
        encoder_digest: names the encoder in the stages' keys.
        method: the SSL method that holds the encoder.
        views: the augmentation of pre-training.
        stages: the cache.
        costs: added to as time is spent.
        report: called after each round.
    """

    config: TrialConfig
    seed: int
    data: Data
    oracle: Oracle
    runtime: Runtime
    encoder: Encoder
    encoder_digest: str
    method: SSLMethod
    views: Augmentation
    stages: StageCache
    costs: Costs
    report: Report
    curve: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def run(self) -> None:
        """Trains and measures at the start pool (if it has labels) and after each selection."""
        plan, model, model_digest = self.config.labels, None, self.encoder_digest
        labeled = self._start()
        if len(labeled):
            model, model_digest = self._train_and_measure(labeled, {}, None)
        for number in range(1, plan.rounds + 1):
            picks, selection = self._select(labeled, model, model_digest, number)
            labeled = torch.cat([labeled, picks]).sort().values
            model, model_digest = self._train_and_measure(labeled, selection, picks)

    def _start(self) -> Tensor:
        size = self.config.labels.start
        if size == "all":
            return torch.arange(len(self.data.pool))
        if size == 0:
            return torch.empty(0, dtype=torch.int64)
        rng = generator(self.seed, "start_pool")
        return self.oracle.draw_start(size, stratified=self.config.labels.stratified, rng=rng)

    def _key(self) -> dict[str, Any]:
        return {
            "data": self.data.fingerprint,
            "normalize": self.config.data.normalize,
            "seed": self.seed,
            "compute": as_dict(self.config.compute.resolved()),
        }

    # ------------------------------------------------------------ select

    def _select(
        self, labeled: Tensor, model: RoundModel | None, model_digest: str, number: int
    ) -> tuple[Tensor, dict[str, float]]:
        spec, views, budget = self.config.selector, self.config.augmentation, self.config.labels.budget
        code = [cls for plugin in (spec, views, self.config.ssl_method) for cls in plugins.classes(plugin)]
        key = self._key() | {
            "model": model_digest,
            "selector": spec.as_dict(),
            "ssl_method": self.config.ssl_method.as_dict(),  # an untrained encoder's digest does not hold it
            "views": views.as_dict(),
            "labeled": digest_of({"positions": labeled.tolist()}),
            "budget": budget,
            "round": number,
            "code": code_digest(models, represent, runtime, seeding, *code),
        }
        if self.config.classifier.name != "finetune":
            self.encoder.features("pool")  # paid for once per trial, whichever selector reads them first
        stage = self.stages.run("select", key, lambda _: {"picks": self._picks(labeled, model, number)})
        self.costs.select += stage.seconds
        return stage.value["picks"], {"time/select_seconds": stage.seconds, "stage/select_cached": float(stage.cached)}

    def _picks(self, labeled: Tensor, model: RoundModel | None, number: int) -> Tensor:
        unlabeled = torch.ones(len(self.data.pool), dtype=torch.bool)
        unlabeled[labeled] = False
        seed = derive(self.seed, f"select/{number}")
        pool = Pool(
            images=self.data.pool,
            labeled=labeled.clone(),
            unlabeled=unlabeled.nonzero().flatten(),
            labels=self.oracle.reveal(labeled),
            num_classes=self.data.num_classes,
            model=PoolOutputs(self.data.pool, self.encoder, model, self.method, self.views, self.runtime, seed),
        )
        selector: Selector = plugins.build(self.config.selector)
        picks = selector.select(pool, self.config.labels.budget, rng=generator(seed, "selector"))
        return _checked_picks(picks, unlabeled, self.config.labels.budget, self.config.selector.name)

    # ------------------------------------------------------------ train

    def _train_and_measure(
        self, labeled: Tensor, selection: dict[str, float], picks: Tensor | None
    ) -> tuple[RoundModel, str]:
        labels = self.oracle.reveal(labeled)
        model, stage = self._train(labeled, labels)
        self.costs.train += stage.seconds
        results, details = self._measure(model, labeled, labels)
        self.costs.encode = self.encoder.seconds
        results |= selection | {"time/train_seconds": stage.seconds, "stage/train_cached": float(stage.cached)}
        results |= {"labels/used": float(self.oracle.used), "labels/val": float(len(self.data.val_labels))}
        if picks is not None:
            details["selected"] = picks.tolist()
        self.curve.append((self.oracle.used, results))
        self.report("labels", self.oracle.used, results, details)
        return model, stage.digest

    def _train(self, labeled: Tensor, labels: Tensor) -> tuple[RoundModel, Stage]:
        settings = self.config.classifier
        key = self._key() | {
            "encoder": self.encoder_digest,
            "classifier": as_dict(settings),
            "labeled": digest_of({"positions": labeled.tolist()}),
            "code": code_digest(
                *(classify, optimizers, lars, models, represent, runtime, seeding),
                *plugins.classes(settings.augmentation),
            ),
        }
        if settings.name == "finetune":
            return self._finetune(labeled, labels, key)
        inputs = self.encoder.inputs("pool")[labeled]
        num_classes = self.data.num_classes
        stage = self.stages.run("train", key, lambda _: classify.fit(settings, inputs, labels, num_classes, self.seed))
        return HeadModel(self.encoder, classify.predictor(settings, stage.value, inputs, labels, num_classes)), stage

    def _finetune(self, labeled: Tensor, labels: Tensor, key: dict[str, Any]) -> tuple[RoundModel, Stage]:
        settings = self.config.classifier
        network = classify.finetuned_model(self.encoder.backbone, self.data.num_classes, self.runtime, self.seed)
        augmentation = plugins.build(settings.augmentation)
        images = self.data.pool.subset(labeled)
        stage = self.stages.run(
            "train",
            key,
            lambda checkpoint: classify.finetune(
                network, images, labels, augmentation, settings, self.runtime, self.seed, checkpoint
            ),
        )
        network.load_state_dict(stage.value["model"])
        return TunedModel(network, self.runtime, self.encoder.parts), stage

    # ------------------------------------------------------------ measure

    def _measure(self, model: RoundModel, labeled: Tensor, labels: Tensor) -> tuple[dict[str, float], dict[str, Any]]:
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
        seconds = time.perf_counter() - started
        self.costs.evaluate += seconds
        return results | {"time/evaluate_seconds": seconds}, details

    def _logits_of_labeled(self, model: RoundModel, labeled: Tensor) -> Tensor:
        if isinstance(model, TunedModel):
            return self.runtime.forward(model.network, self.data.pool.subset(labeled))
        return model.logits("pool")[labeled]


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


def area_under_curve(curve: list[tuple[int, float]]) -> float:
    """The mean accuracy over the label budget: the trapezoid area under (labels, accuracy), divided by its width.

    In [0, 1]; the accuracy itself where the curve has a single point.
    """
    if len(curve) == 1:
        return curve[0][1]
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(curve))
    return area / (curve[-1][0] - curve[0][0])
