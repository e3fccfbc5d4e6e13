"""Every data set, read from small files in the format it is published in."""

import contextlib
import struct
import urllib.error
import urllib.request
import zlib
from functools import partial

import numpy as np
import pytest
import torch
from data_files import (
    save,
    write_cifar,
    write_fashion_mnist,
    write_huggingface,
    write_image_folder,
    write_npz,
    write_oxford_iiit_pet,
    write_stl10,
    write_svhn,
)
from PIL import ExifTags, Image, ImageOps, features
from sklearn.datasets import load_digits
from torchvision import datasets as published
from torchvision.datasets.folder import IMG_EXTENSIONS

from baselines import BUILTINS
from baselines.datasets.cifar10 import CIFAR10
from baselines.datasets.cifar100 import CIFAR100
from baselines.datasets.digits import Digits
from baselines.datasets.fashion_mnist import FashionMNIST
from baselines.datasets.huggingface import HuggingFace
from baselines.datasets.image_folder import ImageFolder
from baselines.datasets.npz import Npz
from baselines.datasets.oxford_iiit_pet import OxfordIIITPet
from baselines.datasets.stl10 import STL10
from baselines.datasets.svhn import SVHN
from harness.data import splits
from harness.data.decode import prepare
from harness.image_file import EXTENSIONS, decode
from harness.testing import check_dataset
from harness.testing.datasets import positions_predict_no_label

DRAW = np.random.default_rng(0)


def random_images(*shape):
    return DRAW.integers(0, 256, shape, dtype=np.uint8)


def check(dataset, tmp_path, expected, labels, class_names=None):
    """Decodes through the harness, in pieces, and compares with the arrays the files were made of."""
    opened = dataset.open()
    assert set(opened.splits) == set(expected)
    for split, images in expected.items():
        assert torch.equal(opened.splits[split].read(1, 3), torch.from_numpy(images[1:3]))
    prepared = prepare(dataset, "data_set", tmp_path / "cache")
    for split, images in expected.items():
        assert prepared.image_shape == images.shape[1:]
        assert torch.equal(prepared.images[split], torch.from_numpy(images))
        if split != "unlabeled":
            assert prepared.labels[split].tolist() == list(labels[split])
    assert class_names is None or prepared.class_names == tuple(class_names)


# --- digits


def test_digits_are_those_of_scikit_learn(tmp_path):
    digits = load_digits()
    scaled = np.floor(digits.images[:, None] * 255 / 16 + 0.5).astype(np.uint8)  # no value lies half-way
    check(Digits(), tmp_path, {"train": scaled}, {"train": digits.target}, "0123456789")
    assert scaled.max() == 255


# --- image_folder


@pytest.fixture
def folder(tmp_path):
    """Two classes, three images each of 6 x 4, in lossless formats, and what a file manager leaves behind."""
    images = random_images(6, 6, 4, 3)
    for i, name in enumerate(["cat/1.png", "cat/2.BMP", "cat/deeper/3.tif", "dog/1.png", "dog/2.png", "dog/3.png"]):
        save(images[i], tmp_path / "images" / name)
    (tmp_path / "images/cat/notes.txt").write_text("not an image")
    (tmp_path / "images/cat/.hidden.png").write_text("not an image")
    (tmp_path / "images/.hidden").mkdir()
    return tmp_path / "images", images.transpose(0, 3, 1, 2)


def test_image_folder_reads_one_folder_of_classes(tmp_path, folder):
    path, images = folder
    check(ImageFolder(path=str(path)), tmp_path, {"train": images}, {"train": [0, 0, 0, 1, 1, 1]}, ["cat", "dog"])


def test_image_folder_reads_train_and_test(tmp_path):
    train, test = random_images(4, 5, 5, 3), random_images(3, 5, 5, 3)
    for i in range(4):
        save(train[i], tmp_path / f"set/train/{'ab'[i // 2]}/{i}.png")
    for i in range(3):
        save(test[i], tmp_path / f"set/test/b/{i}.png")  # a test split may lack a class
    expected = {"train": train.transpose(0, 3, 1, 2), "test": test.transpose(0, 3, 1, 2)}
    check(ImageFolder(path=str(tmp_path / "set")), tmp_path, expected, {"train": [0, 0, 1, 1], "test": [1, 1, 1]})


