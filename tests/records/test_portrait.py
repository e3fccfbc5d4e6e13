"""The portrait that a trial leaves of its encoder: what is in it, what must not be, and that it never fails a trial."""

from __future__ import annotations

import base64
import errno
from typing import Any

import numpy as np
import pytest
import torch
from trials import Bench, configure, results

from harness import api, seeding
from harness.metrics import known
from harness.plugins import registry
from harness.plugins.registry import PluginSpec
from harness.records.album import Album, sheet_of, unpack_album
from harness.records.portrait import Portrait, pack, unpack
from harness.trial import album as album_module
from harness.trial import models, portray
from harness.trial import run as trial
from harness.trial.run import Folders


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Caches that all trials here share."""
    folder = tmp_path_factory.mktemp("portrait")
    return Folders(folder / "data", folder / "stages")


class Run:
    """A trial with a portrait."""

    def __init__(
        self, folders: Folders, seed: int = 0, *, with_test: bool = False, mapped: int = 1000, **settings: Any
    ):
        self.rows: list[Any] = []
        self.found: list[dict[str, Any]] = []
        self.config = configure(**settings)
        report = lambda *row: self.rows.append(tuple(row))  # noqa: E731
        self.totals = trial.run(
            self.config,
            seed,
            folders,
            report,
            with_test=with_test,
            deliver=lambda found: self.found.append(dict(found)),
            mapped=mapped,
        )

    @property
    def portrait(self) -> Portrait:
        (found,) = self.found
        assert "portrait" in found, found
        return unpack(base64.b64decode(found["portrait"]))

    @property
    def album(self) -> Album:
        (found,) = self.found
        return unpack_album(base64.b64decode(found["album"]))

    @property
    def selected(self) -> list[list[int]]:
        return [details.selected for *_, details in self.rows if details.selected is not None]


@pytest.fixture(scope="module")
def coreset(folders):
    return Run(folders, selector="coreset")


# ---------------------------------------------------------------- what is in it


def test_a_portrait_shows_validation_images_and_what_was_bought(coreset, folders):
    found = coreset.portrait
    data, oracle = trial.load_data(coreset.config, folders.cache, with_test=False)
    assert found.class_names == tuple("0123456789")
    assert found.mapping == "t-SNE"
    assert found.points.shape == (len(data.val), 2)
    assert np.bincount(found.classes).tolist() == torch.bincount(data.val_labels).tolist()
    assert found.clusters.shape == found.classes.shape
    assert found.clusters.max() < 10
    assert found.picked.tolist() == [20, 10, 10]
    assert np.bincount(found.pick_rounds).tolist() == [20, 10, 10]
    bought = np.bincount(found.pick_classes, minlength=10).tolist()
    assert bought == coreset.rows[-1][3].class_counts
    assert oracle.used == 0


def test_picks_carry_their_own_classes_and_rounds(coreset, folders):
    _, oracle = trial.load_data(coreset.config, folders.cache, with_test=False)
    found = coreset.portrait
    for number, picks in enumerate(coreset.selected, start=1):
        classes = oracle.reveal(torch.tensor(picks)).tolist()
        assert sorted(found.pick_classes[found.pick_rounds == number]) == sorted(classes)


def test_neighbours_are_the_most_similar_by_cosine(coreset, folders):
    data, _ = trial.load_data(coreset.config, folders.cache, with_test=False)
    order = torch.randperm(len(data.val), generator=seeding.generator(0, "portrait/val"))
    features = _features(coreset, folders)[order].double().numpy()
    labels = data.val_labels[order].tolist()
    unit = [row / np.linalg.norm(row) for row in features]
    same = []
    nearest_of = []
    for query, row in enumerate(unit):
        nearest = sorted((j for j in range(len(unit)) if j != query), key=lambda j: -float(row @ unit[j]))[:5]
        nearest_of.append([labels[query], *(labels[j] for j in nearest)])
        same += [labels[j] == labels[query] for j in nearest]
    found = coreset.portrait
    assert found.same_class == pytest.approx(np.mean(same), abs=2e-3)  # float32 may swap two that are equally near
    queries = [labels.index(label) for label in range(8)]  # the first of each class
    agree = np.mean(found.neighbor_classes == np.array([nearest_of[query] for query in queries]))
    assert agree > 0.95
    assert found.neighbor_images.shape == (8, 6, 8, 8, 3)
    shown = found.neighbor_images[3, 0, :, :, 0].astype(int)
    truth = data.val[order[queries[3]][None]][0, 0].numpy().astype(int)
    assert np.abs(shown - truth).mean() < 8  # JPEG


def _features(run: Run, folders: Folders) -> torch.Tensor:
    """Of the validation images, from the stages that the trial left."""
    kept: list[Any] = []
    original = portray.portrait_of

    def spy(rounds: Any, *args: Any) -> Any:
        kept.append(rounds.last.model.features("val"))
        return original(rounds, *args)

    portray.portrait_of = spy
    try:
        again = Folders(folders.cache, folders.stages.parent / "features")
        Run(again, selector="coreset")
    finally:
        portray.portrait_of = original
    return kept[0]


def test_the_views_are_those_of_the_parts_and_of_the_whole(coreset):
    found = coreset.portrait
    assert found.operations == ("crop", "noise", "views")
    assert found.views.shape == (6, 7, 8, 8, 3)
    image, *drawn = (found.views[:, k].astype(int) for k in range(7))
    assert all(np.abs(view - image).mean() > 4 for view in drawn)
    pairs = [(0, 1), (2, 3), (4, 5)]
    assert all(np.abs(drawn[a] - drawn[b]).mean() > 4 for a, b in pairs)  # two draws differ


def test_selectors_on_one_encoder_share_the_map(coreset, folders):
    other = Run(folders, selector="random").portrait
    assert np.array_equal(other.points, coreset.portrait.points)
    assert not np.array_equal(other.pick_points, coreset.portrait.pick_points)


def test_others_are_placed_among_those_that_they_resemble():
    group = torch.arange(360) % 3
    features = torch.randn(360, 16, generator=torch.Generator().manual_seed(0)) + 8 * torch.eye(16)[group]
    made = portray.FeatureMap(features[:300])
    assert made.name == "t-SNE"
    nearest = torch.cdist(made.of(features[300:]), made.points).argmin(1)
    assert torch.equal(group[nearest], group[300:])


def test_the_same_features_are_mapped_once_and_placing_others_leaves_no_trace():
    features = torch.randn(140, 6, generator=torch.Generator().manual_seed(0))
    made = portray.map_of(features[:100])
    first = made.of(features[100:])
    made.of(features[110:120])
    again = portray.map_of(features[:100].clone())
    assert again is made
    assert torch.equal(again.of(features[100:]), first)
    fresh = portray.FeatureMap(features[:100])
    assert torch.equal(fresh.points, made.points)
    assert torch.equal(fresh.of(features[100:]), first)
    few, many = (portray.clusters(features[:100], count, features[100:]) for count in (3, 9))
    assert (len(set(few)), len(set(many)), len(few)) == (3, 9, 140)
    assert np.array_equal(portray.clusters(features[:100], 9, features[100:110]), many[:110])
    changed = features[:100].clone()
    changed[0, 0] += 1e-3
    assert portray.map_of(changed) is not made
    assert portray.map_of(features[:100]) is not made, "one is kept, not one for each encoder of a search"


@pytest.mark.parametrize("count", [1, 2, 29])
def test_few_images_are_mapped_by_their_principal_components(count):
    features = torch.randn(count, 5, generator=torch.Generator().manual_seed(0))
    made = portray.FeatureMap(features)
    assert made.name == "PCA"
    assert made.points.shape == (count, 2)
    assert torch.allclose(made.of(features), made.points)
    if count == 29:
        variance = made.points.var(0)
        assert variance[0] > variance[1] > 0


def test_a_collapsed_encoder_has_a_map_too():
    made = portray.FeatureMap(torch.ones(100, 8))
    assert made.points.eq(0).all()
    assert set(portray.clusters(torch.ones(100, 8), 10, torch.ones(5, 8)).tolist()) == {0}


@pytest.mark.parametrize(
    ("settings", "operations"),
    [
        ({"ssl_method": "none", "labels": {"start": "all"}}, ()),
        ({"classifier": {"name": "finetune", "epochs": 1}, "labels": {"start": 0, "budget": 12, "rounds": 1}}, None),
        ({"mode": "joint", "classifier": {"name": "finetune", "epochs": 1}, "labels__rounds": 1}, None),
    ],
    ids=["untrained, all labels", "fine-tuned from a cold start", "joint"],
)
def test_every_kind_of_trial_has_one(folders, settings, operations):
    run = Run(folders, **settings)
    found = run.portrait
    assert found.operations == (("crop", "noise", "views") if operations is None else operations)
    assert len(found.views) == (0 if operations == () else 6)
    labels = run.config.labels
    assert len(found.picked) == (labels.rounds + 1 if labels.rounds else 0)
    assert len(found.pick_points) == found.picked.sum()


# ---------------------------------------------------------------- its album


def test_the_album_tells_what_the_last_model_says_of_each_image(coreset, folders):
    portrait, album = coreset.portrait, coreset.album
    assert album.belongs_to(portrait)
    count = len(portrait.points)
    right = album.predicted[:count] == portrait.classes
    assert right.mean() == pytest.approx(coreset.totals["val/accuracy"])
    assert ((album.confidence > 0.1) & (album.confidence <= 1)).all()  # the largest of ten probabilities
    suspected = album.suspected >= 0
    assert (album.suspected[suspected] != portrait.classes[suspected]).all()
    assert album.names == ()
    data, _ = trial.load_data(coreset.config, folders.cache, with_test=False)
    order = torch.randperm(len(data.val), generator=seeding.generator(0, "portrait/val"))
    shown = album.thumbnails(np.arange(5))
    for place, pixels in enumerate(shown):
        truth = data.val[order[place][None]][0, 0].numpy().astype(int)
        assert np.abs(pixels[:, :, 0].astype(int) - truth).mean() < 24  # JPEG


def test_the_album_keeps_the_selectors_order(coreset, folders):
    portrait, album = coreset.portrait, coreset.album
    _, oracle = trial.load_data(coreset.config, folders.cache, with_test=False)
    for number, picks in enumerate(coreset.selected, start=1):
        places = np.flatnonzero(portrait.pick_rounds == number)
        places = places[np.argsort(album.ranks[places])]
        assert portrait.pick_classes[places].tolist() == oracle.reveal(torch.tensor(picks)).tolist()


def test_more_images_than_are_validated_or_labelled_are_others_of_the_pool(folders):
    run = Run(folders, selector="random", mapped=350, data__fraction=0.5, labels__rounds=1)
    portrait, album = run.portrait, run.album
    data, _ = trial.load_data(run.config, folders.cache, with_test=False)
    assert (len(portrait.points), len(portrait.pick_points)) == (len(data.val), 30)
    assert len(album.other_points) == 350 - 30 - len(data.val)
    assert len(album.predicted) == len(album.tiles) == 350
    assert album.clusters.max() < 10
    few = Run(folders, selector="random", mapped=50, labels__rounds=1)
    assert (len(few.portrait.points), len(few.album.other_points)) == (50, 0)


def test_suspects_are_those_of_the_definition():
    """Northcutt et al. 2021, equations 1 and 2, image by image."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(4, 0.5), 60)
    labels = rng.integers(0, 3, 60)  # nobody is of the fourth class
    thresholds = [p[labels == j, j].mean() if (labels == j).any() else np.inf for j in range(4)]
    expected = []
    for row, label in zip(p, labels, strict=True):
        reached = [j for j in range(4) if row[j] >= thresholds[j]]
        best = max(reached, key=lambda j: row[j], default=label)
        expected.append(best if best != label else -1)
    found = album_module.suspects(torch.from_numpy(p), torch.from_numpy(labels))
    assert found.tolist() == expected
    assert len(set(expected)) > 2


