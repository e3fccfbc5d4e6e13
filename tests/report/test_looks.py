"""What the report shows of encoders and picks: which pictures there are, what they say, and that they stay small."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image
from sweep_folder import SweepFolder, selection_sweep

from harness.records import trial_files
from harness.records.portrait import Portrait, pack, unpack
from harness.records.trial_files import Confusion
from harness.report import model, read, summary
from harness.report import write as report
from harness.report.looks import balance, classes, gallery, maps, neighbors, views
from harness.report.looks.look import colours, marker, mosaic
from harness.report.pictures import style
from harness.report.pictures.matrix import confusion_svg
from harness.report.pictures.style import svg
from harness.report.section import Picture, Table
from harness.report.sections import looks as looks_section

NAMES = ("cat", "dog", "owl")
ALL = ["embedding", "encoders", "neighbors", "classes", "confusion", "picks", "balance", "views"]


def table_of(look):
    """What a reader gets of a picture's table, row by row."""
    return [list(map(str, row)) for row in look.rows]


def made_up(seed: int = 0, *, picks: int = 60) -> Portrait:
    """Three clusters, which k-means has found; the last class's neighbours are all of its class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(120) % 3
    image = lambda *shape: rng.integers(0, 256, (*shape, 16, 16, 3)).astype(np.uint8)  # noqa: E731
    return Portrait(
        class_names=NAMES,
        mapping="t-SNE",
        points=(10 * np.eye(3)[labels][:, :2] + rng.normal(size=(120, 2))),
        classes=labels,
        clusters=(labels + 1) % 3,
        same_class=0.8,
        picked=np.array([picks // 3] * 3),
        pick_points=rng.normal(size=(picks, 2)),
        pick_rounds=np.arange(picks) % 3,
        pick_classes=np.arange(picks) % 3,
        neighbor_classes=np.array([[k, *([k, 0, 1, 2, 2] if k < 2 else [2] * 5)] for k in (0, 1, 2) * 3][:8]),
        neighbor_images=image(8, 6),
        operations=("crop", "flip", "views"),
        views=image(6, 7),
    )


class Selectors:
    """Three selectors over three rounds, two seeds, with everything that trials leave."""

    def __init__(self, path: Path):
        self.sweep = selection_sweep(path, {"random": 0, "coreset": 0.05, "margin": 0.02}, rounds=2, seeds=(1, 2, 3))
        for trial in self.trials():
            for step in (200, 400, 600):
                self.write(trial, f"confusion_matrix_{step}", self.matrix(trial, step))
                counts = np.array([100, 60, 40]) * step // 200
                if "coreset" in trial.name and step > 200:
                    counts = np.array([100, 60, 40 + step - 200])
                self.write(trial, f"class_counts_{step}", counts.tolist())
            self.write(trial, "class_counts_pool", [5000, 3000, 2000])

    def trials(self, name: str = "") -> list[Path]:
        return sorted((self.sweep.path / "trials").glob(f"confirm-{name}*"))

    def portray(self, name: str, portrait: Portrait) -> None:
        (self.trials(f"{name}-s1")[0] / "portrait.npz").write_bytes(pack(portrait))

    @staticmethod
    def matrix(trial: Path, step: int) -> dict:
        right = 20 + 10 * (step // 200) + int(trial.name[-1])  # of 100; 31, 32, 33 at first
        return {
            "class_names": list(NAMES),
            "matrix": [[right, 100 - right, 0], [10, 80, 10], [0, 0, 100]],
            "split": "test",
        }

    @staticmethod
    def write(folder: Path, name: str, content: object) -> None:
        (folder / f"{name}.json").write_text(json.dumps(content))

    def report(self) -> model.Report:
        return read.read_report(self.sweep.path)


@pytest.fixture
def selectors(tmp_path):
    return Selectors(tmp_path / "sweep")


@pytest.fixture
def complete(selectors):
    """One selector has an encoder of its own."""
    for name in ("random", "coreset"):
        selectors.portray(name, made_up())
    selectors.portray("margin", replace(made_up(seed=1), same_class=0.4))
    return selectors


def test_every_picture_of_a_complete_sweep_is_drawn_small_and_named_in_the_summary(complete):
    found, folder = complete.report(), complete.sweep.path
    text = summary.summary(found)
    shown = gallery.find_looks(found)
    for look in shown:
        style.save_picture(look.draw(), folder / look.stem)
    assert [look.stem for look in shown] == ALL
    for look in shown:
        assert 1000 < (folder / f"{look.stem}.svg").stat().st_size < 200_000, look.stem
        assert f"]({look.stem}.svg)" in text
        assert look.caption in text
        assert look.caption.endswith(".")
    kinds = {
        stem: set(re.findall("data:image/(png|jpeg);base64", (folder / f"{stem}.svg").read_text()))
        for stem in ("views", "embedding")
    }
    assert kinds == {"views": {"jpeg"}, "embedding": {"png"}}
    (photograph,) = embedded((folder / "views.svg").read_text())
    assert len(photograph.convert("RGB").getcolors(10**6)) > 1000


def embedded(svg: str) -> list[Image.Image]:
    """The images in a picture."""
    found = re.findall(r"data:image/\w+;base64,([^\"]+)", svg)
    return [Image.open(io.BytesIO(base64.b64decode(image))) for image in found]


READS: Counter[str] | None = None


def count_reads(event: str, arguments: tuple) -> None:
    if event == "open" and READS is not None and "/trials/" in str(arguments[0]):
        READS[str(arguments[0]).partition("/trials/")[2]] += 1


sys.addaudithook(count_reads)  # nothing opens a file past it


def test_a_report_reads_each_file_of_its_trials_once(complete, monkeypatch):
    names = [f"{file.parent.name}/{file.name}" for file in complete.sweep.path.glob("trials/*/*")]
    assert sum(name.endswith("portrait.npz") for name in names) == 3
    monkeypatch.setattr(sys.modules[__name__], "READS", Counter())
    report.write_report(complete.sweep.path)
    reads = {name: times for name, times in READS.items() if name in names}
    assert reads == {name: 1 for name in names if not name.endswith(".yaml")}


def test_looks_are_found_once_and_pictures_drawn_once(complete, monkeypatch):
    found, drawn = Counter(), Counter()

    def counted(build):
        def look(report):
            found[build.__name__] += 1
            return build(report)

        return look

    def savefig(figure, *arguments, **options):
        drawn[options["format"]] += 1
        return original(figure, *arguments, **options)

    original = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", savefig)
    monkeypatch.setattr(gallery, "LOOKS", tuple(map(counted, gallery.LOOKS)))
    report.write_report(complete.sweep.path)
    assert sorted(found.values()) == [1] * len(ALL)
    files = {file.stem for file in complete.sweep.path.iterdir() if file.suffix in (".svg", ".png")}
    assert set(ALL) <= files
    assert drawn == {"svg": len(files - {"confusion", "penalty", "overlap"})}  # which are written by hand


def test_noise_stays_small_too(selectors):
    """Photographs that hardly compress lose quality before a file is large."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 15, 32, 32, 3)).astype(np.uint8)
    operations = tuple(f"operation {k}" for k in range(6))
    selectors.portray("coreset", replace(made_up(), operations=(*operations, "views"), views=noise))
    look = views.views(selectors.report())
    assert look is not None
    assert len(style.save_picture(look.draw(), selectors.sweep.path / "noise")) < 200_000