def test_image_folder_resizes_what_differs_and_makes_grey(tmp_path, folder):
    path, _ = folder
    save(np.full((9, 30, 3), 100, dtype=np.uint8), path / "dog/4.png")
    source = ImageFolder(path=str(path)).open()
    assert source.image_shape == (3, 4, 4)  # of seven images six have 4 pixels as their shorter side
    assert torch.equal(source.splits["train"].read(6, 7), torch.full((1, 3, 4, 4), 100, dtype=torch.uint8))
    source = ImageFolder(path=str(path), size=8, channels=1).open()
    assert source.image_shape == (1, 8, 8)
    assert source.splits["train"].read(0, 7).shape == (7, 1, 8, 8)


def test_image_folder_crops_around_the_centre(tmp_path, folder):
    path, _ = folder
    wide = np.zeros((4, 12, 3), dtype=np.uint8)
    wide[:, 4:8] = 200
    save(wide, path / "cat/0.png")
    image = ImageFolder(path=str(path), size=4).open().splits["train"].read(0, 1)
    assert torch.equal(image, torch.full((1, 3, 4, 4), 200, dtype=torch.uint8))


@pytest.mark.parametrize("extension", ["jpg", "jfif", "webp", "gif"])
def test_image_folder_reads_lossy_and_indexed_formats(tmp_path, extension):
    for name, value in (("a", 40), ("b", 200)):
        save(np.full((16, 16, 3), value, dtype=np.uint8), tmp_path / f"set/{name}/0.{extension}")
    images = ImageFolder(path=str(tmp_path / "set")).open().splits["train"].read(0, 2).float()
    assert (images - torch.tensor([40.0, 200.0])[:, None, None, None]).abs().max() <= 2


