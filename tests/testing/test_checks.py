"""Every conformance check is tried on plugins that keep every promise and on plugins that break one."""

import itertools
import random
import socket
import time
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from harness import testing
from harness.api import Augmentation, Backbone, Companion, Dataset, Pool, Selector, Source, Split, SSLMethod
from harness.plugins import registry
from harness.testing import selectors
from harness.testing.augmentations import check_augmentation
from harness.testing.backbones import check_backbone
from harness.testing.common import COMMON_CHECKS, check_imports, global_states, when
from harness.testing.datasets import check_dataset
from harness.testing.selectors import check_selector, make_pool
from harness.testing.ssl_methods import check_ssl_method

# --- plugins that keep every promise ---


class GoodSelector(Selector):
    """Random picks."""

    supports_cold_start = True

    def select(self, pool, budget, *, rng):
        return pool.unlabeled[torch.randperm(len(pool.unlabeled), generator=rng)[:budget]]


class GoodCompanion(Companion):
    """Predicts each image's loss from the sizes of its features."""

    def __init__(self, num_stages):
        super().__init__()
        self.score = nn.Linear(num_stages, 1)

    def forward(self, stages):
        sizes = torch.stack([stage.flatten(1).square().mean(1) for stage in stages], dim=1)
        return self.score(sizes).squeeze(1)

    def loss(self, stages, task_losses, progress):
        return (self(stages) - task_losses).square().mean()


class GoodAccompanied(Selector):
    """Highest predicted loss."""

    companion_class = GoodCompanion
    reads = frozenset({"companion_outputs"})

    def companion(self, stage_shapes):
        return self.companion_class(len(stage_shapes))

    def select(self, pool, budget, *, rng):
        order = pool.companion_outputs[pool.unlabeled].argsort(descending=True)
        return pool.unlabeled[order[:budget]]


class GoodAugmentation(Augmentation):
    """Another brightness for each image.

    Args:
        strength: at most this is taken away, in [0, 1].
    """

    def __init__(self, *, strength: float = 0.5):
        self.strength = strength

    def __call__(self, images, *, view, rng):
        unit = images / 255 if images.dtype == torch.uint8 else images
        return unit * (1 - self.strength * self.draw(images, rng))

    def draw(self, images, rng):
        return torch.rand(len(images), 1, 1, 1, generator=rng, device=images.device)


