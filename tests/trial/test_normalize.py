"""`normalize`: in which form a selector is shown features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pools import blobs, make_pool, picks_of, rng, valid
from trials import Bench, configure

from baselines.selectors.coreset import CoreSet
from baselines.selectors.random import Random
from baselines.selectors.refine import Refine
from baselines.selectors.typiclust import TypiClust
from harness.api import Images, Selector
from harness.config.plan import load_plan
from harness.config.schema import ConfigError
from harness.pick.choice import ask, way_of
from harness.plugins.registry import PluginSpec, as_spec, build, defaults, find_plugin
from harness.trial.selection import Bought, choose
from harness.trial.stages import StageCache

FORMS = ("none", "l2", "standardize")


def expected(values: np.ndarray, form: str) -> np.ndarray:
    """As one would write it down."""
    x = values.astype(np.float64)
    if form == "l2":
        return x / np.maximum(np.sqrt((x**2).sum(axis=1, keepdims=True)), 1e-12)
    if form == "standardize":
        std = x.std(axis=0)
        return (x - x.mean(axis=0)) / np.where(std > 1e-6 * abs(x).max(axis=0), std, np.inf)
    return x


@pytest.mark.parametrize("form", FORMS)
def test_forms_are_those_of_the_formula(form, monkeypatch):
    monkeypatch.setattr("harness.api.selectors.BLOCK_ROWS", 7)
    x = torch.randn(40, 5, generator=rng()) * torch.tensor([1.0, 1e-4, 1e3, 1.0, 1.0]) + torch.tensor([0, 1, 1e4, 0, 0])
    x[:, 3] = 0.7  # constant
    x[9] = 0.0
    x[9, 3] = 0.7 if form == "standardize" else 0.0
    pool = make_pool(features=x, penultimate=x[:, :3], logits=torch.randn(40, 2, generator=rng()), labeled=[0, 9])
    shown = pool.normalized(form)
    np.testing.assert_allclose(shown.features, expected(x.numpy(), form), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(shown.penultimate, expected(x[:, :3].numpy(), form), rtol=1e-5, atol=1e-6)
    assert shown.features.dtype == torch.float32
    assert torch.equal(shown.logits, pool.logits)
    assert torch.equal(pool.features, x)


def test_no_other_part_of_the_pool_changes_but_the_last_layer_is_shut():
    parts = {name: torch.randn(3, 12, 4, generator=rng(seed)) for seed, name in enumerate(("stochastic", "augmented"))}
    parts |= {"ssl_loss": torch.rand(12), "companion_outputs": torch.rand(12), "logits": torch.randn(12, 4)}
    pool = make_pool(features=torch.randn(12, 3), labeled=[2], **parts)
    shown = pool.normalized("l2")
    for name, ask_of in (
        ("stochastic", lambda pool: pool.stochastic_logits(2)),
        ("augmented", lambda pool: pool.augmented_logits(2)),
        ("ssl_loss", lambda pool: pool.ssl_loss()),
        ("companion_outputs", lambda pool: pool.companion_outputs),
    ):
        assert torch.equal(ask_of(shown), ask_of(pool)), name
    assert shown.images is pool.images
    with pytest.raises(ValueError, match="the last layer reads `penultimate` as it is, and here it is shown as l2"):
        shown.last_layer(shown.penultimate)


# --- who takes it, and what is refused ---


def test_the_papers_forms_are_the_defaults():
    names = ("coreset", "kmeans", "ual", "typiclust", "probcover", "max_herding", "badge", "margin", "random", "refine")
    forms = {name: defaults(find_plugin("selectors", name))["normalize"] for name in names}
    assert forms == {
        **dict.fromkeys(("coreset", "kmeans", "ual"), "none"),
        **dict.fromkeys(("typiclust", "probcover", "max_herding"), "l2"),
        **dict.fromkeys(("badge", "margin", "random", "refine"), None),
    }


def test_so_are_those_of_scikit_activeml():
    pytest.importorskip("skactiveml")
    names = ("TypiClust", "ProbCover", "MaxHerding", "CoreSet", "Badge")
    forms = [defaults(find_plugin("selectors", f"skactiveml/{name}"))["normalize"] for name in names]
    assert forms == ["l2", "l2", "l2", "none", None]


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ({"name": "coreset", "normalize": "l3"}, "selector.normalize: expected none | l2 | standardize or null, not "
         "'l3'; did you mean 'l2'"),
        ({"name": "coreset", "normalize": "standardise"}, "did you mean 'standardize'"),
        ({"name": "badge", "normalize": "l2"}, "trial.selector: selector 'badge': normalize = 'l2', but it compares no "
         "features, asks others that do, or reads them as the classifier's last layer does, raw; leave it out"),
        ({"name": "entropy", "normalize": "standardize"}, "selector 'entropy': normalize = 'standardize', but it"),
        ({"name": "schedule", "normalize": "l2"}, "selector 'schedule': normalize = 'l2', but it"),
        ({"name": "schedule", "then": {"name": "bait", "normalize": "l2"}}, "selector 'bait': normalize = 'l2'"),
        ({"name": "schedule", "first": {"name": "coreset", "normalize": "l3"}}, "selector.first.normalize: expected"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_runs(selector, message):
    with pytest.raises(ConfigError) as error:
        configure(selector=selector)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_it_is_swept_and_part_of_the_stages_key(cache, tmp_path, monkeypatch):
    trial = {"ssl_method": "none", "labels": {"start": 5, "budget": 5, "rounds": 1}, "selector": "coreset"}
    plan = load_plan({"name": "forms", "trial": trial, "parameters": {"selector.normalize": {"values": [*FORMS]}}}, {})
    assert [c.trial.selector.as_dict()["normalize"] for c in plan.candidates] == [*FORMS]
    keys, run = [], StageCache.run
    monkeypatch.setattr(
        StageCache, "run", lambda self, kind, key, *a: keys.append((kind, key)) or run(self, kind, key, *a)
    )
    bench = Bench(cache, tmp_path / "stages")
    picks = []
    for form in (*FORMS, None):
        selector = {"name": "coreset", "normalize": form} if form else "coreset"
        config = configure(ssl_method="none", selector=selector, labels__rounds=1)
        rows, _ = bench.run(config)
        picks.append(rows[-1][3].selected)
    assert picks[0] == picks[3]  # the default
    assert picks[1] != picks[0] != picks[2] != picks[1]
    assert [key["selector"]["normalize"] for kind, key in keys if kind == "select"] == [
        "none",
        "l2",
        "standardize",
        "none",
    ]


# --- what a selector is shown ---


class Seen(Selector):
    """Notes the features that it is shown."""

    normalize = "l2"

    def __init__(self):
        self.seen = []

    def select(self, pool, budget, *, rng):
        """Any."""
        self.seen.append((pool.features, pool.penultimate))
        return pool.unlabeled[torch.randperm(len(pool.unlabeled), generator=rng)[:budget]]


def asked(spec: PluginSpec, features: torch.Tensor, **settings):
    pool = make_pool(features=features, labeled=settings.pop("labeled", [1, 4]))
    outputs = lambda seed, rows: make_pool(features=features if rows is None else features[rows]).model  # noqa: E731
    bought = Bought(pool.labeled, pool.labels, 3)
    return choose(spec, Images(features), bought, outputs, budget=5, seed=0, number=1, **settings)


@pytest.mark.parametrize("form", FORMS)
def test_the_harness_shows_it_and_the_selector_knows_nothing_of_it(form):
    features = 5 + 3 * torch.randn(30, 4, generator=rng()) * torch.arange(1, 5)
    raw = build(as_spec("selectors", "coreset"))
    by_hand = raw.select(make_pool(features=torch.from_numpy(expected(features.numpy(), form)).float(), labeled=[1, 4]),
                         5, rng=rng())  # fmt: skip
    selector = build(as_spec("selectors", {"name": "coreset", "normalize": form}))
    assert torch.equal(picks_of(selector, make_pool(features=features, labeled=[1, 4]), 5), by_hand)
    selection = asked(as_spec("selectors", {"name": "coreset", "normalize": form}), features)
    np.testing.assert_allclose(selection.pool.features, expected(features.numpy(), form), rtol=1e-5, atol=1e-5)
    distance = torch.cdist(selection.pool.features, selection.pool.features[selection.pool.labeled]).amin(1)
    assert selection.reasons()[0].score == pytest.approx(float(distance.max()), rel=1e-4)  # also what is said is of it


def test_of_a_part_of_the_pool_the_mean_is_that_of_the_part():
    features = torch.randn(60, 3, generator=rng()) * torch.linspace(1, 9, 60).unsqueeze(1)
    spec = as_spec("selectors", {"name": "coreset", "normalize": "standardize", "pool_subset": 20})
    shown = asked(spec, features).pool
    assert len(shown.images) == 22
    assert shown.features.mean(0).abs().max() < 1e-6
    assert (shown.features.std(0, unbiased=False) - 1).abs().max() < 1e-5


def test_selectors_of_selectors_show_each_its_own_form():
    features, labels = blobs(60, 5)
    pool = make_pool(features=7 * features, labels=labels, logits=torch.randn(60, 5), labeled=range(4))
    for form in FORMS:
        first = build(as_spec("selectors", {"name": "coreset", "normalize": form}))
        schedule = build(as_spec("selectors", {"name": "schedule", "first": {"name": "coreset", "normalize": form}}))
        picks = picks_of(schedule, pool, 6)
        assert torch.equal(picks, picks_of(first, pool, 6))
        assert [one.score for one in schedule.explain(pool, picks)] == [
            one.score for one in first.explain(first.as_shown(pool), picks)
        ]
    raw, long = Seen(), Seen()
    raw.normalize, long.normalize = "none", "standardize"
    refine = Refine(strategies=(raw, Random(), Seen()), final=long, depth=1, num_parts=3, part_size=20)
    assert valid(picks_of(refine, pool, 6), pool, 6)
    whole = torch.from_numpy(expected(pool.features.numpy(), "standardize")).float()
    (shown, penultimate), *_ = long.seen
    assert len(shown) < 60  # of a part, in the form that the whole pool gives it
    assert torch.cdist(shown.double(), whole.double()).amin(1).max() < 1e-4
    assert torch.equal(shown, penultimate)
    assert all(torch.isin(features, pool.features).all() for features, _ in raw.seen)
    (unit,) = (strategy for strategy in refine.strategies if strategy not in (raw, long) and isinstance(strategy, Seen))
    assert all((features.norm(dim=1) - 1).abs().max() < 1e-5 for features, _ in unit.seen)


def test_in_a_schedule_typiclust_stays_typiclust():
    features = blobs(80, 4)[0] * torch.linspace(0.1, 40, 80).unsqueeze(1)
    pool = make_pool(features=features, logits=torch.randn(80, 3), labeled=[0])
    schedule = build(as_spec("selectors", {"name": "schedule", "until": 9}))
    assert torch.equal(picks_of(schedule, pool, 6), picks_of(TypiClust(), pool, 6))
    assert not torch.equal(picks_of(schedule, pool, 6), TypiClust().select(pool, 6, rng=rng()))


@pytest.mark.filterwarnings("ignore")  # that no radius is pure enough
def test_strategies_of_scikit_activeml_work_in_the_unit_of_their_radii():
    """On raw features no ball of ProbCover holds a neighbour and its picks are chance; on unit vectors they are not."""
    pytest.importorskip("skactiveml")
    sizes = torch.tensor([40, 12, 6])
    middle = torch.eye(3).repeat_interleave(sizes, dim=0)
    features = 40 * (middle + 0.1 * torch.randn(58, 3, generator=rng()))
    pool, group = make_pool(features=features, num_classes=3), torch.arange(3).repeat_interleave(sizes)
    picks = {form: [] for form in ("l2", "none")}
    for form in picks:
        spec = {"name": "skactiveml/ProbCover", "normalize": form}
        for seed in range(6):
            picks[form].append(group[picks_of(build(as_spec("selectors", spec)), pool, 3, seed)].tolist())
    assert picks["l2"] == [[0, 1, 2]] * 6
    assert len({*map(tuple, picks["none"])}) > 1


def test_pick_takes_it_too():
    features = 5 * torch.randn(40, 4, generator=rng()) * torch.arange(1, 5)
    bought = Bought(torch.tensor([0, 7]), torch.tensor([0, 1]), 2)
    answers = {}
    for form in FORMS:
        way = way_of({"name": "coreset", "normalize": form}, "logistic", seed=0, budget=6, num_labels=2)
        answers[form] = ask(way, features, bought, budget=6, number=1)[0].picks.tolist()
    assert len({*map(tuple, answers.values())}) == 3
    with pytest.raises(ConfigError, match="did you mean 'standardize'"):
        way_of({"name": "coreset", "normalize": "standard"}, "logistic", seed=0, budget=6, num_labels=2)


def test_coreset_on_directions_is_no_hunt_for_length():
    """The audit's finding in small: raw, the longest vectors are picked; on directions, the farthest ones."""
    features = blobs(200, 6)[0]
    features[:20] *= 10
    specs = [as_spec("selectors", {"name": "coreset", "normalize": form}) for form in ("none", "l2")]
    raw, unit = (picks_of(build(spec), make_pool(features=features), 12) for spec in specs)
    assert (raw[1:] < 20).sum() >= 10 > (unit < 20).sum()
    assert CoreSet.normalize == "none"
