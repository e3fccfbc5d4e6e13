"""One trial alone, without Ray and MLflow: what `harness.run_trial` and `python -m harness.trial` do."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.parsing import read_trial
from harness.config.trial import TrialConfig
from harness.files import CACHE, STAGES, check_output
from harness.messages import message_of
from harness.trial.origin import origin_of
from harness.trial.run import Folders, run


@dataclass(frozen=True)
class Measured:
    """What a trial measured at one point.

    Attributes:
        step_kind: `epoch` or `labels`: what `step` counts.
        step: epochs of training the encoder, or labels that were bought.
        metrics: name -> value.
        data: the first digits of the data's fingerprint.
        images: how many are in which part, and what became of others, see `harness.trial.origin`.
        code: those of a digest of the code, see `harness.trial.origin`.
        compute: device and precision, as in "cpu float32".
    """

    step_kind: str
    step: int
    metrics: dict[str, float]
    data: str
    images: Mapping[str, int]
    code: str
    compute: str


@dataclass(frozen=True)
class Trial:
    """A trial that has ended.

    Attributes:
        config: what was done.
        seed: all randomness came from it.
        totals: labels, times, memory and the last round's accuracies.
        records: after each epoch of training the encoder and after each round; the totals last.
        warning: why there is no portrait although one was wanted; None where nothing is to be said.
    """

    config: TrialConfig
    seed: int
    totals: dict[str, float]
    records: tuple[Measured, ...]
    warning: str | None = None


def run_trial(
    trial: Mapping[str, Any] | str | Path,
    *,
    seed: int = 0,
    set: Mapping[str, Any] | None = None,
    test: bool = False,
    stages: str | Path = STAGES,
    cache: str | Path = CACHE,
    portrait: str | Path | None = None,
    show: Callable[[Measured], None] = lambda record: None,
) -> Trial:
    """Runs one trial, here and now.

        harness.run_trial({"dataset": "digits", "selector": "coreset"}, seed=0).totals["val/accuracy"]

    Args:
        trial: a search space, of which the `trial` part is used, or that part alone: a YAML file, or its content.
        seed: all randomness comes from it.
        set: dotted path -> value, such as `{"trial.pretrain.epochs": 5}`.
        test: whether the test set is read, once for each round's model.
        stages: the folder of what trials share; what it holds is not computed again.
        cache: the folder of decoded data sets.
        portrait: a file for a portrait of the encoder (.npz).
        show: is called with each record as soon as there is one.

    Raises:
        ConfigError: everything that is wrong with the trial.
        ValueError: what does not fit its data, or a portrait without a folder; `trial.optimizers.DivergedError` if a
            loss became infinite.
        FileNotFoundError: the data set is missing.
    """
    config = read_trial(Path(trial) if isinstance(trial, str) else trial, set or {})
    if portrait:
        check_output("portrait", Path(portrait))
    records: list[Measured] = []
    portrayed: dict[str, Any] = {}

    origin = origin_of(config, Path(cache))

    def keep(step_kind: str, step: int, metrics: Mapping[str, float], *_: object) -> None:
        records.append(Measured(step_kind, step, dict(metrics), **origin.as_dict()))
        show(records[-1])

    folders = Folders(Path(cache), Path(stages))
    totals = run(config, seed, folders, keep, with_test=test, deliver=portrayed.update if portrait else None)
    keep("labels", int(totals["labels/used"]), totals)
    warning = portrayed.get("warning")
    if portrait and "portrait" in portrayed:
        try:
            Path(portrait).write_bytes(base64.b64decode(portrayed["portrait"]))
        except OSError as error:
            warning = f"no portrait: {message_of(error)}"
    return Trial(config, seed, totals, tuple(records), warning)
