"""Back to the desk: a person who labels what `pick` asks for gets the picks of the trial, image for image."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import save
from recorded_sweep import RecordedSweep
from trials import configure

from baselines.datasets.image_folder import ImageFolder
from harness import embed
from harness.api import Reason
from harness.data.splits import in_random_order
from harness.encoders import export
from harness.pick import candidates, command
from harness.report import read
from harness.seeding import generator

CLASSES = ("cat", "dog", "owl")
NUM_IMAGES = 90
ROUNDS, START, BUDGET, SEED = 3, 9, 7, 4
SELECTORS = {
    "margin": "margin",
    "typiclust": "typiclust",
    "coreset": {"name": "coreset", "pool_subset": 30},
    "badge": "badge",
}


@pytest.mark.parametrize("why", ["in set {a}", "{0} of {", "}"])
def test_braces_of_a_selectors_own_words_stay(why):
    assert Reason(why).naming(CLASSES) == why
    assert Reason(f"{{}} {why} {{}}", classes=(2, 0)).naming(CLASSES) == f"owl {why} cat"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Images in a folder, and a sweep on them with a trial for each selector."""
    root = tmp_path_factory.mktemp("pick")
    rng = np.random.default_rng(0)
    centers = rng.integers(60, 200, (3, 9, 9))
    for split, size in (("train", NUM_IMAGES), ("test", 6)):
        for number in range(size):
            image = (centers[number % 3] + rng.normal(0, 60, (9, 9))).clip(0, 255).astype(np.uint8)
            save(image, root / "images" / split / CLASSES[number % 3] / f"{number:02}.png")
    sweep = RecordedSweep(root, "train/accuracy")
    for name, selector in SELECTORS.items():
        config = configure(
            dataset={"name": "image_folder", "path": str(root / "images"), "channels": 1},
            data={"val": 0},
            ssl_method="none",
            labels={"start": START, "budget": BUDGET, "rounds": ROUNDS},
            selector=selector,
            classifier="logistic",
        )
        sweep.run(name, SEED, config)
    return root / "images" / "train", sweep


def pool_names(images: Path) -> list[str]:
    """The training images in the order of the trial's pool."""
    names = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))
    return [names[row] for row in in_random_order(torch.arange(len(names)), 0, "pool")]


def pick(*arguments: object) -> int:
    return command.main([str(argument) for argument in arguments])


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def write_labels(file: Path, labels: dict[str, str]) -> Path:
    file.write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in labels.items()))
    return file


def oracle(path: str) -> str:
    """The scripted person: the class is the folder."""
    return path.partition("/")[0]


# --- the pool of a trial ---


def test_the_images_of_a_folder_are_those_of_its_data_set_in_the_same_order(tmp_path):
    root, image = tmp_path / "images", np.zeros((4, 4), dtype=np.uint8)
    for name in (
        "images/cat/2.png",
        "images/cat/a/1.png",
        "images/cat/a-b/1.png",
        "images/cat-big/1.png",
        "owls/1.png",
        "owls/2.png",
    ):
        save(image, tmp_path / name)
    (root / "owl").symlink_to(tmp_path / "owls")
    (root / "a-cat").symlink_to("cat")  # its images have two names, and each is in the data set
    files = [str(file) for file in embed.image_files([root])]
    assert {f"{root}/{name}" for name in ("owl/1.png", "a-cat/2.png", "cat/2.png")} <= set(files)
    for labels in ("folders", "none"):
        assert list(ImageFolder(path=str(root), labels=labels).open().splits["train"].names) == files
    (root / "cat/again").symlink_to("..")
    with pytest.raises(ValueError, match="cat/again is a link to a folder that it lies in; remove it"):
        embed.image_files([root])


# --- the picks of a trial ---


