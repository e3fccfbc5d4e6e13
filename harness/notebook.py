"""Sweeps from Python, a notebook for one: what `python -m harness.sweep` and `.report` do, without a shell."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.plan import load_plan
from harness.files import CACHE, RESULTS, STAGES, give_home
from harness.report.notebook import Findings

if TYPE_CHECKING:
    from harness.encoders.saved import SavedEncoder


class SweepFindings(Findings):
    """What a sweep found, and the encoder that it kept."""

    def encoder(self, device: str = "auto") -> SavedEncoder:
        """The encoder of the best trial, of a sweep with `log_model: best`: `.embed(images)`.

        Raises:
            ValueError: none was kept.
        """
        from harness.encoders import export
        from harness.encoders.saved import SavedEncoder

        return SavedEncoder.load(export.kept_by(self.report.folder), device)


def run_sweep(
    question: Mapping[str, Any] | str | Path,
    *,
    set: Mapping[str, Any] | None = None,
    resume: bool = False,
    quiet: bool = False,
    results: str | Path = RESULTS,
    stages: str | Path = STAGES,
    cache: str | Path = CACHE,
    address: str | None = None,
    tracking_uri: str | None = None,
    loggers: Iterable[str] = (),
) -> SweepFindings:
    """Runs a search space until every trial has an ending, also in a thread.

    What could not be done after the last trial, such as a copy, is a warning; trials that failed are in
    `.report.failures`.

    Args:
        question: a search space: a YAML file, or its content.
        set: dotted path -> value, such as `{"trial.pretrain.epochs": 5}`.
        resume: whether a sweep of the same name is continued: one that was interrupted, or whose question grew.
        quiet: whether nothing is shown but what is wrong.
        results: the folder of sweeps, or a place in an object store: s3://BUCKET/PREFIX.
        stages: the folder of what trials share; what it holds is not computed again.
        cache: the folder of decoded data sets.
        address: of a Ray cluster to run on, `auto` or HOST:PORT; None: this machine.
        tracking_uri: of MLflow; None: MLFLOW_TRACKING_URI, else a SQLite file in the results.
        loggers: what listens beside MLflow, by the name under which a package offers it, or as `module:Class`.

    Raises:
        ConfigError: everything that is wrong with the question; nothing was run.
        ValueError, OSError: what does not fit the data, the folder or the disk.
        RuntimeError: Ray broke down; what has finished is kept, as after any other error of a later moment.
        KeyboardInterrupt: what has finished is kept, and `resume=True` goes on.
    """
    plan = load_plan(Path(question) if isinstance(question, str) else question, set or {})

    give_home()
    from harness.sweep.options import Options
    from harness.sweep.session import run_plan  # and with it Ray

    places = str(results), Path(stages), Path(cache)
    options = Options(
        *places,
        resume,
        quiet,
        address,
        tracking_uri,
        loggers=(loggers,) if isinstance(loggers, str) else tuple(loggers),
    )
    outcome = run_plan(plan, options)
    for problem in outcome.problems:
        warnings.warn(problem, stacklevel=2)
    if outcome.error:
        raise outcome.error
    if not outcome.complete:
        raise KeyboardInterrupt("interrupted; go on with resume=True")
    return SweepFindings(outcome.report) if outcome.report else load_report(outcome.folder)  # which says what is wrong


def load_report(folder: str | Path) -> SweepFindings:
    """What a sweep found, from its folder, such as `results/runs/augment`.

    Raises:
        ValueError: the folder is not a sweep's, or holds no records.
    """
    from harness.report.read import read_report

    return SweepFindings(read_report(Path(folder)))