class GoodBackbone(Backbone):
    """Convolution, normalisation, average."""

    def __init__(self, image_shape):
        super().__init__()
        self.conv = nn.Conv2d(image_shape[0], 6, 3, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.feature_dim = 6

    def forward(self, images):
        return self.norm(self.conv(images)).relu().mean((2, 3))


class GoodMethod(SSLMethod):
    """Views of an image get equal projections.

    Args:
        dim: of the projections, >= 1.
    """

    def __init__(self, backbone, *, dim: int = 8):
        super().__init__(backbone)
        self.dim = dim
        self.head = nn.Linear(backbone.feature_dim, dim)

    def sample_loss(self, views):
        a, b = (self.head(self.backbone(view)) for view in views)
        return (a - b).square().mean(1)

    def loss(self, views):
        return {"loss": self.sample_loss(views).mean()}


class GoodQueue(GoodMethod):
    """Also repels the projections of earlier batches, which a queue remembers."""

    def __init__(self, backbone, *, dim: int = 8):
        super().__init__(backbone, dim=dim)
        self.register_buffer("queue", torch.randn(64, dim))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def loss(self, views):
        projections = self.head(self.backbone(views[0]))
        repulsion = torch.exp(-torch.cdist(projections, self.queue)).mean()
        self.latest = projections.detach()
        return {"loss": super().sample_loss(views).mean() + repulsion, "repulsion": repulsion}

    def after_step(self, progress):
        self.queue[(int(self.filled) + torch.arange(len(self.latest))) % 64] = self.latest
        self.filled += len(self.latest)

    def sample_loss(self, views):
        raise NotImplementedError


class GoodDataset(Dataset):
    """Twelve images of noise."""

    image_shape = (3, 8, 8)
    class_names = ("cat", "dog")

    def identity(self):
        return "noise, version 1"

    def open(self):
        return Source(self.image_shape, self.class_names, {"train": self.train()})

    def train(self):
        return Split(12, self.read, torch.arange(12) % 2)

    def read(self, start, stop):
        return torch.stack([torch.full((3, 8, 8), index, dtype=torch.uint8) for index in range(start, stop)])


GOOD = [
    (check_selector, GoodSelector),
    (check_selector, GoodAccompanied),
    (check_augmentation, GoodAugmentation),
    (check_augmentation, partial(GoodAugmentation, strength=0.0)),
    (check_backbone, GoodBackbone),
    (check_backbone, lambda image_shape: TwoStages(image_shape)),
    (check_ssl_method, GoodMethod),
    (check_ssl_method, lambda backbone: GoodMethod(backbone, dim=3)),
    (check_dataset, GoodDataset),
]


@pytest.mark.parametrize(("check", "plugin"), GOOD)
def test_a_plugin_that_keeps_every_promise_passes(check, plugin):
    check(plugin)


# --- plugins that break one ---


def broken(base, **members):
    """A copy of a good plugin with some members replaced."""
    return type(f"Broken{base.__name__}", (base,), {"__doc__": "One promise is broken.", **members})


def _sentence(words):
    """A pattern that matches these words literally."""
    import re

    return re.escape(words)


class ManyKeywords(GoodSelector):
    """Takes anything."""

    def __init__(self, **settings):
        pass


class Positional(GoodSelector):
    """Takes its hyper-parameter by position."""

    def __init__(self, beta=1.0):
        self.beta = beta


class NoDefault(GoodMethod):
    """Has no default: see beta: here."""

    def __init__(self, backbone, *, beta):
        super().__init__(backbone)
        self.beta = beta


class Forgets(GoodSelector):
    """Keeps its hyper-parameter under another name."""

    def __init__(self, *, beta=1.0):
        self._beta = beta


class Changes(GoodSelector):
    """Keeps something else than it was given."""

    def __init__(self, *, beta=1.0):
        self.beta = 2 * beta


class Unexplained(GoodSelector):
    """Explains nothing."""

    def __init__(self, *, beta=1.0):
        self.beta = beta


class TwoLineSummary(GoodSelector):
    """A sentence that goes on
    in the second line.
    """


class NoDocstring(GoodSelector):
    pass


class ReadsItsWeights(GoodBackbone):
    """Decides by the value of a weight."""

    def __init__(self, image_shape):
        super().__init__(image_shape)
        self.scale = 2.0 if float(self.conv.weight.sum()) > 0 else 1.0


class Pretender:
    """Has the method but not the contract."""

    supports_cold_start = True
    select = GoodSelector.select


def _connect(self):
    socket.create_connection(("localhost", 9))


def _try_to_connect(self):
    with suppress(OSError):
        socket.create_connection(("localhost", 9))


COMMON = [
    ("class_fits_its_kind", Pretender, "does not derive from Selector"),
    ("class_fits_its_kind", broken(GoodSelector, __init__=_connect), "uses the network"),
    ("class_fits_its_kind", broken(GoodSelector, __init__=_try_to_connect), "uses the network"),
    (
        "class_fits_its_kind",
        broken(GoodSelector, __init__=lambda self: setattr(self, "shift", torch.rand(()))),
        "global generator of torch",
    ),
    ("hyperparameters_are_keywords", ManyKeywords, "takes **settings"),
    ("hyperparameters_are_keywords", Positional, "takes ['beta'] by position"),
    ("hyperparameters_are_keywords", Forgets, "'beta' is not kept as an attribute"),
    ("hyperparameters_are_keywords", Changes, "'beta' is 2.0, not the value it was given, 1.0"),
    ("docstring_has_a_summary", NoDocstring, "no docstring"),
    ("docstring_has_a_summary", TwoLineSummary, "not a summary: 'A sentence that goes on'"),
    ("docstring_has_a_summary", Unexplained, "does not say what hyper-parameter 'beta' does"),
]


def _global_torch(self, pool, budget, *, rng):
    return pool.unlabeled[torch.randperm(len(pool.unlabeled))[:budget]]


def _global_numpy(self, pool, budget, *, rng):
    return torch.from_numpy(np.random.permutation(pool.unlabeled.numpy())[:budget])  # noqa: NPY002


def _global_random(self, pool, budget, *, rng):
    return torch.tensor(random.sample(pool.unlabeled.tolist(), budget))


def _global_state_in_secret(self, pool, budget, *, rng):
    with torch.random.fork_rng():
        return _global_torch(self, pool, budget, rng=rng)


def _modify(part):
    def select(self, pool, budget, *, rng):
        tensor = pool.images._store if part == "images" else getattr(pool, part)
        tensor[:] = tensor.flip(0)
        return make_pool().unlabeled[:budget]

    return broken(GoodSelector, select=select)


def _counting(self, pool, budget, *, rng):
    self.calls = getattr(self, "calls", 0) + 1
    return pool.unlabeled.roll(self.calls)[:budget]


_instances = itertools.count()


def _instance_number(self, pool, budget, *, rng):
    return pool.unlabeled.roll(self.number)[:budget]


def _scores_by(score):
    """A selector that takes the highest scores, without thought of ties or of overflow."""

    def select(self, pool, budget, *, rng):
        scores = score(pool)[pool.unlabeled]
        assert scores.isfinite().all(), "infinite scores"
        return pool.unlabeled[scores.argsort(descending=True)[:budget]]

    return select


def _needs_spread(pool):
    features = pool.features - pool.features.mean(0)
    if features.abs().max() < 1e-5:
        raise ZeroDivisionError("all features are equal")
    return features.norm(dim=1) / features.norm()


def _needs_two_labels(pool):
    return pool.features[:, 0] / pool.labels.float().std()


def _companion(**members):
    """A selector whose companion has some members replaced."""
    return broken(GoodAccompanied, companion_class=type("BrokenCompanion", (GoodCompanion,), members))


def _reads_ssl_loss_at_first(self, pool, budget, *, rng):
    if not len(pool.labeled):
        pool.ssl_loss.sum()
    return GoodSelector.select(self, pool, budget, rng=rng)


def _scale_in_place(self, stages, task_losses, progress):
    return GoodCompanion.loss(self, stages, task_losses.mul_(2), progress)


def _by_the_store(self, pool, budget, *, rng):
    """Counts the images that are stored, of which a pool may hold some."""
    is_unlabeled = torch.ones(len(pool.images._store), dtype=torch.bool)
    is_unlabeled[pool.labeled] = False
    return is_unlabeled.nonzero().flatten()[-budget:]


SELECTORS = [
    ("picks_are_valid", broken(GoodSelector, select=lambda self, pool, budget, *, rng: [3] * budget), "returned list"),
    (
        "picks_are_valid",
        broken(GoodSelector, select=lambda self, pool, budget, *, rng: pool.unlabeled[:budget].int()),
        "torch.int32",
    ),
    (
        "picks_are_valid",
        broken(GoodSelector, select=lambda self, pool, budget, *, rng: pool.unlabeled[: budget + 1]),
        "budget 1 of 52: picks have shape (2,)",
    ),
    (
        "picks_are_valid",
        broken(GoodSelector, select=lambda self, pool, budget, *, rng: pool.unlabeled[:1].expand(budget)),
        "picked twice",
    ),
    (
        "picks_are_valid",
        broken(GoodSelector, select=lambda self, pool, budget, *, rng: torch.arange(budget)),
        "not in pool.unlabeled",
    ),
    ("same_seed_same_picks", broken(GoodSelector, select=_counting), "asked again"),
    (
        "same_seed_same_picks",
        broken(
            GoodSelector,
            __init__=lambda self: setattr(self, "number", next(_instances)),
            select=_instance_number,
        ),
        "for the same pool and seed the picks differ",
    ),
    ("picks_need_no_global_generator", broken(GoodSelector, select=_global_torch), "global generator of torch"),
    ("picks_need_no_global_generator", broken(GoodSelector, select=_global_numpy), "global generator of numpy"),
    ("picks_need_no_global_generator", broken(GoodSelector, select=_global_random), "global generator of random"),
    ("picks_need_no_global_generator", broken(GoodSelector, select=_global_state_in_secret), "depends on a global"),
    *(
        ("pool_is_not_modified", _modify(part), f"modified pool.{part}")
        for part in ("images", "labeled", "unlabeled", "labels", "features", "logits", "ssl_loss")
    ),
    (
        "degenerate_pools_work",
        broken(GoodSelector, select=_scores_by(_needs_spread)),
        "all images equal, budget 16 of 32: raised ZeroDivisionError",
    ),
    (
        "degenerate_pools_work",
        broken(GoodSelector, select=_scores_by(lambda pool: pool.logits.exp().sum(1).log())),
        "logits of 1e4, budget 26 of 52: infinite scores",
    ),
    ("degenerate_pools_work", broken(GoodSelector, select=_scores_by(_needs_two_labels)), "one class"),
    (
        "degenerate_pools_work",
        broken(GoodSelector, select=lambda self, pool, budget, *, rng: pool.unlabeled.unique()[: min(budget, 10)]),
        "picks have shape",
    ),
    (
        "cold_start_is_as_declared",
        broken(GoodSelector, select=_scores_by(lambda pool: pool.logits[:, 0])),
        "no labels, budget 1: raised ValueError: no classifier has been trained",
    ),
    ("cold_start_is_as_declared", broken(GoodSelector, supports_cold_start="yes"), "not a bool"),
    (
        "pool_subset_is_taken",
        broken(GoodSelector, pool_subset=property(lambda _: 9, lambda _, value: None)),
        "pool_subset is 9",
    ),
    (
        "pool_subset_is_taken",
        broken(GoodSelector, select=_by_the_store),
        "a subset of 26 unlabelled images, budget 1: a pick is not in pool.unlabeled",
    ),
    ("reads_are_as_declared", broken(GoodSelector, reads={"ssl_loss"}), "not a frozenset"),
    ("reads_are_as_declared", broken(GoodSelector, reads=frozenset({"ssl_los"})), "did you mean 'ssl_loss'?"),
    ("reads_are_as_declared", broken(GoodSelector, reads=frozenset({"ssl_loss"})), "refused in vain"),
    (
        "reads_are_as_declared",
        broken(GoodSelector, select=_scores_by(lambda pool: pool.ssl_loss)),
        "it reads pool.ssl_loss, but reads does not say so",
    ),
    ("reads_are_as_declared", broken(GoodSelector, select=_reads_ssl_loss_at_first), "it reads pool.ssl_loss"),
    (
        "reads_are_as_declared",
        broken(
            GoodSelector, select=_scores_by(lambda pool: pool.stochastic_logits(2)[0, :, 0]), supports_cold_start=False
        ),
        "it reads pool.stochastic_logits",
    ),
    (
        "companion_is_as_declared",
        broken(GoodSelector, companion=lambda self, stage_shapes: GoodCompanion(len(stage_shapes))),
        "it is never trained",
    ),
    ("companion_is_as_declared", broken(GoodAccompanied, companion=Selector.companion), "is NoneType, not a Companion"),
    (
        "companion_is_as_declared",
        _companion(loss=lambda self, stages, task_losses, progress: (self(stages) - task_losses).square()),
        "not one finite number",
    ),
    (
        "companion_is_as_declared",
        _companion(loss=lambda self, stages, task_losses, progress: self(stages).sum() / (len(task_losses) - 1)),
        "batch of 1, progress 0.99: the loss is",
    ),
    (
        "companion_is_as_declared",
        _companion(loss=lambda self, stages, task_losses, progress: (self.score.bias - task_losses).square().mean()),
        "no finite gradient reaches score.weight",
    ),
    ("companion_is_as_declared", _companion(loss=_scale_in_place), "modified the stages or the losses"),
    (
        "companion_is_as_declared",
        _companion(forward=lambda self, stages: GoodCompanion.forward(self, stages).double()),
        "outputs are torch.float64 [4]",
    ),
    (
        "companion_is_as_declared",
        _companion(forward=lambda self, stages: (y := GoodCompanion.forward(self, stages)) - y.mean()),
        "outputs depend on the batch",
    ),
]


def _call(change):
    """An augmentation whose output is changed."""

    def call(self, images, *, view, rng):
        return change(GoodAugmentation.__call__(self, images, view=view, rng=rng))

    return broken(GoodAugmentation, __call__=call)


def _in_place(self, images, *, view, rng):
    images.mul_(0)
    return images.float()


def _divides_floats_too(self, images, *, view, rng):
    return images / 255


def _only_first_view(self, images, *, view, rng):
    return GoodAugmentation.__call__(self, images, view=[0][view], rng=rng)


def _remembers(self, images, *, view, rng):
    self.strength /= 2
    return GoodAugmentation.__call__(self, images, view=view, rng=rng)


def _one_draw(self, images, rng):
    return torch.rand(1, generator=rng)


def _reseeded(self, images, rng):
    return torch.rand(len(images), 1, 1, 1, generator=torch.Generator().manual_seed(rng.initial_seed()))


AUGMENTATIONS = [
    ("output_is_a_batch_of_images", _call(lambda out: out.double()), "torch.float64"),
    ("output_is_a_batch_of_images", _call(lambda out: out.to("meta")), "on meta, the input on cpu"),
    (
        "output_is_a_batch_of_images",
        _call(lambda out: out[:, :2]),
        "torch.uint8 [4, 3, 32, 32], view 0: the output has",
    ),
    ("output_is_a_batch_of_images", _call(lambda out: out[:, :, 1:]), "(H, W) of output and input"),
    ("output_is_a_batch_of_images", _call(lambda out: out * 1.5), "not within [0, 1]"),
    ("output_is_a_batch_of_images", _call(lambda out: out / 0 * 0), "reaches from nan"),
    (
        "output_is_a_batch_of_images",
        _call(lambda out: out.expand(-1, 3, -1, -1)),
        "[3, 1, 8, 8], view 0: the output has",
    ),
    ("output_is_a_batch_of_images", broken(GoodAugmentation, __call__=_only_first_view), "raised IndexError"),
    ("input_is_not_modified", broken(GoodAugmentation, __call__=_in_place), "modified its torch.uint8 input"),
    ("integers_and_floats_agree", broken(GoodAugmentation, __call__=_divides_floats_too), "u8 and f32 input differ"),
    ("same_seed_same_output", broken(GoodAugmentation, __call__=_remembers), "called again"),
    (
        "same_seed_same_output",
        broken(GoodAugmentation, __init__=lambda self: setattr(self, "strength", 1 / (2 + next(_instances)))),
        "for the same images and seed",
    ),
    (
        "output_needs_no_global_generator",
        broken(GoodAugmentation, draw=lambda self, images, rng: torch.rand(len(images), 1, 1, 1)),
        "global generator of torch",
    ),
    ("every_image_has_its_own_draw", broken(GoodAugmentation, draw=_one_draw), "share one draw"),
    ("every_image_has_its_own_draw", broken(GoodAugmentation, draw=_reseeded), "every batch gets the same draws"),
]


class Unused(GoodBackbone):
    """Has a layer too many."""

    def __init__(self, image_shape):
        super().__init__(image_shape)
        self.classifier = nn.Linear(6, 10)


class FromNumpy(GoodBackbone):
    """Draws its weights from another generator."""

    def __init__(self, image_shape):
        super().__init__(image_shape)
        self.conv.weight.data *= float(np.random.rand())  # noqa: NPY002


class BatchStatistics(GoodBackbone):
    """Normalises by the batch even in evaluation mode."""

    def __init__(self, image_shape):
        super().__init__(image_shape)
        self.norm = nn.BatchNorm2d(6, track_running_stats=False)


class HiddenState(GoodBackbone):
    """Keeps a running mean that a checkpoint does not hold."""

    mean = 0.0

    def forward(self, images):
        if self.training:
            self.mean = images.mean().item()
        return super().forward(images) - self.mean


def _forward(change):
    return broken(GoodBackbone, forward=lambda self, images: change(GoodBackbone.forward(self, images)))


def _forward_in_place(self, images):
    return GoodBackbone.forward(self, images.clamp_(0))


class OnlyRGB(GoodBackbone):
    """Ignores the number of channels."""

    def __init__(self, image_shape):
        super().__init__((3, 32, 32))


class OwnWeights(GoodBackbone):
    """Has a hyper-parameter of a name that is taken.

    Args:
        freeze: nothing.
    """

    def __init__(self, image_shape, *, freeze: bool = False):
        super().__init__(image_shape)
        self.freeze = freeze


class TwoStages(GoodBackbone):
    """Has two stages."""

    def stages(self):
        return [self.conv, self.norm]


class RegistersLate(TwoStages):
    """Calls a layer first that is registered last."""

    def __init__(self, image_shape):
        super().__init__(image_shape)
        self.stem = nn.Conv2d(image_shape[0], image_shape[0], 1)

    def forward(self, images):
        return super().forward(self.stem(images))


class TrainsAnyway(TwoStages):
    """Sets the mode of its layers itself."""

    def train(self, mode=True):
        super().train(mode)
        self.norm.train(mode)
        return self


BACKBONES = [
    ("stages_are_in_order", broken(GoodBackbone, stages=lambda self: (self,)), "not a list of modules"),
    ("stages_are_in_order", broken(GoodBackbone, stages=lambda self: []), "[], not a list of modules"),
    ("stages_are_in_order", broken(GoodBackbone, stages=lambda self: [nn.ReLU()]), "stage 1 is not a module of"),
    (
        "stages_are_in_order",
        broken(GoodBackbone, stages=lambda self: [self.norm, self.conv]),
        "calls the stages in the order [2, 1]",
    ),
    ("stages_are_in_order", broken(GoodBackbone, stages=lambda self: [self.conv, self.conv]), "listed twice"),
    ("frozen_stages_stay_as_they_are", RegistersLate, "freeze = 1: a gradient reaches what is frozen"),
    ("frozen_stages_stay_as_they_are", TrainsAnyway, "freeze = 2: what is frozen is not in evaluation mode"),
    ("features_have_the_promised_shape", _forward(lambda features: features[:, :5]), "feature_dim promises (4, 6)"),
    ("features_have_the_promised_shape", _forward(lambda features: features.double()), "torch.float64"),
    ("features_have_the_promised_shape", _forward(lambda features: (features - 9).log()), "not finite"),
    ("features_have_the_promised_shape", broken(GoodBackbone, forward=_forward_in_place), "modified its input"),
    ("features_have_the_promised_shape", OnlyRGB, "image_shape (1, 32, 32): raised RuntimeError"),
    ("gradients_reach_every_parameter", Unused, "no gradient reaches classifier.weight"),
    ("gradients_reach_every_parameter", _forward(lambda features: features * 0), "no gradient reaches conv.weight"),
    ("same_seed_same_weights", FromNumpy, "conv.weight differs"),
    ("features_do_not_depend_on_the_batch", BatchStatistics, "depend on the batch"),
    ("state_dict_restores_the_backbone", HiddenState, "not in state_dict"),
]


class WrongEncoder(GoodMethod):
    """Puts its head where the encoder belongs."""

    def __init__(self, backbone, *, dim: int = 8):
        super().__init__(backbone, dim=dim)
        self.encoder, self.backbone = backbone, nn.Linear(3, 3)


class OtherEncoder(GoodMethod):
    """Trains a copy, and keeps the initial encoder."""

    def __init__(self, backbone, *, dim: int = 8):
        super().__init__(backbone, dim=dim)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, backbone.feature_dim))

    def sample_loss(self, views):
        a, b = (self.head(self.encoder(view)) for view in views)
        return (a - b).square().mean(1)


