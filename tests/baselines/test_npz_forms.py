"""Arrays as people really have them: under MedMNIST's names, as floats, counted from 1, one-hot, as strings."""

import re
import tracemalloc

import numpy as np
import pytest
import torch

from baselines.datasets.array_labels import labels_of
from baselines.datasets.npz import Npz
from harness.data.decode import prepare

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(12) % 4
CHANNELS_FIRST = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy())


def opened(tmp_path, save=np.savez, **arrays):
    save(tmp_path / "set.npz", **arrays)
    return Npz(path=str(tmp_path / "set.npz")).open()


def refusal(tmp_path, **arrays):
    with pytest.raises(ValueError, match=r"set\.npz") as caught:
        opened(tmp_path, **arrays)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("image_name", "label_name"),
    [
        ("{}_images", "{}_labels"),
        ("x_{}", "y_{}"),
        ("X_{}", "Y_{}"),
        ("{}_data", "{}_targets"),
        ("images_{}", "labels_{}"),
    ],
)
@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_every_naming_in_use_is_read_in_all_its_splits(tmp_path, image_name, label_name, val):
    arrays = {}
    for split, (first, last) in {"train": (0, 6), val: (6, 9), "test": (9, 12)}.items():
        arrays |= {image_name.format(split): IMAGES[first:last], label_name.format(split): LABELS[first:last, None] % 2}
    source = opened(tmp_path, **arrays)
    assert {name: split.num_images for name, split in source.splits.items()} == {"train": 6, "val": 3, "test": 3}
    assert torch.equal(source.splits["val"].read(0, 3), CHANNELS_FIRST[6:9])
    assert source.splits["test"].labels.tolist() == [1, 0, 1]
    assert source.notes == ()


def test_arrays_without_a_split_are_training_images_and_unknown_ones_are_named(tmp_path):
    source = opened(tmp_path, X=IMAGES, y=LABELS, groups=np.arange(12), notes=np.array({"a": 1}, dtype=object))
    assert list(source.splits) == ["train"]
    (note,) = source.notes
    assert note.endswith("set.npz: not used: groups (int64 [12]), notes (object [])")


def test_what_is_not_understood_is_named_with_what_is_there(tmp_path):
    np.savez(tmp_path / "set.npz", IMAGES, LABELS)
    with pytest.raises(
        ValueError, match=r"holds no x_train and no y_train; it holds arr_0 \(uint8 \[12, 6, 5, 3\]\), arr_1"
    ):
        Npz(path=str(tmp_path / "set.npz")).open()
    assert "x_train and train_images are both images of train" in refusal(
        tmp_path, x_train=IMAGES, y_train=LABELS, train_images=IMAGES
    )
    objects = np.array(["a", "b"] * 6, dtype=object)
    assert "y_train holds Python objects; save it as a plain array" in refusal(
        tmp_path, x_train=IMAGES, y_train=objects
    )


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ((IMAGES / 255).astype(np.float32), "float32 in [0, 1], scaled to 0 .. 255"),
        ((IMAGES / 255).astype(np.float16), "float16 in [0, 1], scaled to 0 .. 255"),
        (IMAGES.astype(np.float64), "float64 up to 255, taken as 0 .. 255"),
        (IMAGES.astype(np.int64), "int64 up to 255, taken as 0 .. 255"),
        (IMAGES.astype(np.uint16) * 257, "uint16 up to 65535, 0 .. 65535 scaled"),
        ((IMAGES.astype(np.uint16) * 257).astype(">u2"), "uint16 up to 65535, 0 .. 65535 scaled"),
        ((IMAGES / 255).astype(">f4"), "float32 in [0, 1], scaled to 0 .. 255"),
    ],
)
def test_other_numbers_than_bytes_become_the_same_pixels_which_is_said(tmp_path, images, said):
    source = opened(tmp_path, x_train=images, y_train=LABELS)
    assert torch.equal(source.splits["train"].read(2, 7), CHANNELS_FIRST[2:7])
    (note,) = source.notes
    assert said in note


