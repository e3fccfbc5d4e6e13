"""A list of tasks, handed out to Tune's trials so that no slot waits for what another one is training."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ray.tune.search import Searcher

from harness.config.tasks import Task
from harness.records.details import Details
from harness.sweep.preflight import encoders_of
from harness.sweep.worker import tune_config

Encoders = tuple[str, ...]
"""Those that a piece trains; pieces that share them are alike: the first of them in order comes first."""


Piece = list[tuple[Task, dict[str, str]]]
"""The tasks of a trial of Tune's, which run in turn, each with its encoders by training."""


class _Place(NamedTuple):
    """Of a queue: the smallest comes first."""

    rank: int  # minus how many tasks need the encoder of these that most need
    number: int  # of the first piece that is left
    encoders: Encoders


def _nobody(number: int, other: Task | None) -> None:
    """Is told of trials that wait, where nobody looks."""


class GivenTasks(Searcher):
    """Hands out tasks, in pieces, so that none waits for another's pre-training while it could not.

    A piece is what one trial of Tune's does: a task, or those of a configuration.

    First those whose encoder most others need; the others in their order, and one whose encoder is being trained by
    another once that is done. What a task costs grows with the logarithm of the number of tasks.

    Args:
        tasks: in the order in which they are to run.
        waits: is told how many tasks wait for which other one's encoder, when nothing else is left to hand out.
        shared: whether a task finds what another one has trained; else none waits.
        in_turn: whether the tasks of a configuration are one piece, which early stopping judges as one.

    Attributes:
        number: of pieces.
        num_pretrainings: how many encoders all tasks together train.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        waits: Callable[[int, Task | None], None] = _nobody,
        *,
        shared: bool = True,
        in_turn: bool = False,
    ):
        super().__init__()
        every = [(task, encoders_of(task)) for task in tasks]
        self.num_pretrainings = len({encoder for _, encoders in every for encoder in encoders.values()})
        # One that goes on for more rounds has its encoder, and tells of no epoch.
        each = [(task, encoders if shared and not task.known else {}) for task, encoders in every]
        pieces: dict[Any, Piece] = {}
        for place, (task, encoders) in enumerate(each):
            pieces.setdefault(task.candidate.configuration if in_turn else place, []).append((task, encoders))
        self.number = len(pieces)
        self._left = dict(enumerate(pieces.values()))
        self._num_waiting = len(tasks)  # of the tasks that are left
        self._needed = Counter(encoder for _, encoders in each for encoder in encoders.values())
        self._alike: dict[Encoders, deque[int]] = {}  # the numbers of the pieces that are left
        for number, piece in self._left.items():
            needed = tuple(encoder for _, encoders in piece for encoder in encoders.values())
            self._alike.setdefault(needed, deque()).append(number)
        self._queue: list[_Place] = []  # of pieces that are alike there is one place, here or among those that wait
        self._waiting: dict[str, list[_Place]] = {}  # encoder in training -> a queue of those that wait for it
        for alike in self._alike:
            self._enqueue(alike)
        self._running: dict[str, dict[tuple[int, str], str]] = {}  # Tune's trial -> seed, training -> encoder
        self._trained_by: dict[str, tuple[str, Task]] = {}  # encoder in training -> Tune's trial, its task
        self._ready: set[str] = set()  # encoders
        self._waits = waits

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_waits": _nobody}  # Tune writes itself down, and a terminal cannot be pickled

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """A piece, as Tune's configuration; None while all that are left wait for an encoder."""
        while self._queue:
            place = heapq.heappop(self._queue)
            in_training = next((one for one in place.encoders if one in self._trained_by), None)
            if in_training:
                heapq.heappush(self._waiting.setdefault(in_training, []), place._replace(rank=0))
            elif place.rank != self._rank(place.encoders):  # since it was put there, one of its encoders became ready
                self._enqueue(place.encoders)
            else:
                self._waits(0, None)
                return tune_config(self._begin(trial_id, place.encoders))
        first = min(self._waiting, key=lambda encoder: self._waiting[encoder][0].number, default=None)
        self._waits(self._num_waiting, self._trained_by[first][1] if first else None)
        return None

    def _rank(self, encoders: Encoders) -> int:
        return -max((self._needed[encoder] for encoder in encoders), default=1)

    def _enqueue(self, encoders: Encoders) -> None:
        if numbers := self._alike[encoders]:
            heapq.heappush(self._queue, _Place(self._rank(encoders), numbers[0], encoders))

    def _begin(self, trial_id: str, encoders: Encoders) -> list[Task]:
        """The first of the pieces that are alike; the next of them waits, unless there is nothing to train."""
        piece = self._left.pop(self._alike[encoders].popleft())
        self._num_waiting -= len(piece)
        running = self._running[trial_id] = {}
        for task, needed in piece:
            running |= {(task.seed, training): encoder for training, encoder in needed.items()}
            self._trained_by |= {one: (trial_id, task) for one in needed.values() if one not in self._ready}
        self._enqueue(encoders)
        return [task for task, _ in piece]

    def _end_training(self, encoder: str) -> None:
        """It is there, or given up: who waited for it waits no longer."""
        del self._trained_by[encoder]
        for place in self._waiting.pop(encoder, []):
            self._enqueue(place.encoders)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """An encoder is there after the last epoch of its training: then it is no reason to come first any more."""
        record, details = result.get("sent", ({}, Details()))
        training = details.training
        if training and training.epoch == training.epochs:
            encoder = self._running[trial_id].get((record["seed"], training.name))
            if encoder:
                self._needed[encoder] = 1
                self._ready.add(encoder)
                if encoder in self._trained_by:
                    self._end_training(encoder)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """What it did not train is for the next to train."""
        for encoder in self._running.pop(trial_id, {}).values():
            if self._trained_by.get(encoder, ("",))[0] == trial_id:
                self._end_training(encoder)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: resuming reads our own records."""
