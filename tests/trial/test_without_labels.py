"""A trial without a single label: an encoder, scores of it, and nothing else."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
import torch
from photos import Photos
from trials import SMALL, results

from harness.api import Source, Split
from harness.config.plan import load_plan
from harness.config.schema import ConfigError
from harness.data import splits
from harness.metrics import LABEL_FREE, METRICS
from harness.records.portrait import unpack
from harness.sweep.preflight import check_data, preview
from harness.trial import measures, portray, pretraining
from harness.trial import run as trial
from harness.trial.runtime import Runtime

PHOTOS = {"name": "photos:Photos", "count": 90}
NEED_LABELS = ("labels", "selector", "classifier", "data")
ALONE: dict[str, Any] = {key: value for key, value in SMALL.items() if key not in NEED_LABELS} | {"dataset": PHOTOS}


def question(trial_settings: dict[str, Any] | None = None, **space: Any) -> dict[str, Any]:
    return {"metric": {"name": "pretrain/rankme"}, "trial": ALONE | (trial_settings or {}), **space}


def plan_of(trial_settings: dict[str, Any] | None = None, **space: Any) -> Any:
    return load_plan(question(trial_settings, **space), {})


@pytest.fixture
def config():
    (candidate,) = plan_of().candidates
    return candidate.trial


def test_every_image_is_pretrained_on_and_no_label_is_counted(config, fresh):
    bench = fresh()
    data, oracle = trial.load_data(config, bench.folders.cache, with_test=True)
    assert dict(data.counts) == {"pool": 90, "val": 0, "test": 0}
    assert (len(oracle), data.num_classes, data.is_carved("test")) == (0, 0, False)
    stored = Photos(count=90).open().splits["train"].read(0, 90)
    of_pool = data.pool[torch.arange(90)]
    assert not torch.equal(of_pool, stored)  # their order was drawn
    assert sorted(image.tolist() for image in of_pool.flatten(1)) == sorted(i.tolist() for i in stored.flatten(1))

    rows, totals = bench.run(config, with_test=True)
    assert [(kind, step) for kind, step, *_ in rows] == [("epoch", 1), ("epoch", 2), ("labels", 0)]
    assert (totals["labels/used"], totals["labels/val"]) == (0, 0)
    for name in {name for _, _, metrics, _ in rows for name in metrics} | totals.keys():
        assert name in METRICS
        assert not name.startswith(("val/", "test/", "train/", "joint/", "pretrain/knn")), name
    assert set(LABEL_FREE) <= totals.keys()
    assert totals["pretrain/rankme"] == rows[1][2]["pretrain/rankme"]
    again, _ = fresh().run(config, with_test=False)
    assert results(again) == results(rows)


def test_an_encoder_that_is_not_trained_is_measured_too(fresh):
    (candidate,) = plan_of({"ssl_method": "none"}).candidates
    config, bench = candidate.trial, fresh()
    rows, totals = bench.run(config)
    ((kind, step, _, details),) = rows
    assert (kind, step, details.stages["train"]) == ("labels", 0, None)
    data, _ = trial.load_data(config, bench.folders.cache, with_test=False)
    runtime = Runtime.of(config.compute, torch.tensor(data.mean), torch.tensor(data.std))
    backbone = runtime.place(pretraining.untrained_encoder(config, data, 0)).eval()
    rank = measures.rankme(runtime.forward(backbone, data.pool))
    assert totals["pretrain/rankme"] == pytest.approx(rank, rel=1e-5)


def test_a_share_of_the_images_is_drawn_from_all_of_them(cache):
    full = [load(cache, fraction=1.0).pool, load(cache, fraction=0.5).pool]
    assert [len(pool) for pool in full] == [90, 45]
    seen = {image.numpy().tobytes() for image in full[0][torch.arange(90)]}
    assert {image.numpy().tobytes() for image in full[1][torch.arange(45)]} < seen
    with pytest.raises(ValueError, match=r"fraction: 0.01 leaves 1 of 90 images; at least 2 are needed"):
        load(cache, fraction=0.01)


def load(cache, **splitting):
    given = splits.Splitting(**splitting)
    return splits.open_data(Photos(count=90), "photos", given, cache=cache, with_test=False, device="cpu")[0]


def test_classes_cannot_be_thinned_where_there_are_none(cache):
    with pytest.raises(ValueError, match="imbalance"):
        load(cache, imbalance=splits.Exponential("exponential", 2.0))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"labels": {"start": 10}}, "trial.labels"),
        ({"labels": {"start": 0, "budget": 5, "rounds": 1}}, "trial.labels"),
        ({"selector": "coreset"}, "trial.selector"),
        ({"classifier": "knn"}, "trial.classifier"),
        ({"classifier": ["logistic", "knn"]}, "trial.beside"),
        ({"mode": "joint"}, "trial.mode"),
        ({"joint": {"weight": 0.1}}, "trial.joint"),
        ({"data": {"val": 20}}, "trial.data.val"),
        ({"data": {"imbalance": {"kind": "exponential", "ratio": 3}}}, "trial.data.imbalance"),
        ({"pretrain": {"knn_of_pool": True}}, "trial.pretrain.knn_of_pool"),
        ({"ssl_method": "supcon"}, "trial.ssl_method"),
        ({"ssl_method": "fixmatch"}, "trial.ssl_method"),
    ],
)
def test_a_key_that_needs_labels_is_refused_by_name(settings, key):
    with pytest.raises(ConfigError) as error:
        plan_of(settings)
    (problem,) = [line for line in error.value.problems if key + ":" in line]
    assert "needs labels, and this photos:Photos has none" in problem


def test_what_asks_for_nothing_may_stay(config):
    plain = plan_of({"labels": {"start": "all"}, "selector": "random", "data": {"val": 0}}).candidates[0].trial
    assert plain.labels == config.labels


READ_A_LABEL = ("val/accuracy", "val/loss", "val/aubc", "train/accuracy", "joint/loss")
ALWAYS_THERE = (*LABEL_FREE, "time/total_seconds", "memory/peak_bytes")


@pytest.mark.parametrize("name", READ_A_LABEL)
def test_a_goal_that_reads_labels_is_refused_by_name(name):
    with pytest.raises(ConfigError, match=f"metric {name} needs labels, and this photos:Photos has none"):
        plan_of(metric={"name": name})


@pytest.mark.parametrize("name", ALWAYS_THERE)
def test_a_search_improves_what_is_measured_all_the_same(name, fresh):
    plan = plan_of({"ssl_method": "none"}, metric={"name": name, "goal": "maximize"})
    assert name in fresh().run(plan.candidates[0].trial)[1]


def test_early_stopping_judges_by_the_goal_if_epochs_have_it():
    early = {"early_terminate": {"type": "asha"}, "confirm": {"top": 1}}
    assert plan_of(**early, metric={"name": "pretrain/alignment"}).watched.direction == "minimize"
    with pytest.raises(ConfigError, match="time/total_seconds is not measured in every epoch; let the first metric be"):
        plan_of(**early, metric={"name": "time/total_seconds"})


def test_the_check_and_the_dry_run_of_a_sweep_need_no_label(cache):
    plan = plan_of(parameters={"pretrain.epochs": {"values": [1, 2]}}, confirm={"top": 1, "seeds": [1]})
    ((_, data),) = check_data(plan, cache)
    assert data.num_classes == 0
    said = preview(plan)
    assert "0 classifier trainings: not a single label" in said
    assert "no test set" in said


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("a", "b"), {"train": None}),
        ((), {"train": [0, 0, 0, 0]}),
        ((), {"train": None, "test": None}),
        ((), {"train": None, "unlabeled": None}),
    ],
)
def test_a_source_that_contradicts_its_data_set_is_refused(tmp_path, monkeypatch, names, parts):
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    made = {
        name: Split(4, lambda start, stop: images[start:stop], None if labels is None else torch.tensor(labels))
        for name, labels in parts.items()
    }
    monkeypatch.setattr(Photos, "open", lambda self: Source((1, 8, 8), names, made))
    with pytest.raises(ValueError, match="says that it has no labels"):
        load(tmp_path)


def test_a_portrait_shows_images_of_the_pool_and_no_class(config, fresh):
    delivered: dict[str, Any] = {}
    bench = fresh()
    totals = trial.run(config, 0, bench.folders, lambda *_: None, with_test=False, deliver=delivered.update)
    assert "warning" not in delivered
    portrait = unpack(base64.b64decode(delivered["portrait"]))
    assert portrait.class_names == ()
    assert set(portrait.classes) == set(portrait.neighbor_classes.flatten()) == {-1}
    assert len(portrait.points) == 90
    assert len(set(portrait.clusters)) == portray.CLUSTERS
    assert np.isnan(portrait.same_class)
    assert not len(portrait.pick_points)
    assert portrait.neighbor_images.shape[:2] == (8, 6)
    assert totals["time/portrait_seconds"] > 0
