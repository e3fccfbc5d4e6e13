"""The coverage that `probcover` and `dcom` keep where they seek neighbours in near cells, against all pairs.

    python -m benchmarks.coverage                                        # 50,000 x 512 mixtures of normal distributions
    python -m benchmarks.coverage --features features.npy --delta 0.75

Both choose three times from one pool: with all pairs looked at, in cells as they come, and in 1,000 cells, as
many as a million images have. Covered are the images within the radius of a labelled or picked one, counted by products
with all of these. `delta` is that radius; none: as `probcover` estimates it. Prints last `figure <name> <value>`, one a
line: the share of the pool that the first picks cover, and what is kept of that of as many exact ones.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch.nn.functional import normalize

from baselines.selectors import balls
from baselines.selectors.dcom import in_balls
from baselines.selectors.probcover import kept_balls, kept_radius
from benchmarks.selectors import Case, Ours

SELECTORS = ("probcover", "dcom")


def main() -> None:
    """Runs the selectors named on the command line, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="selector", help=f"of {', '.join(SELECTORS)}; both if none is named"
    )
    parser.add_argument("--features", default="", help="an .npy file, float [N, D], instead of random features")
    parser.add_argument("--rows", type=int, default=Case.rows, help="%(default)s")
    parser.add_argument("--labeled", type=int, default=500, help="%(default)s")
    parser.add_argument("--budget", type=int, default=2_000, help="40 at least (%(default)s)")
    parser.add_argument("--delta", type=float, help="the radius, of unit vectors; estimated if it is not given")
    args = parser.parse_args()
    if unknown := sorted(set(args.names) - set(SELECTORS)):
        parser.error(f"no selector {unknown[0]!r}; known: {', '.join(SELECTORS)}")
    if args.budget < 40:
        parser.error("--budget: 40 at least")
    torch.set_num_threads(1)
    pool = Case(rows=args.rows, labeled=args.labeled, features=args.features).pool()
    points = normalize(pool.features)
    delta = args.delta or kept_radius(points, pool.num_classes, 0.95)
    figures = {"delta": delta}
    forms = {"all_pairs": None, f"cells_of_{balls.CELL_SIZE}": balls.CELL_SIZE, "1000_cells": -(-len(points) // 1000)}
    for name in args.names or SELECTORS:
        for form, cell_size in forms.items():
            balls.ALL_PAIRS = len(points) if cell_size is None else 0
            balls.CELL_SIZE = cell_size or balls.CELL_SIZE
            kept_balls.forget()
            started = time.process_time()
            picks = Ours(name, delta=delta)(pool, args.budget)
            print(f"{name}, {form}: {time.process_time() - started:.1f} s", flush=True)
            for count in (args.budget // 40, args.budget // 10, args.budget):
                centers = points[torch.cat([pool.labeled, picks[:count]])]
                covered = float(in_balls(points, centers, torch.full((len(centers),), delta)).double().mean())
                figures[f"{name}_{form}_covered_by_{count}"] = covered
                if cell_size is not None:
                    exact = figures[f"{name}_all_pairs_covered_by_{count}"]
                    figures[f"{name}_{form}_kept_by_{count}"] = covered / exact
    for name, value in figures.items():
        print(f"figure {name} {value:.4f}")


if __name__ == "__main__":
    main()
