"""What the command line of a sweep says beside its question: where and how it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness.config.schema import ConfigError
from harness.files import CACHE, RESULTS, STAGES
from harness.messages import public
from harness.records.mirror import local_folder
from harness.tracking.loggers import find_logger
from harness.tracking.server import tracking_uri
from harness.trial.run import Folders


@dataclass(frozen=True)
class Options:
    """Where and how a plan is run; nothing of it changes a result.

    Attributes:
        results: folder of sweeps, or a place in an object store: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX.
        stages: folder of the results of stages.
        cache: folder of decoded data sets.
        resume: whether a sweep of the same name is continued: one that was interrupted, or whose question grew.
        quiet: whether nothing is shown but what is wrong.
        address: of a Ray cluster to run on, `auto` or HOST:PORT; None: this machine.
        tracking_uri: of MLflow; None: MLFLOW_TRACKING_URI, else a SQLite file in the results.
        command: what was typed or called, for the records.
        loggers: what listens beside MLflow, by name or as `module:Class`.
    """

    results: str = str(RESULTS)
    stages: Path = STAGES
    cache: Path = CACHE
    resume: bool = False
    quiet: bool = False
    address: str | None = None
    tracking_uri: str | None = None
    command: str = "harness.run_sweep"
    loggers: tuple[str, ...] = ()

    @property
    def folders(self) -> Folders:
        """The caches, absolute."""
        return Folders(self.cache.resolve(), self.stages.resolve())

    def places_of(self, name: str) -> tuple[Path, str]:
        """The folder of a sweep of this name, and the URI of MLflow: after a look at all options, which opens nothing.

        Raises:
            ConfigError, ValueError: one of them cannot be.
        """
        if self.address:
            host_and_port(self.address)
        results = local_folder(self.results)
        uri = tracking_uri(self.tracking_uri, results)
        check_places(results / name, self.stages, self.cache)
        for logger in self.loggers:
            find_logger(logger)
        return results / name, uri


def host_and_port(address: str) -> tuple[str, int] | None:
    """Where the head of a cluster is; None of `auto`.

    Raises:
        ConfigError: an address has another form.
    """
    place = f"--address {public(re.sub('(?s).*(@|%40)', '***@', address))}"
    if address == "auto":
        return None
    if address.startswith("ray://"):
        raise ConfigError([f"{place}: run the sweep on a node of the cluster, with `--address auto`"])
    match = re.fullmatch(r"([^\s:/@%]+|\[[0-9a-fA-F:]+\]):(\d{1,5})", address)
    if not match:
        raise ConfigError([f"{place}: expected auto or HOST:PORT, such as 10.0.0.1:6379, as `ray start --head` shows"])
    return match[1].strip("[]"), int(match[2])


def check_places(folder: Path, stages: Path, cache: Path) -> None:
    """Whether what may be deleted at any time and the sweep's folder lie apart, and all can be folders.

    Raises:
        ConfigError: one lies in the other, or a file is where a folder should be.
    """
    own, problems, apart = folder.resolve(), [], {"--stages": stages, "--cache": cache}
    for option, place in apart.items():
        if place.resolve().is_relative_to(own):
            problems.append(f"{option} {place} is the sweep's own folder, {folder}, or in it")
        elif own.is_relative_to(place.resolve()):
            problems.append(f"{option} {place} may be deleted at any time, and the sweep's folder, {folder}, is in it")
    for option, place in (apart | {"--results": folder}).items():
        problems += [
            f"{option} {place}: {above} is a file, not a folder" for above in (place, *place.parents) if above.is_file()
        ]
    if problems:
        raise ConfigError(problems)
