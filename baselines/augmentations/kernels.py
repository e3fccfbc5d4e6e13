"""The expensive operations as compiled loops over images, for the CPU.

Each kernel does to one image after another what the `apply` of the operation that names it does to a batch; the
tests hold the two together. All are called alike:

    kernel(images, out, *parameters, first, last)

with images f32 [B, C, H, W] (read), out f32 [B, C, h, w] (written; `images` itself, except for crop), the
operation's parameters in the order of its `draw`, and the images first .. last - 1 to work on. Kernels hold no lock,
so that threads share a batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

# numba would compute with Python's floats in f64.
_0, _1, _2, _3, _4, _6, _HALF = (np.float32(value) for value in (0, 1, 2, 3, 4, 6, 0.5))
_BYTE = np.float32(1 / 255)
_RED, _GREEN, _BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)


@dataclass(frozen=True)
class Call:
    """A kernel with its arguments, to be run on a whole batch.

    Attributes:
        kernel: its name.
        images: [B, C, H, W], contiguous, on the CPU.
        out: f32 [B, C, h, w], contiguous, on the CPU.
        parameters: what the operation drew, each [B, ...], on the CPU.
    """

    kernel: str
    images: Tensor
    out: Tensor
    parameters: tuple[Tensor, ...] = ()

    def bound(self) -> Callable[[int, int], None]:
        """The kernel as a function of the first image and the one after the last."""
        tensors = (self.images, self.out, *self.parameters)
        return partial(globals()[self.kernel], *(tensor.contiguous().numpy() for tensor in tensors))


def run(calls: Sequence[Call]) -> None:
    """Runs kernels one after another on a batch, on as many threads as torch uses."""
    if not calls:
        return
    for call in calls:
        assert call.out.dtype == torch.float32
        assert call.images.dtype == (torch.uint8 if call.kernel == "unit" else torch.float32)
        assert call.images.is_contiguous()
        assert call.out.is_contiguous()
    kernels = [call.bound() for call in calls]
    num_images = len(calls[0].images)
    parts = max(1, min(torch.get_num_threads(), num_images))
    bounds = [num_images * part // parts for part in range(parts + 1)]
    others = [
        _threads(os.getpid(), parts).submit(_run_part, kernels, bounds[part], bounds[part + 1])
        for part in range(1, parts)
    ]
    _run_part(kernels, bounds[0], bounds[1])
    for other in others:
        other.result()


def _run_part(kernels: Sequence[Callable[[int, int], None]], first: int, last: int) -> None:
    for kernel in kernels:
        try:
            kernel(first, last)
        except OSError:  # the compiled kernel could not be written to the disk, but is in memory now; nothing ran yet
            kernel(first, last)


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """Threads live in one process only: after a fork the child makes its own."""
    return ThreadPoolExecutor(count, thread_name_prefix="augmentation")


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a kernel on its first call, keeping the machine code on disk where that is possible.

    Processes may start at once with an empty cache: as a kernel is only ever called with the same types (see `run`),
    all of them write the same file, and numba replaces files atomically.
    """
    try:
        return numba.njit(nogil=True, fastmath=True, cache=True)(function)
    except RuntimeError:  # neither the package's nor the user's cache folder can be written
        return numba.njit(nogil=True, fastmath=True)(function)


_part_of_kernel = numba.njit(nogil=True, fastmath=True)
"""Compiles a function that kernels call, into their machine code."""


@_compiled
def unit(images, out, first, last):  # type: ignore[no-untyped-def]
    """From u8 in 0 .. 255 to f32 in [0, 1]."""
    B, C, H, W = images.shape
    source, target = images.reshape(B, C * H * W), out.reshape(B, C * H * W)
    for i in range(first, last):
        for p in range(C * H * W):
            target[i, p] = source[i, p] * _BYTE


@_compiled
def copy(images, out, first, last):  # type: ignore[no-untyped-def]
    """Images that are f32 already."""
    out[first:last] = images[first:last]


