"""Decoding once, safely, and splitting honestly."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.api import Dataset, Images, Source, Split
from harness.data import pixels, splits
from harness.data.decode import prepare
from harness.data.imbalance import Exponential, Step, label_of
from harness.data.splits import Splitting, open_data


class Synthetic(Dataset):
    """Images that a formula makes, so that any of them can be checked without the rest."""

    def __init__(
        self, *, count=600, classes=4, shape=(3, 5, 7), val=0, test=80, unlabeled=0, version=0, counts=None, broken=None
    ):
        self.count, self.classes, self.shape, self.version, self.broken = count, classes, shape, version, broken
        self.num = {"train": count, "val": val, "test": test, "unlabeled": unlabeled}
        self.counts = counts
        self.reads = 0

    def identity(self):
        return str((self.num, self.classes, self.shape, self.version, self.counts))

    def image(self, split, index):
        seed = {"train": 1, "test": 2, "unlabeled": 3, "val": 4}[split] * 100_003 + index * 7919 + self.version
        return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, self.shape, dtype=np.uint8))

    def labels(self, split):
        if split == "train" and self.counts:
            return torch.cat([torch.full((n,), k) for k, n in enumerate(self.counts)])
        return torch.arange(self.num[split]) % self.classes

    def open(self):
        def part(split):
            def read(start, stop):
                self.reads += stop - start
                if self.broken is not None and start <= self.broken < stop:
                    raise ValueError("cannot decode image")
                return torch.stack([self.image(split, index) for index in range(start, stop)])

            return Split(self.num[split], read, None if split == "unlabeled" else self.labels(split))

        names = tuple(f"class {k}" for k in range(self.classes))
        return Source(self.shape, names, {split: part(split) for split, n in self.num.items() if n})


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(pixels, "CHUNK_BYTES", 7 * 105)  # 7 images of 3 x 5 x 7, and an odd rest


def folder_of(cache):
    (meta,) = cache.glob("*/meta.json")
    return meta.parent


# --- prepare


class Odd(Synthetic):
    """Opens what a function makes of a source."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def open(self):
        return self.change(super().open())


def labelled(change):
    """A function that changes the labels of a source's training images."""
    return lambda source: replace(
        source, splits={"train": replace(source.splits["train"], labels=change(source.splits["train"].labels))}
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (labelled(Tensor.tolist), "labels of split 'train' is of type list, not Tensor: [0, 1"),
        (labelled(Tensor.numpy), "labels of split 'train' is of type ndarray, not Tensor"),
        (lambda source: replace(source, class_names=(0, 1, 2, 3)), "one of class_names is of type int, not str: 0"),
        (lambda source: replace(source, class_names="abcd"), "class_names is 'abcd', not a tuple"),
        (lambda source: replace(source, notes="hello"), "notes is 'hello', not a tuple"),
        (lambda source: replace(source, tally={"foo": 3}), "tally has 'foo'; known: "),
        (lambda source: replace(source, image_shape=5), "image_shape is 5, not a tuple"),
        (lambda source: replace(source, splits=[1]), "splits is of type list, not Mapping: [1]"),
        (lambda source: replace(source, splits={"train": 1}), "split 'train' is of type int, not Split: 1"),
        (lambda source: None, "open() returned NoneType, not a Source"),
        (lambda source: source.splits["dev"], "it cannot be opened: KeyError: 'dev'"),
    ],
)
def test_a_source_of_other_types_is_refused_in_one_line(tmp_path, change, words):
    with pytest.raises(ValueError, match=re.escape(f"data set odd: {words}")) as caught:
        prepare(Odd(change), "odd", tmp_path)
    assert "\n" not in str(caught.value)


def test_decoded_images_labels_and_moments_are_those_of_the_source(tmp_path):
    dataset = Synthetic(unlabeled=33)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepared = prepare(dataset, "synthetic", tmp_path)
    assert set(prepared.images) == {"train", "test", "unlabeled"}
    assert set(prepared.labels) == {"train", "test"}
    for split, images in prepared.images.items():
        expected = torch.stack([dataset.image(split, index) for index in range(dataset.num[split])])
        assert torch.equal(images, expected)
    assert torch.equal(prepared.labels["test"], dataset.labels("test"))
    train = prepared.images["train"].double() / 255
    some = torch.tensor([3, 1, 40])
    for rows in (torch.arange(len(train)), some):
        mean, std = prepared.moments(rows)
        assert mean == pytest.approx(train[rows].mean((0, 2, 3)).tolist(), abs=1e-12)
        assert std == pytest.approx(train[rows].std((0, 2, 3), correction=0).tolist(), abs=1e-12)
    assert prepared.image_shape == (3, 5, 7)
    assert prepared.class_names == ("class 0", "class 1", "class 2", "class 3")


