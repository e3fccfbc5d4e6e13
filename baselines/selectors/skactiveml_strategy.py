"""The pool strategies of scikit-activeml."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from baselines.selectors.finite import require_finite
from harness.api import Family, FeatureForm, Pool, Selector

REGRESSION = "it chooses for a regression, and a pool has classes"
REFITTED = "it trains the classifier anew for every image and class that it considers"
ANNOTATORS = "it chooses among several annotators, and the oracle is one"
WRAPPER = "it wraps another strategy"

NOT_MEMBERS: dict[str, str] = {
    "DropQuery": "it asks the classifier about features with parts left out, which the pool has no answers to",
    "EpistemicUncertaintySampling": "it reads the parameters of a classifier of two classes that it trains itself",
    "ExpectedErrorReduction": "it is the base class of others",
    "ExpectedModelChangeMaximization": REGRESSION,
    "ExpectedModelOutputChange": REGRESSION,
    "ExpectedModelVarianceReduction": REGRESSION,
    "FourDs": "it reads the mixture model of a classifier that it trains itself",
    "GreedySamplingTarget": REGRESSION,
    "IntervalEstimationThreshold": ANNOTATORS,
    "KLDivergenceMaximization": REGRESSION,
    "MonteCarloEER": REFITTED,
    "ParallelUtilityEstimationWrapper": WRAPPER,
    "RegressionTreeBasedAL": REGRESSION,
    "SingleAnnotatorWrapper": ANNOTATORS,
    "SubSamplingWrapper": f"{WRAPPER}; pool_subset does the same for every selector",
    "ValueOfInformationEER": REFITTED,
}
"""Strategies that cannot choose by a pool's features, logits and passes alone, each with the reason."""

NEED_LABELS = frozenset({"CostEmbeddingAL", "DiscriminativeAL", "Quire"})
"""Strategies that ask for no classifier and still cannot choose without any label."""

NOT_SETTINGS = frozenset(
    {
        *("missing_label", "random_state", "classes", "n_classes"),  # known from the pool
        *("clf_embedding_flag_name", "predict_dict"),  # how to ask a classifier, which is ours
        *("sample_predictions_method_name", "sample_predictions_dict"),
        *("base_regressor", "cluster_algo", "n_cluster_param_name", "distance_func"),  # objects
    }
)
"""Arguments of constructors that a configuration does not set."""

FORMS: dict[str, FeatureForm | None] = {
    **dict.fromkeys(("MaxHerding", "ProbCover", "TypiClust"), "l2"),  # as their papers do; their radii are for that
    **dict.fromkeys(("BatchBALD", "CostEmbeddingAL", "Falcun", "GreedyBALD", "QueryByCommittee"), None),
    **dict.fromkeys(("Badge", "RandomSampling", "UncertaintySampling"), None),
}
"""Strategy -> the form of features that it is shown (`Selector.normalize`), where that is not "none".

None for those that compare no features, and for the gradients of BADGE, which are of the features as they are.
"""

GRADIENTS = frozenset({"Badge"})
"""Strategies that take (p - onehot) x features for the gradient of a linear layer."""

OTHER_DEFAULTS = {"ProbabilisticAL": {"metric": "rbf"}}
"""Strategy -> defaults in place of the library's, which asks for a classifier that counts neighbours itself."""


@dataclass(frozen=True)
class Known:
    """What a strategy may know of some images.

    Attributes:
        features: f64 [n, D].
        labels: f64 [n] in 0 .. K-1, NaN where unknown.
        num_classes: K.
        logits: gives f32 [n, K].
        stochastic_logits: gives f32 [num_samples, n, K].
    """

    features: np.ndarray
    labels: np.ndarray
    num_classes: int
    logits: Callable[[], Tensor]
    stochastic_logits: Callable[[int], Tensor]


