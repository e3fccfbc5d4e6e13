"""Distances are right however far from the origin all images lie: the products are of centred points."""

import pytest
import torch
from pools import make_pool, rng

from baselines.selectors.alfa_mix import distances_to_means
from baselines.selectors.coverage import Kernel
from baselines.selectors.typiclust import nearest_others
from harness.plugins.registry import PluginSpec, build

FAR = 4096.0
"""Added to multiples of 1/64 below 4 without rounding, in float32; their squares lose all that tells them apart."""


def clouds(number=120, dims=16):
    """f32 [N, D], multiples of 1/64 in five clouds."""
    centers = torch.randint(192, (5, dims), generator=rng(1))
    return (centers[torch.arange(number) % 5] + torch.randint(40, (number, dims), generator=rng(2))) / 64


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("cluster_margin", {}),
        ("coreset", {}),
        ("kmeans", {}),
        ("max_herding", {"normalize": "none", "radius": 2.0}),
        ("probcover", {"normalize": "none"}),
        ("typiclust", {"normalize": "none"}),
    ],
)
def test_a_selector_of_distances_picks_alike_far_from_the_origin(name, settings):
    picks = []
    for offset in (0.0, FAR):
        features = clouds() + offset
        logits = torch.randn(120, 3, generator=rng(3))
        pool = make_pool(features=features, logits=logits, labels=torch.arange(120) % 3, labeled=[0, 7, 14])
        picks.append(build(PluginSpec("selectors", name, settings)).select(pool, 12, rng=rng()).tolist())
    assert picks[0] == picks[1]


@pytest.mark.parametrize("few", [0, 1000])
def test_a_kernel_is_that_of_the_differences(few, monkeypatch):
    monkeypatch.setattr("baselines.selectors.coverage.FEW", few)
    points, targets, rows = clouds() + FAR, torch.arange(0, 120, 3), torch.arange(50)
    squared = (points[rows, None].double() - points[targets].double()).square().sum(dim=2)
    torch.testing.assert_close(Kernel(points, targets, 2.0)(rows), (-squared / 4).exp().float())


def test_nearest_others_are_those_of_the_differences():
    points = clouds().double()
    expected = (points[:, None] - points).square().sum(dim=2).sqrt().fill_diagonal_(torch.inf)
    distances, _ = nearest_others((points + FAR).float(), 5)
    torch.testing.assert_close(distances, expected.sort().values[:, :5].float(), rtol=1e-3, atol=1e-3)


def test_distances_to_means_are_those_of_the_differences():
    points = clouds()
    labels = torch.arange(40) % 5
    means = torch.stack([points[:40][labels == label].double().mean(dim=0) for label in range(5)])
    expected = (points[:, None].double() - means).square().sum(dim=2).sqrt()
    found = distances_to_means(points + FAR, torch.arange(120), torch.arange(40), labels, 5)
    torch.testing.assert_close(found, expected.float(), rtol=1e-3, atol=1e-3)
