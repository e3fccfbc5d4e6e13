"""Where the UI of MLflow shows a sweep: addresses of its runs and their charts, past the page that opens by itself."""

from __future__ import annotations

from collections.abc import Iterator

from harness.tracking.server import import_mlflow

LOCAL = "http://127.0.0.1:5000"
"""Where `mlflow ui` serves a database, if it is not told another port."""


def links(uri: str, experiment: str) -> dict[str, str]:
    """The addresses of an experiment's table of runs and of their charts.

    Args:
        uri: of the tracking server, or of a database that `mlflow ui` serves; without a password.
        experiment: its id.
    """
    base = uri.rstrip("/") if uri.startswith(("http://", "https://")) else LOCAL
    runs = f"{base}/#/experiments/{experiment}/runs?workflowType=machine_learning"
    return {"runs": runs, "charts": f"{runs}&compareRunsMode=CHART"}


def links_of_all(uri: str) -> Iterator[str]:
    """A line for each address of each experiment that has a sweep."""
    for experiment in import_mlflow().MlflowClient(uri).search_experiments():
        if experiment.tags.get("mlflow.experimentKind"):
            for what, address in links(uri, experiment.experiment_id).items():
                yield f"{experiment.name} {what}: {address}"
