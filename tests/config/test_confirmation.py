"""Which of a search's configurations are confirmed: the best, and if asked the best of different kinds."""

import pytest

from harness.config.plan import load_plan
from harness.config.schema import ConfigError

RANKED = [
    {"augmentation.first": "crop", "augmentation.second": "flip", "ssl_method.temperature": 0.1},
    {"augmentation.first": "crop", "augmentation.second": "flip", "ssl_method.temperature": 0.2},
    {"augmentation.first": "flip", "augmentation.second": "crop", "ssl_method.temperature": 0.1},
    {"augmentation.first": "crop", "augmentation.second": "blur", "ssl_method.temperature": 0.3},
]


def question(**confirm):
    return {
        "method": "random",
        "run_cap": 3,
        "seeds": [0],
        "confirm": confirm,
        "trial": {"augmentation": {"name": "pair"}, "labels": {"start": 20}},
        "parameters": {
            "augmentation.first": {"values": ["crop", "flip"]},
            "augmentation.second": {"values": ["crop", "flip"]},
            "ssl_method.temperature": {"min": 0.1, "max": 1.0},
        },
    }


@pytest.mark.parametrize(
    ("distinct", "top", "expected"),
    [
        ([], 3, [0, 1, 2]),
        (["augmentation"], 3, [0, 2, 3]),  # a pair in another order is another pair
        (["augmentation"], 9, [0, 2, 3]),
        (["augmentation.first"], 3, [0, 2]),
        (["augmentation.first", "ssl_method.temperature"], 4, [0, 1, 2, 3]),
        (["ssl_method"], 2, [0, 1]),
    ],
)
def test_the_best_that_differ_in_what_must_be_distinct(distinct, top, expected):
    confirm = load_plan(question(top=top, distinct=distinct), {}).confirm
    assert confirm.chosen(iter(RANKED)) == [RANKED[number] for number in expected]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("augmentaton", "augmentaton is no parameter; did you mean 'augmentation'"),
        ("augmentation.frist", "augmentation.frist is no parameter; did you mean 'augmentation.first'"),
        ("augment", "augment is no parameter"),  # a part of a word is no section
        ("backbone", "backbone is no parameter"),  # of the trial, and the same for all
    ],
)
def test_what_must_be_distinct_is_a_parameter(name, message):
    with pytest.raises(ConfigError, match=f"confirm.distinct: {message}"):
        load_plan(question(distinct=[name]), {})


def test_seeds_are_fresh():
    with pytest.raises(ConfigError, match=r"confirm.seeds: \[0, 1\] must be fresh and different: not of \[0\]"):
        load_plan(question(seeds=[0, 1]), {})
