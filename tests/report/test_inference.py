"""The procedure behind every verdict, against loops over its formulas, scipy and simulated families."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.report import inference
from harness.report.inference import NO_IMAGES, Averages


def hits(*shape: int, seed: int = 0, share: float = 0.8) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < share).astype(np.int8)


@pytest.mark.parametrize("kind", [np.int8, float])
def test_image_moments_against_a_loop(kind):
    x = (hits(4, 3, 50) - hits(4, 3, 50, seed=1)).astype(kind)
    found = inference.image_moments(x)
    for family, one in enumerate(x.astype(float)):
        between = np.var([one[:, image].mean() for image in range(50)], ddof=1)
        within = np.mean([np.var(one[:, image], ddof=1) for image in range(50)])
        assert found.floor[family] == pytest.approx(within / 50)
        assert found.images[family] == pytest.approx(max(between / 50 - within / 150, 0), abs=1e-12)
        assert found.square[family] == pytest.approx(np.mean(one**2))
        assert found.count[family] == 50


def test_images_of_their_own_add_nothing_that_seeds_do_not_show():
    x = hits(3, 50) - hits(3, 50, seed=1)
    found = inference.image_moments(x, same_images=False)
    assert found.images == 0
    assert found.floor == pytest.approx(np.mean([row.var(ddof=1) for row in x.astype(float)]) / 50)


@pytest.mark.parametrize("same_images", [True, False])
def test_pairs_at_once_are_as_one_by_one(same_images):
    right = hits(5, 3, 50).astype(bool)
    one, other = np.triu_indices(5, 1)
    found = inference.pair_moments(right, one, other, same_images=same_images)
    x = right[one].astype(np.int8) - right[other].astype(np.int8)
    expected = inference.image_moments(x, same_images=same_images)
    for field in ("floor", "images", "square", "count"):
        np.testing.assert_allclose(getattr(found, field), getattr(expected, field), rtol=1e-12, atol=1e-18)
    assert (found.images > 0).any() == same_images


@pytest.mark.parametrize("n", [2, 3, 10])
def test_without_images_or_others_it_is_students_paired_t(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.8, 0.02, n), rng.normal(0.79, 0.02, n)
    found, expected = inference.means(a - b), stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((interval.low, interval.high))


def test_the_residual_variance_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    values, known = rng.normal(size=(5, 4)), np.ones((5, 4), bool)
    centred = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    variance, freedom = inference.residual_variance(values, known)
    assert (variance, freedom) == (pytest.approx((centred**2).sum() / 12), 12)
    known[0, 1] = known[2, 3] = known[2, 0] = False
    rows, columns = known.nonzero()
    design = np.zeros((len(rows), 9))
    design[range(len(rows)), rows] = design[range(len(rows)), 5 + columns] = 1
    squares = np.linalg.lstsq(design[:, :-1], values[known])[1][0]  # without the last column, which the others make
    variance, freedom = inference.residual_variance(np.where(known, values, 0), known)
    assert (variance, freedom) == (pytest.approx(squares / (17 - 8)), 17 - 8)
    pair = inference.residual_variance(values[:2], np.ones((2, 4), bool))
    assert 2 * pair[0] == pytest.approx((values[0] - values[1]).var(ddof=1))
    assert inference.residual_variance(values[:, :1], np.ones((5, 1), bool))[1] == 0
    many = rng.normal(size=(3000, 2))  # as a matrix of all values by all values it would take half a gigabyte
    assert inference.residual_variance(many, np.ones(many.shape, bool))[0] == pytest.approx(
        np.var(many[:, 0] - many[:, 1], ddof=1) / 2
    )


def test_holm_by_hand():
    # sorted .005 .01 .03 .04, times 4 3 2 1, made monotone: .02 .03 .06 .06
    nan = np.nan
    found = inference.holm(np.array([[0.01, 0.04, nan, 0.03, 0.005], [0.9, 0.8, nan, nan, nan]]))
    np.testing.assert_allclose(found, [[0.03, 0.06, nan, 0.06, 0.02], [1, 1, nan, nan, nan]])


def test_values_that_never_differ_have_no_p_and_no_interval():
    found = inference.means(np.array([[0.05, 0.05, 0.05], [0.3 - 0.1, 0.2, 0.1 + 0.1], [0, 0, 0]]))
    assert np.isnan(found.p).all()
    assert np.isnan(found.half).all()
    assert not inference.decide(found, 0.01).differs.any()
    assert not inference.decide(found, 0.01).equivalent.any()


def test_seeds_that_agree_by_accident_know_no_more_than_the_images():
    """VICReg's committed row: three differences that are one image of 10,000 apart, p 1.6e-5 by the paired t test."""
    rng = np.random.default_rng(0)
    first, second = (rng.random((2, 1, 10_000)) < 0.5).astype(np.int8).repeat(3, axis=1)
    x = first - second  # the same under every seed
    x[1, 0] += x[1, 0] == 0
    values = x.mean(1)
    alone, known = inference.means(values), inference.means(values, inference.image_moments(x))
    assert alone.half < 0.001
    assert known.half > 1.9 * (x.mean(0).std() / 100)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize("images", [0.0, 0.02, 0.05, 0.1, 0.3, 0.6, 0.95])
