"""What may listen to a sweep while it runs, beside MLflow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Logger(ABC):
    """Hears of a sweep what its records say, as they are written; built without arguments.

    Its methods are called in turn, by a thread of its own in the process that runs the sweep: what takes long holds up
    no trial. The first one that raises is named in a line, and the logger hears no more; the sweep goes on. A sweep
    that goes on later (`--resume`) starts it anew, and says only what is new: the records themselves lie in the folder.
    """

    @abstractmethod
    def start(self, folder: Path, question: Mapping[str, Any]) -> None:
        """Before the first record.

        Args:
            folder: the sweep's.
            question: the content of its `space.yaml`: `name`, `description`, `trial`, `parameters`, ...
        """

    @abstractmethod
    def record(self, name: str, record: Mapping[str, Any]) -> None:
        """A trial has measured something, or has ended.

        Args:
            name: of the trial, by what differs: `coreset · seed 1`.
            record: a line of `rows.jsonl`: `trial`, `seed`, `phase`, `parameters`, `status`, `step_kind`
                (`labels` or `epoch`), `step`, `metrics` (name -> number), `time` (unix milliseconds), ...
        """

    def finish(self, answer: str | None) -> None:  # noqa: B027  most have nothing to do
        """After the last record.

        Args:
            answer: the report's; None where the sweep was interrupted.
        """
