"""Questions of which every setting matters to some trial are asked, whatever the checks of them look for."""

import pytest

from harness.config.plan import load_plan
from harness.config.schema import ConfigError

TRIAL = {"dataset": "digits", "backbone": {"name": "dcnn3", "width": 4}, "labels": {"start": 20}}
ROUND = TRIAL | {"labels": {"start": 20, "budget": 10, "rounds": 1}}
RATE = {"pretrain.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}}
METHODS = {"ssl_method": {"values": ["byol", "vicreg", "simclr"]}}
SIMCLR = {"ssl_method": "simclr"}
RANDOM, BAYES = {"method": "random", "run_cap": 9}, {"method": "bayes", "run_cap": 9}
EARLY = {"early_terminate": {"type": "asha"}, "confirm": {"top": 1, "seeds": [1]}}

SOUND = {
    "a reference that every configuration is": RANDOM | {
        "trial": ROUND, "reference": {"selector": "random"}, "confirm": {"top": 2, "seeds": [1]},
        "parameters": {"selector": {"values": ["random"]}} | RATE},
    "a reference where all are confirmed": {
        "reference": SIMCLR, "confirm": {"top": 3, "seeds": [1]}, "parameters": METHODS},
    "a reference of which the best is confirmed": RANDOM | {
        "reference": SIMCLR, "confirm": {"top": 3, "distinct": ["ssl_method"], "seeds": [1]},
        "parameters": METHODS | RATE},
    **{f"two draws under seed {seed}, none of which may read the rate": RANDOM | {
        "run_cap": 2, "seeds": [seed], "parameters": {"ssl_method": {"values": ["none", "simclr"]}} | RATE}
       for seed in range(4)},
    "ranges of which one corner makes no trial": BAYES | {
        "parameters": {"pretrain.epochs": {"min": 5, "max": 50}, "pretrain.warmup_epochs": {"min": 0, "max": 10}}},
    "early stopping over normalisations of the same images": RANDOM | EARLY | {
        "parameters": {"data.normalize": {"values": [True, False]}} | RATE},
}  # fmt: skip


@pytest.mark.parametrize("question", SOUND)
def test_it_is_asked(question):
    plan = load_plan({"name": "q", "trial": TRIAL} | SOUND[question], {})
    assert plan.some_candidates()


UNSOUND = {
    "is confirmed only if it is among the best": RANDOM | {
        "reference": SIMCLR, "confirm": {"top": 1, "seeds": [1]}, "parameters": METHODS | RATE},
    "pretrain.lr: no trial reads it": RANDOM | {"trial": TRIAL | {"ssl_method": "none"}, "parameters": RATE},
    "data varies": RANDOM | EARLY | {"parameters": {"data.val": {"values": [50, 100]}} | RATE},
}  # fmt: skip


@pytest.mark.parametrize("said", UNSOUND)
def test_its_neighbour_is_not(said):
    with pytest.raises(ConfigError, match=said):
        load_plan({"name": "q", "trial": TRIAL} | UNSOUND[said], {})
