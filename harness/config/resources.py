"""What a trial gets of the machines, and how many trials run at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.config.schema import Problems, setting


@dataclass(frozen=True)
class Resources:
    """What one trial gets, and how many run at once."""

    cpus: int | float = setting(1, "cores, and threads, of a trial; a fraction where it mostly waits", above=0)
    gpus: float | None = setting(None, "share of a GPU for a trial; by trials_per_gpu if left out", low=0, high=1)
    trials_per_gpu: int | None = setting(None, "trials that share a GPU; as many as fit if left out", low=1)
    max_concurrent: int | None = setting(None, "trials at once; as many as fit if left out", low=1)
    custom: dict | None = setting(None, "resources that the nodes of a cluster were given: name -> amount for a trial")
    time_limit: float | None = setting(None, "seconds after which a trial is ended and counts as failed", above=0)
    memory_gb: float | None = setting(None, "2**30 bytes that a trial's process may hold, else it fails", above=0)

    @property
    def threads(self) -> int:
        """Of a trial."""
        return max(1, int(self.cpus))


def check_custom(custom: Mapping[str, Any], problems: Problems) -> None:
    """Whether these name resources of the user's own, by amounts that Ray can give."""
    for kind, amount in custom.items():
        place = f"resources.custom.{kind}"
        if kind.lower() in ("cpu", "gpu"):
            problems.add(place, f"not a custom resource; did you mean 'resources.{kind.lower()}s'?")
        elif kind in ("memory", "object_store_memory") or ":" in kind:
            problems.add(place, "a name of Ray's own; give the nodes another one")
        elif isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 < amount < float("inf"):
            problems.add(place, f"expected a number above 0, not {amount!r}; 1 for all of one")
        elif amount > 1 and amount != int(amount):
            problems.add(place, f"{amount:g} is neither a share of one nor a whole number; use {int(amount) + 1}")