@pytest.mark.parametrize("name", SELECTORS)
def test_a_scripted_person_gets_the_picks_of_the_trial_image_for_image(world, tmp_path, name):
    images, sweep = world
    names = pool_names(images)
    encoder = export.save_encoder(sweep.path, sweep.trials[name], sweep.folders)
    start = torch.randperm(len(names), generator=generator(SEED, "start_pool"))[:START].tolist()
    files = [write_labels(tmp_path / "start.csv", {names[row]: oracle(names[row]) for row in start})]
    for number in range(1, ROUNDS + 1):
        selected = sweep.path / "trials" / sweep.trials[name] / f"selected_{START + number * BUDGET}.json"
        expected = [names[row] for row in json.loads(selected.read_text())]
        said = ["--selector", json.dumps(SELECTORS[name]), "--encoder", encoder, "--seed", SEED, "--budget", BUDGET]
        folders = ["--output", tmp_path / "picks", "--cache", tmp_path / "cache", "--device", "cpu"]
        assert pick(images, *said, *folders, "--labels", *files) == 0
        batch = tmp_path / "picks" / f"round-{number}.csv"
        rows = rows_of(batch)
        assert [row["path"] for row in rows] == expected
        assert [int(row["rank"]) for row in rows] == list(range(1, BUDGET + 1))
        assert all(row["why"] and not row["label"] for row in rows)
        lines = batch.read_text().splitlines()
        batch.write_text("\n".join([lines[0], *(line + oracle(line) for line in lines[1:])]) + "\n")
        files.append(batch)


def test_a_sweep_says_selector_head_encoder_and_budget(world, tmp_path, capsys):
    images, sweep = world
    for name in SELECTORS:
        export.save_encoder(sweep.path, sweep.trials[name], sweep.folders)
    names = pool_names(images)
    labels = write_labels(tmp_path / "labels.csv", {name: oracle(name) for name in names[:10]})
    folders = ["--labels", labels, "--cache", tmp_path / "cache", "--device", "cpu"]
    assert pick(images, "--sweep", sweep.path, *folders, "--output", tmp_path / "by_sweep") == 0
    (best,) = export.chosen(read.read_report(sweep.path), "best")
    assert f"of {best}, the best trial of sweep" in capsys.readouterr().out
    (selector,) = (SELECTORS[name] for name, trial in sweep.trials.items() if trial == best)
    said = ["--selector", json.dumps(selector), "--encoder", sweep.path / "models" / best, "--budget", BUDGET]
    assert pick(images, *said, *folders, "--output", tmp_path / "by_hand") == 0
    by_sweep, by_hand = (rows_of(tmp_path / way / "round-1.csv") for way in ("by_sweep", "by_hand"))
    assert by_sweep == by_hand
    assert len(by_sweep) == BUDGET
    assert not {row["path"] for row in by_sweep} & set(names[:10])


def test_only_new_files_are_embedded_again(world, tmp_path, monkeypatch):
    images, sweep = world
    mine = tmp_path / "mine"
    shutil.copytree(images, mine)
    encoder = export.save_encoder(sweep.path, sweep.trials["margin"], sweep.folders)
    said = ["--selector", "coreset", "--encoder", encoder, "--budget", 5, "--cache", tmp_path / "cache"]
    embedded = []

    def spy(encoder, files, broken):
        embedded.extend(file.name for file in files)
        return embed(encoder, files, broken)

    embed = candidates.embed.embedded
    monkeypatch.setattr(candidates.embed, "embedded", spy)
    picked = []
    for _ in range(2):
        assert pick(mine, *said, "--output", tmp_path / "picks") == 0
        picked.append(rows_of(tmp_path / "picks" / "round-1.csv"))
    assert len(embedded) == NUM_IMAGES
    assert picked[0] == picked[1]
    shutil.copy(mine / "cat" / "00.png", mine / "cat" / "new.png")
    (mine / "dog" / "01.png").unlink()
    assert pick(mine, *said, "--output", tmp_path / "picks") == 0
    assert embedded[NUM_IMAGES:] == ["new.png"]
    assert pick(mine, *said, "--output", tmp_path / "fresh", "--cache", tmp_path / "other") == 0
    assert rows_of(tmp_path / "picks" / "round-1.csv") == rows_of(tmp_path / "fresh" / "round-1.csv")
