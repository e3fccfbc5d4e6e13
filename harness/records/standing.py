"""In which order configurations stand.

What fails is seldom a matter of chance: a training that diverges was bad before. So no configuration may gain by a
seed that it lacks.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from statistics import fmean
from typing import TypeVar

Block = TypeVar("Block", bound=Hashable)
"""What all are measured under: a seed, or a setting and a seed."""


def standing(
    values: Mapping[str, Mapping[Block, float]], missing: Mapping[str, int], *, maximize: bool = True
) -> list[str]:
    """The cases, best first: those that lack nothing by their means, below them those that lack one value, and so on.

    Args:
        values: case -> block -> value.
        missing: case -> how many values it lacks; 0 where it is not named.
        maximize: whether more is better.
    """
    above, sign = above_complete(values, missing), -1 if maximize else 1
    return sorted(values, key=lambda case: (case not in above, missing.get(case, 0), sign * above.get(case, 0.0), case))


def level(values: Mapping[Block, float], reference: Mapping[Block, float]) -> float | None:
    """The mean of a case as it would be under all blocks of the reference: that one's mean, and the mean difference.

    Cases that get more seeds only while a comparison is open have different ones, easier or harder; the order is then
    that of the paired differences by which they are judged. Where the reference has nothing it is the mean of what the
    case has; without a block in common there is none.

    Args:
        values: block -> value of the case.
        reference: the same of the reference.
    """
    if not reference:
        return fmean(values.values()) if values else None
    leads = [value - reference[block] for block, value in values.items() if block in reference]
    return fmean(reference.values()) + fmean(leads) if leads else None


def above_complete(values: Mapping[str, Mapping[Block, float]], missing: Mapping[str, int]) -> dict[str, float]:
    """By how much the values of each case that has any lie above those of the complete cases, on average.

    Cases that lack something were measured under other blocks, easier or harder ones; each value counts against what
    the complete cases reach under the same block.

    Args:
        values: case -> block -> value.
        missing: as of `standing`.
    """
    complete = [case for case in values if not missing.get(case) and values[case]]
    blocks = {block for case in values for block in values[case]}
    reached = {block: [values[case][block] for case in complete if block in values[case]] for block in blocks}
    level = {block: fmean(values_there) if values_there else 0.0 for block, values_there in reached.items()}
    return {case: fmean(v - level[block] for block, v in of.items()) for case, of in values.items() if of}
