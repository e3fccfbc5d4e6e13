"""The checks that every plugin must pass, built-in or not.

A package that brings a plugin tests it in five lines:

    from harness.testing import check_selector
    from my_package import MySelector

    def test_my_selector():
        check_selector(MySelector)

Each `check_*` takes the plugin's class, or a function that is called in its place: without arguments, for a backbone
with `image_shape`, for an SSL method with `backbone` (`functools.partial(MySelector, beta=2.0)`). It raises
`AssertionError` with a sentence at the first promise of `harness.api` that is broken. The promises are the functions
listed in `SELECTOR_CHECKS` and its siblings; a method that by its nature cannot keep one names it, with the reason:

    check_ssl_method(Mine, exempt={"order_of_images_is_irrelevant": "the loss pairs image i with image B - 1 - i"})

Everything here is seeded, runs in seconds and needs no file and no network.
"""

# ruff: noqa: PT018  one sentence for the reader, however many conditions it takes

from __future__ import annotations

import ast
import copy
import inspect
import random
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from harness import messages
from harness.api import (
    CONDITIONAL_PARTS,
    UNKNOWN,
    Backbone,
    Companion,
    Images,
    Pool,
    SemiSupervisedMethod,
    Source,
    Split,
    SSLMethod,
    SupervisedMethod,
)
from harness.plugins import registry
from harness.seeding import generator, seeded

Factory = Callable[..., Any]
"""A plugin's class, or a function that is called in its place."""

Check = Callable[..., None]
"""A promise: takes the plugin (and, in COMMON_CHECKS, its kind) and raises AssertionError if it is broken."""


def check_dataset(plugin: Factory, *, exempt: Mapping[str, str] | None = None) -> None:
    """Checks a data set: what it says about itself and what it reads. Opens it, so its files must be there.

    Args:
        plugin: the class, or a function of no arguments.
        exempt: name of a check -> why it cannot hold. A check that passes although exempted is an error.

    Raises:
        AssertionError: a promise is broken; names the plugin and the check.
    """
    _run("datasets", plugin, DATASET_CHECKS, exempt)


def check_augmentation(
    plugin: Factory, *, exempt: Mapping[str, str] | None = None, device: torch.device | str = "cpu"
) -> None:
    """Checks an augmentation: shapes, types, range, and where its randomness comes from.

    Args:
        plugin: the class, or a function of no arguments.
        exempt: see `check_dataset`.
        device: where the images lie.

    Raises:
        AssertionError: a promise is broken; names the plugin and the check.
    """
    _run("augmentations", plugin, AUGMENTATION_CHECKS, exempt, device=torch.device(device))


def check_backbone(plugin: Factory, *, exempt: Mapping[str, str] | None = None) -> None:
    """Checks a backbone: shapes, gradients, seeds, and that the features of an image do not depend on its batch.

    Args:
        plugin: the class, or a function of `image_shape`.
        exempt: see `check_dataset`.

    Raises:
        AssertionError: a promise is broken; names the plugin and the check.
    """
    _run("backbones", plugin, BACKBONE_CHECKS, exempt)


def check_ssl_method(plugin: Factory, *, exempt: Mapping[str, str] | None = None) -> None:
    """Checks an SSL method: its losses, that it trains, and that a checkpoint holds all of its state.

    Args:
        plugin: the class, or a function of `backbone`.
        exempt: see `check_dataset`. With `num_views = 0` nothing is trained and nothing need be exempted.

    Raises:
        AssertionError: a promise is broken; names the plugin and the check.
    """
    _run("ssl_methods", plugin, SSL_METHOD_CHECKS, exempt)


def check_selector(plugin: Factory, *, exempt: Mapping[str, str] | None = None) -> None:
    """Checks a selector: valid picks from ordinary and degenerate pools, always the same for a seed.

    Args:
        plugin: the class, or a function of no arguments.
        exempt: see `check_dataset`.

    Raises:
        AssertionError: a promise is broken; names the plugin and the check.
    """
    _run("selectors", plugin, SELECTOR_CHECKS, exempt)


# --- how checks run ---


def _run(
    kind: str, plugin: Factory, checks: tuple[Check, ...], exempt: Mapping[str, str] | None, **options: Any
) -> None:
    exempt = exempt or {}
    calls = {check.__name__: partial(check, plugin, kind) for check in COMMON_CHECKS}
    calls |= {check.__name__: partial(check, plugin, **options) for check in checks}
    for name in exempt:
        assert name in calls, f"exempt: no check {name!r}; {messages.closest(name, calls)}"
    for name, call in calls.items():
        try:
            with _when(f"{getattr(plugin, '__name__', plugin)}, {name}"):
                call()
        except AssertionError:
            if name not in exempt:
                raise
        else:
            assert name not in exempt, f"exempt: {plugin} passes {name}, so it is no exception ({exempt[name]})"


