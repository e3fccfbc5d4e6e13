"""No pre-training."""

from __future__ import annotations

from torch import Tensor

from harness.api import SSLMethod


class NoPretraining(SSLMethod):
    """No pre-training: the encoder keeps its initial weights.

    With the `finetune` classifier this is supervised training from scratch; with any other head it is the
    untrained encoder that every pre-training has to beat.
    """

    num_views = 0

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Never called: there are no views to train on."""
        raise AssertionError("a method with num_views = 0 is not trained")
