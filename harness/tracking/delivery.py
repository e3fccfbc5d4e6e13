"""Delivers a sweep's records to MLflow. The only module that imports MLflow.

`rows.jsonl` is the truth and MLflow is a view of it: `Delivery` compares what the records say with what the server
holds and sends the difference, so delivering twice, after a crash, or from another process changes nothing.
`Tracker` does that in a thread beside a running sweep, which it never ends: errors are reported once and retried, and
`python -m harness.tracking sync FOLDER` delivers whatever is still missing later. It slows a sweep in one case only: of
trials that end faster than MLflow takes them each waits a moment, so that the UI shows a sweep as it is.

The sweep's run carries the report, its trials' runs their files, and with `log_model` their encoders as MLflow models.
Runs are found by the tags `sweep_id` and `trial_id`. Timestamps come from the records. A metric uses one axis only,
epochs or labels (`metrics.step_kind`); the rare value reported on the other one gets a name of its own.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.messages import cut
from harness.metrics import step_kind
from harness.records import rows, trial_files
from harness.records.names import run_name, varied
from harness.records.rows import History, Record
from harness.records.trial_files import Confusion
from harness.report.pictures.matrix import confusion_svg
from harness.report.pictures.style import on_paper
from harness.tracking.machine import Machine
from harness.tracking.models import MODEL, save_pyfunc
from harness.tracking.server import client_library

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Opens the UI on runs and charts rather than on its pages for language models."""


POLL_SECONDS = 0.2


MOST_BEHIND = 20
"""Ended trials that MLflow may lack before the next ones wait for it."""


PACE_SECONDS = 0.25
"""The longest that an ended trial waits for MLflow: a slow server costs a sweep no more than that."""


MAX_RETRY_SECONDS = 30.0


MAX_ENTITIES = 1000  # of one log_batch; the following are limits of MLflow's, too


MAX_PARAMETERS = 100


MAX_PARAMETER_LENGTH = 6000


MAX_TAG_LENGTH = 5000


MAX_DIGEST_LENGTH = 36


SWEEP_FILES = (".yaml", ".json", ".csv", ".md", ".html", ".svg")
"""Endings of what a sweep's run carries: the question, the environment, the report and its pictures."""


ELSEWHERE = ("trials", "models", "ray")
"""Folders of a sweep whose files its own run does not carry."""


READING = """\
Each trial is a run below this one, named by what differs. Steps are numbers of labels, so that the charts of \
`val/...` and `test/...` are learning curves; those of `pretrain/...`, `throughput/...`, `classifier/...` and \
`joint/val_accuracy` have epochs. Group the runs by the tag `configuration` to see means over seeds, and take only \
runs with `phase = confirm` for comparisons: the others are a search, in which the best looks better than it is. \
Whether a difference is more than luck stands in `report.html` or `summary.md`, under Artifacts."""


Point = tuple[str, float, int, int]
"""A metric's name, value, time in unix milliseconds, and step."""


@dataclass
class _Run:
    """What is known of a run on the server.

    Attributes:
        status: RUNNING, FINISHED, FAILED or KILLED.
        delivered: digest of what was delivered when it was closed, or is when it will be.
        points: the points the server holds; None until asked.
        described: whether parameters and data set are known to be there.
        new: whether it was created here and has not been closed yet.
    """

    id: str
    status: str = "RUNNING"
    delivered: str | None = None
    metrics: list[str] = field(default_factory=list)
    points: set[Point] | None = None
    described: bool = False
    new: bool = False