def test_an_album_of_fifty_thousand_images_leaves_room_on_a_page():
    noise = np.random.default_rng(0).integers(0, 256, (1000, 16, 16, 3), np.uint8)  # which hardly compresses
    assert len(sheet_of(np.tile(noise, (50, 1, 1, 1)))) < 7_000_000
    assert sheet_of(noise[:0]) == b""


# ---------------------------------------------------------------- what it must not do


def test_a_portrait_changes_nothing_and_is_in_no_total(coreset, folders, tmp_path):
    rows, totals = Bench(folders.cache, tmp_path).run(configure(selector="coreset"))
    assert results(rows) == results(coreset.rows)
    assert set(coreset.totals) - set(totals) == {"time/portrait_seconds"}
    about = known("time/portrait_seconds")
    assert about is not None
    assert about.unit == "seconds"
    assert coreset.totals["time/portrait_seconds"] > 0
    parts = [coreset.totals[f"time/{part}_seconds"] for part in ("pretrain", "encode", "select", "train", "evaluate")]
    assert coreset.totals["time/total_seconds"] == pytest.approx(sum(parts))


def test_a_portrait_buys_no_label_and_reads_no_test_image(folders, monkeypatch):
    closed = Run(folders, selector="coreset")
    opened = Run(folders, selector="coreset", with_test=True)
    assert closed.found == opened.found
    bought: list[int] = []
    original = portray.portrait_of

    def spy(rounds: Any, *args: Any) -> Any:
        before = rounds.context.oracle.used
        found = original(rounds, *args)
        bought.append(rounds.context.oracle.used - before)
        return found

    monkeypatch.setattr(portray, "portrait_of", spy)
    Run(folders, seed=5, selector="random")
    assert bought == [0]


