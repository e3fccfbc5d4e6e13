"""What stands in a table: typed cells. Each says what it shows and what a program gets; a renderer never asks its type.

A new statistic is a new column of such cells (`harness.report.tables`), at times of a new type of cell.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

from harness.report import words
from harness.report.compare import NO_EVIDENCE, Estimate, Judgement, Kind
from harness.report.resampling import Between

HALF = "half-width 95 %"
"""Ends the names of the columns of half-widths in files for programs."""

Tone = Literal["", "better", "worse", "strong"]


@dataclass(frozen=True)
class Shown:
    """What a reader gets of a cell.

    Attributes:
        head: what is read first.
        value: what it is sorted by; None comes last.
        spread: the head's uncertainty or an addition, such as ` ± 0.01`; may be set apart or below.
        mark: a sign behind both, which a note explains.
        brief: the head in fewer words, where there is little room; empty: the head itself.
        tone: how it stands out.
        link: where on the page, or in the sweep's folder, there is more of it.
    """

    head: str
    value: float | str | None
    spread: str = ""
    mark: str = ""
    brief: str = ""
    tone: Tone = ""
    link: str = ""

    def __str__(self) -> str:
        return f"{self.head}{self.spread}{self.mark}"


NOTHING = Shown("–", None)


class Cell(ABC):
    """One place of a table; a frozen dataclass of what is known."""

    @abstractmethod
    def show(self) -> Shown:
        """What a reader gets."""

    def fields(self, key: str) -> dict[str, Any]:
        """What a program gets: values by name of column, of which the first is the key and the others begin with it."""
        return {key: self.show().value}

    def __str__(self) -> str:
        return str(self.show())


@dataclass(frozen=True)
class Empty(Cell):
    """Nothing is known, or there is nothing to know."""

    def show(self) -> Shown:
        """A dash."""
        return NOTHING


@dataclass(frozen=True)
class Text(Cell):
    """Words: a row's name, a cause, an ending; with a link where there is more of it."""

    text: str
    strong: bool = False
    link: str = ""

    def show(self) -> Shown:
        """The words."""
        return Shown(self.text, self.text, tone="strong" if self.strong else "", link=self.link)


@dataclass(frozen=True)
class Verdict(Cell):
    """What a comparison allows to say, as of `compare.judge`, or `reference`."""

    words: str
    kind: Kind | None = None

    def show(self) -> Shown:
        """The words; in brief `no evidence (Holm)`."""
        brief = self.words.replace(f"{NO_EVIDENCE} after Holm's correction", "no evidence (Holm)")
        tones: dict[Kind | None, Tone] = {"better": "better", "worse": "worse"}
        tone = tones.get(self.kind, "")
        return Shown(self.words, self.words, brief=brief.replace(NO_EVIDENCE, "no evidence"), tone=tone)


@dataclass(frozen=True)
class Number(Cell):
    """A number without an interval.

    Attributes:
        value: None or NaN where there is none.
        form: as of `format`.
        addition: behind it, such as a class in brackets.
    """

    value: float | None
    form: str = ".3g"
    addition: str = ""
    strong: bool = False

    def show(self) -> Shown:
        """The number in its form."""
        if self.value is None or self.value != self.value:
            return NOTHING
        spread = f" ({self.addition})" if self.addition else ""
        return Shown(format(self.value, self.form), self.value, spread, tone="strong" if self.strong else "")


@dataclass(frozen=True)
class Count(Cell):
    """A whole number, or the mean of several, and one to be added to it."""

    value: float | None
    more: float | None = None

    def show(self) -> Shown:
        """`200 (+ 150)`."""
        more = "" if self.more is None else f" (+ {self.more:.0f})"
        return Shown(f"{self.value:.0f}", self.value, more) if self.value is not None else Shown("–", None, more)


@dataclass(frozen=True)
class SeedCount(Cell):
    """How many seeds a row stands on, and how many it lacks."""

    count: int
    lacking: str = ""

    def show(self) -> Shown:
        """`3`, or `2, 1 of 3 failed`."""
        return Shown(f"{self.count}", self.count, f", {self.lacking}" if self.lacking else "")


@dataclass(frozen=True)
class Quantity(Cell):
    """A value of a metric, with the digits that its unit deserves."""

    metric: str
    value: float | None

    def show(self) -> Shown:
        """The value alone."""
        return NOTHING if self.value is None else Shown(words.show_number(self.metric, self.value), self.value)