class Delivery:
    """Makes MLflow show what the records say. Synchronous; raises whatever MLflow raises.

    After an error every call starts over from what the server holds, so a request whose answer was lost is not
    sent twice.

    Args:
        uri: see `tracking_uri`.
        experiment: MLflow experiment, created if it does not exist.
        folder: the sweep's folder; its records are read when the server is first reached.
        environment: the content of `environment.json`.
        live: whether the sweep is running, so that its run is shown as running.
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
        self._uri = uri
        self._delivered = delivered
        self._experiment_name = experiment
        self._folder = folder
        self._environment = environment
        self._live = live
        self._space = rows.mapping(folder / "space.yaml")
        self._trials = rows.by_trial(rows.read(folder)[0])
        self._pending = dict.fromkeys(self._trials)
        self._varied = varied(self._space)
        self._last_config: tuple[bytes, dict[str, Any]] = b"", {}
        self._machine: Machine | None = None
        self._connected = False

    def add(self, record: Record) -> None:
        """Takes in a record; `flush` delivers it."""
        rows.add(self._trials.setdefault(record["trial"], {}), record)
        self._pending[record["trial"]] = None

    def flush(self) -> None:
        """Delivers every trial that has something new, and now and then what the machine is doing."""
        self._deliver_all(list(self._pending))
        self._sample_machine()

    def close(self, status: str | None) -> None:
        """Ends every run: trials without an ending as KILLED, then the sweep itself with its artifacts.

        Args:
            status: FINISHED, FAILED or KILLED for the sweep. None: what it has, or if it is still shown as
                running, KILLED where a trial is and FINISHED otherwise.
        """
        try:
            self._deliver_all(list(self._trials), closing=True)
            self._sample_machine(last=True)
        finally:
            endings = {self._ending(trial, closing=True) for trial in self._trials}
            self._close_sweep(status, "KILLED" if "KILLED" in endings else "FINISHED")

    def _deliver_all(self, trials: list[str], closing: bool = False) -> None:
        """Delivers every one of them that can be delivered, then raises the first error.

        Where the server cannot be reached at all it raises at once.
        """
        first: Exception | None = None
        for trial in trials:
            self._connect()
            try:
                self._deliver(trial, self._ending(trial, closing))
                self._pending.pop(trial, None)
            except Exception as error:
                self._connected = False
                first = first or error
        if first:
            raise first

    def _ending(self, trial: str, closing: bool = False) -> str:
        unended = "KILLED" if closing else "RUNNING"
        endings = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
        return endings.get(rows.last(self._trials[trial])["status"], unended)

    # The server ------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Finds or creates the database, the experiment and the sweep's run, and lists the trials' runs."""
        if self._connected:
            return
        # Two processes that migrate one new database at once corrupt each other's work.
        database = Path(self._uri.removeprefix("sqlite:///")) if self._uri.startswith("sqlite:///") else None
        if database:
            database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{database}.lock") if database else nullcontext():
            self._client = client_library().MlflowClient(self._uri)  # which migrates
            experiment = self._client.get_experiment_by_name(self._experiment_name)
            if experiment:
                self._experiment = experiment.experiment_id
            else:
                # MLflow's own default is a folder below the current directory.
                place = (database.resolve().parent / "mlflow_artifacts").as_uri() if database else None
                self._experiment = self._client.create_experiment(
                    self._experiment_name, artifact_location=place, tags=EXPERIMENT_TAGS
                )
        self._runs = self._find_runs()
        if "" not in self._runs:
            self._runs[""] = self._create_sweep()
        self._describe_sweep(self._runs[""])
        if self._live and self._runs[""].status != "RUNNING":
            self._client.update_run(self._runs[""].id, status="RUNNING")
            self._runs[""].status = "RUNNING"
        self._connected = True

    def _find_runs(self) -> dict[str, _Run]:
        """The sweep's run, as '', and its trials' runs.

        A request that the server carried out after we had given it up leaves a second run of the same trial: of those
        the oldest stays, of the sweep's own the one that trials are below, and the others are deleted, if we may.
        """
        found = list(self._search())
        parents = Counter(run.data.tags.get("mlflow.parentRunId") for run in found)
        runs: dict[str, _Run] = {}
        for run in sorted(found, key=lambda run: (-parents[run.info.run_id], run.info.start_time, run.info.run_id)):
            trial = run.data.tags.get("trial_id", "")
            if trial in runs:
                with suppress(client_library().exceptions.MlflowException):
                    self._client.delete_run(run.info.run_id)
            else:
                runs[trial] = _known(run)
        return runs

    def _search(self) -> Iterator[Any]:
        """The runs that have the sweep's tag."""
        token = None
        wanted = f"tags.sweep_id = '{self._environment['sweep_id']}'"
        while True:
            page = self._client.search_runs([self._experiment], wanted, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _common_tags(self) -> dict[str, str]:
        environment = self._environment
        commit = environment.get("commit")
        tags = {
            "sweep_id": environment["sweep_id"],
            "sweep": self._space.get("name"),
            "commit": f"{commit}-dirty" if commit and environment.get("dirty") else commit,
            "host": environment.get("hostname"),
            "version/python": environment.get("python"),
            "mlflow.source.git.commit": commit,
            "mlflow.source.name": environment.get("command"),
        }
        tags |= {f"version/{name}": version for name, version in environment.get("packages", {}).items()}
        return _tags(tags)

    def _create_sweep(self) -> _Run:
        tags = self._common_tags() | _tags({"kind": "sweep", "method": self._space.get("method")} | self._note(None))
        started = _milliseconds(self._environment.get("started"))
        run = self._client.create_run(self._experiment, started, tags, self._space["name"])
        return _Run(run.info.run_id)

    def _describe_sweep(self, run: _Run) -> None:
        if not run.described:
            self._log(run, _flat({"trial": self._space.get("trial", {})}), [])
            self._log_data_sets(run, self._data_sets())
            run.described = True

    def _note(self, answer: str | None) -> dict[str, str]:
        """The description of the sweep's run: the question, the answer, and how to read the charts."""
        parts = {"Question": self._space["description"], "Answer": answer, "How to read this": READING}
        return {"mlflow.note.content": "\n\n".join(f"**{title}.** {text}" for title, text in parts.items() if text)}

    def _sample_machine(self, last: bool = False) -> None:
        """Adds a sample of the machine's load to the sweep's run, if the sweep asks for it and one is due."""
        if not self._live or not self._space.get("system_metrics"):
            return
        self._connect()
        self._machine = self._machine or Machine()
        if time.monotonic() < (self._machine.taken + 1 if last else self._machine.due):
            return  # a load over no time is none
        started = _milliseconds(self._environment.get("started"))
        now = int(time.time() * 1000)
        step = (now - started) // 1000 if started else 0
        metric = client_library().entities.Metric
        samples = [metric(f"system/{name}", value, now, step) for name, value in self._machine.sample().items()]
        self._client.log_batch(self._runs[""].id, metrics=samples)

    # One trial -------------------------------------------------------------------------------------------------

    def _deliver(self, trial: str, ending: str) -> None:
        """Brings one trial's run in line with its records."""
        history = self._trials[trial]
        digest = "" if ending == "RUNNING" else _digest([list(history.values()), self._files_of(trial)])
        run = self._runs.get(trial)
        if run and ending != "RUNNING" and (run.status, run.delivered) == (ending, digest):
            self._delivered(trial)
            return
        points, dropped = _points(history)
        if run and not self._points_of(run) <= set(points):
            # The trial was run again; MLflow can take no point back, so a new run takes the place of the old.
            self._client.delete_run(run.id)
            run = None
        config = self._config(trial) if run is None or not run.described else {}
        closing = self._closing(trial, ending, digest, dropped) if ending != "RUNNING" else {}
        if run is None:
            run = self._runs[trial] = self._create(trial, history, config, closing)
        elif run.status != "RUNNING" and run.status != ending:
            self._client.update_run(run.id, status="RUNNING")
            run.status = "RUNNING"
        self._describe(run, history, config, points)
        if ending != "RUNNING":
            self._log_artifacts(run, trial)
            self._end(run, ending, closing, rows.last(history)["time"])
            self._delivered(trial)

    def _closing(self, trial: str, ending: str, digest: str, dropped: list[str]) -> dict[str, str | None]:
        """The tags of a run whose trial has ended."""
        final = rows.last(self._trials[trial])
        return {
            "early_stopped": "true" if final["status"] == "stopped" else None,
            "error": (final.get("error") or "unknown") if ending == "FAILED" else None,
            "dropped_metrics": "; ".join(dropped) or None,
            "delivered": digest,
        }

    def _points_of(self, run: _Run) -> set[Point]:
        if run.points is None:
            found = [point for name in run.metrics for point in self._client.get_metric_history(run.id, name)]
            run.points = {(point.key, point.value, point.timestamp, point.step) for point in found}
        return run.points

    def _create(
        self, trial: str, history: History, config: Mapping[str, Any], closing: Mapping[str, str | None]
    ) -> _Run:
        first = next(iter(history.values()))
        tags = self._common_tags() | _tags(
            {
                "kind": "trial",
                "trial_id": trial,
                "configuration": first["configuration"],
                "phase": first["phase"],
                "seed": first["seed"],
                "method": _name(config.get("ssl_method")),
                "selector": _name(config.get("selector")),
                "dataset": _name(config.get("dataset")) or self._environment.get("dataset", {}).get("name"),
                "backbone": _name(config.get("backbone")),
                "device": next(iter(self._environment.get("gpus", [])), None) or self._environment.get("device", "cpu"),
                "mlflow.parentRunId": self._runs[""].id,
            }
            | dict(closing)
        )
        run = self._client.create_run(self._experiment, first["time"], tags, run_name(first, config, self._varied))
        return _Run(run.info.run_id, delivered=closing.get("delivered"), points=set(), new=True)

    def _describe(self, run: _Run, history: History, config: Mapping[str, Any], points: list[Point]) -> None:
        """Sends what is new: points, and with the first ones the parameters and the data set."""
        parameters: dict[str, str] = {}
        if not run.described:
            first = next(iter(history.values()))
            parameters = _flat(config or first["parameters"]) | {"seed": str(first["seed"])}
        held = self._points_of(run)
        new = [point for point in points if point not in held]
        self._log(run, parameters, new)
        held.update(new)
        if not run.described:
            self._log_data_sets(run, self._data_sets_of(config))
            run.described = True

    def _end(self, run: _Run, ending: str, tags: Mapping[str, Any], when: int | None) -> None:
        """Closes a run. The tag `delivered` may come before all is there: it counts with the status, sent last."""
        if run.delivered != tags["delivered"]:
            old = {} if run.new else self._client.get_run(run.id).data.tags
            for name in tags:
                if tags[name] is None and name in old:
                    self._client.delete_tag(run.id, name)
            tag = client_library().entities.RunTag
            self._client.log_batch(run.id, tags=[tag(name, value) for name, value in _tags(tags).items()])
        self._client.set_terminated(run.id, ending, end_time=when)
        run.status, run.delivered, run.new = ending, tags["delivered"], False

    def _files_of(self, trial: str) -> dict[str, str]:
        """What the trial left, by path below the sweep's folder, with checksums."""
        files = _files(self._folder / "trials" / trial)
        model = self._folder / "models" / trial / "model.json"  # it holds the checksum of the weights
        return {str(file.relative_to(self._folder)): _checksum(file) for file in [*files, model] if file.is_file()}

    def _log_artifacts(self, run: _Run, trial: str) -> None:
        """The trial's files and what is made of its last confusion matrix."""
        folder = self._folder / "trials" / trial
        confusion = trial_files.read(folder).last_confusion
        with tempfile.TemporaryDirectory() as temporary:
            together = Path(temporary)
            if confusion:
                (together / "classification_report.txt").write_text(_classification_report(confusion))
                (together / "confusion_matrix.svg").write_text(on_paper(confusion_svg(confusion)))
            _link(_files(folder), folder, together)
            self._client.log_artifacts(run.id, temporary)  # in one call, which looks up the run once
        self._log_model(run, trial)

    def _log_model(self, run: _Run, trial: str) -> None:
        """Logs the trial's saved encoder, if there is one, as the model `encoder` of its run."""
        source = self._folder / "models" / trial
        if not (source / "model.json").is_file():
            return
        content = _checksum(source / "model.json")
        of_run = f"source_run_id = '{run.id}' AND name = '{MODEL}'"
        held = self._client.search_logged_models([self._experiment], filter_string=of_run)
        if any(model.tags.get("content") == content and model.status == "READY" for model in held):
            return
        for model in held:  # of other weights, or cut off while it was sent
            self._client.delete_logged_model(model.model_id)
        about = json.loads((source / "model.json").read_text())
        params = _flat({"backbone": about["backbone"]}) | {"image_shape": json.dumps(about["image_shape"])}
        model = self._client.create_logged_model(
            self._experiment, MODEL, run.id, _tags({"content": content, "trial_id": trial}), params, "encoder"
        )
        with tempfile.TemporaryDirectory() as temporary:
            save_pyfunc(Path(temporary) / "model", source, model.model_id, run.id)
            self._client.log_model_artifacts(model.model_id, f"{temporary}/model")
        output = client_library().entities.LoggedModelOutput(model.model_id, step=0)
        self._client.log_outputs(run.id, [output])
        self._client.finalize_logged_model(model.model_id, "READY")

    def _config(self, trial: str) -> dict[str, Any]:
        path = self._folder / "trials" / trial / "config.yaml"
        if not path.exists():
            return {}
        content = path.read_bytes()
        if content != self._last_config[0]:  # seeds of one configuration follow each other, and YAML is slow to read
            try:
                self._last_config = content, rows.mapping(path)
            except ValueError:  # the record's parameters then say what the trial was
                return {}
        return self._last_config[1]

    # Both ------------------------------------------------------------------------------------------------------

    def _log(self, run: _Run, parameters: Mapping[str, str], points: list[Point]) -> None:
        """Parameters and points in as few requests as MLflow allows."""
        entities = client_library().entities
        params = [entities.Param(_key(name), cut(value, MAX_PARAMETER_LENGTH)) for name, value in parameters.items()]
        metrics = [entities.Metric(*point) for point in points]
        while params or metrics:
            some, params = params[:MAX_PARAMETERS], params[MAX_PARAMETERS:]
            room = MAX_ENTITIES - len(some)
            self._client.log_batch(run.id, metrics=metrics[:room], params=some)
            metrics = metrics[room:]

    def _log_data_sets(self, run: _Run, data_sets: list[Mapping[str, Any]]) -> None:
        entities = client_library().entities
        inputs = []
        for data in data_sets:
            data_set = entities.Dataset(
                name=str(data["name"]),
                digest=str(data["fingerprint"])[:MAX_DIGEST_LENGTH],
                source_type="local",
                source=json.dumps({"fingerprint": data["fingerprint"]}),
                profile=json.dumps({key: value for key, value in data.items() if key not in ("name", "fingerprint")}),
            )
            inputs.append(entities.DatasetInput(data_set, [entities.InputTag("mlflow.data.context", "training")]))
        self._client.log_inputs(run.id, inputs)

    def _data_sets(self) -> list[Mapping[str, Any]]:
        """What the sweep ran on: one data set, or several, or one in several splits."""
        return self._environment.get("datasets") or [self._environment["dataset"]]

    def _data_sets_of(self, config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The trial's data set; none where the name alone does not tell which split it had."""
        found = [data for data in self._data_sets() if data["name"] == _name(config.get("dataset"))]
        return found if len(found) == 1 else []

    def _close_sweep(self, status: str | None, computed: str) -> None:
        self._connect()
        run = self._runs[""]
        ending = status or (computed if run.status == "RUNNING" else run.status)
        files = [file for file in _files(self._folder, without=ELSEWHERE) if file.suffix in SWEEP_FILES]
        answer, best = self._found()
        about = self._note(answer) | {"best_model": best}
        digest = _digest([{str(file.relative_to(self._folder)): _checksum(file) for file in files}, about])
        if (run.status, run.delivered) == (ending, digest):
            return
        with tempfile.TemporaryDirectory() as together:
            _link(files, self._folder, Path(together))
            self._client.log_artifacts(run.id, together)
        times = [record["time"] for history in self._trials.values() for record in history.values()]
        self._end(run, ending, {**about, "delivered": digest}, max(times, default=None))

    def _found(self) -> tuple[str | None, str | None]:
        """The report's answer, and the model of the best trial if it was saved and its run is there."""
        from harness.encoders import export
        from harness.report import read

        try:
            found = read.read(self._folder)
        except ValueError:  # nothing has been recorded yet
            return None, None
        for trial in export.chosen(found, "best"):
            if trial in self._runs and (self._folder / "models" / trial / "model.json").is_file():
                return found.answer, f"runs:/{self._runs[trial].id}/{MODEL}"
        return found.answer, None


def _classification_report(confusion: Confusion) -> str:
    import torch

    from harness.metrics import classification_report

    return classification_report(torch.from_numpy(confusion.matrix), confusion.class_names)


def _points(history: History) -> tuple[list[Point], list[str]]:
    """A trial's points in order, and a description of every value that is not a finite number.

    A value that an earlier record already gave for the same step is left out.
    """
    points: list[Point] = []
    dropped: list[str] = []
    latest: dict[tuple[str, int], float] = {}
    for record in history.values():
        step = int(record["step"])
        for metric, value in record["metrics"].items():
            name = _key(metric)
            if step_kind(metric) != record["step_kind"]:
                name += f"/by_{record['step_kind']}"
            if value is None or not math.isfinite(value):
                dropped.append(f"{metric} at {record['step_kind']} {step} is {value}")
            elif latest.get((name, step)) != value:
                latest[name, step] = float(value)
                points.append((name, float(value), int(record["time"]), step))
    return points, dropped


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Leaves by dotted path; a list is one leaf."""
    leaves: dict[str, str] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            leaves |= _flat(value, f"{path}.")
        else:
            leaves[path] = value if isinstance(value, str) else json.dumps(value)
    return leaves


def _name(plugin: Any) -> str | None:
    """The name in `selector: coreset` as in `selector: {name: coreset}`."""
    return plugin.get("name") if isinstance(plugin, Mapping) else plugin


def _tags(tags: Mapping[str, Any]) -> dict[str, str]:
    return {_key(name): cut(str(value), MAX_TAG_LENGTH) for name, value in tags.items() if value is not None}


def _key(name: str) -> str:
    """The name with what MLflow does not allow in names replaced."""
    return re.sub(r"[^\w.\- :/]", "_", name)[:250]


def _files(folder: Path, without: Collection[str] = ()) -> list[Path]:
    """Every file in a folder and its sub-folders, sorted; hidden ones, which are being written, are left out."""
    found: list[Path] = []
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        if entry.name.startswith(".") or entry.name in without:
            continue
        found += _files(entry) if entry.is_dir() else [entry]
    return found


def _link(files: Collection[Path], root: Path, folder: Path) -> None:
    """Links to files below `root`, in the sub-folders of `folder` that they are in there."""
    for file in files:
        place = folder / file.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(file.resolve())


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:32]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _milliseconds(started: Any) -> int | None:
    """Unix milliseconds of an ISO 8601 time; None (MLflow then takes the present) where there is none."""
    try:
        return int(datetime.fromisoformat(started).timestamp() * 1000)
    except (TypeError, ValueError):
        return None


def _known(run: Any) -> _Run:
    return _Run(run.info.run_id, run.info.status, run.data.tags.get("delivered"), list(run.data.metrics))
