"""`selection`: one encoder chooses, another is trained on what was chosen."""

from __future__ import annotations

import re

import pytest
import torch
from trials import configure, results, rounds_of

from harness.api import Selector
from harness.config.plan import load_plan
from harness.config.schema import ConfigError
from harness.config.tasks import Task
from harness.metrics import METRICS, known, step_kind
from harness.plugins.registry import as_spec, build
from harness.sweep.costs import expected_costs
from harness.sweep.preflight import pretrainings
from harness.trial.pace import Pace
from harness.trial.pretraining import pretrain_key
from harness.trial.stages import StageCache

OTHER = {
    "backbone": {"name": "dcnn3", "width": 6},
    "ssl_method": {"name": "simclr", "hidden_dim": 8, "projection_dim": 4},
    "augmentation": {"first": "crop", "second": "noise"},
    "pretrain": {"epochs": 2, "batch_size": 64},
}
FROM_SCRATCH = {"ssl_method": "none", "classifier": {"name": "finetune", "epochs": 2}}


class Watching(Selector):
    """Notes what it was shown."""

    supports_cold_start = True
    seen: list = []  # noqa: RUF012
    reading = staticmethod(lambda pool: None)

    def select(self, pool, budget, *, rng):
        """Any."""
        self.seen.append((pool, pool.features, pool.penultimate, self.reading(pool)))
        return pool.unlabeled[torch.randperm(len(pool.unlabeled), generator=rng)[:budget]]


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr(Watching, "seen", [])
    return Watching.seen


def watching(**settings):
    return configure(**{"selector": f"{__name__}:Watching", **FROM_SCRATCH, **settings})


def test_features_are_the_other_encoders_and_the_rest_is_the_trained_ones(fresh, watched, monkeypatch):
    monkeypatch.setattr(
        Watching, "reading", staticmethod(lambda pool: (pool.logits, pool.last_layer(pool.penultimate)))
    )
    bench = fresh()
    bench.run(watching(selection=OTHER))
    mixed = list(watched)
    watched.clear()
    bench.run(watching())
    plain = list(watched)
    watched.clear()
    bench.run(configure(**OTHER, selector=f"{__name__}:Watching"))  # as an ordinary trial would pre-train and freeze it
    frozen = list(watched)
    for number in (0, 1):
        assert torch.equal(mixed[number][1], frozen[0][1])
        assert mixed[number][1].shape[1] != plain[number][1].shape[1]
        assert torch.equal(mixed[number][2], plain[number][2])  # the picks are the same chance, so are the trainings
        assert torch.equal(mixed[number][3][0], plain[number][3][0])
        torch.testing.assert_close(*mixed[number][3], rtol=1e-4, atol=1e-4)


def test_before_the_first_training_it_is_all_that_there_is(fresh, watched):
    fresh().run(watching(selection=OTHER, labels={"start": 0, "budget": 12, "rounds": 2}))
    (_, features, penultimate, _), (_, again, trained, _) = watched
    assert torch.equal(features, penultimate)
    assert torch.equal(features, again)
    assert trained.shape != features.shape


def test_its_loss_ranks_too(fresh, watched, monkeypatch):
    monkeypatch.setattr(Watching, "reading", staticmethod(lambda pool: pool.ssl_loss(2)))
    monkeypatch.setattr(Watching, "reads", frozenset({"ssl_loss"}))
    fresh().run(watching(selection=OTHER))
    assert all(
        loss.isfinite().all() and loss.std() > 0 for *_, loss in watched
    )  # `none`, the trial's, has no such loss


@pytest.mark.parametrize("form", ["l2", "none"])
def test_it_goes_with_pool_subset_and_normalize(fresh, watched, monkeypatch, form):
    monkeypatch.setattr(Watching, "normalize", "none")
    selector = {"name": f"{__name__}:Watching", "pool_subset": 30, "normalize": form}
    fresh().run(watching(selection=OTHER, selector=selector))
    for pool, features, *_ in watched:
        assert len(features) == len(pool.labeled) + 30
        assert ((features.norm(dim=1) - 1).abs().max() < 1e-5) == (form == "l2")


# --- once for all, and counted ---


