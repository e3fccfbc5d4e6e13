"""What a server of MLflow's may lose of a sweep while its runs stay, and what it holds."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path

from tracked import dump


def database_but_for_inputs_ids(uri):
    """The lines of the database, sorted; what a run was given has another id when it is given again."""
    return sorted(re.sub(r"""(INTO "input(?:s|_tags)" VALUES\()'\w+'""", r"\1", line) for line in dump(uri))


def forget_points(uri, where):
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        gone = database.execute(f"delete from metrics where {where}").rowcount
        database.execute(
            "delete from latest_metrics where not exists (select 1 from metrics where "
            "metrics.run_uuid = latest_metrics.run_uuid and metrics.key = latest_metrics.key)"
        )
    assert gone


def files_of_runs(uri):
    """What lies in each run's folder of artifacts, and in that of each model."""
    place = Path(uri.removeprefix("sqlite:///")).parent / "mlflow_artifacts"
    return {str(file.relative_to(place)): file.read_bytes() for file in place.rglob("*") if file.is_file()}


def damage_files(uri, name, damage):
    place = Path(uri.removeprefix("sqlite:///")).parent / "mlflow_artifacts"
    for file in list(place.rglob(name)):
        damage(file)


def forget(uri, what):
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        assert database.execute(f"delete from {what}").rowcount


IDENTITY = "('sweep_id', 'trial_id')"
"""Tags without which a run is nobody's."""

LOSSES = {
    "parameters": lambda uri: forget(uri, "params"),
    "one parameter": lambda uri: forget(uri, "params where key = 'seed'"),
    "tags": lambda uri: forget(uri, f"tags where key not in {IDENTITY}"),
    "tags but for the last": lambda uri: forget(uri, f"tags where key not in {IDENTITY} and key != 'delivered'"),
    "one tag": lambda uri: forget(uri, "tags where key = 'selector'"),
    "the answer": lambda uri: forget(uri, "tags where key = 'mlflow.note.content'"),
    "an ending's tag": lambda uri: forget(uri, "tags where key = 'error'"),
    "data sets": lambda uri: (forget(uri, "inputs"), forget(uri, "input_tags")),
    "a curve": lambda uri: forget_points(uri, "key = 'val/accuracy'"),
    "a point": lambda uri: forget_points(uri, "key = 'val/accuracy' and step = 100"),
    "every point": lambda uri: forget_points(uri, "1"),
    "all files": lambda uri: shutil.rmtree(Path(uri.removeprefix("sqlite:///")).parent / "mlflow_artifacts"),
    "a trial's file": lambda uri: damage_files(uri, "selected_100.json", Path.unlink),
    "what is made of a trial's": lambda uri: damage_files(uri, "confusion_matrix.svg", Path.unlink),
    "the end of a file": lambda uri: damage_files(uri, "selected_100.json", lambda file: file.write_bytes(b"[0")),
    "a file of the sweep": lambda uri: damage_files(uri, "space.yaml", Path.unlink),
    "a file in a folder": lambda uri: damage_files(uri, "inner.svg", Path.unlink),
}
"""What a server or its disk may lose while the tags of its runs stay."""
