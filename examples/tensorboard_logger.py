"""A sweep in TensorBoard, as an example of a logger.

    python -m harness.sweep my_question.yaml --logger examples.tensorboard_logger:TensorBoard
    tensorboard --logdir results/runs/my_question/tensorboard

A curve for each trial, named by what differs; steps are numbers of labels or, of a training, epochs. It writes by
tensorboardX, which Ray Tune brings along.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from harness.api import Logger


class TensorBoard(Logger):
    """Writes event files into `tensorboard/` of the sweep's folder."""

    def __init__(self) -> None:
        self._writers: dict[str, SummaryWriter] = {}

    def start(self, folder: Path, question: Mapping[str, Any]) -> None:
        """See `Logger.start`."""
        self._folder = folder / "tensorboard"
        self._of("sweep").add_text("question", question["description"] or question["name"])

    def record(self, name: str, record: Mapping[str, Any]) -> None:
        """See `Logger.record`."""
        for metric, value in record["metrics"].items():
            self._of(name).add_scalar(metric, value, record["step"], walltime=record["time"] / 1000)

    def finish(self, answer: str | None) -> None:
        """See `Logger.finish`."""
        self._of("sweep").add_text("answer", answer or "interrupted")
        for writer in self._writers.values():
            writer.close()

    def _of(self, name: str) -> SummaryWriter:
        """The writer of a run; TensorBoard takes folders for runs."""
        name = name.replace("/", "_")
        if name not in self._writers:
            self._writers[name] = SummaryWriter(str(self._folder / name))
        return self._writers[name]
