"""What every plugin of a kind can be set to beside its own hyper-parameters: the keyword arguments of `PREPARATIONS`.

`registry.build` calls these after the constructor, so that a plugin's author writes nothing for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.api import Backbone, Selector
from harness.plugins.weights import load_weights


def prepare_backbone(backbone: Backbone, *, weights: str | None = None, freeze: bool | int = False) -> None:
    """Loads weights and keeps parts of the network as they are.

    Args:
        backbone: is changed in place.
        weights: a checkpoint file, or a name among `published_weights`; None keeps the initial weights.
        freeze: true, or the number of `stages`, in order of depth, that are never trained. Their parameters and
            all that are registered before them require no gradient, and their batch normalisation and dropout
            stay in evaluation mode.

    Raises:
        ValueError: no such file, weights of another network, more stages than there are. On torch's meta device,
            where nothing is loaded, weights are only looked for.
        FileNotFoundError: published weights that cannot be fetched.
    """
    if weights is not None:
        load_weights(backbone, weights)
    backbone.freeze(freeze)


def prepare_selector(selector: Selector, *, pool_subset: int | None = None) -> None:
    """Tells a selector what it will be shown; the harness acts on it, not the selector.

    Args:
        selector: gets `pool_subset` as an attribute.
        pool_subset: how many unlabelled images `select` may choose from, a uniform draw of the pool's in every
            round; all of them if None. The pool that it is shown holds these and the labelled ones.

    Raises:
        ValueError: it is below 1.
    """
    if pool_subset is not None and pool_subset < 1:
        raise ValueError(f"pool_subset = {pool_subset} is not >= 1")
    selector.pool_subset = pool_subset


PREPARATIONS: Mapping[type, Callable[..., None]] = {Backbone: prepare_backbone, Selector: prepare_selector}
"""Contract -> what is called with a plugin of that kind and the settings that all of its kind have."""


def preparation(plugin: type) -> Callable[..., Any] | None:
    """That of a plugin's class; None for kinds without such settings."""
    return next((prepare for contract, prepare in PREPARATIONS.items() if issubclass(plugin, contract)), None)
