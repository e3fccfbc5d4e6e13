"""Which images were classified correctly, kept in one small file."""

from __future__ import annotations

import numpy as np
import pytest

from harness.records.hits import Hits, pack_hits, unpack_hits
from harness.records.trial_files import read_trial_files

RIGHT = np.random.default_rng(0).random((3, 1003)) < 0.8


def some_hits() -> dict[str, Hits]:
    bits = {200 * (k + 1): np.packbits(row) for k, row in enumerate(RIGHT)}
    return {"test/accuracy": Hits("0a1b", 1003, bits), "test/accuracy/knn": Hits("0a1b", 1003, {200: bits[400]})}


def test_what_was_packed_is_unpacked():
    hits = unpack_hits(pack_hits(some_hits()))
    assert list(hits) == ["test/accuracy", "test/accuracy/knn"]
    for labels, row in zip((200, 400, 600), RIGHT, strict=True):
        np.testing.assert_array_equal(hits["test/accuracy"].after(labels), row)
    assert hits["test/accuracy"].images == "0a1b"
    np.testing.assert_array_equal(hits["test/accuracy/knn"].after(200), RIGHT[1])


def test_an_image_takes_a_bit():
    many = np.random.default_rng(0).random((20, 10_000)) < 0.5  # nothing could be compressed
    content = pack_hits({"test/accuracy": Hits("", 10_000, {k: np.packbits(row) for k, row in enumerate(many)})})
    assert len(content) < 20 * 10_000 / 8 + 1000


@pytest.mark.parametrize("cut", [0, 10, 300, -30])
def test_a_damaged_file_counts_as_absent_and_is_named(tmp_path, cut):
    (tmp_path / "hits.npz").write_bytes(pack_hits(some_hits())[:cut])
    files = read_trial_files(tmp_path)
    assert (files.hits, files.damaged) == ({}, ("hits.npz",))


def test_bits_of_another_number_of_images_are_damage(tmp_path):
    (tmp_path / "hits.npz").write_bytes(pack_hits({"test/accuracy": Hits("", 1100, some_hits()["test/accuracy"].bits)}))
    assert read_trial_files(tmp_path).damaged == ("hits.npz",)


def test_trials_without_the_file_have_none(tmp_path):
    files = read_trial_files(tmp_path)
    assert (files.hits, files.damaged) == ({}, ())
