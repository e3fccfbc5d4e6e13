"""A trained encoder as a thing to use: images in, embeddings out, without the sweep that trained it.

A saved encoder is a folder. No code is read from it, and nothing in it is unpickled:

    model.json    the backbone and its hyper-parameters, the form of its images and inputs, precision, the task head
    weights.pt    state dicts of backbone and head, read with weights_only=True

`harness.encoders.export` writes it at the end of a sweep; `harness.embed` and MLflow (`_load_pyfunc`) read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import files
from harness.api import Backbone, Images
from harness.config.schema import Problems, parse, parse_plugin
from harness.config.trial import ClassifierConfig, ComputeConfig
from harness.messages import message_of
from harness.plugins import registry
from harness.plugins.inputs import Inputs
from harness.plugins.registry import PluginSpec
from harness.plugins.weights import Tensors
from harness.trial import heads
from harness.trial.heads import Predictor
from harness.trial.runtime import Runtime, runtime_of

FORMAT = 1
MODEL_KEYS = (
    "format",
    "trial",
    "backbone",
    "image_shape",
    "upright",
    "inputs",
    "precision",
    "channels_last",
    "head",
    "class_names",
    "weights",
)


def write_encoder(folder: Path, about: Mapping[str, Any], backbone: Tensors, head: Mapping[str, Any] | None) -> None:
    """Writes a saved encoder; `model.json` last, so that a folder that has it is complete.

    Args:
        folder: made if it is not there.
        about: what `model.json` says, but for `format` and `weights`.
        backbone: its state dict.
        head: state of a head that is `heads.COMPLETE`, as `heads.fit` returns it; None without one.

    Raises:
        OSError: it cannot be written, such as on a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "weights.pt"
    files.save_tensors({"backbone": dict(backbone), "head": head}, weights)
    content = {"format": FORMAT, **about, "weights": files.checksum(weights)}
    files.replace_text(folder / "model.json", json.dumps(content, indent=1))


