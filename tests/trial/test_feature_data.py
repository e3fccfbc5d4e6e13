"""Trials on a data set of features: what they give, and what is refused by name before anything runs."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch
from PIL import Image
from trials import Bench, results, rounds_of

from baselines import BUILTINS
from harness.config.parsing import read_trial
from harness.config.schema import ConfigError, set_path
from harness.plugins import registry
from harness.records.hits import unpack_hits
from harness.records.portrait import unpack
from harness.trial import knn
from harness.trial import run as trial

DRAW = np.random.default_rng(0)
CENTERS = DRAW.normal(size=(3, 12))
LABELS = np.arange(240) % 3
VECTORS = (CENTERS[LABELS] + DRAW.normal(size=(240, 12))).astype(np.float16)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("features") / "e.npz"
    np.savez(file, x_train=VECTORS[:180], y_train=LABELS[:180], x_test=VECTORS[180:], y_test=LABELS[180:])
    return file


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("stages"))


def configured(file, **settings):
    """A trial on the features, with settings by dotted path, `__` for the dots."""
    tree = {
        "dataset": {"name": "embeddings", "path": str(file)},
        "labels": {"start": 12, "budget": 6, "rounds": 2},
        "classifier": "ridge",
        "compute": {"device": "cpu"},
    }
    for path, value in settings.items():
        set_path(tree, path.replace("__", "."), value)
    return read_trial({"trial": tree}, {})


def test_hits_of_images_that_splits_share_are_of_one_name_and_in_one_order(bench, tmp_path):
    """The order of a split is its seed's own; validation and test images that the data set has are the same for all."""
    file, parts = tmp_path / "own.npz", {"train": slice(60), "val": slice(60, 100), "test": slice(100, 180)}
    noisy = VECTORS + 3 * np.random.default_rng(1).normal(size=VECTORS.shape)
    arrays = {f"x_{part}": noisy[rows] for part, rows in parts.items()}
    np.savez(file, **arrays, **{f"y_{part}": LABELS[rows] for part, rows in parts.items()})
    kept = []
    for split_seed in range(3):
        config = configured(file, labels={"start": "all"}, data__split_seed=split_seed)
        rows, _ = bench.run(config, with_test=True)
        kept.append(unpack_hits(base64.b64decode(rounds_of(rows)[-1][3].hits)))
    for part, count in (("val", 40), ("test", 80)):
        first, *others = (hits[f"{part}/accuracy"] for hits in kept)
        assert 0 < first.after(60).sum() < first.count == count
        for other in others:
            assert other.images == first.images
            np.testing.assert_array_equal(other.after(60), first.after(60))  # fitted to the same labels
    assert kept[0]["val/accuracy"].images != kept[0]["test/accuracy"].images


def test_hits_of_images_that_splits_carve_are_not_of_one_name_though_they_look_alike(bench, tmp_path):
    """Nor though the data set is sorted by class, so that in its order all labels are equal."""
    file = tmp_path / "alike.npz"
    np.savez(file, x_train=np.repeat(VECTORS[:3], 60, 0), y_train=np.repeat([0, 1, 2], 60))
    names = set()
    for split_seed in range(3):
        config = configured(file, labels={"start": "all"}, data__split_seed=split_seed)
        rows, _ = bench.run(config, with_test=True)
        names.add(unpack_hits(base64.b64decode(rounds_of(rows)[-1][3].hits))["test/accuracy"].images)
    assert len(names) == 3


READERS = [
    *("random", "entropy", "margin", "least_confidence", "coreset", "badge", "typiclust", "kmeans", "probcover"),
    *("cdal_cs", "representative_random", "ual", "active_ft", "free_sel", "cluster_margin", "direct", "dcom"),
    "schedule",
    *("max_herding", "uncertainty_herding", "drop_query", "bait", "alfa_mix", "falcun", "skactiveml/TypiClust"),
    {"name": "refine", "depth": 1, "num_parts": 3, "strategies": ["random", "margin", "typiclust"]},
    *({"name": name, "num_steps": 5} for name in ("core_gcn", "uncertain_gcn")),
    {"name": "cdal_rl", "epochs": 2},
]
PASSES = ("mc_dropout", "bald", {"name": "batch_bald", "num_samples": 4, "num_configurations": 8})