def test_a_portrait_is_a_stage(coreset, folders, monkeypatch):
    monkeypatch.setattr(portray, "portrait_of", None)  # cannot be computed again
    again = Run(folders, selector="coreset")
    assert again.found == coreset.found
    assert again.totals["time/portrait_seconds"] == coreset.totals["time/portrait_seconds"]


def test_an_error_is_a_warning_and_the_trial_has_its_results(coreset, folders, monkeypatch):
    def broken(*_: object) -> Portrait:
        raise RuntimeError("no brush")

    monkeypatch.setattr(portray, "portrait_of", broken)
    run = Run(folders, seed=1, selector="coreset")
    assert run.found == [{"warning": "no portrait of the encoder: RuntimeError: no brush"}]
    assert run.totals["val/accuracy"] > 0


def test_a_full_disk_is_not_a_warning(coreset, folders, monkeypatch):
    def full(*_: object) -> Portrait:
        raise RuntimeError("unexpected pos 64 vs 0") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(portray, "portrait_of", full)
    with pytest.raises(RuntimeError, match="unexpected pos"):
        Run(folders, seed=3, selector="coreset")


def test_features_that_are_not_finite_have_no_portrait(folders, monkeypatch):
    monkeypatch.setattr(models.HeadModel, "features", lambda self, part, rows: torch.full((200, 4), torch.nan))
    run = Run(folders, seed=2, selector="random")
    assert run.found == [{"warning": "no portrait of the encoder: ValueError: the encoder's features are not finite"}]


