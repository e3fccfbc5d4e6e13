"""A warm-up that is no shorter than its training is refused: the learning rate that was asked for never comes."""

from __future__ import annotations

import pytest
import yaml

from harness.config.parsing import read_trial
from harness.config.plan import load_plan
from harness.config.recipes import FOLDER, recipe_names
from harness.config.schema import ConfigError
from harness.sweep import preflight

WARM = "{epochs: 5, warmup_epochs: 5}"
JOINT = "mode: joint, labels: {start: 20}, classifier: finetune"
NEVER = [
    (f"pretrain: {WARM}", "trial.pretrain"),
    (f"labels: {{start: 20, budget: 20, rounds: 1}}, selection: {{pretrain: {WARM}}}", "trial.selection.pretrain"),
    (f"{JOINT}, ssl_method: distill, teacher: {{backbone: dcnn3, ssl_method: simclr, pretrain: {WARM}}}",
     "trial.teacher.pretrain"),
    (f"{JOINT}, ssl_method: distill, teacher: {{classifier: {{name: mlp, epochs: 5, warmup_epochs: 5}}}}",
     "trial.teacher.classifier"),
    *((f"classifier: {{name: {name}, epochs: 5, warmup_epochs: 5}}", "trial.classifier")
      for name in ("linear", "mlp", "finetune")),
    ("classifier: [ridge, {name: linear, epochs: 5, warmup_epochs: 5}]", "trial.beside[0]"),
    ("mode: joint, labels: {start: 20}, classifier: {name: finetune, epochs: 5, warmup_epochs: 5}", "trial.classifier"),
]  # fmt: skip
NO_MATTER = [
    "ssl_method: none, pretrain: {epochs: 5, warmup_epochs: 5}",
    "pretrain: {epochs: 0, warmup_epochs: 5}",
    f"{JOINT}, pretrain: {{epochs: 5, warmup_epochs: 5}}",
    "classifier: {name: ridge, epochs: 5, warmup_epochs: 5}",
    "pretrain: {epochs: auto, warmup_epochs: 5}",
    "pretrain: {epochs: 5, warmup_epochs: 4.9}",
]


@pytest.mark.parametrize(("trial", "place"), NEVER)
def test_a_training_comes_to_its_learning_rate(trial, place):
    with pytest.raises(ConfigError) as caught:
        read_trial(yaml.safe_load(f"{{{trial}}}"), {})
    assert caught.value.problems == [
        f"{place}.warmup_epochs: 5 of 5 epochs: lr is never reached; set it below `epochs`, or `epochs` above it"
    ]


@pytest.mark.parametrize("trial", NO_MATTER)
def test_a_warmup_that_ends_or_that_nobody_reads_is_no_mistake(trial):
    read_trial(yaml.safe_load(f"{{{trial}}}"), {})


WARMED = [name for name in recipe_names() if "warmup_epochs" in (FOLDER / f"{name}.yaml").read_text()]


@pytest.mark.parametrize("recipe", WARMED)
def test_a_recipe_that_is_cut_short_says_so(recipe):
    trial = {"recipe": recipe, "labels": {"start": 20}}
    read_trial({"trial": trial}, {})
    for key in ("pretrain", "classifier"):
        warm = getattr(read_trial({"trial": trial}, {}), key).warmup_epochs
        if warm:
            with pytest.raises(ConfigError, match=rf"{key}.warmup_epochs: {warm:g} of {int(warm)} epochs"):
                read_trial({"trial": trial}, {f"trial.{key}.epochs": int(warm)})


@pytest.mark.parametrize("section", ["", "selection."])
def test_a_warmup_is_judged_again_when_the_epochs_are_known(section, cache):
    labels = {"start": 20, "budget": 20, "rounds": 1}
    plans = []
    for warmup in (2, 999):
        pretrain = {"epochs": "auto", "warmup_epochs": warmup}
        trial = {"pretrain": pretrain} if not section else {"ssl_method": "none", "selection": {"pretrain": pretrain}}
        plans.append(load_plan({"trial": trial | {"labels": labels}}, {}))
    short, long = plans
    assert preflight.check_data(short, cache)
    with pytest.raises(
        ConfigError, match=rf": {section}pretrain.warmup_epochs: 999 of \d+ epochs: lr is never reached"
    ):
        preflight.check_data(long, cache)
