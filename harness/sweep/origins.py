"""Before a sweep goes on: are the trials that have ended of the same data and code as those that are to come?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import messages
from harness.config.plan import Plan
from harness.config.schema import ConfigError
from harness.config.trial import TrialConfig
from harness.data.splits import Data
from harness.files import digest_of
from harness.progress import say
from harness.records.folder import check_folder, check_unclaimed
from harness.records.rows import DIGITS, Record, by_trial, last, mapping, read_rows
from harness.sweep.options import Options
from harness.sweep.preflight import data_name, may_download
from harness.trial.origin import code_behind, used_plugins
from harness.trial.run import load_data

NAMED_TRIALS, NAMED_CHANGES = 3, 5
"""So many are named; of the others it is said how many they are."""


def look_at_folder(folder: Path, plan: Plan, options: Options) -> None:
    """What a sweep of this plan would be told of the folder that it would run in, which stays as it is.

    Without `options.resume` an earlier sweep there is no fault yet: who looks ahead may want to see its question. Data
    that might have to be downloaded are not looked at, and none where `options.quiet`.

    Raises:
        ConfigError: with `options.resume`: as `open_folder`.
    """
    if not options.resume:
        if (folder / "space.yaml").exists():
            say(f"{folder}: this sweep exists; --resume continues it, --set name=NEW begins another one")
        return
    check_unclaimed(folder)

    def looks(config: TrialConfig) -> bool:
        if options.quiet:
            return False
        unknown = may_download(config, options.cache)
        if unknown:
            say(f"{config.dataset.name}: whether its data changed is not known before they are here")
        return not unknown

    check_folder(folder, plan, resume=True, check=lambda: check_origins(folder, plan, options.cache, looks))


def check_origins(
    folder: Path, plan: Plan, cache: Path, looks: Callable[[TrialConfig], bool] = lambda config: True
) -> None:
    """Refuses to let trials of other data, code or packages stand in one table with those that have ended.

    Each trial counts with what it depends on: a selector that changed concerns the trials that use it. Trials that
    failed or did not end are run again, and do not count.

    Args:
        folder: of the sweep.
        plan: what is to run.
        cache: of decoded data sets.
        looks: whether a trial's data are looked at, asked once of each data set and split.

    Raises:
        ConfigError: what changed since, and which trials are of the former kind.
    """
    newest = [last(history) for history in by_trial(read_rows(folder)[0]).values()]
    ended = [record for record in newest if record["status"] in ("finished", "stopped")]
    then = _Then(folder)
    now = _Now(plan, cache, looks)
    changes: dict[str, list[str]] = {}
    for record in ended:
        for change in _changes(record, then, now):
            changes.setdefault(change, []).append(record["trial"])
    way_out = f"let this sweep have another name (--set name=NEW), or bring back what {folder.name} began with"
    if changes:
        raise ConfigError(
            [f"{folder}: {what}; {_which(trials, len(ended))}; {way_out}" for what, trials in changes.items()]
        )


def _which(trials: Sequence[str], ended: int) -> str:
    """Which trials are of the former kind."""
    return (
        f"of the former: {_some(trials, NAMED_TRIALS)} ({len(trials)} of {messages.count(ended, 'trial')} that ended)"
    )


def _some(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class _Then:
    """What a sweep's folder says of its trials' data and code."""

    def __init__(self, folder: Path):
        file = folder / "environment.json"
        environment = mapping(file) if file.exists() else {}
        self._data = {data["fingerprint"][:DIGITS]: data for data in environment.get("datasets", [])}
        self._code = environment.get("code", {})

    def data_change(self, digits: str, now: Data) -> str:
        """What became of the data of these digits: numbers of images, as far as they are known."""
        known = self._data.get(digits, {})
        counts = {"train": now.counts["pool"], "val": now.counts["val"], "test": now.counts["test"]}
        sizes = [f"{part} {known[part]:,} -> {n:,} images" for part, n in counts.items() if known.get(part, n) != n]
        return ", ".join([*sizes, f"fingerprint {digits} -> {now.fingerprint[:DIGITS]}"])

    def code_change(self, now: Mapping[str, Any]) -> str:
        """What is another one in the code that a trial runs now."""
        then = {key: self._code.get(key, {}) for key in ("modules", "versions", "weights")}
        parts = [name for name, digest in now["modules"].items() if then["modules"].get(name) != digest]
        parts += [f"weights {file}" for file, digest in now["weights"].items() if then["weights"].get(file) != digest]
        parts += [
            f"{name} {then['versions'].get(name, 'absent')} -> {version}"
            for name, version in now["versions"].items()
            if then["versions"].get(name, "absent") != version
        ]
        if self._code.get("python") != now["python"]:
            parts.insert(0, f"Python {'.'.join(map(str, now['python']))}")
        if not self._code or not parts:
            return "environment.json does not tell how"  # it is lost, or a file changed while a trial ran
        return _some(parts, NAMED_CHANGES)


class _Now:
    """What a sweep's trials would be computed from if they ran now."""

    def __init__(self, plan: Plan, cache: Path, looks: Callable[[TrialConfig], bool]):
        self._plan = plan
        self._cache = cache
        self._looks = looks
        self._candidates = {one.configuration: one for one in [*plan.some_candidates(), *plan.bounds]}
        self._data: dict[str, Data | None] = {}
        self._code: dict[str, dict[str, Any]] = {}

    def trial(self, record: Record) -> TrialConfig | None:
        """The configuration of a trial; None of an upper bound that one of more batches or selectors has replaced."""
        candidate = self._candidates.get(record["configuration"])
        if candidate is None and record["phase"] == "headroom":
            return None
        candidate = candidate or self._plan.candidate(record["parameters"])
        return self._plan.task(candidate, record["seed"], record["phase"]).trial

    def data(self, config: TrialConfig) -> Data | None:
        """The data of a trial; None where they are not looked at."""
        name = data_name(config)
        if name not in self._data:
            self._data[name] = load_data(config, self._cache, with_test=False)[0] if self._looks(config) else None
        return self._data[name]

    def code(self, config: TrialConfig) -> dict[str, Any]:
        """What a trial runs."""
        name = digest_of({"plugins": [[spec.kind, spec.as_dict()] for spec in used_plugins(config)]})
        if name not in self._code:
            self._code[name] = code_behind([config])
        return self._code[name]


def _changes(record: Record, then: _Then, now: _Now) -> Iterator[str]:
    """What differs between a trial that ended and the same one, run now."""
    if "data" not in record or "code" not in record:
        yield "the records do not say of which data and code they are"
        return
    config = now.trial(record)
    if config is None:
        return
    data, code = now.data(config), now.code(config)
    if data and record["data"] != data.fingerprint[:DIGITS]:
        yield f"the data changed since: {config.dataset.name}: {then.data_change(record['data'], data)}"
    if record["code"] != digest_of(code)[:DIGITS]:
        yield f"the code changed since: {then.code_change(code)}"