def lightened(images, highest):
    images = (images / 255).astype(highest.dtype)
    images[0, 0, 0, 0] = highest
    return images


@pytest.mark.parametrize(
    "highest", [np.nextafter(np.float32(1), np.float32(2)), np.float64(1.0000001), np.float16(1.001)]
)
def test_floats_within_rounding_of_1_are_scaled(tmp_path, highest):
    source = opened(tmp_path, x_train=lightened(IMAGES, highest), y_train=LABELS)
    expected = CHANNELS_FIRST[:3].clone()
    expected[0, 0, 0, 0] = 255
    assert torch.equal(source.splits["train"].read(0, 3), expected)
    assert "in [0, 1], scaled to 0 .. 255" in source.notes[0]


@pytest.mark.parametrize("highest", [np.float32(1.02), np.float64(2.0), np.float16(1.1)])
def test_floats_a_little_above_1_are_refused_and_not_made_black(tmp_path, highest):
    message = refusal(tmp_path, x_train=lightened(IMAGES, highest), y_train=LABELS)
    assert f"up to {highest:g}: above [0, 1], and almost black as 0 .. 255" in message
    assert "numpy.clip(images, 0, 1)" in message


def test_floats_a_rounding_below_0_are_0(tmp_path):
    images = IMAGES.astype(np.float32)
    images[0, 0, 0] = -1e-7
    source = opened(tmp_path, x_train=images, y_train=LABELS)
    assert source.splits["train"].read(0, 1)[0, :, 0, 0].tolist() == [0, 0, 0]


def test_an_empty_label_is_none(tmp_path):
    labels = np.array(["ant", "", "bee", " "] * 3)
    source = opened(
        tmp_path, x_train=IMAGES, y_train=labels, x_test=IMAGES[:3] ^ 1, y_test=np.array(["bee", "", "ant"])
    )
    assert source.class_names == ("ant", "bee")
    assert torch.equal(source.splits["train"].read(1, 4), CHANNELS_FIRST[[2, 4, 6]])
    assert source.splits["train"].labels.tolist() == [0, 1] * 3
    assert torch.equal(source.splits["unlabeled"].read(0, 6), CHANNELS_FIRST[1::2])
    assert source.splits["test"].labels.tolist() == [1, 0]
    assert torch.equal(source.splits["test"].read(0, 2), CHANNELS_FIRST[[0, 2]] ^ 1)
    assert source.tally == {"left_out": 1}
    notes = "\n".join(source.notes)
    assert "6 training images have no label (it is empty, -1 or NaN) and are for pre-training only" in notes
    assert "1 images of the split test are left out, which have no label (it is empty, -1 or NaN)" in notes
    assert "y_train holds no label: all are empty" in refusal(tmp_path, x_train=IMAGES, y_train=np.array([""] * 12))


@pytest.mark.parametrize("names", [None, ["cafe\u0301", "tea"]])
def test_labels_that_look_the_same_are_one_class_composed(names):
    read = labels_of({"train": ("y", np.array(["cafe\u0301", "caf\u00e9", "tea"]))}, names and np.array(names))
    assert read.class_names == ("caf\u00e9", "tea")
    assert read.of["train"].tolist() == [0, 0, 1]


def test_booleans_are_black_and_white_and_types_may_not_be_mixed(tmp_path):
    source = opened(tmp_path, x_train=IMAGES > 127, y_train=LABELS)
    assert torch.equal(source.splits["train"].read(0, 12), (CHANNELS_FIRST > 127).to(torch.uint8) * 255)
    assert "differ in type" in refusal(tmp_path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES / 255, y_test=LABELS)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.uint16])
