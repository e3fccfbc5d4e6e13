"""Weights of other trainings and toolkits, found in their files and loaded into a backbone.

A checkpoint is rarely the bare state of an encoder. The state lies somewhere inside (`state_dict`, `model`,
`student`), its names carry a prefix (`module.encoder_q.`, `backbone.`), and heads, optimizers and momentum copies lie
beside it. So every mapping of tensors in the file is tried under every prefix, and the one that fits most of the
backbone's tensors, by name and shape, is loaded. What was loaded and what was not is said on stderr; weights of less
than half of the backbone are refused, so that a training never starts from random weights unnoticed.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness import files
from harness.api import Backbone, PublishedWeights
from harness.messages import closest, count, message_of, printable
from harness.plugins.outline import outlining

Tensors = Mapping[str, Tensor]

ENDINGS = (".pt", ".pth", ".safetensors", ".bin", ".ckpt", ".tar", ".pkl")
"""Of files that are proposed where one is not there; any may be read."""

TORCH_STARTS = (b"PK", b"\x80")
"""The first bytes of what torch writes: an archive, or a pickle of its older versions."""


def load_weights(backbone: Backbone, weights: str) -> None:
    """Loads a checkpoint file or published weights into a backbone, and reports on stderr.

    Where the network is constructed for its shapes alone, the weights are only looked for.

    Raises:
        ValueError: neither a file nor published, not readable, or of another network.
        FileNotFoundError: published weights that cannot be fetched.
    """
    published = backbone.published_weights()
    file = None if weights in published else _existing(weights, published)
    if outlining() or any(parameter.is_meta for parameter in backbone.parameters()):
        return
    content = published[weights].load() if file is None else read_checkpoint(file)
    print(printable(load_state(backbone, content, weights)), file=sys.stderr)


def identity(backbone: type[Backbone], weights: str) -> str:
    """What determines the values of weights: a digest of the file's content, or what the publisher says.

    Raises:
        ValueError: neither a file nor published.
    """
    published = backbone.published_weights()
    if weights in published:
        return published[weights].identity
    file = _existing(weights, published)
    status = file.stat()
    return _digest(file.resolve(), status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@cache
def _digest(file: Path, size: int, modified: int, changed: int) -> str:
    return files.checksum(file)


def _existing(weights: str, published: Mapping[str, PublishedWeights]) -> Path:
    file = Path(os.path.expanduser(weights))
    if file.is_dir():
        inside = sorted(str(other) for other in file.iterdir() if other.suffix.lower() in ENDINGS)
        which = f"did you mean {inside[0]!r}?" if inside else f"and no file in it ends in {', '.join(ENDINGS)}"
        raise ValueError(f"weights = {weights!r} is a folder; {which}")
    if not file.is_file():
        beside = [str(file.with_name(other.name)) for other in file.parent.glob("*") if other.suffix.lower() in ENDINGS]
        nearest = closest(weights, published, unlisted=beside)
        raise ValueError(f"weights = {weights!r} is neither a file nor published for this backbone; {nearest}")
    return file


def read_checkpoint(file: Path) -> Any:
    """The content of a file of torch or of safetensors, told by its first bytes: tensors and plain values, no code.

    Raises:
        ValueError: it holds anything else, or cannot be read; safetensors is not installed.
    """
    with file.open("rb") as stream:
        start = stream.read(9)
    is_torch = start.startswith(TORCH_STARTS) and start[8:] != b"{"
    if start[8:] == b"{" or (file.suffix.lower() == ".safetensors" and not is_torch):
        return _read_safetensors(file)
    try:
        if not is_torch:
            raise ValueError("it begins as neither a file of torch nor of safetensors does")
        # the options that many a training saves; a stream, for torch goes by a file's ending
        with torch.serialization.safe_globals([argparse.Namespace]), file.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types
        raise ValueError(
            f"weights: {file} is no checkpoint of tensors and plain values ({_reason(error)}); "
            "in the code that wrote it: torch.save(model.state_dict(), file)"
        ) from error


def _reason(error: Exception) -> str:
    """What is wrong with a file, without torch's advice to run the code in it."""
    said = message_of(error)
    if unsupported := re.search(r"Unsupported (?:global|class|operand)\S*:? (?:GLOBAL )?(\S+)", said):
        return f"it holds {unsupported[1]}, which is code"
    return said if isinstance(error, ValueError) else f"{type(error).__name__}: {said.partition('. ')[0]}"


