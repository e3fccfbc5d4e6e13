"""Data sets of Hugging Face on disk, in files as the package `datasets` 5.2 writes them."""

import io

import numpy as np
import pyarrow as pa
import pytest
import torch
from data_files import png, save_split, table_of
from PIL import ExifTags, Image
from pyarrow import parquet

from baselines.datasets.huggingface import HuggingFace
from harness.data.decode import prepare

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 3, 7, 6), dtype=np.uint8)
FILES = [png(image) for image in IMAGES]
LABELS = [number % 3 for number in range(30)]
NAMES = ["cow", "ant", "bee"]


@pytest.fixture
def saved(tmp_path):
    root = tmp_path / "saved"
    save_split(root / "train", FILES[:20], LABELS[:20], names=NAMES)
    save_split(root / "validation", FILES[20:26], LABELS[20:26], shards=1, names=NAMES)
    save_split(root / "test", FILES[26:], [-1] * 4, shards=1, names=NAMES)
    (root / "dataset_dict.json").write_text("{}")
    return root


def test_a_saved_data_set_is_read_with_its_splits_and_names(saved):
    source = HuggingFace(path=str(saved)).open()
    assert source.class_names == tuple(NAMES)
    assert torch.equal(source.splits["train"].read(8, 17), torch.from_numpy(IMAGES[8:17]))
    assert torch.equal(source.splits["val"].read(0, 6), torch.from_numpy(IMAGES[20:26]))
    assert source.splits["val"].labels.tolist() == LABELS[20:26]
    assert "test" not in source.splits
    assert any("split test is left out, for it has no labels" in note for note in source.notes)


def test_one_split_alone_is_the_training_set(saved):
    source = HuggingFace(path=str(saved / "validation")).open()
    assert list(source.splits) == ["train"]
    assert source.splits["train"].num_images == 6


def test_parquet_files_of_the_hub_are_read_in_any_order_by_row_groups(tmp_path):
    for split, (first, last) in {"train": (0, 20), "test": (20, 30)}.items():
        table = table_of(FILES[first:last], LABELS[first:last], NAMES, ("img", "fine_label"))
        (tmp_path / "data").mkdir(exist_ok=True)
        parquet.write_table(table, tmp_path / f"data/{split}-00000-of-00001.parquet", row_group_size=6)
    source = HuggingFace(path=str(tmp_path), size=7).open()
    assert {name: split.num_images for name, split in source.splits.items()} == {"train": 20, "test": 10}
    assert source.image_shape == (3, 7, 7)
    source = HuggingFace(path=str(tmp_path)).open()
    prepared = prepare(HuggingFace(path=str(tmp_path)), "hub", tmp_path / "cache")
    assert torch.equal(prepared.images["train"], torch.from_numpy(IMAGES[:20]))
    assert prepared.labels["test"].tolist() == LABELS[20:]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("default/train/0000", "default/test/0000"),
        ("cifar10-train", "cifar10-test"),
        ("train_00", "test_00"),
        ("Training/a", "TestData/a"),
    ],
)
def test_a_split_is_named_anywhere_in_the_path_of_a_file(tmp_path, train, test):
    for name, (first, last) in {train: (0, 20), test: (20, 30)}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table_of(FILES[first:last], LABELS[first:last], NAMES), tmp_path / f"{name}.parquet")
    source = HuggingFace(path=str(tmp_path)).open()
    assert {name: split.num_images for name, split in source.splits.items()} == {"train": 20, "test": 10}
    parquet.write_table(table_of(FILES, LABELS, NAMES), tmp_path / "0.parquet")
    with pytest.raises(ValueError, match=r"0\.parquet names no split, or several; they are train, val, .*as in "):
        HuggingFace(path=str(tmp_path)).open()


def test_files_of_which_none_names_a_split_are_training_images(tmp_path):
    for number in range(2):
        parquet.write_table(table_of(FILES[:9], LABELS[:9], NAMES), tmp_path / f"part-{number}.parquet")
    assert HuggingFace(path=str(tmp_path)).open().splits["train"].num_images == 18


