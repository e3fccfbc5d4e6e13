"""Pool strategies of scikit-activeml as selectors: which are offered, what they are told, what they choose."""

import re
import sys
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from pools import blobs, make_pool, rng
from test_conformance import MEMBERS
from trials import Bench, configure

from baselines.selectors.skactiveml_strategy import NOT_MEMBERS, SkactivemlStrategy, strategies
from harness.code import code_of
from harness.config.schema import ConfigError, Problems, parse_plugin
from harness.plugins import __main__, registry
from harness.plugins.registry import PluginSpec, build, find_plugin

installed = pytest.mark.skipif(find_spec("skactiveml") is None, reason="scikit-activeml is not installed")


def new(name, **settings):
    return build(PluginSpec("selectors", name, settings))


def refused(message):
    return pytest.raises(ValueError, match=re.escape(message))


# --- which are offered ---


@installed
def test_every_strategy_is_checked_or_named_with_its_reason():
    assert set(SkactivemlStrategy.members()) == set(MEMBERS["skactiveml/"])
    assert set(MEMBERS["skactiveml/"]) | set(NOT_MEMBERS) == set(strategies())
    assert not set(MEMBERS["skactiveml/"]) & set(NOT_MEMBERS)


@installed
def test_a_strategy_that_is_not_offered_says_why():
    with refused("selector 'skactiveml/FourDs' is not offered: it reads the mixture model of a classifier"):
        find_plugin("selectors", "skactiveml/FourDs")
    with refused("no selector 'skactiveml/TypiClus'; did you mean 'skactiveml/TypiClust'?"):
        find_plugin("selectors", "skactiveml/TypiClus")


@installed
def test_members_are_plugins_of_one_file():
    member = find_plugin("selectors", "skactiveml/Badge")
    assert find_plugin("selectors", "skactiveml/Badge") is member
    assert (member.__name__, member.__module__) == ("Badge", SkactivemlStrategy.__module__)
    assert member.__doc__.startswith("scikit-activeml's Badge: Batch Active Learning by Diverse Gradient Embedding")


@pytest.fixture
def without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "skactiveml", None)
    strategies.cache_clear()
    yield
    strategies.cache_clear()


@pytest.mark.usefixtures("without_the_library")
def test_without_the_library_one_line_says_what_to_install(capsys):
    with refused(
        "selector 'skactiveml/Anything': scikit-activeml is not installed: pip install 'selbench[skactiveml]'"
    ):
        find_plugin("selectors", "skactiveml/Anything")
    with refused("no selector 'corset'; did you mean 'coreset'?"):
        find_plugin("selectors", "corset")
    assert __main__.main([]) == 0
    assert "skactiveml/<name>" in capsys.readouterr().out


# --- hyper-parameters ---


@installed
def test_hyperparameters_are_those_of_the_constructor_that_yaml_can_hold():
    assert registry.hints(find_plugin("selectors", "skactiveml/ProbCover"))["alpha"] is float
    own = {"cluster_algo_dict": None, "k": 5}
    assert own.items() <= registry.defaults(find_plugin("selectors", "skactiveml/TypiClust")).items()
    for name in SkactivemlStrategy.members():
        offered = registry.defaults(find_plugin("selectors", f"skactiveml/{name}")).values()
        assert all(value is None or isinstance(value, bool | int | float | str) for value in offered), name


@installed
def test_a_configuration_sets_them():
    problems = Problems()
    spec = parse_plugin("selectors", {"name": "skactiveml/BatchBALD", "eps": 1e-4, "num_samples": 7}, "", problems)
    assert problems.found == []
    selector = build(spec)
    assert (selector.eps, selector.num_samples, selector.n_MC_samples) == (1e-4, 7, None)
    assert new("skactiveml/TypiClust", k=20).settings == {"k": 20, "cluster_algo_dict": None}


@installed
@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("TypiClust", {"k": 0}, "scikit-activeml refuses k = 0: "),
        ("TypiClust", {"cluster_algo_dict": {"n_inits": 3}}, "refuses cluster_algo_dict = {'n_inits': 3}: "),
        ("UncertaintySampling", {"method": "entropi"}, "refuses method = 'entropi': "),
        ("ProbabilisticAL", {"metric": None}, "refuses metric = None: clf has no predict_freq"),
        ("GreedyBALD", {"num_samples": 1}, "num_samples = 1 is not >= 2"),
        ("CoreSet", {"metrik": "cosine"}, "has no hyper-parameter 'metrik'; did you mean 'metric'?"),
    ],
)
def test_values_that_a_strategy_refuses_are_refused_at_once(name, settings, message):
    with refused(message) as raised:
        new(f"skactiveml/{name}", **settings)
    assert "\n" not in str(raised.value)


@installed
def test_costs_between_any_number_of_classes_are_accepted():
    costs = (1 - np.eye(5)).tolist()
    assert new("skactiveml/UncertaintySampling", cost_matrix=costs).cost_matrix == costs


@installed
def test_a_cold_start_is_for_those_that_ask_for_no_model():
    cold = {
        name
        for name in SkactivemlStrategy.members()
        if find_plugin("selectors", f"skactiveml/{name}").supports_cold_start
    }
    assert cold == {"CoreSet", "GreedySamplingX", "MaxHerding", "ProbCover", "RandomSampling", "TypiClust"}
    problem = "labels.start: selector 'skactiveml/Badge' cannot start without labels"
    with pytest.raises(ConfigError, match=problem):
        configure(selector="skactiveml/Badge", labels={"start": 0, "budget": 5, "rounds": 1})


