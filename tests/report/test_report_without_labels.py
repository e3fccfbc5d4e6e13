"""The report of a sweep that read no label says so, and its pictures name no class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sweep_folder import SweepFolder

from harness.records.portrait import Portrait, pack
from harness.report import read, summary
from harness.report.looks import gallery


def portrait(seed: int) -> Portrait:
    rng = np.random.default_rng(seed)
    return Portrait(
        class_names=(),
        mapping="t-SNE",
        points=rng.normal(size=(60, 2)),
        classes=np.full(60, -1),
        clusters=np.arange(60) % 10,
        same_class=float("nan"),
        picked=np.array([], dtype=np.int64),
        pick_points=np.zeros((0, 2)),
        pick_rounds=np.array([], dtype=np.int64),
        pick_classes=np.array([], dtype=np.int64),
        neighbor_classes=np.full((8, 6), -1),
        neighbor_images=rng.integers(0, 256, (8, 6, 8, 8, 3)).astype(np.uint8),
        operations=("crop", "views"),
        views=rng.integers(0, 256, (6, 5, 8, 8, 3)).astype(np.uint8),
    )


@pytest.fixture
def sweep(tmp_path):
    """Two encoders by RankMe, confirmed on two seeds."""
    folder = SweepFolder(tmp_path / "sweep", metric=[{"name": "pretrain/rankme", "goal": "maximize"}])
    folder.environment["datasets"][0] |= {"train": 1650, "val": 0, "test": 0, "classes": []}
    folder.write_environment()
    for number, augmentation in enumerate(("crop", "noise")):
        for seed in (1, 2):
            rows = folder.records(augmentation, seed, {"augmentation.first": augmentation}, {})
            for row in rows:
                row["metrics"] = {"labels/used": 0, "labels/val": 0, "pretrain/rankme": 10.0 + number + seed / 10}
            folder.append(rows)
        left = tmp_path / f"sweep/trials/confirm-{augmentation}-s1/portrait.npz"
        left.write_bytes(pack(portrait(number)))
    return folder


def test_it_says_what_it_cannot_say(sweep):
    report = read.read_report(sweep.path)
    assert read.WITHOUT_LABELS in report.notes
    text = summary.summary(report)
    assert "first noise was the best of 2 with pretrain/rankme" in report.answer
    assert "1,650 images, no labels" in text
    for word in ("accuracy", "classes)", "of its class", "validation images"):
        assert word not in text.replace(read.WITHOUT_LABELS, ""), word


def test_a_sweep_with_labels_says_nothing_of_it(sweep):
    sweep.environment["datasets"][0]["classes"] = ["a", "b"]
    sweep.write_environment()
    assert read.WITHOUT_LABELS not in read.read_report(sweep.path).notes


def test_every_picture_is_drawn_without_a_class(sweep):
    shown = {look.stem: look for look in gallery.find_looks(read.read_report(sweep.path))}
    assert list(shown) == ["embedding", "encoders", "neighbors", "views"]
    for look in shown.values():
        look.draw()
        assert "nan" not in look.caption
    assert "by k-means cluster" in shown["embedding"].caption
    assert not shown["encoders"].rows


def test_one_encoder_is_shown_alone(sweep):
    same = sweep.path / "trials/confirm-noise-s1/portrait.npz"
    same.write_bytes(pack(replace(portrait(0))))
    assert "encoders" not in [look.stem for look in gallery.find_looks(read.read_report(sweep.path))]


def test_an_augmentation_is_that_of_an_encoder_that_was_trained_with_it(sweep):
    best = sweep.path / "trials/confirm-noise-s1/portrait.npz"
    best.write_bytes(pack(replace(portrait(1), views=np.zeros((0, 1, 8, 8, 3), np.uint8), operations=())))
    (shown,) = [look for look in gallery.find_looks(read.read_report(sweep.path)) if look.stem == "views"]
    assert shown.title == "What the augmentation of first crop does"
