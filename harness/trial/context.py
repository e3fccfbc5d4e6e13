"""What everything in a trial shares."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from harness.api import Augmentation
from harness.config.trial import TrialConfig
from harness.data.oracle import Oracle
from harness.data.splits import Data
from harness.plugins.inputs import Inputs
from harness.trial.epochs import Reporter
from harness.trial.runtime import Runtime
from harness.trial.stages import StageCache

PURPOSES = ("pretrain", "encode", "selection_encoder", "teacher", "select", "train", "evaluate")
"""What a trial's seconds are spent on."""


@dataclass
class Costs:
    """What a trial's rounds cost together; a cached stage counts the seconds it took when it was computed.

    Attributes:
        seconds: purpose -> seconds.
        saved: those of them that were not spent again, thanks to the cache.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PURPOSES, 0.0))
    saved: float = 0.0

    def add(self, purpose: str, seconds: float, *, cached: bool = False) -> None:
        """Counts what was spent, or what a stage from the cache once took."""
        self.seconds[purpose] += seconds
        self.saved += seconds if cached else 0.0

    def metrics(self) -> dict[str, float]:
        """As `time/*`, with their total and the saved part of it."""
        parts = {f"time/{purpose}_seconds": seconds for purpose, seconds in self.seconds.items()}
        return parts | {"time/total_seconds": sum(self.seconds.values()), "time/saved_seconds": self.saved}


@dataclass(frozen=True)
class Context:
    """A trial: its settings, its data and where its results go.

    A selector must not reach it: it holds hidden labels.

    Attributes:
        config: what to do.
        seed: all randomness comes from it.
        data: images, and the labels of the validation and test sets.
        oracle: the labels of the pool, with its budget set.
        start: i64 [L], positions of the start pool.
        inputs: what the encoder is shown of the images.
        runtime: device, precision, and how images become these.
        views: the augmentation of pre-training.
        stages: the cache.
        costs: added to as time is spent.
        reporter: is told after each epoch of a training of the encoder, and after each round.
    """

    config: TrialConfig
    seed: int
    data: Data
    oracle: Oracle
    start: Tensor
    inputs: Inputs
    runtime: Runtime
    views: Augmentation
    stages: StageCache
    costs: Costs
    reporter: Reporter