class SkactivemlStrategy(Family, Selector):
    """A pool strategy of scikit-activeml, such as `skactiveml/Badge`, `skactiveml/Falcun`, `skactiveml/MaxHerding`.

    It reads the encoder's features as `normalize` says, by default as they are; MaxHerding, ProbCover and
    TypiClust, by default L2-normalised, as in their papers: their radii are made for that. A classifier that it
    asks for answers with the softmax of the pool's logits and is never fitted; an ensemble is `num_samples` passes
    with dropout active; a discriminator of labelled and unlabelled images is a logistic regression on standardised
    features. Hyper-parameters are those of the strategy's constructor that a configuration can hold. Where a
    strategy names an image twice, as some do among duplicates, it is asked again for the images that are missing; where
    TypiClust has no cluster without a label left, the rest is drawn.
    Time and memory are the library's: several strategies hold matrices of N x N, for which there is `pool_subset`.
    `NOT_MEMBERS` says which are not offered.

    Attributes:
        strategy: the library's name of it.
        settings: the strategy's hyper-parameters.
    """

    strategy: ClassVar[str]
    settings: Mapping[str, Any]
    num_samples: int = 0

    @classmethod
    def members(cls) -> list[str]:
        """The names of all strategies that choose by a pool's outputs alone."""
        return sorted(strategies().keys() - NOT_MEMBERS.keys())

    @classmethod
    def refused(cls) -> Mapping[str, str]:
        """The strategies that are not members, and why."""
        return NOT_MEMBERS

    @classmethod
    @cache
    def member(cls, name: str) -> type[SkactivemlStrategy]:
        """The selector of one of `members`.

        Raises:
            ValueError: scikit-activeml is not installed.
        """
        if not strategies():
            raise ValueError("scikit-activeml is not installed: pip install 'selbench[skactiveml]'")
        asks = asked_by(name)
        attributes = {
            "__doc__": _docstring(name),
            "__module__": __name__,
            "__init__": _constructor(name),
            "strategy": name,
            "supports_cold_start": not asks & {"clf", "estimator", "ensemble"} and name not in NEED_LABELS,
            "normalize": FORMS.get(name, "none"),
            "reads": frozenset({"stochastic_logits"} if "ensemble" in asks else ()),
            "needs": _needs(name, asks),
        }
        return type(name, (cls,), attributes)

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        # float64, because weights that a strategy derives from probabilities would underflow in the features' float32.
        features = require_finite(pool.features, "features").double().numpy()
        labels = np.full(len(features), np.nan)
        labels[pool.labeled] = pool.labels
        passes = cache(pool.stochastic_logits)

        def known(rows: np.ndarray) -> Known:
            return Known(
                features[rows],
                labels[rows],
                pool.num_classes,
                logits=lambda: require_finite(pool.logits[rows], "logits"),
                stochastic_logits=lambda num_samples: passes(num_samples)[:, rows],
            )

        left = np.ones(len(features), dtype=bool)  # the rows that are labelled or may still be picked
        picks: list[int] = []
        while len(picks) < budget:
            rows = left.nonzero()[0]
            seed = int(torch.randint(2**31 - 1, (1,), generator=rng))
            chosen = rows[self._query(known(rows), budget - len(picks), seed)]
            assert np.isnan(labels[chosen]).all(), f"{self.strategy} chose what is labelled"
            left[chosen] = False
            picks += dict.fromkeys(chosen.tolist())
        return torch.tensor(picks)

    def _query(self, known: Known, budget: int, seed: int) -> np.ndarray:
        """Asks the strategy once; i64 [1 .. budget] rows of `known`, perhaps repeated."""
        asks = asked_by(self.strategy)
        num_clusters = min(known.num_classes, len(known.features))  # what ProbCover wants to know the classes for
        settings = {"classes": np.arange(known.num_classes), "n_classes": num_clusters, "random_state": seed}
        helpers: dict[str, Any] = {}
        for kind in ("clf", "estimator", "ensemble"):
            if kind in asks:
                helpers |= {kind: _answers(known, self.num_samples), f"fit_{kind}": False}
        if "ensemble" in asks:
            settings["sample_predictions_method_name"] = "sample_proba"
        if "discriminator" in asks:
            helpers["discriminator"] = _discriminator()
        accepted = inspect.signature(strategies()[self.strategy]).parameters.keys()
        chosen = {name: value for name, value in settings.items() if name in accepted}
        strategy = strategies()[self.strategy](**self.settings, **chosen)
        try:
            with _numpy_seeded(seed):
                return np.asarray(strategy.query(known.features, known.labels, batch_size=budget, **helpers))
        except UnboundLocalError:
            if self.strategy != "TypiClust":
                raise
            # Every cluster has a labelled image, as among copies: for such a pick all are as typical to it, if it is
            # not the first of a batch. At the first it fails.
            unlabeled = np.isnan(known.labels).nonzero()[0]
            return np.random.default_rng(seed).permutation(unlabeled)[:budget]


@cache
def strategies() -> dict[str, type]:
    """Every pool strategy of the library by its name; none where it is not installed."""
    try:
        from skactiveml import pool
        from skactiveml.base import PoolQueryStrategy
    except ModuleNotFoundError as error:
        if error.name != "skactiveml":
            raise
        return {}
    offered = {name: getattr(module, name) for module in (pool, pool.multiannotator) for name in module.__all__}
    return {name: it for name, it in offered.items() if inspect.isclass(it) and issubclass(it, PoolQueryStrategy)}


@cache
def asked_by(name: str) -> frozenset[str]:
    """The arguments of a strategy's `query`."""
    return frozenset(inspect.signature(strategies()[name].query).parameters)  # type: ignore[attr-defined]


