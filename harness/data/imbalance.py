"""How a pool is unbalanced: how many images each class keeps."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from harness.messages import closest


@dataclass(frozen=True)
class Step:
    """The given classes keep a fixed number of images, the others all of theirs."""

    kind: Literal["step"]
    classes: tuple[int | str, ...] = field(
        metadata={
            "help": "names of the classes that are cut, or their numbers from 0; where a class is called by a number, "
            "names alone, in quotes as the folder is called: ['0010']"
        }
    )
    keep: int = field(metadata={"help": "images that each of these classes keeps", "low": 1})

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("imbalance.classes: name at least one class")
        if self.keep < 1:
            raise ValueError(f"imbalance.keep: {self.keep} is not at least 1")

    def sizes(self, counts: Tensor, class_names: tuple[str, ...]) -> Tensor:
        """i64 [K]: how many images each class keeps of i64 [K] `counts`.

        Raises:
            ValueError: a class does not exist or has fewer than `keep` images.
        """
        sizes = counts.clone()
        for label in {label_of(item, class_names) for item in self.classes}:
            if self.keep > counts[label]:
                raise ValueError(
                    f"imbalance.keep: {self.keep} images of class {class_names[label]!r} cannot be kept; "
                    f"at most {int(counts[label])}"
                )
            sizes[label] = self.keep
        return sizes


def label_of(item: int | str, class_names: tuple[str, ...]) -> int:
    """The label of a class as it is written in a question.

    A name always wins: 10 is the class '10' where there is one. A number is a label only where no class is called by
    a number, for else nobody could tell which is meant.

    Raises:
        ValueError: there is no such class.
    """
    names = [unicodedata.normalize("NFC", one) for one in class_names]
    name = unicodedata.normalize("NFC", str(item))
    if name in names:
        return names.index(name)
    if isinstance(item, str):
        raise ValueError(f"imbalance.classes: no class {item!r}; {closest(item, class_names)}")
    numbered = [one for one in class_names if _value(one) is not None]
    if numbered:
        near = [repr(one) for one in numbered if _value(one) == item] or [repr(numbered[0])]
        raise ValueError(
            f"imbalance.classes: no class is called {item}; names that are numbers are put in quotes, such as {near[0]}"
        )
    if not 0 <= item < len(class_names):
        raise ValueError(f"imbalance.classes: no class {item}; labels are 0 .. {len(class_names) - 1}")
    return item


def _value(name: str) -> float | None:
    """The number that a class is called by, in any writing of Python's or YAML's: 0010, -1, 1.5, 1e3, 0x10, 1_000."""
    try:
        value = float(name)
    except ValueError:
        try:
            value = float(int(name, 0))
        except (ValueError, OverflowError):
            return None
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Exponential:
    """A long tail (Cui et al. 2019, https://arxiv.org/abs/1901.05555).

    Class k of K keeps n_0 * ratio^(-k / (K-1)) images, rounded down. n_0 is the largest number for which every class
    has enough: the size of a class where all are equally large.
    """

    kind: Literal["exponential"]
    ratio: float = field(metadata={"help": "largest class over smallest class", "low": 1})

    def __post_init__(self) -> None:
        if not (1 <= self.ratio < math.inf):
            raise ValueError(f"imbalance.ratio: {self.ratio} is not at least 1")

    def sizes(self, counts: Tensor, class_names: tuple[str, ...]) -> Tensor:
        """i64 [K]: how many images each class keeps of i64 [K] `counts`.

        Raises:
            ValueError: the last class would keep none.
        """
        exponents = torch.arange(len(counts), dtype=torch.float64) / (len(counts) - 1)
        decay = self.ratio**-exponents
        sizes = ((counts / decay).min() * decay + 1e-9).floor().long()  # 1e-9: 50.0 may come as 49.999...
        if sizes[-1] < 1:
            most = math.floor((counts[:-1] ** (1 / (1 - exponents[:-1]))).min())
            raise ValueError(f"imbalance.ratio: {self.ratio} leaves no image of {class_names[-1]!r}; at most {most}")
        return sizes


def thinned(labels: Tensor, sizes: Tensor, rng: torch.Generator) -> Tensor:
    """i64, sorted positions in `labels`: `sizes[k]` of class k, at random."""
    kept = []
    for label, size in enumerate(sizes.tolist()):
        members = (labels == label).nonzero().flatten()
        kept.append(members[torch.randperm(len(members), generator=rng)[:size]])
    return torch.cat(kept).sort().values