def test_image_folder_names_the_file_that_cannot_be_decoded(tmp_path, folder):
    path, _ = folder
    whole = (path / "dog/2.png").read_bytes()
    for content in (b"nothing", whole[: len(whole) // 2]):
        (path / "dog/2.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot decode .*dog/2.png"):
            prepare(ImageFolder(path=str(path)), "images", tmp_path / "cache")


@pytest.mark.parametrize("extension", ["png", "tif", "pgm"])
def test_image_folder_scales_16_bits_and_counts_them_once(tmp_path, folder, extension):
    path, _ = folder
    deep = np.array([0, 128, 129, 385, 386, 4095, 40_000, 65_535], dtype=np.uint16).repeat(3).reshape(6, 4)
    save(deep, path / f"dog/4.{extension}")
    (path / "dog/0.png").write_bytes(b"oops")  # so that some images of its chunk are read twice
    prepared = prepare(ImageFolder(path=str(path), size=None), "images", tmp_path / "cache", skip_broken=True)
    scaled = torch.from_numpy(np.rint(deep / 257).astype(np.uint8))
    assert torch.equal(prepared.images["train"][-1], scaled.expand(3, 6, 4))
    assert prepared.tally == {"left_out": 2, "skipped": 1, "scaled": 1}
    assert (
        f"1 of 8 images have 16 bits a channel, which are scaled to 8 (65535 to 255), such as {path}/dog/4"
        in (prepared.notes[-1])
    )


def png_of_16_bits(values):
    """The bytes of a PNG of u16 [H, W, C], which Pillow cannot write with several channels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("channels", ["LA", "RGB", "RGBA", "PPM"])
def test_colours_of_16_bits_are_scaled_and_counted_too(tmp_path, channels):
    """Pillow reduces them by itself: to the higher byte, which is the scaled value or one less."""
    values = np.random.default_rng(0).integers(0, 65536, (5, 4, {"LA": 2, "RGBA": 4}.get(channels, 3)))
    values[..., 3:] = 65535
    file = tmp_path / "deep.any"
    pixels = values.astype(">u2").tobytes()
    file.write_bytes(b"P6 4 5 65535\n" + pixels if channels == "PPM" else png_of_16_bits(values))
    converted = {}
    image = decode(file, (3, 5, 4), converted=converted)
    colours = values[..., :1].repeat(3, -1) if channels == "LA" else values[..., :3]
    assert np.abs(image.permute(1, 2, 0).numpy() - colours / 257).max() <= 1
    assert converted["scaled"] == [str(file)]


def test_every_picture_that_pillow_reads_is_one_by_its_name():
    """Those that are left out are no pictures, or need more than Pillow; `EXTENSIONS` says so."""
    Image.init()
    readable = {ending for ending, form in Image.EXTENSION.items() if form in Image.OPEN}
    others = ".eps .ps .emf .wmf .pfm .fit .fits .h5 .hdf .grib .bufr .mpg .mpeg .iim"
    assert readable - set(EXTENSIONS) == set(others.split())
    assert len(set(EXTENSIONS)) == len(EXTENSIONS)


def test_image_folder_counts_images_of_which_it_reads_a_part(tmp_path, folder):
    path, _ = folder
    frames = [Image.new("RGB", (4, 6), colour) for colour in ("red", "blue")]
    frames[0].save(path / "dog/5.gif", save_all=True, append_images=frames[1:])
    alpha = np.full((6, 4, 4), 255, dtype=np.uint8)
    Image.fromarray(alpha).save(path / "dog/6.png")  # nothing shows through
    alpha[0, 0, 3] = 254
    Image.fromarray(alpha).save(path / "dog/7.png")
    palette = Image.new("P", (4, 6), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.save(path / "dog/8.png", transparency=1)
    prepared = prepare(ImageFolder(path=str(path)), "images", tmp_path / "cache")
    assert prepared.tally == {"left_out": 2, "frames": 1, "transparent": 2}
    said = "\n".join(prepared.notes)
    assert f"1 of 10 images have several frames or pages, of which the first is read, such as {path}/dog/5.gif" in said
    assert f"2 of 10 images have transparent pixels, whose colours are read as they are, such as {path}/dog/7" in said


def test_classes_that_differ_in_case_alone_are_named(tmp_path, folder):
    path, _ = folder
    save(np.zeros((6, 4, 3), dtype=np.uint8), path / "Dog/0.png")
    prepared = prepare(ImageFolder(path=str(path)), "images", tmp_path / "cache")
    assert "images: the classes 'Dog' and 'dog' differ in case or blanks alone, and count as several" in prepared.notes


def test_image_folder_refuses_32_bits_whose_range_nobody_knows(folder):
    path, _ = folder
    for pixels in (np.full((6, 4), 0.5, dtype=np.float32), np.full((6, 4), 70_000, dtype=np.int32)):
        save(pixels, path / "dog/4.tif")
        with pytest.raises(ValueError, match=r"dog/4.tif: it has 32 bits a channel"):
            ImageFolder(path=str(path)).open().splits["train"].read(6, 7)


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_their_orientation_says(tmp_path, extension, orientation):
    """Pillow's own function is the reference; of TIFF files it turns while it loads them."""
    pixels = np.kron(random_images(2, 3, 3), np.ones((16, 16, 1), dtype=np.uint8))
    for name in ("a", "b"):
        file = tmp_path / f"set/{name}/1.{extension}"
        file.parent.mkdir(parents=True)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        Image.fromarray(pixels).save(file, exif=exif)
    with Image.open(file) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB")).transpose(2, 0, 1)
        as_it_lies = np.asarray(opened.convert("RGB")).transpose(2, 0, 1)
    upright, lying = (ImageFolder(path=str(tmp_path / "set"), upright=turned).open() for turned in (True, False))
    assert upright.image_shape == expected.shape
    assert torch.equal(upright.splits["train"].read(1, 2)[0], torch.from_numpy(expected.copy()))
    assert torch.equal(lying.splits["train"].read(1, 2)[0], torch.from_numpy(as_it_lies.copy()))
    assert (upright.image_shape == lying.image_shape) == (orientation < 5 or extension == "tif")


def test_damaged_orientation_beside_good_pixels_is_none(tmp_path):
    for name in ("a", "b"):
        file = tmp_path / f"set/{name}/1.jpg"
        file.parent.mkdir(parents=True)
        Image.fromarray(random_images(4, 6, 3)).save(file, exif=b"Exif\x00\x00nonsense that is no EXIF data")
    assert ImageFolder(path=str(tmp_path / "set")).open().splits["train"].read(0, 2).shape == (2, 3, 4, 6)


def test_every_extension_of_torchvision_and_of_pillow_s_pictures_is_read(tmp_path):
    assert set(IMG_EXTENSIONS) <= set(EXTENSIONS)
    known = Image.registered_extensions()
    for extension in EXTENSIONS:
        assert known[extension] in {*Image.OPEN, "MPO"}, "the reader of JPEG files opens MPO files"
        if known[extension] in Image.SAVE and (extension != ".avif" or features.check("avif")):
            grey = Image.fromarray(np.full((16, 16), 255, dtype=np.uint8))
            for name in ("a", "b"):
                (tmp_path / extension / name).mkdir(parents=True)
                file = tmp_path / extension / name / f"1{extension.upper()}"
                for mode in ("1",) if extension == ".pbm" else ("RGB", "1", "P"):  # what its format can hold
                    with contextlib.suppress(OSError, ValueError):
                        grey.convert(mode).save(file)
                        break
            pixels = ImageFolder(path=str(tmp_path / extension)).open().splits["train"].read(0, 2)
            assert pixels.float().mean() > 250, extension


def test_image_folder_refuses_folders_that_are_no_data_set(tmp_path, folder):
    path, _ = folder
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        ImageFolder(path=str(tmp_path / "nowhere")).identity()
    (path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no image"):
        ImageFolder(path=str(path)).open()
    with pytest.raises(ValueError, match=r"cat holds 1 class folders; at least 2"):
        ImageFolder(path=str(path / "cat")).open()
    save(random_images(6, 4, 3), tmp_path / "two/train/a/1.png")
    save(random_images(6, 4, 3), tmp_path / "two/train/b/1.png")
    for name in ("a", "c"):
        save(random_images(6, 4, 3), tmp_path / f"two/test/{name}/1.png")
    with pytest.raises(ValueError, match="no class 'c' among the training images"):
        ImageFolder(path=str(tmp_path / "two")).open()


def test_image_folder_is_another_data_set_when_a_file_or_a_setting_changes(folder):
    path, _ = folder
    identities = [ImageFolder(path=str(path)).identity(), ImageFolder(path=str(path)).identity()]
    assert identities[0] == identities[1]
    identities += [ImageFolder(path=str(path), size=4).identity(), ImageFolder(path=str(path), channels=1).identity()]
    (path / "dog/3.png").rename(path / "dog/4.png")
    identities.append(ImageFolder(path=str(path)).identity())
    (path / "dog/4.png").touch()
    identities.append(ImageFolder(path=str(path)).identity())
    (path / "dog/4.png").unlink()
    identities.append(ImageFolder(path=str(path)).identity())
    assert len(set(identities)) == 6


@pytest.mark.parametrize(
    "make",
    [
        lambda: ImageFolder(size=0),
        lambda: ImageFolder(channels=2),
        lambda: Npz(layout="HWCN"),
        lambda: OxfordIIITPet(size=0),
    ],
)
def test_impossible_hyper_parameters_are_refused(make):
    with pytest.raises(ValueError, match=r"^(size|channels|layout): "):
        make()


# --- npz


@pytest.mark.parametrize("layout", ["NHW", "NHWC", "NCHW"])
def test_npz_finds_out_the_layout(tmp_path, layout):
    arrays = {"train": random_images(7, 1 if layout == "NHW" else 3, 6, 5), "test": random_images(4, 3, 6, 5)}
    arrays["test"] = arrays["test"][:, : arrays["train"].shape[1]]
    labels = {"train": [0, 1, 2, 0, 1, 2, 0], "test": [2, 1, 0, 1]}
    stored = {
        "NHW": lambda images: images[:, 0],
        "NHWC": lambda images: images.transpose(0, 2, 3, 1),
        "NCHW": lambda images: images,
    }[layout]
    np.savez(
        tmp_path / "set.npz",
        x_train=stored(arrays["train"]),
        y_train=np.array(labels["train"], dtype=np.uint8)[:, None],
        x_test=stored(arrays["test"]),
        y_test=labels["test"],
    )
    check(Npz(path=str(tmp_path / "set.npz")), tmp_path, arrays, labels, ["0", "1", "2"])


def test_npz_may_have_unlabeled_images_and_names_and_no_test_set(tmp_path):
    images, extra = random_images(4, 1, 6, 5), random_images(3, 1, 6, 5)
    names = ["cat", "dog"]
    np.savez(tmp_path / "set.npz", x_train=images, y_train=[0, 1, 0, 1], x_unlabeled=extra, class_names=names)
    dataset = Npz(path=str(tmp_path / "set.npz"))
    check(dataset, tmp_path, {"train": images, "unlabeled": extra}, {"train": [0, 1, 0, 1]}, names)


def test_npz_asks_where_the_layout_is_ambiguous(tmp_path):
    images = random_images(4, 3, 6, 3)
    np.savez(tmp_path / "set.npz", x_train=images, y_train=[0, 1, 0, 1])
    with pytest.raises(ValueError, match="may be NHWC or NCHW; set layout"):
        Npz(path=str(tmp_path / "set.npz")).open()
    read = {key: Npz(path=str(tmp_path / "set.npz"), layout=key).open() for key in ("NCHW", "NHWC")}
    assert torch.equal(read["NCHW"].splits["train"].read(0, 4), torch.from_numpy(images))
    assert torch.equal(read["NHWC"].splits["train"].read(0, 4), torch.from_numpy(images.transpose(0, 3, 1, 2)))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y_train": [0, 1]}, "holds no x_train"),
        ({"y_train": [0, 1], "x_train": random_images(2, 4, 4), "x_test": random_images(2, 4, 4)}, "no y_test; images"),
        ({"y_train": [0, 1], "x_train": np.eye(4)}, r"x_train is float64 \(4, 4\); numbers"),
        ({"y_train": [0, 1], "x_train": np.eye(4)[None][[0, 0]] - 1}, r"x_train is float64 from -1 to 0; uint8"),
        ({"y_train": [0, 1], "x_train": np.full((2, 4, 4), np.nan)}, r"x_train is float64 from nan to nan"),
        ({"y_train": [0, 1], "x_train": np.full((2, 4, 4), 256)}, r"x_train is int64 from 256 to 256"),
        ({"y_train": [0, 1], "x_train": random_images(2, 4, 4, 4)}, "1 or 3 channels are needed"),
        ({"y_train": [0.0, 0.5], "x_train": random_images(2, 4, 4)}, "y_train holds 0.5; labels are whole numbers"),
        ({"y_train": [0, 1, 2], "x_train": random_images(2, 4, 4)}, r"y_train \(int64 \[3\]\) for 2 images"),
        (
            {"y_train": [0, 1], "x_train": random_images(2, 4, 4), "x_unlabeled": random_images(2, 4, 5)},
            "images differ in shape",
        ),
    ],
)
def test_npz_names_the_array_that_is_wrong(tmp_path, arrays, message):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        Npz(path=str(tmp_path / "set.npz")).open()


def test_npz_names_a_file_that_is_missing_or_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*set.npz"):
        Npz(path=str(tmp_path / "set.npz")).identity()
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"holds no x_train and no y_train; it holds array \(float64 \[3\]\)"):
        Npz(path=str(tmp_path / "array.npy")).open()
    (tmp_path / "text.npz").write_text("nothing")
    with pytest.raises(ValueError, match=r"text\.npz is not a whole file of plain arrays"):
        Npz(path=str(tmp_path / "text.npz")).open()


