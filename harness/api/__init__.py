"""The contracts between the harness and its plugins. Imports torch only.

Shape letters used everywhere: N images of the pool, L labelled, U unlabelled, B batch, V views,
C channels, H height, W width, D features, K classes.

A plugin is a class whose hyper-parameters are keyword-only constructor arguments with defaults, kept
under their own names; those are exactly what a search space may set. A plugin takes randomness only
from the generator that is handed to it, and never sees a label that the oracle has not revealed.
`harness.testing` holds the checks that every plugin must pass.
"""

from harness.api.augmentations import Augmentation
from harness.api.backbones import Backbone, ImageForm, PatchBackbone, PublishedWeights
from harness.api.data import SOURCE_SPLITS, TALLIED, BrokenImagesError, Dataset, Images, Source, Split
from harness.api.families import Family
from harness.api.loggers import Logger
from harness.api.selectors import (
    CLASSIFIER_TRAITS,
    CONDITIONAL_PARTS,
    Companion,
    FeatureForm,
    Pool,
    PoolModel,
    Reason,
    Selector,
)
from harness.api.ssl_methods import (
    UNKNOWN,
    SemiSupervisedMethod,
    SSLMethod,
    SupervisedMethod,
    TaughtMethod,
    UnlabeledBatch,
)

__all__ = [
    "CLASSIFIER_TRAITS",
    "CONDITIONAL_PARTS",
    "SOURCE_SPLITS",
    "TALLIED",
    "UNKNOWN",
    "Augmentation",
    "Backbone",
    "BrokenImagesError",
    "Companion",
    "Dataset",
    "Family",
    "FeatureForm",
    "ImageForm",
    "Images",
    "Logger",
    "PatchBackbone",
    "Pool",
    "PoolModel",
    "PublishedWeights",
    "Reason",
    "SSLMethod",
    "Selector",
    "SemiSupervisedMethod",
    "Source",
    "Split",
    "SupervisedMethod",
    "TaughtMethod",
    "UnlabeledBatch",
]