def _read_safetensors(file: Path) -> Tensors:
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise ValueError(f"weights: {file} needs safetensors: pip install 'selbench[timm]'") from error
    try:
        return load_file(file)
    except Exception as error:  # of its own type, and of the file system
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise ValueError(f"weights: {file} is no file of safetensors ({type(error).__name__}: {reason})") from error


@dataclass(frozen=True)
class _Match:
    """Where a backbone's tensors are in a file.

    Attributes:
        state: the mapping that holds them; names are whole paths from the top of the file.
        prefix: of their names.
        names: the rest of their names -> the backbone's names, also of tensors that the mapping lacks.
        count: how many are there, of the right shape.
    """

    state: Tensors
    prefix: str
    names: Mapping[str, str]
    count: int


def load_state(backbone: Backbone, content: Any, source: str) -> str:
    """Loads the tensors of `content` that are the backbone's.

    Args:
        backbone: gets the weights.
        content: mappings, nested to any depth, somewhere in which are tensors.
        source: names the content in the report.

    Returns:
        The report: what was loaded from where; what is missing, superfluous or of another shape.

    Raises:
        ValueError: less than half of the parameters are there, and the report is the message; or one is of a type
            that no backbone has, or holds NaN or infinity.
    """
    own = backbone.state_dict()
    states = list(_states(content))
    match = _best_match(states, own, backbone, _fits)
    if match is None:
        raise ValueError(f"weights {source}: no tensor of this backbone is in it\n  {_nearest(states, own, backbone)}")
    places = {name: match.prefix + tail for tail, name in match.names.items()}
    there = {name: match.state[place] for name, place in places.items() if place in match.state}
    if wrong := next(filter(None, (_trouble(places[name], there[name], own[name]) for name in there)), ""):
        raise ValueError(f"weights {source}: {wrong}")
    loaded = {name: _adapted(tensor, own[name]) for name, tensor in there.items() if _fits(tensor, own[name])}
    parameters = dict(backbone.named_parameters())
    total = sum(parameter.numel() for parameter in parameters.values())
    share = sum(parameter.numel() for name, parameter in parameters.items() if name in loaded) / max(total, 1)
    lines = [
        f"weights {source}: {len(loaded)} of {len(own)} tensors, {share:.1%} of the parameters, "
        f"from {match.prefix + '*' if match.prefix else 'the top'}",
        *_leftovers(match, own, there, loaded),
    ]
    if share < 0.5:
        raise ValueError("\n  ".join([*lines, "less than half of the backbone: these are weights of another network"]))
    backbone.load_state_dict(loaded, strict=False)
    return "\n  ".join(lines)


def _states(content: Any, path: str = "") -> Iterator[Tensors]:
    """Every mapping in the content that holds tensors, with the whole paths of their names."""
    if isinstance(content, Mapping):
        named = {f"{path}{key}": value for key, value in content.items() if isinstance(key, str)}
        tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
        if tensors:
            yield tensors
        for name, value in named.items():
            yield from _states(value, f"{name}.")


def _nearest(states: list[Tensors], own: Tensors, backbone: Backbone) -> str:
    """What a file without a tensor of the backbone holds: those of its names in other shapes, or others."""
    match = _best_match(states, own, backbone, lambda theirs, ours: True)
    if match is None:
        return f"it holds: {_grouped([name for state in states for name in state], depth=2) or 'no tensors'}"
    place, name = next(
        (match.prefix + tail, name) for tail, name in match.names.items() if match.prefix + tail in match.state
    )
    shapes = f"{list(match.state[place].shape)} in the file, {list(own[name].shape)} in the backbone"
    return f"it holds {count(match.count, 'tensor')} of its names in other shapes, such as {place}: {shapes}"


def _trouble(place: str, theirs: Tensor, ours: Tensor) -> str:
    """What keeps a tensor from being loaded as it is, whatever its shape; empty where nothing does."""
    if theirs.layout != torch.strided or (ours.is_floating_point() and not theirs.is_floating_point()):
        kind = f"{theirs.layout}".removeprefix("torch.") if theirs.layout != torch.strided else f"{theirs.dtype}"
        return f"{place} is {kind.removeprefix('torch.')}, and {str(ours.dtype).removeprefix('torch.')} is needed"
    if ours.is_floating_point() and torch.isfinite(ours).all():  # not so where a mask is kept beside the weights
        broken = int((~torch.isfinite(theirs.to(ours.dtype))).sum())
        if broken:
            return f"{place} holds {broken} of {theirs.numel()} numbers that are NaN or infinity"
    return ""


