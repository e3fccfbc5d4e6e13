"""The same image in two parts of the data: found, said, refused or dropped, and never dropped from the test set."""

from collections import Counter

import numpy as np
import pytest
import torch

from harness.api import Dataset, Source, Split
from harness.data import decode
from harness.data.duplicates import hashes_of, twins_of
from harness.data.splits import Splitting, divide


class Copies(Dataset):
    """Splits given as numbers, each of which is an image; label: the number modulo 2, but for those given.

    Args:
        named: whether images have names.
        relabeled: (split, row) of images with the other label.
        splits: name -> numbers.
    """

    def __init__(self, *, named=False, relabeled=(), **splits):
        self.named, self.relabeled, self.numbers = named, set(relabeled), splits

    def identity(self):
        return str((self.named, sorted(self.relabeled), self.numbers))

    def open(self):
        def part(name):
            numbers = self.numbers[name]
            images = torch.stack([image(number) for number in numbers])
            labels = torch.tensor([(n + ((name, row) in self.relabeled)) % 2 for row, n in enumerate(numbers)])
            names = [f"{name}/{number}.png" for number in numbers] if self.named else None
            return Split(len(numbers), lambda a, b: images[a:b], None if name == "unlabeled" else labels, names)

        return Source((3, 4, 4), ("even", "odd"), {name: part(name) for name in self.numbers})


def image(number):
    return torch.from_numpy(np.random.default_rng(number).integers(0, 256, (3, 4, 4), dtype=np.uint8))


def opened(tmp_path, dataset, **settings):
    prepared = decode.prepare(dataset, "copies", tmp_path)
    splitting = Splitting(**settings)
    data, _ = divide(prepared, "copies", splitting, with_test=True, device="cpu")
    said = [note.removeprefix("copies: ").removesuffix(" (see data.duplicates)") for note in data.notes]
    return data, [note for note in said if " images too" in note]


def numbers_in(images, upto=200):
    known = {bytes(image(number).numpy().tobytes()): number for number in range(upto)}
    return sorted(known[bytes(one.numpy().tobytes())] for one in images[torch.arange(len(images))])


def test_twins_are_those_of_a_slow_search():
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 3, (n, 1, 2, 2), dtype=np.uint8) for name, n in (("a", 60), ("b", 41))}
    twins = twins_of({name: hashes_of(one) for name, one in images.items()})
    every = Counter(one.tobytes() for part in images.values() for one in part)
    groups = {}
    for name, part in images.items():
        assert twins[name][:, 0].tolist() == [row for row, one in enumerate(part) if every[one.tobytes()] > 1]
        for row, group in twins[name].tolist():
            groups.setdefault(group, set()).add(part[row].tobytes())
    assert all(len(contents) == 1 for contents in groups.values())
    assert len({next(iter(contents)) for contents in groups.values()}) == len(groups)


def test_what_is_in_two_parts_is_reported_with_count_labels_and_names(tmp_path):
    dataset = Copies(
        named=True, train=range(60), test=[3, 100, 5, 7, 101, 5], val=[101, 102, 4], relabeled=[("test", 2)]
    )
    data, said = opened(tmp_path, dataset)
    assert said == [
        "1 of 6 test images are validation images too: such as test/101.png = val/101.png",
        "4 of 6 test images are pool images too, 1 of them under another label: "
        "such as test/3.png = train/3.png, test/5.png = train/5.png, test/7.png = train/7.png",
        "1 of 3 validation images are pool images too: such as val/4.png = train/4.png",
    ]
    assert numbers_in(data.pool) == list(range(60))
    assert data.tally == {"doubled": 6}  # 101, 3, 5, 7 and 5 again of the test images, 4 of the others


def test_positions_stand_for_names_and_only_parts_that_are_used_count(tmp_path):
    dataset = Copies(train=range(60), test=[3, 100])
    assert opened(tmp_path, dataset, val=0)[1] == ["1 of 2 test images are pool images too: such as test 0 = train 3"]
    used = opened(tmp_path, dataset, val=0, fraction=0.1)
    assert bool(used[1]) == (3 in numbers_in(used[0].pool))


