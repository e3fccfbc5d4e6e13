"""Which of a search's configurations are confirmed, and how."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.config.schema import Problems, lies_in, setting
from harness.config.space import Assignment
from harness.messages import closest


@dataclass(frozen=True)
class Confirm:
    """Re-runs the best with fresh seeds, and only then reads the test set."""

    top: int = setting(1, "how many of the best configurations", low=1)
    distinct: tuple[str, ...] = setting(
        (), "parameters, or a section of them such as `augmentation`, of which the best have different values"
    )
    seeds: tuple[int, ...] = setting((1, 2, 3), "fresh seeds, not used by the search", low=0)
    references: tuple[dict, ...] = setting((), "configurations to compare with: dotted paths below the trial -> values")

    def chosen(self, ranked: Iterable[Assignment]) -> list[Assignment]:
        """The first `top` of these, best first, that differ in what must be distinct, if there are so many."""
        best: list[Assignment] = []
        for one in ranked:
            if not self.distinct or all(self._told_apart_by(one) != self._told_apart_by(other) for other in best):
                best.append(one)
            if len(best) == self.top:
                break
        return best

    def _told_apart_by(self, assignment: Assignment) -> Assignment:
        return {path: value for path, value in assignment.items() if any(lies_in(path, name) for name in self.distinct)}

    def check(self, used_seeds: Sequence[int], paths: Sequence[str], problems: Problems) -> None:
        """Notes seeds that are not fresh, and parameters that are none of these."""
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or set(self.seeds) & set(used_seeds):
            problems.add("confirm.seeds", f"{list(self.seeds)} must be fresh and different: not of {list(used_seeds)}")
        sections = {path.partition(".")[0] for path in paths}
        for name in self.distinct:
            if not any(lies_in(path, name) for path in paths):
                problems.add("confirm.distinct", f"{name} is no parameter; {closest(name, {*paths, *sections})}")
