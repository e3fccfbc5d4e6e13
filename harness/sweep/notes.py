"""What is noted of a trial for its next worker, in the store of Ray's head, while this run of the sweep lasts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import ray
from ray.experimental import internal_kv


def note_limit(trial_id: str, cause: str) -> None:
    """Notes which limit a trial passed."""
    internal_kv._internal_kv_put(_key("limit", trial_id), cause.encode())


def limit_passed(trial_id: str) -> str | None:
    """The limit that an earlier worker of the trial was ended for."""
    cause = internal_kv._internal_kv_get(_key("limit", trial_id))
    return cause.decode() if cause else None


def note_ending(of_tune: str, record: Mapping[str, Any]) -> None:
    """Notes the totals of a trial that Tune's trial ran and whose ending is written; none for one that failed."""
    totals = record["metrics"] if record["status"] == "finished" else {}
    internal_kv._internal_kv_put(_key("ended", of_tune, record["trial"]), json.dumps(totals).encode())


def ended_before(of_tune: str, trial_id: str) -> dict[str, float] | None:
    """The totals of a trial that an earlier worker of the same trial of Tune's brought to its end."""
    totals = internal_kv._internal_kv_get(_key("ended", of_tune, trial_id))
    return json.loads(totals) if totals else None


def forget_endings(of_tune: str) -> None:
    """Removes what was noted of the trials of one of Tune's."""
    internal_kv._internal_kv_del(_key("ended", of_tune, ""), del_by_prefix=True)


def _key(*parts: str) -> str:
    return "/".join(("selbench", ray.get_runtime_context().get_job_id(), *parts))