WHOLE = {"several": ("train-00000-of-00002", "train-00001-of-00002"), "counted from 1": ("train-1-of-1",)}
WHOLE["as older hubs name them"] = ("train-00000-of-00002-a09b74b3ef9c3b56", "train-00001-of-00002-0f3c")
NOT_WHOLE = {
    "one of five": (("train-00000-of-00005",), "train-00000-of-00005.*: 1 of 5 files are there; number 1 is missing"),
    "the middle": (("test-0-of-3", "test-2-of-3"), "test-0-of-3.*: 2 of 3 files are there; number 1 is missing"),
    "two versions": (("train-0-of-1", "train-0-of-2", "train-1-of-2"), "-0-of-1.* and .*-0-of-2.* are of two versions"),
    "a file twice": (("train-0-of-1-ab", "train-0-of-1-cd"), "-1-ab.* and .*-1-cd.* are of two versions"),
}


@pytest.mark.parametrize("case", WHOLE)
def test_numbered_files_are_read_where_all_are_there(tmp_path, case):
    for name in WHOLE[case]:
        parquet.write_table(table_of(FILES[:9], LABELS[:9], NAMES), tmp_path / f"{name}.parquet")
    assert HuggingFace(path=str(tmp_path)).open().splits["train"].num_images == 9 * len(WHOLE[case])


@pytest.mark.parametrize("case", NOT_WHOLE)
def test_numbered_files_that_are_not_all_there_are_not_taken_for_the_whole(tmp_path, case):
    names, words = NOT_WHOLE[case]
    (tmp_path / "data").mkdir()
    for name in {*names, "train"}:
        parquet.write_table(table_of(FILES[:9], LABELS[:9], NAMES), tmp_path / f"data/{name}.parquet")
    with pytest.raises(ValueError, match=words):
        HuggingFace(path=str(tmp_path)).identity()


@pytest.mark.parametrize("name", ["train-00000-of-00001", "train/0000"])
def test_configurations_are_not_joined(tmp_path, name):
    for configuration in ("large", "small"):
        file = tmp_path / configuration / f"{name}.parquet"
        file.parent.mkdir(parents=True)
        parquet.write_table(table_of(FILES[:9], LABELS[:9], NAMES), file)
    with pytest.raises(ValueError, match=rf"train is in large and small, .*: path: {tmp_path}/large"):
        HuggingFace(path=str(tmp_path)).identity()
    assert HuggingFace(path=str(tmp_path / "small")).open().splits["train"].num_images == 9


@pytest.mark.parametrize("stems", [("a/b", "c/b"), ("train/a", "train/b"), ("cifar10-train", "cifar100-train")])
def test_files_of_several_names_that_make_one_split_are_told(tmp_path, stems):
    for stem in stems:
        file = tmp_path / f"{stem}-0-of-1.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table_of(FILES[:9], LABELS[:9], NAMES), file)
    source = HuggingFace(path=str(tmp_path)).open()
    assert source.splits["train"].num_images == 18
    assert f"{tmp_path}: split train is made of {stems[0]}-* and {stems[1]}-*" in source.notes


def test_a_folder_that_is_called_like_somebodys_home_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "~nobody-at-all"
    folder.mkdir()
    parquet.write_table(table_of(FILES[:9], LABELS[:9], NAMES), folder / "train.parquet")
    assert HuggingFace(path=folder.name).open().splits["train"].num_images == 9


def test_names_are_composed_and_a_missing_text_is_no_label(tmp_path):
    animals = ["cafe\u0301", "caf\u00e9", "", None, "dog", "dog"]
    parquet.write_table(pa.table({"image": FILES[:6], "label": animals}), tmp_path / "train.parquet")
    parquet.write_table(pa.table({"image": FILES[6:8], "label": ["dog", None]}), tmp_path / "test.parquet")
    source = HuggingFace(path=str(tmp_path)).open()
    assert source.class_names == ("caf\u00e9", "dog")
    assert source.splits["train"].labels.tolist() == [0, 0, 1, 1]
    assert torch.equal(source.splits["unlabeled"].read(0, 2), torch.from_numpy(IMAGES[2:4]))
    assert source.splits["unlabeled"].names == ["train 2", "train 3"]
    assert torch.equal(source.splits["test"].read(0, 1), torch.from_numpy(IMAGES[6:7]))
    assert source.tally == {"left_out": 1}


