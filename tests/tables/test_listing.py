"""One reader of tables: the same images, classes and splits in every format, and the same words at every door."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from baselines.datasets.manifest import Manifest
from harness.embeddings_file import read_embeddings
from harness.pick.labels import lines_of
from harness.tables import Columns, list_images, read_table

ROWS = [("a b/1.png", "caf\u00e9", "train"), ("a b/2.png", "", "Test Set"), ("3.png", 'x, "y"', "dev")]


def write(file: Path, rows=ROWS, columns=("path", "label", "split")) -> Path:
    """The table in the format of the file's ending; composed letters come apart, as on a Mac."""
    apart = [[unicodedata.normalize("NFD", cell) for cell in row] for row in rows]
    frame = pd.DataFrame(apart, columns=list(columns))
    if file.suffix == ".parquet":
        frame.replace("", None).to_parquet(file)
    elif file.suffix == ".jsonl":
        frame.replace("", None).to_json(file, orient="records", lines=True)
    elif file.suffix == ".json":
        frame.to_json(file, orient="records")
    else:
        delimiter = {".tsv": "\t", ".txt": ";"}.get(file.suffix, ",")
        text = frame.to_csv(index=False, sep=delimiter, lineterminator="\r\n")
        file.write_bytes(b"\xef\xbb\xbf" + text.encode())  # as a spreadsheet saves it
    return file


@pytest.mark.parametrize("ending", ["csv", "tsv", "txt", "parquet", "jsonl", "json"])
def test_every_format_says_the_same(tmp_path, ending):
    listing = list_images(read_table(write(tmp_path / f"t.{ending}")), Columns(), ("path", "label"))
    assert [(row.path, row.label, row.split) for row in listing.rows] == ROWS
    assert listing.columns == {"path": "path", "label": "label", "split": "split"}


@pytest.mark.parametrize(
    ("labels", "expected", "said"),
    [
        (["2.0", "", "10.0"], ["2", "", "10"], "labels are whole numbers: 10.0 is called 10"),
        (["0", "-1", "1"], ["0", "", "1"], "1 labels are -1, which stands for none"),
        (["-1.0", "-1.0", "3.0"], ["", "", "3"], "2 labels are -1, which stands for none"),
        (["-1", "-2", "3"], ["-1", "-2", "3"], None),
        (["-1", "-1", ""], ["-1", "-1", ""], None),
        (["1.5", "2.0", "a"], ["1.5", "2.0", "a"], None),
    ],
)
def test_numbers_are_classes_and_minus_1_is_none(tmp_path, labels, expected, said):
    file = write(tmp_path / "t.csv", [(f"{n}.png", label) for n, label in enumerate(labels)], ("path", "label"))
    listing = list_images(read_table(file), Columns(), ("path", "label"))
    assert [row.label for row in listing.rows] == expected
    assert any(said in note for note in listing.notes) if said else not listing.notes


def test_a_column_alone_has_cells_with_blanks_and_commas(tmp_path):
    (tmp_path / "t.csv").write_text('path\nday 1/photo 2\n"a, b.jpg"\nc, d.jpg\n')
    listing = list_images(read_table(tmp_path / "t.csv"), Columns(), ("path",))
    assert [(row.path, row.label) for row in listing.rows] == [
        ("day 1/photo 2", ""),
        ("a, b.jpg", ""),
        ("c, d.jpg", ""),
    ]


def test_columns_of_a_table_that_hold_no_text_are_not_read(tmp_path):
    pd.DataFrame({"path": ["1.png"], "label": [3.0], "bytes": [b"x"], "box": [[1, 2]]}).to_parquet(
        tmp_path / "t.parquet"
    )
    listing = list_images(read_table(tmp_path / "t.parquet"), Columns(), ("path", "label"))
    assert [(row.path, row.label) for row in listing.rows] == [("1.png", "3")]
    assert listing.notes[0].endswith("'bytes', 'box' hold no text and no numbers, and are not read")


def opened_as_manifest(file: Path) -> object:
    return Manifest(path=str(file)).open()


def opened_beside_embeddings(file: Path) -> object:
    np.savez(file.parent / "e.npz", embeddings=np.zeros((3, 2), np.float32))
    return read_embeddings(file.parent / "e.npz", file)


