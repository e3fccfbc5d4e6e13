"""A schedule: whose turn it is, what it inherits from its two selectors, and what a configuration makes of it."""

import pytest
import torch
from pools import blobs, make_pool, picks_of, rng

from baselines.selectors.learning_loss import LearningLoss
from baselines.selectors.margin import Margin
from baselines.selectors.mc_dropout import MCDropout
from baselines.selectors.random import Random
from baselines.selectors.schedule import Schedule
from baselines.selectors.typiclust import TypiClust
from harness.config.parsing import parse_trial
from harness.config.schema import Problems, as_dict
from harness.plugins.registry import as_spec, build
from harness.testing import check_selector


def pool_with(num_labeled):
    features, labels = blobs(120, 4, num_clusters=3)
    logits = torch.randn(120, 3, generator=rng()) if num_labeled else None
    return make_pool(features=features, logits=logits, labels=labels, num_classes=3, labeled=range(num_labeled))


@pytest.mark.parametrize(
    ("setting", "num_labeled", "expected"),
    [
        ({}, 0, TypiClust),
        ({}, 59, TypiClust),  # 20 labels for each of three classes
        ({}, 60, Margin),
        ({"until": 5}, 4, TypiClust),
        ({"until": 5}, 5, Margin),
    ],
)
def test_the_other_one_takes_over_at_the_number_of_labels(setting, num_labeled, expected):
    pool, schedule = pool_with(num_labeled), Schedule(first=TypiClust(), then=Margin(), **setting)
    picks, alone = schedule.select(pool, 6, rng=rng()), expected()
    assert torch.equal(picks, picks_of(alone, pool, 6))
    assert schedule.explain(pool, picks) == alone.explain(alone.as_shown(pool), picks)
    assert len(schedule.explain(pool, picks)) == 6


def test_it_needs_what_its_two_need():
    assert Schedule(first=TypiClust(), then=Margin()).supports_cold_start
    assert not Schedule(first=Margin(), then=TypiClust()).supports_cold_start
    assert Schedule(first=TypiClust(), then=MCDropout()).reads == {"stochastic_logits"}
    assert Schedule(first=TypiClust(), then=MCDropout()).needs == {"probabilities"}
    assert Schedule(first=TypiClust(), then=Margin()).companion([(4,)]) is None
    for two in ({"first": Random(), "then": LearningLoss()}, {"first": LearningLoss(), "then": Random()}):
        assert Schedule(**two).companion([(4, 8, 8), (6,)]) is not None


def test_a_schedule_in_a_schedule_keeps_the_promises_of_a_selector():
    third = {"name": "schedule", "first": "typiclust", "then": "badge", "until": 2}
    spec = as_spec("selectors", {"name": "schedule", "first": third, "then": "margin", "until": 9})
    check_selector(lambda: build(spec))


def problems_of(selector, **labels):
    problems = Problems()
    trial = {"selector": selector, "ssl_method": "vicreg", "labels": {"budget": 5, "rounds": 2, **labels}}
    return parse_trial(trial, "trial", problems), problems.found


def test_a_configuration_names_the_two():
    config, problems = problems_of(
        {"name": "schedule", "first": {"name": "typiclust", "num_neighbors": 7}, "then": "coreset"}, start=0
    )
    assert not problems
    resolved = as_dict(config)["selector"]
    assert resolved["first"]["num_neighbors"] == 7
    assert resolved["then"]["name"] == "coreset"
    assert resolved["until"] is None


@pytest.mark.parametrize(
    ("selector", "start", "message"),
    [
        ({"first": "margin"}, 0, "selector 'schedule' cannot start without labels"),
        ({"then": "high_ssl_loss"}, 0, "schedule ranks by a loss per image, which vicreg does not define"),
        ({"first": "mc_dropout"}, 5, "schedule needs dropout"),
        ({"then": "margins"}, 0, "no selector 'margins'; did you mean 'margin'"),
        ({"until": 0}, 0, "until = 0 is not >= 1"),
        ({"then": {"name": "margin", "pool_subset": 50}}, 0, "then.pool_subset = 50 is never looked at"),
        ({"first": "learning_loss", "then": "ta_vaal"}, 5, "only one of them can"),
    ],
)
def test_what_a_trial_cannot_give_is_refused_before_it_starts(selector, start, message):
    config, problems = problems_of({"name": "schedule", **selector}, start=start)
    assert config is None
    assert any(message in problem for problem in problems), problems


def test_a_name_that_nobody_resolved_is_refused():
    with pytest.raises(ValueError, match="first = 'typiclust' must be a Selector"):
        Schedule()
