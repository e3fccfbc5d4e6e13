"""What every plugin of a kind can be set to beside its own hyper-parameters: the keyword arguments of `PREPARATIONS`.

`registry.build` calls these after the constructor, so that a plugin's author writes nothing for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from harness.api import CLASSIFIER_TRAITS, CONDITIONAL_PARTS, Backbone, FeatureForm, ImageForm, Selector
from harness.messages import closest
from harness.plugins.weights import load_weights

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of each colour of ImageNet's training images, as most published weights have them."""


def prepare_backbone(
    backbone: Backbone,
    *,
    weights: str | None = None,
    freeze: bool | int = False,
    input_size: int | Literal["auto", "own", "data"] = "auto",
    normalize: Literal["auto", "own", "imagenet", "data"] | tuple[tuple[float, ...], ...] = "auto",
) -> None:
    """Loads weights and keeps parts of the network as they are.

    Args:
        backbone: is changed in place.
        weights: a checkpoint file, or a name among `published_weights`; None keeps the initial weights.
        freeze: true, or the number of `stages`, in order of depth, that are never trained. Their parameters and
            all that are registered before them require no gradient, and their batch normalisation and dropout
            stay in evaluation mode.
        input_size: pixels of a side to which images are resized (bicubic) before the encoder sees them; data: as the
            data set has them; own: as the weights expect; auto: own for published weights, else data.
        normalize: which mean and deviation of each channel. data: the pool's; own: as the weights expect; imagenet:
            its; or two lists, means and deviations of values in [0, 1]; auto: own for published weights, else data.

    Raises:
        ValueError: no such file, weights of another network, more stages than there are, a form of images that is
            not known or none. Of a network in outline, into which nothing is loaded, weights are only looked for.
        FileNotFoundError: published weights that cannot be fetched.
    """
    for name, value in (("input_size", input_size), ("normalize", normalize)):
        if value == "own" and own_form(type(backbone), weights)[0] is None:
            raise ValueError(f"{name} = own, and nobody says on which images it was trained; use data, or numbers")
    if isinstance(input_size, int) and input_size < 1:
        raise ValueError(f"input_size = {input_size} is not >= 1")
    if not isinstance(normalize, str):
        _check_normalization(normalize)
    if weights is not None:
        load_weights(backbone, weights)
    backbone.freeze(freeze)


def own_form(backbone: type[Backbone], weights: str | None) -> tuple[ImageForm | None, bool]:
    """On which images weights were trained, if anybody says so, and whether that is known of these very weights."""
    published = backbone.published_weights().get(weights) if weights is not None else None
    if published is not None and published.form is not None:
        return published.form, True
    return backbone.own_form(), False


def _check_normalization(normalize: Sequence[Sequence[float]]) -> None:
    lengths = {len(values) for values in normalize}
    if len(normalize) != 2 or len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"normalize = {normalize} is not [means, deviations] of the same channels")
    if not all(value > 0 for value in normalize[1]):
        raise ValueError(f"normalize: the deviations {normalize[1]} are not all above 0")


def prepare_selector(
    selector: Selector, *, pool_subset: int | None = None, normalize: FeatureForm | None = None
) -> None:
    """Tells a selector what it will be shown; the harness acts on it, not the selector.

    Args:
        selector: gets both as attributes.
        pool_subset: how many unlabelled images `select` may choose from, a uniform draw of the pool's in every
            round; all of them if None. The pool that it is shown holds these and the labelled ones.
        normalize: form of the features that it is shown, of those of the pre-trained encoder and of what the
            classifier's last layer reads: as they are (none), divided by their length (l2), or each dimension with
            mean 0 and deviation 1 over the images shown (standardize). By default each selector's own, which is that
            of its paper where it has one; null where a selector compares none, or needs them raw: then nothing can
            be set.

    Raises:
        ValueError: `pool_subset` is below 1; the selector takes no `normalize`, or declares what there is not.
    """
    check_declared(selector)
    if pool_subset is not None and pool_subset < 1:
        raise ValueError(f"pool_subset = {pool_subset} is not >= 1")
    selector.pool_subset = pool_subset
    if normalize is None:
        return
    if normalize not in get_args(FeatureForm):
        raise ValueError(f"normalize = {normalize!r}; {closest(normalize, get_args(FeatureForm))}")
    if selector.normalize is None:
        raise ValueError(
            f"normalize = {normalize!r}, but it compares no features, asks others that do, or reads them as the "
            "classifier's last layer does, raw; leave it out"
        )
    selector.normalize = normalize


def check_declared(selector: Selector) -> None:
    """Whether the `reads` and `needs` of a selector are sets of what there is.

    Raises:
        ValueError: in one line.
    """
    for what, known in (("reads", CONDITIONAL_PARTS), ("needs", CLASSIFIER_TRAITS)):
        declared = getattr(selector, what)
        if not isinstance(declared, frozenset):
            raise ValueError(f"{what} is {declared!r}, not a frozenset")
        for name in declared - known:
            raise ValueError(f"{what} has {name!r}; {closest(name, known)}")


PREPARATIONS: Mapping[type, Callable[..., None]] = {Backbone: prepare_backbone, Selector: prepare_selector}
"""Contract -> what is called with a plugin of that kind and the settings that all of its kind have."""


def preparation(plugin: type) -> Callable[..., Any] | None:
    """That of a plugin's class; None for kinds without such settings."""
    return next((prepare for contract, prepare in PREPARATIONS.items() if issubclass(plugin, contract)), None)


def own_defaults(plugin: type) -> dict[str, Any]:
    """Those settings of its kind whose default value each plugin's class has for itself."""
    return {"normalize": plugin.normalize} if issubclass(plugin, Selector) else {}