# --- the published sets, in small files of their own formats


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.mark.parametrize("dataset", [CIFAR10, CIFAR100])
def test_cifar(tmp_path, monkeypatch, dataset):
    names = [f"class {k}" for k in range(4)]
    arrays = {"train": random_images(8, 3, 32, 32), "test": random_images(4, 3, 32, 32)}
    labels = {"train": [0, 1, 2, 3, 3, 2, 1, 0], "test": [3, 2, 1, 0]}
    write_cifar(tmp_path, monkeypatch, arrays, labels, dataset.__name__)
    check(dataset(root=str(tmp_path)), tmp_path, arrays, labels, names)


def test_svhn(tmp_path, monkeypatch):
    arrays = {"train": random_images(11, 3, 32, 32), "test": random_images(5, 3, 32, 32)}
    labels = {"train": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0], "test": [0, 9, 1, 2, 3]}
    write_svhn(tmp_path, monkeypatch, arrays, labels)
    check(SVHN(root=str(tmp_path)), tmp_path, arrays, labels, "0123456789")


def test_fashion_mnist(tmp_path, monkeypatch):
    arrays = {"train": random_images(12, 1, 28, 28), "test": random_images(5, 1, 28, 28)}
    labels = {"train": [*range(10), 0, 1], "test": [9, 8, 7, 6, 5]}
    write_fashion_mnist(tmp_path, monkeypatch, arrays, labels)
    check(FashionMNIST(root=str(tmp_path)), tmp_path, arrays, labels, published.FashionMNIST.classes)