def test_numbers_that_are_0_or_1_are_black_and_white_unless_one_is_above(tmp_path, kind):
    binary = (IMAGES > 127).astype(kind)
    source = opened(tmp_path, x_train=binary, y_train=LABELS, x_test=binary[:3], y_test=LABELS[:3])
    assert torch.equal(source.splits["train"].read(0, 12), (CHANNELS_FIRST > 127).to(torch.uint8) * 255)
    assert source.notes == (f"{tmp_path / 'set.npz'}: images are {np.dtype(kind)}, 0 or 1, scaled to 0 and 255",)
    assert source.tally == {"scaled": 15}
    source = opened(tmp_path, x_train=binary, y_train=LABELS, x_test=binary[:3] * 2, y_test=LABELS[:3])
    assert source.splits["train"].read(0, 12).max() == 1


ANIMALS = ("ant", "bee", "cat", "dog")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (LABELS, "0123"),
        (LABELS.astype(np.float32), "0123"),
        (LABELS[:, None].astype(np.uint8), "0123"),
        (np.eye(4)[LABELS], "0123"),
        (np.eye(4, dtype=bool)[LABELS], "0123"),
        (LABELS + 1, "1234"),
        (np.array(ANIMALS)[LABELS], ANIMALS),
        (np.array(ANIMALS, dtype="S")[LABELS][:, None], ANIMALS),
    ],
)
def test_labels_of_every_form_are_the_same_classes(labels, names):
    read = labels_of({"train": ("y_train", labels), "test": ("y_test", labels[:5])}, None)
    assert read.of["train"].tolist() == LABELS.tolist()
    assert read.of["test"].tolist() == LABELS[:5].tolist()
    assert read.of["train"].dtype == np.int64
    assert read.class_names == tuple(names)
    assert bool(read.notes) == (names == "1234")


def test_booleans_are_two_classes_and_names_go_with_any_form():
    read = labels_of({"train": ("y", LABELS > 1)}, None)
    assert (read.class_names, read.of["train"].tolist()) == (("False", "True"), (LABELS > 1).astype(int).tolist())
    for labels in (LABELS, LABELS + 1, np.eye(4)[LABELS], np.array(ANIMALS[::-1])[LABELS]):
        read = labels_of({"train": ("y", labels)}, np.array(ANIMALS[::-1]))
        assert (read.class_names, read.of["train"].tolist()) == (ANIMALS[::-1], LABELS.tolist())


@pytest.mark.parametrize("form", [np.int16, np.float32, np.str_])
def test_whole_numbers_with_gaps_are_names_in_the_order_of_numbers(form):
    read = labels_of({"train": ("y", np.array([3, 10, 700, 10]).astype(form))}, None)
    assert (read.class_names, read.of["train"].tolist()) == (("3", "10", "700"), [0, 1, 2, 1])
    said = ("labels are 3, 10, 700, with gaps: 3 classes, which are called by these numbers",)
    assert read.notes == (() if form is np.str_ else said)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("missing", [-1, np.nan])
def test_numbers_that_stand_for_no_label_are_none_beside_others(first, missing):
    train = np.array([first, first + 1, missing, first + 2])
    read = labels_of({"train": ("y", train), "val": ("y_val", np.array([first + 2, missing]))}, None)
    assert {part: values.tolist() for part, values in read.of.items()} == {"train": [0, 1, -1, 2], "val": [2, -1]}
    assert read.class_names == tuple(str(first + number) for number in range(3))


@pytest.mark.parametrize("names", [None, np.array(["no", "yes"])])
def test_minus_1_and_1_are_one_class_which_is_refused_with_the_reason(names):
    with pytest.raises(ValueError, match=r"y holds one class, 1, for -1 and NaN stand for no label; at least 2"):
        labels_of({"train": ("y", np.array([-1, 1, 1, -1]))}, names)


def test_words_of_programs_for_nothing_are_classes_which_is_said():
    read = labels_of({"train": ("y", np.array(["cat", "NaN", "?", "NaN", ""]))}, None)
    assert read.class_names == ("?", "NaN", "cat")
    assert [note.partition(",")[0] for note in read.notes] == ["1 label is '?'", "2 labels are 'NaN'"]
    assert read.notes[1].endswith("a class of that name; leave the cell empty where there is no label")