# --- what they choose ---


def pool_of_everything(n=60, labeled=(3, 10, 17, 40, 41)):
    features, classes = blobs(n, 6)
    stochastic = 2 * torch.randn(9, n, 5, generator=rng(1))
    logits = 2 * torch.randn(n, 5, generator=rng(2))
    return make_pool(features=features, logits=logits, labels=classes, labeled=labeled, stochastic=stochastic)


@installed
@pytest.mark.parametrize(
    ("theirs", "settings", "ours", "our_settings"),
    [
        ("UncertaintySampling", {"method": "margin_sampling"}, "margin", {}),
        ("UncertaintySampling", {"method": "entropy"}, "entropy", {}),
        ("CoreSet", {}, "coreset", {}),
        ("GreedyBALD", {"num_samples": 9}, "bald", {"num_samples": 9}),
        ("QueryByCommittee", {"num_samples": 9}, "bald", {"num_samples": 9}),  # the mean divergence is the information
    ],
)
def test_strategies_that_are_built_in_too_choose_the_same(theirs, settings, ours, our_settings):
    pool = pool_of_everything()
    expected = new(ours, **our_settings).select(pool, 20, rng=rng())
    assert torch.equal(new(f"skactiveml/{theirs}", **settings).select(pool, 20, rng=rng()), expected)


@installed
def test_the_classifier_answers_for_labelled_images_too():
    features = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
    logits = torch.tensor([[5.0, 0.0]] * 3 + [[0.0, 5.0]] * 3)
    logits[1] = torch.tensor([0.0, 5.0])  # predicted unlike its labelled neighbour
    pool = make_pool(features=features, logits=logits, labels=torch.tensor([0, 0, 0, 1, 1, 1]), labeled=[0, 3])
    selector = new("skactiveml/ContrastiveAL", nearest_neighbors_dict={"n_neighbors": 1})
    assert selector.select(pool, 1, rng=rng()).tolist() == [1]


@installed
def test_batch_bald_of_the_library_and_ours_agree_on_a_hand_made_pool():
    logits = torch.zeros(4, 6, 2)
    logits[:, :3, 0] = torch.tensor([5.0, 5.0, -5.0, -5.0])[:, None]  # three copies of the best image
    logits[:, 3, 0] = torch.tensor([3.0, -3.0, 3.0, -3.0])
    pool = make_pool(features=torch.zeros(6, 1), stochastic=logits, labeled=[5], num_classes=2)
    for selector in (new("skactiveml/BatchBALD", num_samples=4), new("batch_bald", num_samples=4)):
        first, second = selector.select(pool, 2, rng=rng()).tolist()
        assert first in {0, 1, 2}
        assert second == 3


@installed
def test_batch_bald_of_the_library_and_ours_agree_while_all_labels_are_enumerated():
    logits = 2 * torch.randn(5, 9, 3, generator=rng())
    pool = make_pool(features=torch.zeros(9, 1), stochastic=logits, num_classes=3)
    ours = new("batch_bald", num_samples=5, num_configurations=3**4).select(pool, 4, rng=rng())
    theirs = new("skactiveml/BatchBALD", num_samples=5, n_MC_samples=3**4).select(pool, 4, rng=rng())
    assert torch.equal(ours, theirs)


@installed
def test_what_a_strategy_repeats_is_asked_for_again(monkeypatch):
    from skactiveml.pool import RandomSampling

    asked = []

    class Repeats(RandomSampling):
        """Names the first image twice."""

        def query(self, X, y, candidates=None, batch_size=1, return_utilities=False):
            asked.append((len(X), batch_size))
            unlabeled = np.isnan(y).nonzero()[0]
            return np.append(unlabeled[: batch_size - 1], unlabeled[0])

    monkeypatch.setitem(strategies(), "Repeats", Repeats)
    pool = make_pool(features=torch.randn(9, 2, generator=rng()), labeled=[0, 4])
    picks = new("skactiveml/Repeats").select(pool, 4, rng=rng())
    assert picks.tolist() == [1, 2, 3, 5]
    assert asked[1:] == [(9, 4), (6, 1)]  # the first question is the constructor's


@installed
def test_features_that_are_not_finite_are_an_error():
    pool = make_pool(features=torch.full((5, 2), torch.nan), labeled=[0])
    with refused("features of 5 of 5 images are not finite: the model has diverged"):
        new("skactiveml/CoreSet").select(pool, 1, rng=rng())


@installed
def test_a_trial_selects_by_a_strategy(tmp_path):
    config = configure(
        selector={"name": "skactiveml/TypiClust", "k": 3},
        ssl_method="none",
        labels__rounds=1,
        classifier={"name": "linear", "epochs": 1},
    )
    rows, _ = Bench(tmp_path / "data", tmp_path / "stages").run(config)
    assert len(set(rows[-1][3].selected)) == 10


@installed
def test_numpys_global_generator_is_restored_after_an_error():
    before = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    with pytest.raises(ValueError, match="k = 0"):
        new("skactiveml/TypiClust", k=0)
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], before)  # noqa: NPY002


@installed
def test_the_version_of_the_library_is_in_the_names_of_its_selections():
    of = lambda name: code_of(*registry.sources(PluginSpec("selectors", name))).key["versions"]  # noqa: E731
    assert of("skactiveml/RandomSampling")["scikit-activeml"] == version("scikit-activeml")
    assert "scikit-activeml" not in of("random")