def test_stl10(tmp_path, monkeypatch):
    arrays = {name: random_images(n, 3, 96, 96) for name, n in (("train", 6), ("test", 4), ("unlabeled", 5))}
    labels = {"train": [0, 1, 2, 0, 1, 2], "test": [2, 1, 0, 2]}
    write_stl10(tmp_path, monkeypatch, arrays, labels)
    check(STL10(root=str(tmp_path)), tmp_path, arrays, labels, ["airplane", "bird", "car"])


def test_oxford_iiit_pet(tmp_path, monkeypatch):
    values = {"train": [30, 90, 150], "test": [210, 60, 120]}
    arrays = {
        split: np.stack([np.full((3, 16, 16), value, dtype=np.uint8) for value in grey])
        for split, grey in values.items()
    }
    labels = {"train": [0, 1, 0], "test": [1, 0, 1]}
    write_oxford_iiit_pet(tmp_path, monkeypatch, arrays, labels)
    dataset = OxfordIIITPet(root=str(tmp_path), size=16)
    check(dataset, tmp_path, arrays, labels, ["Abyssinian", "Great Dane"])
    assert dataset.identity() != OxfordIIITPet(root=str(tmp_path)).identity()


# --- every data set, sorted by class as it may be published


SORTED = {
    "cifar10": (partial(CIFAR10), partial(write_cifar, name="CIFAR10"), (3, 32, 32), 4),
    "cifar100": (partial(CIFAR100), partial(write_cifar, name="CIFAR100"), (3, 32, 32), 4),
    "fashion_mnist": (partial(FashionMNIST), write_fashion_mnist, (1, 28, 28), 10),
    "oxford_iiit_pet": (partial(OxfordIIITPet, size=8), write_oxford_iiit_pet, (1, 8, 8), 2),
    "stl10": (partial(STL10), write_stl10, (3, 96, 96), 3),
    "svhn": (partial(SVHN), write_svhn, (3, 32, 32), 10),
    "image_folder": (partial(ImageFolder), write_image_folder, (3, 8, 8), 4),
    "npz": (partial(Npz), write_npz, (3, 8, 9), 4),
    "huggingface": (partial(HuggingFace), write_huggingface, (3, 8, 8), 4),
}


