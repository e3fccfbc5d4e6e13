"""What a stage's name holds: whatever changes a result makes it another stage, and what does not, does not.

Each row of the tables changes one thing, then runs the trial in a new process with the stages of an earlier run and
once more without any: a stage that should be computed anew was, and the rows are those of the run without a cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from baselines.backbones.dcnn3 import DCNN3
from harness.seeding import seeded

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"

USER = {
    "front.py": """
        from middle import Picker
        Picker.step = 1
    """,
    "middle.py": '''
        from base import Base
        from helper import order
        from pack.inner import shift
        from space.inner import scale

        class Picker(Base):
            """Picks."""

            def select(self, pool, budget, *, rng):
                from lazy import start
                from named import offset
                values = (order(pool.unlabeled) * scale() + shift()) % 5
                first = self.first() + start() + offset()
                return pool.unlabeled[values.argsort(stable=True)][first :: self.step][:budget]
    ''',
    "base.py": """
        from harness.api import Selector

        class Base(Selector):
            step = 1

            def first(self):
                return 0
    """,
    "helper.py": """
        def order(positions):
            return positions * 7 % 11
    """,
    "pack/__init__.py": "",
    "pack/inner.py": """
        from . import numbers

        def shift():
            return numbers.SHIFT
    """,
    "pack/numbers.py": "SHIFT = 0",
    "space/inner.py": """
        def scale():
            return 1
    """,
    "lazy.py": """
        def start():
            return 0
    """,
    "named.py": """
        import importlib

        def offset():
            return importlib.import_module("by_name").OFFSET
    """,
    "by_name.py": "OFFSET = 0",
    "data.py": """
        from baselines.datasets.digits import Digits

        class Mine(Digits):
            def open(self):
                source = super().open()
                return source
    """,
    "network.py": """
        from torch import nn
        from harness.api import Backbone

        class Projection(Backbone):
            takes_features = True

            def __init__(self, image_shape, *, dims: int = 6):
                super().__init__()
                self.feature_dim = self.dims = dims
                self.layer = nn.Linear(*image_shape, dims)

            def forward(self, images):
                return self.layer(images)
    """,
}
"""Plugins of somebody: a selector that a module has from another one, with helpers, a base class and packages, a data
set, and a network for features."""

SETTINGS: dict[str, Any] = {
    "dataset": "data:Mine",
    "data": {"fraction": 0.1},
    "backbone": {"name": "dcnn3", "width": 2},
    "pretrain": {"epochs": 2, "batch_size": 64},
    "labels": {"start": 20, "budget": 10, "rounds": 1},
    "selector": {"name": "front:Picker", "pool_subset": 60},
    "classifier": {"name": "linear", "epochs": 2},
}


class Project:
    """A copy of this project and a user's folder beside it, the process that runs trials, and runs before changes."""

    def __init__(self, folder: Path, server: subprocess.Popen[str]):
        self.folder = folder
        self.user = folder / "user"
        self.server = server
        self.runs: dict[str, Any] = {}
        for name in ("harness", "baselines"):
            shutil.copytree(ROOT / name, folder / name)
        for name, text in USER.items():
            (self.user / name).parent.mkdir(parents=True, exist_ok=True)
            (self.user / name).write_text(textwrap.dedent(text))
        draw_images(self.user, seed=0)
        draw_features(self.user)
        write_weights(self.user, seed=0)

    def run(self, folders: list[Path], settings: dict[str, Any], **job: Any) -> list[dict[str, Any]]:
        """A trial in a process of its own, once with each folder as a cache: rows, and which stages were cached."""
        result, errors = self.folder / "result.json", self.folder / "errors.txt"
        job = {"environment": {}, "threads": 1, "seed": 0, "edit": {}, "path": []} | job
        job["path"] = [*job["path"], *map(str, (self.user, self.folder, TESTS))]
        job |= {"result": str(result), "errors": str(errors), "settings": configured(settings, self.user)}
        job["folders"] = [[str(folder / "stages"), str(folder / "data")] for folder in folders]
        errors.write_text("")
        assert self.server.stdin
        assert self.server.stdout
        print(json.dumps(job), file=self.server.stdin, flush=True)
        assert self.server.stdout.readline() == "0\n", errors.read_text()
        return json.loads(result.read_text())

    def before(self, settings: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
        """The cache of a run with these settings before any change, and the run."""
        name = json.dumps(settings)
        if name not in self.runs:
            cache = self.folder / f"cache{len(self.runs)}"
            self.runs[name] = cache, self.run([cache], settings)[0]
        return self.runs[name]

    def errors(self) -> str:
        """What the last process wrote to stderr."""
        return (self.folder / "errors.txt").read_text()


def configured(settings: Any, user: Path) -> Any:
    """The settings with the user's folder for every `USER`."""
    return json.loads(json.dumps(settings).replace("USER", str(user)))


def draw_images(user: Path, seed: int) -> None:
    """Images of two classes whose files have the same names, sizes and times whatever the seed."""
    rng = np.random.default_rng(seed)
    for number in range(120):
        file = user / "images" / f"class{number % 2}" / f"{number}.bmp"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 128, (8, 8), dtype=np.uint8) + np.uint8(number % 2 * 60)
        Image.fromarray(pixels).save(file)
        os.utime(file, ns=(10**18, 10**18))


