"""Ten neighbours of features by the libraries of approximate ones: processor seconds and recall.

    python -m benchmarks.neighbours                               # 50,000 x 512 mixtures of normal distributions
    python -m benchmarks.neighbours --features features.npy --rows 9000

Each library, as it comes, builds its index of all rows and says the neighbours of some of them; recall is the share of
the ten nearest by a matrix product that it names. One thread, processor seconds. Compiled libraries are warmed up on
few rows. A library that is not installed is named and passed over; none of them is an extra of this project. Prints
last `figure <name> <value>`, one a line.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch

from benchmarks.selectors import Case

COUNT = 10


def exact(points: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """By products, a block of rows at a time."""
    every = torch.from_numpy(points)
    squares, nearest = every.square().sum(dim=1), []
    for part in torch.from_numpy(asked).split(256):
        distance = torch.addmm(squares, every[part], every.T, alpha=-2)
        nearest.append(distance.topk(COUNT, largest=False).indices)
    return torch.cat(nearest).numpy()


def hnswlib(points: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """A graph (M 16, 200 at building)."""
    import hnswlib

    index = hnswlib.Index(space="l2", dim=points.shape[1])
    index.init_index(max_elements=len(points), M=16, ef_construction=200)
    index.add_items(points, num_threads=1)
    index.set_ef(100)
    return index.knn_query(points[asked], k=COUNT, num_threads=1)[0]


def usearch(points: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """A graph, its defaults."""
    from usearch.index import Index

    index = Index(ndim=points.shape[1], metric="l2sq", dtype="f32")
    index.add(np.arange(len(points)), points, threads=1)
    return index.search(points[asked], COUNT, threads=1).keys


def pynndescent(points: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Neighbours of neighbours, its defaults: of all rows at once, for so it works."""
    import pynndescent

    return pynndescent.NNDescent(points, n_neighbors=COUNT, n_jobs=1, random_state=0).neighbor_graph[0][asked]


def faiss(points: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Inverted lists, as many as the root of the rows, of which a sixteenth is looked at."""
    import faiss

    faiss.omp_set_num_threads(1)
    lists = max(1, int(len(points) ** 0.5))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(points.shape[1]), points.shape[1], lists)
    index.train(points)
    index.add(points)
    index.nprobe = max(1, lists // 16)
    return index.search(points[asked], COUNT)[1]


LIBRARIES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "faiss": faiss,
    "hnswlib": hnswlib,
    "usearch": usearch,
    "pynndescent": pynndescent,
}


def main() -> None:
    """Runs the libraries named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="library", help=f"of {', '.join(LIBRARIES)}; all if none is named")
    parser.add_argument("--features", default="", help="an .npy file, float [N, D], instead of random features")
    parser.add_argument("--rows", type=int, default=Case.rows, help="%(default)s")
    parser.add_argument("--asked", type=int, default=2_000, help="rows whose neighbours are asked for (%(default)s)")
    args = parser.parse_args()
    if unknown := sorted(set(args.names) - set(LIBRARIES)):
        parser.error(f"no library {unknown[0]!r}; known: {', '.join(LIBRARIES)}")
    torch.set_num_threads(1)
    points = Case(rows=args.rows, labeled=0, features=args.features).pool().features.numpy()
    asked = np.random.default_rng(0).permutation(len(points))[: args.asked]
    started = time.process_time()
    truth = exact(points, asked)
    figures = {"exact_seconds_for_all": (time.process_time() - started) * len(points) / len(asked)}
    for name in args.names or LIBRARIES:
        if find_spec(name) is None:
            print(f"{name} is not installed")
            continue
        LIBRARIES[name](points[:500], np.arange(20))
        started = time.process_time()
        answer = LIBRARIES[name](points, asked)
        figures[f"{name}_seconds"] = time.process_time() - started
        shared = [len(np.intersect1d(mine, right)) for mine, right in zip(answer, truth, strict=True)]
        figures[f"{name}_recall"] = float(np.mean(shared)) / COUNT
        print(f"{name}: {figures[f'{name}_seconds']:.1f} s, recall {figures[f'{name}_recall']:.3f}", flush=True)
    for name, value in figures.items():
        print(f"figure {name} {value:.4f}")


if __name__ == "__main__":
    main()
