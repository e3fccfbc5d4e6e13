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

from harness.testing.augmentations import AUGMENTATION_CHECKS, check_augmentation
from harness.testing.backbones import BACKBONE_CHECKS, check_backbone
from harness.testing.common import COMMON_CHECKS, check_imports
from harness.testing.datasets import DATASET_CHECKS, check_dataset
from harness.testing.pools import make_pool
from harness.testing.selectors import SELECTOR_CHECKS, check_selector
from harness.testing.ssl_methods import SSL_METHOD_CHECKS, check_ssl_method

__all__ = [
    "AUGMENTATION_CHECKS",
    "BACKBONE_CHECKS",
    "COMMON_CHECKS",
    "DATASET_CHECKS",
    "SELECTOR_CHECKS",
    "SSL_METHOD_CHECKS",
    "check_augmentation",
    "check_backbone",
    "check_dataset",
    "check_imports",
    "check_selector",
    "check_ssl_method",
    "make_pool",
]
