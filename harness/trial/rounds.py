"""The rounds: select, reveal, train, measure."""

from __future__ import annotations

import base64
import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness import metrics
from harness.api import UNKNOWN, Backbone, Companion, Images, Selector, SSLMethod
from harness.config.schema import as_dict
from harness.config.trial import ClassifierConfig, LabelsConfig
from harness.data.oracle import Oracle
from harness.files import digest, digest_of
from harness.plugins import registry
from harness.plugins.registry import PluginSpec
from harness.records.details import Details
from harness.records.hits import Hits, pack_hits
from harness.seeding import derive, generator, seeded
from harness.trial import companions, heads, joint
from harness.trial.context import Context
from harness.trial.encoding import Chooser
from harness.trial.epochs import Watch
from harness.trial.joint import JointModel
from harness.trial.measures import embedding_std, sample_rows
from harness.trial.models import Encoder, HeadModel, PoolOutputs, RoundModel, TunedModel
from harness.trial.selection import Bought, choose
from harness.trial.stages import Checkpoint, Stage

REPORTS = 20
"""Epochs of a fine-tuning that are reported, at most: on few labels an epoch takes no longer than its report."""


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
        context: of the trial.
        encoder: pre-trained, under the first classifier.
        method: the SSL method that holds the encoder.
        chooser: another encoder, whose features choose; None where they are this one's.
        teacher: the encoder of a teacher under its head; None where nothing learns from one.
        curve: number of labels and metrics of each round so far.
        bought: i64 positions that were labelled: the start pool, then each round's picks.
        last: the model of the last round.
        hits: metric -> the images that each model so far got right; none where the test set stays closed.
    """

    context: Context
    encoder: Encoder
    method: SSLMethod
    chooser: Chooser | None = None
    teacher: Encoder | None = None
    curve: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    bought: list[Tensor] = field(default_factory=list)
    last: Trained | None = None
    hits: dict[str, Hits] = field(default_factory=dict)

    def run(self) -> None:
        """Trains and measures at the start pool (if it has labels) and after each selection."""
        labeled, last = self.context.start, None
        self.bought.append(labeled)
        if not self.context.data.num_classes:
            self._report_encoder_alone()
            return
        if len(labeled):
            last = self._train_and_measure(labeled, last, {}, None)
        for number in range(1, len(self.context.config.labels.budgets) + 1):
            picks, selection = self._select(labeled, last, number)
            labeled = torch.cat([labeled, picks]).sort().values
            self.bought.append(picks)
            last = self._train_and_measure(labeled, last, selection, picks)
        self.last = last

    def _report_encoder_alone(self) -> None:
        """The one record of rounds where no image has a label: nothing is trained beside the encoder."""
        results = {"labels/used": 0.0, "labels/val": 0.0}
        self.curve.append((0, results))
        self.context.reporter.round(0, results, Details(stages=self._stages(None)))

    def _stages(self, trained: Trained | None) -> dict[str, Any]:
        """The names of the stages that hold a round's model, the machine's choices, and what the encoder is shown."""
        other = {"selection": self.chooser.encoder.digest} if self.chooser else {}
        return {
            "pretrain": self.encoder.digest,
            **other,
            "train": trained.digest if trained else None,
            "compute": as_dict(self.context.config.compute.resolved()),
            "inputs": self.context.inputs.as_dict(),
        }

    def _key(self) -> dict[str, Any]:
        context, config = self.context, self.context.config
        return {
            "data": context.data.fingerprint,
            "normalize": config.data.normalize,
            "seed": context.seed,
            "compute": as_dict(config.compute.resolved()),
        }

    # ------------------------------------------------------------ select

    def _select(self, labeled: Tensor, last: Trained | None, number: int) -> tuple[Tensor, dict[str, float]]:
        spec, seed = self.context.config.selector, self.context.seed
        compute = lambda _: {"picks": self._picks(spec, seed, labeled, last, number)}  # noqa: E731
        about = {"selector": spec.as_dict()}
        stage = self._choosing("select", about, [spec], compute, labeled, last, number)
        return stage.value["picks"], self._cost("select", stage)

    def _choosing(
        self,
        kind: str,
        about: dict[str, Any],
        selectors: Sequence[PluginSpec],
        compute: Callable[[Checkpoint], dict[str, Any]],
        labeled: Tensor,
        last: Trained | None,
        number: int,
    ) -> Stage:
        """A stage that chooses by what is shown in a round; `about` says what is asked, beside what is shown.

        Its seconds are without those of encoding, which are the encoder's.
        """
        context, config = self.context, self.context.config
        key = self._key() | {
            "model": last.digest if last else self.encoder.digest,
            "ssl_method": config.ssl_method.as_dict(),  # an untrained encoder's digest does not hold it
            "views": config.augmentation.as_dict(),
            "labeled": digest_of({"positions": labeled.tolist()}),
            "budget": config.labels.budgets[number - 1],
            "round": number,
        }
        plugins = registry.sources(*selectors, config.augmentation, config.ssl_method)
        if self.chooser and config.selection:
            key["selection"] = self.chooser.key
            plugins += registry.sources(config.selection.ssl_method, config.selection.augmentation)
        self._encode_pool(last)
        cost = self.encoder.cost

        def timed(checkpoint: Checkpoint) -> dict[str, Any]:
            before = cost.seconds
            value = compute(checkpoint)
            return value | {"encode_seconds": cost.seconds - before}

        stage = context.stages.run(kind, key | about, timed, [*plugins, compute])
        encoding = stage.value["encode_seconds"]
        if stage.cached:
            self.encoder.charge_found(encoding)
        return replace(stage, seconds=stage.seconds - encoding)

    def _encode_pool(self, last: Trained | None) -> None:
        """Computes features that are paid for once per trial, whichever selector reads them first."""
        config = self.context.config
        shown = not config.selector.hyperparameters.get("pool_subset")  # else some alone may be computed
        fixed = config.classifier.name != "finetune"  # then the encoder's features are needed whatever is shown
        if (fixed or (last is None and shown and not self.chooser)) and not self.encoder.is_free:
            self.encoder.features("pool")
        if self.chooser and shown:
            self.chooser.encoder.features("pool")

    def _picks(self, spec: PluginSpec, seed: int, labeled: Tensor, last: Trained | None, number: int) -> Tensor:
        """What a selector picks in a round."""
        context, config = self.context, self.context.config
        bought = Bought(labeled, context.oracle.reveal(labeled), context.data.num_classes)
        outputs = lambda seed, rows: self._outputs(last, seed, rows)  # noqa: E731
        settings = {"budget": config.labels.budgets[number - 1], "seed": seed, "number": number}
        return choose(spec, context.data.pool, bought, outputs, **settings).picks

    def _is_unlabeled(self, labeled: Tensor) -> Tensor:
        mask = torch.ones(len(self.context.data.pool), dtype=torch.bool)
        mask[labeled] = False
        return mask

    def _outputs(self, last: Trained | None, seed: int, rows: Tensor | None) -> PoolOutputs:
        """What a selector is shown."""
        return self._outputs_of(last, seed, rows, self.chooser.outputs(seed, rows) if self.chooser else None)

    def _outputs_of(
        self, last: Trained | None, seed: int, rows: Tensor | None = None, chooser: PoolOutputs | None = None
    ) -> PoolOutputs:
        model = last.model if last else None
        method = model.network.method if model and isinstance(model.network, JointModel) else self.method
        return PoolOutputs(self.encoder, model, method, self.context.views, seed, rows, chooser)

    # ------------------------------------------------------------ train

    def _train_and_measure(
        self, labeled: Tensor, last: Trained | None, selection: dict[str, float], picks: Tensor | None
    ) -> Trained:
        context = self.context
        labels = context.oracle.reveal(labeled)
        trained, stage = self._train(labeled, labels, last)
        results, matrix, right = self._measure(trained.model, context.config.classifier, labeled, labels)
        context.costs.add("evaluate", results["time/round_evaluate_seconds"])
        results |= self._joint_metrics(trained.model, stage) | self._measure_beside(trained, labeled, labels, right)
        results |= selection | self._cost("train", stage)
        results |= {
            "labels/used": float(context.oracle.used),
            "labels/val": float(len(context.data.val_labels)),
        }
        details = Details(
            selected=None if picks is None else picks.tolist(),
            picks=None if picks is None else self._told(picks),
            class_counts=torch.bincount(labels, minlength=context.data.num_classes).tolist(),
            pool_counts=context.oracle.class_counts.tolist(),
            confusion_matrix=matrix or None,
            hits=self._hits(right),
            stages=self._stages(trained),
        )
        self.curve.append((context.oracle.used, results))
        context.reporter.round(context.oracle.used, results, details)
        return trained

    def _told(self, picks: Tensor) -> list[tuple[int, str, str]] | None:
        """Position, file and class of each pick; None where the images have no names."""
        data = self.context.data
        names = data.named("pool", picks)
        classes = [data.class_names[label] for label in self.context.oracle.reveal(picks).tolist()]
        return list(zip(picks.tolist(), names, classes, strict=True)) if names else None

    def _cost(self, purpose: str, stage: Stage) -> dict[str, float]:
        """What a stage of a round cost, counted and as metrics of the round."""
        self.context.costs.add(purpose, stage.seconds, cached=stage.cached)
        return {f"time/round_{purpose}_seconds": stage.seconds, f"stage/{purpose}_cached": float(stage.cached)}

    def _train(self, labeled: Tensor, labels: Tensor, last: Trained | None) -> tuple[Trained, Stage]:
        """This round's model of the first classifier."""
        if self.context.config.mode == "joint":
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
        context = self.context
        key, settings = self._training_key(encoder, labeled, last), encoder.config
        if settings.name == "finetune":
            return self._finetune(encoder, labeled, labels, last, key)
        inputs = encoder.inputs("pool", labeled)
        num_classes = context.data.num_classes
        fit = lambda _: heads.fit(settings, inputs, labels, num_classes, context.seed)  # noqa: E731
        stage = context.stages.run("train", key, fit)
        return HeadModel(encoder, heads.predictor(settings, stage.value, inputs, labels, num_classes)), stage

    def _finetune(
        self, encoder: Encoder, labeled: Tensor, labels: Tensor, last: Trained | None, key: dict[str, Any]
    ) -> tuple[RoundModel, Stage]:
        context, config = self.context, self.context.config
        settings, images = encoder.config, context.data.pool.subset(labeled)
        fixed = settings.backbone_lr == 0
        network = heads.finetuned_model(
            encoder.backbone, context.data.num_classes, encoder.runtime, context.seed, fixed=fixed
        )
        companion, plugins = self._companion(network.backbone, images, key), registry.sources(settings.augmentation)
        if companion:
            plugins += registry.sources(config.selector)
        if settings.warm_start and last:
            assert isinstance(last.model, TunedModel)
            network.load_state_dict(last.model.network.state_dict())
            if companion and last.model.companion:
                companion.load_state_dict(last.model.companion.state_dict())
        view = registry.build(settings.augmentation)
        kept = fixed and not view.draws and companion is None
        known = encoder.features_of_views(labeled) if kept else None
        examples = heads.Labeled(images, labels, view, known)
        report = None
        if settings is config.classifier:  # those beside it would train on the same axis
            every = -(-settings.epochs // REPORTS)
            report = context.reporter.training("finetune", settings.epochs, every)

        def compute(checkpoint: Checkpoint) -> dict[str, Any]:
            watch = Watch(checkpoint, report.epoch) if report else Watch(checkpoint)
            return heads.finetune(network, examples, settings, encoder.runtime, context.seed, watch, companion)

        stage = context.stages.run("train", key, compute, plugins)
        if report:
            report.rest(stage.value["history"])
        network.load_state_dict(stage.value["model"])
        if companion:
            companion.load_state_dict(stage.value["companion"])
        return TunedModel(network, encoder.runtime, encoder.parts, companion), stage

    def _companion(self, backbone: Backbone, images: Images, key: dict[str, Any]) -> Companion | None:
        """What the selector has trained beside the classifier, if anything; then it is added to the training's key."""
        context, config = self.context, self.context.config
        spec = config.selector
        selector: Selector = registry.build(spec)
        if not config.labels.budgets or "companion_outputs" not in selector.reads:
            return None
        shown = registry.shared(type(selector))  # what is shown to the selector changes nothing of its companion
        key["companion"] = {name: value for name, value in spec.as_dict().items() if name not in shown}
        return companions.build_companion(selector, backbone, images, context.runtime, context.seed)

    def _train_jointly(self, labeled: Tensor, labels: Tensor, last: Trained | None) -> tuple[RoundModel, Stage]:
        context = self.context
        config, key = context.config, self._training_key(self.encoder, labeled, last)
        key |= {
            "joint": as_dict(config.joint),
            "ssl_method": config.ssl_method.as_dict(),
            "views": config.augmentation.as_dict(),
            "last": last.digest if last and config.joint.unlabeled == "lowest_loss" else None,
        }
        taught = self._taught(labeled, labels)
        if taught:
            key["teacher"] = taught.digest
        with seeded(context.seed, "joint/init"):
            model = JointModel(copy.deepcopy(self.method), context.data.num_classes)
        context.runtime.place(model)
        if config.classifier.warm_start and last:
            model.load_state_dict(last.model.network.state_dict())

        def compute(checkpoint: Checkpoint) -> dict[str, Any]:
            seed = derive(context.seed, f"joint/{len(labeled)}")
            losses = (lambda: self._outputs_of(last, seed).ssl_loss(config.joint.loss_draws)) if last else None
            others = joint.unlabeled_positions(
                config.joint,
                self._is_unlabeled(labeled).nonzero().flatten(),
                len(labeled),
                losses,
                generator(seed, "unlabeled"),
            )
            material = self._material(labeled, labels, others, taught)
            watch = Watch(checkpoint, report.epoch, lambda: self._val_accuracy(model))
            return joint.train(model, material, config.classifier, config.joint, context.runtime, context.seed, watch)

        report = context.reporter.training("joint", config.classifier.epochs)
        plugins = registry.sources(config.ssl_method, config.augmentation, config.classifier.augmentation)
        stage = context.stages.run("train", key, compute, plugins)
        report.rest(stage.value["history"])
        model.load_state_dict(stage.value["model"])
        return TunedModel(model, context.runtime, self.encoder.parts), stage

    def _taught(self, labeled: Tensor, labels: Tensor) -> Trained | None:
        """The teacher with its head of this round, if there is one."""
        if self.teacher is None:
            return None
        model, stage = self._fit(self.teacher, labeled, labels, None)
        self.context.costs.add("teacher", stage.seconds, cached=stage.cached)
        return Trained(model, stage.digest)

    def _material(
        self, labeled: Tensor, labels: Tensor, others: Tensor, taught: Trained | None
    ) -> joint.Material | joint.Lesson:
        """What a joint training learns from: the images that were labelled, others, and what a teacher says of both."""
        context, pool = self.context, self.context.data.pool
        if taught is None:
            augmentation = registry.build(context.config.classifier.augmentation)
            examples = heads.Labeled(pool.subset(labeled), labels, augmentation)
            return joint.Material(examples, pool.subset(others), context.views)
        rows = torch.cat([labeled, others])
        known = torch.cat([labels, torch.full((len(others),), UNKNOWN)])
        return joint.Lesson(pool.subset(rows), taught.model.logits("pool")[rows], known, context.views)

    def _val_accuracy(self, network: JointModel) -> dict[str, float]:
        context = self.context
        predictions = context.runtime.forward(network, context.data.val).argmax(1)
        accuracy = (predictions == context.data.val_labels).double().mean()
        return {"joint/val_accuracy": float(accuracy)}

    # ------------------------------------------------------------ measure

    def _joint_metrics(self, model: RoundModel, stage: Stage) -> dict[str, float]:
        """The losses of a joint training's last epoch, and whether its features have collapsed."""
        if self.context.config.mode != "joint":
            return {}
        spread = embedding_std(model.features("pool", sample_rows(len(self.context.data.pool))))
        last = stage.value["history"][-1].items()
        losses = {name: value for name, value in last if metrics.step_kind(name) == "labels"}
        return losses | {"joint/embedding_std": spread}

    def _measure_beside(
        self, trained: Trained, labeled: Tensor, labels: Tensor, right: dict[str, Tensor]
    ) -> dict[str, float]:
        """What the further classifiers reach on the same labels and the same encoder, as `val/accuracy/knn`.

        Their hits are added to `right` under such names, too.
        """
        context = self.context
        results: dict[str, float] = {}
        encoder = self.encoder
        if isinstance(trained.model.network, JointModel):  # the encoder is this round's
            backbone, parts = trained.model.backbone, encoder.parts
            encoder = Encoder(backbone, trained.digest, context.runtime, parts, encoder.config, context.seed)
        for settings in context.config.beside:
            model, stage = self._fit(encoder.under(settings), labeled, labels, None)
            measured, _, hits = self._measure(model, settings, labeled, labels)
            measured["time/round_train_seconds"] = stage.seconds
            whole = {name: value for name, value in measured.items() if not metrics.is_of_class(name)}
            results |= {f"{name}/{settings.name}": value for name, value in whole.items()}
            right |= {f"{name}/{settings.name}": value for name, value in hits.items()}
        return results

    def _measure(
        self, model: RoundModel, settings: ClassifierConfig, labeled: Tensor, labels: Tensor
    ) -> tuple[dict[str, float], dict[str, Any], dict[str, Tensor]]:
        """Measures a model.

        Returns:
            The metrics; the confusion matrix on the test or, where that stays closed, the validation images; and by the
            name of the accuracy bool [m], which images it got right.
        """
        context = self.context
        if isinstance(model, HeadModel) and not model.encoder.is_free:  # what the encoder costs is counted there
            for part in model.encoder.parts:
                model.encoder.inputs(part)
        started = time.perf_counter()
        train_logits = self._logits_of_labeled(model, labeled)
        results = {"train/accuracy": float((train_logits.argmax(1) == labels).float().mean())}
        confusion: dict[str, Any] = {}
        right: dict[str, Tensor] = {}
        for split, truth in (("val", context.data.val_labels), ("test", context.data.test_labels)):
            if truth is None or not len(truth):
                continue
            logits = model.logits(split)
            right[f"{split}/accuracy"] = logits.argmax(1) == truth
            matrix = metrics.confusion_matrix(truth, logits.argmax(1), context.data.num_classes)
            results |= {f"{split}/{name}": value for name, value in metrics.scores(matrix).items()}
            results |= {f"{split}/{n}": v for n, v in metrics.recalls(matrix, context.data.class_names).items()}
            if settings.gives_probabilities:
                results[f"{split}/loss"] = float(F.cross_entropy(logits, truth))
                results[f"{split}/ece"] = metrics.calibration_error(logits.softmax(1), truth)
            confusion = {"class_names": list(context.data.class_names), "matrix": matrix.tolist(), "split": split}
        return results | {"time/round_evaluate_seconds": time.perf_counter() - started}, confusion, right

    def _hits(self, right: dict[str, Tensor]) -> str | None:
        """The file of the hits of all rounds up to this one; None where the test set stays closed."""
        data = self.context.data
        if data.test is None or data.test_labels is None:
            return None
        parts = {"val": (data.val, data.val_labels), "test": (data.test, data.test_labels)}
        for name, one in right.items():
            part = name.partition("/")[0]
            rows, order = data.places[part][2].sort()
            if name not in self.hits:
                images, labels = parts[part]
                self.hits[name] = Hits(_images_id(rows, labels[order], images.subset(order)), len(one), {})
            self.hits[name].bits[self.context.oracle.used] = np.packbits(one[order].numpy())
        return base64.b64encode(pack_hits(self.hits)).decode()

    def _logits_of_labeled(self, model: RoundModel, labeled: Tensor) -> Tensor:
        if isinstance(model, TunedModel):
            return self.context.runtime.forward(model.network, self.context.data.pool.subset(labeled))
        return model.logits("pool", labeled)


def _images_id(rows: Tensor, labels: Tensor, images: Images) -> str:
    """Names a set of images, whatever order a split has them in: by all rows and labels, and by some of the images.

    Splits of one data set differ by rows; data sets, which may have equal labels, by the images.
    """
    some = images[torch.linspace(0, len(images) - 1, min(len(images), 16)).long()].cpu()
    return digest(rows.numpy().tobytes() + labels.numpy().tobytes() + some.numpy().tobytes())