DOORS = [opened_as_manifest, opened_beside_embeddings, lines_of]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,species\n1.png,a,b\n", "label and species may each be the label. Set "),
        ("path,path\n1.png,a\n", "two columns are called 'path'; rename one"),
        ("path,label\n1.png,a,b\n", "row 2 has 3 cells, and there are 2 columns"),
        ('path,label\n1.png,"a\n', "row 2: "),
        ("path,label\n", "the table has no rows"),
        ("path,label\n1.png,\xe9\n", "row 2 is not UTF-8; save the table as UTF-8"),
    ],
)
def test_what_is_wrong_is_said_alike_at_every_door(tmp_path, door, text, message):
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 't.csv'}: {message}")):
        door(tmp_path / "t.csv")


def test_what_label_studio_exports_is_a_table_for_every_door(tmp_path):
    tasks = [
        {"id": 5, "data": {"path": f"{n}.png"}, "annotations": [{"result": [{"value": {"choices": [label]}}]}]}
        for n, label in enumerate("abb")
    ]
    tasks[2]["annotations"][0]["was_cancelled"] = True
    (tmp_path / "back.json").write_text(json.dumps(tasks))
    for number in range(3):
        Image.new("RGB", (4, 4), number).save(tmp_path / f"{number}.png")
    source = Manifest(path=str(tmp_path / "back.json")).open()
    assert (source.class_names, set(source.splits)) == (("a", "b"), {"train", "unlabeled"})
    (part,) = opened_beside_embeddings(tmp_path / "back.json").parts.values()
    assert part.labels.tolist() == ["a", "b", ""]
    assert [line.label for line in lines_of(tmp_path / "back.json")[0]] == ["a", "b", ""]


def test_folders_are_found_in_any_case_and_form_of_letters(tmp_path):
    folder = tmp_path / unicodedata.normalize("NFD", "Images/caf\u00e9")
    folder.mkdir(parents=True)
    rows = []
    for number, label in enumerate("abab"):
        Image.new("RGB", (4, 4), number).save(folder / f"{number}.PNG")
        rows.append(f"images\\caf\u00e9\\{number}.png,{label}")
    (tmp_path / "t.csv").write_text("path,label\n" + "\n".join(rows), encoding="utf-8")
    assert Manifest(path=str(tmp_path / "t.csv")).open().splits["train"].num_images == 4


@pytest.mark.parametrize("read", [lambda table: read_embeddings(table.with_suffix(".npy"), table), lines_of])
@pytest.mark.parametrize(
    ("header", "cells"),
    [("what,where", "a,b"), ("path,file,label", "1.png,1.png,cat"), ("path,label,split,set", "1.png,cat,train,test")],
)
def test_nobody_is_told_to_set_what_they_do_not_have(tmp_path, header, cells, read):
    (tmp_path / "t.csv").write_text(f"{header}\n{cells}\n")
    np.save(tmp_path / "t.npy", np.ones((1, 2), dtype=np.float32))
    with pytest.raises(ValueError, match=r"t\.csv") as error:
        read(tmp_path / "t.csv")
    assert "_column" not in str(error.value)


def test_a_name_that_is_none_is_answered_by_the_first_of_many(tmp_path):
    columns = [f"c{number:03}" for number in range(1000)]
    write(tmp_path / "t.csv", [["x"] * 1000], columns)
    with pytest.raises(ValueError, match=r"known: c000, .*c019, \.\.\. \(1000 in all\)$"):
        list_images(read_table(tmp_path / "t.csv"), Columns(path="zzz"), ("path",))


