"""The trained models of a round, and what they say of each part of the data.

An `Encoder` is fixed after pre-training, so what it says of a part is computed once per trial. A round's model is
a fixed head on it or a fine-tuned copy of it. `PoolOutputs` is the window through which a selector sees them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from harness.api import Augmentation, Backbone, Companion, Images, SSLMethod
from harness.config.trial import ClassifierConfig
from harness.seeding import derive, generator, seeded
from harness.trial import represent
from harness.trial.batches import even_batches
from harness.trial.companions import Accompanied
from harness.trial.dropout import dropped
from harness.trial.features import KeptFeatures
from harness.trial.heads import FinetunedModel, Predictor
from harness.trial.joint import JointModel
from harness.trial.runtime import EVALUATION_BATCH, Runtime

DROPPED = 512
"""Images whose features pass through dropout and a head at a time: so many stay in a processor's cache."""

PREDICTED = 4096
"""Images whose features are read at a time, where these are read anew each time."""


@dataclass
class EncodingCost:
    """What an encoder's features and representations cost a trial, whichever head or selector asks for them.

    Attributes:
        seconds: spent so far.
        saved_seconds: that features took which another trial computed.
        found_seconds: that the pool's features took in a stage from the cache; 0 where this trial computed them itself.
    """

    seconds: float = 0.0
    saved_seconds: float = 0.0
    found_seconds: float = 0.0


