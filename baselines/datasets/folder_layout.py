"""Which folders are the splits of a data set, and which are its classes: by their names, and by what is in them."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Literal

from harness.image_file import SOME_ENDINGS, Folder, ImageFile, in_order, scan
from harness.tables import has_commands, split_called

TABLES = (".csv", ".tsv", ".tab", ".parquet", ".jsonl")
"""How tables of labels end; `.txt` and `.json` are often something else."""

MANIFEST = "where a table has their labels, use the data set `manifest`"


@dataclass(frozen=True)
class Layout:
    """The images of every split, by class.

    Attributes:
        splits: `train` and, where there are such folders, `val` and `test` -> class -> its images, in order.
            `train` has all classes, in the order of their names.
        notes: what was decided by content and what is left out, a line each.
        unlabeled: images without labels, in order.
        left_out: how many files are not used.
    """

    splits: Mapping[str, Mapping[str, Sequence[ImageFile]]]
    notes: tuple[str, ...]
    unlabeled: tuple[ImageFile, ...] = ()
    left_out: int = 0


def read_layout(root: str, named: Mapping[str, str], depth: int | Literal["leaf"] | None) -> Layout:
    """Finds splits and classes below a folder.

    Args:
        root: the folder.
        named: split -> the folder below `root` that was named for it; `.` is `root` itself.
        depth: how many folders below a split its classes are; `leaf`: the folders in which the images lie; None: 1, if
            that is beyond doubt.

    Raises:
        ValueError: what lies there can be understood in two ways, or in none; says so, and what to set.
    """
    reading = _Reading(root, depth or 1)
    whole = scan(root)
    start = whole if named else reading.unwrap(whole, _has_classes_or_splits)
    top, unlabeled = _without_unlabeled(reading, start, named)
    asked = frozenset(named)
    named = {split: path for split, path in named.items() if split != "unlabeled"}
    splits = _splits(reading, top if named else reading.unwrap(top, _has_classes_or_splits), named)
    train = reading.unwrap(splits["train"], _has_classes)
    if not asked & {"train", "unlabeled"}:
        train, inside = _without_unlabeled_inside(reading, train, [splits[one] for one in splits if one != "train"])
        unlabeled += inside
    if depth is None:
        _refuse_doubtful_depth(reading, train)
    layout = {"train": reading.classes(train)}
    if len(layout["train"]) < 2:
        raise ValueError(
            f"{train.path} holds {len(layout['train'])} class folders; at least 2 are needed{_instead(train, whole)}"
        )
    if depth is None:
        _note_deeper(reading, train)
    taken, names = [train], {folder.name for folder in train.filled}
    for split in (split for split in ("val", "test") if split in splits):
        folder = reading.unwrap(splits[split], lambda inner: any(one.name in names for one in inner.filled))
        if split not in named and _is_flat(folder, names):
            reading.note_unused(folder, f"it holds no folders of the classes; {MANIFEST}")
        else:
            layout[split] = reading.classes(folder, tuple(layout["train"]))
            taken.append(folder)
    _note_left_out(reading, whole, taken, unlabeled)
    images = in_order(image for folder in unlabeled for image in folder.images)
    return Layout(layout, tuple(reading.notes), tuple(images), reading.left_out)


def _instead(train: Folder, whole: Folder) -> str:
    """What somebody may have meant who gave a folder without classes."""
    tables = [path for path in (*whole.others, *train.others) if path.lower().endswith(TABLES)]
    if tables:
        heap = _heap(train).path
        root = "" if os.path.dirname(tables[0]) == heap else f", root: {heap}"
        return f"; if {os.path.basename(tables[0])} has their labels: {{name: manifest, path: {tables[0]}{root}}}"
    if not train.images:
        return ""
    return f"; {len(train.images)} images lie in it directly: {MANIFEST}; `labels: none` takes them without any"


def _heap(folder: Folder) -> Folder:
    """The folder in which images lie that its only filled one holds."""
    while not folder.images and len(folder.filled) == 1:
        folder = folder.filled[0]
    return folder


@dataclass
class _Reading:
    """A layout while it is read: from where, how deep, what is to be said of it, and how many files are not used."""

    root: str
    depth: int | Literal["leaf"]
    notes: list[str] = field(default_factory=list)
    left_out: int = 0

    def note(self, text: str) -> None:
        self.notes.append(f"{self.root}: {text}")

    def note_unused(self, folder: Folder, why: str) -> None:
        self.left_out += folder.num_images
        self.note(f"the {folder.num_images} images of {self.shown(folder)} are not used: {why}")

    def shown(self, *folders: Folder) -> str:
        """Folders as people write them, by their paths below the root; some of many."""
        paths = [os.path.relpath(folder.path, self.root) + "/" for folder in folders]
        return ", ".join(paths[:3] + ["..."] * (len(paths) > 3))

    def unwrap(self, folder: Folder, is_goal: Callable[[Folder], bool]) -> Folder:
        """The folder, or the first goal on the way down where each folder holds only the next one; else the folder."""
        inner = folder
        while not is_goal(inner):
            if len(inner.filled) != 1 or inner.filled[0].images or not inner.filled[0].filled:
                return folder
            inner = inner.filled[0]
        if inner is not folder:
            self.note(f"{self.shown(inner)} is taken for {self.shown(folder)}, which holds nothing else")
        return inner

    def class_folders(self, folder: Folder, level: int = 1) -> Iterator[Folder]:
        """The folders below, by `depth`, whose names are those of the classes."""
        for inner in folder.folders:
            if self.depth == "leaf":
                if inner.images or not inner.folders:
                    yield inner
                yield from self.class_folders(inner)
            elif level == self.depth:
                yield inner
            else:
                yield from self.class_folders(inner, level + 1)

    def images(self, class_folder: Folder) -> list[ImageFile]:
        """Those that belong to the class."""
        if self.depth == "leaf":
            return list(class_folder.images)
        return [image for folder in class_folder.walk() for image in folder.images]

    def classes(self, split: Folder, known: tuple[str, ...] | None = None) -> dict[str, list[ImageFile]]:
        """Class -> its images; folders of one name are one class. Beside `train` there may be `known` ones only."""
        folders: dict[str, list[Folder]] = defaultdict(list)
        for folder in self.class_folders(split):
            if has_commands(folder.name):
                raise ValueError(
                    f"{split.path}: the class folder {folder.name!r} has a name that cannot be shown; rename it"
                )
            if known is not None and folder.name not in known:
                shown = ", ".join(known[:5]) + ", ..." * (len(known) > 5)
                raise ValueError(f"{folder.path}: no class {folder.name!r} among the training images ({shown})")
            if not self.images(folder):
                raise ValueError(
                    f"{folder.path} holds no image ({SOME_ENDINGS}), and is taken for a class: add some; {MANIFEST}; "
                    "if it is none, name the folder that holds the classes and nothing else, as in `train: FOLDER`"
                )
            folders[folder.name].append(folder)
        several = [name for name, those in folders.items() if len(those) > 1]
        if several:
            number = f"{len(several)} of {len(folders)} classes lie" if len(several) > 1 else "a class lies"
            shown = self.shown(*folders[several[0]])
            self.note(f"{number} in more than one folder of its name, such as {several[0]!r} in {shown}")
        return {
            name: in_order(image for one in folders[name] for image in self.images(one)) for name in sorted(folders)
        }


def _without_unlabeled(reading: _Reading, top: Folder, named: Mapping[str, str]) -> tuple[Folder, list[Folder]]:
    """The folder without that of the images without labels, and the latter with all below it; none if there is none."""
    called = [folder for folder in top.filled if split_called(folder.name) == "unlabeled"]
    if "unlabeled" in named:
        called = [_named_folder(top, "unlabeled", named["unlabeled"])]
        if called[0] is top:
            raise ValueError("unlabeled: '.' is every image there is; `labels: none` takes them all")
    elif named.get("train") in (".", "./") or not called:
        return top, []
    if len(called) > 1:
        raise ValueError(f"{reading.root}: each of {reading.shown(*called)} may be unlabeled; name one")
    reading.note(f"the {called[0].num_images} images of {reading.shown(*called)} are without labels")
    return _without(top, called[0]), list(called[0].walk())


def _without_unlabeled_inside(
    reading: _Reading, train: Folder, others: Sequence[Folder]
) -> tuple[Folder, list[Folder]]:
    """The same of `train/unlabeled`, which would else be a class; it is one where other splits have it too."""
    classes = {folder.name for other in others for folder in other.filled}
    called = [f for f in train.filled if split_called(f.name) == "unlabeled" and f.name not in classes]
    for folder in called:
        reading.note(
            f"the {folder.num_images} images of {reading.shown(folder)} are without labels; "
            f"name the training images (`train: {os.path.relpath(train.path, reading.root)}`) if it is a class"
        )
    train = replace(train, folders=tuple(one for one in train.folders if not any(one is gone for gone in called)))
    return train, [inner for folder in called for inner in folder.walk()]


def _without(folder: Folder, gone: Folder) -> Folder:
    return replace(folder, folders=tuple(_without(one, gone) for one in folder.folders if one is not gone))


def _splits(reading: _Reading, top: Folder, named: Mapping[str, str]) -> dict[str, Folder]:
    """Split -> its folder; `train` is there."""
    given = {split: _named_folder(top, split, path) for split, path in named.items()}
    for (split, folder), (other, held) in permutations(given.items(), 2):
        labelled = "unlabeled" not in (split, other)
        if folder.path == held.path or (labelled and folder is not top and _holds(folder, held)):
            raise ValueError(f"{other}: {held.path} is {split}'s folder, {folder.path}, or in it; name another one")
    rest = [folder for folder in top.filled if not any(_holds(folder, one) for one in given.values())]
    without_given = replace(
        top, folders=tuple(f for f in top.folders if not any(_holds(f, one) for one in given.values()))
    )
    if given.get("train") is top:
        return given | {"train": without_given}
    called = {folder.path: split_called(folder.name) for folder in rest}
    like_splits = [folder for folder in rest if called[folder.path] and called[folder.path] not in given]
    by_split: dict[str, list[Folder]] = defaultdict(list)
    for folder in like_splits:
        if folder.filled:
            by_split[str(called[folder.path])].append(folder)
    others = [folder for folder in rest if folder not in like_splits]
    if not by_split and "train" not in given:
        _check_classes_called_like_splits(reading, like_splits, others)
        return given | {"train": without_given}
    _refuse_unclear_splits(reading, given, by_split, others)
    splits = given | {split: folders[0] for split, folders in by_split.items()}
    if any(folder.name != split for split, folder in splits.items()):
        reading.note(", ".join(f"{reading.shown(folder)} is {split}" for split, folder in splits.items()))
    for folder in rest:
        if folder not in splits.values():
            flat = folder in like_splits and not folder.filled
            reading.note_unused(folder, f"it holds no folders; {MANIFEST}" if flat else "it is called like no split")
    return splits


def _named_folder(top: Folder, split: str, path: str) -> Folder:
    wanted = os.path.normpath(os.path.join(top.path, path))
    folders = {os.path.normpath(folder.path): folder for folder in reversed(list(top.walk()))}
    alike = {unicodedata.normalize("NFC", name): folder for name, folder in folders.items()}
    folder = folders.get(wanted) or alike.get(unicodedata.normalize("NFC", wanted))
    if folder is not None:
        return folder
    known = [os.path.relpath(folder.path, top.path) for folder in top.folders]
    raise ValueError(f"{split}: no folder {path!r} in {top.path}, but {', '.join(known) or 'none at all'}")


def _holds(folder: Folder, other: Folder) -> bool:
    return other.path == folder.path or other.path.startswith(folder.path + os.sep)


def _check_classes_called_like_splits(
    reading: _Reading, like_splits: Sequence[Folder], others: Sequence[Folder]
) -> None:
    """Where no folder that is called like a split has folders of classes, such a one is itself a class."""
    if like_splits and not others:
        raise ValueError(
            f"{reading.root}: {reading.shown(*like_splits)} hold images and no folders of classes; {MANIFEST}"
        )
    if like_splits:
        reading.note(f"{reading.shown(*like_splits)} holds images and no folders: a class, and no split")


def _refuse_unclear_splits(
    reading: _Reading, given: Mapping[str, Folder], by_split: Mapping[str, Sequence[Folder]], others: Sequence[Folder]
) -> None:
    for split, folders in by_split.items():
        if len(folders) > 1:
            shown = reading.shown(*folders)
            raise ValueError(
                f"{reading.root}: each of {shown} may be {split}; name one, as in `{split}: {folders[0].name}`"
            )
    if "train" not in given and "train" not in by_split:
        shown = reading.shown(*(folder for folders in by_split.values() for folder in folders))
        raise ValueError(
            f"{reading.root}: {shown} looks like a split, and no folder is called like that of the training images; "
            "name it (`train: FOLDER`), or take every folder for a class (`train: .`)"
        )
    if others and not given and set(by_split) == {"train"}:
        train = by_split["train"][0]
        raise ValueError(
            f"{reading.root}: {reading.shown(train)} holds folders ({reading.shown(*train.filled)}) as a split does, "
            f"and beside it lies {reading.shown(*others)}; set `train: {train.name}` if it is the training images, or "
            "`train: .` if it is a class"
        )


def _refuse_doubtful_depth(reading: _Reading, train: Folder) -> None:
    """Refuses classes that hold the same folders, as splits, folds or magnifications do.

    Of folders most of whose images lie in folders below, and which are most of all: where one has all that the others
    have, or each has more than half of what there is.
    """
    deep = [folder for folder in train.filled if 2 * len(folder.images) < folder.num_images]
    if len(deep) < 2 or 2 * len(deep) <= len(train.filled):
        return
    inner = [{one.name.casefold() for one in folder.filled} for folder in deep]
    together, most = set.union(*inner), max(inner, key=len)
    if len(together) >= 2 and (together == most or all(2 * len(names) > len(together) for names in inner)):
        first = max(deep, key=lambda folder: len(folder.filled))
        names = ", ".join(one.name for one in first.filled[:3])
        raise ValueError(
            f"{train.path}: {reading.shown(*deep)} hold the same folders ({names}), so either may be the "
            f"classes; set `depth: 1` for {first.name} and the like, `depth: 2` for {first.filled[0].name} and the "
            f"like, or name the splits, as in `train: {os.path.relpath(first.path, reading.root)}`"
        )


def _note_deeper(reading: _Reading, train: Folder) -> None:
    deeper = [one for folder in train.filled for one in folder.walk() if one is not folder and one.images]
    if len({one.name for one in deeper}) > 1:
        reading.note(
            f"{sum(len(one.images) for one in deeper)} images lie in folders below that of their class, such as "
            f"{reading.shown(deeper[0])}; `depth: 2` or `depth: leaf` takes these for classes"
        )


def _has_classes(folder: Folder) -> bool:
    return len(folder.filled) >= 2


def _has_classes_or_splits(folder: Folder) -> bool:
    return len(folder.filled) >= 2 or any(split_called(one.name) for one in folder.filled)


def _is_flat(split: Folder, names: Collection[str]) -> bool:
    """Whether a split has its images in one heap, and not in folders as the training images have them."""
    if not split.filled:
        return True
    return len(split.filled) == 1 and split.filled[0].name not in names and not split.filled[0].filled


def _note_left_out(reading: _Reading, top: Folder, taken: Sequence[Folder], unlabeled: Sequence[Folder]) -> None:
    """Says how many files are left out, of each kind, with an example."""
    in_classes = {
        image.path for split in taken for folder in reading.class_folders(split) for image in reading.images(folder)
    }
    tree = [folder for split in taken for folder in split.walk()]
    kinds = {
        "images beside the class folders": [i.path for f in tree for i in f.images if i.path not in in_classes],
        "no images by their names": [path for folder in (*tree, *unlabeled) for path in folder.others],
        "hidden, or of storage devices and archives": [path for folder in top.walk() for path in folder.clutter],
    }
    total = sum(map(len, kinds.values()))
    reading.left_out += total
    if total:
        parts = [f"{len(paths)} {kind} (such as {paths[0]})" for kind, paths in kinds.items() if paths]
        reading.note(f"{'1 file is' if total == 1 else f'{total} files are'} left out: {', '.join(parts)}")