def _best_match(
    states: list[Tensors], own: Tensors, backbone: Backbone, fits: Callable[[Tensor, Tensor], bool]
) -> _Match | None:
    """The mapping and prefix that fit most tensors.

    Of equals a `teacher` is the better encoder (DINO evaluates it); else the first wins, which in files of MoCo, BYOL
    and our own is the encoder that gradients trained.
    """
    matches = []
    for names in _ways_to_name(own, backbone):
        for state in states:
            counts: Counter[str] = Counter()
            for name, tensor in state.items():
                parts = name.split(".")
                for start in range(len(parts)):
                    tail = ".".join(parts[start:])
                    if tail in names and fits(tensor, own[names[tail]]):
                        counts["".join(f"{part}." for part in parts[:start])] += 1
            matches += [_Match(state, prefix, names, number) for prefix, number in counts.items()]
    return max(matches, key=lambda match: (match.count, "teacher" in match.prefix.split(".")), default=None)


def _ways_to_name(own: Tensors, backbone: Backbone) -> list[dict[str, str]]:
    """What a file may call the backbone's tensors, below a prefix: that name -> ours.

    Our names; those of the network that the backbone wraps (`layers.conv1.weight` is `conv1.weight`); and those in
    `nn.Sequential(*network.children())`, as encoders without their classifier are often made (`0.weight`).
    """
    ways, network, start = [{name: name for name in own}], backbone, ""
    wrapped = {name.partition(".")[0] for name in own}
    if len(wrapped) == 1 and all("." in name for name in own):
        start = f"{wrapped.pop()}."
        network = backbone.get_submodule(start[:-1])  # type: ignore[assignment]
        ways.append({name.removeprefix(start): name for name in own})
    positions = {child: str(position) for position, (child, _) in enumerate(network.named_children())}
    numbered = {}
    for name in own:
        child, dot, rest = name.removeprefix(start).partition(".")
        if child in positions:
            numbered[positions[child] + dot + rest] = name
    return [*ways, numbered]


def _fits(theirs: Tensor, ours: Tensor) -> bool:
    return theirs.shape == ours.shape or _is_for_colours(theirs, ours)


def _is_for_colours(theirs: Tensor, ours: Tensor) -> bool:
    """Whether `theirs` are a first convolution's weights for three channels, and `ours` for one."""
    return theirs.ndim == 4 and theirs.shape[1] == 3 and ours.shape == (len(theirs), 1, *theirs.shape[2:])


def _adapted(theirs: Tensor, ours: Tensor) -> Tensor:
    """Summed over colours for grey images: the same as repeating the image in every channel."""
    return theirs.sum(1, keepdim=True) if _is_for_colours(theirs, ours) else theirs


def _leftovers(match: _Match, own: Tensors, there: Tensors, loaded: Tensors) -> Iterator[str]:
    missing = [name for name in own if name not in there and not name.endswith("num_batches_tracked")]
    if missing:
        yield f"warning: missing, left at their initial values: {_grouped(missing, depth=3)}"
    for name in (name for name in there if name not in loaded):
        shapes = f"{list(there[name].shape)} in the file, {list(own[name].shape)} in the backbone"
        yield f"warning: of another shape, left at its initial values: {name}, {shapes}"
    used = {match.prefix + tail for tail in match.names}
    others = [name for name in match.state if name not in used]
    if others:
        depth = match.prefix.count(".")
        within = [name for name in others if match.prefix and name.startswith(match.prefix)]
        beside = [name for name in others if name not in within]
        groups = [_grouped(within, depth + 1), _grouped(beside, max(depth, 1))]
        yield f"in the file, but not of the backbone: {', '.join(group for group in groups if group)}"


def _grouped(names: list[str], depth: int) -> str:
    """Names by their first `depth` parts, with counts: "module.fc (2), module.queue (1)"."""
    groups = Counter(".".join(name.split(".")[:depth]) for name in names)
    return ", ".join(f"{group} ({count})" for group, count in groups.items())