class Encoder:
    """A pre-trained encoder and the representation that its classifier reads.

    Args:
        backbone: not trained any more.
        digest: names the encoder in the stages' keys.
        runtime: device and precision.
        parts: `pool`, `val` and perhaps `test` images.
        config: of the classifier; says which representation.
        seed: of the trial.
        pretrained: whether an SSL method or who gave its weights trained it, and no round trains it further.
        kept: features of the parts that are kept on disk, if any are.

    Attributes:
        cost: shared with this encoder `under` other classifiers and `of_pool`.
        is_free: whether features cost nothing but to read them, as those of a data set of features.
    """

    def __init__(
        self,
        backbone: Backbone,
        digest: str,
        runtime: Runtime,
        parts: Mapping[str, Images],
        config: ClassifierConfig,
        seed: int,
        pretrained: bool = True,
        kept: KeptFeatures | None = None,
    ):
        self.backbone = backbone
        self.digest = digest
        self.runtime = runtime
        self.parts = parts
        self.config = config
        self.seed = seed
        self.pretrained = pretrained
        self.cost = EncodingCost()
        self.is_free = not any(True for _ in backbone.parameters())
        self._kept = kept
        self._views: dict[int, Tensor] = {}
        self._features: dict[str, Tensor] = {}
        self._pool_features: dict[str, Tensor] = {}
        self._inputs: dict[str, Tensor] = {}
        self._map: represent.Mapper | None = None

    def under(self, config: ClassifierConfig) -> Encoder:
        """This encoder for another classifier, which may read another representation; features are shared."""
        other = Encoder(self.backbone, self.digest, self.runtime, self.parts, config, self.seed, self.pretrained)
        other._features, other._pool_features, other._kept = self._features, self._pool_features, self._kept
        other.cost = self.cost
        return other

    def of_pool(self) -> Encoder:
        """This encoder and what is known of the pool, for a selector: of other images neither pixels nor features.

        Features of the pool that either of the two computes, the other knows.
        """
        pool = {"pool": self.parts["pool"]}
        other = Encoder(self.backbone, self.digest, self.runtime, pool, self.config, self.seed, self.pretrained)
        other._pool_features, other.cost = self._pool_features, self.cost
        other._inputs = {part: values for part, values in self._inputs.items() if part in pool}
        other._map = self._map
        return other

    def features(self, part: str, rows: Tensor | None = None) -> Tensor:
        """f32 [N, D] on the CPU, or [n, D] of i64 [n] rows: where nothing is known yet, these alone are computed.

        What costs nothing is read anew each time and not kept: it may be larger than memory.

        Raises:
            ValueError: some are NaN or infinite.
        """
        known = self._pool_features if part == "pool" else self._features
        if part in known:
            return known[part] if rows is None else known[part][rows]
        started, saved = time.perf_counter(), 0.0
        if self._kept is not None and not self.is_free:
            features, saved = self._kept(part, rows)
        else:
            images = self.parts[part] if rows is None else self.parts[part].subset(rows)
            features = self.runtime.forward(self.backbone, images)
        self._check_finite(features, part)
        if rows is None and not self.is_free:
            known[part] = features
            self.cost.seconds += time.perf_counter() - started
            self.cost.saved_seconds += saved
            if part == "pool":
                self.cost.found_seconds = 0.0
        return features

    def _check_finite(self, features: Tensor, part: str) -> None:
        if not features.sum(dtype=torch.float64).isfinite():  # which holds no second tensor of that size
            count, name = int((~features.isfinite().all(1)).sum()), type(self.backbone).__name__
            raise ValueError(
                f"{name} makes NaN or infinite features of {count} of {len(features)} {part} images; change its "
                "weights, its settings or compute.precision"
            )

    def charge_found(self, seconds: float) -> None:
        """Counts what features took in a stage from the cache, which this trial has not computed."""
        if "pool" not in self._pool_features:
            self.cost.found_seconds = max(self.cost.found_seconds, seconds)

    @cached_property
    def _kept_views(self) -> KeptFeatures | None:
        return self._kept.under(self.config.augmentation) if self._kept is not None else None

    def features_of_views(self, rows: Tensor) -> Tensor | None:
        """f32 [n, D] of i64 [n] rows of the pool as its classifier sees them, by an augmentation that draws nothing.

        None where none are kept.
        """
        if self._kept_views is None:
            return None
        new = torch.tensor([row for row in rows.tolist() if row not in self._views], dtype=torch.int64)
        started = time.perf_counter()
        features, saved = self._kept_views("pool", new)
        self.cost.seconds += time.perf_counter() - started
        self.cost.saved_seconds += saved
        self._views |= dict(zip(new.tolist(), features, strict=True))
        return torch.stack([self._views[row] for row in rows.tolist()])

    def inputs(self, part: str, rows: Tensor | None = None) -> Tensor:
        """f32 [N, E]: the representation of the images of a part, or f32 [n, E] of i64 [n] rows of it."""
        if self.is_free and self.config.representation == "features":
            return self.features(part, rows)
        if rows is not None:
            return self.inputs(part)[rows]
        if part not in self._inputs:
            source = represent.pixels(self.parts[part]) if self._reads_pixels else self.features(part)
            started = time.perf_counter()
            self._inputs[part] = self._fit(source) if part == "pool" else self.represent(source)
            self.cost.seconds += time.perf_counter() - started
        return self._inputs[part]

    def represent(self, source: Tensor) -> Tensor:
        """The representation f32 [n, E] of features f32 [n, D], or of pixels f32 [n, CHW] for `raw`."""
        if self.config.representation in ("pca", "tsne"):
            self.inputs("pool")
            assert self._map is not None
            return self._map(source)
        return source

    def input_of(self, images: Tensor) -> Tensor:
        """The representation f32 [B, E] of images f32 [B, C, H, W] in [0, 1]."""
        if self._reads_pixels:
            return self.represent(images.flatten(1).cpu())
        with self.runtime.autocast():
            return self.represent(self.backbone(self.runtime.inputs(images)).float().cpu())

    @property
    def _reads_pixels(self) -> bool:
        return self.config.representation == "raw"

    def _fit(self, pool: Tensor) -> Tensor:
        seed = derive(self.seed, "representation")
        if self.config.representation == "pca":
            self._map = represent.fit_pca(pool, self.config.dims, seed)
            return self._map(pool)
        if self.config.representation == "tsne":
            mapped, self._map = represent.fit_tsne(pool, self.config.dims, seed)
            return mapped
        return pool


class HeadModel:
    """A fixed head on an encoder."""

    def __init__(self, encoder: Encoder, predict: Predictor):
        self.encoder = encoder
        self.network: nn.Module = encoder.backbone
        self.backbone = encoder.backbone
        self._predict = predict

    def of_pool(self) -> HeadModel:
        """This model, see `Encoder.of_pool`."""
        return HeadModel(self.encoder.of_pool(), self._predict)

    def features(self, part: str, rows: Tensor | None = None) -> Tensor:
        """f32 [N, D], or [n, D] of i64 [n] rows."""
        return self.encoder.features(part, rows)

    def logits(self, part: str, rows: Tensor | None = None) -> Tensor:
        """f32 [N, K], or [n, K] of i64 [n] rows."""
        if not self.encoder.is_free:
            return self._predict(self.encoder.inputs(part, rows))
        rows = torch.arange(len(self.encoder.parts[part])) if rows is None else rows
        return torch.cat([self._predict(self.encoder.inputs(part, some)) for some in rows.split(PREDICTED)])

    def penultimate(self, part: str, rows: Tensor | None = None) -> Tensor:
        """f32 [N, D'], or [n, D'] of i64 [n] rows: what the head's last layer reads."""
        return self._predict.penultimate(self.encoder.inputs(part, rows))

    def last_layer(self, penultimate: Tensor) -> Tensor:
        """f32 [n, K] of f32 [n, D']."""
        return self._predict.last(penultimate)

    def logits_of(self, images: Tensor) -> Tensor:
        """f32 [B, K] of images f32 [B, C, H, W] in [0, 1]."""
        return self._predict(self.encoder.input_of(images))

    def logits_from(self, features: Tensor) -> Tensor:
        """f32 [n, K] of features f32 [n, D]."""
        return self._predict(self.encoder.represent(features))


