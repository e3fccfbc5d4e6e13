"""Image folders as people really have them: one clear line or a stated skip with a count, never a wrong label."""

from __future__ import annotations

import importlib
import os
import random
import struct
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from baselines.datasets import image_files
from baselines.datasets.image_files import common_size
from baselines.datasets.image_folder import ImageFolder
from baselines.datasets.manifest import Manifest
from baselines.datasets.npz import Npz
from harness.data import decode, pixels
from harness.data.decode import Prepared, prepare

COLOURS = {"cat": (255, 0, 0), "dog": (0, 255, 0), "a name, with spaces": (0, 0, 255), "猫 été": (255, 255, 0)}


def fill(root: Path, classes=tuple(COLOURS), number: int = 3, extension: str = "png") -> Path:
    """Each class in a colour of its own, so that a wrong label shows."""
    for name in classes:
        (root / name).mkdir(parents=True)
        for position in range(number):
            Image.new("RGB", (8, 8), COLOURS.get(name, (9, 9, 9))).save(root / name / f"image {position} ü.{extension}")
    return root


def read(root: Path, size: int | None = 8) -> Prepared:
    return prepare(ImageFolder(path=str(root), size=size), "images", root.parent / "cache")


def assert_labels_fit_colours(found: Prepared) -> None:
    for image, label in zip(found.images["train"], found.labels["train"], strict=True):
        mean = image.float().mean((1, 2))
        assert (mean - torch.tensor(COLOURS[found.class_names[label]])).abs().max() < 40, found.class_names[label]


def refusal(root: Path, size: int | None = 8) -> str:
    """The one line with which the folder is refused."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read(root, size)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_names_with_spaces_and_of_every_script_keep_their_labels(tmp_path):
    found = read(fill(tmp_path / "images"))
    assert found.class_names == tuple(sorted(COLOURS))
    assert len(found.labels["train"]) == 12
    assert_labels_fit_colours(found)


def test_what_is_no_image_by_its_name_is_left_out_with_a_count(tmp_path):
    root = fill(tmp_path / "images")
    (root / "cat/notes.txt").write_text("not an image")
    (root / "dog/deeper").mkdir()
    (root / "dog/deeper/video.mp4").write_bytes(b"\0")
    Image.new("RGB", (8, 8)).save(root / "beside.png")
    found = read(root)
    assert any("3 files are left out" in note for note in found.notes)
    assert len(found.labels["train"]) == 12
    assert_labels_fit_colours(found)


def bytes_of(root: Path, extension: str) -> tuple[Path, bytes]:
    file = root / "cat" / f"image 1 ü.{extension}"
    return file, file.read_bytes()


@pytest.mark.parametrize("extension", ["png", "jpg", "gif", "webp", "bmp", "tif"])
def test_fuzzed_files_are_decoded_or_named_in_one_line(tmp_path, extension):
    """Truncated everywhere and with bytes changed at random: an image comes out, or a line with the file's name."""
    root = fill(tmp_path / "images", number=2, extension=extension)
    file, content = bytes_of(root, extension)
    rng = random.Random(0)
    decode = ImageFolder(path=str(root), size=8).open().splits["train"].read
    refused = 0
    for number in range(120):
        broken = bytearray(content)
        if number % 2:
            for _ in range(rng.randint(1, 12)):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
        else:
            del broken[rng.randrange(len(broken)) :]
        file.write_bytes(broken)
        try:
            images = decode(0, 8)
        except ValueError as error:
            assert str(file) in str(error), error  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
        else:
            assert images.shape == (8, 3, 8, 8)
    assert refused > 10