@pytest.mark.parametrize("name", SORTED)
def test_a_data_set_sorted_by_class_keeps_every_promise(tmp_path, monkeypatch, name):
    dataset, write, shape, num_classes = SORTED[name]
    labels = {"train": np.repeat(np.arange(num_classes), 120 // num_classes), "test": np.arange(60) * num_classes // 60}
    arrays = {split: random_images(len(values), *shape) for split, values in labels.items()}
    place = write(tmp_path, monkeypatch, arrays, labels)
    plugin = partial(dataset, **{"path" if name in ("image_folder", "npz", "huggingface") else "root": str(place)})
    check_dataset(plugin)
    monkeypatch.setattr(splits, "in_random_order", lambda rows, *_: rows)
    with pytest.raises(AssertionError, match=r"of the pool images 9\d\.\d% have the class of the one before"):
        positions_predict_no_label(plugin)


def test_every_data_set_that_has_files_is_tried_sorted():
    elsewhere = {"digits", "manifest", "embeddings"}  # files that need a form of their own: in the tests of each
    assert SORTED.keys() == set(BUILTINS["datasets"]) - elsewhere


@pytest.mark.parametrize("dataset", [CIFAR10, CIFAR100, SVHN, FashionMNIST, STL10, OxfordIIITPet])
def test_without_a_network_one_line_says_what_is_missing_and_where_to_put_it(tmp_path, dataset):
    missing = dataset(root=str(tmp_path / "nowhere"))
    assert missing.identity() == dataset(root="elsewhere").identity()
    with pytest.raises(FileNotFoundError) as caught:
        missing.open()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{missing.title} is not in {tmp_path}/nowhere and cannot be downloaded (")
    assert all(url in message for url in missing.urls)
    assert message.endswith(f"into {tmp_path / 'nowhere' / missing.folder}")


def test_published_urls_are_the_ones_torchvision_knows():
    base = published.CIFAR10
    assert CIFAR10.urls == (base.url,)
    assert CIFAR100.urls == (published.CIFAR100.url,)
    assert SVHN.urls == tuple(published.SVHN.split_list[split][0] for split in ("train", "test"))
    assert STL10.urls == (published.STL10.url,)
    assert OxfordIIITPet.urls == tuple(url for url, _ in published.OxfordIIITPet._RESOURCES)