class TunedModel:
    """An encoder trained together with its classifier: a fine-tuned copy, or a joint training's.

    Args:
        network: encoder and classifier.
        runtime: device and precision.
        parts: `pool`, `val` and perhaps `test` images.
        companion: that was trained beside them, if any.
    """

    def __init__(
        self,
        network: FinetunedModel | JointModel,
        runtime: Runtime,
        parts: Mapping[str, Images],
        companion: Companion | None = None,
    ):
        self.network = network
        self.backbone = network.backbone
        self.companion = companion
        self._runtime = runtime
        self._parts = parts

    def of_pool(self) -> TunedModel:
        """This model without images other than the pool's, for a selector."""
        return TunedModel(self.network, self._runtime, {"pool": self._parts["pool"]}, self.companion)

    def features(self, part: str, rows: Tensor | None = None) -> Tensor:
        """f32 [N, D], or [n, D] of i64 [n] rows."""
        return self._runtime.forward(self.backbone, self._images(part, rows))

    def logits(self, part: str, rows: Tensor | None = None) -> Tensor:
        """f32 [N, K], or [n, K] of i64 [n] rows."""
        return self._runtime.forward(self.network, self._images(part, rows))

    def logits_of(self, images: Tensor) -> Tensor:
        """f32 [B, K] of images f32 [B, C, H, W] in [0, 1]."""
        with self._runtime.autocast():
            return self.network(self._runtime.inputs(images)).float().cpu()

    penultimate = features

    def last_layer(self, penultimate: Tensor) -> Tensor:
        """f32 [n, K] of features f32 [n, D]."""
        return self.network.head(penultimate.to(self._runtime.device)).cpu()

    logits_from = last_layer

    def _images(self, part: str, rows: Tensor | None) -> Images:
        return self._parts[part] if rows is None else self._parts[part].subset(rows)


RoundModel = HeadModel | TunedModel


