"""Folders as other people lay them out: splits and classes as they meant them, or one line that asks."""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from baselines.datasets.folder_layout import read_layout
from baselines.datasets.image_folder import ImageFolder
from harness.tables import split_called


def lay(root: Path, *files: str) -> Path:
    """Empty files at these paths: a layout is read without a look into them."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def read(root: Path, depth=None, **named: str):
    """Split -> class -> the paths of its images below the root; and the notes."""
    layout = read_layout(str(root), named, depth)
    shown = {
        split: {name: [str(Path(image.path).relative_to(root)) for image in images] for name, images in classes.items()}
        for split, classes in layout.splits.items()
    }
    return shown, "\n".join(layout.notes)


def refusal(root: Path, depth=None, **named: str) -> str:
    with pytest.raises(ValueError, match=re.escape(str(root))) as caught:
        read(root, depth, **named)
    message = str(caught.value)
    assert "\n" not in message
    return message


def of_classes(*folders: str, classes=("cat", "dog")) -> list[str]:
    return [f"{folder}/{name}/{number}.png" for folder in folders for name in classes for number in range(2)]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Train", "train"), ("TRAINING", "train"), ("seg_train", "train"), ("train2017", "train"),
        ("training_set", "train"), ("Train Images", "train"), ("trainset", "train"), ("val", "val"), ("Valid", "val"),
        ("validation", "val"), ("dev", "val"), ("Val-Data", "val"), ("test", "test"), ("Testing", "test"),
        ("seg_test", "test"), ("test1", "test"), ("train_val", None), ("train station", None), ("strain", None),
        ("contest", None), ("seg_pred", None), ("images", None), ("2017", None), ("device", None),
        ("TrainData", "train"), ("TestImages", "test"), ("trainingset", "train"), ("traindata", "train"),
        ("trn", "train"), ("tst", "test"), ("devset", "val"), ("validate", "val"), ("eval", "val"),
        ("Evaluation", "val"), ("x_train", "train"), ("PublicTest", "val"), ("Private_Test", "test"),
        ("TESTImages", "test"), ("imgsTest", "test"), ("DevTools", None), ("TrainStation", None), ("trainer", None),
        ("UnlabeledData", "unlabeled"), ("TrainVal", None), ("x", None), ("set", None),
    ],
)  # fmt: skip
def test_names_of_splits(name, split):
    assert split_called(name) == split


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Training", "Valid", "Testing"),
        ("seg_train", "seg_dev", "seg_test"),
        ("Train Set", "validation", "TEST"),
        ("train", None, "Test"),
        ("TRAIN", "val", None),
    ],
)
def test_splits_are_known_by_every_name_in_use(tmp_path, train, val, test):
    folders = {"train": train, "val": val, "test": test}
    lay(tmp_path, *of_classes(*(name for name in folders.values() if name)), "readme.txt")
    splits, notes = read(tmp_path)
    assert splits == {
        split: {name: [f"{folder}/{name}/0.png", f"{folder}/{name}/1.png"] for name in ("cat", "dog")}
        for split, folder in folders.items()
        if folder
    }
    renamed = any(folder not in (split, None) for split, folder in folders.items())
    assert (f"{train}/ is train" in notes) == renamed


def test_folders_that_hold_only_the_next_one_are_passed_through(tmp_path):
    lay(tmp_path / "a", *of_classes("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred/1.png", "list.csv")
    splits, notes = read(tmp_path / "a")
    assert splits["train"]["cat"] == ["seg_train/seg_train/cat/0.png", "seg_train/seg_train/cat/1.png"]
    assert splits["test"]["dog"] == ["seg_test/seg_test/dog/0.png", "seg_test/seg_test/dog/1.png"]
    assert "the 1 images of seg_pred/ are not used: it is called like no split" in notes
    lay(tmp_path / "b", *of_classes("pets/pets/train", "pets/pets/val"), "__MACOSX/pets/._x.png", "pets/about.txt")
    splits, notes = read(tmp_path / "b")
    assert splits["val"]["cat"] == ["pets/pets/val/cat/0.png", "pets/pets/val/cat/1.png"]
    assert "pets/pets/ is taken for ./, which holds nothing else" in notes
    lay(tmp_path / "c", *of_classes("images"))
    assert read(tmp_path / "c")[0] == {"train": {n: [f"images/{n}/{i}.png" for i in (0, 1)] for n in ("cat", "dog")}}
    lay(tmp_path / "d", *of_classes("train"), "test/dog/1.png")
    assert read(tmp_path / "d")[0]["test"] == {"dog": ["test/dog/1.png"]}, "a class, and no wrapper"


def test_the_layout_of_tiny_imagenet(tmp_path):
    train = [f"train/{name}/images/{name}_{n}.JPEG" for name in ("n01", "n02") for n in range(2)]
    boxes = [f"train/{name}/{name}_boxes.txt" for name in ("n01", "n02")]
    lay(tmp_path, *train, *boxes, "val/images/val_0.JPEG", "val/val_annotations.txt", "test/images/test_0.JPEG")
    splits, notes = read(tmp_path)
    assert list(splits) == ["train"]
    assert splits["train"]["n01"] == ["train/n01/images/n01_0.JPEG", "train/n01/images/n01_1.JPEG"]
    for split in ("val", "test"):
        assert f"the 1 images of {split}/ are not used: it holds no folders of the classes" in notes
    assert "lie in folders below" not in notes, "one `images` in each class makes no finer classes"
    assert "2 files are left out: 2 no images by their names" in notes


def test_a_flat_test_folder_without_labels_is_not_used_and_said(tmp_path):
    splits, notes = read(lay(tmp_path, *of_classes("train"), "test/1.png", "test/2.png"))
    assert list(splits) == ["train"]
    assert "the 2 images of test/ are not used: it holds no folders; where a table has their labels" in notes
    assert "no folder 'tests' in" in refusal(tmp_path, test="tests")


def test_a_class_may_be_called_like_a_split(tmp_path):
    files = [f"{name}/{n}.png" for name in ("bus", "car", "train") for n in range(2)]
    splits, notes = read(lay(tmp_path / "flat", *files))
    assert list(splits) == ["train"]
    assert list(splits["train"]) == ["bus", "car", "train"]
    assert "train/ holds images and no folders: a class, and no split" in notes
    lay(tmp_path / "cifar", *(f"{split}/{file}" for split in ("train", "test") for file in files))
    splits, notes = read(tmp_path / "cifar")
    assert [list(classes) for classes in splits.values()] == [["bus", "car", "train"]] * 2
    assert notes == ""


def test_a_folder_that_may_be_a_split_or_a_class_is_asked_for(tmp_path):
    lay(tmp_path, "bus/1.png", "train/ice/1.png", "train/tgv/1.png")
    message = refusal(tmp_path)
    assert "train/ holds folders (train/ice/, train/tgv/) as a split does, and beside it lies bus/" in message
    assert read(tmp_path, train="train")[0] == {"train": {"ice": ["train/ice/1.png"], "tgv": ["train/tgv/1.png"]}}
    as_class, _ = read(tmp_path, train=".")
    assert as_class == {"train": {"bus": ["bus/1.png"], "train": ["train/ice/1.png", "train/tgv/1.png"]}}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (of_classes("train", "Training"), "each of Training/, train/ may be train; name one, as in `train: Training`"),
        (of_classes("train", "val", "dev"), "each of dev/, val/ may be val; name one"),
        (of_classes("val", "test"), "no folder is called like that of the training images; name it (`train: FOLDER`)"),
        (["train/1.png", "test/2.png"], "hold images and no folders of classes; where a table has their labels"),
        (["1.png", "2.png"], "holds 0 class folders; at least 2 are needed; 2 images lie in it directly"),
        (of_classes("train") + of_classes("test", classes=("cat", "cow")), "no class 'cow' among the training images"),
    ],
)
def test_what_cannot_be_told_is_asked_in_one_line(tmp_path, files, words):
    assert words in refusal(lay(tmp_path, *files))


@pytest.mark.parametrize(("images", "root"), [("imgs/{}.png", ", root: {}/imgs"), ("{}.png", "")])
def test_a_table_beside_a_heap_of_images_is_pointed_at(tmp_path, images, root):
    lay(tmp_path, *(images.format(number) for number in range(3)))
    (tmp_path / "labels.csv").write_text("path,label")
    instead = f"{{name: manifest, path: {tmp_path}/labels.csv{root.format(tmp_path)}}}"
    assert f"at least 2 are needed; if labels.csv has their labels: {instead}" in refusal(tmp_path)


def test_folders_are_named_where_their_names_do_not_tell(tmp_path):
    lay(tmp_path, *of_classes("fold1", "deep/fold2", "val"))
    splits, notes = read(tmp_path, train="fold1", test="deep/fold2")
    assert {split: classes["cat"][0] for split, classes in splits.items()} == {
        "train": "fold1/cat/0.png",
        "test": "deep/fold2/cat/0.png",
        "val": "val/cat/0.png",
    }
    assert "fold1/ is train, deep/fold2/ is test" in notes
    imagenet = lay(tmp_path / "imagenet", *of_classes("train", "val"))
    assert {split: list(classes) for split, classes in read(imagenet, test="val")[0].items()} == {
        "train": ["cat", "dog"],
        "test": ["cat", "dog"],
    }
    held_out = lay(tmp_path / "held", *of_classes(".", "heldout"))
    assert read(held_out, test="heldout")[0]["train"].keys() == {"cat", "dog"}
    assert "no folder 'fold3' in" in refusal(tmp_path, train="fold3")


def test_classes_that_all_hold_the_same_folders_are_asked_for(tmp_path):
    lay(tmp_path, *of_classes("100X", "200X", "400X", classes=("benign", "malignant")))
    message = refusal(tmp_path)
    assert "100X/, 200X/, 400X/ hold the same folders (benign, malignant)" in message
    for words in ("`depth: 1` for 100X", "`depth: 2` for benign", "`train: 100X`"):
        assert words in message
    assert list(read(tmp_path, depth=1)[0]["train"]) == ["100X", "200X", "400X"]
    splits, notes = read(tmp_path, depth=2)
    assert {name: len(images) for name, images in splits["train"].items()} == {"benign": 6, "malignant": 6}
    shown = "100X/benign/, 200X/benign/, 400X/benign/"
    assert f"2 of 2 classes lie in more than one folder of its name, such as 'benign' in {shown}" in notes
    assert list(read(tmp_path, train="100X")[0]["train"]) == ["benign", "malignant"]
    nearly = lay(tmp_path / "nearly", *of_classes("a", "b", classes=("x", "y", "z"))[:-2])
    assert "hold the same folders" in refusal(nearly)


@pytest.mark.parametrize(
    "files",
    [
        of_classes("Learn", classes="abcde") + of_classes("Check", classes="ab"),
        [*of_classes("Learn", classes="abcde"), *of_classes("Check", classes="ab"), "Learn/preview.png"],
        [*of_classes("Learn", "Check", classes="ab"), "Blind/1.png"],
    ],
)
def test_a_split_with_some_of_the_classes_of_another_is_asked_for(tmp_path, files):
    message = refusal(lay(tmp_path, *files))
    assert "hold the same folders (a, b" in message
    assert "`train: Learn`" in message or "`train: Check`" in message


@pytest.mark.parametrize(
    "files",
    [
        ["cat/indoor/1.png", "cat/outdoor/1.png", "dog/1.png", "owl/1.png"],
        ["cat/1.png", "cat/2.png", "cat/x/1.png", "dog/1.png", "dog/x/1.png", "dog/2.png"],
        ["Fruit/Apple/1.png", "Fruit/Kiwi/1.png", "Roots/Beet/1.png"],
    ],
)
def test_folders_in_some_classes_are_no_question(tmp_path, files):
    splits, _ = read(lay(tmp_path, *files))
    assert list(splits["train"]) == sorted({file.partition("/")[0] for file in files})


def test_images_without_labels_among_the_training_images_are_no_class(tmp_path):
    lay(tmp_path, *of_classes("train", "test"), "train/unlabeled/1.png", "train/unlabeled/deep/2.png")
    layout = read_layout(str(tmp_path), {}, None)
    assert list(layout.splits["train"]) == ["cat", "dog"]
    assert [image.path for image in layout.unlabeled] == [
        str(tmp_path / "train/unlabeled" / name) for name in ("1.png", "deep/2.png")
    ]
    assert (
        "the 2 images of train/unlabeled/ are without labels; name the training images (`train: train`)"
        in "\n".join(layout.notes)
    )
    assert list(read(tmp_path, train="train")[0]["train"]) == ["cat", "dog", "unlabeled"]
    lay(tmp_path, "test/unlabeled/1.png")
    assert list(read(tmp_path)[0]["train"]) == ["cat", "dog", "unlabeled"]


def test_the_folder_of_pascal_voc_is_asked_for_a_table_and_nothing_is_to_be_removed(tmp_path):
    lay(tmp_path, "JPEGImages/1.jpg", "Annotations/1.xml", "ImageSets/Main/train.txt")
    message = refusal(tmp_path)
    assert "where a table has their labels, use the data set `manifest`" in message
    assert "remove" not in message


def test_a_named_folder_is_known_in_any_form_of_its_letters(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Übung") for form in ("NFC", "NFD"))
    lay(tmp_path, *of_classes(decomposed))
    assert list(read(tmp_path, train=composed)[0]["train"]) == ["cat", "dog"]


def test_nested_classes_are_named_by_the_folder_at_their_depth(tmp_path):
    fruit = [f"{split}/Fruit/{name}/1.png" for split in ("train", "test") for name in ("Apple", "Kiwi")]
    lay(tmp_path, *fruit, "train/Roots/Beet/Red/1.png", "train/Roots/2.png")
    splits, notes = read(tmp_path)
    assert list(splits["train"]) == ["Fruit", "Roots"]
    assert "3 images lie in folders below that of their class, such as train/Fruit/Apple/" in notes
    splits, notes = read(tmp_path, depth=2)
    assert splits["train"] == {
        "Apple": ["train/Fruit/Apple/1.png"],
        "Beet": ["train/Roots/Beet/Red/1.png"],
        "Kiwi": ["train/Fruit/Kiwi/1.png"],
    }
    assert list(splits["test"]) == ["Apple", "Kiwi"]
    assert "1 images beside the class folders" in notes
    assert list(read(tmp_path, depth="leaf")[0]["train"]) == ["Apple", "Kiwi", "Red", "Roots"]


@pytest.mark.parametrize("depth", [1, 2, 3, "leaf"])
def test_random_trees_have_the_classes_of_their_paths(tmp_path, depth):
    """Against the plain reading of each path: its part at the depth, or the last folder's."""
    rng = random.Random(f"{depth}")
    paths = {
        "/".join([*(rng.choice("abc") + str(level) for level in range(rng.randint(1, 4))), f"{number}.png"])
        for number in range(60)
    }
    lay(tmp_path, *paths)
    expected: dict[str, set[str]] = {}
    for path in paths:
        *folders, _ = path.split("/")
        if depth == "leaf":
            expected.setdefault(folders[-1], set()).add(path)
        elif len(folders) >= depth:
            expected.setdefault(folders[depth - 1], set()).add(path)
    splits, _ = read(tmp_path, depth)
    assert {name: set(images) for name, images in splits["train"].items()} == expected
    assert all(images == sorted(images) for images in splits["train"].values())


