"""The maps that `ual` clusters, by t-SNE, UMAP and PaCMAP: processor seconds, and how many neighbours stay neighbours.

    python -m benchmarks.plane_maps                                  # 50,000 x 512 mixtures of normal distributions
    python -m benchmarks.plane_maps umap --features features.npy --rows 10000
    python -m benchmarks.plane_maps tsne --rows 10000 --mapped 5000      # the others are placed beside so many

Each maps the same ten principal components, as `ual` hands them over, on one thread, warmed up on few. Kept is the
share of the ten nearest in the components that are among the ten nearest on the map, of 2,000 random rows. UMAP and
PaCMAP need the extra `maps`. Prints last `figure <name> <value>`, one a line.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from baselines.selectors import plane_maps
from baselines.selectors.plane_maps import PLANE_MAPS, map_of_many
from baselines.selectors.ual import principal
from benchmarks.selectors import Case

COUNT, ASKED = 10, 2_000


def neighbors(points: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """i64 [n, 10]: the nearest others of f64 [N, D] to i64 [n] of them."""
    return NearestNeighbors(n_neighbors=COUNT + 1).fit(points).kneighbors(points[asked], return_distance=False)[:, 1:]


def main() -> None:
    """Runs the reducers named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="reducer", help=f"of {', '.join(PLANE_MAPS)}; all if none is named")
    parser.add_argument("--features", default="", help="an .npy file, float [N, D], instead of random features")
    parser.add_argument("--rows", type=int, default=Case.rows, help="%(default)s")
    parser.add_argument("--mapped", type=int, default=plane_maps.LARGEST_MAP, help="rows that are mapped (%(default)s)")
    args = parser.parse_args()
    if unknown := sorted(set(args.names) - set(PLANE_MAPS)):
        parser.error(f"no reducer {unknown[0]!r}; known: {', '.join(PLANE_MAPS)}")
    torch.set_num_threads(1)
    plane_maps.LARGEST_MAP = args.mapped
    points = principal(Case(rows=args.rows, labeled=0, features=args.features).pool().features.numpy(), 10)
    asked = np.random.default_rng(0).permutation(len(points))[:ASKED]
    near, figures = neighbors(points, asked), {}
    for name in args.names or PLANE_MAPS:
        map_of_many(name, points[:200], 30.0, 0)
        started = time.process_time()
        map_ = map_of_many(name, points, 30.0, 0)
        figures[f"{name}_seconds"] = time.process_time() - started
        kept = [len(np.intersect1d(*pair)) for pair in zip(near, neighbors(map_, asked), strict=True)]
        figures[f"{name}_neighbours_kept"] = float(np.mean(kept)) / COUNT
        print(f"{name}: {figures[f'{name}_seconds']:.1f} s, {figures[f'{name}_neighbours_kept']:.3f} kept", flush=True)
    for name, value in figures.items():
        print(f"figure {name} {value:.4f}")


if __name__ == "__main__":
    main()