def test_the_second_time_nothing_is_decoded(tmp_path):
    first = prepare(Synthetic(), "synthetic", tmp_path)
    again = Synthetic()
    second = prepare(again, "synthetic", tmp_path)
    assert again.reads == 0
    assert second.fingerprint == first.fingerprint
    assert torch.equal(second.images["train"], first.images["train"])


def test_the_fingerprint_depends_on_the_content_alone(tmp_path):
    one = prepare(Synthetic(), "one", tmp_path)
    assert prepare(Synthetic(), "other", tmp_path / "elsewhere").fingerprint == one.fingerprint
    assert prepare(Synthetic(version=1), "one", tmp_path).fingerprint != one.fingerprint
    relabeled = Synthetic()
    relabeled.labels = lambda split: torch.arange(relabeled.num[split]).flip(0) % 4
    assert prepare(relabeled, "one", tmp_path / "relabeled").fingerprint != one.fingerprint


def test_writing_to_an_opened_store_does_not_reach_the_file(tmp_path):
    prepared = prepare(Synthetic(), "synthetic", tmp_path)
    prepared.images["train"][0] = 0
    kept = torch.from_numpy(np.load(prepared.folder / "train_images.npy"))
    assert torch.equal(kept[0], Synthetic().image("train", 0))


def shorten(path):
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize("file", ["train_images.npy", "test_labels.npy", "meta.json"])
@pytest.mark.parametrize("damage", [shorten, Path.unlink, lambda path: path.write_bytes(b""), lengthen])
def test_a_damaged_file_is_found_stated_and_decoded_again(tmp_path, caplog, file, damage):
    first = prepare(Synthetic(), "synthetic", tmp_path)
    damage(folder_of(tmp_path) / file)
    if damage is lengthen and file == "meta.json":
        (folder_of(tmp_path) / file).write_text("{}")
    again = Synthetic()
    second = prepare(again, "synthetic", tmp_path)
    assert again.reads == 680
    assert "is damaged" in caplog.text
    assert second.fingerprint == first.fingerprint
    assert torch.equal(second.images["train"][599], again.image("train", 599))


class Wiped(Synthetic):
    """Is opened, and read, while somebody deletes the cache, and perhaps another process then decodes it there."""

    def __init__(self, cache, moment, *, another=False):
        super().__init__()
        self.cache, self.moment, self.another = cache, moment, another

    def identity(self):
        return "the same"

    def open(self):
        self.wipe("open")
        return super().open()

    def image(self, split, index):
        if (split, index) == ("train", 100):
            self.wipe("read")
        return super().image(split, index)

    def wipe(self, moment):
        if moment == self.moment:
            self.moment = ""
            shutil.rmtree(self.cache)
            if self.another:
                prepare(Wiped(self.cache, ""), "synthetic", self.cache)


@pytest.mark.parametrize("another", [False, True])
@pytest.mark.parametrize("moment", ["open", "read"])
def test_a_cache_that_is_deleted_while_it_is_decoded_is_decoded_again(tmp_path, caplog, moment, another):
    cache = tmp_path / "cache"
    prepared = prepare(Wiped(cache, moment, another=another), "synthetic", cache)
    assert ("was deleted while it was decoded" in caplog.text) == ((moment, another) != ("open", True))
    assert torch.equal(prepared.images["train"][599], Synthetic().image("train", 599))
    again = Wiped(cache, "")
    assert prepare(again, "synthetic", cache).fingerprint == prepared.fingerprint
    assert again.reads == 0
    assert not list(cache.glob("*.partial"))


def test_a_cache_that_is_deleted_each_time_is_given_up(tmp_path):
    class Always(Wiped):
        def wipe(self, moment):
            self.moment = moment
            super().wipe(moment)

    with pytest.raises(FileNotFoundError):
        prepare(Always(tmp_path / "cache", ""), "synthetic", tmp_path / "cache")


@pytest.mark.parametrize("file", ["train_images.npy", "test_images.npy", "train_labels.npy", "test_labels.npy"])
def test_one_changed_bit_is_found_where_a_sweep_begins(tmp_path, caplog, file):
    first = prepare(Synthetic(), "synthetic", tmp_path)
    path = folder_of(tmp_path) / file
    content = bytearray(path.read_bytes())
    content[-1 if "images" in file else -8] ^= 1
    path.write_bytes(content)
    again = Synthetic()
    second = prepare(again, "synthetic", tmp_path, verify=True)
    assert again.reads == 680
    assert "fingerprint differs" in caplog.text
    assert torch.equal(second.images["train"][599], Synthetic().image("train", 599))  # `first` maps the changed file
    assert torch.equal(second.images["test"][79], Synthetic().image("test", 79))
    assert torch.equal(second.labels["test"], Synthetic().labels("test"))
    assert prepare(again, "synthetic", tmp_path, verify=True).fingerprint == first.fingerprint
    assert again.reads == 680, "what is whole is not decoded again"