@pytest.mark.parametrize(
    ("train", "test", "names", "words"),
    [
        (LABELS, LABELS, ["a", "b"], "class_names holds 2 names, but y_train has labels 0 .. 3"),
        (LABELS * 10, LABELS, None, "y_test holds 1, which y_train does not"),
        (LABELS + 1, LABELS, None, "y_test holds 0, which y_train does not"),
        (LABELS - 2, LABELS, None, "y_train holds -2"),
        (LABELS * 0 - 1, LABELS, None, "y_train holds no label"),
        (LABELS + 0.5, LABELS, None, "y_train holds 0.5"),
        (np.where(LABELS == 3, np.inf, LABELS), LABELS, None, "y_train holds inf"),
        (np.ones((12, 4)), LABELS, None, "not one-hot: row 0 is 1, 1, 1, 1; one label an image is needed"),
        (np.eye(4)[LABELS] * 0.5, LABELS, None, "not one-hot: row 0 is 0.5, 0, 0, 0"),
        (np.array(ANIMALS)[LABELS], np.array(["fox"]), None, "y_test holds 'fox', which y_train does not"),
        (np.array(ANIMALS)[LABELS], LABELS, None, "labels differ in type"),
        (
            np.array(ANIMALS)[LABELS],
            np.array(["ant"]),
            ["ant", "bee", "cow", "dog"],
            "'cat', which class_names does not",
        ),
    ],
)
def test_labels_that_mean_nothing_are_named(train, test, names, words):
    given = {"train": ("y_train", train), "test": ("y_test", test)}
    with pytest.raises(ValueError, match=re.escape(words)):
        labels_of(given, None if names is None else np.array(names))


def test_labels_from_1_in_training_and_from_0_in_testing_are_not_shifted():
    read = labels_of({"train": ("y", LABELS + 1), "test": ("y_test", LABELS)}, np.array(list("abcde")))
    assert read.of["test"].tolist() == LABELS.tolist()
    assert read.of["train"].tolist() == (LABELS + 1).tolist()


def test_equal_class_names_are_refused_for_every_data_set(tmp_path):
    np.savez(tmp_path / "set.npz", x_train=IMAGES, y_train=LABELS, class_names=["a", "b", "a", "d"])
    with pytest.raises(ValueError, match="two classes are called 'a'; class names must differ"):
        prepare(Npz(path=str(tmp_path / "set.npz")), "mine", tmp_path / "cache")


def test_a_folder_of_npy_files_or_one_of_them_is_read(tmp_path):
    for name, array in (("x_train", np.asfortranarray(IMAGES)), ("y_train", LABELS)):
        np.save(tmp_path / f"{name}.npy", array)
    for path in (tmp_path, tmp_path / "x_train.npy"):
        dataset = Npz(path=str(path))
        assert torch.equal(dataset.open().splits["train"].read(3, 9), CHANNELS_FIRST[3:9])
    before = dataset.identity()
    np.save(tmp_path / "y_train.npy", LABELS + 1)
    assert dataset.identity() != before


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_no_more_is_held_than_one_array_and_of_a_plain_file_none(tmp_path, save):
    images = np.tile(IMAGES, (200, 8, 8, 1))  # 9 MB
    labels = np.tile(LABELS, 200)
    save(tmp_path / "set.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    tracemalloc.start()
    splits = Npz(path=str(tmp_path / "set.npz")).open().splits
    for split in splits.values():
        for start in range(0, len(labels), 300):
            split.read(start, start + 300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images.nbytes * (0.6 if save is np.savez else 1.6)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_one_changed_bit_of_the_file_is_noticed(tmp_path, save):
    file = tmp_path / "set.npz"
    save(file, x_train=IMAGES, y_train=LABELS)
    content = bytearray(file.read_bytes())
    content[600] ^= 1  # in the images: header and first values come before
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"set\.npz is not a whole file"):
        prepare(Npz(path=str(file)), "mine", tmp_path / "cache")