def test_the_interval_of_a_mean_holds_the_truth_whatever_share_the_images_have(n, images):
    """Normal values; of the variance of their mean the images have a share, which they are known to have."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(40_000, 1)) * np.sqrt(images)
    values = truth + rng.normal(size=(40_000, n)) * np.sqrt((1 - images) * n)
    shared = np.full(len(values), images)
    mean = inference.means(values, inference.ImageMoments(np.zeros(len(values)), shared, shared, np.array(10_000)))
    assert (np.abs(mean.mean) <= mean.half).mean() > 0.938


@pytest.mark.parametrize(("m", "share"), [(100, 0.02), (360, 0.01)])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_equal_methods_win_in_few_sweeps(m, share, n):
    """Ten rivals whose accuracies are counts of few images: 61 % of sweeps had a winner when spread 0 was certainty."""
    rng = np.random.default_rng(0)
    sweeps = 1500
    right = rng.random((sweeps, 1, n, 1)) < 0.8
    flips = rng.binomial(m, share / 2, (2, sweeps, 11, n)) / m
    values = right[..., 0] * 0.8 + flips[0] - flips[1]
    variance, freedom = inference.residual_variance(values, np.ones((11, n), bool))
    found = inference.means(values[:, 1:] - values[:, :1], NO_IMAGES, 2 * variance[:, None], freedom)
    decisions = inference.decide(found, 0.01)
    assert (decisions.differs | decisions.indicates).any(-1).mean() <= 0.06
    assert n > 2 or not decisions.differs.any()


def test_two_seeds_indicate_little_by_chance_even_where_one_in_ten_collapses():
    rng = np.random.default_rng(0)
    values = rng.normal(0.8, 0.01, (4000, 13, 2))
    values = np.where(rng.random(values.shape) < 0.1, 0.1, values)
    variance, freedom = inference.residual_variance(values, np.ones((13, 2), bool))
    families = inference.means(values[:, 1:] - values[:, :1], NO_IMAGES, 2 * variance[:, None], freedom)
    indicates = inference.decide(families, 0.01).indicates.any(-1)
    assert 0 < indicates.mean() <= 0.05  # .064 at the level of a claim


@pytest.mark.parametrize(("k", "n"), [(1, 5), (5, 3), (12, 5)])
def test_the_smallest_difference_is_found_in_four_of_five_sweeps(k, n):
    """By the verdict as it is printed, at the difference as it was printed."""
    rng = np.random.default_rng(0)

    def differences(better):
        values = rng.normal(0, 0.03, (4000, k + 1, n))
        values[:, 1] += better[:, None]
        variance, freedom = inference.residual_variance(values, np.ones((k + 1, n), bool))
        return inference.means(values[:, 1:] - values[:, :1], NO_IMAGES, 2 * variance[:, None], freedom)

    printed = inference.decide(differences(np.zeros(4000)), None).smallest[:, 0]
    decisions = inference.decide(differences(printed), None)
    assert decisions.differs[:, 0].mean() == pytest.approx(0.80, abs=0.05)


def test_few_images_tell_few_differences():
    x = hits(3, 5, 1000, share=0.9) - hits(3, 5, 1000, seed=1, share=0.9)
    few, many = (inference.means(x[..., :m].mean(-1), inference.image_moments(x[..., :m])) for m in (100, 1000))
    assert inference.smallest(few, np.array(3)).mean() > 2 * inference.smallest(many, np.array(3)).mean()


def test_seeds_that_never_vary_leave_a_smallest_difference_of_the_images():
    x = np.repeat(hits(2, 1, 1000) - hits(2, 1, 1000, seed=1), 3, axis=1)  # each model gives the same under three seeds
    found = inference.means(x.mean(-1), inference.image_moments(x), np.zeros(1), 4)
    lone = np.sqrt(x[:, 0].var(-1, ddof=1) / 1000)
    printed = inference.smallest(found, np.array(1))
    assert (printed > 2.5 * lone).all()
    assert (printed < 3.5 * lone).all()


@pytest.mark.parametrize("worth", [0.01, 0.05])
def test_equivalence_is_two_one_sided_tests(worth):
    values = np.array([0.004, -0.002, 0.003, 0.001, -0.001])
    found: Averages = inference.means(values)
    low = stats.ttest_1samp(values, -worth, alternative="greater").pvalue
    high = stats.ttest_1samp(values, worth, alternative="less").pvalue
    assert found.p_beyond(worth) == pytest.approx(max(low, high))


@pytest.mark.parametrize("count", [5, 20, 50])
def test_the_best_of_equals_flatters_by_as_much_as_it_is_expected_to(count):
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.02, (1500, 1, 3)) + rng.normal(0, 0.01, (1500, count, 3))
    variance, freedom = inference.residual_variance(values, np.ones((count, 3), bool))
    found = inference.means(values[:, 1:] - values[:, :1], NO_IMAGES, 2 * variance[:, None], freedom)
    gain = (values.mean(-1).max(-1) - values.mean((1, 2))).mean()
    assert gain == pytest.approx({5: 0.67, 20: 1.08, 50: 1.30}[count] * 0.01, rel=0.05)
    assert gain <= inference.expected_flattery(found).mean() <= 1.5 * gain
