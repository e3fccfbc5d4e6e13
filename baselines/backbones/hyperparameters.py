"""What the backbones ask of their hyper-parameters."""

from __future__ import annotations


def check_dropout(dropout: float) -> None:
    """Checks a hyper-parameter.

    Raises:
        ValueError: it is not in [0, 1).
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout = {dropout} is not in [0, 1)")