@_compiled
def crop(images, out, top, left, height, width, first, last):  # type: ignore[no-untyped-def]  # noqa: D103
    C, H, W = images.shape[1:]
    new_H, new_W = out.shape[2:]
    row_weights = np.empty((new_H, _max_taps(H, new_H)), np.float32)
    column_weights = np.empty((_max_taps(W, new_W), new_W), np.float32)
    row_starts, column_starts = np.empty(new_H, np.int64), np.empty(new_W, np.int64)
    narrow = np.empty((H, new_W), np.float32)
    for i in range(first, last):
        row_taps = _resize_taps(height[i], row_starts, row_weights)
        column_taps = _resize_taps(width[i], column_starts, column_weights.T)
        for channel in range(C):
            for row in range(height[i]):
                source = images[i, channel, top[i] + row, left[i] : left[i] + width[i]]
                for column in range(new_W):
                    narrow[row, column] = column_weights[0, column] * source[column_starts[column]]
                for tap in range(1, column_taps):
                    for column in range(new_W):
                        narrow[row, column] += column_weights[tap, column] * source[column_starts[column] + tap]
            for row in range(new_H):
                target, start = out[i, channel, row], row_starts[row]
                for column in range(new_W):
                    target[column] = row_weights[row, 0] * narrow[start, column]
                for tap in range(1, row_taps):
                    for column in range(new_W):
                        target[column] += row_weights[row, tap] * narrow[start + tap, column]
                for column in range(new_W):
                    target[column] = min(max(target[column], _0), _1)