def rows_of(file: Path) -> list[tuple[str, str]]:
    listing = list_images(read_table(file), Columns(), ("path", "label"))
    return [(row.path, row.label) for row in listing.rows]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("value", "said"),
    [(["a", "b"], "2 classes"), ({"choices": ["a", "b", "c"]}, "3 classes"), ({"name": "a"}, "a record in place of a")],
)
def test_several_classes_of_an_image_are_no_class(tmp_path, door, value, said):
    records = [{"path": "1.png", "label": "a"}, {"path": "2.png", "label": value, "box": [1, 2]}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    with pytest.raises(ValueError, match=re.escape(f"t.jsonl: row 2: {said}")):
        door(tmp_path / "t.jsonl")


def test_several_classes_in_a_cell_of_label_studios_csv_are_no_class_either(tmp_path):
    cell = json.dumps({"choices": ["a", "b"]}).replace('"', '""')
    (tmp_path / "t.csv").write_text(f'path,label\n1.png,a\n2.png,"{cell}"\n')
    with pytest.raises(ValueError, match=r"t\.csv: row 3: 2 classes; one is needed"):
        lines_of(tmp_path / "t.csv")


def test_a_list_of_one_class_is_that_class_and_lists_elsewhere_do_not_matter(tmp_path):
    labels = ["a", ["b"], {"choices": ["c"]}, []]
    records = [{"path": f"{n}.png", "label": label, "box": [1, 2]} for n, label in enumerate(labels)]
    (tmp_path / "t.json").write_text(json.dumps(records))
    assert [label for _, label in rows_of(tmp_path / "t.json")] == ["a", "b", "c", ""]


def coco(**changes: object) -> dict[str, object]:
    return {
        "categories": [{"id": 0, "name": "a"}, {"id": 2, "name": "b"}],
        "images": [{"id": 3, "file_name": "3.png"}, {"id": 4, "file_name": "4.png"}],
        "annotations": [{"image_id": 3, "category_id": 0}, {"image_id": 4, "category_id": 2}],
    } | changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"categories": [{"id": 0, "name": "a"}, {"id": 2, "name": "a"}]}, "categories 0 and 2 are both called 'a'"),
        ({"categories": [{"id": 0, "name": "a"}, {"id": 2, "name": "a "}]}, "categories 0 and 2 are both called 'a'"),
        ({"categories": [{"id": 0, "name": "a"}, {"id": 0, "name": "b"}]}, "two categories have the id 0: 'a' and 'b'"),
        ({"images": [{"id": 3, "file_name": f"{n}.png"} for n in "12"]}, "two images have the id 3: '1.png' and '2.p"),
        (
            {"annotations": [{"image_id": "3", "category_id": 0}]},
            "1 of 1 annotations are of no image, such as image_id",
        ),
    ],
)
def test_ids_of_coco_that_mean_two_things_or_none_are_named(tmp_path, changes, said):
    (tmp_path / "t.json").write_text(json.dumps(coco(**changes)))
    with pytest.raises(ValueError, match=re.escape(f"t.json: {said}")):
        read_table(tmp_path / "t.json")


def test_annotations_of_coco_without_an_image_or_a_name_are_said(tmp_path):
    given = [{"image_id": 3, "category_id": 0}, {"image_id": 4, "category_id": 7}, {"image_id": 9, "category_id": 0}]
    (tmp_path / "t.json").write_text(json.dumps(coco(annotations=given)))
    first, second = read_table(tmp_path / "t.json").notes
    assert first.endswith("1 of 3 annotations are of no image, such as image_id 9; they are not read")
    assert second.endswith("no name for the categories 7; they are called by their ids")
    assert rows_of(tmp_path / "t.json") == [("3.png", "a"), ("4.png", "7")]


PLAIN = [("1.png", "a"), ("2.png", "b")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty titles.csv", b"path,label,,\n1.png,a,,\n2.png,b,,\n"),
        ("more empty cells than titles.csv", b"path;label\n1.png;a;;\n2.png;b\n"),
        ("no titles.csv", b"1.png,a,,\n2.png,b,,\n"),
        ("separator.csv", b"sep=;\r\npath;label\r\n1.png;a\r\n2.png;b\r\n"),
        ("quoted separator.csv", b'"sep=|"\npath|label\n1.png|a\n2.png|b\n'),
        ("old mac.csv", b"path,label\r1.png,a\r2.png,b\r"),
        ("unicode text.txt", "path\tlabel\r\n1.png\ta\r\n2.png\tb\r\n".encode("utf-16")),
        ("wide.jsonl", "".join(json.dumps({"path": p, "label": k}) + "\n" for p, k in PLAIN).encode("utf-16")),
        ("of this machine.csv", b"path,label\nfile:///1%20a.png,a\n/2.png,b\n"),
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    expected = [("/1 a.png", "a"), ("/2.png", "b")] if name.startswith("of this") else PLAIN
    assert rows_of(tmp_path / name) == expected


def test_rows_behind_a_line_for_excel_keep_their_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("sep=;\npath;label\n1.png;a;c\n")
    with pytest.raises(ValueError, match="row 3 has 3 cells, and there are 2 columns"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_json_that_is_neither_utf_8_nor_utf_16_is_named(tmp_path, ending):
    (tmp_path / f"t.{ending}").write_bytes(b'[{"path": "caf\xe9.png"}]')
    with pytest.raises(ValueError, match=rf"t\.{ending}: row 1 is not UTF-8"):
        read_table(tmp_path / f"t.{ending}")
