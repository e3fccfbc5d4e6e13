"""Saves the encoders that a sweep found: `log_model: best | all` in the search space.

A trial's weights lie in the stage cache, which all workers must share with the process that runs the sweep (`check`
refuses others); the trial leaves the names of its stages in `stages.json`. So a model is put together here, after the
last trial, and travels through nothing but the cache: `models/<trial>/`, as `harness.encoders.saved` describes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from harness.config.checks import gives_features
from harness.config.parsing import parse_trial
from harness.config.plan import Plan
from harness.config.schema import ConfigError, Problems, read_yaml
from harness.config.trial import ClassifierConfig, TrialConfig
from harness.encoders import saved
from harness.files import no_space
from harness.records import environment, rows
from harness.trial import pretraining
from harness.trial import run as trial
from harness.trial.heads import COMPLETE
from harness.trial.stages import StageCache

if TYPE_CHECKING:
    from harness.report.entry import Entry
    from harness.report.model import Report  # with the libraries of statistics, which no first trial waits for

BARE = {"weights": None, "freeze": False, "input_size": "auto", "normalize": "auto"}
"""Settings of a saved encoder's backbone: its weights lie beside it, and `inputs` says what it is shown."""

Which = Literal["best", "all", "none"]


def check_export(plan: Plan, shared_stages: bool) -> None:
    """Whether the encoders that a plan wants to keep will be found; asked before its first trial.

    Args:
        plan: of the sweep.
        shared_stages: whether all nodes see the driver's folder of stages.

    Raises:
        ConfigError: they would stay on the nodes that trained them.
    """
    if plan.log_model != "none" and not shared_stages:
        raise ConfigError(
            [
                f"{plan.name}: log_model: {plan.log_model} needs a folder of stages that all nodes share, since the "
                "encoders lie there; give one by --stages, or leave log_model out"
            ]
        )
    candidates = plan.some_candidates() if plan.log_model != "none" else ()
    given = {one.trial.dataset.name for one in candidates if gives_features(one.trial.dataset)}
    if given:
        reason = f"{min(given)} gives features, and there is no encoder to keep; leave it out"
        raise ConfigError([f"{plan.name}: log_model: {plan.log_model}: {reason}"])


def export_encoders(report: Report, which: Which, folders: trial.Folders) -> list[str]:
    """Saves the encoder of the best trial or of all confirmed ones; what is there as the trial left it is left alone.

    Returns:
        A line for each encoder that could not be saved.

    Raises:
        OSError: the disk is full.
    """
    problems = []
    for name in chosen(report, which):
        try:
            if not _is_saved(report.folder, name):
                save_encoder(report.folder, name, folders)
        except (ValueError, OSError) as error:
            if no_space(error):
                raise
            problems.append(f"log_model: {name}: {error}")
    return problems


def chosen(report: Report, which: Which) -> list[str]:
    """The trials whose encoders are saved.

    The best trial belongs to the best configuration, and is of its seeds the best one, both on validation data where
    there are any. Where nothing was confirmed, the search's configurations count.
    """
    entries = report.confirmed or [entry for entry in report.searched if entry.ending == "finished"]
    if which == "none" or not entries:
        return []
    if which == "all":
        return [name for entry in entries for _, name in sorted(entry.trials.items())]
    return [_best_seed(report.best if report.confirmed else entries[0], report)]


def _best_seed(entry: Entry, report: Report) -> str:
    values = entry.values.get(report.goal, {})
    sign = 1 if report.maximize else -1
    seeds = sorted(entry.trials, key=lambda seed: (-sign * values[seed] if seed in values else float("inf"), seed))
    return entry.trials[seeds[0]]


def kept_by(folder: Path) -> Path:
    """The folder of the encoder of a sweep's best trial, in the sweep's folder; without records, of the one it kept.

    Raises:
        ValueError: it kept none, or not that of its best trial, or no trial has finished.
    """
    kept = sorted(file.parent for file in folder.glob("models/*/model.json"))
    if not kept:
        raise ValueError(f"{folder} has no saved encoder: go on with its sweep, --resume --set log_model=best")
    if len(kept) == 1 and not rows.rows_file(folder).is_file():
        return kept[0]

    from harness.report import read  # which compares all that was recorded, where that is needed

    best = chosen(read.read_report(folder), "best")
    if not best:
        raise ValueError(f"{folder}: no trial has finished, so none is the best; name one of models/: {kept[0]}")
    if folder / "models" / best[0] not in kept:
        raise ValueError(f"{folder}: the best trial, {best[0]}, is not among models/; name one: {kept[0]}")
    return folder / "models" / best[0]