@_part_of_kernel
def _max_taps(old, new):  # type: ignore[no-untyped-def]
    """The most old pixels that one new pixel can depend on."""
    return 2 if old <= new else 2 * ((old + new - 1) // new) + 1


@_part_of_kernel
def _resize_taps(length, starts, weights):  # type: ignore[no-untyped-def]
    """Fills the triangle filter that resizes `length` pixels: new pixel j is the sum over t of weights[j, t] x old
    pixel starts[j] + t. Returns the number of taps t."""
    new = len(starts)
    scale = np.float32(length) / np.float32(new)
    support = max(scale, _1)
    taps = min(_max_taps(length, new), length)
    for j in range(new):
        centre = (np.float32(j) + _HALF) * scale
        starts[j] = min(max(int(centre - support + _HALF), 0), length - taps)
        total = _0
        for tap in range(taps):
            distance = abs(np.float32(starts[j] + tap) + _HALF - centre) / support
            weights[j, tap] = max(_1 - distance, _0)
            total += weights[j, tap]
        for tap in range(taps):
            weights[j, tap] /= total
    return taps


@_compiled
def flip(images, out, chosen, first, last):  # type: ignore[no-untyped-def]  # noqa: D103
    C, H, W = images.shape[1:]
    for i in range(first, last):
        if not chosen[i]:
            continue
        for channel in range(C):
            for row in range(H):
                source, target = images[i, channel, row], out[i, channel, row]
                for column in range((W + 1) // 2):
                    # Both are read before either is written: `out` may be `images`.
                    a, b = source[column], source[W - 1 - column]
                    target[column], target[W - 1 - column] = b, a


@_compiled
def grayscale(images, out, chosen, first, last):  # type: ignore[no-untyped-def]  # noqa: D103
    B, C, H, W = images.shape
    if C == 1:
        return
    source, target = images.reshape(B, C, H * W), out.reshape(B, C, H * W)
    for i in range(first, last):
        if chosen[i]:
            for p in range(H * W):
                grey = _RED * source[i, 0, p] + _GREEN * source[i, 1, p] + _BLUE * source[i, 2, p]
                target[i, 0, p], target[i, 1, p], target[i, 2, p] = grey, grey, grey


@_compiled
def color_jitter(images, out, factors, turn, order, first, last):  # type: ignore[no-untyped-def]  # noqa: D103
    B, C, H, W = images.shape
    pixels = out.reshape(B, C, H * W)
    for i in range(first, last):
        for operation in order[i]:
            if operation == 3:
                _turn_hue(pixels[i], turn[i])
            elif factors[i, operation] == _1:
                continue
            elif operation == 0:
                _brightness(pixels[i], factors[i, 0])
            elif operation == 1:
                _contrast(pixels[i], factors[i, 1])
            else:
                _saturation(pixels[i], factors[i, 2])


@_part_of_kernel
def _brightness(image, factor):  # type: ignore[no-untyped-def]
    for channel in range(image.shape[0]):
        for p in range(image.shape[1]):
            image[channel, p] = min(image[channel, p] * factor, _1)


@_part_of_kernel
def _contrast(image, factor):  # type: ignore[no-untyped-def]
    total = _0
    for p in range(image.shape[1]):
        if image.shape[0] == 1:
            total += image[0, p]
        else:
            total += _RED * image[0, p] + _GREEN * image[1, p] + _BLUE * image[2, p]
    shift = (_1 - factor) * total / np.float32(image.shape[1])
    for channel in range(image.shape[0]):
        for p in range(image.shape[1]):
            image[channel, p] = min(max(image[channel, p] * factor + shift, _0), _1)


@_part_of_kernel
def _saturation(image, factor):  # type: ignore[no-untyped-def]
    if image.shape[0] == 1:
        return
    for p in range(image.shape[1]):
        grey = (_1 - factor) * (_RED * image[0, p] + _GREEN * image[1, p] + _BLUE * image[2, p])
        for channel in range(3):
            image[channel, p] = min(max(image[channel, p] * factor + grey, _0), _1)


@_part_of_kernel
def _turn_hue(image, turn):  # type: ignore[no-untyped-def]
    if image.shape[0] == 1 or turn == _0:
        return
    for p in range(image.shape[1]):
        red, green, blue = image[0, p], image[1, p], image[2, p]
        low, high = min(min(red, green), blue), max(max(red, green), blue)
        span = high - low
        divisor = _1 / (span if span > _0 else _1)
        # Hue in sixths of the circle: red 0, green 2, blue 4.
        of_green, of_blue = (blue - red) * divisor + _2, (red - green) * divisor + _4
        hue = (green - blue) * divisor if red == high else (of_green if green == high else of_blue)
        hue += _6 * turn
        hue = hue + _6 if hue < _0 else hue
        hue = hue - _6 if hue >= _6 else hue
        image[0, p] = low + span * min(max(abs(hue - _3) - _1, _0), _1)
        image[1, p] = low + span * min(max(_2 - abs(hue - _2), _0), _1)
        image[2, p] = low + span * min(max(_2 - abs(hue - _4), _0), _1)


@_compiled
def blur(images, out, weights, first, last):  # type: ignore[no-untyped-def]  # noqa: D103
    C, H, W = images.shape[1:]
    taps = weights.shape[1]
    radius = taps // 2
    padded = np.empty(W + 2 * radius, np.float32)
    smooth = np.empty((H, W), np.float32)
    for i in range(first, last):
        if weights[i, radius] == _1:
            continue
        for channel in range(C):
            for row in range(H):
                source, target = images[i, channel, row], smooth[row]
                padded[radius : radius + W] = source
                for k in range(radius):
                    padded[k], padded[radius + W + k] = source[radius - k], source[W - 2 - k]
                target[:] = _0
                for tap in range(taps):
                    for column in range(W):
                        target[column] += weights[i, tap] * padded[tap + column]
            for row in range(H):
                target = out[i, channel, row]
                target[:] = _0
                for tap in range(taps):
                    reflected = H - 1 - abs(H - 1 - abs(row + tap - radius))
                    for column in range(W):
                        target[column] += weights[i, tap] * smooth[reflected, column]
                for column in range(W):
                    target[column] = min(target[column], _1)


@_compiled
def solarize(images, out, threshold, first, last):  # type: ignore[no-untyped-def]  # noqa: D103
    B, C, H, W = images.shape
    source, target = images.reshape(B, C * H * W), out.reshape(B, C * H * W)
    for i in range(first, last):
        if threshold[i] <= _1:
            for p in range(C * H * W):
                target[i, p] = _1 - source[i, p] if source[i, p] >= threshold[i] else source[i, p]