def test_it_is_trained_once_for_all_selectors_budgets_and_ordinary_trials(fresh):
    bench = fresh()
    where = {**FROM_SCRATCH, "selection": OTHER}
    _, first = bench.run(configure(**where, selector="typiclust"))
    assert first["stage/selection_encoder_cached"] == 0
    assert first["time/selection_encoder_seconds"] > 0
    assert first["time/pretrain_seconds"] == first["time/encode_seconds"] == 0
    for other in ({"selector": "coreset"}, {"selector": "typiclust", "labels__budget": 5}):
        _, again = bench.run(configure(**where, **other))
        assert again["stage/selection_encoder_cached"] == 1
        assert again["time/saved_seconds"] >= again["time/selection_encoder_seconds"] * 0.5
    _, ordinary = bench.run(configure(**OTHER))
    assert ordinary["stage/pretrain_cached"] == 1
    assert "stage/selection_encoder_cached" not in ordinary
    assert ordinary["time/selection_encoder_seconds"] == 0
    parts = ("pretrain", "encode", "selection_encoder", "select", "train", "evaluate")
    assert sum(first[f"time/{part}_seconds"] for part in parts) == pytest.approx(first["time/total_seconds"])


def test_its_epochs_are_told_under_a_name_of_their_own(fresh):
    config = watching(
        selection=OTHER, selector="random", labels__rounds=1, classifier={"name": "finetune", "epochs": 1}
    )
    rows, totals = fresh().run(config)
    epochs = [(step, metrics, details.training.name) for kind, step, metrics, details in rows if kind == "epoch"]
    assert [name for *_, name in epochs] == ["selection", "selection", "finetune", "finetune"]
    assert [step for step, *_ in epochs] == [1, 2, 3, 4]
    assert {"selection/loss", "selection/knn_accuracy"} <= epochs[0][1].keys()
    assert not any(name.startswith("pretrain/") for _, metrics, _ in epochs for name in metrics)
    for name in [*epochs[0][1], *totals]:
        assert known(name), name
    assert all(step_kind(name) == "epoch" for name in METRICS if name.startswith("selection/"))


@pytest.mark.parametrize(
    "changed",
    [
        {"backbone": {"name": "dcnn3", "width": 5}},
        {"ssl_method": {"name": "simclr", "hidden_dim": 9, "projection_dim": 4}},
        {"pretrain": {"epochs": 1, "batch_size": 64}},
        {"augmentation": {"first": "crop", "second": "flip"}},
    ],
)
def test_whatever_changes_it_changes_the_name_of_the_picks_and_not_of_the_training(fresh, monkeypatch, changed):
    keys, run = [], StageCache.run

    def noting(self, kind, key, *rest):
        stage = run(self, kind, key, *rest)
        keys.append((kind, stage.digest))
        return stage

    monkeypatch.setattr(StageCache, "run", noting)
    bench, where = fresh(), {**FROM_SCRATCH, "labels__rounds": 1, "selector": "random"}
    names = []
    for selection in (OTHER, OTHER | changed, None):
        keys.clear()
        bench.run(configure(**where, selection=selection))
        names.append({kind: [digest for k, digest in keys if k == kind] for kind, _ in keys})
    first, other, without = names
    assert len({first["select"][0], other["select"][0], without["select"][0]}) == 3
    assert first["train"] == other["train"] == without["train"]  # chance picks the same


def test_the_same_seed_gives_the_same_rows(fresh):
    config = configure(
        **FROM_SCRATCH, selection=OTHER, selector="typiclust", labels={"start": 0, "budget": 8, "rounds": 2}
    )
    rows = [results(fresh().run(config)[0]) for _ in range(2)]
    assert rows[0] == rows[1]
    assert rounds_of(rows[0])[-1][3].stages["selection"]


def test_given_weights_are_loaded_and_their_features_kept(fresh, tmp_path, watched):
    torch.manual_seed(0)
    encoder = build(as_spec("backbones", {"name": "dcnn3", "width": 6}), (1, 8, 8))
    torch.save(encoder.state_dict(), tmp_path / "weights.pt")
    selection = {
        "backbone": {"name": "dcnn3", "width": 6, "weights": str(tmp_path / "weights.pt")},
        "ssl_method": "none",
    }
    bench = fresh()
    config = watching(selection=selection)
    _, first = bench.run(config)
    assert first["stage/selection_encoder_cached"] == 0
    assert (bench.folders.stages / "features").is_dir()
    _, again = bench.run(config, seed=1)
    assert again["time/selection_encoder_seconds"] > 0
    assert torch.equal(watched[0][1].sort(0).values, watched[2][1].sort(0).values)  # of another seed, the same features


