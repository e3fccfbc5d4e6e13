"""A table of images beside any folder: the forms that people give, and every mistake in one line with its row."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from data_files import content, said
from PIL import Image

from baselines.datasets.manifest import Manifest
from harness.data.splits import Splitting, open_data
from harness.testing import check_dataset

VALUES = {"a": 10, "b": 20, "c": 30, "d": 40, "e": 50, "f": 60}
"""Name of a file -> the value of all its pixels."""


@pytest.fixture
def folder(tmp_path):
    """Six images, two of them in a folder below."""
    for name, value in VALUES.items():
        file = tmp_path / ("deep/er" if name in "ef" else "") / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(file)
    return tmp_path


def table(folder, text, name="labels.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def opened(path, **settings):
    return Manifest(path=str(path), channels=1, **settings).open()


ROWS = [("a", "cat"), ("b", "dog"), ("c", "cat"), ("deep/er/e", "dog")]
READ = {"train": [(10, "cat"), (20, "dog"), (30, "cat"), (50, "dog")]}
RECORDS = [{"file_name": f"{path}.png", "species": label} for path, label in ROWS]
COCO = {
    "images": [{"id": 7 + place, "file_name": f"{path}.png"} for place, (path, _) in enumerate(ROWS)],
    "annotations": [{"image_id": 7 + place, "category_id": label == "dog"} for place, (_, label) in enumerate(ROWS)],
    "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
}
OF_TWO = COCO | {"annotations": [*COCO["annotations"], {"image_id": 7, "category_id": 1}]}
NUMBERED = "".join(f"{number},{path}.png,{label}\n" for number, (path, label) in enumerate(ROWS))
FORMS = {
    "comma": ("x.csv", "path,label\n" + "".join(f"{p}.png,{c}\n" for p, c in ROWS)),
    "semicolon, BOM, CRLF, quotes, blanks": (
        "x.csv",
        "\ufeffFile Name; Class\r\n" + "".join(f'"{p}.png"; {c} \r\n' for p, c in ROWS) + "\r\n",
    ),
    "tab": ("x.tsv", "image\ttarget\n" + "".join(f"{p}.png\t{c}\n" for p, c in ROWS)),
    "without endings, as competitions give them": ("x.csv", "id,breed\n" + "".join(f"{p},{c}\n" for p, c in ROWS)),
    "without titles": ("x.txt", "".join(f"{p}.png, {c}\n" for p, c in ROWS)),
    "without titles, blanks between": ("x.txt", "".join(f"{p}.png {c}\n" for p, c in ROWS)),
    "with an index of pandas": (
        "x.csv",
        ",path,label\n" + NUMBERED,
    ),
    "a Windows path": ("x.csv", "path,label\n" + "".join(f"{p}.PNG,{c}\n" for p, c in ROWS).replace("/", "\\")),
    "an id beside the file": (
        "x.csv",
        "id,image,label\n" + NUMBERED,
    ),
    "the last column as the label": ("x.csv", "path,what\n" + "".join(f"{p}.png,{c}\n" for p, c in ROWS)),
    "JSON lines": ("x.jsonl", "".join(json.dumps(record) + "\n" for record in RECORDS)),
    "JSON": ("x.json", json.dumps(RECORDS)),
    "iNaturalist": ("x.json", json.dumps(COCO)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_alike(folder, form):
    name, text = FORMS[form]
    source = opened(table(folder, text, name))
    assert source.class_names == ("cat", "dog")
    assert content(source) == READ


def test_parquet_is_read_alike(folder):
    pytest.importorskip("pyarrow")
    pd.DataFrame(RECORDS).to_parquet(folder / "x.parquet")
    assert content(opened(folder / "x.parquet")) == READ


def test_numbers_are_names_in_the_order_of_numbers(folder):
    pytest.importorskip("pyarrow")
    numbers = [10, 9, 10, None]
    frame = pd.DataFrame({"path": ["a", "b", "c", "d"], "label": numbers})  # pandas makes them 10.0 and NaN
    frame.to_parquet(folder / "x.parquet")
    (folder / "x.jsonl").write_text(
        "".join(json.dumps({"path": p, "label": n}) + "\n" for p, n in zip("abcd", numbers, strict=True))
    )
    text = table(folder, "path,label\na,10\nb,9\nc,10\nd,\n")
    for file in (folder / "x.parquet", folder / "x.jsonl", text):
        source = opened(file)
        assert source.class_names == ("9", "10")
        assert content(source)["train"] == [(10, "10"), (20, "9"), (30, "10")]
        assert content(source)["unlabeled"] == [(40, None)]
    assert opened(table(folder, "path,label\na,0010\nb,9\nc,zebra\n")).class_names == ("0010", "9", "zebra")


def test_splits_have_the_names_of_folders(folder):
    text = "path,label,split\na,cat,Train\nb,dog,training\nc,cat,valid\nd,dog,TEST\ndeep/er/e,,train\ndeep/er/f,,test\n"
    source = opened(table(folder, text))
    assert content(source) == {
        "train": [(10, "cat"), (20, "dog")],
        "val": [(30, "cat")],
        "test": [(40, "dog")],
        "unlabeled": [(50, None)],
    }


def test_an_empty_split_beside_others_is_training_which_is_said(folder):
    source = opened(table(folder, "path,label,split\na,cat,train\nb,dog,\nc,cat,test\nd,dog,\n"))
    assert content(source) == {"train": [(10, "cat"), (20, "dog"), (40, "dog")], "test": [(30, "cat")]}
    assert "2 images of no split (its cell is empty) count as training images" in said(source)
    assert "of no split" not in said(opened(table(folder, "path,label\na,cat\nb,dog\n")))


def test_a_class_called_as_programs_call_nothing_is_said(folder):
    source = opened(table(folder, "path,label\na,cat\nb,nan\nc,nan\n"))
    assert source.class_names == ("cat", "nan")
    assert "2 labels are 'nan', a class of that name; leave the cell empty where there is no label" in said(source)


def test_what_is_left_out_or_decided_is_said(folder):
    untitled = said(opened(table(folder, "a.png, cat\nb.png, dog\nc.png,\n", "x.txt")))
    assert "row 1 names an image, so there are no titles" in untitled
    assert "1 images have no label and are for pre-training only" in untitled
    text = "path,label,split\na,cat,train\nb,dog,train\nc,,test\nd,cat,test\n"
    assert "1 images of the split test are left out, which have no label" in said(opened(table(folder, text)))
    part = said(opened(table(folder, "path,label\na,cat\nb,dog\ndeep/er/e,\n")))
    assert "3 images beside these have no row and are not used; `image_folder` with `labels: none`" in part
    every = "path,label\na,cat\nb,dog\nc,\nd,\ndeep/er/e,\ndeep/er/f,\n"
    assert "have no row" not in said(opened(table(folder, every)))


def test_of_several_label_columns_one_is_named(folder):
    text = "path,kind,family\na,lion,cat\nb,wolf,dog\nc,tiger,cat\n"
    file = table(folder, text)
    with pytest.raises(ValueError, match=r"which column holds the labels\? Set label_column to one of kind, family"):
        opened(file)
    families = opened(file, label_column="family")
    assert families.class_names == ("cat", "dog")
    assert "files are those of 'path', labels are those of 'family'; not read: 'kind'" in said(families)
    assert opened(file, label_column="kind").class_names == ("lion", "tiger", "wolf")
    by_family, by_kind = (Manifest(path=str(file), label_column=name) for name in ("family", "kind"))
    assert by_family.identity() != by_kind.identity()
    species = opened(table(folder, text.replace("kind", "species")))
    assert species.class_names == ("lion", "tiger", "wolf")
    assert "labels are those of 'species'; not read: 'family'" in said(species)


def test_a_column_without_a_title_is_named_by_its_number(folder):
    file = table(folder, "a.png, 3, cat\nb.png, 4, dog\n", "x.txt")  # as GroceryStoreDataset has them
    with pytest.raises(ValueError, match="Set label_column to one of 2, 3"):
        opened(file)
    assert opened(file, label_column=3).class_names == opened(file, label_column="3").class_names == ("cat", "dog")


def test_a_row_ends_where_its_format_says_so(folder):
    odd = "two\u2028lines\x0b"  # which Python's splitlines would break
    csv = table(folder, f'path,label\na,{odd}x\nb,"quoted\nline"\nc,{odd}x\n')
    assert opened(csv).class_names == ("quoted\nline", f"{odd}x")
    lines = "".join(json.dumps({"path": p, "label": f"{odd}{p}"}, ensure_ascii=False) + "\n" for p in "abc")
    assert len(opened(table(folder, lines, "x.jsonl")).class_names) == 3


def test_a_class_that_looks_the_same_is_the_same(folder):
    text = "path,label,split\na,caf\u00e9,train\nb,cafe\u0301,test\nc,tea,train\n"
    assert content(opened(table(folder, text)))["test"] == [(20, "caf\u00e9")]


def test_a_column_that_is_called_like_splits_and_holds_none_is_not_used(folder):
    file = table(folder, "path,label,set\na,cat,A\nb,dog,B\n")
    source = opened(file)
    assert content(source) == {"train": [(10, "cat"), (20, "dog")]}
    assert "a column holds 'A' and the like, which are no splits; it is not used" in said(source)
    with pytest.raises(ValueError, match="row 2: no split 'A'"):
        opened(file, split_column="set")


def test_paths_may_refer_to_another_folder(folder):
    (folder / "tables").mkdir()
    file = table(folder / "tables", "path,label\ne,cat\nf,dog\n")
    assert content(opened(file, root=str(folder / "deep/er")))["train"] == [(50, "cat"), (60, "dog")]
    absolute = table(folder / "tables", f"path,label\n{folder}/a.png,cat\n{folder}/b.png,dog\n")
    assert content(opened(absolute))["train"] == [(10, "cat"), (20, "dog")]


def test_without_labels_every_image_is_pretrained_on(folder):
    dataset = Manifest(path=str(table(folder, "path,label,split\na,cat,train\nb,,test\nc,dog,val\n")), labels="none")
    assert not dataset.has_labels
    source = dataset.open()
    assert source.class_names == ()
    assert source.splits["train"].num_images == 3
    check_dataset(lambda: dataset)


MISTAKES = {
    "no table": (None, {}, "no file"),
    "another format": (("x.xlsx", "path"), {}, "not a table of text (.csv, .tsv, .tab, .txt), Parquet"),
    "empty": (("x.csv", ""), {}, "the table has no rows"),
    "titles alone": (("x.csv", "path,label\n"), {}, "the table has no rows"),
    "no column of files": (("x.csv", "what,label\na,cat\n"), {}, "which column names the files? Set path_column"),
    "a column that is not there": (
        ("x.csv", "path,label\na,cat\n"),
        {"label_column": "lable"},
        "label_column: no column 'lable'; did you mean 'label'?",
    ),
    "two columns of files": (
        ("x.csv", "path,file,label\na,b,c\n"),
        {},
        "path and file may each be the path. Set path_column to one of path, file",
    ),
    "two of a name": (("x.csv", "path,label,label\na,b,c\n"), {}, "two columns are called 'label'"),
    "too many cells": (("x.csv", "path,label\na,cat\nb,dog,3\n"), {}, "row 3 has 3 cells, and there are 2 columns"),
    "an open quote": (("x.csv", 'path,label\na,cat\n"b,dog\n'), {}, "row 3"),
    "no file in a row": (("x.csv", "path,label\na,cat\n,dog\n"), {}, "row 3 names no file: path is empty"),
    "missing files": (
        ("x.csv", "path,label\na,cat\nb,dog\n" + "".join(f"no{n},cat\n" for n in range(5))),
        {},
        "5 of 7 files are not in {folder}: row 4 'no0', row 5 'no1', row 6 'no2' and 2 more",
    ),
    "the folder below": (
        ("x.csv", "path,label\ne,cat\nf,dog\n"),
        {},
        "2 of 2 files are not in {folder}: row 2 'e', row 3 'f'; they are in {folder}/deep/er: set root to that",
    ),
    "the table's own folder": (
        ("x.csv", "path,label\na,cat\nb,dog\n"),
        {"root": "nowhere"},
        "they are in {folder}: set root to that",
    ),
    "another root": (("x.csv", "path,label\nx,cat\ny,dog\n"), {"root": "nowhere"}, "is that the folder? Set root"),
    "one file twice": (("x.csv", "path,label\na,cat\nb,dog\na.png,dog\n"), {}, "row 4 names the file of row 2 again"),
    "an unknown split": (
        ("x.csv", "path,label,split\na,cat,train\nb,dog,tset\n"),
        {},
        "row 3: no split 'tset'; did you mean 'test'?",
    ),
    "a class that only test has": (
        ("x.csv", "path,label,split\na,cat,train\nb,dog,train\nc,dgo,test\n"),
        {},
        "row 4: no class 'dgo' among the training images; did you mean 'dog'?",
    ),
    "one class": (("x.csv", "path,label\na,cat\nb,cat\n"), {}, "1 class among the training images; at least 2"),
    "two classes, of which one stands for none": (
        ("x.csv", "path,label\na,-1\nb,1\nc,-1\n"),
        {},
        "1 class among the training images; at least 2 are needed (2 labels are -1, which stands for none",
    ),
    "no label at all": (("x.csv", "path,label\na,\nb,\n"), {}, "no training image has a label; `labels: none` takes"),
    "no column of labels": (("x.csv", "path\na\nb\n"), {}, "there is no column of labels; `labels: none` takes"),
    "JSON that breaks off": (("x.jsonl", '{"path": "a", "label": 1}\n{"path": \n'), {}, "row 2: not JSON"),
    "JSON of another form": (("x.json", '{"a": 1}'), {}, "no list of records or of tasks"),
    "COCO of another form": (("x.json", '{"images": [{}], "annotations": [{}]}'), {}, "not as in COCO and iNaturalist"),
    "two categories of an image": (("x.json", json.dumps(OF_TWO)), {}, "x.json: image 7: 2 classes; one is needed"),
    "a missing file of COCO": (
        ("x.json", json.dumps(COCO | {"images": [*COCO["images"], {"id": 90, "file_name": "no.png"}]})),
        {},
        "1 of 5 files are not in {folder}: image 90 'no.png'",
    ),
    "a folder for a file": (("x.csv", "path,label\na,cat\ndeep,dog\n"), {}, "row 3 'deep'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_its_row(folder, mistake):
    file, settings, words = MISTAKES[mistake]
    path = folder / "absent.csv" if file is None else table(folder, file[1], file[0])
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        opened(path, **settings)
    said = str(error.value)
    assert words.format(folder=folder) in said
    assert str(path) in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"labels": "no"}, "labels: 'no' is neither column nor none"),
        ({"labels": "none", "label_column": "x"}, "leave one of them out"),
        ({"size": 0}, "size: 0"),
        ({"channels": 2}, "channels: 2"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Manifest(**settings)


def test_an_image_of_two_categories_is_one_image_where_labels_are_not_asked_for(folder):
    source = opened(table(folder, json.dumps(OF_TWO), "x.json"), labels="none")
    assert source.splits["train"].num_images == 4


def test_latin_1_is_an_error_with_its_row(folder):
    (folder / "x.csv").write_bytes("path,label\na,cat\nb,Bär\n".encode("latin-1"))
    with pytest.raises(ValueError, match="row 3 is not UTF-8"):
        opened(folder / "x.csv")


def test_a_name_without_ending_that_fits_two_files_is_refused(folder):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "a.bmp")
    with pytest.raises(ValueError, match=r"row 2: 'a' may be a.bmp or a.png; write more of its path"):
        opened(table(folder, "path,label\na,cat\nb,dog\n"))


def test_the_identity_is_that_of_table_and_files(folder):
    file = table(folder, "path,label\na,cat\nb,dog\n")
    first = Manifest(path=str(file)).identity()
    table(folder, "path,label\na,dog\nb,cat\n")
    second = Manifest(path=str(file)).identity()
    Image.fromarray(np.full((4, 4), 99, np.uint8)).save(folder / "b.png")
    assert len({first, second, Manifest(path=str(file)).identity()}) == 3
    Image.fromarray(np.full((4, 4), 98, np.uint8)).save(folder / "f.png")
    assert Manifest(path=str(file)).identity() == Manifest(path=str(file)).identity()


def test_the_pool_is_what_has_a_label(folder, tmp_path):
    for number in range(20):
        Image.fromarray(np.full((4, 4), 100 + number, np.uint8)).save(folder / f"n{number}.png")
    labels = {number: "cd"[number % 2] if number < 12 else "" for number in range(20)}
    file = table(folder, "path,label\n" + "".join(f"n{number},{label}\n" for number, label in labels.items()))
    data, oracle = open_data(
        Manifest(path=str(file), channels=1), "m", Splitting(val=2, test=0.2), cache=tmp_path / "c", with_test=True,
        device="cpu",
    )  # fmt: skip
    assert (len(oracle), data.class_names) == (len(data.pool), ("c", "d"))
    parts = {name: getattr(data, name) for name in ("pool", "val", "test")}
    values = {name: [int(v) for v in images[torch.arange(len(images))][:, 0, 0, 0]] for name, images in parts.items()}
    assert sorted(value for part in values.values() for value in part) == [100 + number for number in range(12)]
    assert data.unlabeled_extra is not None
    assert data.unlabeled_extra[torch.arange(8)][:, 0, 0, 0].tolist() == [112 + number for number in range(8)]
    bought = oracle.with_budget(1).reveal(torch.tensor([0]))
    assert data.class_names[int(bought)] == labels[values["pool"][0] - 100]
    assert oracle.used == 1
