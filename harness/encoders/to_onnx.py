"""A saved encoder as an ONNX file, for programs without Python: normalisation included, compared with torch before it
is believed.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.encoders.saved import SavedEncoder
from harness.messages import message_of

TOLERANCE = 1e-4
"""How far a feature may be from torch's, as a share of the largest feature."""

EXTRA = "pip install 'selbench[onnx]'"


class Normalised(nn.Module):
    """Features f32 [B, D] of images f32 [B, C, H, W] in [0, 1], of the size that the encoder sees."""

    def __init__(self, encoder: SavedEncoder):
        super().__init__()
        self.backbone = encoder.backbone
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", encoder.runtime.mean)
        self.register_buffer("std", encoder.runtime.std)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return self.backbone((images - self.mean) / self.std)


def write_onnx(encoder: SavedEncoder, file: Path) -> tuple[int, int, int]:
    """Writes an encoder as ONNX: `images` f32 [B, C, H, W] in [0, 1] -> `embeddings` f32 [B, D], for any B.

    Args:
        encoder: on the CPU.
        file: the file appears whole and compared with torch, or not at all. It says in its metadata what it is.

    Returns:
        (C, H, W) of the images; bringing them to that size is left to the caller, see `image_steps`.

    Raises:
        ValueError: ONNX is not installed, the network cannot be exported, or what was exported gives other features.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  which torch exports with
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed: {EXTRA}") from error
    channels = encoder.image_shape[0]
    shape = (channels, *encoder.input_size)
    module = Normalised(encoder).eval()
    with tempfile.TemporaryDirectory(dir=file.resolve().parent) as folder:
        partial = Path(folder) / "encoder.onnx"
        _export(module, shape, partial)
        about = onnx.load(partial)
        onnx.helper.set_model_props(about, {"selbench": json.dumps(_metadata(encoder, shape))})
        onnx.save(about, partial)
        session = onnxruntime.InferenceSession(partial, providers=["CPUExecutionProvider"])
        for count in (1, 3):
            images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(count))
            with torch.no_grad():
                expected = module(images)
            (given,) = session.run(None, {"images": images.numpy()})
            apart = float((torch.from_numpy(given) - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
            if not apart <= TOLERANCE:
                raise ValueError(f"--onnx {file}: ONNX gives other features than torch, by {apart:.1e} of the largest")
        partial.rename(file)
    return shape


def image_steps(encoder: SavedEncoder) -> str:
    """What was done to an image before the network saw it, in order, but for the normalisation, which the file has."""
    _, height, width = encoder.image_shape
    steps = [f"cropped around the centre to {height}:{width}", f"resized to {height} x {width}"]
    if encoder.about["upright"]:
        steps.insert(0, "turned upright")
    if encoder.input_size != (height, width):
        steps.append(f"then to {encoder.input_size[0]} x {encoder.input_size[1]}")
    return ", ".join([*steps, "bicubic and antialiased"])


def _export(module: nn.Module, shape: tuple[int, int, int], file: Path) -> None:
    example = torch.rand(2, *shape)
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    try:
        quiet.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (example,),
                input_names=["images"],
                output_names=["embeddings"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
        assert program is not None, "what torch exports with dynamo"
        program.save(file, external_data=False)
    except Exception as error:  # of many types
        raise ValueError(f"--onnx: this backbone cannot be exported: {message_of(error, 200)}") from error
    finally:
        quiet.setLevel(level)


def _metadata(encoder: SavedEncoder, shape: tuple[int, int, int]) -> dict[str, object]:
    names = ("trial", "backbone", "class_names", "image_shape", "upright")
    return {
        "images": f"float32 [B, {shape[0]}, {shape[1]}, {shape[2]}] in [0, 1]",
        "preparation": image_steps(encoder),
        "precision": "float32",
    } | {name: encoder.about[name] for name in names}