# ---------------------------------------------------------------- the file


def largest(side: int = 32) -> Portrait:
    """As large as one can be: full, and of noise, which does not compress."""
    rng = np.random.default_rng(0)
    noise = lambda *shape: rng.integers(0, 256, (*shape, side, side, 3)).astype(np.uint8)  # noqa: E731
    return Portrait(
        class_names=tuple(f"class {k}" for k in range(1000)),
        mapping="t-SNE",
        points=rng.normal(size=(1000, 2)),
        classes=rng.integers(0, 1000, 1000),
        clusters=rng.integers(0, 1000, 1000),
        same_class=0.25,
        picked=np.array([100] * 11),
        pick_points=rng.normal(size=(500, 2)),
        pick_rounds=rng.integers(0, 11, 500),
        pick_classes=rng.integers(0, 1000, 500),
        neighbor_classes=rng.integers(0, 1000, (8, 6)),
        neighbor_images=noise(8, 6),
        operations=tuple(f"operation {k}" for k in range(7)),
        views=noise(6, 15),
    )


def test_the_file_is_small_whatever_is_in_it():
    assert len(pack(largest())) < 150_000


def test_the_file_holds_everything():
    given = largest(side=9)
    found = unpack(pack(given))
    for name in ("class_names", "mapping", "same_class", "operations"):
        assert getattr(found, name) == getattr(given, name), name
    for name in ("points", "pick_points"):
        assert np.allclose(getattr(found, name), getattr(given, name), atol=1e-6), name
    for name in ("classes", "clusters", "picked", "pick_rounds", "pick_classes", "neighbor_classes"):
        assert np.array_equal(getattr(found, name), getattr(given, name)), name


def test_thumbnails_keep_their_places():
    tiles = np.zeros((2, 3, 8, 8, 3), np.uint8)
    for row, column in np.ndindex(2, 3):
        tiles[row, column] = 40 * (3 * row + column)
    given = largest(side=9)
    found = unpack(pack(Portrait(**{**vars(given), "neighbor_images": tiles, "views": tiles[:0]})))
    assert np.abs(found.neighbor_images.astype(int) - tiles).max() < 8
    assert found.views.shape == (0, 3, 8, 8, 3)


def test_large_images_become_thumbnails_of_the_same_shape():
    images = torch.zeros(2, 3, 96, 64, dtype=torch.uint8)
    images[:, 0] = 200
    size = album_module.thumbnail_size(api.Images(images))
    assert size == (32, 21)
    tiles = album_module.tiles(images, size)
    assert tiles.shape == (2, 32, 21, 3)
    assert tiles[..., 0].min() == 200 == tiles[..., 0].max()
    assert not tiles[..., 1:].any()


# ---------------------------------------------------------------- the parts of an augmentation


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("crop", []),
        ("simclr", ["crop", "flip", "color_jitter", "grayscale"]),
        ("weak_strong", ["weak", "strong"]),
        ("pair", ["crop", "color_jitter"]),
        ("by_view", ["weak", "strong"]),
        ("multi_crop", ["simclr 1", "simclr 2"]),
    ],
)
def test_an_augmentation_names_its_parts(name, parts):
    assert portray.part_names(registry.build(PluginSpec("augmentations", name)).parts()) == parts


@pytest.mark.parametrize("name", registry.plugin_names("augmentations"))
def test_the_parts_of_an_augmentation_are_augmentations(name):
    augmentation = registry.build(PluginSpec("augmentations", name))
    assert all(isinstance(part, api.Augmentation) and part is not augmentation for part in augmentation.parts())
