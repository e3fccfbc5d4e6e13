"""DCoM against a slow port of the released loop; coverage when labels are few, margin when the pool is covered."""

import numpy as np
import pytest
import torch
from pools import blobs, make_pool, rng, valid
from torch.nn.functional import normalize

from baselines.selectors.balls import Balls
from baselines.selectors.dcom import DCoM, cover_and_doubt, in_balls, pure_radii, unit_range
from baselines.selectors.margin import Margin
from baselines.selectors.probcover import greedy_cover


def unit(values):
    values = np.asarray(values, dtype=float)
    span = values.max() - values.min()
    return (values - values.min()) / span if span else np.zeros_like(values)


def radius_by_bisection(distance, agrees, purity, max_radius, resolution):
    low, high = 0.0, max_radius
    middle = (low + high) / 2
    while high - low > resolution:
        inside = distance < middle
        if agrees[inside].sum() / max(1, inside.sum()) < purity or not inside.any():
            high = middle
        else:
            low = middle
        middle = (low + high) / 2
    return middle


def released(features, logits, labels, labeled, budget, delta, *, max_delta=1.1, resolution=0.05, a=0.8, k=50):
    """The picks, one at a time, with every distance at hand; all points are ranked, the labelled ones as 0."""
    x = normalize(features.double()).numpy()
    distance = np.linalg.norm(x[:, None] - x[None], axis=2)
    p = logits.double().softmax(1).numpy()
    purity = 0.2 * (distance[labeled] < delta).any(0).mean() + 0.4
    radii = [
        radius_by_bisection(distance[i], p.argmax(1) == int(labels[i]), purity, max_delta, resolution) for i in labeled
    ]
    covered = np.any([distance[i] < r for i, r in zip(labeled, radii, strict=True)], axis=0)
    competence = (1 + np.exp(-k * (1 - a))) / (1 + np.exp(-k * (covered.mean() - a)))
    top = np.sort(p, axis=1)
    doubt = unit(-(top[:, -1] - top[:, -2]))
    doubt[labeled] = 0
    near, picks = distance < np.mean(radii), []
    for _ in range(budget):
        gain = (near & ~covered).sum(1)
        gain[labeled] = 0
        score = competence * unit(doubt) + (1 - competence) * unit(gain)
        score[[*labeled, *picks]] = -1
        picks.append(int(score.argmax()))
        covered |= near[picks[-1]]
        doubt[picks[-1]] = 0
    return picks, competence


def case(seed, spread, *, n=70):
    features, cluster = blobs(n, 5, num_clusters=4, spread=spread, seed=seed)
    logits = 2 * torch.nn.functional.one_hot(cluster, 4) + torch.randn(n, 4, generator=rng(seed + 50))
    return features, logits, cluster


@pytest.mark.parametrize(("num_labeled", "center", "steepness"), [(2, 0.8, 50.0), (8, 0.5, 5.0), (25, 0.9, 5.0)])
def test_picks_are_those_of_the_released_loop(num_labeled, center, steepness, monkeypatch):
    monkeypatch.setattr("baselines.selectors.dcom.BLOCK_ELEMENTS", 500)  # several blocks
    competences = []
    for seed in range(4):
        features, logits, labels = case(seed, 0.6 + 0.2 * seed)
        labeled = torch.randperm(70, generator=rng(seed))[:num_labeled].sort().values.tolist()
        expected, competence = released(features, logits, labels, labeled, 12, 0.4, a=center, k=steepness)
        pool = make_pool(features=features, logits=logits, labels=labels, labeled=labeled)
        selector = DCoM(delta=0.4, center=center, steepness=steepness)
        assert selector.select(pool, 12, rng=rng(seed)).tolist() == expected
        competences.append(competence)
    assert steepness == 50 or any(0.02 < competence < 0.98 for competence in competences)  # both scores count


def test_scores_are_shares_of_the_largest_that_is_left():
    """By hand: balls hold 1, 1 and 2 points; once the most doubtful is picked, half its doubt is the largest."""
    angle = torch.tensor([0.0, 1.0, 2.0, 2.1])  # three candidates and one point more
    points = torch.stack([angle.cos(), angle.sin()], dim=1)
    doubt = torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)
    picks = cover_and_doubt(Balls(points, 0.2, rng=rng()), torch.zeros(4, dtype=torch.bool), doubt, 0.5, 3)
    assert picks.tolist() == [0, 1, 2]  # of the first's doubt: 0.75, 0.5, 0.55; of the second's: 0.75, 0.6


