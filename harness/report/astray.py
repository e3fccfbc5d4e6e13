"""Which seeds are astray: a training that collapsed, a broken file."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from harness.records.standing import Block

ASTRAY = 6.0
"""A value so many robust standard deviations from what its configuration and its seed let expect is named."""

VALUES_TO_JUDGE = 6
"""Of fewer values none can be told to be astray."""


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
