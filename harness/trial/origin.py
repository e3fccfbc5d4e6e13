"""What a trial is computed from: its data, the code that it runs, and the files that this code reads.

Records carry it as a few digits, by which trials that are to stand in one table are known to belong together, and as
numbers of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.code import code_of
from harness.config.schema import plugins_in
from harness.config.trial import TrialConfig
from harness.files import digest_of
from harness.plugins import registry, weights
from harness.plugins.registry import PluginSpec
from harness.records.rows import DIGITS
from harness.trial.run import load_data, run


@dataclass(frozen=True)
class Origin:
    """What a trial is computed from, in short.

    Attributes:
        data: the first digits of the data's fingerprint.
        images: how many are in which part, and what became of others: `Data.counts` and `Data.tally`.
        code: of a digest of `code_behind`.
        compute: device and precision of this machine, such as "cpu float32".
    """

    data: str
    images: Mapping[str, int]
    code: str
    compute: str

    def as_dict(self) -> dict[str, Any]:
        """As records have it."""
        return asdict(self)


def origin_of(config: TrialConfig, cache: Path) -> Origin:
    """Of a trial, with the data as it is and the code as it was loaded.

    Raises:
        ValueError, FileNotFoundError: as of `load_data`.
    """
    data, _ = load_data(config, cache, with_test=False)
    compute = config.compute.resolved()
    images = {**data.counts, **data.tally}
    return Origin(data.fingerprint[:DIGITS], images, code_digest(config), f"{compute.device} {compute.precision}")


def code_digest(config: TrialConfig) -> str:
    """The digits of a trial's code."""
    return digest_of(code_behind([config]))[:DIGITS]


def code_behind(configs: Iterable[TrialConfig]) -> dict[str, Any]:
    """What some trials run, as JSON values for a reader too: `python`, `modules`, `versions`, and files of `weights`.

    Comments, docstrings and plugins that a trial does not use do not count; see `harness.code`.
    """
    specs = {digest_of({spec.kind: spec.as_dict()}): spec for config in configs for spec in used_plugins(config)}
    files: dict[str, str] = {}
    for spec in specs.values():
        file = spec.as_dict()["weights"] if spec.kind == "backbones" else None
        if file is not None:
            files[f"{file} of {spec.name}"] = weights.identity(registry.find_plugin(spec.kind, spec.name), file)
    return {**code_of(run, *registry.sources(*specs.values())).key, "weights": files}


def used_plugins(config: TrialConfig) -> list[PluginSpec]:
    """The plugins of a trial; a selector that has no round to select in is none of them."""
    return [spec for spec in plugins_in(config) if config.labels.budgets or spec is not config.selector]
