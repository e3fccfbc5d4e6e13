"""Images without labels in a folder: beside those of the classes, alone, and with a table of labels to be bought."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data_files import content, said
from PIL import Image

from baselines.datasets.image_folder import ImageFolder
from harness.api import UNKNOWN
from harness.data.splits import Splitting, open_data
from harness.testing import check_dataset


def write(folder, values):
    """Path -> the value of all its pixels."""
    for path, value in values.items():
        file = folder / f"{path}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(file)
    return folder


LABELED = {"train/cat/a": 1, "train/cat/b": 2, "train/dog/c": 3, "train/dog/d": 4, "test/cat/e": 5, "test/dog/f": 6}
WITHOUT = {"photos/x": 10, "photos/y": 11, "photos/deep/z": 12}


def opened(folder, **settings):
    return ImageFolder(path=str(folder), channels=1, **settings).open()


PARTS = {"train": [(1, "cat"), (2, "cat"), (3, "dog"), (4, "dog")], "test": [(5, "cat"), (6, "dog")]}
UNLABELED = [(12, None), (10, None), (11, None)]


@pytest.mark.parametrize("name", ["unlabeled", "Unlabelled", "unsup", "UNSUPERVISED", "unlabeled_images"])
def test_a_folder_of_images_without_labels_is_known_by_its_name(tmp_path, name):
    write(tmp_path, LABELED | {path.replace("photos", name): value for path, value in WITHOUT.items()})
    source = opened(tmp_path)
    assert content(source) == PARTS | {"unlabeled": UNLABELED}
    assert f"the 3 images of {name}/ are without labels" in said(source)
    assert "left out" not in said(source)
    (tmp_path / name / "notes.txt").write_text("x")
    assert "1 file is left out: 1 no images by their names" in said(opened(tmp_path))
    check_dataset(lambda: ImageFolder(path=str(tmp_path), channels=1))


LAYOUTS = {
    "classes beside it": ({"cat/a": 1, "cat/b": 2, "dog/c": 3, "dog/d": 4}, "unlabeled", ""),
    "a wrapper of classes beside it": (
        {"pets/cat/a": 1, "pets/cat/b": 2, "pets/dog/c": 3, "pets/dog/d": 4},
        "unsup",
        "",
    ),
    "a wrapper of splits beside it": (
        {"set/train/cat/a": 1, "set/train/cat/b": 2, "set/train/dog/c": 3, "set/train/dog/d": 4, "set/test/cat/e": 5},
        "unlabeled",
        "",
    ),
    "a wrapper of all": ({f"all/{path}": value for path, value in LABELED.items()}, "all/unlabeled", ""),
    "named": (LABELED, "spare/photos", "spare"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_may_lie_beside_any_layout(tmp_path, layout):
    values, name, setting = LAYOUTS[layout]
    write(tmp_path, values | {path.replace("photos", name): value for path, value in WITHOUT.items()})
    read = content(opened(tmp_path, **({"unlabeled": setting} if setting else {})))
    assert read["train"] == PARTS["train"]
    assert read["unlabeled"] == UNLABELED


def test_a_class_may_be_called_so_where_every_folder_is_a_class(tmp_path):
    write(tmp_path, {"cat/a": 1, "cat/b": 2, "unlabeled/x": 3, "unlabeled/y": 4})
    assert opened(tmp_path, train=".").class_names == ("cat", "unlabeled")


def test_two_of_them_and_the_folder_itself_are_refused(tmp_path):
    write(tmp_path, LABELED | {"unlabeled/x": 7, "unsup/y": 8})
    with pytest.raises(ValueError, match=r"each of unlabeled/, unsup/ may be unlabeled; name one"):
        opened(tmp_path)
    assert content(opened(tmp_path, unlabeled="unsup"))["unlabeled"] == [(8, None)]
    with pytest.raises(ValueError, match="`labels: none` takes them all"):
        opened(tmp_path, unlabeled=".")
    with pytest.raises(ValueError, match="unlabeled: no folder 'nowhere'"):
        opened(tmp_path, unlabeled="nowhere")


def test_a_folder_without_classes_is_read_as_it_lies(tmp_path):
    write(tmp_path, {"a": 1, "b": 2, "holiday/c": 3, "holiday/2021/d": 4})
    (tmp_path / "notes.txt").write_text("x")
    dataset = ImageFolder(path=str(tmp_path), channels=1, labels="none")
    assert not dataset.has_labels
    with pytest.raises(ValueError, match=r"2 images lie in it directly: .*; `labels: none` takes them without any"):
        opened(tmp_path)
    source = dataset.open()
    assert source.class_names == ()
    assert sorted(content(source)["train"]) == [(value, None) for value in (1, 2, 3, 4)]
    assert "4 images, whose folders are taken for no classes" in said(source)
    assert "1 file is left out, such as" in said(source)
    check_dataset(lambda: dataset)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        opened(tmp_path / "empty", labels="none")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"labels": "No"}, "labels: 'No' is neither folders nor none"),
        ({"labels": "none", "train": "a", "depth": 2}, "leave train, depth out"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        ImageFolder(**settings)


@pytest.mark.parametrize("paths", ["x.png", "unlabeled/x", "of the folder in it"])
def test_an_oracle_brings_images_into_the_pool(tmp_path, paths):
    write(tmp_path, LABELED | {path.replace("photos", "unlabeled"): value for path, value in WITHOUT.items()})
    name = {"x.png": "x.png", "unlabeled/x": "unlabeled/x", "of the folder in it": "z"}[paths]
    oracle = tmp_path / "labels.csv"
    oracle.write_text(f"path,label,split\n{name},dog,test\ny,,\n")
    added = 12 if name == "z" else 10
    source = opened(tmp_path, oracle=str(oracle))
    assert content(source)["train"] == [*PARTS["train"], (added, "dog")]
    assert len(content(source)["unlabeled"]) == 2
    assert "1 images join the pool, their labels to be bought; 2 stay without labels; its splits" in said(source)
    without = ImageFolder(path=str(tmp_path), channels=1).identity()
    assert ImageFolder(path=str(tmp_path), channels=1, oracle=str(oracle)).identity() != without


def test_an_oracle_alone_makes_the_pool_of_a_folder_without_classes(tmp_path):
    write(tmp_path / "photos", {f"{number:02}": number for number in range(40)})
    labels = {number: ["b", "a", "10"][number % 3] if number < 30 else "" for number in range(40)}
    oracle = tmp_path / "labels.csv"
    oracle.write_text(
        "id,label\n" + "".join(f"{number:02},{label}\n" for number, label in labels.items() if number < 35)
    )
    dataset = ImageFolder(path=str(tmp_path / "photos"), channels=1, labels="none", oracle=str(oracle))
    assert dataset.has_labels
    data, held = open_data(dataset, "d", Splitting(val=3, test=6), cache=tmp_path / "c", with_test=True, device="cpu")
    assert data.class_names == ("10", "a", "b")
    assert dict(data.counts) == {"pool": 21, "val": 3, "test": 6, "unlabeled_extra": 10}
    assert len(held) == 21
    pool = data.pool[torch.arange(21)][:, 0, 0, 0].tolist()
    picks = torch.tensor([0, 5, 5])
    revealed = [data.class_names[int(label)] for label in held.with_budget(3).reveal(picks)]
    assert revealed == [labels[pool[position]] for position in picks.tolist()]
    assert held.used == 2


ORACLES = {
    "of an image with a label": ("path,label\ntrain/cat/a,dog\n", "row 2", "not among those without labels"),
    "of another class": ("path,label\nx,dgo\n", "row 2: no class 'dgo'", "did you mean 'dog'?"),
    "of a missing file": ("path,label\nx,dog\nv,cat\n", "1 of 2 files are not in", "row 3 'v'"),
    "of two files": ("path,label\nw,dog\nx,dog\n", "row 2: 'w' may be unlabeled/1/w.png or unlabeled/2/w.png", ""),
    "without a label": ("path\nx\n", "there is no column of labels", ""),
}


@pytest.mark.parametrize("oracle", ORACLES)
def test_a_mistake_of_an_oracle_is_one_line_with_its_row(tmp_path, oracle):
    text, *words = ORACLES[oracle]
    write(tmp_path, LABELED | {path.replace("photos", "unlabeled"): value for path, value in WITHOUT.items()})
    write(tmp_path, {"unlabeled/1/w": 13, "unlabeled/2/w": 14})
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=str(file)) as error:
        opened(tmp_path, oracle=str(file))
    assert all(part in str(error.value) for part in words)
    assert "\n" not in str(error.value)


def test_without_labels_is_not_the_unknown_class(tmp_path):
    write(tmp_path, LABELED | {"unlabeled/x": 7})
    assert UNKNOWN not in opened(tmp_path).splits["train"].labels
    assert opened(tmp_path).splits["unlabeled"].labels is None


def test_an_oracle_of_minus_1_and_1_knows_one_class_which_is_refused_with_the_reason(tmp_path):
    write(tmp_path, {"a": 1, "b": 2})
    oracle = tmp_path / "labels.csv"
    oracle.write_text("path,label\na,-1\nb,1\n")
    with pytest.raises(ValueError, match=r"1 classes; at least 2 are needed \(1 labels are -1, which stands"):
        opened(tmp_path, labels="none", oracle=str(oracle))
