"""A search improves what each of its trials measures, and nothing that says who ran before it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from trials import SMALL, Bench

from harness.config.plan import load_plan
from harness.config.schema import ConfigError
from harness.metrics import METRICS

ALL = {"start": "all", "budget": 0, "rounds": 0}
HEAD = {"name": "finetune", "epochs": 1}
JOINT = {"mode": "joint", "labels": {"start": 20}, "classifier": HEAD}

TRIALS: dict[str, dict[str, Any]] = {
    "rounds": {},
    "all labels": {"labels": ALL},
    "one number of labels": {"labels": {"start": 0, "budget": 20, "rounds": 1}, "selector": "random"},
    "joint, an SSL method": JOINT,
    "joint, all labels": JOINT | {"labels": ALL},
    "joint, semi-supervised": JOINT | {"ssl_method": "fixmatch"},
    "joint, taught": JOINT | {"ssl_method": "distill", "teacher": {"classifier": "ridge"}},
}


def ask(given: dict[str, Any], name: str, **question: Any) -> Any:
    trial = copy.deepcopy(SMALL) | given
    asked = {"confirm": {"seeds": [1]}, "parameters": {"backbone.width": {"values": [4, 8]}}}
    return load_plan({"trial": trial, "metric": {"name": name, "goal": "maximize"}, **asked, **question}, {})


def refusal(given: dict[str, Any], name: str, **question: Any) -> str:
    try:
        ask(given, name, **question)
    except ConfigError as error:
        return error.problems[0]
    return ""


@pytest.mark.parametrize("trial", TRIALS)
def test_every_goal_that_is_accepted_is_measured(trial, tmp_path, cache):
    given = TRIALS[trial]
    _, totals = Bench(cache, tmp_path).run(ask(given, "val/accuracy").candidates[0].trial)
    refused = {name: refusal(given, name) for name in METRICS}
    assert [name for name, why in refused.items() if not why and name not in totals] == []
    assert len([why for why in refused.values() if not why]) > 15
    for name, why in refused.items():
        measured = name in totals and not name.startswith(("test/", "pretrain/", "time/", "stage/"))
        assert not (why and measured), why


SAID = [
    ({"labels": ALL}, "val/aubc", "metric val/aubc needs a curve, and there is one number of labels; use val/accuracy"),
    ({}, "joint/loss", "metric joint/loss is measured where classifier and encoder are trained at once; use mode "),
    (JOINT, "joint/used", "metric joint/used is that of a semi-supervised method, and simclr is none; use joint/loss"),
    ({}, "time/wall_seconds", "metric.name: time/wall_seconds says what others had left in the cache; use "
     "time/total_seconds"),
    ({}, "stage/pretrain_cached", "stage/pretrain_cached says what others had left in the cache; use time/total"),
    ({}, "labels/looked_at", "metric.name: labels/looked_at is measured of upper bounds only; use labels/used"),
]  # fmt: skip


@pytest.mark.parametrize(("trial", "name", "said"), SAID)
@pytest.mark.parametrize("search", [{}, {"method": "bayes", "run_cap": 2}])
def test_what_is_no_goal_is_refused_with_the_nearest_that_is(trial, name, said, search):
    assert said in refusal(trial, name, **search)