def test_a_sweep_without_these_files_has_none_of_the_pictures(tmp_path):
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.trial("search-only", 0, {"selector": "random"}, {20: 0.5}, phase="search", status="stopped")
    for file in (tmp_path / "sweep" / "trials").glob("*/*.json"):
        file.unlink()
    assert gallery.find_looks(read.read_report(sweep.path)) == ()
    report.write_report(sweep.path)


def test_the_page_has_them_in_a_section_of_their_own(complete):
    section = looks_section.looks(complete.report())
    assert section is not None
    shown = [part for part in section.parts if isinstance(part, Picture)]
    assert [picture.stem for picture in shown] == ALL
    tables = [part.name for part in section.parts if isinstance(part, Table)]
    assert tables == ["Encoders side by side", "Accuracy by class, test images", "Class balance of the picks"]


def test_without_portraits_classes_and_picks_are_shown(selectors):
    assert [look.stem for look in gallery.find_looks(selectors.report())] == ["classes", "confusion", "balance"]


# ---------------------------------------------------------------- maps


def test_one_encoder_is_shown_once_and_has_no_owner(selectors):
    for name in ("random", "coreset", "margin"):
        selectors.portray(name, made_up())
    found = selectors.report()
    assert maps.encoders(found) is None
    look = maps.embedding(found)
    assert look is not None
    assert look.title == "The embedding"
    assert "the 60 labelled images of coreset" in look.caption
    picks = maps.picks(found)
    assert picks is not None
    assert "One encoder" in picks.caption
    assert [axes.get_title(loc="left") for axes in picks.draw().axes] == ["coreset", "margin", "random"]