@dataclass(frozen=True, eq=False)
class SavedEncoder:
    """An encoder with its weights, ready to be used.

    Attributes:
        about: the content of `model.json`.
        backbone: in evaluation mode.
        runtime: device, precision and normalisation.
        head: f32 [N, D] features -> f32 [N, K] logits; None where none was saved.
    """

    about: Mapping[str, Any]
    backbone: Backbone
    runtime: Runtime
    head: Predictor | None

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> SavedEncoder:
        """Reads a saved encoder.

        Args:
            folder: with `model.json` and `weights.pt`.
            device: "auto" (CUDA where there is one), "cpu" or "cuda".

        Raises:
            ValueError: there is none, it is damaged, its backbone cannot be built here, or there is no CUDA.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device cuda: this machine has no CUDA device; use cpu or auto")
        about = _about(folder)
        parts = _parts(folder / "model.json", about, device)
        weights = _weights(folder, about["weights"])
        backbone = registry.build(parts.backbone, parts.inputs.shape)
        try:
            backbone.load_state_dict(weights["backbone"])
        except RuntimeError as error:
            name = parts.backbone.name
            raise ValueError(f"{folder}: the weights do not fit backbone {name}: {message_of(error, 200)}") from error
        runtime = runtime_of(parts.compute, parts.inputs)
        runtime.place(backbone).eval()
        head = None
        if parts.head is not None:  # of a kind that does not look at what it was trained on
            features, labels = torch.empty(0, backbone.feature_dim), torch.empty(0, dtype=torch.int64)
            head = heads.predictor(parts.head, weights["head"], features, labels, len(about["class_names"]))
        return cls(about, backbone, runtime, head)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its images, which it may see enlarged."""
        channels, height, width = self.about["image_shape"]
        return channels, height, width

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of an image when the network sees it."""
        _, height, width = self.about["inputs"]["shape"]
        return height, width

    def embed(self, images: Tensor | np.ndarray) -> Tensor:
        """f32 [N, D] on the CPU, of u8 [N, *image_shape]: the features that the trial's own classifier read.

        Raises:
            ValueError: images of another form.
        """
        pixels = _pixels(images, self.image_shape)
        return self.runtime.forward(self.backbone, Images(pixels, device=self.runtime.device))

    def logits(self, images: Tensor | np.ndarray) -> Tensor:
        """f32 [N, K] on the CPU, of u8 [N, *image_shape], by the task head.

        Raises:
            ValueError: images of another form, or no head was saved.
        """
        if self.head is None:
            raise ValueError(f"{self.about['trial']} has no task head that can be saved; only embeddings are possible")
        return self.head(self.embed(images))


def _pixels(images: Any, shape: tuple[int, int, int]) -> Tensor:
    """u8 [N, *shape] as a tensor.

    Raises:
        ValueError: they are of another type, size or order of axes.
    """
    given = images if isinstance(images, Tensor) else np.asarray(images)
    type_name = str(given.dtype).removeprefix("torch.")
    if type_name != "uint8" or tuple(given.shape[1:]) != shape:
        sides = ", ".join(map(str, shape))
        raise ValueError(f"images are uint8 [N, {sides}], not {type_name} {list(given.shape)}")
    return given if isinstance(given, Tensor) else torch.from_numpy(np.require(given, requirements=("C", "W")))


def _about(folder: Path) -> dict[str, Any]:
    file = folder / "model.json"
    if not file.is_file():
        raise ValueError(f"{folder} is not a saved encoder: it has no model.json")
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        missing = [key for key in MODEL_KEYS if key not in about]
        if not isinstance(about, dict):
            raise TypeError(f"expected a mapping, not {about!r}")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} cannot be read: {message_of(error, 200)}") from error
    if missing:
        raise ValueError(f"{file} has no {missing[0]!r}")
    if about["format"] != FORMAT:
        raise ValueError(f"{file} has format {about['format']}; this version reads format {FORMAT}")
    return about


@dataclass(frozen=True)
class _Parts:
    """What `model.json` says that an encoder is made of."""

    backbone: PluginSpec
    inputs: Inputs
    compute: ComputeConfig
    head: ClassifierConfig | None


def _parts(file: Path, about: Mapping[str, Any], device: str) -> _Parts:
    """Reads them; ConfigError where a value cannot be."""
    problems = Problems(str(file))
    backbone = parse_plugin("backbones", about["backbone"], "backbone", problems)
    compute = {"device": device, **{key: about[key] for key in ("precision", "channels_last")}}
    computed = parse(ComputeConfig, compute, "", problems)
    head = None if about["head"] is None else parse(ClassifierConfig, about["head"], "head", problems)
    if head is not None and head.name not in heads.COMPLETE:
        problems.add("head.name", f"{head.name} cannot be saved; {', '.join(heads.COMPLETE)} can")
    if not isinstance(names := about["class_names"], list) or not all(isinstance(name, str) for name in names):
        problems.add("class_names", f"expected a list of names, not {names!r}")
    inputs = None
    try:
        inputs = Inputs.read(about["inputs"])
        shapes = {"image_shape": about["image_shape"], "inputs.shape": list(inputs.shape)}
        for place, shape in shapes.items():
            if not isinstance(shape, list) or [type(side) for side in shape] != [int] * 3 or min(shape) < 1:
                problems.add(place, f"expected channels, height and width, not {shape!r}")
    except (TypeError, AttributeError) as error:
        problems.add("inputs", message_of(error, 200))
    problems.raise_any()
    assert backbone is not None, "else there are problems"
    assert inputs is not None
    assert computed is not None
    return _Parts(backbone, inputs, computed, head)


def _weights(folder: Path, digest: str) -> dict[str, Any]:
    file = folder / "weights.pt"
    if not file.is_file():
        raise ValueError(f"{folder} has no weights.pt")
    if files.checksum(file) != digest:
        raise ValueError(f"{file} is damaged: its checksum is not the one in model.json")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types
        raise ValueError(f"{file} cannot be read, or holds more than tensors: {type(error).__name__}") from error


class PyfuncEncoder:
    """What `mlflow.pyfunc.load_model` wraps. Images are uint8 [N, H, W, C], as Pillow and NumPy hand them out."""

    def __init__(self, encoder: SavedEncoder):
        self._encoder = encoder

    def predict(self, images: Any, params: Mapping[str, Any] | None = None) -> np.ndarray:
        """Embeddings f32 [N, D], or with `params={"output": "logits"}` the task head's logits f32 [N, K].

        Raises:
            ValueError: images of another form, or no such output.
        """
        channels, height, width = self._encoder.image_shape
        pixels = _pixels(images, (height, width, channels)).permute(0, 3, 1, 2).contiguous()
        output = (params or {}).get("output", "embeddings")
        if output not in ("embeddings", "logits"):
            raise ValueError(f"output {output!r} is not embeddings or logits")
        return (self._encoder.logits if output == "logits" else self._encoder.embed)(pixels).numpy()


def _load_pyfunc(path: str) -> PyfuncEncoder:
    """Called by MLflow with the folder of the saved encoder."""
    return PyfuncEncoder(SavedEncoder.load(Path(path)))
