"""One archive of images laid out as five other people would, to see that each is read to the same images.

    python -m examples.foreign_layouts data/cifar10 data/foreign_layouts --per-class 20

The archive is a folder `{train,test}/<class>/<file>`; `--per-class` takes the first images of each class and split. Of
every layout a line says what to write into a question, and how many images of how many classes it was read to; the last
word is a hash of all images, labels and names of classes, which is the same for all. Exit 1 where it is not, 2 with a
line where the archive cannot be laid out: arrays hold images of one size.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.data.decode import Prepared, prepare
from harness.messages import message_of
from harness.plugins import registry

Archive = Mapping[str, Mapping[str, list[Path]]]
"""Split -> class -> files, all sorted."""

Layout = Callable[[Archive, Path], dict[str, Any]]
"""Writes an archive into a folder; gives the data set that reads it, as a question names it."""


def archive_of(folder: Path, per_class: int | None = None) -> Archive:
    """The images of a folder `{train,test}/<class>/<file>`, the first `per_class` of each class.

    Raises:
        OSError: there is no such folder, or a file is no image.
        ValueError: it holds no image, or images of several sizes.
    """
    archive = {
        split: {
            one.name: sorted(file for file in one.iterdir() if file.is_file())[:per_class]
            for one in sorted((folder / split).iterdir())
            if one.is_dir()
        }
        for split in ("train", "test")
    }
    sizes: dict[tuple[int, int], Path] = {}
    for file in (file for classes in archive.values() for files in classes.values() for file in files):
        with Image.open(file) as image:
            sizes.setdefault(image.size, file)
    if len(sizes) != 1:
        shown = [f"{file} has {width} x {height} pixels" for (width, height), file in sizes.items()][:2]
        raise ValueError(f"arrays hold images of one size: {', '.join(shown)}" if shown else f"no image in {folder}")
    return archive


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)


def in_capitals(archive: Archive, root: Path) -> dict[str, Any]:
    """`TRAIN/cat/1.JPG`, `TestData/cat/2.JPG`."""
    for split, classes in archive.items():
        for name, files in classes.items():
            for file in files:
                folder = {"train": "TRAIN", "test": "TestData"}[split]
                _copy(file, root / folder / name / f"{file.stem}{file.suffix.upper()}")
    return {"name": "image_folder", "path": str(root)}


def nested(archive: Archive, root: Path) -> dict[str, Any]:
    """`seg_train/seg_train/A-M/cat/1.jpg`: each class in a folder of several, each split in one of its name."""
    for split, classes in archive.items():
        for place, (name, files) in enumerate(classes.items()):
            group = f"group {2 * place // len(classes)}"
            for file in files:
                _copy(file, root / f"seg_{split}" / f"seg_{split}" / group / name / file.name)
    return {"name": "image_folder", "path": str(root), "depth": 2}


def flat_with_table(archive: Archive, root: Path) -> dict[str, Any]:
    """All images in one folder under numbers, and a table of `image_id;species;usage` as a spreadsheet saves it."""
    rows = [("image_id", "species", "usage")]
    usage = {"train": "Training", "test": "PrivateTest"}
    for split, classes in archive.items():
        for name, files in classes.items():
            for file in files:
                number = f"{len(rows):06}"
                _copy(file, root / "images" / f"{number}{file.suffix}")
                rows.append((number, name, usage[split]))
    with (root / "labels.csv").open("w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream, delimiter=";").writerows(rows)
    return {"name": "manifest", "path": str(root / "labels.csv"), "root": str(root / "images")}


def arrays(archive: Archive, root: Path) -> dict[str, Any]:
    """An .npz with MedMNIST's keys: images u8 [N, H, W, 3], labels [N, 1], here texts."""
    root.mkdir(parents=True)
    parts = {}
    for split, classes in archive.items():
        images = [np.asarray(Image.open(file).convert("RGB")) for files in classes.values() for file in files]
        parts[f"{split}_images"] = np.stack(images)
        parts[f"{split}_labels"] = np.array([[name] for name, files in classes.items() for _ in files])
    np.savez(root / "set.npz", **parts)
    return {"name": "npz", "path": str(root / "set.npz")}


def parquet(archive: Archive, root: Path) -> dict[str, Any]:
    """Parquet files with the bytes of each image, as data sets are published: `default/train/0000.parquet`."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    for split, classes in archive.items():
        listed = [(file, name) for name, files in classes.items() for file in files]
        images = [{"bytes": file.read_bytes(), "path": file.name} for file, _ in listed]
        (root / "default" / split).mkdir(parents=True)
        table = pa.table({"image": images, "label": [name for _, name in listed]})
        pq.write_table(table, root / "default" / split / "0000.parquet", row_group_size=100)
    return {"name": "huggingface", "path": str(root)}


LAYOUTS: dict[str, Layout] = {
    "in capitals": in_capitals,
    "nested": nested,
    "flat with a table": flat_with_table,
    "arrays": arrays,
    "parquet": parquet,
}


def read(settings: Mapping[str, Any], cache: Path) -> Prepared:
    """The images of a data set, as a sweep reads them."""
    spec = registry.as_spec("datasets", settings)
    return prepare(registry.build(spec), spec.name, cache, settings=spec.hyperparameters)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.foreign_layouts", description="Lays an archive out in five ways."
    )
    parser.add_argument("archive", type=Path, help="a folder {train,test}/<class>/<file>")
    parser.add_argument("output", type=Path, help="a new folder for the layouts")
    parser.add_argument("--per-class", type=int, metavar="N", help="images of each class and split; default: all")
    options = parser.parse_args(arguments)
    try:
        archive = archive_of(options.archive, options.per_class)
        options.output.mkdir(parents=True)
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: {message_of(error)}", file=sys.stderr)
        return 2
    seen = set()
    with tempfile.TemporaryDirectory() as cache:
        for name, layout in LAYOUTS.items():
            settings = layout(archive, options.output / name)
            prepared = read(settings, Path(cache))
            counts = ", ".join(f"{len(images)} {split}" for split, images in prepared.images.items())
            print(f"{name}: {settings}: {counts}, {len(prepared.class_names)} classes, {prepared.fingerprint}")
            seen.add(prepared.fingerprint)
    return 0 if len(seen) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