def _loss(change):
    """A method whose loss is changed."""
    return broken(GoodMethod, loss=lambda self, views: change(GoodMethod.sample_loss(self, views)))


def _modifies_views(self, views):
    views[0].mul_(2)
    return GoodMethod.loss(self, views)


def _one_view(self, views):
    return GoodMethod.loss(self, [views[0], views[0].flip(3)])


def _noisy(self, views):
    return {"loss": GoodMethod.loss(self, views)["loss"] * (1 + np.random.rand())}  # noqa: NPY002


def _loss_with_step(self, views):
    self.step = getattr(self, "step", 0) + 1
    return {"loss": GoodMethod.loss(self, views)["loss"] * self.step}


class ForgetfulQueue(GoodQueue):
    """Leaves the queue's pointer out of the checkpoint."""

    def __init__(self, backbone, *, dim: int = 8):
        super().__init__(backbone, dim=dim)
        del self.filled
        self.filled = torch.zeros((), dtype=torch.int64)


SSL_METHODS = [
    ("method_keeps_its_encoder", broken(GoodMethod, num_views="2"), "num_views is '2'"),
    ("method_keeps_its_encoder", WrongEncoder, "self.backbone is not the encoder"),
    ("loss_trains_the_encoder", broken(GoodMethod, loss=GoodMethod.sample_loss), "does not return a dict"),
    ("loss_trains_the_encoder", _loss(lambda losses: {"loss": losses}), "'loss' is not a scalar"),
    ("loss_trains_the_encoder", _loss(lambda losses: {"loss": losses.mean(), "a": losses}), "'a' is not a scalar"),
    ("loss_trains_the_encoder", _loss(lambda losses: {"loss": losses.mean() / 0}), "'loss' is inf"),
    ("loss_trains_the_encoder", OtherEncoder, "no gradient of the loss reaches backbone.layers.0.weight"),
    ("loss_trains_the_encoder", broken(GoodMethod, loss=_modifies_views), "modified the views"),
    ("every_view_counts", broken(GoodMethod, loss=_one_view), "does not depend on view 1"),
    ("every_view_counts", broken(GoodMethod, num_views=3, sample_loss=lambda self, views: views[3]), "IndexError"),
    (
        "order_of_images_is_irrelevant",
        _loss(lambda losses: {"loss": (losses * torch.arange(16)).mean()}),
        "in another order",
    ),
    (
        "sample_loss_splits_the_loss",
        broken(GoodMethod, sample_loss=lambda self, views: GoodMethod.sample_loss(self, views).mean()),
        "not [B]",
    ),
    ("sample_loss_splits_the_loss", _loss(lambda losses: {"loss": losses.sum()}), "sample_loss has mean"),
    (
        "training_lowers_the_loss",
        _loss(lambda losses: {"loss": 2 * losses.mean().detach() - losses.mean()}),  # its gradient points uphill
        "after 40 steps",
    ),
    ("same_seed_same_training", broken(GoodMethod, loss=_noisy), "of the same torch seed"),
    ("state_dict_resumes_the_training", broken(GoodMethod, loss=_loss_with_step), "not in state_dict"),
    ("state_dict_resumes_the_training", ForgetfulQueue, "not in state_dict"),
]