class PoolOutputs:
    """The lazy parts of a `Pool`: what the current model and the SSL method say of the pool's images.

    It holds networks and the pool's images, and no labels, and nothing of validation and test images.

    Args:
        encoder: gives the features; of its `pool` the selector is shown images.
        model: of the last round; None before the first.
        method: the SSL method, for `ssl_loss`.
        views: the augmentation of pre-training; also of `augmented_logits`.
        seed: of the trial and round.
        rows: i64 [N], the rows of the pool that are shown; all of them if None.
        chooser: what another encoder says of them, whose features and SSL loss stand in the place of these.
    """

    def __init__(
        self,
        encoder: Encoder,
        model: RoundModel | None,
        method: SSLMethod,
        views: Augmentation,
        seed: int,
        rows: Tensor | None = None,
        chooser: PoolOutputs | None = None,
    ):
        pool = encoder.parts["pool"]
        self._images = pool if rows is None else pool.subset(rows)
        self._rows = rows
        self._encoder = encoder.of_pool()
        self._model = model.of_pool() if model else None
        self._method = method
        self._views = views
        self._runtime = encoder.runtime
        self._seed = seed
        self._chooser = chooser

    def _trained(self) -> RoundModel:
        if self._model is None:
            raise ValueError("no classifier has been trained yet: start with labels, or use a selector without logits")
        return self._model

    def features(self) -> Tensor:
        """f32 [N, D]; a copy, since heads are trained on the encoder's own."""
        if self._chooser is not None:
            return self._chooser.features()
        fixed = self._model is None or self._encoder.pretrained
        features = (self._encoder if fixed else self._trained()).features("pool", self._rows)
        return features if self._encoder.is_free else features.clone()

    def penultimate(self) -> Tensor:
        """f32 [N, D']; a copy."""
        if self._model is None:
            return self.features()
        return self._model.penultimate("pool", self._rows).clone()

    @torch.no_grad()
    def last_layer(self, penultimate: Tensor) -> Tensor:
        """f32 [n, K] of f32 [n, D'], without gradients."""
        return self._trained().last_layer(penultimate)

    def logits(self) -> Tensor:
        """f32 [N, K]."""
        return self._trained().logits("pool", self._rows)

    def stochastic_logits(self, num_samples: int) -> Tensor:
        """f32 [num_samples, N, K], dropout active, everything else in evaluation mode.

        Where the one dropout layer is the network's last, all before it is the same in every pass and computed once.

        Raises:
            ValueError: the network has no dropout layer, so every pass would be the same.
        """
        model = self._trained()
        dropouts = model.backbone.dropouts()
        if not dropouts:
            raise ValueError("stochastic passes need dropout, and this backbone has none: set its dropout above 0")
        model.network.eval()
        if len(dropouts) == 1 and type(dropouts[0]) is nn.Dropout and self._is_last(dropouts[0], model.backbone):
            return self._of_dropped_features(model, dropouts[0].p, num_samples)
        for layer in dropouts:
            layer.train()
        try:
            with seeded(self._seed, "pool/stochastic"):
                return torch.stack([self._batched(model.logits_of, lambda x: x) for _ in range(num_samples)])
        finally:
            model.network.eval()

    @torch.no_grad()
    def _of_dropped_features(self, model: RoundModel, rate: float, num_samples: int) -> Tensor:
        """f32 [num_samples, N, K]: what is made of features of which each pass leaves some out."""
        parts = model.features("pool", self._rows).split(DROPPED)
        rng = generator(self._seed, "pool/stochastic")
        passes = [[model.logits_from(dropped(part, rate, rng)) for part in parts] for _ in range(num_samples)]
        return torch.stack([torch.cat(one) for one in passes])

    def _is_last(self, layer: nn.Module, backbone: Backbone) -> bool:
        """Whether what the layer gives is what the backbone gives, tried with one image."""
        given: list[Tensor] = []
        hook = layer.register_forward_hook(lambda _, __, output: given.append(output))
        try:
            with torch.no_grad():
                output = backbone(self._runtime.inputs(self._images[torch.tensor([0])].to(self._runtime.device)))
        finally:
            hook.remove()
        return len(given) == 1 and given[0] is output

    def augmented_logits(self, num_samples: int, views: Augmentation | None = None) -> Tensor:
        """f32 [num_samples, N, K], each pass under fresh augmentations: `views`, or if None those of pre-training."""
        model = self._trained()
        model.network.eval()
        rng = generator(self._seed, "pool/augmented", self._runtime.device)
        view = lambda x: (views or self._views)(x, view=0, rng=rng)  # noqa: E731
        return torch.stack([self._batched(model.logits_of, view) for _ in range(num_samples)])

    def ssl_loss(self, num_draws: int) -> Tensor:
        """f32 [N]: each image's loss, the mean over `num_draws` draws of its views and of the batch that it is in."""
        if self._chooser is not None:
            return self._chooser.ssl_loss(num_draws)
        rng = generator(self._seed, "pool/ssl_loss", self._runtime.device)
        orders = generator(self._seed, "pool/ssl_loss/order")
        if not self._method.has_sample_loss():
            raise ValueError(f"{type(self._method).__name__} defines no loss per image; use a selector that needs none")
        self._method.eval()

        def loss_of(images: Tensor) -> Tensor:
            views = [self._runtime.inputs(self._views(images, view=v, rng=rng)) for v in range(self._method.num_views)]
            with self._runtime.autocast():
                return self._method.sample_loss(views).float().cpu()

        count = len(self._images)
        losses = torch.zeros(count)
        with seeded(self._seed, "pool/ssl_loss"), torch.no_grad():  # of a method that draws in its loss
            for _ in range(num_draws):
                for index in even_batches(count, EVALUATION_BATCH, orders):
                    losses[index] += loss_of(self._pixels(index))
        return losses / num_draws

    def companion_outputs(self) -> Tensor:
        """f32 [N, ...], in evaluation mode."""
        model = self._trained()
        if not isinstance(model, TunedModel) or model.companion is None:
            raise ValueError("no companion was trained beside this classifier: use finetune, and a selector with one")
        return self._runtime.forward(Accompanied(model.backbone, model.companion).eval(), self._images)

    def _batched(self, function: Callable[[Tensor], Tensor], view: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.no_grad():
            every = torch.arange(len(self._images)).split(self._runtime.batch_size(self._images))
            return torch.cat([function(view(self._pixels(index))) for index in every])

    def _pixels(self, index: Tensor) -> Tensor:
        """f32 [n, C, H, W] in [0, 1], on the device."""
        return self._images[index].to(self._runtime.device).float().div_(255)
