"""What the methods ask of their hyper-parameters, each check naming the one it refuses."""

from __future__ import annotations


def check_positive(**values: float) -> None:
    """Checks numbers.

    Raises:
        ValueError: one is not > 0.
    """
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} = {value} is not > 0")


def check_share(**values: float) -> None:
    """Checks shares and momenta.

    Raises:
        ValueError: one is not in [0, 1].
    """
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} = {value} is not in [0, 1]")


MOST_LAYERS = 100
"""More in a row are a slip of the pen, and would not fit into the memory."""


def check_depth(depth: int, low: int = 1) -> None:
    """Checks a number of layers.

    Raises:
        ValueError: it is not in [`low`, `MOST_LAYERS`].
    """
    check_at_least(low, depth=depth)
    if depth > MOST_LAYERS:
        raise ValueError(f"depth = {depth} is not <= {MOST_LAYERS}")


def check_at_least(low: int, **values: float) -> None:
    """Checks sizes, counts and weights.

    Raises:
        ValueError: one is not >= `low`.
    """
    for name, value in values.items():
        if not value >= low:
            raise ValueError(f"{name} = {value} is not >= {low}")
