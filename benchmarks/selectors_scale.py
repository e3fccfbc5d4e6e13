"""How the selectors grow with the pool: seconds and memory at three sizes, and what that says of a million rows.

    OMP_NUM_THREADS=2 python -m benchmarks.selectors_scale                  # all that read features or logits
    OMP_NUM_THREADS=2 python -m benchmarks.selectors_scale coreset ual --rows 12500 25000 50000

Labels (2,500) and budget (2,500) stay; the rows alone grow. Seconds are fitted by a power of the rows, memory beyond
the features by a straight line, both through the last two sizes, and carried on to 1,000,000 x 512 (whose features are
2 GB). That is an estimate, not a measurement. Selectors that train on the images or pass them through the
encoder (vaal, csal, mc_dropout, bald, batch_bald) are not here: they cost what so many images cost. Prints last
`figure <name> <value>`, one a line.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

from benchmarks.selectors import Case, Measurement, Ours, measure

SELECTORS: dict[str, Ours] = {
    "margin": Ours("margin"),
    "coreset": Ours("coreset"),
    "badge": Ours("badge"),
    "kmeans": Ours("kmeans"),
    "typiclust": Ours("typiclust"),
    "probcover": Ours("probcover", delta=1.1),
    "cdal_cs": Ours("cdal_cs"),
    "cdal_rl": Ours("cdal_rl"),
    "uncertain_gcn": Ours("uncertain_gcn"),
    "core_gcn": Ours("core_gcn"),
    "ual": Ours("ual"),
}
MILLION = 1_000_000


def exponent(small: Measurement, large: Measurement, factor: float) -> float:
    """The power of the rows with which seconds grow."""
    return math.log(large.seconds / small.seconds) / math.log(factor)


def main() -> None:
    """Runs the selectors named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="selector", help=f"of {', '.join(SELECTORS)}; all if none is named")
    parser.add_argument("--rows", type=int, nargs="+", default=[12_500, 25_000, 50_000], help="ascending, two or more")
    args = parser.parse_args()
    if unknown := sorted(set(args.names) - set(SELECTORS)):
        parser.error(f"no selector {unknown[0]!r}; known: {', '.join(SELECTORS)}")
    if len(args.rows) < 2 or args.rows != sorted(set(args.rows)):
        parser.error("--rows: give two or more, ascending")
    figures: dict[str, float] = {}
    for name in args.names or SELECTORS:
        found = {}
        for rows in args.rows:
            found[rows] = measure(SELECTORS[name], replace(Case(), rows=rows), repeats=1)
            print(f"{name} {rows:,}: {found[rows].seconds:.2f} s, {found[rows].peak_megabytes:.0f} MB", flush=True)
            figures |= {f"{name}_seconds_at_{rows}": found[rows].seconds}
            figures |= {f"{name}_megabytes_at_{rows}": found[rows].peak_megabytes}
        (before, small), (last, large) = [*found.items()][-2:]
        power = exponent(small, large, last / before)
        slope = (large.peak_megabytes - small.peak_megabytes) / (last - before)
        figures[f"{name}_power_of_rows"] = power
        figures[f"{name}_minutes_at_a_million"] = large.seconds * (MILLION / last) ** power / 60
        figures[f"{name}_gigabytes_at_a_million"] = (large.peak_megabytes + slope * (MILLION - last)) / 1000
    for name, value in figures.items():
        print(f"figure {name} {value:.4g}")


if __name__ == "__main__":
    main()