def test_radii_are_those_of_bisection():
    features, logits, labels = case(3, 0.6)
    points, predicted = normalize(features.double()).float(), logits.argmax(1)
    distance = torch.cdist(points.double(), points.double()).numpy()
    expected = [radius_by_bisection(distance[i], (predicted == labels[i]).numpy(), 0.55, 1.1, 0.05) for i in range(20)]
    ours = pure_radii(points, predicted, points[:20], labels[:20], 0.55, 1.1, resolution=0.05)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    assert len(set(expected)) > 3
    covered = (distance[:20] < np.array(expected)[:, None]).any(0)
    assert in_balls(points, points[:20], ours).tolist() == covered.tolist()


def test_without_labels_it_is_probcover():
    features = blobs(60, 4)[0]
    pool = make_pool(features=features)
    picks = DCoM(delta=0.3).select(pool, 8, rng=rng()).tolist()
    points = normalize(features)
    near = torch.cdist(points, points) <= 0.3
    greedy, _ = greedy_cover(Balls(points, 0.3, rng=rng()), [], 8)
    for number in range(1, 9):
        assert near[picks[:number]].any(dim=0).sum() == near[greedy[:number]].any(dim=0).sum()


def test_where_all_is_covered_it_is_margin_sampling():
    features = normalize(torch.ones(40, 3) + 0.01 * torch.randn(40, 3, generator=rng()))
    logits = torch.randn(40, 3, generator=rng(1)).sort(dim=1, descending=True).values  # all are predicted as class 0
    pool = make_pool(features=features, logits=logits, labels=torch.zeros(40, dtype=torch.int64), labeled=[0, 1])
    picks = DCoM().select(pool, 10, rng=rng())
    assert picks.tolist() == Margin().select(pool, 10, rng=rng()).tolist()


def test_competence_rises_to_1_at_full_coverage():
    competence = [DCoM().competence(coverage) for coverage in (0.0, 0.7, 0.8, 0.9, 1.0)]
    assert competence == sorted(competence)
    assert competence[-1] == 1
    assert competence[0] < 1e-15
    assert competence[2] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("steepness", [1e-300, 1.0, 1e3, 1e6, 1e300])
@pytest.mark.parametrize("center", [0.0, 0.8, 1.0])
def test_competence_is_a_share_however_steep_it_rises(steepness, center):
    competence = [DCoM(steepness=steepness, center=center).competence(x) for x in (0.0, 0.05, 0.5, 0.8, 0.95, 1.0)]
    assert competence == sorted(competence)
    assert competence[0] >= 0
    assert competence[-1] == 1
    if steepness >= 1e3 and center == 0.8:
        assert competence == pytest.approx([0, 0, 0, 0.5, 1, 1])


def test_unit_range_of_equals_is_0():
    assert unit_range(torch.tensor([2.0, 4.0, 3.0])).tolist() == [0.0, 1.0, 0.5]
    assert unit_range(torch.full((3,), 7.0)).tolist() == [0.0] * 3


@pytest.mark.parametrize("scale", [0.0, 1e15])
def test_features_without_a_direction_or_of_any_length(scale):
    features, cluster = blobs(40, 4)
    logits = torch.randn(40, 5, generator=rng())
    pool = make_pool(features=features * scale, logits=logits, labels=cluster, labeled=[0, 1])
    assert valid(DCoM().select(pool, 38, rng=rng()), pool, 38)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"delta": 0.0}, "delta = 0.0 is not > 0"),
        ({"max_delta": float("nan")}, "max_delta = nan is not > 0"),
        ({"resolution": 0.0}, "resolution = 0.0 is not > 0"),
        ({"steepness": -1.0}, "steepness = -1.0 is not > 0"),
        ({"center": 1.5}, r"center = 1.5 is not in \[0, 1\]"),
    ],
)
def test_impossible_values_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        DCoM(**setting)