def _opened(**changes):
    """A data set whose train split differs."""

    def train(self):
        fields = {"num_images": 12, "read": self.read, "labels": torch.arange(12) % 2}
        return Split(**(fields | changes))

    return broken(GoodDataset, train=train)


class SharedCursor(GoodDataset):
    """Two threads move one cursor."""

    def read(self, start, stop):
        self.start, self.stop = start, stop
        time.sleep(0.001)
        return super().read(self.start, self.stop)


_ids = itertools.count()

DATASETS = [
    ("identity_is_stable", broken(GoodDataset, identity=lambda self: 7), "is 7, not a text"),
    ("identity_is_stable", broken(GoodDataset, identity=lambda self: str(next(_ids))), "from one call to the next"),
    ("identity_is_stable", broken(GoodDataset, identity=lambda self: str(id(self))), "two instances"),
    ("source_is_complete", broken(GoodDataset, open=lambda self: {"train": self.train()}), "returned dict"),
    ("source_is_complete", broken(GoodDataset, image_shape=(8, 8)), "image_shape is (8, 8)"),
    ("source_is_complete", broken(GoodDataset, class_names=("cat", "cat")), "distinct names"),
    (
        "source_is_complete",
        broken(GoodDataset, open=lambda self: Source((3, 8, 8), self.class_names, {"test": self.train()})),
        "no split 'train' among ['test']",
    ),
    (
        "source_is_complete",
        broken(
            GoodDataset,
            open=lambda self: Source((3, 8, 8), self.class_names, {"train": self.train(), "dev": self.train()}),
        ),
        "split 'dev': a split is one of",
    ),
    ("source_is_complete", _opened(num_images=0, labels=torch.arange(0)), "has no images"),
    ("source_is_complete", _opened(labels=None), "has no labels"),
    ("source_is_complete", _opened(labels=(torch.arange(12) % 2).int()), "torch.int32"),
    ("source_is_complete", _opened(labels=torch.arange(11) % 2), "(11,) for 12 images"),
    ("source_is_complete", _opened(labels=torch.arange(12)), "reach from 0 to 11"),
    (
        "pieces_have_the_promised_shape",
        _opened(read=lambda start, stop: torch.zeros(stop - start, 3, 8, 8)),
        "torch.float32",
    ),
    (
        "pieces_have_the_promised_shape",
        broken(GoodDataset, image_shape=(1, 8, 8)),
        "image_shape is (1, 8, 8)",
    ),
    (
        "pieces_have_the_promised_shape",
        _opened(read=lambda start, stop: GoodDataset().read(0, stop - start)),
        "differs from reading one image at a time",
    ),
    ("threads_read_the_same", SharedCursor, "threads that read at once"),
]