def draw_features(user: Path) -> None:
    """A file of features of two classes."""
    vectors = np.random.default_rng(0).normal(size=(120, 12)).astype(np.float32)
    np.savez(user / "features.npz", embeddings=vectors, labels=np.arange(120) % 2)


def write_weights(user: Path, seed: int) -> None:
    """A checkpoint for the backbone; its size is the same whatever the seed."""
    with seeded(seed, "weights"):
        torch.save(DCNN3((1, 8, 8), width=2).state_dict(), user / "weights.pt")


def write_version(user: Path) -> None:
    """Another version of scikit-learn, as far as anybody can tell."""
    folder = user / "versions" / "scikit_learn-99.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: scikit-learn\nVersion: 99.0\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Iterator[Project]:
    """The project, unchanged."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(TESTS / "stage_keys_server.py")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as server:
        yield Project(tmp_path_factory.mktemp("project"), server)
        assert server.stdin
        server.stdin.close()


@dataclass
class Change:
    """One thing that is not as it was.

    Attributes:
        anew: the kinds of stages that are computed again.
        cached: those that are not.
        texts: file -> a text in it and what stands there then.
        settings: of the runs, beside SETTINGS.
        then: settings of the runs after the change alone.
        act: changes something else in the user's folder.
        job: what else is different for the process.
        moves: whether the rows are others than before, so that a stale result would be seen.
    """

    anew: str = ""
    cached: str = ""
    texts: dict[str, tuple[str, str]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    then: dict[str, Any] = field(default_factory=dict)
    act: Callable[[Path], None] = lambda user: None
    job: dict[str, Any] = field(default_factory=dict)
    moves: bool = True


def plugin(file: str, old: str, new: str) -> Change:
    """An edit of the user's selector or of what it needs."""
    return Change("select", "pretrain", {f"user/{file}": (old, new)})


def harmless(file: str, old: str, new: str) -> Change:
    """An edit that no stage takes notice of."""
    return Change("", "pretrain select train", {file: (old, new)}, moves=False)


def setting(kind: str, **then: Any) -> Change:
    """A setting that nothing reads beside the others."""
    return Change("", f"pretrain select {kind}", then=then, moves=False)


IMAGES = {
    "dataset": {"name": "image_folder", "path": "USER/images", "channels": 1},
    "data": {"fraction": 1.0},
    "selector": "random",
}
WEIGHTS = {"backbone": {"name": "dcnn3", "width": 2, "weights": "USER/weights.pt"}, "selector": "random"}
CLASSIFY = {"ssl_method": "none", "selector": "random"}
PROJECTED = {
    "dataset": {"name": "embeddings", "path": "USER/features.npz"},
    "data": {"fraction": 1.0},
    "backbone": "network:Projection",
    "ssl_method": "none",
    "augmentation": "identity",
    "selector": "random",
}