def test_changed_meta_data_are_found(tmp_path, caplog):
    first = prepare(Synthetic(), "synthetic", tmp_path)
    path = folder_of(tmp_path) / "meta.json"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps(meta | {"mean": [0.1, 0.2, 0.3]}))
    assert torch.equal(prepare(Synthetic(), "synthetic", tmp_path).sums, first.sums)
    assert "checksum of meta.json differs" in caplog.text


def test_an_array_of_another_shape_or_type_is_damage(tmp_path, caplog):
    prepare(Synthetic(), "synthetic", tmp_path)
    path = folder_of(tmp_path) / "test_labels.npy"
    np.save(path, np.load(path).astype(np.float64))
    assert prepare(Synthetic(), "synthetic", tmp_path).labels["test"].dtype == torch.int64
    np.save(path, np.zeros((40, 2), dtype=np.int64))
    assert prepare(Synthetic(), "synthetic", tmp_path).labels["test"].shape == (80,)
    assert caplog.text.count("is damaged") == 2


def test_a_failing_source_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="cannot decode image"):
        prepare(Synthetic(broken=500), "synthetic", tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    assert len(prepare(Synthetic(), "synthetic", tmp_path).images["train"]) == 600


CHILD = """
    import sys, time
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    from harness.data import decode as data
    from test_splits import Synthetic

    class Slow(Synthetic):
        def image(self, split, index):
            time.sleep({seconds})
            return super().image(split, index)

    data.CHUNK_BYTES, data.MAX_THREADS = 7 * 105, 2
    Slow.__module__, Slow.__qualname__ = "test_splits", "Synthetic"  # the same data set as the parent's
    source = Slow()
    print("started", flush=True)
    prepared = data.prepare(source, "synthetic", Path({cache!r}))
    print(source.reads, prepared.fingerprint, flush=True)
"""


def start(cache, seconds):
    code = textwrap.dedent(CHILD.format(tests=str(Path(__file__).parent), seconds=seconds, cache=str(cache)))
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root)


def key_module(monkeypatch):
    """The parent's Synthetic and the children's are one data set whatever pytest calls this module."""
    monkeypatch.setattr(Synthetic, "__module__", "test_splits")


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_a_killed_writer_leaves_nothing_that_is_believed(tmp_path, monkeypatch):
    key_module(monkeypatch)
    child = start(tmp_path, seconds=0.05)
    wait_for(lambda: any(path.stat().st_size > 2000 for path in tmp_path.glob("*.partial/*.npy")))
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert list(tmp_path.glob("*.partial"))
    dataset = Synthetic()
    prepared = prepare(dataset, "synthetic", tmp_path)
    assert dataset.reads == 680
    assert torch.equal(prepared.images["train"][599], dataset.image("train", 599))
    assert not list(tmp_path.glob("*.partial"))


def test_a_second_process_waits_and_reads(tmp_path, monkeypatch, caplog):
    key_module(monkeypatch)
    child = start(tmp_path, seconds=0.006)
    wait_for(lambda: list(tmp_path.glob("*.partial/*.npy")))
    dataset = Synthetic()
    prepared = prepare(dataset, "synthetic", tmp_path)
    assert dataset.reads == 0
    assert child.communicate()[0].split() == ["started", "680", prepared.fingerprint]
    assert "waiting for another process" in caplog.text


def test_the_name_makes_a_harmless_folder_name(tmp_path):
    prepare(Synthetic(), "../my.module:Class", tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert folder_of(tmp_path / "cache").name.startswith(".._my.module_Class-")


def source(**changes):
    images = torch.zeros(6, 1, 2, 2, dtype=torch.uint8)
    split = {"num_images": 6, "read": lambda start, stop: images[start:stop], "labels": torch.arange(6) % 2}
    whole = {"image_shape": (1, 2, 2), "class_names": ("a", "b")}
    split |= {key: value for key, value in changes.items() if key in split}
    whole |= {key: value for key, value in changes.items() if key in whole}
    return Source(**whole, splits={changes.get("split", "train"): Split(**split)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "validation"}, "splits are train, val, test, unlabeled, not"),
        ({"num_images": 0, "labels": torch.zeros(0).long()}, "no images"),
        ({"labels": None}, "needs 6 integer labels"),
        ({"labels": torch.zeros(5).long()}, "needs 6 integer labels"),
        ({"labels": torch.zeros(6)}, "needs 6 integer labels"),
        ({"labels": torch.arange(6)}, r"labels 0 \.\. 5 outside 0 \.\. 1"),
        ({"labels": torch.arange(6) - 1}, r"labels -1 \.\. 4 outside"),
        ({"labels": torch.zeros(6).long()}, "class 'b' has no training image"),
        ({"labels": torch.zeros(6).long(), "class_names": ("a",)}, "1 class; at least 2"),
        ({"image_shape": (1, 2, 3)}, r"came as torch.uint8 \(6, 1, 2, 2\), not torch.uint8 \(6, 1, 2, 3\)"),
        ({"read": lambda start, stop: torch.zeros(stop - start, 1, 2, 2)}, "came as torch.float32"),
    ],
)
def test_a_source_that_breaks_the_contract_is_refused(tmp_path, changes, message):
    class Broken(Dataset):
        def identity(self):
            return "broken"

        def open(self):
            return source(**changes)

    with pytest.raises(ValueError, match=message):
        prepare(Broken(), "broken", tmp_path)
    assert not list(tmp_path.glob("*/meta.json"))


