"""Delivers a sweep's records to MLflow.

`rows.jsonl` is the truth and MLflow is a view of it: `Delivery` compares what the records say with what the server
holds and sends the difference, so delivering twice, after a crash, or from another process changes nothing.
`Tracker` does that in a thread beside a running sweep, which it never ends nor slows: errors are reported once and
retried, and `python -m harness.tracking sync FOLDER` delivers whatever is still missing later.

The sweep's run carries the report, its trials' runs their files, and with `log_model` their encoders as MLflow models.
Runs are found by the tags `sweep_id` and `trial_id`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import files
from harness.records import rows
from harness.records.rows import Record
from harness.tracking import artifacts, models
from harness.tracking.description import SweepDescription
from harness.tracking.experiment import PARENT, RUN_NAME, Experiment, TrackedRun
from harness.tracking.machine_load import MachineLoad
from harness.tracking.points import Point, points_of
from harness.tracking.server import print_line

if TYPE_CHECKING:
    from harness.report.model import Report

TRIAL_ENDINGS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
"""MLflow's word for a trial's last status; one that has none is RUNNING, or KILLED when the sweep ends."""

FIGURES = ("best", "reference", "difference", "difference_half")
"""How the names of the figures of a sweep's answer begin, among the metrics of its run."""


class Delivery:
    """Makes MLflow show what the records say. Synchronous; raises whatever MLflow raises.

    After an error every call starts over from what the server holds, so a request whose answer was lost is not
    sent twice.

    Args:
        uri: see `tracking_uri`.
        experiment: MLflow experiment, created if it does not exist.
        folder: the sweep's folder; its records are read when the server is first reached.
        environment: the content of `environment.json`.
        live: whether the sweep is running: its run is shown as running, and a run that was closed is believed by its
            tags. Else the server is asked for all that its runs hold.
        delivered: called with every trial whose run is closed and complete, now or since before.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        folder: Path,
        environment: Mapping[str, Any],
        *,
        live: bool,
        delivered: Callable[[str], None] = lambda trial: None,
    ):
        self._place = uri, experiment, str(environment["sweep_id"])
        self._folder = folder
        self._live = live
        self._delivered = delivered
        self._description = SweepDescription(folder, environment)
        self._trials = rows.by_trial(rows.read_rows(folder)[0])
        self._pending = dict.fromkeys(self._trials)
        self._load: MachineLoad | None = None
        self._experiment: Experiment | None = None
        self._closing_began = False  # from then on the sweep's run is not opened again

    @property
    def experiment(self) -> str | None:
        """The id of the experiment; None before there was anything to deliver."""
        return self._experiment.id if self._experiment else None

    def add(self, record: Record) -> None:
        """Takes in a record; `flush` delivers it."""
        rows.add(self._trials.setdefault(record["trial"], {}), record)
        self._pending[record["trial"]] = None

    def flush(self) -> None:
        """Delivers every trial that has something new, and now and then what the machine is doing."""
        self._deliver_all(list(self._pending))
        self._sample_load()

    def close(self, status: str | None) -> None:
        """Ends every run: trials without an ending as KILLED, then the sweep itself with its artifacts.

        Args:
            status: FINISHED, FAILED or KILLED for the sweep. None: what it has, or if it is still shown as
                running, KILLED where a trial is and FINISHED otherwise.
        """
        self._closing_began = True
        try:
            self._ask_anew()
            self._deliver_all(list(self._trials), closing=True)
            self._sample_load(last=True)
        finally:
            endings = {self._ending(trial, closing=True) for trial in self._trials}
            with self._starting_over():
                self._close_sweep(status, "KILLED" if "KILLED" in endings else "FINISHED")

    def _deliver_all(self, trials: list[str], closing: bool = False) -> None:
        """Delivers every one of them that can be delivered, then raises the first error.

        Where the server cannot be reached at all it raises at once.
        """
        first: Exception | None = None
        done: list[str] = []
        for trial in trials:
            experiment = self._connect()
            try:
                with self._starting_over():
                    self._deliver(experiment, trial, self._ending(trial, closing))
                self._pending.pop(trial, None)
                done.append(trial)
            except Exception as error:
                first = first or error
        if first:
            raise first
        again = [trial for trial in done if trial in self._pending]  # the database went after they were delivered
        if again:
            self._deliver_all(again, closing)

    @contextmanager
    def _starting_over(self) -> Iterator[None]:
        """After an error inside the block the server is asked anew what it holds."""
        try:
            yield
        except Exception:
            self._experiment = None
            raise

    def _ending(self, trial: str, closing: bool = False) -> str:
        return TRIAL_ENDINGS.get(rows.last(self._trials[trial])["status"], "KILLED" if closing else "RUNNING")

    def _connect(self) -> Experiment:
        """The experiment, with the sweep's run in it."""
        if self._experiment and self._experiment.is_gone():
            self._say_changed(self._experiment)
            self._experiment, self._pending = None, dict.fromkeys(self._trials)
        if self._experiment is None:
            experiment, description = Experiment(*self._place), self._description
            tags = description.sweep_tags()
            if "" not in experiment.runs:
                experiment.create("", description.space["name"], description.started, tags | description.note(None))
            run = experiment.runs[""]
            experiment.add_tags(run, tags | {RUN_NAME: description.space["name"]})
            experiment.tag(*description.experiment_tag())
            experiment.adopt()
            experiment.log(run, description.sweep_parameters(), [])
            experiment.log_data_sets(run, description.data_sets())
            if self._live and not self._closing_began and run.status != "RUNNING":
                experiment.reopen(run)
            self._experiment = experiment
        return self._experiment

    def _ask_anew(self) -> None:
        """Asks which runs there are: a backup that was copied over a database is the same file as before."""
        before = self._experiment and self._connect()
        left, self._experiment = before and before.left(), None
        if self._connect().left() != left and before and before.database:
            self._say_changed(before)

    @staticmethod
    def _say_changed(experiment: Experiment) -> None:
        print_line(f"{experiment.database} was deleted or changed while the sweep runs; written anew")

    def _sample_load(self, last: bool = False) -> None:
        """Adds a sample of the machine's load to the sweep's run, if the sweep asks for it and one is due."""
        if not self._live or not self._description.space.get("system_metrics"):
            return
        experiment = self._connect()
        self._load = self._load or MachineLoad()
        if self._load.is_due(last):
            with self._starting_over():
                experiment.log_load(experiment.runs[""], self._load.sample(), self._description.started)

    # One trial -------------------------------------------------------------------------------------------------

    def _deliver(self, experiment: Experiment, trial: str, ending: str) -> None:
        """Brings one trial's run in line with its records."""
        history = self._trials[trial]
        run = experiment.runs.get(trial)
        digest = "" if ending == "RUNNING" else self._digest(trial)
        points, dropped = points_of(history)
        closing = self._closing(trial, ending, digest, dropped) if ending != "RUNNING" else {}
        is_closed = run and ending != "RUNNING" and (run.status, run.delivered) == (ending, digest)
        if run and is_closed and (self._live or self._is_whole(experiment, run, trial, points, closing)):
            self._delivered(trial)
            return
        if run and not experiment.points_of(run) <= set(points):
            # The trial was run again; MLflow can take no point back, so a new run takes the place of the old.
            experiment.delete(run)
            run = None
        description = self._description
        config = description.config(trial) if run is None or not run.described else {}
        tags = self._tags(trial, config) if run is None or not run.described else {}
        if run is None:
            started = next(iter(history.values()))["time"]
            above = {PARENT: experiment.runs[""].id}
            run = experiment.create(trial, tags[RUN_NAME], started, tags | above | closing)
        elif run.status not in ("RUNNING", ending):
            experiment.reopen(run)
        experiment.add_tags(run, tags)
        experiment.log(run, {} if run.described else description.trial_parameters(history, config), points)
        if not run.described:
            experiment.log_data_sets(run, description.data_sets_of(config))
            run.described = True
        if ending != "RUNNING":
            self._send_files(experiment, run, trial)
            experiment.end(run, ending, closing, rows.last(history)["time"])
            self._delivered(trial)

    def _tags(self, trial: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """The tags of a trial's run before it has ended, but for that of its parent; its name is one of them."""
        history = self._trials[trial]
        name = self._description.trial_name(history, config)
        return self._description.trial_tags(trial, history, config) | {RUN_NAME: name}

    def _is_whole(
        self,
        experiment: Experiment,
        run: TrackedRun,
        trial: str,
        points: Collection[Point],
        closing: Mapping[str, str | None],
    ) -> bool:
        """Whether the server still holds what was sent of a trial: what describes it, its points, files and encoder."""
        config = self._description.config(trial)
        parameters = self._description.trial_parameters(self._trials[trial], config)
        tags, data_sets = {**self._tags(trial, config), **closing}, self._description.data_sets_of(config)
        if not experiment.is_described(run, tags, parameters, data_sets):
            return False
        if experiment.points_of(run) != set(points):
            return False
        model = self._model(trial)
        if model.is_file() and not models.is_logged(experiment, run, model.parent):
            return False
        with artifacts.gathered_of_trial(self._folder, trial) as gathered:
            return experiment.has_files(run, gathered)

    def _digest(self, trial: str) -> str:
        """Names all that is delivered of a trial that has ended: its records and its files."""
        paths = artifacts.of_trial(self._folder, trial)
        model = self._model(trial)  # it holds the checksum of the weights
        about = artifacts.checksums([*paths, model] if model.is_file() else paths, self._folder)
        return files.digest_of({"records": list(self._trials[trial].values()), "files": about})

    def _closing(self, trial: str, ending: str, digest: str, dropped: list[str]) -> dict[str, str | None]:
        """The tags of a run whose trial has ended."""
        final = rows.last(self._trials[trial])
        return {
            "early_stopped": "true" if final["status"] == "stopped" else None,
            "error": (final.get("error") or "unknown") if ending == "FAILED" else None,
            "dropped_metrics": "; ".join(dropped) or None,
            "delivered": digest,
        }

    def _send_files(self, experiment: Experiment, run: TrackedRun, trial: str) -> None:
        """Sends what a trial left, what is made of it, and its saved encoder."""
        with artifacts.gathered_of_trial(self._folder, trial) as gathered:
            experiment.log_folder(run, gathered)
        if self._model(trial).is_file():
            models.log_model(experiment, run, trial, self._model(trial).parent)

    def _model(self, trial: str) -> Path:
        return self._folder / "models" / trial / "model.json"

    # The sweep -------------------------------------------------------------------------------------------------

    def _close_sweep(self, status: str | None, computed: str) -> None:
        experiment = self._connect()
        run = experiment.runs[""]
        ending = status or (computed if run.status == "RUNNING" else run.status)
        answer, best, figures = self._answer(experiment)
        about = self._description.note(answer) | {"best_model": best}
        sums = artifacts.checksums(artifacts.of_sweep(self._folder), self._folder)
        digest = files.digest_of({"files": sums, "about": about, "figures": figures})
        with artifacts.gathered_of_sweep(self._folder) as gathered:
            if (run.status, run.delivered) == (ending, digest):
                shown = self._live or not list(_to_show(figures, experiment.points_of(run), 0))
                tagged = experiment.is_described(run, about, {}, [])
                if shown and tagged and (self._live or experiment.has_files(run, gathered)):
                    return
            experiment.log_folder(run, gathered)
        times = [record["time"] for history in self._trials.values() for record in history.values()]
        if times:
            experiment.log(run, {}, list(_to_show(figures, experiment.points_of(run), max(times))))
        experiment.end(run, ending, {**about, "delivered": digest}, max(times, default=None))

    def _answer(self, experiment: Experiment) -> tuple[str | None, str | None, dict[str, float]]:
        """The report's answer, the model of the best trial if it was saved and its run is there, and its figures."""
        from harness.encoders import export
        from harness.report import read

        try:
            report = read.read_report(self._folder)
        except ValueError:  # nothing has been recorded yet
            return None, None, {}
        figures = figures_of(report)
        said = " ".join([report.answer, *report.about])
        for trial in export.chosen(report, "best"):
            if trial in experiment.runs and self._model(trial).is_file():
                return said, f"runs:/{experiment.runs[trial].id}/{models.MODEL}", figures
        return said, None, figures


def figures_of(report: Report) -> dict[str, float]:
    """The figures of a sweep's answer, as metrics of its run: of the best, of its reference, their difference, n."""
    if not report.confirmed or report.mixed:
        return {}
    best, headline, measure = report.best, report.headline, report.measure
    reference = report.reference_on(best.block)
    apart = best.judgement.difference if best.judgement else None
    means = (
        headline.mean if headline else None,
        reference.mean(measure) if reference else None,
        apart.mean if apart else None,
        apart.half if apart else None,
    )
    values = {f"{kind}/{measure}": value for kind, value in zip(FIGURES, means, strict=True) if value is not None}
    return values | {"best/n_seeds": float(len(best.seeds))}


def _to_show(figures: Mapping[str, float], held: Collection[Point], when: int) -> Iterator[Point]:
    """The points that make these figures those that MLflow shows, the newest of each name.

    It takes no point back: a figure that no longer holds becomes NaN.

    Args:
        figures: see `figures_of`.
        held: the points that the run has.
        when: the time of a new one, if it is newer than that of the last, in unix milliseconds.
    """
    shown: dict[str, tuple[int, int, float]] = {}  # in MLflow's own order: of equal times it shows the larger value
    for name, value, time, step in held:
        if name.partition("/")[0] in FIGURES:
            shown[name] = max(shown.get(name, (step, time, value)), (step, time, value))
    for name in {**figures, **shown}:
        value = figures.get(name, math.nan)
        _, time, before = shown.get(name, (0, 0, None))
        if before != value and not (before is not None and math.isnan(before) and math.isnan(value)):
            yield name, value, max(when, time + 1), 0
