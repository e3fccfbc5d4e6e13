"""One archive laid out as five other people would is read to the same images, classes and pixels."""

import numpy as np
import pytest
import torch
from data_files import save

from examples.foreign_layouts import LAYOUTS, archive_of, main, read

CLASSES = ("ant", "Bee", "caf\u00e9", "owl 2")
SIZES = {"train": (4, 3, 5, 2), "test": (1, 2, 1, 3)}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Images of which no two are alike, and by split u8 [N, 3, H, W] and labels, in the order of files."""
    root = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(0)
    expected = {}
    for split, sizes in SIZES.items():
        images, labels = [], []
        for name in sorted(CLASSES):
            for number in range(sizes[CLASSES.index(name)]):
                images.append(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
                labels.append(sorted(CLASSES).index(name))
                save(images[-1], root / split / name / f"{number}.png")
        expected[split] = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()), labels
    return root, expected


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_foreign_layout_is_read_to_the_same_images(archive, tmp_path, layout):
    root, expected = archive
    prepared = read(LAYOUTS[layout](archive_of(root), tmp_path / "foreign"), tmp_path / "cache")
    assert prepared.class_names == tuple(sorted(CLASSES))
    assert prepared.images.keys() == expected.keys()
    for split, (images, labels) in expected.items():
        assert torch.equal(prepared.images[split], images)
        assert prepared.labels[split].tolist() == labels


def test_the_command_tells_whether_all_are_the_same(archive, tmp_path, capsys, monkeypatch):
    root, _ = archive
    assert main([str(root), str(tmp_path / "all"), "--per-class", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(LAYOUTS)
    assert all("8 train" in line and "6 test" in line and "4 classes" in line for line in lines)
    monkeypatch.setitem(
        LAYOUTS, "nested", lambda archive, root: LAYOUTS["arrays"]({**archive, "test": archive["train"]}, root)
    )
    assert main([str(root), str(tmp_path / "other"), "--per-class", "2"]) == 1


def test_what_cannot_be_laid_out_is_one_line(archive, tmp_path, capsys):
    root, _ = archive
    mixed, written = tmp_path / "mixed", tmp_path / "written"
    for side, split in enumerate(("train", "test")):
        save(np.zeros((5 + side, 6, 3), dtype=np.uint8), mixed / split / "ant" / "0.png")
    written.mkdir()
    (tmp_path / "empty" / "train").mkdir(parents=True)
    (tmp_path / "empty" / "test").mkdir()
    wrong = [
        (mixed, "new", "images of one size: ", "train/ant/0.png has 6 x 5 pixels, ", "test/ant/0.png has 6 x 6 pixels"),
        (tmp_path / "nowhere", "new", "No such file", "nowhere/train"),
        (tmp_path / "empty", "new", "no image in ", "empty"),
        (root, "written", "File exists", "written"),
    ]
    for folder, output, *said in wrong:
        assert main([str(folder), str(tmp_path / output)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert all(part in error for part in said), error
