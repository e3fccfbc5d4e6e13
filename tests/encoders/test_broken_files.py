"""Embedding and picking where some image files are broken: all named at once, or left out, and nothing done is lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data_files import save

from harness import embed
from harness.data.splits import in_random_order
from harness.embeddings_file import read_embeddings
from harness.encoders import saved
from harness.pick import candidates

GOOD, BROKEN = (0, 2, 3, 6), (1, 4, 5)


class Encoder:
    """Gives the first two pixels of an image, and remembers how many it saw."""

    image_shape = (1, 4, 4)
    backbone = SimpleNamespace(feature_dim=2)
    runtime = SimpleNamespace(device=torch.device("cpu"))

    def __init__(self):
        self.about = {"upright": True, "trial": "t", "backbone": {"name": "dcnn3"}}
        self.seen = 0

    def embed(self, images):
        self.seen += len(images)
        return images.flatten(1)[:, :2].float()


@pytest.fixture
def encoder(monkeypatch):
    encoder = Encoder()
    monkeypatch.setattr(saved.SavedEncoder, "load", lambda *_: encoder)
    monkeypatch.setattr(embed, "model_folder", lambda *_: Path())
    monkeypatch.setattr(embed, "CHUNK", 2)  # of some pieces all images are broken
    return encoder


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    for number in (*GOOD, *BROKEN):
        save(np.full((4, 4), number * 30, dtype=np.uint8), folder / f"{number}.png")
    for number in BROKEN:
        (folder / f"{number}.png").write_bytes(b"oops")
    save(np.zeros((4, 4), dtype=np.uint8), folder / "@eaDir/0.png")
    return folder


def names_of(numbers, folder):
    return [str(folder / f"{number}.png") for number in numbers]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_broken_files_are_named_at_once_or_left_out(encoder, images, tmp_path, capsys, suffix):
    output = tmp_path / f"e{suffix}"
    said = ["model", str(images), "--output", str(output)]
    assert embed.main(said) == 2
    error = capsys.readouterr().err.splitlines()
    assert (
        f"{images}: 1 image left out: hidden, or of storage devices and archives (such as {images}/@eaDir/0.png)"
        in (error)
    )
    assert error[-1].startswith(f"3 broken images: cannot decode {images}/1.png: ")
    assert all(name in error[-1] for name in names_of(BROKEN, images))
    assert error[-1].endswith("mend or remove what is broken, or leave it out by --on-broken skip")
    assert not list(tmp_path.glob("e*"))
    assert embed.main([*said, "--on-broken", "skip"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("4 images, as 1 x 4 x 4")
    assert "skipped 3 broken images: cannot decode " in err
    (part,) = read_embeddings(output).parts.values()
    assert part.paths.tolist() == names_of(GOOD, images)
    assert part.read(0, 4).tolist() == [[number * 30.0] * 2 for number in GOOD]


def test_of_many_broken_files_all_stand_in_a_file(encoder, tmp_path, capsys):
    for number in range(14):
        (tmp_path / f"{number:02}.png").write_bytes(b"oops")
    assert embed.main(["model", str(tmp_path), "--output", str(tmp_path / "e.npz")]) == 2
    assert f"and 4 more, all named in {tmp_path / 'e.npz.broken.txt'}; " in capsys.readouterr().err
    assert len((tmp_path / "e.npz.broken.txt").read_text().splitlines()) == 14
    said = ["model", str(tmp_path), "--output", str(tmp_path / "e.npz"), "--on-broken", "skip"]
    assert embed.main(said) == 2, "nothing is left"
    assert not (tmp_path / "e.npz").exists()


def test_a_file_that_is_named_twice_is_embedded_once(encoder, images, tmp_path, capsys):
    (tmp_path / "link").symlink_to(images)
    for number in BROKEN:
        (images / f"{number}.png").unlink()
    one = images / "2.png"
    given = [one, one, images, f"{images}/../{images.name}/3.png", tmp_path / "link"]
    assert embed.main(["model", *map(str, given), "--output", str(tmp_path / "e.npz")]) == 0
    files = np.load(tmp_path / "e.npz")["files"].tolist()
    assert files == names_of([2, 0, 3, 6], images)
    assert f"{1 + 1 + 1 + len(GOOD)} images left out: named before" in capsys.readouterr().err


def test_a_link_to_nothing_is_a_broken_image(encoder, images, tmp_path, capsys):
    for number in BROKEN:
        (images / f"{number}.png").unlink()
    (images / "5.png").symlink_to(tmp_path / "gone.png")
    said = ["model", str(images), "--output", str(tmp_path / "e.npz")]
    assert embed.main(said) == 2
    assert f"1 broken image: cannot decode {images}/5.png: " in capsys.readouterr().err
    assert embed.main([*said, "--on-broken", "skip"]) == 0
    with pytest.raises(ValueError, match=r"1 broken image: cannot decode .*5\.png: "):
        _ = candidates.of_folder(images, encoder, tmp_path / "cache").features
    pool = candidates.of_folder(images, encoder, tmp_path / "cache", "skip")
    assert sorted(pool.names) == [f"{number}.png" for number in GOOD]


def test_another_content_under_the_same_size_and_date_is_embedded_again(encoder, tmp_path):
    file = tmp_path / "images/0.bmp"
    for value in (1, 2):
        save(np.full((4, 4), value, dtype=np.uint8), file)
        os.utime(file, ns=(0, 0))
        assert candidates.of_folder(file.parent, encoder, tmp_path / "cache").features.tolist() == [[value] * 2]


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_embeddings_of_the_cache_are_made_anew(encoder, images, tmp_path, damage):
    for number in BROKEN:
        (images / f"{number}.png").unlink()
    features = candidates.of_folder(images, encoder, tmp_path / "cache").features
    (file,) = (tmp_path / "cache").iterdir()
    content = file.read_bytes()
    place = content.index(features.numpy().tobytes())
    file.write_bytes(content[:place] if damage == "cut" else content[:place] + b"?" + content[place + 1 :])
    assert candidates.of_folder(images, encoder, tmp_path / "cache").features.equal(features)
    assert encoder.seen == 2 * len(GOOD)


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".csv"])
def test_a_name_that_no_table_can_hold_is_refused_before_anything_is_embedded(
    encoder, images, tmp_path, capsys, suffix
):
    shutil.copy(images / "0.png", os.fsencode(images) + b"/caf\xe9.png")
    assert embed.main(["model", str(images), "--output", str(tmp_path / f"e{suffix}")]) == 2
    error = f"the name of {images}/caf\\udce9.png is not UTF-8; rename it (convmv does many)"
    assert capsys.readouterr().err.splitlines()[-1] == error
    with pytest.raises(ValueError, match="is not UTF-8; rename it"):
        candidates.of_folder(images, encoder, tmp_path / "cache")
    assert encoder.seen == 0


def test_a_name_in_a_file_of_embeddings_that_no_table_can_hold_is_refused(tmp_path):
    np.savez(tmp_path / "e.npz", files=np.array(["a.png", "caf\udce9.png"]), embeddings=np.eye(2, dtype=np.float32))
    with pytest.raises(ValueError, match=r"the name of .*udce9\.png is not UTF-8"):
        candidates.of_embeddings(tmp_path / "e.npz", None)


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--onnx", "gone/x.onnx", "--onnx gone/x.onnx: no folder "),
        ("--onnx", "folder.npz", "--onnx folder.npz: is a folder"),
        ("--output", "x.NPZ", "--output x.NPZ: ends in neither .npz nor .parquet nor .csv; did you mean x.npz?"),
        ("--output", "folder.npz", "--output folder.npz: is a folder"),
    ],
)
def test_where_nothing_can_be_written_is_said_first(images, tmp_path, monkeypatch, capsys, option, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.npz").mkdir()
    assert embed.main(["model", str(images), option, name]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_what_was_embedded_is_kept_where_picking_meets_a_broken_file(encoder, images, tmp_path):
    pool = candidates.of_folder(images, encoder, tmp_path / "cache")
    with pytest.raises(ValueError, match=r"3 broken images: .*1\.png: .*4\.png: .*5\.png: .*--on-broken skip"):
        _ = pool.features
    assert encoder.seen == len(GOOD)
    for number in BROKEN:
        save(np.full((4, 4), number * 30, dtype=np.uint8), images / f"{number}.png")
    pool = candidates.of_folder(images, encoder, tmp_path / "cache")
    assert pool.features[:, 0].tolist() == [int(name[0]) * 30 for name in pool.names]
    assert encoder.seen == 7, "mended files alone are embedded"


def test_a_pool_without_its_broken_files_is_that_of_a_trial_that_skips_them(encoder, images, tmp_path, capsys):
    pool = candidates.of_folder(images, encoder, tmp_path / "cache", "skip")
    order = in_random_order(torch.arange(len(GOOD)), candidates.ORDER_SEED, "pool").tolist()
    assert pool.names == [f"{GOOD[row]}.png" for row in order]
    assert pool.features[:, 0].tolist() == [int(name[0]) * 30 for name in pool.names]
    assert "skipped 3 broken images: " in capsys.readouterr().err
    assert encoder.seen == len(GOOD)
