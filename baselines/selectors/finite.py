"""What a diverged network hands to a selector is an error, not a selection."""

from __future__ import annotations

from torch import Tensor


def require_finite(values: Tensor, what: str) -> Tensor:
    """The values f32 [N, ...] themselves.

    Raises:
        ValueError: a row holds NaN or infinity.
    """
    if values.sum().isfinite():  # a tenth of the time; NaN and infinity always show in the sum, which may also overflow
        return values
    bad = ~values.isfinite().flatten(1).all(dim=1)
    if bad.any():
        raise ValueError(f"{what} of {int(bad.sum())} of {len(bad)} images are not finite: the model has diverged")
    return values