def test_a_constant_channel_can_be_divided_by_its_deviation(tmp_path):
    class Constant(Dataset):
        def identity(self):
            return "constant"

        def open(self):
            return source()

    prepared = prepare(Constant(), "constant", tmp_path)
    assert prepared.moments(torch.tensor([0, 2])) == ((0.0,), (1 / 255,))


def test_memory_stays_far_below_the_size_of_the_data(tmp_path):
    code = """
        import resource
        import torch
        from pathlib import Path
        from harness.api import Dataset, Source, Split
        from harness.data import decode as data

        class Large(Dataset):
            def identity(self):
                return "large"

            def open(self):
                def read(start, stop):
                    return torch.full((stop - start, 3, 96, 96), start % 256, dtype=torch.uint8)
                return Source((3, 96, 96), ("a", "b"), {"train": Split(10_000, read, torch.arange(10_000) % 2)})

        data.MAX_THREADS = 2
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        data.prepare(Large(), "large", Path(CACHE))
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    code = textwrap.dedent(code).replace("CACHE", repr(str(tmp_path)))
    root = Path(__file__).parents[2]
    grown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout
    assert int(grown) < 130  # MiB, of 264


# --- load


def opened(tmp_path, dataset=None, **settings):
    others = {"with_test": True, "device": "cpu"}
    others |= {name: settings.pop(name) for name in ("with_test", "device", "verify") if name in settings}
    return open_data(dataset or Synthetic(), "synthetic", Splitting(**settings), cache=tmp_path, **others)


def keys(images):
    """The images themselves, as a set: each synthetic image is unique."""
    return {image.numpy().tobytes() for image in images[torch.arange(len(images))]}


def test_parts_are_disjoint_complete_and_their_labels_right(tmp_path):
    dataset = Synthetic()
    data, oracle = opened(tmp_path, dataset)
    label_of = {dataset.image("train", i).numpy().tobytes(): i % 4 for i in range(600)}
    pool, val = keys(data.pool), keys(data.val)
    assert (len(pool), len(val)) == (540, 60)
    assert pool | val == label_of.keys()
    assert torch.bincount(data.val_labels).tolist() == [15] * 4
    assert oracle.class_counts.tolist() == [135] * 4
    in_order = data.pool[torch.arange(540)]
    assert [label_of[image.numpy().tobytes()] for image in in_order] == oracle.reveal(torch.arange(540)).tolist()
    in_order = data.val[torch.arange(60)]
    assert [label_of[image.numpy().tobytes()] for image in in_order] == data.val_labels.tolist()


def test_the_source_s_own_test_set_is_used_whole(tmp_path):
    data, _ = opened(tmp_path, fraction=0.3)
    index_of = {Synthetic().image("test", index).numpy().tobytes(): index for index in range(80)}
    drawn = [index_of[image.numpy().tobytes()] for image in data.test[torch.arange(80)]]
    assert sorted(drawn) == list(range(80)) != drawn
    assert data.test_labels.tolist() == [index % 4 for index in drawn]
    assert data.counts == {"pool": 162, "val": 60, "test": 80}


def test_the_source_s_own_validation_images_are_used_whole_and_nothing_is_carved(tmp_path):
    source = Synthetic(val=44)
    data, _ = opened(tmp_path, source)
    index_of = {source.image("val", index).numpy().tobytes(): index for index in range(44)}
    drawn = [index_of[image.numpy().tobytes()] for image in data.val[torch.arange(44)]]
    assert sorted(drawn) == list(range(44)) != drawn
    assert data.val_labels.tolist() == [index % 4 for index in drawn]
    assert data.counts == {"pool": 600, "val": 44, "test": 80}
    assert keys(data.pool) == {source.image("train", index).numpy().tobytes() for index in range(600)}
    train = torch.stack([source.image("train", index) for index in range(600)]).double() / 255
    assert data.mean == pytest.approx(train.mean((0, 2, 3)).tolist(), abs=1e-12)
    third, _ = opened(tmp_path, source, fraction=0.3)
    assert keys(third.val) == keys(data.val)
    without, _ = opened(tmp_path, source, val=0)
    assert without.counts == {"pool": 600, "val": 0, "test": 80}
    assert without.fingerprint != data.fingerprint != opened(tmp_path, source, split_seed=1)[0].fingerprint
    carved, _ = opened(tmp_path, Synthetic(val=44, test=0))
    assert carved.counts == {"pool": 480, "val": 44, "test": 120}


@pytest.mark.parametrize("settings", [{"val": 0.2}, {"val": 44}, {"test": 0.2}, {"test": 80}])
def test_images_are_not_carved_beside_those_of_the_data_set(tmp_path, settings):
    (part, size), own = *settings.items(), {"val": 44, "test": 80}
    with pytest.raises(ValueError, match=f"{part}: {size} would be carved, and the data set has {own[part]} {part}"):
        opened(tmp_path, Synthetic(val=44), **settings)


def test_a_test_set_is_carved_where_there_is_none(tmp_path):
    assert opened(tmp_path, Synthetic(test=0), test=150, val=50)[0].counts == {"pool": 400, "val": 50, "test": 150}
    data, oracle = opened(tmp_path, Synthetic(test=0), test=0.25, val=50)
    assert data.counts == {"pool": 400, "val": 50, "test": 150}
    assert keys(data.test).isdisjoint(keys(data.pool) | keys(data.val))
    assert torch.bincount(data.test_labels).sum() == 150
    assert (len(data.test), len(oracle)) == (150, 400)


def test_the_search_phase_cannot_read_the_test_set_and_sees_the_same_split(tmp_path):
    search, _ = opened(tmp_path, Synthetic(test=0), with_test=False)
    confirm, _ = opened(tmp_path, Synthetic(test=0), with_test=True)
    assert search.test is None
    assert search.test_labels is None
    assert keys(search.pool) == keys(confirm.pool)
    assert (search.fingerprint, search.counts) == (confirm.fingerprint, confirm.counts)


def test_validation_is_the_same_at_every_fraction_and_imbalance(tmp_path):
    whole, _ = opened(tmp_path)
    third, _ = opened(tmp_path, fraction=0.3)
    tail, _ = opened(tmp_path, imbalance=Exponential("exponential", 10.0))
    assert keys(whole.val) == keys(third.val) == keys(tail.val)
    assert keys(opened(tmp_path, split_seed=1)[0].val) != keys(whole.val)
    assert keys(third.pool) < keys(whole.pool)
    assert keys(opened(tmp_path, fraction=0.1)[0].pool) < keys(third.pool)


def test_the_largest_validation_set_leaves_the_pool_every_class(tmp_path):
    _, oracle = opened(tmp_path, Synthetic(counts=[300, 200, 98, 2]), val=0.9)
    assert oracle.class_counts.tolist() == [30, 20, 9, 1]  # 59.x: the scarce class keeps 1 of its 2


def test_fraction_is_stratified(tmp_path):
    _, oracle = opened(tmp_path, Synthetic(counts=[300, 200, 80, 20]), val=0.1, fraction=0.5)
    assert oracle.class_counts.tolist() == [135, 90, 36, 9]


def test_equal_splits_share_a_fingerprint_and_others_do_not(tmp_path):
    base = opened(tmp_path)[0].fingerprint
    assert opened(tmp_path, val=60, imbalance=Exponential("exponential", 1.0))[0].fingerprint == base
    changes = [{"fraction": 0.5}, {"val": 0.2}, {"split_seed": 1}, {"imbalance": Step("step", (0,), 5)}]
    assert len({base, *(opened(tmp_path, **change)[0].fingerprint for change in changes)}) == 5
    assert opened(tmp_path, Synthetic(version=1))[0].fingerprint != base


def test_the_unlabeled_extra_is_handed_on(tmp_path):
    data, _ = opened(tmp_path, Synthetic(unlabeled=33), fraction=0.5)
    assert data.unlabeled_extra.shape == (33, 3, 5, 7)
    assert data.counts["unlabeled_extra"] == 33
    assert opened(tmp_path)[0].unlabeled_extra is None


def test_step_imbalance_keeps_few_of_the_named_classes(tmp_path):
    _, oracle = opened(tmp_path, imbalance=Step("step", (1, "class 3"), 7))
    assert oracle.class_counts.tolist() == [135, 7, 135, 7]


def test_exponential_imbalance_has_the_sizes_of_the_formula(tmp_path):
    _, oracle = opened(
        tmp_path, imbalance=Exponential("exponential", 27.0)
    )  # 27 ** (1 / 3) = 3: each class a third of the last
    assert oracle.class_counts.tolist() == [135, 45, 15, 5]
    unequal = Synthetic(count=540, counts=[300, 200, 20, 20])
    _, oracle = opened(tmp_path, unequal, val=8, imbalance=Exponential("exponential", 8.0))
    # class 2 has 19 of 20 left after validation: it bounds the tail, 76 / 38 / 19 / 9
    assert oracle.class_counts.tolist() == [76, 38, 19, 9]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val": 601}, "val: 601 sets aside 601 of 600 training images; at most 596"),
        ({"val": 3}, "val: 3 sets aside 3 of 600 training images; at least 4"),
        (
            {"val": 0.001},
            r"val: 0.001 sets aside 1 of 600 training images; at least 0.0067 \(4 images\), one image of each",
        ),
        (
            {"val": 0.999},
            r"val: 0.999 sets aside 599 of 600 training images; at most 0.9933 \(596 images\), all but one",
        ),
        ({"min_images": 151}, "data.min_images: 151 leaves 0 of the classes; at most 150"),
        ({"val": 1.0}, r"val: 1.0 is not a share in \(0, 1\); as a number of images, 4 .. 596"),
        ({"val": -0.1}, "val: -0.1 is not a share"),
        ({"fraction": 0.0}, r"fraction: 0.0 is not in \(0, 1\]"),
        ({"fraction": 1.01}, r"fraction: 1.01 is not in \(0, 1\]"),
        ({"fraction": float("nan")}, "fraction: nan is not in"),
        ({"fraction": 0.001}, "fraction: 0.001 leaves 1 images for 4 classes; at least 0.0075"),
        ({"imbalance": Step("step", ("class3",), 5)}, "no class 'class3'; did you mean 'class 3'"),
        ({"imbalance": Step("step", (4,), 5)}, r"no class 4; labels are 0 \.\. 3"),
        ({"imbalance": Step("step", (0,), 136)}, "keep: 136 images of class 'class 0' cannot be kept; at most 135"),
        ({"imbalance": Exponential("exponential", 200.0)}, "ratio: 200.0 leaves no image of 'class 3'; at most 135"),
    ],
)
def test_impossible_settings_are_refused_with_the_nearest_valid_value(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, **settings)


def test_the_named_nearest_values_are_valid(tmp_path):
    for settings in (
        {"val": 596},
        {"val": 4},
        {"val": 0.0067},
        {"val": 0.9933},
        {"min_images": 150},
        {"fraction": 0.0075},
        {"imbalance": Exponential("exponential", 135.0)},
    ):
        assert len(opened(tmp_path, **settings)[1]) >= 4


@pytest.mark.parametrize(
    ("counts", "settings", "words"),
    [
        (
            [300, 200, 99, 1],
            {},
            r"1 class: 'class 3' \(1 image\); a class needs 3, .*data.test.*data.val.*min_images: 3",
        ),
        ([300, 200, 2, 1], {}, r"2 classes: 'class 2' \(2 images\), 'class 3' \(1 image\); a class needs 3"),
        (
            [300, 200, 99, 1],
            {"val": 0},
            r"a class needs 2, one to learn from and one to set aside for test \(data.test\)",
        ),
        ([300, 200, 3, 90], {"test": 0.7}, "data.val: class 'class 2' has 1 image left that is not set aside"),
    ],
)
def test_a_class_too_small_to_divide_is_refused_by_its_name_with_the_remedy(tmp_path, counts, settings, words):
    with pytest.raises(ValueError, match=words):
        opened(tmp_path, Synthetic(test=0, counts=counts, count=sum(counts)), **settings)


def test_rare_classes_are_left_out_with_all_their_images(tmp_path):
    dataset = Synthetic(test=0, counts=[300, 2, 99, 1], count=402)
    data, oracle = opened(tmp_path, dataset, min_images=3)
    assert data.class_names == ("class 0", "class 2")
    assert data.counts == {"pool": 287, "val": 32, "test": 80}
    labels = [*oracle.reveal(torch.arange(287)).tolist(), *data.val_labels.tolist(), *data.test_labels.tolist()]
    images = [part[torch.arange(len(part))] for part in (data.pool, data.val, data.test)]
    seen = {image.numpy().tobytes(): label for image, label in zip(torch.cat(images), labels, strict=True)}
    rows = dict.fromkeys(range(300), 0) | dict.fromkeys(range(302, 401), 1)
    assert seen == {dataset.image("train", row).numpy().tobytes(): label for row, label in rows.items()}
    said = "data.min_images: 3 leaves out 2 classes: 'class 1' (2 images), 'class 3' (1 image)"
    assert data.notes[-1] == f"synthetic: {said}"
    assert data.fingerprint != opened(tmp_path, dataset, min_images=3, rare="train")[0].fingerprint


def test_rare_classes_leave_the_data_set_s_own_parts_too(tmp_path):
    data, oracle = opened(tmp_path, Synthetic(val=20, counts=[300, 2, 99, 1], count=402), min_images=3)
    assert data.counts == {"pool": 399, "val": 10, "test": 40}, "of four classes that are equally common there"
    assert oracle.class_counts.tolist() == [300, 99]
    assert torch.bincount(data.val_labels).tolist() == [5, 5]


def test_rare_classes_are_kept_for_training_only(tmp_path):
    dataset = Synthetic(test=0, counts=[300, 2, 99, 1], count=402)
    data, oracle = opened(tmp_path, dataset, min_images=3, rare="train")
    assert data.class_names == tuple(f"class {k}" for k in range(4))
    assert oracle.class_counts[[1, 3]].tolist() == [2, 1]
    for labels in (data.val_labels, data.test_labels):
        assert set(labels.tolist()) == {0, 2}
    assert sum(data.counts.values()) == 402
    with pytest.raises(ValueError, match="every class is rare"):
        opened(tmp_path, dataset, min_images=400, rare="train")


@pytest.mark.parametrize(
    "make", [lambda: Step("step", (), 5), lambda: Step("step", (0,), 0), lambda: Exponential("exponential", 0.5)]
)
def test_impossible_imbalance_is_refused_when_it_is_written(make):
    with pytest.raises(ValueError, match="imbalance"):
        make()


NUMBERED = tuple(sorted(str(number) for number in range(1, 13)))
PADDED = tuple(f"{number:04}" for number in range(1, 13))


@pytest.mark.parametrize(
    ("item", "names", "expected"),
    [
        (10, NUMBERED, "10"),
        ("10", NUMBERED, "10"),
        (2, ("a", "b", "c"), "c"),
        (0, tuple("0123456789"), "0"),
        ("0010", PADDED, "0010"),
        ("cafe\u0301", ("caf\u00e9", "tea"), "caf\u00e9"),
        (0, NUMBERED, "no class is called 0; names that are numbers are put in quotes, such as '1'"),
        (8, PADDED, "no class is called 8; names that are numbers are put in quotes, such as '0008'"),
        (1, ("1.0", "1.5", "2.0"), "no class is called 1; names that are numbers are put in quotes, such as '1.0'"),
        (2, ("2.5", "3.5", "4.5"), "no class is called 2; names that are numbers are put in quotes, such as '2.5'"),
        (-1, ("-1", "-2", "-3"), "-1"),
        (1, ("-1", "-2", "-3"), "no class is called 1; names that are numbers are put in quotes, such as '-1'"),
        (2, ("1e1", "1e2", "1e3"), "no class is called 2; names that are numbers are put in quotes, such as '1e1'"),
        (16, ("0x10", "0x11", "b"), "no class is called 16; names that are numbers are put in quotes, such as '0x10'"),
        (1, ("0x10", "0x11", "b"), "no class is called 1; names that are numbers are put in quotes, such as '0x10'"),
        (1000, ("1_000", "5"), "no class is called 1000; names that are numbers are put in quotes, such as '1_000'"),
        (1, ("nan", "inf", "a"), "inf"),
        ("caf\u00e9", ("ant", "cafe\u0301"), "cafe\u0301"),
        (1, ("10", "cat", "dog"), "no class is called 1; names that are numbers are put in quotes, such as '10'"),
        (3, ("a", "b", "c"), "no class 3; labels are 0 .. 2"),
        ("11", PADDED, "did you mean '0011'"),
    ],
)
def test_a_number_is_a_name_where_names_are_numbers(item, names, expected):
    if expected in names:
        assert names[label_of(item, names)] == expected
    else:
        with pytest.raises(ValueError, match=re.escape(expected)):
            label_of(item, names)


# --- the device


def test_on_the_cpu_the_mapped_store_is_used_as_it_is(tmp_path):
    prepared = prepare(Synthetic(), "synthetic", tmp_path)
    assert splits.store_of(prepared, "train", torch.device("cpu")) is prepared.images["train"]
    opened(tmp_path)
    assert not splits.resident


@pytest.fixture
def accelerator(monkeypatch):
    """A device that is not the CPU: torch's `meta` keeps shapes and no values."""
    monkeypatch.setattr(splits, "resident", {})
    monkeypatch.setattr(splits, "free_memory", lambda device: 1 << 30)
    return torch.device("meta")