BROKEN = [
    *(("selectors", *row) for row in COMMON),
    ("backbones", "constructor_needs_no_values", ReadsItsWeights, "raised RuntimeError"),
    ("backbones", "hyperparameters_are_keywords", OwnWeights, "'freeze' is a hyper-parameter that all backbones have"),
    ("ssl_methods", "hyperparameters_are_keywords", partial(NoDefault, beta=1.0), "'beta' has no default"),
    *(("selectors", *row) for row in SELECTORS),
    *(("augmentations", *row) for row in AUGMENTATIONS),
    *(("backbones", *row) for row in BACKBONES),
    *(("ssl_methods", *row) for row in SSL_METHODS),
    *(("datasets", *row) for row in DATASETS),
]


def checks_of(kind):
    """The checks of a kind alone, by name."""
    checks = getattr(testing, f"{kind[:-1].upper()}_CHECKS")
    options = {"device": torch.device("cpu")} if kind == "augmentations" else {}
    return {check.__name__: partial(check, **options) for check in checks}


@pytest.mark.parametrize(
    ("kind", "name", "plugin", "words"), BROKEN, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_broken_promise_is_found(kind, name, plugin, words):
    common = {check.__name__: partial(check, kind=kind) for check in COMMON_CHECKS}
    with pytest.raises(AssertionError, match=_sentence(words)), when("alone"):
        (common | checks_of(kind))[name](plugin)
    with pytest.raises(AssertionError):
        getattr(testing, f"check_{kind[:-1]}")(plugin)


def test_every_check_is_tried_on_a_broken_plugin():
    tried = {(kind, name) for kind, name, *_ in BROKEN}
    for kind in registry.CONTRACTS:
        assert {name for k, name in tried if k == kind} >= set(checks_of(kind))
    assert {name for _, name in tried} >= {check.__name__ for check in COMMON_CHECKS}


def test_a_method_with_a_queue_passes():
    """Its loss is no mean over images and its state is more than weights."""
    check_ssl_method(GoodQueue)


# --- how checks run ---


def test_the_sentence_names_plugin_and_check():
    with pytest.raises(AssertionError, match=r"^Unexplained, docstring_has_a_summary: the docstring does not say"):
        check_selector(Unexplained)


def test_an_exempted_check_may_fail():
    check_selector(Unexplained, exempt={"docstring_has_a_summary": "the test wants it so"})


def test_an_exemption_without_need_is_an_error():
    with pytest.raises(AssertionError, match="passes picks_are_valid, so it is no exception"):
        check_selector(GoodSelector, exempt={"picks_are_valid": "no reason at all"})


def test_an_exemption_from_an_unknown_check_is_an_error():
    with pytest.raises(AssertionError, match="no check 'picks_are_vald'; did you mean 'picks_are_valid'"):
        check_selector(GoodSelector, exempt={"picks_are_vald": "misspelt"})


def test_the_callers_random_states_survive_the_checks():
    before = global_states()
    check_selector(GoodSelector)
    check_augmentation(GoodAugmentation)
    check_ssl_method(GoodMethod)
    assert global_states() == before


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from harness.pretrain import pretrain", "harness.pretrain.pretrain"),
        ("import harness.data", "harness.data"),
        ("from harness import data", "harness.data"),
        ("def f():\n    import harness.oracle as o", "harness.oracle"),
        ("from harness import api, seeding", None),
        ("from harness.api import Pool\nimport harness_of_a_horse", None),
    ],
)
def test_imports_of_the_harness(tmp_path, monkeypatch, line, name):
    module = f"imports_{abs(hash(line))}"
    source = f"if False:\n    {line.replace(chr(10), chr(10) + '    ')}\n\nclass Plugin:\n    pass\n"
    (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    plugin = __import__(module).Plugin
    if name is None:
        check_imports(plugin)
    else:
        with pytest.raises(AssertionError, match=_sentence(f"imports {name};")):
            check_imports(plugin)


# --- make_pool ---


def test_pool_is_consistent():
    pool = make_pool(num_labeled=5)
    assert isinstance(pool, Pool)
    assert sorted([*pool.labeled.tolist(), *pool.unlabeled.tolist()]) == list(range(60))
    assert pool.labeled.tolist() == sorted(pool.labeled.tolist()) != list(range(5))
    assert pool.labels.shape == (5,)
    assert pool.features.shape == (60, 16)
    assert pool.logits.shape == (60, 4)
    assert (pool.ssl_loss > 0).all()
    # Inverted dropout and pixel noise have mean 0: on average, the samples are the logits.
    for sampled in (pool.stochastic_logits(4000), pool.augmented_logits(4000)):
        assert sampled.shape == (4000, 60, 4)
        assert sampled.std(0).min() > 0
        standard_error = sampled.std(0) / 4000**0.5
        assert ((sampled.mean(0) - pool.logits).abs() < 6 * standard_error).all()


def test_pool_without_labels_has_no_logits():
    pool = make_pool(num_labeled=0)
    assert pool.features.shape == (60, 16)
    with pytest.raises(ValueError, match="no classifier has been trained"):
        _ = pool.logits


def test_degenerate_pools_are_what_they_say():
    pools = selectors.degenerate_pools()
    assert not pools["all images equal"].logits.std(0).any()
    assert len(pools["few distinct images, many duplicates"].features.unique(dim=0)) == 4
    assert pools["logits of 1e4"].logits.abs().max() > 1e3
    assert set(pools["all labels of one class"].labels.tolist()) == {0}
    assert len(pools["one labelled image"].labeled) == 1
    assert len(pools["three images, one labelled"].images) == 3
    assert len(pools["one unlabelled image"].unlabeled) == 1
    assert pools["one channel, 9 x 11 pixels"].images.shape == (40, 1, 9, 11)
