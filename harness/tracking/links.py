"""Where the UI of MLflow shows a sweep: addresses of its runs and their charts, past the page that opens by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from harness.tracking.server import check_there, import_mlflow

LOCAL = "http://127.0.0.1:5000"
"""Where `mlflow ui` serves a database, if it is not told another port."""


DIFFERS = "differs"
"""The tag of a trial's run by which charts are grouped: its configuration in words, without the seed."""

_VIEW = "charts"


def view_tag(space: Mapping[str, Any]) -> tuple[str, str]:
    """The tag of an experiment that keeps a view of its charts, which their address names.

    It is what MLflow's button *Share* writes: the trials that are compared, grouped by what differs, and of the charts
    those of the metric that the question asks for.

    Args:
        space: the content of `space.yaml`.
    """
    measure = space["metric"][0]["name"]
    split, _, name = measure.partition("/")
    phase = "search" if space["method"] != "grid" and not space.get("confirm") else "confirm"
    view = {
        "searchFilter": f"tags.phase = '{phase}'",
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": DIFFERS}]},
        "chartsSearchFilter": f"^{f'(val|test)/{name}' if split == 'val' else measure}$",
    }
    return f"mlflow.sharedViewState.{_VIEW}", json.dumps(view)


def links(uri: str, experiment: str) -> dict[str, str]:
    """The addresses of an experiment's table of runs and of their charts.

    Args:
        uri: of the tracking server, or of a database that `mlflow ui` serves; without a password.
        experiment: its id.
    """
    base = uri.rstrip("/") if uri.startswith(("http://", "https://")) else LOCAL
    runs = f"{base}/#/experiments/{experiment}/runs?workflowType=machine_learning"
    return {"runs": runs, "charts": f"{runs}&compareRunsMode=CHART&viewStateShareKey={_VIEW}"}


def links_of_all(uri: str) -> Iterator[str]:
    """A line for each address of each experiment that has a sweep.

    Raises:
        ValueError: there is no such database.
    """
    check_there(uri)
    for experiment in import_mlflow().MlflowClient(uri).search_experiments():
        if experiment.tags.get("mlflow.experimentKind"):
            for what, address in links(uri, experiment.experiment_id).items():
                yield f"{experiment.name} {what}: {address}"