def test_stores_are_copied_to_an_accelerator_once_per_process(tmp_path, accelerator):
    opened(tmp_path, device=accelerator, with_test=False)
    (key,), (store,) = splits.resident.keys(), splits.resident.values()
    assert (key[1], store.device) == ("train", accelerator)
    opened(tmp_path, device=accelerator, fraction=0.5)
    assert splits.resident[key] is store
    assert {key[1] for key in splits.resident} == {"train", "test"}
    assert all(store.ndim == 4 and store.dtype == torch.uint8 for store in splits.resident.values())


def test_another_data_set_takes_the_place_of_the_last(tmp_path, accelerator):
    opened(tmp_path, device=accelerator)
    first = list(splits.resident.values())
    opened(tmp_path, Synthetic(version=1), device=accelerator)
    assert len(splits.resident) == len(first) == 2
    assert not {id(store) for store in first} & {id(store) for store in splits.resident.values()}


def test_stores_that_do_not_fit_stay_mapped_and_batches_go_to_the_device(tmp_path, accelerator, monkeypatch):
    monkeypatch.setattr(splits, "free_memory", lambda device: 2 * 600 * 105 - 1)  # one byte short for train
    data, _ = opened(tmp_path, device=accelerator)
    assert {key[1] for key in splits.resident} == {"test"}
    assert data.pool[torch.tensor([0])].device == accelerator


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_images_are_those_of_the_cpu(tmp_path):
    here, _ = opened(tmp_path)
    there, _ = opened(tmp_path, device="cuda")
    assert all(store.is_cuda for store in splits.resident.values())
    index = torch.randperm(len(here.pool))[:50]
    assert torch.equal(there.pool[index].cpu(), here.pool[index])