def test_names_that_look_the_same_are_one_class(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert composed != decomposed
    lay(tmp_path, f"train/{composed}/1.png", f"train/{decomposed}/2.png", "train/tea/1.png", f"test/{decomposed}/3.png")
    splits, notes = read(tmp_path)
    assert list(splits["train"]) == [composed, "tea"]
    assert Counter(len(images) for images in splits["train"].values()) == {2: 1, 1: 1}
    assert list(splits["test"]) == [composed]
    assert f"a class lies in more than one folder of its name, such as {composed!r} in train/caf" in notes


def test_what_machines_put_beside_images_is_left_out_and_counted(tmp_path):
    lay(
        tmp_path,
        *of_classes("train"),
        "train/cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg",
        "train/cat/.ipynb_checkpoints/0-checkpoint.png",
        "train/cat/._1.png",
        "train/dog/Thumbs.db",
        "train/@eaDir/x.jpg",
        "__MACOSX/train/cat/2.png",
        "#recycle/old.png",
        "$RECYCLE.BIN/older.png",
        "#snapshot/1.png",
        "@Recently-Snapshot/1.png",
        "@Transcode/1.png",
        "train/@tmp/1.png",
        ".DS_Store",
    )
    splits, notes = read(tmp_path)
    assert sum(len(images) for images in splits["train"].values()) == 4
    assert "12 files are left out: 1 no images by their names (such as " in notes
    assert "Thumbs.db), 11 hidden, or of storage devices and archives (such as " in notes


def test_the_layout_is_part_of_the_identity(tmp_path):
    lay(tmp_path, *of_classes("train", "val", "test"))
    others = [{"depth": 1}, {"upright": False}, {"test": "val"}, {"train": "test"}, {"val": "test", "test": "val"}]
    identities = [ImageFolder(path=str(tmp_path), **one).identity() for one in ({}, *others)]
    assert identities[0] == identities[1], "the same images of the same classes in the same form"
    assert len(set(identities)) == 5
    for settings in ({"depth": 0}, {"depth": "leaves"}):
        with pytest.raises(ValueError, match="depth: "):
            ImageFolder(**settings)


def test_two_folders_without_labels_in_train_are_both_no_class(tmp_path):
    lay(tmp_path, *of_classes("train", "test"), "train/unlabeled/1.png", "train/unsup/2.png")
    layout = read_layout(str(tmp_path), {}, None)
    assert list(layout.splits["train"]) == ["cat", "dog"]
    assert {Path(image.path).name for image in layout.unlabeled} == {"1.png", "2.png"}


@pytest.mark.parametrize(
    "named",
    [
        {"train": "train", "test": "train"},
        {"train": ".", "val": "."},
        {"train": "train", "val": "train/cat"},
        {"val": "train/dog", "test": "train"},
    ],
)
def test_two_splits_do_not_share_images(tmp_path, named):
    lay(tmp_path, *of_classes("train", "more"))
    assert "folder, " in refusal(tmp_path, **named)
    read(tmp_path, train="train", test="more")
