"""Encoders in MLflow: logged as pyfunc models, fetched again."""

from __future__ import annotations

import functools
import importlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from harness import files, messages
from harness.code import code_of
from harness.tracking.description import parameters_of
from harness.tracking.experiment import Experiment, TrackedRun, are_listed
from harness.tracking.server import check_there, import_mlflow, valid_tags

MODEL = "encoder"
"""The name of a trial's model: `runs:/<run>/encoder`."""


def fetch_model(model: str, uri: str, folder: Path) -> Path:
    """Fetches an encoder that a sweep logged.

    Args:
        model: a run's id (of a trial, or of a sweep: its best), `runs:/<id>`, `runs:/<id>/encoder` or `models:/<id>`.
        uri: see `tracking_uri`.
        folder: where files are put.

    Returns:
        The folder of a `harness.encoders.saved`.

    Raises:
        ValueError: MLflow has no such model, or it is another kind of model, or there is no such database.
    """
    mlflow = import_mlflow()
    from mlflow.exceptions import MlflowException

    of_run = re.fullmatch(rf"(?:runs:/)?([0-9a-f]{{32}})(?:/{MODEL})?/?", model)
    logged = re.fullmatch(r"models:/(m-[0-9a-f]+)/?", model)
    if not of_run and not logged:
        raise ValueError(f"{model} is not a run's id, runs:/<id>, runs:/<id>/{MODEL} or models:/m-<id>")
    check_there(uri)
    client = mlflow.MlflowClient(uri)
    try:
        encoders = [client.get_logged_model(logged[1])] if logged else _models_of_run(client, of_run[1])  # type: ignore[index]
        if encoders:  # not by its name, which MLflow would look up at the address set for the whole process
            data = f"{encoders[0].artifact_location}/data"
            path = mlflow.artifacts.download_artifacts(artifact_uri=data, dst_path=str(folder), tracking_uri=uri)
            for file in Path(path).rglob("model.json"):
                return file.parent
        cause = "no encoder was logged; was the sweep run with log_model?"
    except (MlflowException, OSError) as error:
        cause = messages.message_of(error, 300)
    raise ValueError(f"{model} in {messages.without_secrets(uri)}: {cause}")


def _models_of_run(client: Any, run_id: str) -> list[Any]:
    """The encoder of a trial's run, or the best one of a sweep's run."""
    run = client.get_run(run_id)
    if best := run.data.tags.get("best_model"):
        run = client.get_run(best.split("/")[1])
    of_run = f"source_run_id = '{run.info.run_id}' AND name = '{MODEL}'"
    return list(client.search_logged_models([run.info.experiment_id], filter_string=of_run))


def _logged(experiment: Experiment, run: TrackedRun) -> list[Any]:
    of_run = f"source_run_id = '{run.id}' AND name = '{MODEL}'"
    return list(experiment.client.search_logged_models([experiment.id], filter_string=of_run))


def is_logged(experiment: Experiment, run: TrackedRun, source: Path) -> bool:
    """Whether a trial's run has the very encoder in a folder, with its files."""
    content, client = files.checksum(source / "model.json"), experiment.client
    for model in _logged(experiment, run):
        if model.tags.get("content") == content and model.status == "READY":
            data = f"data/{source.name}"
            return are_listed(source, functools.partial(client.list_logged_model_artifacts, model.model_id), data)
    return False


def log_model(experiment: Experiment, run: TrackedRun, trial: str, source: Path) -> None:
    """Logs a trial's saved encoder as the model `encoder` of its run, if that very encoder is not there already.

    Args:
        experiment: the sweep's.
        run: the trial's.
        trial: the value of the model's tag `trial_id`.
        source: the folder of the saved encoder.
    """
    client, content = experiment.client, files.checksum(source / "model.json")
    if is_logged(experiment, run, source):
        return
    for model in _logged(experiment, run):  # of other weights, cut off while it was sent, or without its files
        client.delete_logged_model(model.model_id)
    about = json.loads((source / "model.json").read_text(encoding="utf-8"))
    params = parameters_of({"backbone": about["backbone"], "image_shape": about["image_shape"]})
    tags = valid_tags({"content": content, "trial_id": trial})
    model = client.create_logged_model(experiment.id, MODEL, run.id, tags, params, "encoder")
    with tempfile.TemporaryDirectory() as temporary:
        write_model(Path(temporary) / "model", source, model.model_id, run.id)
        client.log_model_artifacts(model.model_id, f"{temporary}/model")
    client.log_outputs(run.id, [import_mlflow().entities.LoggedModelOutput(model.model_id, step=0)])
    client.finalize_logged_model(model.model_id, "READY")


def write_model(path: Path, source: Path, model_id: str, run_id: str) -> None:
    """Writes a saved encoder as an MLflow model that needs nothing but the packages it names: the code goes with it.

    That of a backbone of the user's is the file or package that it is in. Loading the model imports the code and reads
    tensors; no object is unpickled.

    Args:
        path: the folder to be made.
        source: the folder of the saved encoder.
        model_id: that MLflow gave the model.
        run_id: of the trial's run.
    """
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    from harness.encoders import saved
    from harness.plugins import registry

    about = json.loads((source / "model.json").read_text(encoding="utf-8"))
    channels, height, width = about["image_shape"]
    example = np.random.default_rng(0).integers(0, 256, (2, height, width, channels), dtype=np.uint8)
    embeddings = saved.PyfuncEncoder(saved.SavedEncoder.load(source, "cpu")).predict(example)
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.uint8), (-1, height, width, channels))]),
        Schema([TensorSpec(np.dtype(np.float32), (-1, embeddings.shape[1]))]),
        ParamSchema([ParamSpec("output", "string", "embeddings")]),
    )
    spec = registry.as_spec("backbones", about["backbone"])
    classes = registry.classes(spec)
    code = {"harness", "baselines", *(cls.__module__.partition(".")[0] for cls in classes)}
    imported = code_of(*registry.sources(spec)).libraries
    needed = dict.fromkeys(("torch", "torchvision", "numpy", *sorted(imported)))
    packages = {name: version for name in needed if (version := about["packages"].get(name) or imported.get(name))}
    import_mlflow().pyfunc.save_model(
        str(path),
        loader_module="harness.encoders.saved",
        data_path=str(source),
        code_paths=[_source(name) for name in sorted(code)],
        mlflow_model=Model(run_id=run_id, model_id=model_id),
        signature=signature,
        input_example=example,
        pip_requirements=[*(f"{name}=={version}" for name, version in packages.items()), "pyyaml", "filelock"],
    )


def _source(name: str) -> str:
    """The folder of a package, or the file of a module."""
    module = importlib.import_module(name)
    return str(module.__path__[0] if hasattr(module, "__path__") else module.__file__)
