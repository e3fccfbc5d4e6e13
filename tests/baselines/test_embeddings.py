"""The data set `embeddings`: labels of every kind become classes, splits and paths are kept, memory stays flat."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.datasets.embeddings import EmbeddingsDataset, classes_of
from harness.data.decode import prepare
from harness.data.splits import Splitting, open_data
from harness.testing import check_dataset

DRAW = np.random.default_rng(0)
VECTORS = DRAW.normal(size=(40, 6)).astype(np.float16)
LABELS = np.arange(40) % 4


def written(path, **arrays):
    np.savez(path, **arrays)
    return EmbeddingsDataset(path=str(path))


def test_it_keeps_its_promises(tmp_path):
    written(tmp_path / "e.npz", embeddings=VECTORS, labels=LABELS, paths=np.array([f"{k}.png" for k in range(40)]))
    check_dataset(partial(EmbeddingsDataset, path=str(tmp_path / "e.npz")))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_vectors_reach_the_cache_unchanged(tmp_path, dtype):
    arrays = {"x_train": VECTORS[:24].astype(dtype), "y_train": LABELS[:24], "x_test": VECTORS[24:].astype(dtype)}
    dataset = written(tmp_path / "e.npz", **arrays, y_test=LABELS[24:], class_names=np.array(list("abcd")))
    prepared = prepare(dataset, "e", tmp_path / "cache")
    assert prepared.class_names == tuple("abcd")
    assert prepared.image_shape == (6,)
    for split, rows in (("train", slice(24)), ("test", slice(24, None))):
        assert prepared.images[split].dtype == (torch.float16 if dtype == np.float16 else torch.float32)
        assert np.array_equal(prepared.images[split].numpy(), VECTORS[rows])
        assert prepared.labels[split].tolist() == LABELS[rows].tolist()


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    one = prepare(written(tmp_path / "a.npz", embeddings=VECTORS, labels=LABELS), "e", tmp_path)
    same = prepare(written(tmp_path / "b.npz", x_train=VECTORS, y_train=LABELS), "e", tmp_path)
    changed = VECTORS.copy()
    changed[39, 5] += 1
    other = prepare(written(tmp_path / "c.npz", embeddings=changed, labels=LABELS), "e", tmp_path)
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_parts_are_split_and_gathered_as_images_are(tmp_path):
    files = np.array([f"{k}.png" for k in range(40)])
    dataset = written(tmp_path / "e.npz", embeddings=VECTORS, labels=LABELS, paths=files)
    data, _ = open_data(dataset, "e", Splitting(val=8), cache=tmp_path, with_test=True, device="cpu")
    assert (data.pool.shape, data.val.shape, data.test.shape) == ((24, 6), (8, 6), (8, 6))
    assert (data.mean, data.std, data.gives_features) == ((), (), True)
    everything = torch.cat([images[torch.arange(len(images))] for images in (data.pool, data.val, data.test)])
    assert sorted(everything.tolist()) == sorted(VECTORS.astype(float).tolist())
    rows = [VECTORS.tolist().index(vector) for vector in data.val[torch.arange(8)].tolist()]
    assert data.files_of("val", torch.arange(8)) == [str(tmp_path / files[row]) for row in rows]
    assert data.named("val", torch.tensor([3])) == [str(tmp_path / files[rows[3]])]
    assert data.val_labels.tolist() == LABELS[rows].tolist()


def test_training_images_without_a_label_are_said_to_be_in_no_pool(tmp_path):
    labels = np.where(np.arange(40) < 30, LABELS, -1)
    dataset = written(tmp_path / "e.npz", embeddings=VECTORS, labels=labels)
    prepared = prepare(dataset, "e", tmp_path)
    assert prepared.notes == (f"{tmp_path}/e.npz: 10 training images have no label; they are in no pool",)
    assert np.array_equal(prepared.images["train"].numpy(), VECTORS[:30])
    assert np.array_equal(prepared.images["unlabeled"].numpy(), VECTORS[30:])


def test_broken_vectors_are_skipped_on_request(tmp_path):
    vectors = VECTORS.astype(np.float64)
    vectors[3, 0], vectors[7, 1] = np.nan, 1e300
    dataset = written(tmp_path / "e.npz", embeddings=vectors, labels=LABELS)
    with pytest.raises(
        ValueError, match=r"2 broken images: .*vector 3 holds NaN or infinity; .*vector 7 holds a number"
    ):
        prepare(dataset, "e", tmp_path)
    prepared = prepare(dataset, "e", tmp_path, skip_broken=True)
    kept = np.setdiff1d(np.arange(40), [3, 7])
    assert np.array_equal(prepared.images["train"].numpy(), VECTORS[kept])
    assert prepared.labels["train"].tolist() == LABELS[kept].tolist()
    assert prepared.tally["skipped"] == 2


LABEL_KINDS = {
    "from 0": ([0, 1, 2, 1], None, ("0", "1", "2"), [0, 1, 2, 1]),
    "from 1": ([1, 2, 3, 2], None, ("1", "2", "3"), [0, 1, 2, 1]),
    "from 1, with names": ([1, 2, 3, 2], ("a", "b", "c"), ("a", "b", "c"), [0, 1, 2, 1]),
    "positions of names": ([2, 0, 2, 0], ("a", "b", "c"), ("a", "b", "c"), [2, 0, 2, 0]),
    "a column": ([[0], [1], [1], [0]], None, ("0", "1"), [0, 1, 1, 0]),
    "one-hot": ([[0, 1], [1, 0], [0, 1], [0, 1]], None, ("0", "1"), [1, 0, 1, 1]),
    "whole floats": ([1.0, 0.0, np.nan, 1.0], None, ("0", "1"), [1, 0, -1, 1]),
    "true and false": ([True, False, True, True], None, ("False", "True"), [1, 0, 1, 1]),
    "texts": (["dog", "cat", "", " dog "], None, ("cat", "dog"), [1, 0, -1, 1]),
    "texts that are names": (["dog", "cat", "cat", "dog"], ("dog", "cat", "cow"), ("dog", "cat", "cow"), [0, 1, 1, 0]),
    "texts that are numbers": (["1", "0", "", "1"], None, ("0", "1"), [1, 0, -1, 1]),
    "numbers that are names": (["010", "009", "009", "010"], None, ("009", "010"), [1, 0, 0, 1]),
    "numbers with gaps": ([3, 7, 700, 7], None, ("3", "7", "700"), [0, 1, 2, 1]),
    "texts that are numbers with gaps": (["700", "3", "", "7"], None, ("3", "7", "700"), [2, 0, -1, 1]),
    "texts that are positions of names": (["2", "0", "", "1"], ("a", "b", "c"), ("a", "b", "c"), [2, 0, -1, 1]),
    "texts of numbers that are names": (["1", "2"], ("2", "1"), ("2", "1"), [1, 0]),
    "bytes": ([b"dog", b"cat", b"cat", b"cat"], None, ("cat", "dog"), [1, 0, 0, 0]),
}


@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_labels_of_every_kind_become_classes(kind):
    labels, names, expected, indices = LABEL_KINDS[kind]
    split_names, by_split, _ = classes_of("e.npz", {"train": np.array(labels)}, names)
    assert split_names == expected
    assert by_split["train"].tolist() == indices


@pytest.mark.parametrize(
    ("labels", "names", "words"),
    [
        ([0, 1.5, 1, 0], None, "labels of train holds 1.5; labels are whole numbers from 0 on, or strings"),
        ([0, -3, 1, 0], None, "labels of train holds -3"),
        ([0, 1, 2, 3], ("a", "b"), "class_names holds 2 names, but e.npz, labels of train has labels 0 .. 3"),
        (["a", "x"], ("a", "b"), "labels of train holds 'x', which class_names does not"),
        ([[0, 1, 1], [1, 0, 0]], None, r"labels of train is \[2, 3\] and not one-hot"),
    ],
)
def test_labels_that_are_no_classes_are_named(labels, names, words):
    with pytest.raises(ValueError, match=words):
        classes_of("e.npz", {"train": np.array(labels)}, names)


def test_labels_that_are_missing_are_asked_for(tmp_path):
    with pytest.raises(ValueError, match="no labels; give a table with a column label, labels: FILE"):
        written(tmp_path / "e.npz", embeddings=VECTORS).open()
    with pytest.raises(ValueError, match="test: 1 images have no label"):
        written(
            tmp_path / "e.npz",
            x_train=VECTORS,
            y_train=LABELS,
            x_test=VECTORS[:2],
            y_test=np.array([0, -1]),
        ).open()


def test_a_changed_table_is_another_identity(tmp_path):
    np.save(tmp_path / "e.npy", VECTORS)
    np.save(tmp_path / "y.npy", LABELS)
    dataset = EmbeddingsDataset(path=str(tmp_path / "e.npy"), labels=str(tmp_path / "y.npy"))
    before = dataset.identity()
    np.save(tmp_path / "y.npy", np.append(LABELS, 0))
    assert dataset.identity() != before


MEMORY = """
import re, sys, threading, time
import harness

