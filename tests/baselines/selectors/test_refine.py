"""Refine: what the strategies leave, and that they see the pool as it is."""

import pytest
import torch
from pools import blobs, make_pool, rng, valid

from baselines.selectors.alfa_mix import AlfaMix
from baselines.selectors.entropy import Entropy
from baselines.selectors.margin import Margin
from baselines.selectors.mc_dropout import MCDropout
from baselines.selectors.random import Random
from baselines.selectors.refine import STRATEGIES, Refine, drawn
from baselines.selectors.ta_vaal import TAVAAL
from harness.api import Selector
from harness.plugins.registry import PluginSpec, build


class Highest(Selector):
    """The images with the highest first feature; keeps what it was shown, by the images' numbers."""

    def __init__(self, sign=1):
        self.sign, self.shown = sign, []

    def select(self, pool, budget, *, rng):
        number = pool.features[:, 0]
        assert torch.equal(pool.labels, number[pool.labeled].long() % 7)
        assert torch.equal(pool.logits[:, 0], number + 1000)
        assert torch.equal(pool.penultimate[:, 0], number + 2000)
        assert torch.equal(pool.stochastic_logits(2)[1, :, 0], number + 3000)
        assert torch.equal(pool.images[torch.arange(len(number))].flatten().long(), number.long() % 256)
        assert sorted([*pool.labeled.tolist(), *pool.unlabeled.tolist()]) == list(range(len(number)))
        self.shown.append(number[pool.unlabeled].long())
        return pool.unlabeled[(self.sign * number[pool.unlabeled]).argsort(descending=True)[:budget]]


def numbered(n=300, labeled=(5, 17, 250)):
    """Each part of the pool says which image it is of."""
    number = torch.arange(n, dtype=torch.float32).unsqueeze(1)
    return make_pool(
        features=number,
        logits=number + torch.tensor([1000.0, 0.0]),
        penultimate=number + 2000,
        stochastic=(number + torch.tensor([3000.0, 0.0])).repeat(2, 1, 1),
        labels=torch.arange(n) % 7,
        num_classes=7,
        labeled=labeled,
        images=(torch.arange(n) % 256).to(torch.uint8).reshape(-1, 1, 1, 1),
    )


