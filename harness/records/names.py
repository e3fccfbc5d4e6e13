"""What people call a configuration or a trial: what differs, in few words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from harness.config.trial import TrialConfig
from harness.messages import cut
from harness.records.rows import Record

SLOTS = frozenset(item.name for item in fields(TrialConfig) if hasattr(item.default, "name"))
"""The keys of a trial whose value has a name: `selector`, `ssl_method`, `classifier`, ... The name says it all."""


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Names a person can read for dotted paths: the last part, or the whole path where that would be ambiguous.

    `selector.name` is `selector`.
    """
    whole = {path: path.removesuffix(".name").removeprefix("trial.") for path in paths}
    ends = [path.rpartition(".")[2] for path in whole.values()]
    return {path: end if ends.count(end) == 1 else whole[path] for (path, end) in zip(whole, ends, strict=True)}


DIGITS, EXACT = 3, 17
"""Of a number in a name; so many that no two numbers look alike."""


def show_value(value: Any, digits: int = DIGITS) -> str:
    """A parameter's value in a few characters: `0.2`, `moco_v2`, `moco_v2 queue_size 4096`."""
    if isinstance(value, dict):
        rest = {key: item for key, item in value.items() if key != "name"}
        head = [str(value["name"])] if "name" in value else []
        return " ".join(head + [f"{key} {show_value(item, digits)}" for key, item in rest.items()])
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, list | tuple):
        return "+".join(show_value(item, digits) for item in value)
    return str(value)


def show_choice(path: str, value: Any, digits: int = DIGITS) -> str:
    """The value of a parameter that has a name, such as a selector's: that name; no method is no pre-training."""
    shown = show_value(value, digits)
    return "no pre-training" if path.removesuffix(".name") == "ssl_method" and shown == "none" else shown


def called(data: Mapping[str, Any]) -> str:
    """A data set by its name and, where it has one, its folder: `image_folder my/photos`."""
    return " ".join(filter(None, (data["name"], data.get("path"))))


def name_of_trial(trial: Mapping[str, Any]) -> str:
    """What people call the only configuration of a sweep that varies nothing: `simclr`, or `simclr · margin`."""
    rounds = (trial.get("labels") or {}).get("budget")
    slots = [slot for slot in ("ssl_method", *(["selector"] if rounds else [])) if trial.get(slot)]
    chosen = [trial[slot] for slot in slots]
    names = [one.get("name", "") if isinstance(one, Mapping) else one for one in chosen]
    return " · ".join(show_choice(slot, name) for slot, name in zip(slots, names, strict=True)) or "the trial as given"


def name_configurations(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """A name for people for each of several configurations: the parameters in which they differ, or all of them.

    No two have one name: numbers have as many digits as that takes.

    Args:
        parameters: configuration -> value by dotted path.

    Returns:
        Configuration -> such as `coreset · temperature 0.2`; of one without parameters the configuration itself.
    """
    paths = list(dict.fromkeys(path for one in parameters.values() for path in one))
    differing = [p for p in paths if len({show_value(one.get(p, ""), EXACT) for one in parameters.values()}) > 1]
    names: dict[str, str] = {}
    for digits in range(DIGITS, EXACT + 1):
        names = {key: _name(one, differing, digits) or key for key, one in parameters.items()}
        if len(set(names.values())) == len(names):
            return names
    taken = Counter(names.values())  # values that look alike and are not, such as 1 and "1"
    return {key: f"{name} ({key})" if taken[name] > 1 else name for key, name in names.items()}


def _name(parameters: Mapping[str, Any], differing: Sequence[str], digits: int) -> str:
    """The name of one of several configurations, with numbers of so many digits."""
    shown = [path for path in differing if path in parameters] or list(parameters)
    short = short_names(dict.fromkeys([*differing, *shown]))
    slots = {path for path in shown if path.removesuffix(".name") in SLOTS}
    values = {path: parameters[path] for path in shown}
    return " · ".join(
        show_choice(path, value, digits) if path in slots else f"{short[path]} {show_value(value, digits)}"
        for path, value in values.items()
    )


def label(parameters: Mapping[str, Any]) -> str:
    """Parameters in a few words: `first crop, second blur, temperature 0.2`."""
    names = short_names(parameters)
    return ", ".join(f"{names[path]} {show_value(value)}" for path, value in parameters.items()) or "(no parameters)"


ABBREVIATIONS = {"temperature": "tau"}
"""Of parameters, in the names of runs."""


def varied(space: Mapping[str, Any]) -> set[str]:
    """The parameters in which a sweep's trials may differ, of the content of `space.yaml`."""
    parameters = space.get("parameters") or {}
    paths = {path for path, about in parameters.items() if len(about.get("values", "range")) > 1}
    if len(space.get("cases") or ()) > 1:
        paths.add("case")
    references = (space.get("confirm") or {}).get("references") or []
    return paths.union(*references)


def run_name(record: Record, config: Mapping[str, Any], varied: Collection[str] | None = None) -> str:
    """What differs, then the seed: `coreset · simclr tau 0.2 · seed 1`; arguments as of `what_differs`."""
    return f"{what_differs(record, config, varied)} · seed {record['seed']}"


def what_differs(record: Record, config: Mapping[str, Any], varied: Collection[str] | None = None) -> str:
    """What differs between the configurations of a sweep: `coreset · simclr tau 0.2`.

    Args:
        record: one of the trial's.
        config: the trial's configuration; names method and selector where nothing differs.
        varied: the parameters that differ; None: all of the record's.
    """
    given = record["parameters"]
    parameters = {path: value for path, value in given.items() if varied is None or path in varied}
    parameters = parameters or {slot: config[slot] for slot in ("ssl_method", "selector") if slot in config}
    short = short_names(parameters)
    parts: dict[str, list[str]] = {}
    for path, value in parameters.items():
        section = path.partition(".")[0]
        plugin = path.removesuffix(".name") in SLOTS or (isinstance(value, Mapping) and "name" in value)
        name = ABBREVIATIONS.get(short[path], short[path])
        text = show_choice(path, value)
        if plugin and path.removesuffix(".name") == section:
            parts.setdefault(section, []).insert(0, text)
        elif plugin or path in ("case", "recipe"):
            parts[path] = [text]
        else:
            named = section in parameters or f"{section}.name" in parameters
            parts.setdefault(section if named else path, []).append(f"{name} {text}")
    return cut(" · ".join(" ".join(words) for words in parts.values()), 230)