def held():
    with open("/proc/self/status") as file:
        return int(re.search(r"RssAnon:\\s+(\\d+) kB", file.read())[1]) * 1024

def peak_of(path, folder):
    most, ended = [0], threading.Event()
    def watch():
        while not ended.wait(0.01):
            most[0] = max(most[0], held())
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    dataset = {"name": "embeddings", "path": path + ".npy", "labels": path + "_labels.npy"}
    trial = {"dataset": dataset, "backbone": "given", "ssl_method": "none", "classifier": "ridge"}
    trial["labels"] = {"start": 50, "budget": 50, "rounds": 1}
    harness.run_trial(trial, test=True, stages=folder + "/stages", cache=folder + "/cache")
    ended.set()
    watcher.join()
    return most[0]

folder = sys.argv[1]
print(*(peak_of(f"{folder}/{size}", folder) for size in ("warm", "small", "large")))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read where Linux tells it")
def test_embeddings_are_never_whole_in_memory(tmp_path):
    rows, dims = {"warm": 2_000, "small": 30_000, "large": 150_000}, 256
    for size, number in rows.items():
        array = np.lib.format.open_memmap(tmp_path / f"{size}.npy", "w+", np.float16, (number, dims))
        array[:, 0] = np.arange(number) % 10
        array.flush()
        np.save(tmp_path / f"{size}_labels.npy", np.arange(number) % 10)
    command = [sys.executable, "-c", MEMORY, str(tmp_path)]
    _, small, large = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    more = (rows["large"] - rows["small"]) * dims * 2  # bytes, 61 MB: of which nothing may stay
    assert large - small < 0.35 * more
