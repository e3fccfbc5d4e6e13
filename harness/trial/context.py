"""What everything in a trial shares."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from harness.api import Augmentation
from harness.config.trial import TrialConfig
from harness.data.oracle import Oracle
from harness.data.splits import Data
from harness.trial.epochs import Reporter
from harness.trial.runtime import Runtime
from harness.trial.stages import StageCache


@dataclass
class Costs:
    """Seconds by purpose; a cached stage counts the seconds it took when it was computed."""

    pretrain: float = 0.0
    encode: float = 0.0
    select: float = 0.0
    train: float = 0.0
    evaluate: float = 0.0
    pretrain_cached: bool = False

    def metrics(self) -> dict[str, float]:
        """As `time/*`, with their total."""
        purposes = ("pretrain", "encode", "select", "train", "evaluate")
        parts = {f"time/{purpose}_seconds": getattr(self, purpose) for purpose in purposes}
        total = {"time/total_seconds": sum(parts.values())}
        return parts | total | {"stage/pretrain_cached": float(self.pretrain_cached)}


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
        runtime: device and precision.
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
    runtime: Runtime
    views: Augmentation
    stages: StageCache
    costs: Costs
    reporter: Reporter
