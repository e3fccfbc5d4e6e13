"""What the checks of every kind share: a class fits its contract, and draws from its generator alone."""

from __future__ import annotations

import ast
import inspect
import random
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from harness import messages
from harness.api import Backbone, PatchBackbone
from harness.plugins import registry
from harness.seeding import seeded

Factory = Callable[..., Any]
"""A plugin's class, or a function that is called in its place."""

Check = Callable[..., None]
"""A promise: takes the plugin (and, in COMMON_CHECKS, its kind) and raises AssertionError if it is broken."""


def run_checks(
    kind: str, plugin: Factory, checks: tuple[Check, ...], exempt: Mapping[str, str] | None, **options: Any
) -> None:
    """Runs the checks of every kind and those given; the first that fails is named with the plugin."""
    exempt = exempt or {}
    calls = {check.__name__: partial(check, plugin, kind) for check in COMMON_CHECKS}
    calls |= {check.__name__: partial(check, plugin, **options) for check in checks}
    for name in exempt:
        assert name in calls, f"exempt: no check {name!r}; {messages.closest(name, calls)}"
    for name, call in calls.items():
        try:
            with when(f"{getattr(plugin, '__name__', plugin)}, {name}"):
                call()
        except AssertionError:
            if name not in exempt:
                raise
        else:
            assert name not in exempt, f"exempt: {plugin} passes {name}, so it is no exception ({exempt[name]})"


@contextmanager
def when(situation: str) -> Iterator[None]:
    """Turns whatever is raised inside into an AssertionError that names the situation."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{situation}: {error}") from error
    except Exception as error:
        raise AssertionError(f"{situation}: raised {messages.cause_of(error)}") from error


def _new(plugin: Factory, kind: str) -> Any:
    """An instance of any kind of plugin; weights are those of a fixed seed."""
    if kind == "backbones":
        return new_backbone(plugin, image_shapes(plugin)[0])
    return new_method(plugin) if kind == "ssl_methods" else plugin()


def _equal(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


def global_states() -> dict[str, Any]:
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
    before = global_states()
    yield
    for library, state in global_states().items():
        assert state == before.get(library, state), f"it changed the state of the global generator of {library}"


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seeds every global generator inside the block, then restores them."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        yield
    np.random.set_state(numpy_state)  # noqa: NPY002
    random.setstate(python_state)


def draws_only_from_its_generator(call: Callable[[], Tensor]) -> None:
    """`call` asks a new plugin under a fixed seed: of the generator that it hands over, or of torch's while it runs."""
    results = []
    for seed in (1, 2):
        with global_seed(seed), _untouched_generators():
            results.append(call())
    assert _equal(*results), (
        "the result depends on a generator that it was not given, such as a global one (torch, numpy.random or random)"
    )


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
    problem = registry.constructor_problem(type(instance))
    assert problem is None, problem
    for parameter in inspect.signature(type(instance)).parameters.values():
        name = parameter.name
        assert parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD), (
            f"the constructor takes {parameter}, so that a misspelt hyper-parameter would go unnoticed"
        )
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        assert name not in registry.shared(type(instance)), (
            f"{name!r} is a hyper-parameter that all {kind} have already"
        )
        assert hasattr(instance, name), f"hyper-parameter {name!r} is not kept as an attribute of that name"
        if plugin is type(instance):
            kept = getattr(instance, name)
            assert _equal(kept, parameter.default), (
                f"attribute {name!r} is {kept!r}, not the value it was given, {parameter.default!r}"
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


COMMON_CHECKS: tuple[Check, ...] = (
    class_fits_its_kind,
    hyperparameters_are_keywords,
    docstring_has_a_summary,
)


PLUGINS_MAY_IMPORT = ("api", "seeding", "image_file", "tables", "embeddings_file")


def check_imports(plugin: type) -> None:
    """Checks that the plugin's file imports nothing of `harness` but `PLUGINS_MAY_IMPORT`.

    Those of files are for data sets. The rest of `harness` changes without notice. Imports inside functions
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
            allowed = ", ".join(PLUGINS_MAY_IMPORT)
            assert package != "harness" or module.split(".")[0] in PLUGINS_MAY_IMPORT, (
                f"{source}:{node.lineno} imports {name}; of harness plugins import {allowed} alone"
            )


def image_shapes(plugin: Factory) -> tuple[tuple[int, ...], ...]:
    """(C, H, W) that a backbone must take, or the (D,) of one that takes features."""
    try:
        of_images = not new_backbone(plugin, (48,)).takes_features
    except Exception:  # a backbone of images may fail in any way
        of_images = True
    return ((3, 32, 32), (1, 32, 32), (3, 64, 64)) if of_images else ((48,), (1,), (700,))


def new_backbone(plugin: Factory, image_shape: tuple[int, ...], seed: int = 0) -> Any:
    """The backbone, its weights drawn from the seed alone."""
    with seeded(seed, "weights"):
        return plugin(image_shape)


def half_precision() -> torch.autocast:
    """The precision in which trials run a network where that is fast: bfloat16, weights aside."""
    return torch.autocast("cpu", torch.bfloat16)


VIEW_SHAPE = (3, 16, 16)
NUM_CLASSES = 4


class SmallEncoder(Backbone):
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
        """f32 [B, C, H, W] -> f32 [B, D]."""
        return self.layers(images)


class SmallPatchEncoder(PatchBackbone):
    """A backbone of patches that trains in milliseconds: their mean and that of their squares go into every token."""

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__()
        self.feature_dim = 16
        self.patch_shape = (image_shape[0], 4, 4)
        self.embed = nn.Conv2d(image_shape[0], 16, kernel_size=4, stride=4)
        self.positions = nn.Parameter(torch.randn(1, 16, image_shape[1] // 4, image_shape[2] // 4))
        self.mix = nn.Linear(48, 16)

    def encode(self, images: Tensor, shown: Tensor | None = None) -> Tensor:
        """See `PatchBackbone.encode`."""
        patches = self.embed(images)
        positions = nn.functional.interpolate(self.positions, patches.shape[2:])
        tokens = (patches + positions).flatten(2).transpose(1, 2)
        if shown is not None:
            tokens = tokens.gather(1, shown.unsqueeze(2).expand(-1, -1, 16))
        whole = torch.cat([tokens.mean(1, keepdim=True), tokens.square().mean(1, keepdim=True)], dim=2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1)
        return self.mix(torch.cat([tokens, whole.expand(-1, tokens.shape[1], -1)], dim=2).relu())

    def forward(self, images: Tensor) -> Tensor:
        """f32 [B, C, H, W] -> f32 [B, D]."""
        return self.encode(images)[:, 0]


def new_method(plugin: Factory, seed: int = 0) -> Any:
    """The method on a small encoder; one that takes two arguments by position, a supervised one, gets K as well.

    A method whose `backbone` is annotated as a `PatchBackbone` gets one.
    """
    positional = [p.name for p in inspect.signature(plugin).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    function = plugin.func if isinstance(plugin, partial) else plugin
    types = registry.argument_types(function.__init__ if inspect.isclass(function) else function)
    wanted = types.get(positional[0]) if positional else None
    of_patches = isinstance(wanted, type) and issubclass(wanted, PatchBackbone)
    with seeded(seed, "weights"):
        encoder = (SmallPatchEncoder if of_patches else SmallEncoder)(VIEW_SHAPE)
        return plugin(encoder, *[NUM_CLASSES] * (len(positional) > 1))