def settings_of(name: str) -> dict[str, Any]:
    """A strategy's hyper-parameters with their defaults."""
    parameters = inspect.signature(strategies()[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in NOT_SETTINGS} | OTHER_DEFAULTS.get(name, {})


def _needs(name: str, asks: frozenset[str]) -> frozenset[str]:
    """Those of `CLASSIFIER_TRAITS` that a strategy relies on, which is asked for these arguments."""
    if not asks & {"clf", "estimator", "ensemble"}:
        return frozenset()
    return frozenset({"probabilities", "linear_layer"} if name in GRADIENTS else {"probabilities"})


def _docstring(name: str) -> str:
    """The class's docstring: the library's summary, and where its hyper-parameters are explained."""
    summary = (inspect.getdoc(strategies()[name]) or name).partition("\n")[0].rstrip(".")
    arguments = [f"    {setting}: of scikit-activeml's `{name}`." for setting in settings_of(name)]
    if "ensemble" in asked_by(name):
        arguments.append("    num_samples: stochastic passes, >= 2.")
    return "\n".join([f"scikit-activeml's {name}: {summary}.", "", *(["Args:", *arguments] if arguments else [])])


def _constructor(name: str) -> Callable[..., None]:
    """`__init__` with a strategy's hyper-parameters as keywords; it refuses values that the strategy refuses."""
    defaults = settings_of(name)
    own = {"num_samples": 20} if "ensemble" in asked_by(name) else {}

    def __init__(self: SkactivemlStrategy, **settings: Any) -> None:  # noqa: N807
        bound = signature.bind(self, **settings)
        bound.apply_defaults()
        for setting in (*defaults, *own):
            setattr(self, setting, bound.arguments[setting])
        if own and self.num_samples < 2:
            raise ValueError(f"num_samples = {self.num_samples} is not >= 2")
        self.settings = {setting: bound.arguments[setting] for setting in defaults}
        _try(self)

    parameter = inspect.Parameter
    keywords = [parameter(key, parameter.KEYWORD_ONLY, default=value) for key, value in (defaults | own).items()]
    signature = inspect.Signature([parameter("self", parameter.POSITIONAL_ONLY), *keywords])
    __init__.__signature__ = signature  # type: ignore[attr-defined]
    __init__.__annotations__ = {key: _type(value) for key, value in (defaults | own).items()}
    return __init__


def _type(default: Any) -> Any:
    """The type of a hyper-parameter by its default: the library has no annotations."""
    if type(default) is int:
        return int | float
    return type(default) if type(default) in (bool, float, str) else Any


def _try(selector: SkactivemlStrategy) -> None:
    """Asks a strategy about a few images, because it checks its settings only when it is asked.

    Raises:
        ValueError: it refuses them.
    """
    costs = selector.settings.get("cost_matrix")
    num_classes = len(costs) if isinstance(costs, list) and len(costs) > 1 else 3
    rng = np.random.default_rng(0)
    labels = np.full(40, np.nan)
    labels[:10] = np.arange(10) % num_classes
    logits = torch.from_numpy(rng.standard_normal((40, num_classes)))
    known = Known(
        rng.standard_normal((40, 4)),
        labels,
        num_classes,
        logits=lambda: logits,
        stochastic_logits=lambda num_samples: torch.stack([logits.roll(shift, 0) for shift in range(num_samples)]),
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            selector._query(known, budget=2, seed=0)
    except Exception as error:  # the library checks by hand and raises many types
        defaults = settings_of(selector.strategy)
        changed = ", ".join(f"{key} = {value!r}" for key, value in selector.settings.items() if value != defaults[key])
        raise ValueError(f"scikit-activeml refuses {changed}: {' '.join(str(error).split())}") from error


def _answers(known: Known, num_samples: int) -> Any:
    """A classifier of the library that has been trained already: it knows the logits of the images, and no others."""
    from skactiveml.base import SkactivemlClassifier

    groups = [np.isnan(known.labels).nonzero()[0], (~np.isnan(known.labels)).nonzero()[0]]

    def rows_of(features: np.ndarray) -> np.ndarray:
        """The rows that a strategy asks about, which are all unlabelled or all labelled ones."""
        return next(rows for rows in groups if np.array_equal(features, known.features[rows]))

    class Answers(SkactivemlClassifier):
        def __init__(self) -> None:
            super().__init__(classes=np.arange(known.num_classes))
            self.classes_ = self.classes

        def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: None = None) -> Answers:
            raise AssertionError("the pool's classifier is trained by the harness")

        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            return known.logits()[rows_of(X)].double().softmax(dim=-1).numpy()

        def sample_proba(self, X: np.ndarray) -> np.ndarray:
            return known.stochastic_logits(num_samples)[:, rows_of(X)].double().softmax(dim=-1).numpy()

    return Answers()


def _discriminator() -> Any:
    from skactiveml.classifier import SklearnClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return SklearnClassifier(make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)), classes=[0, 1])


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Seeds NumPy's global generator, from which the library draws in places, inside the block, then restores it."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
