"""Runs small trials on `digits` for tests."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from harness.config.parsing import parse_trial
from harness.config.schema import Problems, set_path
from harness.config.trial import TrialConfig
from harness.records.details import Details
from harness.trial import run as trial

Row = tuple[str, int, dict[str, float], Details]

SMALL: dict[str, Any] = {
    "data": {"fraction": 0.15},
    "backbone": {"name": "dcnn3", "width": 4},
    "ssl_method": {"name": "simclr", "hidden_dim": 16, "projection_dim": 8},
    "augmentation": {"first": "crop", "second": "noise"},
    "pretrain": {"epochs": 2, "batch_size": 64},
    "labels": {"start": 20, "budget": 10, "rounds": 2},
    "selector": "random",
    "classifier": {"name": "linear", "epochs": 4},
    "compute": {"device": "cpu", "precision": "float32"},
}


def configure(**settings: Any) -> TrialConfig:
    """SMALL with settings by dotted path, `__` for the dots."""
    tree = copy.deepcopy(SMALL)
    for path, value in settings.items():
        set_path(tree, path.replace("__", "."), value)
    problems = Problems()
    config = parse_trial(tree, "trial", problems)
    problems.raise_any()
    assert config is not None
    return config


class Bench:
    """A place for trials: decoded data shared by all, a folder of stages of its own."""

    def __init__(self, cache: Path, stages: Path):
        self.folders = trial.Folders(cache, stages)

    def run(self, config: TrialConfig, seed: int = 0, **ways: Any) -> tuple[list[Row], dict[str, float]]:
        """The records of a trial and its totals."""
        rows: list[Row] = []

        def listen(step_kind: str, step: int, metrics: Any, details: Details) -> None:
            rows.append((step_kind, step, dict(metrics), details))

        totals = trial.run(config, seed, self.folders, listen, **({"with_test": False} | ways))
        return rows, totals


def rounds_of(rows: list[Row]) -> list[Row]:
    """The rows by numbers of labels, without the epochs."""
    return [row for row in rows if row[0] == "labels"]


def results(rows: list[Row]) -> list[Row]:
    """Rows without what may differ between equal trials: times, rates and what came from the cache."""
    return [
        (
            kind,
            step,
            {k: v for k, v in metrics.items() if not k.startswith(("time/", "throughput/", "stage/", "memory/"))},
            details,
        )
        for kind, step, metrics, details in rows
    ]
