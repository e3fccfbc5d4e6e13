"""What trials left behind in their folders, read again: `trials/<trial>/` of a sweep.

A report reads each trial's files once and keeps them in its model; nothing that shows them asks the disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.records.album import Album, unpack_album
from harness.records.hits import Hits, unpack_hits
from harness.records.portrait import Portrait, unpack


@dataclass(frozen=True, eq=False)
class Confusion:
    """What a classifier took for what.

    Attributes:
        class_names: K names, in label order.
        matrix: i64 [K, K], images counted: rows are true classes, columns predictions.
        split: "val" or "test", whose images they are.
    """

    class_names: tuple[str, ...]
    matrix: np.ndarray
    split: str


@dataclass(frozen=True, eq=False)
class TrialFiles:
    """The files of one trial; damaged ones count as absent. Mappings go by the number of labels, in rising order.

    Attributes:
        selected: the positions that a round selected; None where the file is damaged.
        class_counts: how many of the labels are of each class; none at all where one file is damaged, for the rounds
            are differences of these: a gap would show the picks of two rounds as those of one.
        pool_counts: how many images of each class the pool holds; None without the file.
        confusions: the confusion matrix of each round.
        hits: metric -> the images that the models of the rounds got right; empty without the file.
        portrait: the encoder's, where the trial left one.
        album: of the portrait's images; None without one that belongs to the portrait.
        damaged: the names of the files that are there and cannot be read.
    """

    selected: Mapping[int, list[int] | None]
    class_counts: Mapping[int, list[int]]
    pool_counts: list[int] | None
    confusions: Mapping[int, Confusion]
    hits: Mapping[str, Hits]
    portrait: Portrait | None
    album: Album | None
    damaged: tuple[str, ...]

    @property
    def last_confusion(self) -> Confusion | None:
        """The confusion matrix of the last round that has one."""
        return self.confusions[max(self.confusions)] if self.confusions else None


def read_trial_files(folder: Path) -> TrialFiles:
    """Reads what a trial left, each file once."""
    damaged: list[str] = []

    def content(file: Path, parse: Callable[[bytes], Any]) -> Any:
        try:
            return parse(file.read_bytes())
        except FileNotFoundError:
            return None
        except Exception:  # numpy and PIL raise many types for a damaged file
            damaged.append(file.name)
            return None

    def rounds(name: str, parse: Callable[[bytes], Any]) -> dict[int, Any]:
        numbers = ((re.search(r"_(\d+)\.json$", file.name), file) for file in folder.glob(f"{name}_*.json"))
        return {labels: content(file, parse) for labels, file in sorted((int(n[1]), file) for n, file in numbers if n)}

    selected = rounds("selected", _positions)
    class_counts = rounds("class_counts", _counts)
    if len({counts and len(counts) for counts in class_counts.values()}) > 1 or None in class_counts.values():
        class_counts = {}
    confusions = {
        labels: confusion for labels, confusion in rounds("confusion_matrix", _confusion).items() if confusion
    }
    pool_counts = content(folder / "class_counts_pool.json", _counts)
    portrait = content(folder / "portrait.npz", unpack)
    album = content(folder / "album.npz", unpack_album) if portrait else None
    if portrait and album and not album.belongs_to(portrait):
        damaged, album = [*damaged, "album.npz"], None
    hits = content(folder / "hits.npz", unpack_hits) or {}
    return TrialFiles(selected, class_counts, pool_counts, confusions, hits, portrait, album, tuple(damaged))


def _positions(content: bytes) -> list[int]:
    positions = json.loads(content)
    if not isinstance(positions, list) or not all(type(position) is int for position in positions):
        raise ValueError("not a list of positions")
    return positions


def _counts(content: bytes) -> list[int]:
    counts = json.loads(content)
    if not isinstance(counts, list) or not counts or not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("not a list of counts")
    return counts


def _confusion(content: bytes) -> Confusion:
    fields = json.loads(content)
    names, matrix, split = tuple(fields["class_names"]), np.array(fields["matrix"]), fields["split"]
    if matrix.shape != (len(names), len(names)) or matrix.dtype.kind != "i" or (matrix < 0).any():
        raise ValueError("not a square matrix of counts")
    if split not in ("val", "test"):
        raise ValueError("of neither split")
    return Confusion(names, matrix, split)