@contextmanager
def _when(situation: str) -> Iterator[None]:
    """Turns whatever is raised inside into an AssertionError that names the situation."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{situation}: {error}") from error
    except Exception as error:
        raise AssertionError(f"{situation}: raised {type(error).__name__}: {error}") from error


def _new(plugin: Factory, kind: str) -> Any:
    """An instance of any kind of plugin; weights are those of a fixed seed."""
    if kind == "backbones":
        return _new_backbone(plugin, (3, 32, 32))
    return _new_method(plugin) if kind == "ssl_methods" else plugin()


def _equal(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


# --- global generators ---


def _global_states() -> dict[str, Any]:
    """The state of every generator that a plugin might draw from without being given it."""
    states = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy.random": str(np.random.get_state(legacy=False)["state"]),  # noqa: NPY002  must be left alone
        "random": random.getstate(),
    }
    if torch.cuda.is_initialized():
        states["torch.cuda"] = torch.cuda.get_rng_state().cpu().numpy().tobytes()
    return states


@contextmanager
def _untouched_generators() -> Iterator[None]:
    before = _global_states()
    yield
    for library, state in _global_states().items():
        assert state == before.get(library, state), f"it changed the state of the global generator of {library}"


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seeds every global generator inside the block, then restores them."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        yield
    np.random.set_state(numpy_state)  # noqa: NPY002
    random.setstate(python_state)


def _draws_only_from_its_generator(call: Callable[[], Tensor]) -> None:
    """`call` makes a plugin from scratch and gives it a generator of a fixed seed."""
    results = []
    for seed in (1, 2):
        with _global_seed(seed), _untouched_generators():
            results.append(call())
    assert _equal(*results), "the result depends on a global generator (torch, numpy.random or random)"


# --- every plugin ---


@contextmanager
def _no_network() -> Iterator[None]:
    with mock.patch.object(socket.socket, "connect") as connect, mock.patch("socket.getaddrinfo") as resolve:
        try:
            yield
        finally:
            assert not connect.called and not resolve.called, "the constructor uses the network"


def class_fits_its_kind(plugin: Factory, kind: str) -> None:
    """The class derives from the contract, and constructing it draws no global randomness and opens no connection.

    Backbones and SSL methods take their initial weights from torch's global generator, which the harness seeds.
    """
    with _no_network():
        if kind in ("backbones", "ssl_methods"):
            instance = _new(plugin, kind)
        else:
            with _untouched_generators():
                instance = _new(plugin, kind)
    contract = registry.CONTRACTS[kind]
    assert isinstance(instance, contract), f"{type(instance).__name__} does not derive from {contract.__name__}"


def hyperparameters_are_keywords(plugin: Factory, kind: str) -> None:
    """Hyper-parameters are keyword-only, have defaults and are kept under their names; nothing else is accepted."""
    instance = _new(plugin, kind)
    positional = []
    for parameter in inspect.signature(type(instance)).parameters.values():
        name = parameter.name
        assert parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD), (
            f"the constructor takes {parameter}, so that a misspelt hyper-parameter would go unnoticed"
        )
        if parameter.kind is not parameter.KEYWORD_ONLY:
            positional.append(name)
            continue
        assert parameter.default is not parameter.empty, f"hyper-parameter {name!r} has no default"
        assert name not in registry.shared(type(instance)), (
            f"{name!r} is a hyper-parameter that all {kind} have already"
        )
        assert hasattr(instance, name), f"hyper-parameter {name!r} is not kept as an attribute of that name"
        if plugin is type(instance):
            kept = getattr(instance, name)
            assert _equal(kept, parameter.default), (
                f"attribute {name!r} is {kept!r}, not the value it was given, {parameter.default!r}"
            )
    expected = {"backbones": 1, "ssl_methods": 2 if isinstance(instance, SupervisedMethod) else 1}.get(kind, 0)
    assert len(positional) == expected, (
        f"the constructor takes {positional} by position, {expected} expected; hyper-parameters are keyword-only"
    )


def docstring_has_a_summary(plugin: Factory, kind: str) -> None:
    """The class's own docstring starts with one line that says what it is; hyper-parameters are explained."""
    cls = type(_new(plugin, kind))
    text = inspect.cleandoc(cls.__doc__ or "")
    summary, _, rest = text.partition("\n")
    assert summary, "the class has no docstring; its first line is what lists of plugins show"
    assert not rest or rest.startswith("\n"), f"the first line of the docstring is not a summary: {summary!r}"
    explained = "\n".join(base.__doc__ or "" for base in cls.__mro__)
    for name in registry.defaults(cls).keys() - registry.shared(cls).keys():
        assert f"{name}:" in explained, f"the docstring does not say what hyper-parameter {name!r} does"


def constructor_needs_no_values(plugin: Factory, kind: str) -> None:
    """It works on torch's meta device, where the harness constructs networks to check a configuration."""
    if kind in ("backbones", "ssl_methods"):
        with torch.device("meta"):
            _new(plugin, kind)


COMMON_CHECKS: tuple[Check, ...] = (
    class_fits_its_kind,
    constructor_needs_no_values,
    hyperparameters_are_keywords,
    docstring_has_a_summary,
)