def png_that_says(width: int, height: int) -> bytes:
    """A PNG of one bit a pixel that says how large it is, and holds next to nothing."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(100)))]
    whole = b"\x89PNG\r\n\x1a\n"
    for name, content in [*chunks, (b"IEND", b"")]:
        whole += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return whole


def test_an_image_that_would_fill_the_memory_is_named(tmp_path):
    root = fill(tmp_path / "images")
    (root / "cat/huge.png").write_bytes(png_that_says(50_000, 50_000))
    for size in (8, None):
        message = refusal(root, size)
        assert "cat/huge.png" in message
        assert "2500000000 pixels" in message


def test_images_of_one_pixel_and_of_fifty_thousand_in_a_row_are_images(tmp_path):
    root = fill(tmp_path / "images")
    Image.new("RGB", (1, 1), COLOURS["cat"]).save(root / "cat/pixel.png")
    Image.new("RGB", (50_000, 1), COLOURS["dog"]).save(root / "dog/row.png")
    Image.new("RGB", (1, 50_000), COLOURS["dog"]).save(root / "dog/column.png")
    found = read(root)
    assert len(found.labels["train"]) == 15
    assert_labels_fit_colours(found)


@pytest.mark.parametrize(
    ("classes", "words"), [((), "0 class folders; at least 2"), (("cat",), "1 class folders; at least 2")]
)
def test_fewer_than_two_classes_are_refused(tmp_path, classes, words):
    (tmp_path / "images").mkdir()
    assert words in refusal(fill(tmp_path / "images", classes))


def test_a_class_without_images_is_refused(tmp_path):
    root = fill(tmp_path / "images")
    (root / "empty").mkdir()
    assert "images/empty holds no image" in refusal(root)
    (root / "empty/notes.txt").write_text("still none")
    assert "images/empty holds no image" in refusal(root)


def test_links_that_lead_nowhere_or_round_in_circles_are_named(tmp_path):
    root = fill(tmp_path / "images")
    (root / "cat/gone.png").symlink_to("nowhere.png")
    (root / "dog/lost.png").symlink_to("/no/where.png")
    message = refusal(root)
    assert "2 broken images: " in message
    assert all(f"cannot decode {root}/{name}" in message for name in ("cat/gone.png", "dog/lost.png"))
    prepared = prepare(ImageFolder(path=str(root), size=8), "images", tmp_path / "skipping", skip_broken=True)
    assert prepared.tally["skipped"] == 2
    table = root / "labels.tsv"
    table.write_text(
        "path\tlabel\n" + "".join(f"{f.relative_to(root)}\t{f.parent.name}\n" for f in root.rglob("*.png"))
    )
    listed = prepare(Manifest(path=str(table), size=8), "listed", tmp_path / "skipping", skip_broken=True)
    assert listed.tally["skipped"] == 2
    (root / "dog/lost.png").unlink()
    (root / "cat/gone.png").unlink()
    (root / "cat/again").symlink_to("..")
    (root / "dog/again").symlink_to("..")
    assert "link to a folder that it lies in" in refusal(root)


def test_a_pipe_is_not_waited_for(tmp_path):
    root = fill(tmp_path / "images")
    os.mkfifo(root / "cat/pipe.png")
    assert "cat/pipe.png is not a file" in refusal(root)


def test_a_folder_or_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    root = fill(tmp_path / "images")
    scandir, opened = os.scandir, Image.open

    def forbidden(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:  # the superuser, whom containers run as, may read everything
        patch.setattr(os, "scandir", lambda path: forbidden(path) if str(path).endswith("dog") else scandir(path))
        assert "images/dog: Permission denied" in refusal(root)
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", lambda path: forbidden(path) if Path(path).parent.name == "dog" else opened(path))
        message = refusal(root)
    assert "cannot decode" in message
    assert "Permission denied" in message


def test_names_that_are_no_text_are_refused_for_classes_and_taken_for_files(tmp_path):
    root = fill(tmp_path / "images", ("cat", "dog"))
    os.rename(root / "cat/image 1 ü.png", os.fsencode(root / "cat") + b"/\xe9.png")
    assert_labels_fit_colours(read(root))
    os.rename(root / "cat", os.fsencode(root) + b"/caf\xe9")
    assert "cannot be shown; rename it" in refusal(root)


def test_other_modes_become_what_the_channels_say(tmp_path):
    root = fill(tmp_path / "images", ("cat", "dog"))
    red = Image.new("RGB", (8, 8), COLOURS["cat"])
    red.convert("CMYK").save(root / "cat/cmyk.tif")
    red.convert("RGBA").save(root / "cat/alpha.png")
    red.quantize(4).save(root / "cat/palette.png")
    Image.fromarray(np.full((8, 8), 200, dtype=np.uint8)).save(root / "cat/grey.png")
    found = read(root)
    assert len(found.labels["train"]) == 10
    (root / "cat/grey.png").unlink()
    assert_labels_fit_colours(read(root))


# --- several broken files


def spoil(root: Path, *names: str) -> list[Path]:
    files = [root / name for name in names]
    for file in files:
        file.write_bytes(b"oops")
    return files


def test_all_broken_files_of_all_splits_are_named_at_once(tmp_path):
    root = fill(tmp_path / "images/train", number=30).parent
    fill(root / "test", number=2)
    files = spoil(root, "train/cat/image 0 ü.png", "train/dog/image 29 ü.png", "test/dog/image 1 ü.png")
    message = refusal(root)
    assert message.startswith("data set images: 3 broken images: ")
    assert all(str(file) in message for file in files)
    assert message.endswith("mend or remove what is broken, or set data.on_broken: skip")


def test_of_many_broken_files_some_are_named_and_all_counted(tmp_path):
    root = fill(tmp_path / "images", number=8)
    for file in sorted(root.rglob("*.png"))[:25]:
        file.write_bytes(b"oops")
    message = refusal(root)
    assert "25 broken images" in message
    assert message.count("cannot decode") == 10
    (listing,) = (root.parent / "cache").glob("*-broken.txt")
    assert f"and 15 more, all named in {listing}" in message
    assert listing.read_text().count(f"cannot decode {root}") == 25


def test_skipped_files_are_said_and_the_others_are_as_if_they_had_never_been(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "CHUNK_BYTES", 5 * 8 * 8 * 3)  # some chunks are whole, in some two are broken
    root = fill(tmp_path / "images", number=7)
    files = spoil(root, "cat/image 0 ü.png", "cat/image 1 ü.png", "dog/image 6 ü.png")
    prepared = prepare(ImageFolder(path=str(root), size=8), "images", tmp_path / "skipping", skip_broken=True)
    (note,) = prepared.notes
    assert "train: skipped 3 broken images: " in note
    assert all(str(file) in note for file in files)
    for file in files:
        file.unlink()
    clean = prepare(ImageFolder(path=str(root), size=8), "images", tmp_path / "clean")
    assert prepared.fingerprint == clean.fingerprint
    assert torch.equal(prepared.images["train"], clean.images["train"])
    assert torch.equal(prepared.labels["train"], clean.labels["train"])
    assert torch.equal(prepared.sums, clean.sums)
    assert_labels_fit_colours(prepared)


def test_of_many_skipped_files_all_stand_in_a_file_too(tmp_path):
    root = fill(tmp_path / "images", number=8)
    for file in sorted(root.rglob("*.png"))[::2]:
        file.write_bytes(b"oops")
    (note,) = prepare(ImageFolder(path=str(root), size=8), "images", tmp_path / "cache", skip_broken=True).notes
    (listing,) = (tmp_path / "cache").glob("*-broken.txt")
    assert note.endswith(f"and 6 more, all named in {listing}")
    assert len(listing.read_text().splitlines()) == 16


def test_bytes_are_said_before_anything_is_decoded(tmp_path, monkeypatch):
    root = fill(tmp_path / "images")
    monkeypatch.setattr(decode.shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * 8 * 8 * 12 - 1))
    with pytest.raises(OSError, match=r"images: 12 images of 3x8x8 take 2\.3 kB, and 2\.3 kB are free"):
        read(root)
    monkeypatch.undo()
    order = []
    monkeypatch.setattr(decode, "say", lambda text: order.append(text))
    monkeypatch.setattr(
        image_files, "decode", lambda *given, **named: order.append("decodes") or torch.zeros(3, 8, 8).byte()
    )
    read(root)
    assert order == [
        f"images: 12 images of 3x8x8 take 2.3 kB, decoded once into {tmp_path / 'cache'}",
        *["decodes"] * 12,
    ]


def test_a_class_of_which_nothing_is_left_is_named(tmp_path):
    root = fill(tmp_path / "images", ("cat", "dog"), number=2)
    spoil(root, "cat/image 0 ü.png", "cat/image 1 ü.png")
    words = r"class 'cat' has no training image; every class .* \(images, train: skipped 2 broken images: cannot "
    with pytest.raises(ValueError, match=words):
        prepare(ImageFolder(path=str(root), size=8), "images", tmp_path / "cache", skip_broken=True)
    assert not list((tmp_path / "cache").glob("*/meta.json"))


def test_a_split_of_which_nothing_is_left_is_named_with_its_cause(tmp_path):
    root = fill(tmp_path / "images/train", number=2).parent
    for file in fill(root / "test", number=1).rglob("*.png"):
        file.write_bytes(b"oops")
    words = r"split test: no images \(images, test: skipped \d broken images: cannot decode "
    with pytest.raises(ValueError, match=words):
        prepare(ImageFolder(path=str(root), size=8), "images", tmp_path / "cache", skip_broken=True)


SHOWN = ["می\u200cخواهم", "👩\u200d🔬", "a\u00a0b"]


def test_names_with_joiners_and_hard_blanks_are_class_names(tmp_path):
    assert read(fill(tmp_path / "images", SHOWN[:2], number=2)).class_names == tuple(sorted(SHOWN[:2]))
    assert read(fill(tmp_path / "more", [*SHOWN[2:], "b"], number=2)).class_names == (SHOWN[2], "b")


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "a\u2028b", "a\x1b[31mb"])
def test_a_name_that_commands_is_no_class_in_any_data_set(tmp_path, name):
    images = np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3)
    np.savez(tmp_path / "set.npz", x_train=images, y_train=np.arange(4) % 2, class_names=["x", f"{name}."])
    with pytest.raises(ValueError, match="has a name that cannot be shown; rename it"):
        prepare(Npz(path=str(tmp_path / "set.npz")), "set", tmp_path / "cache")


# --- photographs


def test_photographs_without_a_size_become_small_which_is_said(tmp_path):
    root = fill(tmp_path / "images", ("cat", "dog"), number=2)
    Image.new("RGB", (4032, 3024), COLOURS["cat"]).save(root / "cat/photo.jpg")
    for number, size in enumerate([(640, 480), (480, 640), (1920, 1080), (300, 300)]):
        Image.new("RGB", size, COLOURS["dog"]).save(root / f"dog/photo {number}.jpg")
    prepared = read(root, size=None)
    assert prepared.image_shape == (3, 128, 128)
    (note,) = prepared.notes
    assert note == f"{root}: images are 8x8 to 4032x3024 pixels; all become 128x128, for `size` is not set"
    assert_labels_fit_colours(prepared)


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ([(256, 256)] * 3, (256, 256)),
        ([(512, 128)] * 3, (128, 512)),
        ([(257, 256)] * 3, (128, 128)),
        ([(40, 60), (50, 45), (300, 20)], (40, 40)),
        ([(4000, 3000), (300, 500), (90, 90)], (128, 128)),
    ],
)
def test_images_keep_a_size_that_all_have_and_that_is_small(sizes, shape):
    height, width, said = common_size(sizes)
    assert (height, width) == shape
    assert bool(said) == (len(set(sizes)) > 1 or sizes[0] == (257, 256))


def test_the_smallest_and_the_largest_size_are_told_where_they_have_as_many_pixels():
    assert common_size([(30, 20), (20, 30)])[2].startswith("images are 20x30 to 30x20 pixels; ")


def test_many_pixels_are_no_warning_and_too_many_name_the_file(tmp_path, monkeypatch):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image_file = importlib.reload(importlib.import_module("harness.image_file"))  # which sets the filter
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        assert image_file.decode(tmp_path / "a.png", (1, 4, 4)).shape == (1, 4, 4)
        assert image_files.sizes_of([str(tmp_path / "a.png")]) == [(4, 4)]
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7)
        with pytest.raises(ValueError, match=r"cannot decode .*a\.png: Image size \(16 pixels\) exceeds limit"):
            image_file.decode(tmp_path / "a.png", (1, 4, 4))
