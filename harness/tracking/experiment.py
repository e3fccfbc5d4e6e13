"""What the server holds of a sweep: its experiment and its runs, and how something is added to them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.messages import cut, shell_word, without_secrets
from harness.tracking.points import Point
from harness.tracking.refusals import RefusedError
from harness.tracking.server import database_of, import_mlflow, sqlite_uri, valid_name, valid_tags

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Opens the UI on runs and charts rather than on its pages for language models."""

PARENT = "mlflow.parentRunId"
"""The tag by which a run is shown below another."""

RUN_NAME = "mlflow.runName"
"""The tag that holds what a run is called."""

MAX_ENTITIES = 1000  # of one log_batch; this and the following are limits of MLflow's
MAX_PARAMETERS = 100
MAX_PARAMETER_LENGTH = 6000
MAX_DIGEST_LENGTH = 36


@dataclass
class TrackedRun:
    """What is known of a run on the server.

    Attributes:
        status: RUNNING, FINISHED, FAILED or KILLED.
        delivered: digest of what was delivered when it was closed, or is when it will be.
        parent: id of the run that it is shown below.
        metrics: the names of its metrics when it was found.
        points: the points the server holds; None until asked.
        tags: the names of the tags that the server holds.
        parameters: the names of the parameters that the server holds: it changes none of them.
        data_sets: the names and digests of the data sets that the server holds.
        described: whether all of these that belong to the run are known to be there.
        new: whether it was created here and has not been closed yet.
    """

    id: str
    status: str = "RUNNING"
    delivered: str | None = None
    parent: str | None = None
    metrics: list[str] = field(default_factory=list)
    points: set[Point] | None = None
    tags: set[str] = field(default_factory=set)
    parameters: set[str] = field(default_factory=set)
    data_sets: set[tuple[str, str]] = field(default_factory=set)
    described: bool = False
    new: bool = False


def _make_database(database: Path) -> None:
    """Makes a SQLite file with MLflow's tables, whole or not at all.

    MLflow makes them in many migrations, which take seconds; a file that lacks the end of the last one, since the
    process was killed meanwhile, it refuses for good.
    """
    import_mlflow()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for left in database.parent.glob(f"{database.name}.new-*"):
        left.unlink()
    # A name of its own each time: MLflow keeps its connections by name, even to a file that is no more.
    new = database.with_name(f"{database.name}.new-{time.time_ns()}")
    store = SqlAlchemyStore(sqlite_uri(new), (database.resolve().parent / "mlflow_artifacts").as_uri())
    store.engine.dispose()
    new.replace(database)


def _file_of(database: Path) -> tuple[int, int] | None:
    """Which file it is; None where there is none, or an empty one."""
    status = database.stat() if database.exists() else None
    return (status.st_dev, status.st_ino) if status and status.st_size else None


def _connect_anew(uri: str) -> None:
    """Lets go of connections to a file that was the database before: MLflow keeps them, by the name."""
    from mlflow.tracking._tracking_service.utils import _get_store

    _get_store(uri).engine.dispose()


def folder_or_name(data: Mapping[str, Any]) -> str:
    """What MLflow calls a data set: its folder where it has one, else its name."""
    return Path(str(data.get("path") or data["name"])).name


def name_and_digest(data: Mapping[str, Any]) -> tuple[str, str]:
    """By which MLflow tells data sets apart."""
    return folder_or_name(data), str(data["fingerprint"])[:MAX_DIGEST_LENGTH]


def are_listed(folder: Path, listing: Callable[[str | None], Iterable[Any]], below: str | None = None) -> bool:
    """Whether the server lists every file in a folder and its sub-folders, with its size where it tells one.

    Args:
        folder: on this machine.
        listing: what the server has in a folder of its own; None: in the topmost.
        below: that which the folder is to be compared with.
    """
    held = {entry.path.rpartition("/")[2]: entry for entry in listing(below)}
    for file in folder.iterdir():
        there = held.get(file.name)
        if there is None or there.is_dir != file.is_dir():
            return False
        if there.is_dir and not are_listed(file, listing, there.path):
            return False
        if not there.is_dir and there.file_size not in (None, file.stat().st_size):
            return False
    return True


def _remove_misnamed(quoted: Path, folder: Path) -> None:
    """Removes the empty folders that MLflow makes for a database whose URI has `%3F` and the like in its path."""
    with suppress(OSError):  # the first one that is not empty
        while quoted != folder:
            quoted.rmdir()
            quoted, folder = quoted.parent, folder.parent


