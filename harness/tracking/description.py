"""What MLflow is told of a sweep and its trials beside their curves: names, tags, parameters, data sets, a note."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.config.schema import flatten
from harness.messages import as_markdown, printable
from harness.records import rows
from harness.records.names import SLOTS, run_name, varied, what_differs
from harness.records.rows import History
from harness.tracking.experiment import folder_or_name
from harness.tracking.links import DIFFERS, view_tag

READING = """\
Each trial is a run below this one, named by what differs. Steps are numbers of labels, so that the charts of \
`val/...` and `test/...` are learning curves; those of `pretrain/...`, `throughput/...`, `classifier/...` and \
`joint/val_accuracy` have epochs. Group the runs by the tag `differs` to see means over seeds \
(numbers in it have three digits; by `configuration` where settings differ by less), and take only runs with \
`phase = confirm` for comparisons: the others are a search, in which the best looks better than it is. \
Whether a difference is more than luck stands in `report.html` or `summary.md`, under Artifacts."""


class SweepDescription:
    """Says of a sweep and its trials what its folder knows.

    Args:
        folder: the sweep's.
        environment: the content of `environment.json`.

    Attributes:
        space: the content of `space.yaml`.
        started: when the sweep began, in unix milliseconds; None where that is not known.
    """

    def __init__(self, folder: Path, environment: Mapping[str, Any]):
        self.space = rows.mapping(folder / "space.yaml")
        self.started = _milliseconds(environment.get("started"))
        self._folder = folder
        self._environment = _sendable(environment)
        self._varied = varied(self.space)
        self._last_config: tuple[bytes, dict[str, Any]] = b"", {}

    def sweep_tags(self) -> dict[str, Any]:
        """Of the sweep's run, but for its `note`."""
        return self._common_tags() | {"kind": "sweep", "method": self.space.get("method")}

    def sweep_parameters(self) -> dict[str, str]:
        """What all trials have in common, but for what may grow: MLflow changes no parameter."""
        parameters = parameters_of({"trial": self.space.get("trial", {})})
        return {
            name: value
            for name, value in parameters.items()
            if name not in ("trial.labels.rounds", "trial.labels.budget")
        }

    def note(self, answer: str | None) -> dict[str, str]:
        """The description of the sweep's run: the question, the answer, and how to read the charts."""
        said = {"Question": self.space["description"], "Answer": answer}
        parts = {title: as_markdown(text, code=True) for title, text in said.items() if text}
        parts["How to read this"] = READING
        return {"mlflow.note.content": "\n\n".join(f"**{title}.** {text}" for title, text in parts.items())}

    def experiment_tag(self) -> tuple[str, str]:
        """What the experiment keeps for the address of its charts."""
        return view_tag(self.space)

    def data_sets(self) -> list[Mapping[str, Any]]:
        """What the sweep ran on: one data set, or several, or one in several splits."""
        return self._environment["datasets"]

    def trial_name(self, history: History, config: Mapping[str, Any]) -> str:
        """What differs from other trials, then the seed."""
        return printable(run_name(next(iter(history.values())), config, self._varied))

    def trial_tags(self, trial: str, history: History, config: Mapping[str, Any]) -> dict[str, Any]:
        """Of a trial's run before it has ended."""
        environment, first = self._environment, next(iter(history.values()))
        sections: dict[str, str | None] = {"dataset": folder_or_name(self.data_sets()[0])}
        sections |= {section: _name(config[section]) for section in SLOTS if section in config}
        return self._common_tags() | sections | {
            "kind": "trial",
            "trial_id": trial,
            "configuration": first["configuration"],
            DIFFERS: what_differs(first, config, self._varied),
            "phase": first["phase"],
            "seed": first["seed"],
            "device": next(iter(environment.get("gpus", [])), None) or environment.get("device", "cpu"),
        }  # fmt: skip

    def trial_parameters(self, history: History, config: Mapping[str, Any]) -> dict[str, str]:
        """A trial's configuration, or where that is lost the parameters of its records, and its seed."""
        first = next(iter(history.values()))
        return parameters_of(config or first["parameters"]) | {"seed": str(first["seed"])}

    def data_sets_of(self, config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The trial's data set; none where the name alone does not tell which split it had."""
        of_that_name = [data for data in self.data_sets() if data["name"] == _name(config.get("dataset"))]
        return of_that_name if len(of_that_name) == 1 else []

    def config(self, trial: str) -> dict[str, Any]:
        """The content of a trial's `config.yaml`; nothing where that is lost."""
        path = self._folder / "trials" / trial / "config.yaml"
        if not path.exists():
            return {}
        content = path.read_bytes()
        if content != self._last_config[0]:  # seeds of one configuration follow each other, and YAML is slow to read
            try:
                self._last_config = content, rows.mapping(path)
            except ValueError:  # the record's parameters then say what the trial was
                return {}
        return self._last_config[1]

    def _common_tags(self) -> dict[str, Any]:
        environment = self._environment
        commit = environment.get("commit")
        return {
            "sweep_id": environment["sweep_id"],
            "sweep": self.space.get("name"),
            "commit": f"{commit}-dirty" if commit and environment.get("dirty") else commit,
            "host": environment.get("hostname"),
            "versions": self._versions(),
            "mlflow.source.git.commit": commit,
            "mlflow.source.name": environment.get("command"),
        }

    def _versions(self) -> str:
        python, packages = self._environment.get("python"), self._environment.get("packages", {})
        return ", ".join(f"{name} {version}" for name, version in ({"python": python} | packages).items())


def parameters_of(tree: Mapping[str, Any]) -> dict[str, str]:
    """Leaves as text by dotted path; a list is one leaf."""
    flat = _sendable(flatten(tree))
    return {path: value if isinstance(value, str) else json.dumps(value) for path, value in flat.items()}


def _sendable(value: Any) -> Any:
    """The same, with signs for what no server takes: a path may have bytes that are no UTF-8."""
    if isinstance(value, Mapping):
        return {key: _sendable(one) for key, one in value.items()}
    if isinstance(value, list):
        return list(map(_sendable, value))
    return printable(value) if isinstance(value, str) else value


def _name(plugin: Any) -> str | None:
    """The name in `selector: coreset` as in `selector: {name: coreset}`."""
    return plugin.get("name") if isinstance(plugin, Mapping) else plugin


def _milliseconds(started: Any) -> int | None:
    """Unix milliseconds of an ISO 8601 time; None (MLflow then takes the present) where there is none."""
    try:
        return int(datetime.fromisoformat(started).timestamp() * 1000)
    except (TypeError, ValueError):
        return None