def test_labels_of_bytes_are_texts(tmp_path):
    labels = [animal.encode() for animal in ("café", "dog")]
    parquet.write_table(pa.table({"image": FILES[:3], "label": [*labels, None]}), tmp_path / "train.parquet")
    source = HuggingFace(path=str(tmp_path)).open()
    assert source.class_names == ("café", "dog")
    assert source.splits["train"].labels.tolist() == [0, 1]
    assert source.splits["unlabeled"].names == ["train 2"]


def lay(folder, **parts):
    for name, columns in parts.items():
        parquet.write_table(pa.table(columns), folder / f"{name}.parquet")
    return HuggingFace(path=str(folder), size=7)


LABELED = {"image": FILES[:4], "label": [3, 7, 3, 7]}


def test_a_split_without_the_column_of_labels_is_left_out_which_is_said(tmp_path):
    source = lay(tmp_path, train=LABELED, test={"image": FILES[4:9]}).open()
    assert list(source.splits) == ["train"]
    assert (source.class_names, source.tally) == (("3", "7"), {"left_out": 5})
    said = "split test is left out, for it has no labels (there is no column 'label', but image)"
    assert f"{tmp_path}: {said}" in source.notes


@pytest.mark.parametrize("missing", [None, -1])
def test_a_number_that_is_missing_is_no_label(tmp_path, missing):
    labels = {"image": FILES[:4], "label": [0, missing, 1, missing]}
    source = lay(tmp_path, train=labels, validation=LABELED | {"label": [1, None, 0, None]}).open()
    assert source.splits["train"].labels.tolist() == [0, 1]
    assert source.splits["unlabeled"].names == ["train 1", "train 3"]
    assert source.splits["val"].labels.tolist() == [1, 0]


WRONG_COLUMNS = {
    "another name": ({"test": {"img": FILES[:2], "label": [3, 7]}}, "split test has no column 'image', as other"),
    "a shard without images": (
        {"train-1": {"label": [3], "file": FILES[:1]}},
        "file .*train-1.parquet has no column 'image'",
    ),
    "a shard without labels": ({"train-1": {"image": FILES[:1]}}, "file .*train-1.parquet has no column 'label'"),
    "half of a test": (
        {"test-0": LABELED, "test-1": {"image": FILES[:1]}},
        "file .*test-1.parquet has no column 'label', as other files have; there are image",
    ),
    "lists": (
        {"train": {"image": [[1, 2], [3, 4]], "label": [3, 7]}},
        "image of train are list<.*; images are the bytes",
    ),
    "numbers": ({"train": {"image": [1, 2], "label": [3, 7]}}, "image of train are int64; images are the bytes"),
    "ragged": (
        {"train": {"image": FILES[:2], "label": [[0], [1, 2]]}},
        "label of train are lists of several lengths; one label an image is needed",
    ),
}


@pytest.mark.parametrize("case", WRONG_COLUMNS)
def test_columns_are_looked_at_in_every_file(tmp_path, case):
    parts, words = WRONG_COLUMNS[case]
    with pytest.raises(ValueError, match=f"^{tmp_path}: {words}"):
        lay(tmp_path, **({"train": LABELED} | parts)).open()


