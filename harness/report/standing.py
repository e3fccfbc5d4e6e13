"""In which order configurations stand, and which seeds are missing or astray.

What fails is seldom a matter of chance: a training that diverges was bad before. So no configuration may gain by a
seed that it lacks.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from statistics import fmean, median
from typing import TypeVar

Block = TypeVar("Block", bound=Hashable)
"""What all are measured under: a seed, or a setting and a seed."""

ASTRAY = 6.0
"""A value so many robust standard deviations from what its configuration and its seed let expect is named."""

VALUES_TO_JUDGE = 6
"""Of fewer values none can be told to be astray."""


def standing(
    values: Mapping[str, Mapping[Block, float]], missing: Mapping[str, int], *, maximize: bool = True
) -> list[str]:
    """The cases, best first: those that lack nothing by their means, below them those that lack one value, and so on.

    Cases that lack something were measured under other blocks, easier or harder ones; each value counts against what
    the complete cases reach under the same block.

    Args:
        values: case -> block -> value.
        missing: case -> how many values it lacks; 0 where it is not named.
        maximize: whether more is better.
    """
    complete = [case for case in values if not missing.get(case) and values[case]]
    blocks = {block for case in values for block in values[case]}
    reached = {block: [values[case][block] for case in complete if block in values[case]] for block in blocks}
    level = {block: fmean(values_there) if values_there else 0.0 for block, values_there in reached.items()}
    sign = -1 if maximize else 1

    def key(case: str) -> tuple[bool, int, float, str]:
        above = [value - level[block] for block, value in values[case].items()]
        return not above, missing.get(case, 0), sign * fmean(above) if above else 0.0, case

    return sorted(values, key=key)


def astray(values: Mapping[str, Mapping[Block, float]]) -> list[tuple[str, Block]]:
    """The values that lie far from what the others let expect: a training that collapsed, a broken file.

    Each value's distance from the median of its configuration, without what its seed does to all configurations, is
    compared with the median distance; distances of 0, such as the median's own, are no measure. Of two values, which
    lie equally far from their median, the one that is nearer to the median of all is as it should be.

    Args:
        values: case -> seed -> value.
    """
    middle = {case: median(by_seed.values()) for case, by_seed in values.items() if len(by_seed) > 1}
    seeds = {seed for case in middle for seed in values[case]}
    luck = {seed: median([values[c][seed] - middle[c] for c in middle if seed in values[c]]) for seed in seeds}
    if len(middle) < 3:
        luck = dict.fromkeys(seeds, 0.0)
    apart = {(c, seed): abs(values[c][seed] - middle[c] - luck[seed]) for c in middle for seed in values[c]}
    usual = median([value for case in middle for value in values[case].values()] or [0.0])
    for case in middle:
        if len(values[case]) == 2:
            apart[case, min(values[case], key=lambda seed: abs(values[case][seed] - usual))] = 0.0
    distances = [distance for distance in apart.values() if distance > 0]
    if len(distances) < VALUES_TO_JUDGE:
        return []
    scale = 1.4826 * median(distances)  # of normal values the standard deviation
    return [place for place, distance in apart.items() if distance > ASTRAY * scale]