SLOW = ("core_gcn", "ual", "uncertain_gcn", "batch_bald", "active_ft", "skactiveml/TypiClust")
"""Of whom a round takes a second or more."""


def name_of(selector):
    return selector if isinstance(selector, str) else selector["name"]


@pytest.mark.parametrize(
    "selector",
    [pytest.param(one, marks=[pytest.mark.slow] * (name_of(one) in SLOW)) for one in (*READERS, *PASSES)],
    ids=name_of,
)
def test_selectors_that_read_features_or_logits_work(file, bench, selector):
    dropout = {"backbone__dropout": 0.5} if selector in PASSES else {}
    rows, totals = bench.run(configured(file, selector=selector, **dropout), with_test=True)
    assert [step for _, step, _, _ in rounds_of(rows)] == [12, 18, 24]
    assert totals["test/accuracy"] > 0.5


HEADS = [
    "logistic",
    "ridge",
    "kernel_ridge",
    pytest.param("svm", marks=pytest.mark.slow),
    "knn",
    {"name": "linear", "epochs": 30},
]


@pytest.mark.parametrize("head", [*HEADS, {"name": "mlp", "epochs": 30, "hidden_dim": 16}], ids=str)
def test_every_fixed_head_works(file, bench, head):
    _, totals = bench.run(configured(file, classifier=head, selector="drop_query"), with_test=True)
    assert totals["test/accuracy"] > 0.5


@pytest.mark.parametrize("representation", ["features", "pca", "tsne"])
def test_representations_of_features_work(file, bench, representation):
    config = configured(file, classifier={"name": "knn", "representation": representation, "dims": 5}, beside=["ridge"])
    _, totals = bench.run(config, with_test=True)
    assert totals["test/accuracy"] > 0.4
    assert totals["test/accuracy/ridge"] > 0.5


def test_the_head_reads_the_vectors_of_the_file(file, bench):
    """An independent k-NN on the arrays themselves, asked about the test images, is right as often."""
    config = configured(file, classifier={"name": "knn", "neighbors": 5}, labels={"start": "all"}, data__val=0)
    _, totals = bench.run(config, with_test=True)
    x, y = (torch.from_numpy(array) for array in (VECTORS.astype(np.float32), LABELS))
    shares = knn.votes(x[180:], x[:180], y[:180], 3, neighbors=5, temperature=0.1)
    assert totals["test/accuracy"] == pytest.approx(float((shares.argmax(1) == y[180:]).float().mean()))


def test_a_trial_is_the_same_again_and_its_scores_need_no_seed(file, bench, tmp_path):
    config = configured(file, selector="typiclust")
    rows, totals = bench.run(config)
    fresh = Bench(bench.folders.cache, tmp_path)
    again, _ = fresh.run(config)
    assert results(rows) == results(again)
    names = ("pretrain/rankme", "pretrain/embedding_std", "pretrain/alpha_req", "pretrain/uniformity")
    _, other = fresh.run(config, seed=1)
    assert [totals[name] for name in names] == [other[name] for name in names]
    assert "pretrain/alignment" not in totals
    assert len(list((fresh.folders.stages / "scores").iterdir())) == 1


def portrait_of(config, bench):
    delivered = {}
    trial.run(config, 0, bench.folders, lambda *row: None, with_test=True, deliver=delivered.update)
    return unpack(base64.b64decode(delivered["portrait"]))


