"""Builds the folder that a sweep leaves behind, from made-up numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from harness.records import rows as record_rows
from harness.records.rows import FINAL

Record = dict[str, Any]
START = 1_700_000_000_000  # unix milliseconds


def append_rows(path: Path, rows: Sequence[Record]) -> None:
    """Appends records as a sweep would: with checksums, endings with the trail of what is before them."""
    trials = record_rows.by_trial(record_rows.read_rows(path.parent)[0])
    with path.open("ab") as file:
        for row in rows:
            history = trials.setdefault(row["trial"], {})
            file.write(record_rows.line(record_rows.sealed(history, row) if row["status"] in FINAL else row))
            record_rows.add(history, row)


def replace_rows(path: Path, rows: Sequence[Record]) -> None:
    """Puts these records in the place of all that were there."""
    path.write_bytes(b"")
    append_rows(path, [{name: row[name] for name in row if name != record_rows.TRAIL} for row in rows])


class SweepFolder:
    """Writes a sweep folder and appends the records of trials to it.

    Args:
        path: the folder, created here.
        space: what to change in `space.yaml`.
    """

    def __init__(self, path: Path, **space: Any):
        self.path = path
        self.clock = START
        path.mkdir(parents=True)
        self.space = {
            "name": "selectors",
            "description": "Which selector finds the better 200 labels?",
            "method": "grid",
            "metric": [{"name": "val/accuracy", "goal": "maximize"}],
            "seeds": [1, 2, 3],
            "confirm": None,
            "reference": None,
            "trial": {"dataset": {"name": "digits"}, "ssl_method": {"name": "simclr"}, "backbone": {"name": "dcnn3"}},
            "parameters": {"selector.name": {"values": ["random", "coreset"]}},
            **space,
        }
        self.environment = {
            "sweep_id": "sweep-1",
            "commit": "399b5c3c59c6c23e",
            "dirty": False,
            "hostname": "box",
            "platform": "Linux",
            "cpu": "Some CPU",
            "cores": 2,
            "gpus": [],
            "python": "3.11.9",
            "packages": {"torch": "2.15.0", "ray": "2.60.0"},
            "command": "python -m harness.sweep search_spaces/selectors.yaml",
            "started": "2026-01-01T00:00:00Z",
            "device": "cpu",
            "concurrent_trials": 2,
            "datasets": [
                {
                    "name": "digits",
                    "fingerprint": "0a" * 32,
                    "train": 1200,
                    "val": 150,
                    "test": 300,
                    "classes": list("0123456789"),
                },
            ],
        }
        (path / "space.yaml").write_text(yaml.safe_dump(self.space, sort_keys=False))
        self.write_environment()

    def write_environment(self) -> None:
        (self.path / "environment.json").write_text(json.dumps(self.environment))

    def records(
        self,
        configuration: str,
        seed: int,
        parameters: Mapping[str, Any],
        curve: Mapping[int, float],
        *,
        phase: str = "confirm",
        status: str = "finished",
        epochs: int = 2,
        seconds: float = 10.0,
        error: str | None = None,
    ) -> list[Record]:
        """The records of one trial, and the files it leaves; nothing is appended to `rows.jsonl`.

        Args:
            curve: validation accuracy by number of labels; the test accuracy is 0.01 below it.
            status: how it ends; "running" for a trial that was cut off.
        """
        trial = f"{phase}-{configuration}-s{seed}"
        base = {
            "trial": trial,
            "configuration": configuration,
            "phase": phase,
            "seed": seed,
            "parameters": dict(parameters),
        }
        rows: list[Record] = []

        def record(step_kind: str, step: int, metrics: dict[str, float], status: str = "running") -> None:
            self.clock += 1000
            rows.append(
                {**base, "status": status, "step_kind": step_kind, "step": step, "time": self.clock, "metrics": metrics}
            )

        for epoch in range(1, epochs + 1):
            record("epoch", epoch, {"pretrain/loss": 5.0 / epoch, "pretrain/knn_accuracy": 0.5 + 0.1 * epoch})
        for labels, accuracy in curve.items():
            metrics = {"val/accuracy": accuracy, "labels/used": labels}
            metrics |= {"time/round_select_seconds": 0.5, "stage/select_cached": 0}
            if phase == "confirm":
                metrics["test/accuracy"] = accuracy - 0.01
            record("labels", labels, metrics)
        if status != "running":
            totals = {
                "labels/used": max(curve, default=0),
                "labels/val": 150,
                "time/pretrain_seconds": 0.6 * seconds,
                "time/select_seconds": 0.5 * len(curve),
                "time/train_seconds": 0.3 * seconds,
                "time/total_seconds": seconds,
                "time/saved_seconds": 0,
                "stage/pretrain_cached": 0,
            }
            record("labels", max(curve, default=0), totals, status)
            if error:
                rows[-1]["error"] = error
        self._files(trial, parameters, curve, error, complete=status in ("finished", "stopped"))
        return rows

    def _files(
        self,
        trial: str,
        parameters: Mapping[str, Any],
        curve: Mapping[int, float],
        error: str | None,
        complete: bool,
    ) -> None:
        folder = self.path / "trials" / trial
        folder.mkdir(parents=True, exist_ok=True)
        config = json.loads(json.dumps(self.space["trial"]))
        for dotted, value in parameters.items():
            node = config
            *parents, leaf = dotted.split(".")
            for name in parents:
                node = node.setdefault(name, {})
            node[leaf] = value
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        if complete:
            for labels in curve:
                (folder / f"selected_{labels}.json").write_text(json.dumps(list(range(labels))))
                (folder / f"class_counts_{labels}.json").write_text(json.dumps([labels - labels // 4, labels // 4]))
                right = 40 if labels == max(curve) else 30
                matrix = {"class_names": ["cat", "dog"], "matrix": [[right, 50 - right], [5, 45]], "split": "test"}
                (folder / f"confusion_matrix_{labels}.json").write_text(json.dumps(matrix))
            (folder / "class_counts_pool.json").write_text(json.dumps([600, 600]))
        if error:
            (folder / "error.txt").write_text(f"Traceback\n{error}\n")

    def append(self, rows: Sequence[Record]) -> None:
        append_rows(self.path / "rows.jsonl", rows)

    def trial(self, *args: Any, **kwargs: Any) -> list[Record]:
        """`records`, appended."""
        rows = self.records(*args, **kwargs)
        self.append(rows)
        return rows


def selection_sweep(
    path: Path,
    gains: Mapping[str, float],
    *,
    seeds: Sequence[int] = (1, 2, 3, 4, 5),
    rounds: int = 8,
    noise: float = 0.004,
    settings: Sequence[str | None] = (None,),
    failed: Sequence[tuple[str, int]] = (),
    **space: Any,
) -> SweepFolder:
    """A confirmed comparison of selectors: 200 labels to start with and 200 a round, from a pool of 10,000.

    Args:
        gains: selector -> accuracy above the common curve after the last round, growing from 0 at the start.
        settings: values of `ssl_method.name`; None leaves it out.
        failed: (selector, seed) of trials that fail after half of the rounds.
    """
    sweep = SweepFolder(path, **space)
    sweep.environment["datasets"][0]["train"] = 10_000
    (path / "environment.json").write_text(json.dumps(sweep.environment))
    rng = np.random.default_rng(0)
    for number, setting in enumerate(settings):
        for seed in seeds:
            luck = rng.normal(0, 0.01)  # of the start pool: common to all selectors
            for selector, gain in gains.items():
                ends = bool((selector, seed) in failed)
                steps = [200 * k for k in range(1, (rounds // 2 if ends else rounds) + 2)]
                curve = {
                    step: 0.9 - 0.4 * (200 / step) ** 0.5 + luck + (step > 200) * rng.normal(0, noise)
                    + gain * (step - 200) / (200 * rounds)
                    for step in steps
                }  # fmt: skip
                parameters = {"selector.name": selector} | ({"ssl_method.name": setting} if setting else {})
                name = f"{selector}{number or ''}"
                status, error = ("failed", "OutOfMemoryError: 3 GiB") if ends else ("finished", None)
                rows = sweep.records(name, seed, parameters, curve, status=status, error=error)
                for row in rows:
                    if row["step"] == 200:
                        row["metrics"].pop("time/round_select_seconds", None)
                        row["metrics"].pop("stage/select_cached", None)
                sweep.append(rows)
                folder = path / "trials" / rows[0]["trial"]
                (folder / "selected_200.json").unlink(missing_ok=True)  # the start pool is drawn, not selected
                order = rng.permutation(9800).tolist()
                for k, step in enumerate(steps[1:]):
                    (folder / f"selected_{step}.json").write_text(json.dumps(order[200 * k : 200 * (k + 1)]))
    return sweep


OPERATIONS = ("crop", "flip", "rotate", "color_jitter", "blur")


def augmentation_sweep(path: Path, **space: Any) -> SweepFolder:
    """A search of augmentation pairs with temperature and epochs, and the best of it confirmed beside a reference.

    Everything that a page can show is there but several rounds of selection: finished, stopped and failed trials, a
    second classifier, a recipe.
    """
    values = {"values": list(OPERATIONS)}
    sweep = SweepFolder(
        path,
        **{
            "name": "pairs",
            "description": "Which two augmentations, at which temperature?",
            "method": "bayes",
            "seeds": [0],
            "confirm": {"top": 2, "seeds": [1, 2, 3], "references": [{"ssl_method": "none"}]},
            "trial": {"recipe": "moco_v2", "dataset": {"name": "digits"}},
            "parameters": {
                "augmentation.first": values,
                "augmentation.second": values,
                "ssl_method.temperature": {"distribution": "log_uniform_values", "min": 0.05, "max": 1.0},
                "pretrain.epochs": {"values": [5, 10, 20]},
            },
            **space,
        },
    )
    comment = ["Question: Which two augmentations,", "at which temperature?", "", "Run:   this", "       and that"]
    comment += ["Data:  digits", "The rest is prose", "on two lines."]
    question = "".join(f"# {line}\n" for line in comment) + (path / "space.yaml").read_text()
    (path / "space.yaml").write_text(question)
    rng = np.random.default_rng(0)

    def parameters(number: int) -> dict[str, Any]:
        return {
            "augmentation.first": OPERATIONS[number % 5],
            "augmentation.second": OPERATIONS[(number // 5 + number) % 5],
            "ssl_method.temperature": float(0.05 * 20 ** ((number * 7 % 20) / 19)),
            "pretrain.epochs": (5, 10, 20)[number % 3],
        }

    for number in range(20):
        chosen, status = parameters(number), "finished" if number % 4 else "stopped"
        accuracy = 0.7 + 0.1 * (chosen["augmentation.first"] == "color_jitter") + 0.001 * rng.normal()
        curve = {200: accuracy} if status == "finished" else {}
        sweep.trial(f"s{number}", 0, chosen, curve, phase="search", status=status, seconds=10 + number)
    sweep.trial(
        "bad", 0, parameters(21), {}, phase="search", status="failed", error="ValueError: <script>alert(1)</script>"
    )
    for name, chosen, accuracy in (
        ("s3", parameters(3), 0.82),
        ("s13", parameters(13), 0.80),
        ("none", {"ssl_method.name": "none"}, 0.7),
    ):
        for seed in (1, 2, 3):
            rows = sweep.records(
                name, seed, chosen, {200: accuracy + 0.01 * rng.normal()}, seconds=5 if name == "none" else 20
            )
            for row in rows:
                if "test/accuracy" in row["metrics"]:
                    row["metrics"]["test/accuracy/knn"] = row["metrics"]["test/accuracy"] - 0.05
            sweep.append(rows)
    return sweep
