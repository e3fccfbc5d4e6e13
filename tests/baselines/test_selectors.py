"""Selectors against slow references, hand-made cases with known answers, and degenerate pools."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from pools import blobs, make_pool, rng, valid
from sklearn.cluster import KMeans as PeerKMeans

from baselines import BUILTINS
from baselines.augmentations.weak import Weak
from baselines.selectors import plane_maps, ual
from baselines.selectors.cdal_cs import CDALCS, SymmetricKL
from baselines.selectors.entropy import Entropy
from baselines.selectors.finite import require_finite
from baselines.selectors.high_ssl_loss import HighSSLLoss
from baselines.selectors.least_confidence import LeastConfidence
from baselines.selectors.log_odds import gaps, log_entropy, log_odds_against_top, log_one_minus_margin
from baselines.selectors.low_ssl_loss import LowSSLLoss
from baselines.selectors.margin import Margin
from baselines.selectors.plane_maps import map_of_many
from baselines.selectors.random import Random
from baselines.selectors.representative_random import RepresentativeRandom
from baselines.selectors.shares import even_shares
from baselines.selectors.ual import UAL, rank_in_cluster
from harness.plugins.registry import find_plugin

UNCERTAINTY = [Entropy, Margin, LeastConfidence]
CHEAP = {
    "active_ft": {"num_iterations": 3},
    "cdal_rl": {"epochs": 2, "hidden_dim": 4},
    "core_gcn": {"num_steps": 5},
    "csal": {"augmentation": Weak()},
    "uncertain_gcn": {"num_steps": 5},
    "refine": {"strategies": (Random(), Margin()), "final": Entropy(), "depth": 2, "num_parts": 4, "part_size": 30},
    "schedule": {"first": Random(), "then": Margin(), "until": 1},
    "ta_vaal": {"epochs": 1, "batch_size": 8, "width": 2},
    "vaal": {"epochs": 1, "batch_size": 8, "width": 2},
}
NAMES = [name for name in BUILTINS["selectors"] if not name.endswith("/")]  # families have tests of their own
ALL = [pytest.param(partial(find_plugin("selectors", name), **CHEAP.get(name, {})), id=name) for name in NAMES]
COLD = [name for name in NAMES if find_plugin("selectors", name).supports_cold_start]


def pool_of(n=60, dim=6, num_classes=4, labeled=(3, 10, 11, 40), **parts):
    """A pool with everything that a selector may read."""
    features, cluster = blobs(n, dim, num_clusters=num_classes)
    logits = 3 * torch.randn(n, num_classes, generator=rng(1))
    given = {"features": features, "logits": logits, "labels": cluster} | parts
    given.setdefault(
        "penultimate", torch.cat([given["features"], given["logits"]], dim=1)
    )  # of which logits are linear
    noise = torch.randn(6, n, num_classes, generator=rng(2))
    given.setdefault("stochastic", given["logits"] + noise)
    given.setdefault("augmented", given["logits"] - noise)
    given.setdefault("ssl_loss", given["features"].square().mean(dim=1))
    given.setdefault("companion_outputs", given["features"].mean(dim=1))
    given.setdefault("images", torch.randint(256, (n, 3, 8, 8), generator=rng(3)).to(torch.uint8))
    return make_pool(**given, labeled=labeled)


# --- what holds for every selector ---


@pytest.mark.parametrize("selector", ALL)
@pytest.mark.parametrize("budget", [1, 13, 56])
def test_valid_picks_for_every_budget(selector, budget):
    pool = pool_of()
    assert valid(selector().select(pool, budget, rng=rng()), pool, budget)


@pytest.mark.parametrize("selector", ALL)
def test_same_generator_same_picks(selector):
    pool = pool_of()
    assert torch.equal(selector().select(pool, 20, rng=rng(5)), selector().select(pool, 20, rng=rng(5)))


@pytest.mark.parametrize("name", COLD)
def test_cold_start_reads_no_logits(name):
    features = blobs(40, 5)[0]
    pool = make_pool(features=features, ssl_loss=features.norm(dim=1))
    assert valid(find_plugin("selectors", name)().select(pool, 15, rng=rng()), pool, 15)


DEGENERATE = {
    "equal features": {"features": torch.ones(60, 6)},
    "equal logits": {"logits": torch.ones(60, 4)},
    "huge logits": {"logits": 1e4 * torch.randn(60, 4, generator=rng(2))},
    "duplicates": {
        "features": blobs(3, 6)[0].repeat(20, 1),
        "logits": torch.randn(3, 4, generator=rng(3)).repeat(20, 1),
    },
    "one class only": {"labels": torch.zeros(60, dtype=torch.int64)},
    "one feature": {"features": torch.randn(60, 1, generator=rng(4))},
}


@pytest.mark.parametrize("selector", ALL)
@pytest.mark.parametrize("parts", DEGENERATE.values(), ids=DEGENERATE.keys())
@pytest.mark.parametrize("budget", [1, 25, 56])
def test_degenerate_pools(selector, parts, budget):
    pool = pool_of(**parts)
    assert valid(selector().select(pool, budget, rng=rng()), pool, budget)


@pytest.mark.parametrize("selector", ALL)
@pytest.mark.parametrize("n", [2, 3, 5, 11])
def test_tiny_pools(selector, n):
    pool = pool_of(n=n, labeled=(1,))
    assert valid(selector().select(pool, n - 1, rng=rng()), pool, n - 1)


# --- random ---


def test_random_is_uniform_without_replacement():
    pool = pool_of(n=10, labeled=(0, 5))
    g = rng()
    counts = torch.zeros(10)
    for _ in range(2000):
        counts[Random().select(pool, 2, rng=g)] += 1
    assert counts[[0, 5]].sum() == 0
    assert (counts[pool.unlabeled] - 500).abs().max() < 100  # 5 standard deviations of a binomial(2000, 1/4)


# --- uncertainty ---


@pytest.mark.parametrize(
    ("log_score", "textbook"),
    [
        (log_entropy, lambda p: -(p * np.log(p)).sum(1)),
        (log_one_minus_margin, lambda p: 1 - (np.sort(p)[:, -1] - np.sort(p)[:, -2])),
        (lambda gap: torch.nn.functional.logsigmoid(log_odds_against_top(gap)), lambda p: 1 - p.max(1)),
    ],
)
def test_log_scores_equal_their_textbook_formulas(log_score, textbook):
    logits = 3 * torch.randn(200, 7, generator=rng())
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(log_score(gaps(logits)).numpy()), textbook(p), rtol=1e-8)


@pytest.mark.parametrize("score", [log_entropy, log_one_minus_margin, log_odds_against_top])
def test_confident_predictions_keep_their_order(score):
    # p_1 is 1.0 in float64 for all of these, so that textbook scores are all exactly 0.
    gap = gaps(torch.tensor([[0.0, -50.0, -60.0], [0.0, -1e4, -2e4], [1e4, 0.0, 100.0], [0.0, -45.0, -400.0]]))
    values = score(gap)
    assert values.isfinite().all()
    assert values.argsort(descending=True).tolist() == [3, 0, 2, 1]


def test_log_entropy_is_smooth_where_its_formula_changes():
    log_odds = torch.linspace(-40.001, -39.999, 21, dtype=torch.float64)
    values = log_entropy(gaps(torch.stack([torch.zeros(21, dtype=torch.float64), log_odds], dim=1)))
    assert values.diff().min() > 0
    assert values.diff().max() < 3e-4


@pytest.mark.parametrize("selector", UNCERTAINTY)
def test_uncertain_images_come_first(selector):
    logits = torch.tensor([[9.0, 0.0, 0.0], [1.0, 1.0, 1.0], [5.0, 0.0, 0.0], [2.0, 2.0, -9.0], [0.0, 3.0, 0.0]])
    picks = selector().select(make_pool(logits=logits, labeled=[2]), 4, rng=rng()).tolist()
    assert set(picks[:2]) == {1, 3}
    assert picks[2:] == [4, 0]
    # Two equal classes: no margin at all, but less entropy and a higher top probability than three.
    assert selector is Margin or picks[0] == 1


@pytest.mark.parametrize("selector", UNCERTAINTY)
def test_equal_scores_are_drawn_at_random(selector):
    pool = make_pool(logits=torch.zeros(100, 3), labeled=[0])
    picks = [selector().select(pool, 10, rng=rng(seed)) for seed in range(20)]
    means = torch.stack(picks).double().mean()
    assert 40 < means < 60  # 5.5 if the lowest positions came first
    assert not torch.equal(picks[0], picks[1])


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"random", "vaal"}))
def test_selector_refuses_what_a_diverged_model_hands_out(name):
    broken = {"features": torch.ones(60, 6), "logits": torch.ones(60, 4)}
    broken |= {"ssl_loss": torch.ones(60), "companion_outputs": torch.ones(60)}
    for part in broken.values():
        part[20] = math.nan
    with pytest.raises(ValueError, match="diverged"):
        find_plugin("selectors", name)(**CHEAP.get(name, {})).select(pool_of(**broken), 5, rng=rng())


@pytest.mark.parametrize("selector", UNCERTAINTY)
def test_diverged_model_is_reported(selector):
    logits = torch.zeros(10, 3)
    logits[4, 1] = math.nan
    with pytest.raises(ValueError, match="1 of 10 selection scores are NaN"):
        selector().select(make_pool(logits=logits), 2, rng=rng())


# --- ual ---


def test_even_shares_by_hand():
    def shares(sizes, budget):
        return even_shares(torch.tensor(sizes), budget).tolist()

    assert shares([10, 10, 10], 9) == [3, 3, 3]
    assert shares([5, 9, 7], 8) == [2, 3, 3]  # the remainder of 2 goes to the two largest
    assert shares([1, 10, 20], 9) == [1, 4, 4]  # 3 each; the first has 1, its other 2 are split over the others
    assert shares([1, 2, 20], 12) == [1, 2, 9]
    assert shares([0, 3, 3], 6) == [0, 3, 3]
    assert shares([4, 4], 1) == [1, 0]
    assert shares([4, 4], 0) == [0, 0]


def test_rank_in_cluster_by_hand():
    cluster = torch.tensor([1, 0, 1, 1, 0])
    distance = torch.tensor([0.3, 0.1, 0.2, 0.9, 0.5])
    assert rank_in_cluster(cluster, distance, rng=rng()).tolist() == [1, 0, 0, 2, 1]


COMPILED = [pytest.param(name, marks=pytest.mark.slow) for name in ("umap", "pacmap")]  # numba compiles them for 20 s


@pytest.mark.parametrize("reducer", ["tsne", *COMPILED, "pca", "none"])
def test_ual_takes_the_same_number_from_every_cluster(reducer):
    features, cluster = blobs(400, 12, num_clusters=4, spread=0.05)
    pool = make_pool(features=features, labeled=range(0, 400, 9))
    picks = UAL(num_clusters=4, reducer=reducer, pca_dims=5).select(pool, 40, rng=rng())
    assert torch.bincount(cluster[picks]).tolist() == [10, 10, 10, 10]
    assert len(cluster[picks[:4]].unique()) == 4  # the picks take turns
    ual.kept_map.forget()
    assert torch.equal(picks, UAL(num_clusters=4, reducer=reducer, pca_dims=5).select(pool, 40, rng=rng()))


@pytest.mark.parametrize("reducer", ["umap", "pacmap"])
def test_ual_refuses_a_map_whose_package_is_not_there(reducer, monkeypatch):
    monkeypatch.setattr(ual, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"reducer = '{reducer}' needs a package: pip install"):
        UAL(reducer=reducer)
    UAL(reducer="tsne")


@pytest.mark.parametrize("pick", ["nearest", "farthest"])
@pytest.mark.parametrize("distance", ["euclidean", "cosine", "manhattan"])
def test_ual_picks_the_nearest_to_each_centroid_or_the_farthest(distance, pick):
    features, cluster = blobs(300, 3, num_clusters=3, spread=0.1)
    features = features + 5
    pool = make_pool(features=features, labeled=[0, 7, 100])
    picks = UAL(num_clusters=3, reducer="none", distance=distance, pick=pick).select(pool, 12, rng=rng())
    measure = {
        "euclidean": lambda x, c: (x - c).norm(dim=1),
        "manhattan": lambda x, c: (x - c).abs().sum(1),
        "cosine": lambda x, c: 1 - torch.cosine_similarity(x, c[None]),
    }[distance]
    for k in range(3):
        members = pool.unlabeled[cluster[pool.unlabeled] == k]
        to_centroid = measure(features[members].double(), features[cluster == k].double().mean(0))
        order = members[to_centroid.argsort(descending=pick == "farthest")]
        assert set(order[:4].tolist()) == set(picks[cluster[picks] == k].tolist())


@pytest.mark.parametrize("num_clusters", [2, 7])
def test_ual_on_principal_components_is_that_of_plain_loops(num_clusters):
    features, _ = blobs(120, 6, num_clusters=5, spread=0.4)
    pool = make_pool(features=features, labeled=[3, 50])
    centered = features.double().numpy() - features.double().numpy().mean(0)
    map_ = centered @ np.linalg.svd(centered, full_matrices=False)[2][:3].T
    picks = UAL(num_clusters=num_clusters, reducer="pca", pca_dims=3, pick="farthest").select(pool, 20, rng=rng(2))
    seed = int(torch.randint(2**31 - 1, (), generator=rng(2)))
    peer = PeerKMeans(num_clusters, n_init=10, random_state=seed).fit(map_)
    members = {k: [i for i in range(120) if peer.labels_[i] == k and i not in (3, 50)] for k in range(num_clusters)}
    shares = even_shares(torch.tensor([len(members[k]) for k in range(num_clusters)]), 20).tolist()
    expected = set()
    for k, share in enumerate(shares):
        centroid = np.mean([map_[i] for i in range(120) if peer.labels_[i] == k], axis=0)
        expected |= set(sorted(members[k], key=lambda i: -np.linalg.norm(map_[i] - centroid))[:share])
    assert set(picks.tolist()) == expected


def test_ual_map_keeps_blobs_apart_and_ignores_the_global_generators(monkeypatch):
    ual.kept_map.forget()
    features, cluster = blobs(300, 20, num_clusters=3, spread=0.05)
    pool = make_pool(features=features)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = UAL(num_clusters=3).select(pool, 30, rng=rng(3))
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    ual.kept_map.forget()
    assert torch.equal(first, UAL(num_clusters=3).select(pool, 30, rng=rng(3)))
    assert torch.bincount(cluster[first]).tolist() == [10, 10, 10]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_refused_and_a_sum_that_overflows_is_not(bad):
    large = torch.full((4, 3), 3e38)
    assert require_finite(large, "features") is large
    values = torch.zeros(4, 3)
    values[1, 2], values[3, 0] = bad, -bad
    with pytest.raises(ValueError, match="features of 2 of 4 images are not finite"):
        require_finite(values, "features")


def test_ual_places_images_beyond_the_largest_map_among_their_own_blob(monkeypatch):
    monkeypatch.setattr("baselines.selectors.plane_maps.LARGEST_MAP", 60)
    monkeypatch.setitem(plane_maps.PLANE_MAPS, "tsne", lambda points, perplexity, seed: points[:, :2])
    group = np.arange(400) % 5
    angle = 2 * np.pi * group / 5
    middle = 10 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.random.default_rng(0).normal(scale=0.5, size=(400, 6))
    points[:, :2] += middle
    map_ = map_of_many("tsne", points, 30.0, 0)
    mapped = (map_ == points[:, :2]).all(axis=1)
    assert mapped.sum() == 60
    error = np.linalg.norm(map_ - middle, axis=1)
    assert error[~mapped].mean() < error[mapped].mean()  # the mean of five lies nearer to the middle
    assert error.max() < 3


def test_ual_maps_the_same_features_once_and_picks_as_if_it_had_not(monkeypatch):
    mapped = []
    tsne = plane_maps.tsne
    monkeypatch.setitem(plane_maps.PLANE_MAPS, "tsne", lambda *given: mapped.append(len(given[0])) or tsne(*given))
    features, _ = blobs(100, 6, num_clusters=3, spread=1)
    first, other = make_pool(features=features), make_pool(features=-features[:90])
    pools = [first, first, other, first]
    ual.kept_map.forget()
    # A selector for every round, as a trial has it.
    picks = [UAL(num_clusters=3).select(pool, 10, rng=rng(seed)) for seed, pool in enumerate(pools)]
    assert len(mapped) == 3
    UAL(num_clusters=3, perplexity=5).select(first, 10, rng=rng())
    assert len(mapped) == 4
    for seed, pool in enumerate(pools):
        ual.kept_map.forget()
        assert torch.equal(picks[seed], UAL(num_clusters=3).select(pool, 10, rng=rng(seed)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_clusters": 0},
        {"reducer": "lda"},
        {"pca_dims": 0},
        {"pca_dims": None, "reducer": "pca"},
        {"perplexity": 0},
        {"distance": "hamming"},
        {"pick": "middle"},
    ],
)
def test_ual_refuses_impossible_hyperparameters(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name} = {value!r}"):
        UAL(**wrong)


# --- cdal_cs ---


def test_symmetric_kl_in_both_forms_equals_its_definition():
    logits = 4 * torch.randn(30, 5, generator=rng())
    log_p = logits.double().log_softmax(1).numpy()
    p = np.exp(log_p)
    kl = (p[:, None] * (log_p[:, None] - log_p[None])).sum(2)
    expected = (kl + kl.T) / 2
    distance, everything = SymmetricKL(logits), torch.arange(30)
    np.testing.assert_allclose(distance.block(everything, everything), expected, atol=1e-12)
    pairs = torch.cartesian_prod(everything, everything)
    np.testing.assert_allclose(distance.direct(*pairs.T).reshape(30, 30), expected, atol=1e-12)


def test_cdal_cs_picks_the_class_that_no_labelled_image_is_predicted_as():
    logits = torch.tensor([[5.0, 0, 0], [0, 5.0, 0], [4.9, 0, 0], [0, 4.9, 0], [0, 0, 5.0], [5.1, 0, 0]])
    assert CDALCS().select(make_pool(logits=logits, labeled=[0, 1]), 1, rng=rng()).tolist() == [4]


# --- representative_random, ssl losses ---


def test_representative_random_draws_from_the_whole_range_of_energies():
    energy = torch.cat([torch.linspace(0, 0.9, 500), torch.linspace(9.1, 10, 20), torch.tensor([5.5])])
    pool = make_pool(logits=torch.stack([-energy, torch.full_like(energy, -1e4)], dim=1), labeled=[3])
    counts = torch.zeros(3)
    for seed in range(20):
        picked = energy[RepresentativeRandom().select(pool, 9, rng=rng(seed))]
        counts += torch.stack([picked < 1, picked > 9, picked == 5.5]).sum(1)
    assert counts.tolist() == [80, 80, 20]  # 3 each; the middle has 1, its other 2 are split


def test_ssl_loss_selectors_rank_by_the_loss():
    pool = make_pool(ssl_loss=torch.tensor([0.5, 3.0, 0.1, 2.0, 9.0]), labeled=[4])
    assert HighSSLLoss().select(pool, 3, rng=rng()).tolist() == [1, 3, 0]
    assert LowSSLLoss().select(pool, 3, rng=rng()).tolist() == [2, 0, 3]
