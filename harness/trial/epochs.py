"""The epochs of a training, which may be killed and go on: one loop, one clock, one checkpoint, one way to report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.records.details import Details, Training
from harness.trial.stages import Checkpoint

Metrics = dict[str, float]

Listener = Callable[[str, int, Mapping[str, float], Details], None]
"""Hears what a trial finds, as it finds it: the step's kind ("epoch" or "labels"), the step (the epoch, or the number
of labels used), metrics by name (`harness.metrics`) and what is no metric."""


class Stateful(Protocol):
    """A module or an optimizer."""

    def state_dict(self) -> dict[str, Any]:
        """What it has learnt."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Goes on from there."""


@dataclass(frozen=True)
class Watch:
    """How a training is watched.

    Attributes:
        checkpoint: keeps the state between epochs, and the time: what `on_epoch` and `validate` take is none of the
            training's. None: nothing is kept.
        on_epoch: called after each epoch with its number, from 1, and its metrics; also after those that an earlier
            process ran.
        validate: measures what is trained, after the epochs at which the training wants it.
        names: the metrics that it gives.
    """

    checkpoint: Checkpoint | None = None
    on_epoch: Callable[[int, Metrics], None] = lambda number, metrics: None
    validate: Callable[[], Metrics] = dict
    names: tuple[str, ...] = ()


@dataclass
class Epoch:
    """One epoch, filled by the loop's body.

    Attributes:
        number: from 1.
        metrics: of it.
        images: that were seen in it.
    """

    number: int
    metrics: Metrics = field(default_factory=dict)
    images: int = 0


class Epochs:
    """The epochs that a training has left; a loop over them starts where the checkpoint was saved.

    Each epoch must draw from random streams of its own, so that a resumed training draws the same.

    Args:
        total: epochs.
        states: name -> what the training changes, and so is saved and restored.
        watch: is told of each epoch.
        rate: the metric of images per second.
        validates: whether the watch's measurement is wanted after the epoch of this number.
        is_complete: whether the history of a checkpoint says all that is asked; if not, the training begins anew.

    Attributes:
        history: the metrics of each epoch that has ended.
    """

    def __init__(
        self,
        total: int,
        states: Mapping[str, Stateful],
        watch: Watch,
        *,
        rate: str,
        validates: Callable[[int], bool] = lambda number: False,
        is_complete: Callable[[list[Metrics]], bool] = lambda history: True,
    ):
        self.history: list[Metrics] = []
        self._total = total
        self._states = states
        self._watch = watch
        self._rate = rate
        self._validates = validates
        saved = watch.checkpoint.load(lambda state: is_complete(state["history"])) if watch.checkpoint else None
        if saved:
            self.history = saved["history"]
            for name, state in states.items():
                state.load_state_dict(saved[name])

    def __iter__(self) -> Iterator[Epoch]:
        for number, metrics in enumerate(self.history, start=1):
            self._tell(number, metrics)
        for number in range(len(self.history) + 1, self._total + 1):
            started = time.perf_counter()
            epoch = Epoch(number)
            yield epoch
            seconds = time.perf_counter() - started
            self.history.append(epoch.metrics | {self._rate: epoch.images / seconds})
            self._tell(number, self.history[-1], validate=self._validates(number))
            self._save_if_due()

    def _tell(self, number: int, metrics: Metrics, validate: bool = False) -> None:
        """Reports an epoch, measured before that if `validate`; the clock stands still."""
        paused = self._watch.checkpoint.paused() if self._watch.checkpoint else contextlib.nullcontext()
        with paused:
            if validate:
                metrics |= self._watch.validate()
            self._watch.on_epoch(number, metrics)

    def _save_if_due(self) -> None:
        checkpoint = self._watch.checkpoint
        if checkpoint and checkpoint.due:
            states = {name: state.state_dict() for name, state in self._states.items()}
            checkpoint.save(states | {"history": self.history})


class Reporter:
    """Tells a trial's listener what is found, and gives every epoch of its trainings a number of its own."""

    def __init__(self, listener: Listener):
        self._listener = listener
        self._epochs = 0

    def round(self, labels: int, metrics: Metrics, details: Details) -> None:
        """What the model of a round reaches with so many labels."""
        self._listener("labels", labels, metrics, details)

    def training(self, name: str, total: int, every: int = 1) -> TrainingReporter:
        """Begins the report of a training's epochs.

        Args:
            name: of the training, for people.
            total: epochs that it has.
            every: reports each of this many, and the last.
        """
        before, self._epochs = self._epochs, self._epochs + total

        def tell(number: int, metrics: Metrics) -> None:
            if number % every == 0 or number == total:
                self._listener("epoch", before + number, metrics, Details(training=Training(name, number, total)))

        return TrainingReporter(tell)


class TrainingReporter:
    """Reports the epochs of one training, also those of a stage that was found and not computed."""

    def __init__(self, tell: Callable[[int, Metrics], None]):
        self._tell = tell
        self._last = 0

    def epoch(self, number: int, metrics: Metrics) -> None:
        """One epoch, from 1."""
        self._last = number
        self._tell(number, metrics)

    def rest(self, history: list[Metrics]) -> None:
        """The epochs that have not been reported yet, of all."""
        for number, metrics in enumerate(history[self._last :], start=self._last + 1):
            self.epoch(number, metrics)