def test_a_portrait_shows_pictures_where_there_are_files(file, bench, tmp_path, capsys):
    """The neighbours' pictures are those of their files: each is as bright as its image's number."""
    paths = np.array([f"{number}.png" for number in range(180)])
    for number in range(180):
        Image.new("RGB", (9, 7), (number, number, number)).save(tmp_path / f"{number}.png")
    arrays = {"x_train": VECTORS[:180], "y_train": LABELS[:180], "paths_train": paths}
    np.savez(tmp_path / "e.npz", **arrays)
    shown = portrait_of(configured(tmp_path / "e.npz"), bench)
    brightness = shown.neighbor_images.mean(axis=(2, 3, 4)).round().astype(int)
    assert np.array_equal(LABELS[brightness.clip(0, 179)], shown.neighbor_classes)
    assert len(np.unique(brightness)) > 10
    (tmp_path / f"{brightness[0, 0]}.png").unlink()
    assert portrait_of(configured(tmp_path / "e.npz"), bench).neighbor_images.shape == (8, 6, 0, 0, 3)
    assert "no pictures of images in the report: cannot decode" in capsys.readouterr().err
    without = portrait_of(configured(file), bench)
    assert without.neighbor_images.shape == (8, 6, 0, 0, 3)
    assert len(without.points) > 10


REFUSED = {
    "backbone": ("dcnn3", "trial.backbone: dcnn3 needs pixels, and embeddings gives features; use given"),
    "ssl_method": ("simclr", "trial.ssl_method: simclr needs pixels, and embeddings gives features; use none"),
    "augmentation": ("simclr", "trial.augmentation: simclr needs pixels, and embeddings gives features; use identity"),
    "classifier": (
        "finetune",
        "trial.classifier.name: finetune trains an encoder, and embeddings gives features alone",
    ),
    "classifier__representation": ("raw", "trial.classifier.representation: raw needs pixels"),
    "beside": (["finetune"], "trial.beside[0].name: finetune trains an encoder"),
    "selector": ("vaal", "trial.selector: vaal needs pixels, and embeddings gives features; use one that reads"),
}
"""Setting -> value and message; each was accepted for images."""


def test_pixels_that_a_selector_within_another_reads_are_refused(file):
    words = "trial.selector: refine needs pixels, and embeddings gives features; use one that reads features or logits"
    with pytest.raises(ConfigError, match=words):
        configured(file, selector={"name": "refine", "strategies": ["margin", "csal"]})


@pytest.mark.parametrize("place", REFUSED)
def test_what_needs_pixels_is_refused_by_name(file, place):
    value, words = REFUSED[place]
    with pytest.raises(ConfigError) as error:
        configured(file, **{place: value})
    assert words in str(error.value)


@pytest.mark.parametrize("name", sorted({"csal", "high_ssl_loss", "low_ssl_loss", "ta_vaal", "learning_loss", "bald"}))
def test_selectors_that_a_trial_cannot_serve_are_refused(file, name):
    with pytest.raises(ConfigError, match=rf"trial\.(selector|backbone|classifier\.name): .*{name}"):
        configured(file, selector=name)


def test_a_selector_inside_another_is_refused_too(file):
    with pytest.raises(ConfigError, match=r"trial.selector: schedule needs pixels"):
        configured(file, selector={"name": "schedule", "first": "random", "then": "csal"})


def test_every_selector_is_either_tried_or_refused():
    tried = {name_of(selector) for selector in (*READERS, *PASSES)}
    refused = {"csal", "high_ssl_loss", "low_ssl_loss", "ta_vaal", "learning_loss", "vaal"}
    assert {name for name in BUILTINS["selectors"] if name[-1] != "/"} == {n for n in tried if "/" not in n} | refused


def test_what_takes_features_is_refused_for_images():
    with pytest.raises(ConfigError, match=r"trial.backbone: given takes features, and digits gives images"):
        read_trial({"trial": {"dataset": "digits", "backbone": "given", "ssl_method": "none"}}, {})
    with pytest.raises(ValueError, match="it takes features"):
        registry.build(registry.PluginSpec("backbones", "given"), (3, 32, 32))


def test_a_recipe_of_images_is_refused(file):
    with pytest.raises(ConfigError, match=r"trial.ssl_method: moco_v2 needs pixels"):
        configured(file, recipe="moco_v2")
