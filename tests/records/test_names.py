"""What configurations and trials are called."""

from __future__ import annotations

import pytest

from harness.records.names import run_name, varied


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