# --- contract of Images with what data hands it


def test_images_gathers_rows_of_the_mapped_store(tmp_path):
    store = prepare(Synthetic(), "synthetic", tmp_path).images["train"]
    images = Images(store, torch.tensor([5, 3, 599]))
    assert torch.equal(images[torch.tensor([2, 0])], store[torch.tensor([599, 5])])


def test_joined_images_are_both_in_order_and_can_be_divided(tmp_path):
    stores = prepare(Synthetic(unlabeled=33), "synthetic", tmp_path).images
    first, second = Images(stores["train"], torch.tensor([5, 3, 599])), Images(stores["unlabeled"])
    together = splits.joined(first, second)
    expected = torch.cat([stores["train"][[5, 3, 599]], stores["unlabeled"]])
    assert together.shape == (36, 3, 5, 7)
    assert torch.equal(together[torch.arange(36)], expected)
    mixed = torch.tensor([35, 0, 3, 2, 0])
    assert torch.equal(together[mixed], expected[mixed])
    assert torch.equal(together.subset(mixed)[torch.tensor([4, 1, 0])], expected[[0, 0, 35]])
    assert len(together.subset(mixed)) == 5


def test_neither_rich_nor_torchvision_is_needed_to_load(tmp_path):
    absent = "sys.modules['rich'] = sys.modules['torchvision'] = sys.modules['ray'] = None"
    code = f"import sys; {absent}; import harness.data.splits"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_meta_is_readable(tmp_path):
    prepare(Synthetic(), "synthetic", tmp_path)
    meta = json.loads((folder_of(tmp_path) / "meta.json").read_text())
    assert meta["splits"]["train"] == {
        "num_images": 600,
        "labeled": True,
        "files": False,
        "names": False,
        "twins": 0,
    }


