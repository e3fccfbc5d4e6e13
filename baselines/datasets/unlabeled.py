"""Images without labels beside those that have some, and a table of the labels that can be bought for them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from baselines.datasets.folder_layout import Layout
from baselines.datasets.listed import Listed, listed_images
from harness.image_file import ImageFile, scan
from harness.tables import Columns, closest, names_of


def without_classes(root: str) -> Layout:
    """Every image below a folder, whatever the folders in it are called."""
    tree = scan(root)
    folders, images = list(tree.walk()), tree.all_images
    if not images:
        raise ValueError(f"{root} holds no image")
    notes = [f"{root}: {len(images)} images, whose folders are taken for no classes"] if len(folders) > 1 else []
    left_out = [path for folder in folders for path in (*folder.others, *folder.clutter)]
    if left_out:
        files = "1 file is" if len(left_out) == 1 else f"{len(left_out)} files are"
        notes.append(f"{root}: {files} left out, such as {left_out[0]}")
    return Layout({}, tuple(notes), tuple(images), len(left_out))


def with_oracle(layout: Layout, oracle: Path, root: Path) -> Layout:
    """The layout with the images whose labels an oracle knows among the training images, and no longer without labels.

    Args:
        layout: with images without labels.
        oracle: a table of files and labels; those whose label is empty stay where they are.
        root: the folder to which its paths refer, or the folders of the images without labels, if they are not there.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: it cannot be read, or names other images, or classes that are not in the layout, which has some;
            names rows.
    """
    without = {os.path.normpath(image.path): image for image in layout.unlabeled}
    roots = [root, *(Path(folder) for folder in sorted({os.path.dirname(path) for path in without}))]
    listed, said = listed_images(oracle, roots, Columns())
    bought = [one for one in listed if one.label]
    _check_files(bought, without, oracle)
    train = layout.splits.get("train")
    names = tuple(train) if train else names_of(one.label for one in bought)
    added: dict[str, list[ImageFile]] = defaultdict(list)
    for one in bought:
        if one.label not in names:
            near = closest(one.label, names)
            raise ValueError(f"{oracle}: {one.place}: no class {one.label!r} among the training images; {near}")
        added[one.label].append(without[one.image.path])
    if len(names) < 2:
        why = f" ({'; '.join(note.removeprefix(f'{oracle}: ') for note in said)})" if said else ""
        raise ValueError(f"{oracle}: it labels images of {len(names)} classes; at least 2 are needed{why}")
    known = {one.image.path for one in bought}
    left = tuple(image for path, image in without.items() if path not in known)
    classes = {name: [*(train or {}).get(name, ()), *added[name]] for name in names}
    note = f"{oracle}: {len(bought)} images join the pool, their labels to be bought; {len(left)} stay without labels"
    note += "; its splits are not read" if any(one.split for one in bought) else ""
    return replace(
        layout,
        splits={**layout.splits, "train": classes},
        notes=(*layout.notes, *said, note),
        unlabeled=left,
    )


def _check_files(bought: Sequence[Listed], without: dict[str, ImageFile], oracle: Path) -> None:
    others = [one for one in bought if one.image.path not in without]
    if others:
        raise ValueError(
            f"{oracle}: {len(others)} of {len(bought)} labels are of images that are not among those without labels: "
            + ", ".join(f"{one.place} {one.image.path}" for one in others[:3])
            + (" ..." if len(others) > 3 else "")
        )
