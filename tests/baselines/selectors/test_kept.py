"""What is made of features alone is made once, and never stale."""

import pytest
import torch
from pools import blobs, make_pool, rng

from baselines.selectors import cluster_margin, coverage, probcover
from baselines.selectors.cluster_margin import ClusterMargin
from baselines.selectors.dcom import DCoM
from baselines.selectors.kept import Kept
from baselines.selectors.max_herding import MaxHerding
from baselines.selectors.probcover import ProbCover
from baselines.selectors.uncertainty_herding import UncertaintyHerding


def test_it_is_made_anew_for_other_values_shapes_types_and_settings():
    made = []
    kept = Kept(lambda features, *settings, rng: made.append((features.clone(), settings)) or len(made))
    values = torch.arange(6.0).reshape(2, 3)
    assert [kept(values, 1), kept(values.clone(), 1)] == [1, 1]
    assert [kept(values, 2), kept(values, 2)] == [2, 2]
    assert kept(values.reshape(3, 2), 2) == 3
    assert kept(values.view(torch.int32), 2) == 4
    values[0, 0] = 7
    assert kept(values, 2) == 5
    kept.forget()
    assert kept(values, 2) == 6


@pytest.mark.parametrize(
    ("selector", "module", "names"),
    [
        (ClusterMargin, cluster_margin, ["kept_clusters"]),
        (ProbCover, probcover, ["kept_radius", "kept_balls"]),
        (DCoM, probcover, ["kept_radius"]),
        (MaxHerding, coverage, ["kept_distances"]),
        (UncertaintyHerding, coverage, ["kept_distances"]),
    ],
)
def test_a_later_round_picks_as_if_nothing_had_been_kept(selector, module, names):
    features, _ = blobs(120, 6, num_clusters=4, spread=0.6)
    other = make_pool(features=-features[:90], logits=torch.randn(90, 4, generator=rng(2)), labeled=[0, 1])
    rounds = [
        make_pool(features=features, logits=torch.randn(120, 4, generator=rng(n)), labeled=range(2 + 10 * n))
        for n in range(3)
    ]
    pools = [rounds[0], rounds[1], other, rounds[2]]
    kept = [selector().select(pool, 10, rng=rng(seed)).tolist() for seed, pool in enumerate(pools)]
    for seed, pool in enumerate(pools):
        for name in names:
            getattr(module, name).forget()
        assert selector().select(pool, 10, rng=rng(seed)).tolist() == kept[seed]