CHANGES = {
    # ------------------------------------------------------------ code of plugins
    "helper beside the selector": plugin("helper.py", "% 11", "% 13"),
    "helper that a function imports": plugin("lazy.py", "return 0", "return 1"),
    "helper imported by its name": plugin("by_name.py", "OFFSET = 0", "OFFSET = 1"),
    "helper in a package": plugin("pack/inner.py", "numbers.SHIFT", "(numbers.SHIFT + 2)"),
    "package of the helper": plugin("pack/__init__.py", "", "from . import numbers\nnumbers.SHIFT = 2\n"),
    "helper in a package without __init__": plugin("space/inner.py", "return 1", "return 0"),
    "module of the base class": plugin("base.py", "return 0", "return 2"),
    "module that has the class from elsewhere": plugin("front.py", "Picker.step = 1", "Picker.step = 2"),
    "module that defines the class": plugin("middle.py", "values.argsort", "(-values).argsort"),
    "comment": harmless("user/middle.py", "        values =", "        # values\n        values ="),
    "docstring": harmless("user/middle.py", "Picks.", "Picks at random."),
    "spaces": harmless("user/helper.py", "positions * 7", "positions*7"),
    # ------------------------------------------------------------ code of the harness
    "shown_rows": Change(
        "select",
        "pretrain",
        {
            "harness/trial/selection.py": (
                "unlabeled[torch.randperm(len(unlabeled), generator=rng)[:size]]",
                "unlabeled[:size]",
            )
        },
    ),
    "learnt_from": Change(
        "pretrain",
        "",
        {
            "harness/trial/pretraining.py": (
                "return everything, None",
                "return everything.subset(torch.arange(90)), None",
            )
        },
    ),
    "k-NN of the pre-training": Change(
        "pretrain", "", {"harness/trial/knn.py": ("neighbors: int = 20", "neighbors: int = 3")}
    ),
    "heads": Change(
        "select train",
        "pretrain",
        {"harness/trial/heads.py": ("(inputs - mean) / std, mean", "(inputs - mean) / std / 2, mean")},
    ),
    "comment in the harness": harmless(
        "harness/trial/pretrain.py", "    optimizer = build", "    # of the method\n    optimizer = build"
    ),
    # ------------------------------------------------------------ data and weights
    "open() of the data set": Change(
        "pretrain",
        "",
        {"user/data.py": ("return source", "source.splits['train'].labels[:300] = 3\n        return source")},
    ),
    "images of the same size and time": Change(
        "pretrain train", "", settings=IMAGES, act=lambda user: draw_images(user, seed=1)
    ),
    "weights": Change("pretrain train", "", settings=WEIGHTS, act=lambda user: write_weights(user, seed=1)),
    "network for features": Change(  # its scores, too, which the totals have
        "pretrain select train", "", settings=PROJECTED, then={"backbone": {"name": "network:Projection", "dims": 9}}
    ),
    "seed of a network for features": Change("pretrain select train", "", settings=PROJECTED, job={"seed": 1}),
    # ------------------------------------------------------------ the machine
    "threads": Change("pretrain select train", job={"threads": 2}, moves=False),
    "CPU": Change("pretrain select train", job={"environment": {"ATEN_CPU_CAPABILITY": "default"}}, moves=False),
    "version of a library": Change(
        "select train", "pretrain", act=write_version, job={"path": ["USER/versions"]}, moves=False
    ),
    # ------------------------------------------------------------ settings
    "fewer measurements": Change("", "pretrain", then={"pretrain__knn_every": 2}),
    "more measurements": Change("pretrain", "", settings={"pretrain__knn_every": 2}, then={"pretrain__knn_every": 1}),
    "patience of a cosine schedule": setting("train", pretrain__patience=3),
    "momentum of Adam": setting("train", classifier__momentum=0.5),
    "hidden_dim of a linear head": setting("train", classifier__hidden_dim=7),
    "learning rate": Change("train", "pretrain", then={"classifier__lr": 0.1}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_makes_other_stages_where_it_changes_results(project, tmp_path, name):
    change = CHANGES[name]
    settings = SETTINGS | change.settings
    cache, before = project.before(settings)
    originals = {project.folder / file: (project.folder / file).read_text() for file in change.texts}
    for file, (old, new) in change.texts.items():
        text = originals[project.folder / file]
        assert text.count(old) == 1 or text == old == "", file
        (project.folder / file).write_text(text.replace(old, new))
    try:
        change.act(project.user)
        job = configured(change.job, project.user)
        warm, cold = project.run([cache, tmp_path], settings | change.then, **job)
    finally:
        for file, text in originals.items():
            file.write_text(text)
    assert not any(cold["cached"].values())
    assert {kind: warm["cached"][kind] for kind in change.anew.split()} == dict.fromkeys(change.anew.split(), False)
    assert {kind: warm["cached"][kind] for kind in change.cached.split()} == dict.fromkeys(change.cached.split(), True)
    assert warm["rows"] == cold["rows"]
    assert (cold["rows"] != before["rows"]) or not change.moves


def test_a_plugin_that_is_edited_while_a_trial_runs_leaves_nothing_under_the_name_of_its_new_code(project, tmp_path):
    _, before = project.before(SETTINGS)
    file = project.user / "middle.py"
    original = file.read_text()
    edited = original.replace("values.argsort", "(-values).argsort")
    try:
        (during,) = project.run([tmp_path / "cache"], SETTINGS, edit={str(file): edited})
        assert during["rows"] == before["rows"], "the code that was loaded ran to the end"
        assert project.errors().count("middle.py: changed after middle had been loaded") == 1
        assert not list((tmp_path / "cache/stages/select").rglob("result.pt"))
        after, cold = project.run([tmp_path / "cache", tmp_path / "none"], SETTINGS)
    finally:
        file.write_text(original)
    assert after["cached"] == {"pretrain": True, "select": False, "train": False}
    assert after["rows"] == cold["rows"] != before["rows"]