def save_encoder(folder: Path, name: str, folders: trial.Folders) -> Path:
    """Saves the encoder of a finished trial in `models/<name>` of the sweep's folder, and returns that.

    Raises:
        ValueError: the trial left no stages, or they are no longer in the cache.
    """
    about = _left_by(folder, name)
    config = _config(folder / "trials" / name / "config.yaml")
    seed = next(record["seed"] for record in rows.read_rows(folder)[0] if record["trial"] == name)
    images, _ = trial.load_data(config, folders.cache, with_test=False)
    weights, head, state = _weights(config, seed, images, about, StageCache(folders.stages))
    inputs = pretraining.encoder_inputs(config, images)
    target = folder / "models" / name
    saved.write_encoder(
        target,
        {
            "trial": name,
            "seed": seed,
            "stages": _digests(about),
            "backbone": config.backbone.as_dict() | BARE,
            "image_shape": list(images.image_shape),
            "upright": config.dataset.as_dict().get("upright", True),
            "inputs": inputs.as_dict(),
            "precision": about["compute"]["precision"],
            "channels_last": about["compute"]["channels_last"],
            "head": head,
            "class_names": list(images.class_names),
            "dataset": {"name": config.dataset.name, "fingerprint": images.fingerprint},
            "packages": environment.packages(),
        },
        weights,
        state,
    )
    return target


def _left_by(folder: Path, name: str) -> dict[str, Any]:
    """What a trial says of the stages that hold the model of its last round."""
    stages = folder / "trials" / name / "stages.json"
    if not stages.is_file():
        raise ValueError(f"{stages} is missing: the trial left no stages")
    return json.loads(stages.read_text(encoding="utf-8"))


def _digests(about: Mapping[str, Any]) -> dict[str, Any]:
    """Of the stages that a saved encoder is put together from."""
    return {stage: about[stage] for stage in ("pretrain", "train")}


def _is_saved(folder: Path, name: str) -> bool:
    """Whether the encoder of a trial is saved as its last round left it: with more rounds it becomes another."""
    file = folder / "models" / name / "model.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))["stages"] == _digests(_left_by(folder, name))
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is damaged
        return False


def _config(file: Path) -> TrialConfig:
    """The trial's, for this machine, which need not have the worker's accelerator."""
    problems = Problems(str(file))
    config = parse_trial(read_yaml(file) | {"compute": {"device": "cpu"}}, "trial", problems)
    problems.raise_any()
    assert config is not None
    return config


Weights = dict[str, torch.Tensor]


def _weights(
    config: TrialConfig, seed: int, images: Any, about: Mapping[str, Any], cache: StageCache
) -> tuple[Weights, dict[str, Any] | None, dict[str, Any] | None]:
    """The state of the backbone as the last round left it; settings and state of the task head, if it has a state.

    A k-NN, SVM or kernel head is made of the labelled images themselves, and one on pixels, PCA or t-SNE does not read
    the features: these are not saved. Where no image had a label there is none.
    """
    trained = _stage(cache, "train", about["train"]) if about["train"] else None
    if trained and (config.mode == "joint" or config.classifier.name == "finetune"):
        states = _below(trained["model"], "method.backbone." if config.mode == "joint" else "backbone.")
        scale = {"mean": torch.zeros(1), "std": torch.ones(1)}
        return states, {"name": "linear"}, {"head": _below(trained["model"], "head."), **scale}
    if pretraining.pretrains(config) or pretraining.is_fitted(config):
        states = _below(_stage(cache, "pretrain", about["pretrain"])["method"], "backbone.")
    else:
        states = pretraining.untrained_encoder(config, images, seed).state_dict()
    head: ClassifierConfig = config.classifier
    if trained is None or head.name not in COMPLETE or head.representation != "features":
        return states, None, None
    return states, {"name": head.name, "hidden_dim": head.hidden_dim}, trained


def _stage(cache: StageCache, kind: str, digest: str) -> dict[str, Any]:
    stage = cache.find(kind, digest)
    if stage is None:
        raise ValueError(f"its {kind} stage is no longer in {cache.root / kind / digest}")
    return stage.value


def _below(state: Mapping[str, torch.Tensor], prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