def check_imports(plugin: type) -> None:
    """Checks that the plugin's file imports nothing of `harness` but `api`, `seeding` and `image_file`.

    The last is for data sets of image files. The rest of `harness` changes without notice. Imports inside functions
    count too.

    Raises:
        AssertionError: names the import.
    """
    source = inspect.getsourcefile(plugin)
    assert source is not None
    for node in ast.walk(ast.parse(Path(source).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in imported:
            package, _, module = name.partition(".")
            assert package != "harness" or module.split(".")[0] in ("api", "seeding", "image_file"), (
                f"{source}:{node.lineno} imports {name}; plugins import harness.api, .seeding and .image_file alone"
            )


# --- selectors ---


class _LinearModel:
    """A `PoolModel` that is cheap and consistent: features are linear in the pixels, logits in the features."""

    def __init__(self, images: Tensor, num_classes: int, logit_scale: float, trained: bool):
        self._pixels = images.flatten(1).float() / 255 - 0.5
        rng = generator(0, "weights")
        size = self._pixels.shape[1]
        self._encoder = torch.randn(size, 16, generator=rng) / size**0.5
        self._head = torch.randn(16, num_classes, generator=rng) * logit_scale
        self._trained = trained

    def features(self) -> Tensor:
        return self._pixels @ self._encoder

    def logits(self) -> Tensor:
        return self._classify(self.features())

    def stochastic_logits(self, num_samples: int) -> Tensor:
        features = self.features().expand(num_samples, -1, -1)
        kept = torch.rand(features.shape, generator=generator(0, "dropout")) < 0.5
        return self._classify(features * kept * 2)

    def augmented_logits(self, num_samples: int) -> Tensor:
        pixels = self._pixels.expand(num_samples, -1, -1)
        noise = 0.1 * torch.randn(pixels.shape, generator=generator(0, "noise"))
        return self._classify((pixels + noise) @ self._encoder)

    def ssl_loss(self) -> Tensor:
        return self.features().square().mean(1)

    def companion_outputs(self) -> Tensor:
        return self.logits().mean(1)

    def _classify(self, features: Tensor) -> Tensor:
        if not self._trained:
            raise ValueError("no classifier has been trained yet: the pool has no labels")
        return features @ self._head


def make_pool(
    images: Tensor | None = None,
    *,
    num_labeled: int = 8,
    labels: Tensor | None = None,
    num_classes: int = 4,
    logit_scale: float = 4.0,
    seed: int = 0,
) -> Pool:
    """A pool of small images with a linear model, for tests of selectors; equal arguments give equal pools.

    Args:
        images: u8 [N, C, H, W]; if None, 60 images of 3 x 8 x 8 in as many clusters as there are classes.
        num_labeled: L, at random positions. Without any the pool offers no logits.
        labels: i64 [N], the classes of all images, of which the pool gets those of the labelled; random if None.
        num_classes: K.
        logit_scale: the size of the logits.
        seed: of whatever is random.
    """
    rng = generator(seed, "pool")
    if images is None:
        centers = torch.randint(256, (num_classes, 3, 8, 8), generator=rng)
        noise = torch.randint(-40, 41, (60, 3, 8, 8), generator=rng)
        images = (centers[torch.arange(60) % num_classes] + noise).clamp(0, 255).to(torch.uint8)
    if labels is None:
        labels = torch.randint(num_classes, (len(images),), generator=rng)
    is_labeled = torch.zeros(len(images), dtype=torch.bool)
    is_labeled[torch.randperm(len(images), generator=rng)[:num_labeled]] = True
    labeled, unlabeled = is_labeled.nonzero().squeeze(1), (~is_labeled).nonzero().squeeze(1)
    model = _LinearModel(images, num_classes, logit_scale, trained=num_labeled > 0)
    return Pool(Images(images), labeled, unlabeled, labels[labeled], num_classes, model)


def _select(selector: Any, pool: Pool, budget: int, seed: int = 0) -> Tensor:
    """The picks, after checking that they are what `Selector.select` promises."""
    picks = selector.select(pool, budget, rng=generator(seed, "select"))
    assert isinstance(picks, Tensor), f"select returned {type(picks).__name__}, not a tensor"
    assert picks.dtype == torch.int64, f"picks are {picks.dtype}, not torch.int64"
    assert picks.device.type == "cpu", f"picks are on {picks.device}, not on the CPU"
    assert picks.shape == (budget,), f"picks have shape {tuple(picks.shape)} for a budget of {budget}"
    assert len(picks.unique()) == budget, "an image was picked twice"
    assert torch.isin(picks, pool.unlabeled).all(), (
        "a pick is not in pool.unlabeled (picks are positions in the pool, not in pool.unlabeled)"
    )
    return picks


def picks_are_valid(plugin: Factory) -> None:
    """Exactly `budget` distinct unlabelled positions, for one image, some and all of them."""
    pool = make_pool()
    for budget in (1, 20, len(pool.unlabeled)):
        with _when(f"budget {budget} of {len(pool.unlabeled)}"):
            _select(plugin(), pool, budget)


def same_seed_same_picks(plugin: Factory) -> None:
    """Equal pools and seeds give equal picks, and a selector keeps nothing from one call to the next."""
    selector = plugin()
    first, again = _select(selector, make_pool(), 10), _select(selector, make_pool(), 10)
    assert torch.equal(first, again), "the same selector, asked again with the same pool and seed, picks differently"
    assert torch.equal(first, _select(plugin(), make_pool(), 10)), "for the same pool and seed the picks differ"


def picks_need_no_global_generator(plugin: Factory) -> None:
    """Randomness comes from `rng` alone."""
    _draws_only_from_its_generator(lambda: _select(plugin(), make_pool(), 10))


def pool_is_not_modified(plugin: Factory) -> None:
    """Selecting leaves every tensor of the pool as it was."""
    pool, pristine = make_pool(), make_pool()
    _select(plugin(), pool, 10)
    everything = torch.arange(len(pool.images))
    assert torch.equal(pool.images[everything], pristine.images[everything]), "it modified pool.images"
    for name in ("labeled", "unlabeled", "labels", "features", "logits", "ssl_loss", "companion_outputs"):
        assert torch.equal(getattr(pool, name), getattr(pristine, name)), f"it modified pool.{name}"


def degenerate_pools() -> dict[str, Pool]:
    """Pools that happen: what is peculiar -> the pool."""
    rng = generator(0, "degenerate")
    constant = torch.full((40, 3, 8, 8), 128, dtype=torch.uint8)
    few = torch.randint(256, (4, 3, 8, 8), generator=rng).to(torch.uint8)
    return {
        "all images equal": make_pool(constant),
        "few distinct images, many duplicates": make_pool(few.repeat(10, 1, 1, 1)),
        "logits of 1e4": make_pool(logit_scale=1e4),
        "all labels of one class": make_pool(labels=torch.zeros(60, dtype=torch.int64)),
        "one labelled image": make_pool(num_labeled=1),
        "three images, one labelled": make_pool(few[:3], num_labeled=1),
        "one unlabelled image": make_pool(num_labeled=59),
        "one channel, 9 x 11 pixels": make_pool(torch.randint(256, (40, 1, 9, 11), generator=rng).to(torch.uint8)),
    }


def degenerate_pools_work(plugin: Factory) -> None:
    """A pool without information still gets valid picks, for half and for all of it."""
    for peculiarity, pool in degenerate_pools().items():
        size = len(pool.unlabeled)
        for budget in sorted({(size + 1) // 2, size}):
            with _when(f"{peculiarity}, budget {budget} of {size}"):
                _select(plugin(), pool, budget)


def cold_start_is_as_declared(plugin: Factory) -> None:
    """A selector that declares `supports_cold_start` selects without any label and without `pool.logits`."""
    selector = plugin()
    assert isinstance(selector.supports_cold_start, bool), "supports_cold_start is not a bool"
    if selector.supports_cold_start:
        pool = make_pool(num_labeled=0)
        for budget in (1, 10, len(pool.unlabeled)):
            with _when(f"no labels, budget {budget}"):
                _select(plugin(), pool, budget)


def pool_subset_is_taken(plugin: Factory) -> None:
    """`pool_subset` is set by `prepare`, and the smaller pool that the harness then shows is selected from."""
    selector = plugin()
    selector.prepare(pool_subset=30)
    assert selector.pool_subset == 30, (
        f"after prepare(pool_subset=30) the attribute pool_subset is {selector.pool_subset!r}"
    )
    whole = make_pool()
    rows = torch.cat([whole.labeled, whole.unlabeled[::2]]).sort().values
    shown = torch.isin(rows, whole.unlabeled)
    pool = replace(
        whole,
        images=whole.images.subset(rows),
        labeled=(~shown).nonzero().flatten(),
        unlabeled=shown.nonzero().flatten(),
        model=_Rows(whole.model, rows),
    )
    for budget in (1, int(shown.sum())):
        with _when(f"a subset of {int(shown.sum())} unlabelled images, budget {budget}"):
            _select(selector, pool, budget)


class _Rows:
    """A `PoolModel` that knows some rows of another's answers."""

    def __init__(self, model: Any, rows: Tensor):
        self._model = model
        self._rows = rows

    def features(self) -> Tensor:
        return self._model.features()[self._rows]

    def logits(self) -> Tensor:
        return self._model.logits()[self._rows]

    def stochastic_logits(self, num_samples: int) -> Tensor:
        return self._model.stochastic_logits(num_samples)[:, self._rows]

    def augmented_logits(self, num_samples: int) -> Tensor:
        return self._model.augmented_logits(num_samples)[:, self._rows]

    def ssl_loss(self) -> Tensor:
        return self._model.ssl_loss()[self._rows]

    def companion_outputs(self) -> Tensor:
        return self._model.companion_outputs()[self._rows]


class _Recording:
    """A `PoolModel` that notes which parts it is asked for."""

    def __init__(self, model: Any):
        self._model = model
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        return getattr(self._model, name)


def reads_are_as_declared(plugin: Factory) -> None:
    """`reads` names the conditional parts of the pool that selecting asks for, no fewer and no more."""
    declared = plugin().reads
    assert isinstance(declared, frozenset), f"reads is {declared!r}, not a frozenset"
    for name in declared - CONDITIONAL_PARTS:
        raise AssertionError(f"reads has {name!r}; {messages.closest(name, CONDITIONAL_PARTS)}")
    asked: set[str] = set()
    cold = [make_pool(num_labeled=0)] * plugin().supports_cold_start
    for pool in (make_pool(), *cold):
        model: Any = _Recording(pool.model)
        _select(plugin(), replace(pool, model=model), 1)
        asked |= model.asked
    for name in sorted(CONDITIONAL_PARTS & asked - declared):
        raise AssertionError(f"it reads pool.{name}, but reads does not say so: a trial without would fail late")
    for name in sorted(declared - asked):
        raise AssertionError(f"reads has {name!r}, which selecting never asks for: trials without are refused in vain")


_STAGE_SHAPES: list[tuple[int, ...]] = [(4, 8, 8), (6, 12), (16,)]
"""Of a convolutional stage, of one of a transformer, and of features."""


def companion_is_as_declared(plugin: Factory) -> None:
    """A selector that reads the outputs of a companion offers one that can be trained; any other offers none."""
    selector = plugin()
    if "companion_outputs" not in selector.reads:
        offered = selector.companion(list(_STAGE_SHAPES))
        assert offered is None, "companion() offers a module, but reads lacks 'companion_outputs': it is never trained"
        return
    with seeded(0, "weights"):
        companion = selector.companion(list(_STAGE_SHAPES))
    assert isinstance(companion, Companion), f"companion() is {type(companion).__name__}, not a Companion"
    for size, progress in ((8, 0.0), (5, 0.5), (1, 0.99)):
        with _when(f"batch of {size}, progress {progress}"):
            rng = generator(size, "stages")
            stages = [torch.randn(size, *shape, generator=rng).requires_grad_() for shape in _STAGE_SHAPES]
            task_losses = torch.rand(size, generator=rng)
            before = [tensor.detach().clone() for tensor in (*stages, task_losses)]
            loss = companion.loss(stages, task_losses, progress)
            assert loss.shape == () and loss.isfinite(), f"the loss is {loss}, not one finite number"
            if size == 8:
                loss.backward()
                gradients = {name: p.grad for name, p in companion.named_parameters() if p.requires_grad}
                for name, gradient in gradients.items():
                    assert gradient is not None and gradient.isfinite().all(), f"no finite gradient reaches {name}"
                assert any(g is not None and g.any() for g in gradients.values()), "the loss has no gradient"
            after = (*stages, task_losses)
            assert all(map(torch.equal, before, after)), "loss() modified the stages or the losses"
    companion.eval()
    stages = [torch.randn(4, *shape, generator=generator(0, "stages")) for shape in _STAGE_SHAPES]
    with torch.no_grad():
        outputs = companion(stages)
        alone = torch.cat([companion([stage[i : i + 1] for stage in stages]) for i in range(4)])
    assert outputs.dtype == torch.float32 and len(outputs) == 4, f"outputs are {outputs.dtype} {list(outputs.shape)}"
    assert torch.allclose(outputs, alone, atol=1e-5), "in evaluation mode outputs depend on the batch"


SELECTOR_CHECKS: tuple[Check, ...] = (
    picks_are_valid,
    same_seed_same_picks,
    picks_need_no_global_generator,
    pool_is_not_modified,
    degenerate_pools_work,
    cold_start_is_as_declared,
    pool_subset_is_taken,
    reads_are_as_declared,
    companion_is_as_declared,
)


# --- augmentations ---

_BATCHES = ((4, 3, 32, 32), (1, 3, 9, 12), (3, 1, 8, 8), (5, 1, 13, 7))
"""[B, C, H, W] that an augmentation must take: one image, one channel, odd and unequal sides."""


def _batch(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """u8 [B, C, H, W]."""
    return torch.randint(256, shape, generator=generator(0, "images")).to(torch.uint8).to(device)


def _augment(plugin: Factory, images: Tensor, *, view: int = 0, seed: int = 0) -> Tensor:
    return plugin()(images, view=view, rng=generator(seed, "augment", images.device))


def output_is_a_batch_of_images(plugin: Factory, device: torch.device) -> None:
    """f32 in [0, 1] of the input's shape (or of one size that was asked for), on its device, for views 0 and 1."""
    sizes = set()
    for shape in _BATCHES:
        images = _batch(shape, device)
        for given, view in ((images, 0), (images / 255, 1)):
            with _when(f"{given.dtype} {list(shape)}, view {view}"):
                out = _augment(plugin, given, view=view)
                assert out.dtype == torch.float32, f"the output is {out.dtype}, not torch.float32"
                assert out.device == images.device, f"the output is on {out.device}, the input on {images.device}"
                assert out.ndim == 4 and out.shape[:2] == shape[:2], f"the output has shape {list(out.shape)}"
                low, high = out.min().item(), out.max().item()
                assert low >= 0 and high <= 1, f"the output reaches from {low} to {high}, not within [0, 1]"
        sizes.add((tuple(out.shape[2:]), shape[2:]))
    kept = all(after == before for after, before in sizes)
    assert kept or len({after for after, _ in sizes}) == 1, f"(H, W) of output and input: {sorted(sizes)}"


def input_is_not_modified(plugin: Factory, device: torch.device) -> None:
    """The images handed in stay as they were."""
    for images in (_batch(_BATCHES[0], device), _batch(_BATCHES[0], device) / 255):
        before = images.clone()
        for seed in range(4):
            _augment(plugin, images, seed=seed)
        assert torch.equal(images, before), f"it modified its {images.dtype} input"


def integers_and_floats_agree(plugin: Factory, device: torch.device) -> None:
    """u8 in 0 .. 255 and the same images as f32 in [0, 1] give the same result."""
    images = _batch(_BATCHES[0], device)
    for seed in range(4):
        a, b = _augment(plugin, images, seed=seed), _augment(plugin, images / 255, seed=seed)
        assert torch.allclose(a, b, rtol=0, atol=1e-5), f"u8 and f32 input differ by up to {(a - b).abs().max():.3g}"


def same_seed_same_output(plugin: Factory, device: torch.device) -> None:
    """Equal images and seeds give equal results, and an augmentation keeps nothing from one call to the next."""
    images, augmentation = _batch(_BATCHES[0], device), plugin()
    first, again = (augmentation(images, view=0, rng=generator(0, "augment", device)) for _ in range(2))
    assert torch.equal(first, again), "called again with the same images and seed, it returns other images"
    assert torch.equal(first, _augment(plugin, images)), "for the same images and seed the results differ"


def output_needs_no_global_generator(plugin: Factory, device: torch.device) -> None:
    """Randomness comes from `rng` alone."""
    images = _batch(_BATCHES[0], device)
    _draws_only_from_its_generator(lambda: _augment(plugin, images))


def every_image_has_its_own_draw(plugin: Factory, device: torch.device) -> None:
    """A random operation treats the copies of an image in a batch differently, and two batches too.

    An operation that gives the same for every seed is deterministic and may treat all alike.
    """
    copies = _batch((1, 3, 16, 16), device).expand(32, -1, -1, -1)
    batches = [_augment(plugin, copies, seed=seed) for seed in range(8)]
    if all(torch.equal(batches[0], batch) for batch in batches):
        return
    assert any((batch != batch[0]).any() for batch in batches), "all images of a batch share one draw"
    rng = generator(0, "augment", device)
    in_turn = [plugin()(copies, view=0, rng=rng) for _ in range(8)]
    assert any((batch != in_turn[0]).any() for batch in in_turn), "every batch gets the same draws from one generator"


AUGMENTATION_CHECKS: tuple[Check, ...] = (
    output_is_a_batch_of_images,
    input_is_not_modified,
    integers_and_floats_agree,
    same_seed_same_output,
    output_needs_no_global_generator,
    every_image_has_its_own_draw,
)


# --- backbones ---

_IMAGE_SHAPES = ((3, 32, 32), (1, 32, 32), (3, 64, 64))
"""(C, H, W) that a backbone must take."""


def _new_backbone(plugin: Factory, image_shape: tuple[int, int, int], seed: int = 0) -> Any:
    with seeded(seed, "weights"):
        return plugin(image_shape)


def _normalised(batch: int, image_shape: tuple[int, int, int]) -> Tensor:
    """f32 [B, C, H, W] of mean 0 and variance 1."""
    return torch.randn(batch, *image_shape, generator=generator(0, "images"))


def features_have_the_promised_shape(plugin: Factory) -> None:
    """f32 [B, feature_dim], finite, for colour and grey images and more than one size."""
    for image_shape in _IMAGE_SHAPES:
        with _when(f"image_shape {image_shape}"):
            backbone, images = _new_backbone(plugin, image_shape), _normalised(4, image_shape)
            before = images.clone()
            features = backbone(images)
            expected = (4, backbone.feature_dim)
            assert features.shape == expected, (
                f"features have shape {tuple(features.shape)}, feature_dim promises {expected}"
            )
            assert features.dtype == torch.float32, f"features are {features.dtype}, not torch.float32"
            assert features.isfinite().all(), "features are not finite"
            assert torch.equal(images, before), "it modified its input"


def gradients_reach_every_parameter(plugin: Factory) -> None:
    """No parameter is left out of the features."""
    backbone = _new_backbone(plugin, _IMAGE_SHAPES[0])
    backbone(_normalised(4, _IMAGE_SHAPES[0])).square().sum().backward()
    for name, parameter in backbone.named_parameters():
        reached = parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any()
        assert reached or not parameter.requires_grad, f"no gradient reaches {name}"


def same_seed_same_weights(plugin: Factory) -> None:
    """Initial weights come from torch's global generator alone."""
    states = []
    for other_seed in (1, 2):
        with _global_seed(other_seed):
            states.append(_new_backbone(plugin, _IMAGE_SHAPES[0]).state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), f"{name} differs between two models of the same torch seed"


def features_do_not_depend_on_the_batch(plugin: Factory) -> None:
    """In evaluation mode an image has the same features alone and in a batch."""
    backbone, images = _new_backbone(plugin, _IMAGE_SHAPES[0]).eval(), _normalised(4, _IMAGE_SHAPES[0])
    with torch.no_grad():
        together = backbone(images)
        alone = torch.cat([backbone(image[None]) for image in images])
    assert torch.allclose(together, alone, rtol=1e-3, atol=1e-4), "in evaluation mode features depend on the batch"


def state_dict_restores_the_backbone(plugin: Factory) -> None:
    """A model of other weights that loads the state gives the same features; running statistics are included."""
    images = _normalised(4, _IMAGE_SHAPES[0])
    trained, restored = (_new_backbone(plugin, _IMAGE_SHAPES[0], seed) for seed in (0, 1))
    with torch.no_grad():
        trained(images * 2 + 1)
        restored.load_state_dict(trained.state_dict())
        a, b = trained.eval()(images), restored.eval()(images)
    assert torch.allclose(a, b), "after load_state_dict the features differ: some state is not in state_dict"


@contextmanager
def _outputs_of(modules: list[nn.Module]) -> Iterator[list[tuple[int, Any]]]:
    """Collects (position in the list, output) of the modules, in the order in which they are called inside."""
    called: list[tuple[int, Any]] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output, position=position: called.append((position, output)))
        for position, module in enumerate(modules)
    ]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


def stages_are_in_order(plugin: Factory) -> None:
    """`stages` are distinct modules of the network, called once per batch, one after the other; outputs [B, ...]."""
    backbone = _new_backbone(plugin, _IMAGE_SHAPES[0])
    stages = backbone.stages()
    assert isinstance(stages, list) and stages, f"stages() is {stages!r}, not a list of modules"
    assert len(set(stages)) == len(stages), "a stage is listed twice"
    inside = set(backbone.modules())
    for number, stage in enumerate(stages, start=1):
        assert stage in inside, f"stage {number} is not a module of the backbone"
    with torch.no_grad(), _outputs_of(stages) as called:
        backbone(_normalised(4, _IMAGE_SHAPES[0]))
    order = [position + 1 for position, _ in called]
    assert order == list(range(1, len(stages) + 1)), f"a forward pass calls the stages in the order {order}"
    for position, output in called:
        assert isinstance(output, Tensor) and len(output) == 4, f"the output of stage {position + 1} is not [B, ...]"


def frozen_stages_stay_as_they_are(plugin: Factory) -> None:
    """With `freeze` nothing trains a stage or what is before it, nor moves its statistics, in a deep copy neither."""
    images = _normalised(4, _IMAGE_SHAPES[0])
    num_stages = len(_new_backbone(plugin, _IMAGE_SHAPES[0]).stages())
    for freeze in dict.fromkeys((1, num_stages, True)):
        with _when(f"freeze = {freeze}"):
            backbone = _new_backbone(plugin, _IMAGE_SHAPES[0])
            backbone.prepare(freeze=freeze)
            backbone = copy.deepcopy(backbone).train()
            stage = backbone if freeze is True else backbone.stages()[freeze - 1]
            with _outputs_of([stage]) as called:
                backbone(images)
                backbone(images * 2 + 1)
                backbone.eval()(images)
            (_, trained), _, (_, evaluated) = called
            assert not trained.requires_grad, "a gradient reaches what is frozen"
            assert torch.equal(trained, evaluated), "what is frozen is not in evaluation mode, or its statistics move"


BACKBONE_CHECKS: tuple[Check, ...] = (
    features_have_the_promised_shape,
    gradients_reach_every_parameter,
    same_seed_same_weights,
    features_do_not_depend_on_the_batch,
    state_dict_restores_the_backbone,
    stages_are_in_order,
    frozen_stages_stay_as_they_are,
)


# --- SSL methods ---

_VIEW_SHAPE = (3, 16, 16)
_BATCH_SIZE = 16
_NUM_CLASSES = 4


class _Encoder(Backbone):
    """A backbone that trains in milliseconds."""

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(image_shape[0], 8, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
        )
        self.feature_dim = 8 * 4 * 4

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def _new_method(plugin: Factory, seed: int = 0) -> Any:
    """The method on a small encoder; one that takes two arguments by position, a supervised one, gets K as well."""
    positional = [p for p in inspect.signature(plugin).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    with seeded(seed, "weights"):
        return plugin(_Encoder(_VIEW_SHAPE), *[_NUM_CLASSES] * (len(positional) > 1))


def _views(num_views: int, seed: int = 0) -> list[Tensor]:
    """`num_views` noisy views of the same 16 images; the seed changes the noise alone."""
    coarse = torch.randn(_BATCH_SIZE, 3, 4, 4, generator=generator(0, "images"))
    images = nn.functional.interpolate(coarse, _VIEW_SHAPE[1:])
    rng = generator(seed, "noise")
    return [images + 0.3 * torch.randn(images.shape, generator=rng) for _ in range(num_views)]


def _labels(method: SSLMethod) -> Tensor:
    """i64 [B]; of a method that learns from the whole pool too, half of them UNKNOWN."""
    labels = torch.arange(_BATCH_SIZE) // 2 % _NUM_CLASSES
    if isinstance(method, SupervisedMethod) and not method.labeled_only:
        labels[_BATCH_SIZE // 2 :] = UNKNOWN
    return labels


def _losses(method: SSLMethod, views: list[Tensor], order: Tensor | None = None) -> dict[str, Tensor]:
    """The losses as the harness asks for them, by the method's contract; `order` is that of the images in `views`."""
    labels = _labels(method)
    if isinstance(method, SupervisedMethod):
        return method.labeled_loss(views, labels if order is None else labels[order])
    if isinstance(method, SemiSupervisedMethod):
        with torch.random.fork_rng(devices=[]), seeded(0, "classifier"):
            head = nn.Linear(method.backbone.feature_dim, _NUM_CLASSES)
        return method.joint_loss(nn.Sequential(method.backbone, head), _views(1, seed=2)[0], labels, views)
    return method.loss(views)


def _loss(method: SSLMethod, views: list[Tensor], order: Tensor | None = None) -> Tensor:
    """The loss f32 [] of the method as it is now; the method itself is not advanced."""
    with seeded(0, "loss"):
        return _losses(copy.deepcopy(method), views, order)["loss"].detach()


def _train(method: SSLMethod, num_steps: int) -> list[float]:
    """The losses of a few steps, as the harness's loop makes them."""
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for step in range(num_steps):
        with seeded(step, "train"):
            loss = _losses(method, _views(method.num_views, seed=step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step((step + 1) / num_steps)
        losses.append(loss.item())
    return losses


def method_keeps_its_encoder(plugin: Factory) -> None:
    """`backbone` is an encoder and `num_views` a number."""
    method = _new_method(plugin)
    assert isinstance(method.num_views, int) and method.num_views >= 0, f"num_views is {method.num_views!r}"
    assert isinstance(method.backbone, Backbone), "self.backbone is not the encoder"
    features = method.backbone(_views(1)[0])
    assert features.shape == (_BATCH_SIZE, method.backbone.feature_dim), "self.backbone does not encode images"


def loss_trains_the_encoder(plugin: Factory) -> None:
    """`loss` is a finite scalar whose gradient reaches the whole encoder; all else in the dict is scalar too."""
    method = _new_method(plugin)
    views = _views(method.num_views)
    before = [view.clone() for view in views]
    losses = _losses(method, views)
    assert isinstance(losses, dict) and "loss" in losses, "loss() does not return a dict with 'loss'"
    for name, value in losses.items():
        assert isinstance(value, Tensor) and value.shape == (), f"{name!r} is not a scalar tensor"
        assert value.isfinite(), f"{name!r} is {value.item()}"
    losses["loss"].backward()
    for name, parameter in method.backbone.named_parameters():
        reached = parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any()
        assert reached, f"no gradient of the loss reaches backbone.{name}"
    assert all(map(torch.equal, views, before)), "loss() modified the views"


def every_view_counts(plugin: Factory) -> None:
    """The loss depends on each of the `num_views` views."""
    method = _new_method(plugin)
    views, others = _views(method.num_views), _views(method.num_views, seed=1)
    for view in range(method.num_views):
        changed = [*views[:view], others[view], *views[view + 1 :]]
        assert _loss(method, changed) != _loss(method, views), f"the loss does not depend on view {view}"


def order_of_images_is_irrelevant(plugin: Factory) -> None:
    """The same images in another order have the same loss."""
    method = _new_method(plugin)
    views = _views(method.num_views)
    order = torch.randperm(_BATCH_SIZE, generator=generator(0, "order"))
    a, b = _loss(method, views), _loss(method, [view[order] for view in views], order)
    assert torch.allclose(a, b, rtol=1e-4, atol=1e-5), f"the loss is {a:.6g}, in another order {b:.6g}"


def sample_loss_splits_the_loss(plugin: Factory) -> None:
    """`sample_loss`, where it is defined, is f32 [B], finite, and its mean is the loss without labels."""
    method = _new_method(plugin)
    views = _views(method.num_views)
    try:
        with seeded(0, "loss"):
            per_image = copy.deepcopy(method).sample_loss(views)
    except NotImplementedError:
        return
    assert per_image.shape == (_BATCH_SIZE,), f"sample_loss has shape {tuple(per_image.shape)}, not [B]"
    assert per_image.dtype == torch.float32, f"sample_loss is {per_image.dtype}, not torch.float32"
    assert per_image.isfinite().all(), "sample_loss is not finite"
    with seeded(0, "loss"):
        mean, loss = per_image.mean(), copy.deepcopy(method).loss(views)["loss"]
    assert torch.allclose(mean, loss, rtol=1e-4, atol=1e-5), f"sample_loss has mean {mean:.6g}, the loss is {loss:.6g}"


def training_lowers_the_loss(plugin: Factory) -> None:
    """Forty steps on sixteen images make the loss smaller."""
    losses = _train(_new_method(plugin), num_steps=40)
    start, end = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    assert end < start, f"after 40 steps on 16 images the loss went from {start:.4g} to {end:.4g}"


def same_seed_same_training(plugin: Factory) -> None:
    """Weights and losses come from torch's global generator alone."""
    runs = []
    for other_seed in (1, 2):
        with _global_seed(other_seed):
            runs.append(_train(_new_method(plugin), num_steps=3))
    assert runs[0] == runs[1], f"two runs of the same torch seed have losses {runs[0]} and {runs[1]}"


def state_dict_resumes_the_training(plugin: Factory) -> None:
    """A fresh method that loads a state goes on as the first one does: queues, pointers and averages are in there."""
    method, resumed = _new_method(plugin), _new_method(plugin, seed=1)
    _train(method, num_steps=3)
    resumed.load_state_dict(method.state_dict())
    going_on, after = _train(method, num_steps=3), _train(resumed, num_steps=3)
    assert np.allclose(going_on, after, rtol=1e-4, atol=1e-6), (
        f"losses go on as {going_on}, after load_state_dict as {after}: some state is not in state_dict"
    )


def _when_trained(check: Check) -> Check:
    """The check, passed by methods that do not train."""

    def checked(plugin: Factory) -> None:
        if _new_method(plugin).num_views > 0:
            check(plugin)

    checked.__name__, checked.__doc__ = check.__name__, check.__doc__
    return checked


SSL_METHOD_CHECKS: tuple[Check, ...] = (
    method_keeps_its_encoder,
    *map(
        _when_trained,
        (
            loss_trains_the_encoder,
            every_view_counts,
            order_of_images_is_irrelevant,
            sample_loss_splits_the_loss,
            training_lowers_the_loss,
            same_seed_same_training,
            state_dict_resumes_the_training,
        ),
    ),
)


# --- data sets ---


def identity_is_stable(plugin: Factory) -> None:
    """`identity` is a text, the same on every call and for every instance."""
    dataset = plugin()
    identity = dataset.identity()
    assert isinstance(identity, str) and identity, f"identity() is {identity!r}, not a text"
    assert dataset.identity() == identity, "identity() changes from one call to the next"
    assert plugin().identity() == identity, "two instances of equal hyper-parameters have different identities"


def source_is_complete(plugin: Factory) -> None:
    """A labelled `train` split, distinct class names, labels i64 in 0 .. K-1."""
    source = plugin().open()
    assert isinstance(source, Source), f"open() returned {type(source).__name__}, not a Source"
    assert len(source.image_shape) == 3 and source.image_shape[0] in (1, 3), f"image_shape is {source.image_shape}"
    names = source.class_names
    assert len(names) >= 2 and len(set(names)) == len(names), f"class_names are not two or more distinct names: {names}"
    assert "train" in source.splits, f"there is no split 'train' among {sorted(source.splits)}"
    for name, split in source.splits.items():
        with _when(f"split {name!r}"):
            assert name in ("train", "test", "unlabeled"), "a split is one of 'train', 'test' and 'unlabeled'"
            assert split.num_images > 0, "it has no images"
            if split.labels is None:
                assert name == "unlabeled", "it has no labels"
                continue
            assert split.labels.dtype == torch.int64, f"labels are {split.labels.dtype}, not torch.int64"
            assert split.labels.shape == (split.num_images,), (
                f"labels have shape {tuple(split.labels.shape)} for {split.num_images} images"
            )
            low, high = int(split.labels.min()), int(split.labels.max())
            assert low >= 0 and high < len(names), f"labels reach from {low} to {high} with {len(names)} class names"


def _pieces(split: Split, size: int = 5) -> list[tuple[int, int]]:
    """(start, stop) of the first pieces and of the last one, which is shorter."""
    last = split.num_images - min(3, split.num_images)
    starts = range(0, min(40, last), size)
    return [*((start, min(start + size, last)) for start in starts), (last, split.num_images)]


def pieces_have_the_promised_shape(plugin: Factory) -> None:
    """`read(start, stop)` is u8 [stop - start, C, H, W], and the images of a piece do not depend on its borders."""
    source = plugin().open()
    for name, split in source.splits.items():
        with _when(f"split {name!r}"):
            for start, stop in _pieces(split):
                images = split.read(start, stop)
                assert images.dtype == torch.uint8, f"images are {images.dtype}, not torch.uint8"
                assert images.shape == (stop - start, *source.image_shape), (
                    f"read({start}, {stop}) has shape {tuple(images.shape)}, image_shape is {source.image_shape}"
                )
                alone = torch.cat([split.read(index, index + 1) for index in range(start, stop)])
                assert torch.equal(images, alone), f"read({start}, {stop}) differs from reading one image at a time"


def threads_read_the_same(plugin: Factory) -> None:
    """Several threads that read at once, and a source opened anew, get what one thread got."""
    source, again = plugin().open(), plugin().open()
    for name, split in source.splits.items():
        pieces = _pieces(split) * 4
        in_turn = [split.read(*piece) for piece in pieces]
        with _when(f"split {name!r}"), ThreadPoolExecutor(8) as threads:
            at_once = list(threads.map(lambda piece, read=again.splits[name].read: read(*piece), pieces))
            assert all(map(torch.equal, in_turn, at_once)), "threads that read at once get other images"


DATASET_CHECKS: tuple[Check, ...] = (
    identity_is_stable,
    source_is_complete,
    pieces_have_the_promised_shape,
    threads_read_the_same,
)
