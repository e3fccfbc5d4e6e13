"""A sweep's folder as it is after trials that really ran, without Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from harness.config.schema import as_dict
from harness.config.tasks import Candidate, Task
from harness.config.trial import TrialConfig
from harness.records.details import Details
from harness.records.folder import Recorder
from harness.trial import run as trial


class RecordedSweep:
    """Trials are run one by one into its folder."""

    def __init__(self, root: Path, metric: str = "val/accuracy"):
        self.path = root / "sweep"
        self.folders = trial.Folders(root / "data", root / "stages")
        self.trials: dict[str, str] = {}
        self.path.mkdir()
        space = {"name": "sweep", "description": "?", "metric": [{"name": metric, "goal": "maximize"}]}
        (self.path / "space.yaml").write_text(yaml.safe_dump(space))
        data = {"name": "digits", "train": 1000, "val": 100, "test": 100, "classes": 10, "fingerprint": "0a" * 32}
        (self.path / "environment.json").write_text(json.dumps({"datasets": [data]}))
        self.recorder = Recorder(self.path, lambda record: None)

    def run(self, variant: str, seed: int, config: TrialConfig) -> None:
        """Runs a trial, confirmed under the name `variant`; with more rounds the one that was there before goes on."""
        task = Task(Candidate({"variant": variant}, config, config.labels.rounds), seed, "confirm")
        base = {"trial": task.trial_id, "configuration": task.candidate.configuration, "phase": "confirm", "seed": seed}
        base |= {"parameters": task.candidate.parameters, "time": 0}

        def send(kind: str, step: int, metrics: Any, details: Any, status: str = "running") -> None:
            about = {"step_kind": kind, "step": step, "metrics": dict(metrics), "status": status}
            self.recorder.write(base | about, details)

        send("labels", 0, {}, Details(config=as_dict(config)))
        totals = trial.run(config, seed, self.folders, send, with_test=False)
        send("labels", int(totals["labels/used"]), totals, Details(), "finished")
        self.trials[variant] = task.trial_id