class Experiment:
    """The runs of one sweep, as the server held them when it was asked, with what was sent from here since.

    Every method raises whatever MLflow raises; after an error only a new object knows what the server holds.

    Args:
        uri: see `tracking_uri`; a database that is not there is created.
        name: of the MLflow experiment, created if it does not exist.
        sweep_id: the value of the tag `sweep_id` that the sweep's runs have.

    Attributes:
        client: MLflow's.
        database: the file, if it is one.
        id: of the experiment.
        runs: trial -> run; the sweep's own is ''.
    """

    def __init__(self, uri: str, name: str, sweep_id: str):
        database = database_of(uri)
        if database:
            database.parent.mkdir(parents=True, exist_ok=True)
        # Two processes that make one database at once would disturb each other.
        with FileLock(f"{database}.lock") if database else nullcontext():
            if database and not _file_of(database):
                _make_database(database)
            self.client = import_mlflow().MlflowClient(uri)
            self.database, self._file = database, database and _file_of(database)
            if database:
                _connect_anew(uri)
            experiment = self.client.get_experiment_by_name(name)
            if experiment and experiment.lifecycle_stage == "deleted":
                at = shell_word(f"MLFLOW_TRACKING_URI={without_secrets(uri)}")
                restore = f"env {at} mlflow experiments restore --experiment-id {experiment.experiment_id}"
                raise RefusedError(
                    f"its experiment {name!r} was deleted",
                    f"{restore} brings it back, or deliver with --experiment NEW",
                )
            if experiment:
                self.id = experiment.experiment_id
            else:
                # MLflow's own default is a folder below the current directory.
                place = (database.resolve().parent / "mlflow_artifacts").as_uri() if database else None
                self.id = self.client.create_experiment(name, artifact_location=place, tags=EXPERIMENT_TAGS)
        if database:
            _remove_misnamed(Path(uri.removeprefix("sqlite:///")).parent, database.parent)
        self.runs = self._find_runs(sweep_id)

    def is_gone(self) -> bool:
        """Whether another file, or none, lies where the database was when this was made."""
        return self.database is not None and _file_of(self.database) != self._file

    def left(self) -> dict[str, tuple[str, str, str | None]]:
        """Every run's id, status and tag `delivered`, as they are on the server if nobody else changes them."""
        return {trial: (run.id, run.status, run.delivered) for trial, run in self.runs.items()}

    def _find_runs(self, sweep_id: str) -> dict[str, TrackedRun]:
        """The sweep's run, as '', and its trials' runs.

        A request that the server carried out after we had given it up leaves a second run of the same trial: of those
        the oldest stays, of the sweep's own the one that trials are below, and the others are deleted, if we may.
        """
        there = list(self._search(f"tags.sweep_id = '{sweep_id}'"))
        children = Counter(run.data.tags.get(PARENT) for run in there)
        runs: dict[str, TrackedRun] = {}
        for run in sorted(there, key=lambda run: (-children[run.info.run_id], run.info.start_time, run.info.run_id)):
            trial = run.data.tags.get("trial_id", "")
            if trial in runs:
                with suppress(import_mlflow().exceptions.MlflowException):
                    self.client.delete_run(run.info.run_id)
            else:
                tags, metrics = run.data.tags, list(run.data.metrics)
                about = run.info.status, tags.get("delivered"), tags.get(PARENT)
                runs[trial] = TrackedRun(run.info.run_id, *about, metrics)
                held = [given.dataset for given in run.inputs.dataset_inputs] if run.inputs else []
                runs[trial].tags.update(tags)
                runs[trial].parameters.update(run.data.params)
                runs[trial].data_sets.update((data.name, data.digest) for data in held)
        return runs

    def _search(self, wanted: str) -> Iterator[Any]:
        token = None
        while True:
            page = self.client.search_runs([self.id], wanted, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def points_of(self, run: TrackedRun) -> set[Point]:
        """The points the server holds of a run."""
        if run.points is None:
            points = [point for name in run.metrics for point in self.client.get_metric_history(run.id, name)]
            run.points = {(point.key, point.value, point.timestamp, point.step) for point in points}
        return run.points

    def tag(self, name: str, value: str) -> None:
        """Gives the experiment itself a tag, if it has not this one."""
        if self.client.get_experiment(self.id).tags.get(name) != value:
            self.client.set_experiment_tag(self.id, name, value)

    def create(self, trial: str, name: str, started: int | None, tags: Mapping[str, Any]) -> TrackedRun:
        """Creates the run of a trial, or of the sweep ('').

        Args:
            trial: whose run it is.
            name: shown in the UI.
            started: unix milliseconds; None: now.
            tags: those that are None are left out.
        """
        created = self.client.create_run(self.id, started, valid_tags(tags), name)
        delivered, parent = tags.get("delivered"), tags.get(PARENT)
        run = self.runs[trial] = TrackedRun(
            created.info.run_id, delivered=delivered, parent=parent, points=set(), new=True
        )
        run.tags.update(created.data.tags)
        return run

    def is_described(
        self,
        run: TrackedRun,
        tags: Mapping[str, Any],
        parameters: Mapping[str, str],
        data_sets: Collection[Mapping[str, Any]],
    ) -> bool:
        """Whether the server holds all of these, by their names: a value may be older than what it would be now."""
        named = {name for name, value in valid_tags(tags).items() if value}
        of_data = set(map(name_and_digest, data_sets))
        return named <= run.tags and set(map(valid_name, parameters)) <= run.parameters and of_data <= run.data_sets

    def add_tags(self, run: TrackedRun, tags: Mapping[str, Any]) -> None:
        """Gives a run those tags that it has not."""
        tag = import_mlflow().entities.RunTag
        missing = {name: value for name, value in valid_tags(tags).items() if name not in run.tags}
        if missing:
            self.client.log_batch(run.id, tags=[tag(name, value) for name, value in missing.items()])
        run.tags.update(missing)

    def adopt(self) -> None:
        """Shows the trials' runs below the sweep's, also where that took the place of one that somebody deleted."""
        parent = self.runs[""].id
        for trial, run in self.runs.items():
            if trial and run.parent != parent:
                self.client.set_tag(run.id, PARENT, parent)
                run.parent = parent

    def delete(self, run: TrackedRun) -> None:
        """Deletes a run, in whose place another is created."""
        self.client.delete_run(run.id)

    def reopen(self, run: TrackedRun) -> None:
        """Shows a run that was closed as running again."""
        self.client.update_run(run.id, status="RUNNING")
        run.status = "RUNNING"

    def log(self, run: TrackedRun, parameters: Mapping[str, str], points: Collection[Point]) -> None:
        """Sends parameters, and of the points those that the server does not hold, in as few requests as it allows."""
        held = self.points_of(run) if points else set()
        new = [point for point in points if point not in held]
        entities = import_mlflow().entities
        named = {valid_name(name): cut(value, MAX_PARAMETER_LENGTH) for name, value in parameters.items()}
        params = [entities.Param(name, value) for name, value in named.items() if name not in run.parameters]
        metrics = [entities.Metric(*point) for point in new]
        while params or metrics:
            some, params = params[:MAX_PARAMETERS], params[MAX_PARAMETERS:]
            room = MAX_ENTITIES - len(some)
            self.client.log_batch(run.id, metrics=metrics[:room], params=some)
            metrics = metrics[room:]
        held.update(new)
        run.parameters.update(named)

    def log_data_sets(self, run: TrackedRun, data_sets: Collection[Mapping[str, Any]]) -> None:
        """Says what a run was trained on.

        Args:
            run: to which it is added.
            data_sets: with `name`, `fingerprint` and whatever else is known of them.
        """
        entities = import_mlflow().entities
        inputs = []
        for data in data_sets:
            name, digest = name_and_digest(data)
            data_set = entities.Dataset(
                name=name,
                digest=digest,
                source_type="local",
                source=json.dumps({"fingerprint": data["fingerprint"]}),
                profile=json.dumps({key: value for key, value in data.items() if key not in ("name", "fingerprint")}),
            )
            inputs.append(entities.DatasetInput(data_set, [entities.InputTag("mlflow.data.context", "training")]))
        self.client.log_inputs(run.id, inputs)
        run.data_sets.update(map(name_and_digest, data_sets))

    def log_load(self, run: TrackedRun, load: Mapping[str, float], started: int | None) -> None:
        """Adds the machine's load to a run, at as many seconds as have passed since `started` (unix milliseconds)."""
        now = int(time.time() * 1000)
        step = (now - started) // 1000 if started else 0
        metric = import_mlflow().entities.Metric
        samples = [metric(f"system/{name}", value, now, step) for name, value in load.items()]
        self.client.log_batch(run.id, metrics=samples)

    def log_folder(self, run: TrackedRun, folder: Path) -> None:
        """Sends the files in a folder and its sub-folders; in one call, which looks up the run once."""
        self.client.log_artifacts(run.id, str(folder))

    def has_files(self, run: TrackedRun, folder: Path) -> bool:
        """Whether a run has the files in a folder and its sub-folders, by their names and sizes."""
        return are_listed(folder, lambda path: self.client.list_artifacts(run.id, path))

    def end(self, run: TrackedRun, ending: str, tags: Mapping[str, Any], when: int | None) -> None:
        """Closes a run. The tag `delivered` may come before all is there: it counts with the status, sent last.

        Args:
            run: to be closed.
            ending: FINISHED, FAILED or KILLED.
            tags: with `delivered`; those that are None are deleted.
            when: unix milliseconds; None: now.
        """
        given = valid_tags(tags)
        if run.delivered != tags["delivered"] or not given.keys() <= run.tags:
            old = {} if run.new else self.client.get_run(run.id).data.tags
            for name in tags:
                if tags[name] is None and name in old:
                    self.client.delete_tag(run.id, name)
            tag = import_mlflow().entities.RunTag
            self.client.log_batch(run.id, tags=[tag(name, value) for name, value in given.items()])
            run.tags.update(given)
        self.client.set_terminated(run.id, ending, end_time=when)
        run.status, run.delivered, run.new = ending, tags["delivered"], False
