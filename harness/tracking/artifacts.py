"""The files that runs carry: those of a trial with what is made of them, and those of the sweep itself."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import files
from harness.records import trial_files
from harness.report.pictures.matrix import confusion_svg
from harness.report.pictures.style import on_paper

SWEEP_FILES = (".yaml", ".json", ".csv", ".md", ".html", ".svg")
"""Endings of what a sweep's run carries: the question, the environment, the report and its pictures."""

ELSEWHERE = ("trials", "models", "ray")
"""Folders of a sweep whose files its own run does not carry."""


def of_trial(folder: Path, trial: str) -> list[Path]:
    """What a trial left in a sweep's folder."""
    return _below(folder / "trials" / trial)


def of_sweep(folder: Path) -> list[Path]:
    """What the run of a sweep's folder carries."""
    return [file for file in _below(folder, without=ELSEWHERE) if file.suffix in SWEEP_FILES]


def checksums(paths: Collection[Path], root: Path) -> dict[str, str]:
    """The checksums of files by their paths below `root`."""
    return {str(file.relative_to(root)): files.checksum(file) for file in paths}


@contextmanager
def gathered_of_trial(folder: Path, trial: str) -> Iterator[Path]:
    """A temporary folder with all that the run of a trial carries."""
    with tempfile.TemporaryDirectory() as temporary:
        # before the links: what is written must never follow one
        _write_confusion(folder / "trials" / trial, Path(temporary))
        _link(of_trial(folder, trial), folder / "trials" / trial, Path(temporary))
        yield Path(temporary)


@contextmanager
def gathered_of_sweep(folder: Path) -> Iterator[Path]:
    """A temporary folder with all that the run of a sweep carries."""
    with tempfile.TemporaryDirectory() as temporary:
        _link(of_sweep(folder), folder, Path(temporary))
        yield Path(temporary)


def _link(paths: Collection[Path], root: Path, target: Path) -> None:
    """Links to files below `root`, in the sub-folders of `target` that they are in there."""
    for file in paths:
        place = target / file.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(file.resolve())


def _write_confusion(folder: Path, target: Path) -> None:
    """Writes what is made of a trial's last confusion matrix, if there is one: numbers by class, and a look at it."""
    confusion = trial_files.read_trial_files(folder).last_confusion
    if not confusion:
        return
    import torch

    from harness.metrics import classification_report

    by_class = classification_report(torch.from_numpy(confusion.matrix), confusion.class_names)
    (target / "classification_report.txt").write_text(by_class, encoding="utf-8")
    (target / "confusion_matrix.svg").write_text(on_paper(confusion_svg(confusion)), encoding="utf-8")


def _below(folder: Path, without: Collection[str] = ()) -> list[Path]:
    """Every file in a folder and its sub-folders, sorted; hidden ones, which are being written, are left out."""
    paths: list[Path] = []
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        if entry.name.startswith(".") or entry.name in without:
            continue
        paths += _below(entry) if entry.is_dir() else [entry]
    return paths