def test_only_what_strategies_chose_is_left():
    """Of 300 images the highest and the lowest of each part are left; the last selector sees no others."""
    pool, budget = numbered(), 4
    high, low, final = Highest(), Highest(-1), Highest()
    selector = Refine(strategies=(high, low), final=final, depth=2, num_parts=6, alpha=0.5, part_size=100)
    picks = selector.select(pool, budget, rng=rng())
    assert valid(picks, pool, budget)
    assert [len(part) for part in high.shown[:3]] == [100, 100, 100]  # 3 parts each, of the first size
    first = torch.cat(
        [part.sort().values[-budget:] for part in high.shown[:3]]
        + [part.sort().values[:budget] for part in low.shown[:3]]
    ).unique()
    assert all(len(part) == max(budget, len(first) // 2) for part in high.shown[3:])
    assert all(torch.isin(part, first).all() for part in (*high.shown[3:], *low.shown[3:]))
    second = torch.cat(
        [part.sort().values[-budget:] for part in high.shown[3:]]
        + [part.sort().values[:budget] for part in low.shown[3:]]
    ).unique()
    assert torch.equal(final.shown[0], second)
    assert picks.tolist() == second.sort(descending=True).values[:budget].tolist()
    assert len(high.shown) == len(low.shown) == 6


def test_without_filtering_it_is_the_last_selector():
    pool = numbered()
    picks = Refine(strategies=(Random(),), final=Highest(), depth=0).select(pool, 5, rng=rng())
    assert picks.tolist() == [299, 298, 297, 296, 295]


def test_no_more_are_left_than_is_said_and_never_fewer_than_are_picked():
    final = Highest()
    Refine(strategies=(Random(),), final=final, depth=1, num_parts=20, part_size=50, max_left=30).select(
        numbered(), 10, rng=rng()
    )
    assert len(final.shown[0]) == 30
    for budget in (1, 150, 297):
        pool = numbered()
        selector = Refine(
            strategies=(Random(), Highest()), final=Highest(), depth=3, num_parts=2, alpha=0.1, part_size=3
        )
        assert valid(selector.select(pool, budget, rng=rng()), pool, budget)


@pytest.mark.parametrize(("part_size", "max_left"), [(20, 40), (40, 40), (20, 100), (40, 100)])
def test_where_no_strategy_is_asked_it_is_said(caplog, part_size, max_left):
    strategy = Highest()
    refine = Refine(strategies=(strategy,), final=Highest(), num_parts=20, part_size=part_size, max_left=max_left)
    picks = refine.select(numbered(), 40, rng=rng())
    assert strategy.shown == []
    assert picks.tolist() == picks.sort(descending=True).values.tolist() != list(range(299, 259, -1))
    (said,) = caplog.messages
    assert "no strategy was asked" in said
    assert said.endswith(f"the {max_left} images that are left were drawn at random")


def test_where_as_many_are_picked_as_may_be_left_the_strategies_choices_are_drawn_from_and_it_is_said(caplog):
    strategy = Highest()
    refine = Refine(strategies=(strategy,), final=Highest(), num_parts=3, part_size=100, max_left=40)
    picks = refine.select(numbered(), 40, rng=rng())
    assert len(strategy.shown) == 3
    chosen = torch.cat([part.sort().values[-40:] for part in strategy.shown])
    assert torch.isin(picks, chosen).all()
    assert len(chosen.unique()) > 40
    (said,) = caplog.messages
    assert "40 picks of at most max_left = 40 images are drawn at random from what the strategies chose" in said


@pytest.mark.parametrize(("budget", "part_size", "max_left"), [(5, 20, 40), (40, 20, 1000), (297, 20, 40)])
def test_where_strategies_choose_or_nothing_is_to_be_chosen_nothing_is_said(caplog, budget, part_size, max_left):
    """Parts that are too small at first may be large enough later."""
    strategy = Highest()
    refine = Refine(strategies=(strategy,), final=Highest(), num_parts=20, part_size=part_size, max_left=max_left)
    assert len(refine.select(numbered(), budget, rng=rng())) == budget
    assert bool(strategy.shown) == (budget < 297)
    assert caplog.text == ""


def test_passes_are_made_once():
    pool = numbered()
    made, passes = [], pool.model.stochastic_logits
    pool.model.stochastic_logits = lambda n: made.append(n) or passes(n)
    Refine(strategies=(Highest(), Highest(-1)), final=Highest(), num_parts=4, part_size=50).select(pool, 3, rng=rng())
    assert made == [2]


def test_filtering_frees_the_last_selector_from_what_no_strategy_values():
    """As in the paper: random picks of what is left are better by the strategies' lights than random picks of all."""
    features, cluster = blobs(400, 6)
    logits = 2 * torch.randn(400, 5, generator=rng())
    pool = make_pool(features=features, logits=logits, labels=cluster, labeled=range(5))
    top = logits.softmax(1).sort(dim=1, descending=True).values
    margin = top[:, 0] - top[:, 1]
    refine = Refine(strategies=(Margin(), Entropy()), final=Random(), num_parts=20, part_size=200)
    picks = [refine.select(pool, 10, rng=rng(seed)) for seed in range(5)]
    assert margin[torch.cat(picks)].mean() < 0.5 * margin.mean()
    assert len(torch.cat(picks).unique()) > 10


def test_defaults_are_built_by_name():
    selector = build(PluginSpec("selectors", "refine", {"num_parts": 9, "depth": 1, "part_size": 30}))
    assert len(selector.strategies) == len(STRATEGIES) == 9
    assert type(selector.final).__name__ == "UncertaintyHerding"
    assert selector.reads == frozenset()


def test_reads_what_its_selectors_read():
    assert Refine(strategies=(Margin(), MCDropout()), final=Random()).reads == {"stochastic_logits"}
    assert Refine(strategies=(Margin(),), final=MCDropout()).reads == {"stochastic_logits"}
    assert Refine(strategies=(Margin(), AlfaMix()), final=Random()).needs == {"probabilities", "linear_layer"}
    assert Refine(strategies=(Random(),), final=Random()).needs == frozenset()


def test_drawn_is_a_random_choice_in_order():
    positions = torch.arange(0, 50, 2)
    draws = torch.stack([drawn(positions, 5, rng=rng(seed)) for seed in range(40)])
    assert (draws.diff(dim=1) > 0).all()
    assert len(draws.unique()) == 25
    assert torch.equal(drawn(positions, 99, rng=rng()), positions)


def shown_a_part():
    selector = Random()
    selector.pool_subset = 10
    return selector


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": -1}, "depth = -1 is not >= 0"),
        ({"num_parts": 0}, "num_parts = 0 is not >= 1"),
        ({"alpha": 0.0}, r"alpha = 0.0 is not in \(0, 1\]"),
        ({"strategies": ()}, "strategies is empty"),
        ({"final": "margin"}, "'margin' is not a selector"),
        ({"strategies": (TAVAAL(),)}, "TAVAAL needs a module of its own"),
        ({"final": shown_a_part()}, "pool_subset of Random has no effect within refine"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Refine(**{"strategies": (Random(),), "final": Random(), **settings})