# --- what the next trial of a process asks for again


def test_a_data_set_that_is_opened_again_is_divided_once_and_its_labels_are_paid_for_anew(tmp_path):
    data, oracle = opened(tmp_path)
    oracle.with_budget(3).reveal(torch.arange(3))
    again, other = opened(tmp_path)
    assert again.pool is data.pool
    assert (oracle.used, other.used, other.budget) == (3, 0, None)


def test_test_images_are_shown_to_those_alone_who_may_read_them(tmp_path):
    confirmed, _ = opened(tmp_path)
    searched, _ = opened(tmp_path, with_test=False)
    assert confirmed.test is not None
    assert confirmed.test_labels is not None
    assert searched.test is None
    assert searched.test_labels is None
    assert searched.counts["test"] == len(confirmed.test)
    assert opened(tmp_path)[0].test is not None


def test_another_division_and_another_content_are_not_taken_for_the_last(tmp_path):
    whole, _ = opened(tmp_path)
    half, _ = opened(tmp_path, fraction=0.5)
    assert len(half.pool) == len(whole.pool) / 2
    other, _ = opened(tmp_path, Synthetic(version=1))
    assert other.fingerprint != whole.fingerprint == opened(tmp_path)[0].fingerprint
    few = Synthetic(count=8, classes=2)
    assert len(opened(tmp_path, few, fraction=1, val=4)[0].val) == 4
    with pytest.raises(ValueError, match=r"data.val: 4.0 is not a share"):
        opened(tmp_path, few, fraction=1, val=4.0)


def test_files_that_changed_since_they_were_opened_are_opened_anew(tmp_path):
    first = prepare(Synthetic(), "synthetic", tmp_path)
    assert prepare(Synthetic(), "synthetic", tmp_path) is first
    labels = first.folder / "train_labels.npy"
    content = labels.read_bytes()
    labels.unlink()
    labels.write_bytes(content[:-8])
    again = prepare(Synthetic(), "synthetic", tmp_path)
    assert again is not first
    assert torch.equal(again.labels["train"], first.labels["train"])
    assert again.fingerprint == first.fingerprint
