"""Files of embeddings in every form: the same vectors, labels and paths come out, and what is wrong is named."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.api import BrokenImagesError
from harness.embeddings_file import read_embeddings

DRAW = np.random.default_rng(0)
VECTORS = DRAW.normal(size=(9, 4)).astype(np.float16)
LABELS = np.array(["cat", "dog", "ant"] * 3)
PATHS = np.array([f"a/{number}.png" for number in range(9)])


def whole(path, **arrays):
    np.savez(path, embeddings=VECTORS, labels=LABELS, paths=PATHS, **arrays)


def in_parquet(path, vectors):
    table = pa.table({**vectors, "label": LABELS.tolist(), "path": PATHS.tolist()})
    pq.write_table(table, path, row_group_size=4)


FORMS = {
    "stored.npz": whole,
    "compressed.npz": lambda path: np.savez_compressed(path, embeddings=VECTORS, labels=LABELS, paths=PATHS),
    "lists.parquet": lambda path: in_parquet(path, {"embeddings": pa.array(list(VECTORS), pa.list_(pa.float16()))}),
    "fixed.parquet": lambda path: in_parquet(
        path, {"clip": pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.ravel()), 4)}
    ),
    "columns.parquet": lambda path: in_parquet(path, {f"e{k}": VECTORS[:, k] for k in range(4)}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(tmp_path, form):
    FORMS[form](tmp_path / form)
    content = read_embeddings(tmp_path / form)
    (part,) = content.parts.values()
    assert list(content.parts) == ["all"]
    assert content.notes == ()
    assert (part.dtype, len(part)) == (np.float16, 9)
    assert np.array_equal(part.read(0, 9), VECTORS)
    assert np.array_equal(part.read(3, 5), VECTORS[3:5])
    assert part.labels.tolist() == LABELS.tolist()
    assert part.paths.tolist() == [str(tmp_path / path) for path in PATHS]
    assert isinstance(part.features, np.memmap), "the vectors would fill memory"


def test_a_folder_is_an_npz_taken_apart(tmp_path):
    np.save(tmp_path / "x_train.npy", np.asfortranarray(VECTORS[:6]))
    np.save(tmp_path / "y_train.npy", LABELS[:6])
    np.save(tmp_path / "x_test.npy", VECTORS[6:])
    np.save(tmp_path / "y_test.npy", LABELS[6:])
    np.save(tmp_path / "class_names.npy", np.array(["ant", "cat", "dog"]))
    content = read_embeddings(tmp_path)
    assert list(content.parts) == ["train", "test"]
    assert content.class_names == ("ant", "cat", "dog")
    assert np.array_equal(content.parts["train"].read(1, 3), VECTORS[1:3])
    assert isinstance(content.parts["train"].features, np.memmap)


def test_other_precisions_become_float32(tmp_path):
    np.savez(tmp_path / "e.npz", embeddings=VECTORS.astype(np.float64))
    (part,) = read_embeddings(tmp_path / "e.npz").parts.values()
    assert part.read(0, 9).dtype == np.float32
    assert np.array_equal(part.read(0, 9), VECTORS.astype(np.float32))


def columns(names):
    return {name: VECTORS[:, k].astype(np.float32) for k, name in enumerate(names)}


def test_columns_of_floats_without_a_number_are_no_vectors(tmp_path):
    label = (np.arange(9) % 3).astype(np.float64)
    table = pa.table(columns(["f0", "f1", "confidence", "f2"]) | {"target": label, "score1": label, "path": PATHS})
    pq.write_table(table, tmp_path / "e.parquet")
    content = read_embeddings(tmp_path / "e.parquet")
    (part,) = content.parts.values()
    assert np.array_equal(part.read(0, 9), VECTORS[:, [0, 1, 3]])
    assert content.notes == (f"{tmp_path / 'e.parquet'}: confidence, score1, target are not read",)
    (part,) = read_embeddings(tmp_path / "e.parquet", label="target").parts.values()
    assert part.labels.tolist() == label.tolist()
    (part,) = read_embeddings(tmp_path / "e.parquet", label="f1").parts.values()
    assert np.array_equal(part.read(0, 9), VECTORS[:, [0, 3]])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["e0", "e1", "f0", "f1"], r"the columns e0 .. e1 or f0 .. f1 could be the vectors; leave all but one"),
        (["width", "height"], "columns of floats are width, height; those of a vector have one name and a number"),
    ],
)
def test_columns_of_floats_that_may_be_no_vector_are_asked_for(tmp_path, names, words):
    pq.write_table(pa.table(columns(names)), tmp_path / "e.parquet")
    with pytest.raises(ValueError, match=words):
        read_embeddings(tmp_path / "e.parquet")


@pytest.mark.parametrize("name", ["E.NPZ", "e.pq", "e.Parquet"])
def test_endings_may_be_in_capitals_or_short(tmp_path, name):
    if name == "E.NPZ":
        whole(tmp_path / "e.npz")
        (tmp_path / "e.npz").rename(tmp_path / name)
    else:
        in_parquet(tmp_path / name, columns(["e0", "e1"]))
    (part,) = read_embeddings(tmp_path / name).parts.values()
    assert part.labels.tolist() == LABELS.tolist()


def test_images_of_no_split_are_training_images_which_is_said(tmp_path):
    whole(tmp_path / "e.npz", splits=np.array(["train", "", "test"] * 3))
    content = read_embeddings(tmp_path / "e.npz")
    assert {split: len(part) for split, part in content.parts.items()} == {"train": 6, "test": 3}
    said = "3 images of no split (its cell is empty) count as training images"
    assert content.notes == (f"{tmp_path / 'e.npz'}: {said}",)


def test_splits_are_parts(tmp_path):
    whole(tmp_path / "e.npz", splits=np.array(["Train", "dev", "testing"] * 3))
    content = read_embeddings(tmp_path / "e.npz")
    assert list(content.parts) == ["train", "val", "test"]
    assert np.array_equal(content.parts["val"].read(0, 3), VECTORS[1::3])
    assert content.parts["val"].labels.tolist() == ["dog"] * 3
    assert content.parts["test"].paths.tolist() == [str(tmp_path / path) for path in PATHS[2::3]]
    whole(tmp_path / "e.npz", splits=np.array(["holdout"] * 9))
    with pytest.raises(ValueError, match=r"no split 'holdout'; splits are train, val, test, unlabeled"):
        read_embeddings(tmp_path / "e.npz")


ORDER = [8, 1, 0, 3, 7, 4]
TABLE = {"path": PATHS[ORDER], "kind": LABELS[ORDER], "split": np.array(["train", "test"] * 3)}


def write_table(file, columns):
    if file.suffix == ".parquet":
        pq.write_table(pa.table({name: values.tolist() for name, values in columns.items()}), file)
        return
    apart = {"tabs.tsv": "\t", "semicolons.csv": ";"}.get(file.name, ",")
    file.write_text("\n".join(apart.join(row) for row in [columns, *zip(*columns.values(), strict=True)]))


@pytest.mark.parametrize("name", ["commas.csv", "semicolons.csv", "tabs.tsv", "table.parquet"])
def test_a_table_finds_its_vectors_by_path(tmp_path, name):
    np.savez(tmp_path / "e.npz", embeddings=VECTORS, paths=PATHS, labels=np.zeros(9, int))
    gone = {
        key: np.append(values, value)
        for (key, values), value in zip(TABLE.items(), ("b.png", "cat", "train"), strict=True)
    }
    write_table(tmp_path / name, gone)
    content = read_embeddings(tmp_path / "e.npz", tmp_path / name, label="kind")
    expected = {"train": [0, 7, 8], "test": [1, 3, 4], "unlabeled": [2, 5, 6]}
    assert {split: part.paths.tolist() for split, part in content.parts.items()} == {
        split: [str(tmp_path / PATHS[k]) for k in rows] for split, rows in expected.items()
    }
    for split, rows in expected.items():
        assert np.array_equal(content.parts[split].read(0, 3), VECTORS[rows])
    for split in ("train", "test"):
        assert content.parts[split].labels.tolist() == LABELS[expected[split]].tolist()
    assert content.parts["unlabeled"].labels.tolist() == [""] * 3
    said = ["no row for 3 of 9 images; these have no label", "1 of 7 rows have no vector in"]
    assert all(words in note for words, note in zip(said, content.notes, strict=True))
    with pytest.raises(ValueError, match="label: no column 'sort'; known: kind, path, split"):
        read_embeddings(tmp_path / "e.npz", tmp_path / name, label="sort")
    write_table(tmp_path / name, {"kind": LABELS, "sort": LABELS})
    with pytest.raises(ValueError, match="has the columns kind, sort; name that of the labels, label: COLUMN"):
        read_embeddings(tmp_path / "e.npz", tmp_path / name)


PLACES = [f"a/{number}" for number in range(9)]


@pytest.mark.parametrize(
    ("images", "rows"),
    [
        (PATHS, PLACES),
        (PLACES, PATHS),
        (PATHS, [path.upper() for path in PATHS]),
        (PATHS, [*PLACES[:4], *PATHS[4:]]),
        ([*PATHS[:8], "a/0.jpg"], [*PATHS[:8], "a/0.jpg"]),
    ],
)
def test_paths_may_lack_their_ending_or_be_in_another_case(tmp_path, images, rows):
    np.savez(tmp_path / "e.npz", embeddings=VECTORS, paths=images)
    write_table(tmp_path / "l.csv", {"path": rows[::-1], "label": [f"c{k}" for k in range(9)][::-1]})
    content = read_embeddings(tmp_path / "e.npz", tmp_path / "l.csv")
    assert content.parts["all"].labels.tolist() == [f"c{k}" for k in range(9)]
    assert content.notes == ()


@pytest.mark.parametrize(
    ("images", "rows", "words"),
    [
        (["0.png", "0.jpg"], ["0", "1"], "/0 may be .*/0.png or .*/0.jpg"),
        (["0.png", "1.png"], ["0.png", "0"], "/0 and .*/0.png are one image; leave one out"),
        (["0.png", "1.png"], ["0.jpg", "1.jpg"], "knows none of the images"),
    ],
)
def test_paths_that_are_not_clearly_alike_are_named(tmp_path, images, rows, words):
    np.savez(tmp_path / "e.npz", embeddings=VECTORS[:2], paths=images)
    write_table(tmp_path / "l.csv", {"path": rows, "label": ["a", "b"]})
    with pytest.raises(ValueError, match=words):
        read_embeddings(tmp_path / "e.npz", tmp_path / "l.csv")


def test_a_table_without_paths_goes_row_by_row(tmp_path):
    np.save(tmp_path / "e.npy", VECTORS)
    write_table(tmp_path / "labels.csv", {"label": LABELS, "path": PATHS})
    np.save(tmp_path / "labels.npy", np.arange(9))
    (part,) = read_embeddings(tmp_path / "e.npy", tmp_path / "labels.csv").parts.values()
    assert (part.labels.tolist(), part.paths[8]) == (LABELS.tolist(), str(tmp_path / PATHS[8]))
    (part,) = read_embeddings(tmp_path / "e.npy", tmp_path / "labels.npy").parts.values()
    assert (part.labels.tolist(), part.paths) == (list(range(9)), None)
    write_table(tmp_path / "labels.csv", {"label": LABELS[:8]})
    with pytest.raises(ValueError, match=r"labels.csv has 8 rows, and .*e.npy 9 vectors"):
        read_embeddings(tmp_path / "e.npy", tmp_path / "labels.csv")


WRONG = {
    "x_train [9] floats": (
        {"x_train": VECTORS[:, 0]},
        r"train: the vectors are float16 \[9\]; floats \[N, D\] are needed",
    ),
    "whole numbers": ({"embeddings": np.ones((9, 4), int)}, r"the vectors are int64 \[9, 4\]; floats"),
    "images": ({"x_train": np.ones((9, 8, 8, 3), np.uint8)}, "as images are; the data set npz reads those"),
    "nothing called so": ({"vectors": VECTORS, "why": LABELS}, "holds vectors, why; vectors are called embeddings"),
    "no rows": ({"embeddings": VECTORS[:0]}, "there are none"),
    "fewer labels": ({"embeddings": VECTORS, "labels": LABELS[:8]}, r"9 vectors, but labels \[8\]"),
    "two answers": ({"embeddings": VECTORS, "x": VECTORS}, "embeddings and x could both be the embeddings"),
    "lengths differ": ({"x_train": VECTORS, "x_test": VECTORS[:, :3]}, r"different lengths \(train: 4, test: 3\)"),
    "Python objects": (
        {"embeddings": np.array([[None]])},
        "e.npz is not an .npz file of plain arrays: embeddings.npy holds Python objects; save it as a plain",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(tmp_path, case):
    arrays, words = WRONG[case]
    np.savez(tmp_path / "e.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        read_embeddings(tmp_path / "e.npz")


def test_vectors_that_are_not_finite_are_named(tmp_path):
    vectors = VECTORS.copy()
    vectors[7, 2] = np.nan
    np.savez(tmp_path / "e.npz", embeddings=vectors, paths=PATHS)
    (part,) = read_embeddings(tmp_path / "e.npz").parts.values()
    assert len(part.read(0, 7)) == 7
    with pytest.raises(BrokenImagesError, match=r"e.npz: vector 7 \(.*a/7.png\) holds NaN or infinity"):
        part.read(5, 9)


def test_all_vectors_that_are_broken_are_named_at_once_each_with_what_it_holds(tmp_path):
    vectors = VECTORS.astype(np.float64)
    vectors[2, 1], vectors[4, 0] = np.inf, 1e300
    np.savez(tmp_path / "e.npz", embeddings=vectors)
    (part,) = read_embeddings(tmp_path / "e.npz").parts.values()
    with pytest.raises(BrokenImagesError) as raised:
        part.read(1, 9)
    assert list(raised.value.reasons) == [2, 4]
    assert raised.value.reasons[2].endswith("e.npz: vector 2 holds NaN or infinity")
    assert raised.value.reasons[4].endswith("e.npz: vector 4 holds a number too large for float32")


@pytest.mark.parametrize("name", ["e.npz", "e.npy", "e.parquet"])
def test_a_file_that_is_no_such_file_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f"no file .*{name}"):
        read_embeddings(tmp_path / name)
    (tmp_path / name).write_text("no file of this kind")
    with pytest.raises(ValueError, match=f"{name} is not an? "):
        read_embeddings(tmp_path / name)


def test_arrays_that_are_not_read_are_named(tmp_path):
    whole(tmp_path / "e.npz", model=np.array("vit"), created=np.array(2026))
    assert read_embeddings(tmp_path / "e.npz").notes == (f"{tmp_path / 'e.npz'}: created, model are not read",)


def of_bytes(texts):
    return np.array([text.encode() for text in texts])


def test_bytes_are_texts(tmp_path):
    names, files, splits = ["café", "dog", "ant"], ["é.png", *PATHS[1:]], ["train", "train", "test"] * 3
    arrays = {"class_names": of_bytes(names), "paths": of_bytes(files), "splits": of_bytes(splits)}
    np.savez(tmp_path / "e.npz", embeddings=VECTORS, labels=of_bytes(names * 3), **arrays)
    content = read_embeddings(tmp_path / "e.npz")
    assert content.class_names == tuple(names)
    assert content.parts["test"].labels.tolist() == ["ant"] * 3
    assert content.parts["train"].labels.tolist()[:2] == names[:2]
    assert content.parts["train"].paths[0] == str(tmp_path / "é.png")


def test_binary_columns_are_texts(tmp_path):
    columns = {"label": [b"cat", None, b"dog"], "path": [b"0.png", b"1.png", b"2.png"], "e0": [0.0, 1.0, 2.0]}
    pq.write_table(pa.table(columns), tmp_path / "e.parquet")
    (part,) = read_embeddings(tmp_path / "e.parquet").parts.values()
    assert part.labels.tolist() == ["cat", "", "dog"]
    assert part.paths.tolist() == [str(tmp_path / f"{number}.png") for number in range(3)]


@pytest.mark.parametrize("name", ["e.npz", "folder"])
def test_an_array_of_objects_that_nobody_needs_is_named_and_not_read(tmp_path, name):
    captions = np.array(["a", None] * 4 + ["b"], dtype=object)
    if name == "e.npz":
        whole(tmp_path / name, captions=captions)
    else:
        (tmp_path / name).mkdir()
        for array, values in {"embeddings": VECTORS, "labels": LABELS, "captions": captions}.items():
            np.save(tmp_path / name / f"{array}.npy", values)
    content = read_embeddings(tmp_path / name)
    assert content.parts["all"].labels.tolist() == LABELS.tolist()
    assert content.notes == (f"{tmp_path / name}: captions is not read",)


def test_other_columns_of_a_parquet_file_are_not_read(tmp_path):
    captions = ["short"] * 299 + ["x" * 100_000]
    pq.write_table(
        pa.table({"caption": captions, "e0": np.ones(300), "label": [0, 1, 2] * 100}), tmp_path / "e.parquet"
    )
    tracemalloc.start()
    content = read_embeddings(tmp_path / "e.parquet")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert content.notes == (f"{tmp_path / 'e.parquet'}: caption is not read",)
    assert peak < 10 << 20