def test_several_encoders_stand_side_by_side(complete):
    look = maps.encoders(complete.report())
    assert look is not None
    assert [row[:2] for row in table_of(look)] == [["coreset", "0.800"], ["margin", "0.400"]]
    assert [axes.get_title(loc="right") for axes in look.draw().axes] == ["80 % same class", "40 % same class"]


def test_the_embedding_says_how_clusters_and_classes_agree(complete):
    look = maps.embedding(complete.report())
    assert look is not None
    assert look.title == "The embedding of coreset"
    assert "classes: 1.00" in look.caption
    assert "80 % are of its class (33 % by chance)" in look.caption
    by_class, by_cluster, picks = look.draw().axes
    faces = [axes.collections[0].get_facecolors() for axes in (by_class, by_cluster)]
    assert np.array_equal(*faces)  # clusters take the colour of their class
    assert [len(points.get_offsets()) for points in picks.collections[:3]] == [120, 20, 40]


def test_picks_have_the_colour_of_their_round(complete):
    look = maps.picks(complete.report())
    assert look is not None
    axes = look.draw().axes[0]
    portrait = made_up()
    points = axes.collections[2]
    drawn = {
        f"{x:.3f} {y:.3f}": tuple(colour)
        for (x, y), colour in zip(points.get_offsets(), points.get_facecolors(), strict=True)
    }
    for number in (1, 2):
        places = portrait.pick_points[portrait.pick_rounds == number]
        found = {drawn[f"{x:.3f} {y:.3f}"] for x, y in places}
        assert len(found) == 1
    assert len(set(drawn.values())) == 2


def test_a_hundred_classes_can_be_told_apart():
    assert len(set(colours(10))) == 10
    assert len({(colour, marker(k)) for k, colour in enumerate(colours(100))}) == 100


def test_a_map_of_many_classes_draws_each_in_its_form_and_colour(selectors):
    names, classes = tuple(f"class {k}" for k in range(25)), np.arange(120) % 25
    selectors.portray("random", replace(made_up(), class_names=names, classes=classes, clusters=classes))
    look = maps.embedding(selectors.report())
    by_class = look.draw().axes[0]
    drawn = {}
    for points in by_class.collections[:3]:
        for place, colour in zip(points.get_offsets().tolist(), points.get_facecolors(), strict=True):
            drawn[tuple(place)] = to_hex(colour)
    assert len(by_class.collections) == 3 + 25  # three forms of points, and the legend's
    for place, label in zip(made_up().points.astype(np.float32), classes, strict=True):
        assert drawn[tuple(place.tolist())] == colours(25)[label].lower()


# ---------------------------------------------------------------- neighbours and views


def test_neighbours_of_another_class_are_named(complete):
    look = neighbors.neighbors(complete.report())
    assert look is not None
    assert "22 of 40 here, 80 % over all" in look.caption
    first, second, third, *_ = look.draw().axes
    assert [text.get_text() for text in first.texts] == ["cat", "", "", "dog", "owl", "owl"]
    assert [text.get_text() for text in second.texts] == ["dog", "", "cat", "", "owl", "owl"]
    edges = [patch.get_edgecolor() for patch in third.patches]
    assert len(set(edges)) == 1


def test_neighbours_without_pictures_are_squares_in_the_colour_of_their_class(selectors):
    portrait = replace(made_up(), neighbor_images=np.zeros((8, 6, 0, 0, 3), np.uint8))
    selectors.portray("random", portrait)
    (trial,) = [name for name in selectors.trials("random") if (name / "portrait.npz").exists()]
    assert unpack((trial / "portrait.npz").read_bytes()).neighbor_images.shape == (8, 6, 0, 0, 3)
    look = neighbors.neighbors(selectors.report())
    assert look.caption.endswith("There are no pictures of them: each is a square in the colour of its class.")
    first, *_ = look.draw().axes
    drawn = [to_hex(image.get_array()[0, 0] / 255) for image in first.images]
    assert drawn == [colours(3)[k].lower() for k in portrait.neighbor_classes[0]]
    assert [text.get_text() for text in first.texts] == ["cat", "", "", "dog", "owl", "owl"]


