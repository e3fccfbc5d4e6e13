"""The upper bound of what selectors gain: it is the best of its batches, and what it reads is counted apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from trials import Bench, configure, rounds_of

from harness.config.tasks import Bound
from harness.plugins.registry import PluginSpec
from harness.trial.headroom import FINALISTS
from harness.trial.ridge import ridge_of_penalty


@pytest.mark.parametrize(("count", "dims"), [(12, 40), (60, 7)])
def test_the_ridge_that_screens_is_scikit_learns(count, dims):
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, dims, generator=rng).double() + 3
    labels = torch.randint(4, (count,), generator=rng) * 2
    weight, bias = ridge_of_penalty(inputs, labels, 0.7)
    targets = 2.0 * (labels[:, None] == labels.unique()).double().numpy() - 1
    peer = Ridge(alpha=0.7).fit(inputs.numpy(), targets)
    np.testing.assert_allclose(weight, peer.coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(bias, peer.intercept_, rtol=1e-8)


SELECTORS = tuple(PluginSpec("selectors", name, {}) for name in ("margin", "coreset", "typiclust"))


@pytest.fixture
def bench(cache, tmp_path):
    return Bench(cache, tmp_path / "stages")


@pytest.fixture
def config():
    return configure(ssl_method="none", classifier="ridge", data__val=100, labels={"start": 20, "budget": [10, 15]})


def test_it_is_no_worse_than_any_selector_after_its_first_choice(bench, config):
    """With so few batches each is a finalist, the selectors' own picks among them."""
    rows, totals = bench.run(config, bound=Bound(FINALISTS, SELECTORS), with_test=True)
    reached = {step: metrics for _, step, metrics, _ in rounds_of(rows)}
    assert list(reached) == [20, 30, 45]
    for spec in SELECTORS:
        theirs, _ = bench.run(replace(config, selector=spec), with_test=True)
        assert theirs[0][2]["val/accuracy"] == reached[20]["val/accuracy"]
        assert rounds_of(theirs)[1][2]["val/accuracy"] <= reached[30]["val/accuracy"]
    assert totals["labels/used"] == 45
    assert totals["labels/looked_at"] > totals["labels/used"]
    assert totals["test/aubc"] > 0


def test_its_batches_are_of_every_kind_and_it_buys_the_same_again(bench, config, tmp_path, cache):
    bound = Bound(24, SELECTORS)
    rows, totals = bench.run(config, bound=bound)
    again, _ = Bench(cache, tmp_path / "others").run(config, bound=bound)
    from_cache, _ = bench.run(config, bound=bound)
    picks, *others = [[d.selected for *_, d in rounds_of(kept)] for kept in (rows, again, from_cache)]
    assert others == [picks, picks]
    assert [len(set(one)) for one in picks[1:]] == [10, 15]
    assert not set(picks[1]) & set(picks[2])
    fewer = bench.run(config, bound=Bound(4, SELECTORS))[1]
    assert fewer["labels/looked_at"] < totals["labels/looked_at"] < 194