def test_photographs_are_turned_as_their_orientation_says(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stream = io.BytesIO()
    Image.fromarray(IMAGES[0].transpose(1, 2, 0)).save(stream, "png", exif=exif)
    parquet.write_table(table_of([stream.getvalue()] * 2, [0, 1], NAMES), tmp_path / "train.parquet")
    turned, kept = (HuggingFace(path=str(tmp_path), upright=upright) for upright in (True, False))
    assert turned.identity() != kept.identity()
    assert torch.equal(kept.open().splits["train"].read(0, 1)[0], torch.from_numpy(IMAGES[0]))
    expected = torch.from_numpy(IMAGES[0]).rot90(-1, (1, 2))
    assert torch.equal(turned.open().splits["train"].read(0, 1)[0], expected)


def test_plain_parquet_with_strings_and_paths_is_read(tmp_path):
    for position, file in enumerate(FILES[:6]):
        (tmp_path / f"{position}.png").write_bytes(file)
    animals = [NAMES[label] for label in LABELS[:6]]
    paths = [str(tmp_path / f"{position}.png") for position in range(6)]
    parquet.write_table(pa.table({"image": paths, "label": animals}), tmp_path / "mine.parquet")
    source = HuggingFace(path=str(tmp_path / "mine.parquet")).open()
    assert source.class_names == ("ant", "bee", "cow")
    assert [source.class_names[label] for label in source.splits["train"].labels] == animals
    assert torch.equal(source.splits["train"].read(0, 6), torch.from_numpy(IMAGES[:6]))


TEXTS = {"dictionary": pa.dictionary(pa.int32(), pa.string()), "large": pa.large_string(), "view": pa.string_view()}


@pytest.mark.parametrize(
    "form",
    ["texts.parquet", "dictionary.parquet", "large.arrow", "view.arrow", "records.parquet", "records.arrow"],
)
def test_another_image_in_a_file_that_is_named_makes_another_data_set(tmp_path, form):
    (tmp_path / "0.png").write_bytes(FILES[0])
    images = [str(tmp_path / name) for name in ("0.png", "gone.png")]
    if form.startswith("records"):
        images = [{"bytes": FILES[2], "path": "2.png"}, *({"bytes": None, "path": image} for image in images)]
    column = pa.array(images, TEXTS.get(form.partition(".")[0]))
    table = pa.table({"image": column, "label": list(range(len(images)))})
    if form.endswith("parquet"):
        parquet.write_table(table, tmp_path / form)
    else:
        with pa.OSFile(str(tmp_path / form), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    dataset = HuggingFace(path=str(tmp_path / form))
    before = dataset.identity()
    assert dataset.identity() == before
    (tmp_path / "0.png").write_bytes(FILES[1])
    assert dataset.identity() != before


def test_the_names_beside_bytes_are_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = [{"bytes": file, "path": f"{number}.png"} for number, file in enumerate(FILES[:3])]
    parquet.write_table(pa.table({"image": images, "label": LABELS[:3]}), tmp_path / "set.parquet")
    before = HuggingFace(path="set.parquet").identity()
    (tmp_path / "0.png").write_bytes(FILES[0])
    assert HuggingFace(path="set.parquet").identity() == before
    assert before.splitlines()[1:] == ["None None None 3 True"]


def test_the_column_is_asked_for_where_several_may_be_it(tmp_path):
    table = pa.table({"image": FILES, "fine_label": LABELS, "label": [0, 1] * 15})
    parquet.write_table(table, tmp_path / "two.parquet")
    path = str(tmp_path / "two.parquet")
    with pytest.raises(ValueError, match="set `label`, the column of labels: fine_label and label may be it"):
        HuggingFace(path=path).open()
    assert HuggingFace(path=path, label="label").open().class_names == ("0", "1")
    with pytest.raises(ValueError, match=r"image: no column 'pixels'; there are image, fine_label, label"):
        HuggingFace(path=path, image="pixels", label="label").open()


def test_broken_images_are_named_by_split_and_row_all_at_once(saved):
    save_split(saved.parent / "bad", [b"no", *FILES[1:9], b"image"], LABELS[:10], names=NAMES)
    dataset = HuggingFace(path=str(saved.parent / "bad"))
    with pytest.raises(ValueError, match=r"2 broken images: cannot decode train 0: .*; cannot decode train 9: "):
        prepare(dataset, "bad", saved.parent / "cache")
    prepared = prepare(dataset, "bad", saved.parent / "cache", skip_broken=True)
    assert torch.equal(prepared.images["train"], torch.from_numpy(IMAGES[1:9]))
    assert prepared.labels["train"].tolist() == LABELS[1:9]


def test_what_is_missing_or_damaged_is_named(tmp_path, saved):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        HuggingFace(path=str(tmp_path / "nowhere")).identity()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match="holds no split train: neither"):
        HuggingFace(path=str(empty)).identity()
    file = saved / "train/data-00000-of-00002.arrow"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"data-00000-of-00002\.arrow"):
        HuggingFace(path=str(saved)).open()
    file.unlink()
    with pytest.raises(ValueError, match=r"train is not whole: no .*data-00000-of-00002\.arrow"):
        HuggingFace(path=str(saved)).open()


def test_a_saved_part_that_is_more_than_a_split_is_refused_and_not_joined(saved):
    save_split(saved / "train_extra", FILES[:10], LABELS[:10], names=NAMES)
    with pytest.raises(ValueError, match="train_extra names no split, or several"):
        HuggingFace(path=str(saved)).open()