def test_the_sheet_has_the_image_and_two_draws_of_each_operation(complete):
    look = views.views(complete.report())
    assert look is not None
    assert "(crop, flip)" in look.caption
    (axes,) = look.draw().axes
    assert [text.get_text() for text in axes.texts] == ["image", "crop", "flip", "views"]


def test_an_untrained_best_leaves_the_views_to_another(selectors):
    selectors.portray("coreset", replace(made_up(), operations=(), views=np.zeros((0, 1, 1, 1, 3), np.uint8)))
    assert views.views(selectors.report()) is None
    selectors.portray("random", made_up())
    assert views.views(selectors.report()) is not None


def test_a_mosaic_has_its_tiles_in_order():
    tiles = np.arange(6, dtype=np.uint8).reshape(2, 3, 1, 1, 1).repeat(2, 2).repeat(2, 3).repeat(3, 4)
    picture = mosaic(tiles, gap=1)
    assert picture.shape == (5, 8, 3)
    assert picture[::3, ::3, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (picture[2] == 255).all()


# ---------------------------------------------------------------- classes


def test_accuracy_by_class_by_hand(selectors):
    found = selectors.report()
    item = classes.by_class(found.confirmed[0])
    assert item is not None
    assert (item.class_names, item.split) == (NAMES, "test")
    assert item.first is not None
    assert (item.first[0], item.last[0]) == (200, 600)
    first, last = ([e.mean for e in column if e] for column in (item.first[1], item.last[1]))
    assert first == pytest.approx([0.32, 0.8, 1.0])
    assert last == pytest.approx([0.52, 0.8, 1.0])
    always = item.first[1][1]  # .8 of the same hundred images under every seed
    assert always.half == pytest.approx(1.984217 * math.sqrt(0.8 * 0.2 / 100), rel=1e-4)  # t(.975, 99)
    of_images = math.sqrt(0.32 * 0.68 / 100)
    assert 1.98 * of_images < item.first[1][0].half < 2.3 * of_images  # and the seeds' .01 / sqrt(3)


def test_the_table_names_the_worst_and_the_best_class(selectors):
    look = classes.class_accuracy(selectors.report())
    assert look is not None
    assert look.header == ["configuration", "first: worst class", "last: worst class", "best class", "n"]
    assert table_of(look)[0] == ["coreset", "32.0 (cat)", "52.0 (cat)", "100.0 (owl)", "3"]
    assert "200 labels" in look.caption
    assert "random, the reference" in look.caption
    (axes,) = look.draw().axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["owl", "dog", "cat"]
    assert [round(bar.get_height()) for bar in axes.patches] == [100, 80, 32, 100, 80, 52]


def test_a_class_without_images_has_no_accuracy(selectors):
    for trial in selectors.trials():
        matrix = {"class_names": list(NAMES), "matrix": [[0, 0, 0], [10, 80, 10], [0, 0, 5]], "split": "val"}
        selectors.write(trial, "confusion_matrix_600", matrix)
    look = classes.class_accuracy(selectors.report())
    assert look is not None
    assert table_of(look)[0][2:4] == ["80.0 (dog)", "100.0 (owl)"]
    assert "validation images" in look.caption
    (axes,) = look.draw().axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["owl", "dog"]


def test_confusion_is_that_of_the_last_round_over_all_seeds(selectors):
    look = classes.confusion(selectors.report())
    assert look is not None
    assert "cat for dog (48 %); dog for cat (10 %)" in look.caption
    assert "3 seeds" in look.caption
    assert texts(look.draw())[1:4] == ["156", "144", "0"]


def texts(svg: str) -> list[str]:
    """The texts of a picture, from top to bottom of the file."""
    return [str(text.text) for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def cells(svg: str) -> dict[tuple[int, int], float]:
    """Row and column of each shaded cell of a confusion matrix -> its shade."""
    paths = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}path")
    return {
        (int(row), int(column)): float(path.attrib["fill-opacity"])
        for path in paths
        for column, row in re.findall(r"M(\d+) (\d+)h1v1h-1z", path.attrib["d"])
    }


def test_a_picture_of_confusion_has_every_count():
    names = tuple(f"class <{k}>" for k in range(20))
    matrix = np.arange(20)[:, None] * 1000 + np.arange(20)
    drawn = confusion_svg(Confusion(names, matrix, "test"))
    title, *others = texts(drawn)
    assert title == f"test: {matrix.trace():,} of {matrix.sum():,} correct; shade: share of the true class"
    assert [int(text) for text in others[:400]] == matrix.flatten().tolist()
    assert others[400:442] == [*names, *names, "true class", "predicted class"]
    assert others[442:] == ["100%", "chance 5%"]


def test_shades_are_shares_of_the_true_class():
    drawn = confusion_svg(Confusion(("a", "b", "c"), np.array([[30, 10, 0], [0, 0, 0], [0, 1, 999]]), "val"))
    assert cells(drawn) == {(0, 0): 0.75, (0, 1): 0.25, (2, 2): 1.0}


def test_many_classes_fit():
    rng = np.random.default_rng(0)
    matrix = rng.integers(0, 9, (100, 100)) + 300 * np.eye(100, dtype=int)
    drawn = confusion_svg(Confusion(tuple(f"class {k}" for k in range(100)), matrix, "val"))
    named = [*2 * [f"class {k}" for k in range(0, 100, 4)], "true class", "predicted class"]
    assert texts(drawn)[1:] == [*named, "100%", "chance 1%"]
    assert len(drawn) < 200_000
    assert {(k, k) for k in range(100)} <= cells(drawn).keys()


def test_of_too_many_cells_the_darkest_are_drawn():
    matrix = np.ones((120, 120), int) + np.eye(120, dtype=int)
    shades = cells(confusion_svg(Confusion(tuple(map(str, range(120))), matrix, "val")))
    assert len(shades) == 10_000
    assert {(k, k) for k in range(120)} <= shades.keys()


# ---------------------------------------------------------------- balance


def test_evenness_by_hand():
    assert balance.evenness(np.array([5, 5, 5, 5])) == pytest.approx(1)
    assert balance.evenness(np.array([7, 0, 0])) == 0
    assert balance.evenness(np.array([1, 1, 0, 0])) == pytest.approx(0.5)
    assert balance.evenness(np.array([3])) == 1


def test_balance_is_of_the_picks_without_the_start_pool(selectors):
    look = balance.balance(selectors.report())
    assert look is not None
    rows = {row[0]: row[1:] for row in table_of(look)}
    assert rows["coreset"] == ["400", "0.000", "100.0 (owl)", "0.0 (cat)", "3"]
    assert rows["random"][2:4] == ["50.0 (cat)", "20.0 (owl)"]
    assert rows["(the pool)"] == ["10000", "0.937", "50.0 (cat)", "20.0 (owl)", "–"]
    first = look.draw().axes[0]
    assert first.get_title(loc="left") == "coreset"
    assert [round(bar.get_height()) for bar in first.patches[:3]] == [0, 0, 100]
    stairs = next(patch for patch in first.patches if hasattr(patch, "get_data"))
    assert stairs.get_data().values.tolist() == pytest.approx([50, 30, 20])


def test_a_cold_start_has_no_start_pool(selectors):
    for trial in selectors.trials("margin"):
        (trial / "class_counts_200.json").unlink()
    found = selectors.report()
    entry = next(entry for entry in found.confirmed if entry.label == "margin")
    item = balance.of_picks(entry)
    assert item is not None
    assert item.count == 600


def test_without_the_pools_counts_equal_shares_are_expected(selectors):
    for trial in selectors.trials():
        (trial / "class_counts_pool.json").unlink()
    look = balance.balance(selectors.report())
    assert look is not None
    assert "equally many of each" in look.caption
    assert all(row[0] != "(the pool)" for row in table_of(look))


# ---------------------------------------------------------------- the files


def test_files_of_rounds_are_in_the_order_of_labels(tmp_path):
    for labels in (1000, 200, 90):
        (tmp_path / f"class_counts_{labels}.json").write_text(f"[{labels}]")
        (tmp_path / f"selected_{labels}.json").write_text(f"[{labels}, 3]")
        matrix = {"class_names": ["a"], "matrix": [[labels]], "split": "val"}
        (tmp_path / f"confusion_matrix_{labels}.json").write_text(json.dumps(matrix))
    (tmp_path / "class_counts_pool.json").write_text("[7]")
    files = trial_files.read_trial_files(tmp_path)
    assert list(files.class_counts.items()) == [(90, [90]), (200, [200]), (1000, [1000])]
    assert list(files.selected.items()) == [(90, [90, 3]), (200, [200, 3]), (1000, [1000, 3])]
    assert [(labels, c.matrix.tolist()) for labels, c in files.confusions.items()] == [
        (90, [[90]]), (200, [[200]]), (1000, [[1000]]),
    ]  # fmt: skip
    assert files.last_confusion is files.confusions[1000]
    assert (files.last_confusion.class_names, files.last_confusion.split) == (("a",), "val")
    assert files.pool_counts == [7]
    assert files.damaged == ()


def test_an_empty_folder_and_none_at_all_hold_nothing(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        files = trial_files.read_trial_files(folder)
        assert not files.selected
        assert not files.class_counts
        assert not files.confusions
        assert files.pool_counts is files.portrait is files.last_confusion is None
        assert files.damaged == ()


@pytest.mark.parametrize("content", ["", "[1", "7", "[]", '["a"]', "[1.5]", "[1, 2]"])
def test_damaged_counts_count_as_absent(tmp_path, content):
    (tmp_path / "class_counts_20.json").write_text("[20]")
    (tmp_path / "class_counts_30.json").write_text(content)
    files = trial_files.read_trial_files(tmp_path)
    assert files.class_counts == {}
    if content != "[1, 2]":
        assert files.damaged == ("class_counts_30.json",)
        (tmp_path / "class_counts_pool.json").write_text(content)
        files = trial_files.read_trial_files(tmp_path)
        assert files.pool_counts is None
        assert files.damaged == ("class_counts_30.json", "class_counts_pool.json")


@pytest.mark.parametrize("content", ["", "7", '["a"]', "[1.5]", "[true]"])
def test_damaged_picks_are_known_to_have_been_picked(tmp_path, content):
    (tmp_path / "selected_20.json").write_text(content)
    files = trial_files.read_trial_files(tmp_path)
    assert files.selected == {20: None}
    assert files.damaged == ("selected_20.json",)


@pytest.mark.parametrize(
    "damage",
    [
        {"matrix": [[1, 2]]},
        {"matrix": [[1, 2], [3]]},
        {"matrix": [[1.5, 2], [3, 4]]},
        {"matrix": [[-1, 2], [3, 4]]},
        {"matrix": None},
        {"class_names": ["a"]},
        {"class_names": None},
        {"split": None},
    ],
)
def test_damaged_confusion_matrices_are_left_out(tmp_path, damage):
    whole = {"class_names": ["a", "b"], "matrix": [[1, 2], [3, 4]], "split": "val"}
    (tmp_path / "confusion_matrix_20.json").write_text(json.dumps(whole))
    (tmp_path / "confusion_matrix_30.json").write_text(json.dumps(whole | damage))
    files = trial_files.read_trial_files(tmp_path)
    assert list(files.confusions) == [20]
    assert files.damaged == ("confusion_matrix_30.json",)


def test_a_report_does_without_what_is_damaged_and_says_so(tmp_path):
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.append(sweep.records("a", 1, {"selector": "random"}, {20: 0.5}))
    folder = sweep.path / "trials" / "confirm-a-s1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "portrait.npz").write_bytes(pack(made_up())[:300])
    assert trial_files.read_trial_files(folder).portrait is None
    found = read.read_report(sweep.path)
    assert found.notes == ["1 damaged file left out, the first trials/confirm-a-s1/portrait.npz."]
    gallery.find_looks(found)


def test_a_warning_of_a_trial_is_a_note_of_the_report(tmp_path):
    sweep = SweepFolder(tmp_path / "sweep")
    rows = sweep.records("a", 1, {"selector": "random"}, {20: 0.5})
    rows[-1]["warning"] = "no portrait of the encoder: RuntimeError: no brush"
    sweep.append(rows)
    assert read.read_report(sweep.path).notes == ["confirm-a-s1: no portrait of the encoder: RuntimeError: no brush."]


def test_dollars_in_a_name_are_dollars_and_powers_of_ten_are_powers():
    figure = Figure()
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.plot([1e-4, 1], [0, 1], label="$5_$10")
    axes.set_yticks([0, 1], labels=["$1_bill$", "coin"])
    axes.legend()
    axes.set_title("$x^$ \\alpha $")
    drawn = svg(figure)
    for name in ("$5_$10", "$1_bill$", "$x^$ \\alpha $"):
        assert f">{name}<" in drawn
    assert ">$\\mathdefault" not in drawn