def test_validation_images_that_were_carved_count_as_the_training_images_that_they_are(tmp_path):
    _, said = opened(tmp_path, Copies(train=range(40), test=[*range(40), 100]), val=10)
    assert said == [
        "40 of 41 test images are training images too: such as test 0 = train 0, test 1 = train 1, test 2 = train 2"
    ]


def test_twins_among_training_images_count_where_a_part_is_carved_from_them(tmp_path):
    dataset = Copies(train=[*range(20)] * 2)
    data, said = opened(tmp_path, dataset, test=0.5, val=0)
    common = set(numbers_in(data.pool)) & set(numbers_in(data.test))
    assert f"of {len(data.test)} test images are pool images too" in said[0]
    assert said[0].startswith(f"{sum(number in common for number in numbers_in(data.test))} of ")


def test_nothing_is_said_of_what_is_there_twice_in_one_part_or_not_at_all(tmp_path):
    assert opened(tmp_path, Copies(train=range(60), test=range(60, 70)))[1] == []
    assert opened(tmp_path, Copies(train=[*range(30), *range(30)], test=range(60, 70)), val=0)[1] == []


@pytest.mark.parametrize("val", [0, 0.5])
def test_one_image_under_two_labels_in_one_part_is_said(tmp_path, val):
    relabeled = [("train", 31), ("train", 32), ("test", 2)]
    numbers = {"train": [*range(30), *range(10)], "test": [60, 61, 60, 62, 62]}
    data, _ = opened(tmp_path, Copies(named=True, relabeled=relabeled, **numbers), val=val)
    train = "training" if val else "pool"
    assert [note for note in data.notes if "another label" in note] == [
        f"copies: 4 of 40 {train} images are equal to others under another label: "
        "such as train/1.png = train/1.png, train/2.png = train/2.png",
        "copies: 2 of 5 test images are equal to others under another label: such as test/60.png = test/60.png",
    ]


def test_dropping_takes_the_training_copy_and_never_the_test_one(tmp_path):
    dataset = Copies(train=range(60), test=[3, 5, 100], val=[5, 4, 101], unlabeled=[3, 101, 102, 103])
    kept, _ = opened(tmp_path, dataset)
    data, said = opened(tmp_path, dataset, duplicates="drop")
    assert said == []
    assert numbers_in(data.test) == [3, 5, 100]
    assert numbers_in(data.val) == [4, 101]
    assert numbers_in(data.pool) == sorted(set(range(60)) - {3, 4, 5})
    assert numbers_in(data.unlabeled_extra) == [102, 103]
    assert data.notes == (
        "copies: 1 validation image dropped, which are tested or validated with too",
        "copies: 3 training images dropped, which are tested or validated with too",
        "copies: 2 unlabelled images dropped, which are tested or validated with too",
    )
    assert data.fingerprint != kept.fingerprint
    assert data.tally == {"dropped": 6}
    assert data.counts == {"pool": 57, "val": 2, "test": 3, "unlabeled_extra": 2}


def test_images_without_twins_are_divided_as_if_nobody_had_asked(tmp_path):
    dataset = Copies(train=range(60), unlabeled=[100, 101])
    asked = [opened(tmp_path, dataset, duplicates=key)[0].fingerprint for key in ("report", "drop", "error")]
    assert len(set(asked)) == 1


def test_duplicates_are_refused_on_request_and_a_class_is_not_dropped_whole(tmp_path):
    dataset = Copies(train=range(20), test=[3])
    with pytest.raises(ValueError, match=r"data set copies: 1 of 1 test images are pool images too.* drop"):
        opened(tmp_path, dataset, duplicates="error", val=0)
    with pytest.raises(ValueError, match="duplicates: drop leaves no training image of class 'odd'"):
        opened(tmp_path, Copies(train=[0, 2, 4, 1], test=[1]), duplicates="drop", val=0)
