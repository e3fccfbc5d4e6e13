"""Which images are likely positives of one another: those of one cluster of the features as they are now.

A module of its own, loaded where it is asked for: only then is what it runs part of a pre-training's code.
"""

from __future__ import annotations

import torch
from torch import Tensor


def likely_positives(features: Tensor, num_clusters: int, seed: int) -> Tensor:
    """i64 [N]: the cluster of each of f32 [N, D], by mini-batch k-means of at most `num_clusters` clusters.

    Args:
        features: on the CPU.
        num_clusters: >= 1.
        seed: 0 .. 2^32 - 1.
    """
    from sklearn.cluster import MiniBatchKMeans

    clusters = min(num_clusters, len(features))
    fit = MiniBatchKMeans(clusters, n_init=1, batch_size=1024, random_state=seed).fit(features.numpy())
    return torch.from_numpy(fit.labels_).long()
