"""What configurations and trials are called."""

from __future__ import annotations

import pytest

from harness.records.names import name_configurations, run_name, varied


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        (
            {"pretrain.epochs": 5, "classifier.epochs": 100, "ssl_method": {"name": "moco", "k": 4}},
            "pretrain.epochs 5 · classifier.epochs 100 · moco k 4",
        ),
        ({"selector": "coreset", "ssl_method": "simclr", "ssl_method.temperature": 0.2}, "coreset · simclr tau 0.2"),
        ({"ssl_method.temperature": 0.21345, "ssl_method.name": "simclr"}, "simclr tau 0.213"),
        ({"case": "supervised", "augmentation.first": "crop"}, "supervised · first crop"),
        ({"recipe": "moco_v2"}, "moco_v2"),
        ({}, "ual"),
    ],
)
def test_names_say_what_differs(parameters, name):
    record = {"parameters": parameters, "seed": 3}
    assert run_name(record, {"selector": "ual"}) == f"{name} · seed 3"


def test_what_is_the_same_in_all_trials_is_not_in_their_names():
    space = {
        "parameters": {
            "selector": {"values": ["random"]},
            "pretrain.epochs": {"values": [5, 10]},
            "ssl_method.temperature": {"distribution": "uniform", "min": 0.1, "max": 1},
        },
        "cases": {"one": {}, "two": {}},
        "confirm": {"references": [{"ssl_method": "none"}]},
    }
    assert varied(space) == {"pretrain.epochs", "ssl_method.temperature", "case", "ssl_method"}
    assert varied({"parameters": {}, "cases": {"one": {}}, "confirm": None}) == set()
    record = {"parameters": {"selector": "random", "pretrain.epochs": 5}, "seed": 1}
    assert run_name(record, {}, varied(space)) == "epochs 5 · seed 1"


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((0.1, 0.2134567), ("0.1", "0.213")),  # as short as it may be
        ((0.001, 0.00101, 0.0010101), ("0.001", "0.00101", "0.0010101")),
        (([0.5, 0.1], [0.5, 0.10000001]), ("0.5+0.1", "0.5+0.10000001")),
        ((1, "1"), ("1 (0)", "1 (1)")),
    ],
)
def test_no_two_configurations_have_one_name(values, shown):
    named = name_configurations({str(n): {"ssl_method.temperature": value} for n, value in enumerate(values)})
    assert [*named.values()] == [f"temperature {one}" for one in shown]


def test_a_number_has_few_digits_where_something_else_tells_configurations_apart():
    drawn = [{"selector": name, "pretrain.lr": 0.1 + number / 1e6} for number, name in enumerate(("random", "badge"))]
    named = name_configurations(dict(zip("ab", drawn, strict=True)))
    assert named == {"a": "random · lr 0.1", "b": "badge · lr 0.1"}