# --- what is refused ---


@pytest.mark.parametrize(
    ("selection", "settings", "message"),
    [
        ({"ssl_method": "none"}, {}, "trial.selection: nothing trains its encoder; give backbone.weights, or an"),
        ({"pretrain": {"epochs": 0}}, {}, "trial.selection: nothing trains its encoder; give backbone.weights, or an"),
        ({}, {"labels": {"start": "all"}}, "trial.selection: there is no round of selection, so"),
        ({"ssl_method": "supcon"}, {}, "selection.ssl_method: supcon learns from labels, which are yet to be chosen"),
        ({"ssl_method": "simclrr"}, {}, "trial.selection.ssl_method: no ssl_method 'simclrr'; did you mean 'simclr'?"),
        ({"backbon": "dcnn3"}, {}, "trial.selection.backbon: no such key; did you mean 'backbone'?"),
        ({"backbone": {"name": "dcnn3", "width": 0}}, {}, "trial.selection.backbone: "),
        ({"pretrain": {"milestones": [0.9, 0.1]}}, {}, "trial.selection.pretrain.milestones: "),
        ({"pretrain": {"epochs": -1}}, {}, "trial.selection.pretrain.epochs: -1 is below the smallest valid value 0"),
        ({"ssl_method": "vicreg"}, {"selector": "high_ssl_loss"}, "ranks by a loss per image, which vicreg"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(selection, settings, message):
    with pytest.raises(ConfigError) as error:
        configure(selection=selection, **settings)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_loss_of_the_other_encoder_is_enough():
    configure(**FROM_SCRATCH, selection=OTHER, selector="high_ssl_loss")
    with pytest.raises(ConfigError, match="none does not define"):
        configure(**FROM_SCRATCH, selector="high_ssl_loss")


def test_it_is_swept_and_a_plan_counts_its_training_once():
    trial = {"labels": {"start": 5, "budget": 5, "rounds": 1}, **FROM_SCRATCH, "selection": OTHER}
    parameters = {
        "selector": {"values": ["random", "typiclust"]},
        "selection.backbone.width": {"values": [4, 6]},
    }
    plan = load_plan({"name": "two", "trial": trial, "parameters": parameters}, {})
    tasks = plan.first_tasks()
    assert len(tasks) == 4
    names = pretrainings(tasks)
    assert (len(names), len(set(names))) == (4, 2)
    assert all(isinstance(task, Task) for task in tasks)
    none = load_plan({"name": "off", "trial": trial, "parameters": {"selection": {"values": [None, OTHER]}}}, {})
    assert [one.trial.selection is None for one in none.candidates] == [True, False]


def test_it_is_the_pre_training_of_an_ordinary_trial():
    mixed, ordinary = configure(**FROM_SCRATCH, selection=OTHER), configure(**OTHER)
    assert pretrain_key(mixed.of_selection(), 3, "data") == pretrain_key(ordinary, 3, "data")
    assert configure().of_selection() is None


def test_a_dry_run_counts_the_training_of_the_other_encoder_once(cache, monkeypatch):
    measured = []

    def pace_of(config, *_):
        measured.append(config)
        return Pace(step=60.0, batch=64, steps=3, image=0.0, peak=1.0)

    monkeypatch.setattr("harness.sweep.costs.measure_pace", pace_of)
    trial = {"data": {"fraction": 0.15}, "labels": {"start": 5, "budget": 5, "rounds": 1}, **FROM_SCRATCH}
    minutes = {}
    for selection in (None, OTHER):
        content = {"name": "two", "trial": trial | {"selection": selection}, "resources": {"max_concurrent": 1}}
        plan = load_plan({**content, "parameters": {"selector": {"values": ["random", "typiclust"]}}}, {})
        said = expected_costs(plan, cache)
        number, unit = re.search(r"time: about (\d+) (s|min) ", said).groups()
        minutes[selection is None] = int(number) / {"s": 60, "min": 1}[unit]
    assert minutes[False] - minutes[True] == pytest.approx(2 * 4, abs=1)  # 2 epochs of 4 steps of a minute each
    assert [config.ssl_method.name for config in measured] == ["none", "none", "simclr"]