@dataclass(frozen=True)
class Mean(Cell):
    """A mean of a metric over seeds."""

    metric: str
    estimate: Estimate | None

    def show(self) -> Shown:
        """Mean and half-width of its interval."""
        if self.estimate is None:
            return NOTHING
        return Shown(
            words.show_number(self.metric, self.estimate.mean), self.estimate.mean, self._spread(self.estimate)
        )

    def _spread(self, estimate: Estimate) -> str:
        """` ± 0.01`, or the ends where these say more."""
        if estimate.half is None:
            return ""
        if estimate.is_symmetric:
            return f" ± {words.show_number(self.metric, estimate.half)}"
        return f" [{words.show_number(self.metric, estimate.low)}, {words.show_number(self.metric, estimate.high)}]"

    def fields(self, key: str) -> dict[str, Any]:
        """Mean and half-width."""
        return {key: self.estimate.mean, f"{key} {HALF}": self.estimate.half} if self.estimate else {}


@dataclass(frozen=True)
class Difference(Cell):
    """A paired difference of a metric."""

    metric: str
    judgement: Judgement | None

    def show(self) -> Shown:
        """The difference and the ends of its interval."""
        if self.judgement is None:
            return NOTHING
        mean = self.judgement.difference
        low, high = (words.show_number(self.metric, end, "+") for end in (mean.low, mean.high))
        ends = "" if mean.half is None else f" [{low}, {high}]"
        return Shown(words.show_number(self.metric, mean.mean, "+"), mean.mean, ends)

    def fields(self, key: str) -> dict[str, Any]:
        """Difference, half-width and the number of seeds that both have."""
        if self.judgement is None:
            return {}
        mean = self.judgement.difference
        return {key: mean.mean, f"{key} {HALF}": mean.half, f"{key} n_seeds": mean.n}


@dataclass(frozen=True)
class Spread(Cell):
    """A mean that belongs to no metric, with its interval."""

    estimate: Estimate
    form: str

    def show(self) -> Shown:
        """Mean and half-width of its interval, in the same form."""
        mean, half = self.estimate.mean, self.estimate.half
        spread = "" if half is None else f" ± {half:{self.form}}"
        if half is not None and not self.estimate.is_symmetric:
            spread = f" [{self.estimate.low:{self.form}}, {self.estimate.high:{self.form}}]"
        return Shown(format(mean, self.form), mean, spread)


@dataclass(frozen=True)
class Ends(Cell):
    """A value with the ends of its interval, of which one may be unbounded.

    Attributes:
        between: the value.
        form: of the value and its ends.
        factor: what they are multiplied by.
        least: the first that could be seen; a value of minus infinity lies there or below.
    """

    between: Between
    form: str
    factor: float = 1.0
    least: float = -math.inf

    def show(self) -> Shown:
        """`420 [380, 470]`, `never`, or `50 or fewer`."""
        value, low, high = self.between.value, self.between.low, self.between.high
        ends = "" if low is None or high is None else f" [{self._of(low)}, {self._of(high)}]"
        return Shown(self._of(value), max(value, self.least) if value < math.inf else None, ends)

    def _of(self, value: float) -> str:
        if value == math.inf:
            return "never"
        of_seen = format(self.factor * max(value, self.least), self.form)
        return f"{of_seen} or fewer" if value == -math.inf else of_seen

    def fields(self, key: str) -> dict[str, Any]:
        """The value and both ends."""
        return {key: self.between.value, f"{key} low": self.between.low, f"{key} high": self.between.high}


@dataclass(frozen=True)
class Points(Cell):
    """A mean or difference of a fraction, in percentage points."""

    estimate: Estimate | None
    digits: int = 2
    sign: str = ""
    mark: str = ""

    def show(self) -> Shown:
        """Mean and half-width of its interval."""
        if self.estimate is None:
            return NOTHING
        mean, half = 100 * self.estimate.mean, self.estimate.half
        spread = "" if half is None else f" ±{100 * half:.{self.digits}f}"
        if not self.estimate.is_symmetric:
            spread = f" [{100 * self.estimate.low:.{self.digits}f}, {100 * self.estimate.high:.{self.digits}f}]"
        return Shown(format(mean, f"{self.sign}.{self.digits}f"), mean, spread, f" {self.mark}" if self.mark else "")


@dataclass(frozen=True)
class Probability(Cell):
    """The p of a test, adjusted for their number; and the one before."""

    adjusted: float | None
    alone: float | None = None

    def show(self) -> Shown:
        """The adjusted one."""
        return NOTHING if self.adjusted is None else Shown(words.p_value(self.adjusted), self.adjusted)

    def fields(self, key: str) -> dict[str, Any]:
        """Both."""
        return {key: self.alone, f"{key}_holm": self.adjusted}


@dataclass(frozen=True)
class Seconds(Cell):
    """Mean seconds of a stage; starred where a trial took it from the cache."""

    value: float | None
    cached: bool = False

    def show(self) -> Shown:
        """Three digits at least."""
        if self.value is None:
            return NOTHING
        return Shown(words.show_number("time/total_seconds", self.value), self.value, mark="*" if self.cached else "")
