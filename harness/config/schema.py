"""Plain mappings become frozen dataclasses, and every mistake is found at once.

A dataclass is its own schema: its fields are the keys of the YAML, their annotations the types, their metadata
(`setting`, `plugin`) the meaning and the range. `parse` walks it and collects problems instead of stopping at the
first; `as_dict` goes the other way.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, TypeVar

from harness.config.conversion import NOT_ONE, convert, to_number
from harness.messages import closest, cut
from harness.plain_yaml import parse_yaml, to_yaml
from harness.plugins import registry
from harness.plugins.registry import PluginSpec


class ConfigError(ValueError):
    """Everything that is wrong with a configuration: one line each, with its place."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


class Problems:
    """Collects what is wrong and where, under the file's name."""

    def __init__(self, file: str = ""):
        self.file = file
        self.found: list[str] = []

    def add(self, path: str, message: str) -> None:
        """Notes one problem at a dotted path."""
        line = ": ".join(part for part in (self.file, path, message) if part)
        if line not in self.found:
            self.found.append(line)

    def raise_any(self) -> None:
        """Raises ConfigError if anything was noted."""
        if self.found:
            raise ConfigError(self.found)


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    auto: bool = False,
) -> Any:
    """A dataclass field with its meaning and range: low <= value <= high, value > above.

    With `auto` the text `auto` may stand for a number, which takes its place before anything computes with it.
    """
    return field(default=default, metadata={"help": help, "low": low, "high": high, "above": above, "auto": auto})


def plugin(kind: str, default: str, help: str) -> Any:
    """A dataclass field that names a plugin."""
    return field(default=PluginSpec(kind, default), metadata={"help": help, "kind": kind})


T = TypeVar("T")


def parse(cls: type[T] | Any, value: Any, path: str, problems: Problems, *, beside: tuple[str, ...] = ()) -> T | None:
    """Builds a frozen dataclass from a mapping; a value with a problem leaves its default, so that checks can go on.

    Args:
        cls: the dataclass.
        value: the mapping; None is an empty one.
        path: its place, for messages.
        problems: notes what is wrong.
        beside: further keys that the caller has understood and taken out; messages name them among the valid ones.

    Returns:
        None, and noted problems, where there is no mapping or no valid value of a key without a default.
    """
    known = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if value is None:
        value = {}
    if not isinstance(value, Mapping):
        problems.add(path, f"expected a mapping with keys {', '.join(known)}, not {value!r}")
        return None
    hints = _hints(cls)  # type: ignore[arg-type]
    chosen, so_far = {}, len(problems.found)
    for key, item in value.items():
        place = f"{path}.{key}" if path else str(key)
        if key not in known:
            problems.add(place, f"no such key; {closest(key, [*known, *beside])}")
        else:
            before = len(problems.found)
            converted = parse_value(hints[key], item, place, problems, known[key])
            if len(problems.found) == before:
                chosen[key] = converted
    required = [
        n
        for n, f in known.items()
        if f.default in (..., dataclasses.MISSING) and f.default_factory is dataclasses.MISSING
    ]
    for key in required:
        if key not in value:
            problems.add(path, f"needs {key!r}")
    try:
        return cls(**chosen) if chosen.keys() >= set(required) else None
    except ValueError as error:  # values that no range describes
        if len(problems.found) == so_far:  # else of the default of a key that was misread, perhaps
            problems.add(path, str(error))
        return None


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def parse_value(hint: Any, value: Any, path: str, problems: Problems, about: dataclasses.Field | None = None) -> Any:
    """Checks one value against its annotation and range; returns it converted, or None with a problem noted."""
    metadata = about.metadata if about else {}
    if hint is PluginSpec:
        default = about.default.name if about and isinstance(about.default, PluginSpec) else None
        return parse_plugin(metadata["kind"], value, path, problems, default)
    if dataclasses.is_dataclass(hint):
        return parse(hint, value, path, problems)
    options = (
        typing.get_args(hint)
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        else (hint,)
    )
    if metadata.get("auto"):
        options = (*options, Literal["auto"])
    if typing.get_origin(hint) is tuple and dataclasses.is_dataclass(typing.get_args(hint)[0]):
        section: Any = typing.get_args(hint)[0]
        if not isinstance(value, list | tuple):  # one mapping stands for a list of one
            return (parse(section, value, path, problems),)
        return tuple(parse(section, item, f"{path}[{place}]", problems) for place, item in enumerate(value))
    sections = [option for option in options if dataclasses.is_dataclass(option)]
    if sections and isinstance(value, Mapping):
        return (
            _parse_section(sections, value, path, problems)
            if len(sections) > 1
            else parse(sections[0], value, path, problems)
        )
    for option in options:
        converted = convert(option, value)
        if converted is not NOT_ONE:
            _check_range(converted, path, problems, metadata)
            return converted
    problems.add(path, f"expected {_say(options)}, not {value!r}{_hint(options, value)}")
    return None


def _parse_section(sections: list[Any], value: Mapping[str, Any], path: str, problems: Problems) -> Any:
    """A mapping that can be one of several dataclasses, told apart by their `kind`."""
    kinds = {typing.get_args(typing.get_type_hints(section)["kind"])[0]: section for section in sections}
    if value.get("kind") not in list(kinds):  # a list, because the value may not be hashable
        problems.add(
            f"{path}.kind",
            f"{value.get('kind')!r} is not one of {', '.join(kinds)}; {closest(value.get('kind'), kinds)}",
        )
        return None
    return parse(kinds[value["kind"]], value, path, problems)


def _check_range(value: Any, path: str, problems: Problems, metadata: Mapping[str, Any]) -> None:
    if isinstance(value, tuple):
        for position, item in enumerate(value):
            _check_range(item, f"{path}[{position}]", problems, metadata)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    low, high, above = (metadata.get(key) for key in ("low", "high", "above"))
    if low is not None and value < low:
        problems.add(path, f"{value} is below the smallest valid value {low}")
    if above is not None and value <= above:
        problems.add(path, f"{value} must be above {above}")
    if high is not None and value > high:
        problems.add(path, f"{value} is above the largest valid value {high}")


def _say(options: tuple[Any, ...]) -> str:
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        type(None): "null",
        Path: "a path",
    }
    parts = []
    for option in options:
        if typing.get_origin(option) is Literal:
            parts.append(" | ".join(str(choice) for choice in typing.get_args(option)))
        elif dataclasses.is_dataclass(option):
            parts.append(f"a mapping of {', '.join(item.name for item in dataclasses.fields(option))}")
        else:
            parts.append(words.get(option) or ("a list" if registry.takes_list(option) else "a mapping"))
    return " or ".join(parts)


READ_AS = {
    bool: "YAML reads yes, no, on, off, true and false as true or false",
    float: "YAML reads 1.0, 1e3 and .inf as numbers",
    type(None): "YAML reads null, ~ and nothing at all as null",
}
"""Type -> what a text without quotes looks like that is read as a value of it."""


def _hint(options: tuple[Any, ...], value: Any) -> str:
    choices = [c for option in options if typing.get_origin(option) is Literal for c in typing.get_args(option)]
    if isinstance(value, str) and {int, float}.intersection(options) and _is_number(value):
        return "; leave out the quotes"
    items = value if isinstance(value, list) else [value]
    unquoted = [item for item in items if item is None or isinstance(item, bool | float)]
    if unquoted and _has_texts(options):  # how it was written nobody knows any more
        return f"; if a text is meant, put it in quotes, letter for letter ({READ_AS[type(unquoted[0])]})"
    return f"; {closest(value, choices)}" if choices and isinstance(value, str) else ""


def _has_texts(options: tuple[Any, ...]) -> bool:
    """Whether a text, or a list of texts, is among these types."""
    return any(option is str or _has_texts(typing.get_args(option)) for option in options)


def _is_number(text: str) -> bool:
    try:
        return to_number(float, parse_yaml(text)) is not NOT_ONE
    except ValueError:
        return False


def parse_plugin(kind: str, value: Any, path: str, problems: Problems, default: str | None = None) -> PluginSpec | None:
    """A plugin's name or mapping as a PluginSpec, with its name, its hyper-parameters and their types checked.

    A mapping without a name keeps the default plugin.
    """
    if isinstance(value, PluginSpec):
        return value
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        problems.add(path, f"expected a {kind[:-1]}'s name or a mapping with its name, not {value!r}")
        return None
    name = value.get("name", default)
    if not isinstance(name, str):
        problems.add(path, f"needs the name of a {kind[:-1]}; {closest(name, registry.plugin_names(kind))}")
        return None
    try:
        cls = registry.find_plugin(kind, name)
    except ValueError as error:
        problems.add(path, str(error))
        return None
    known, hints = registry.defaults(cls), registry.hints(cls)
    chosen: dict[str, Any] = {}
    for key, item in value.items():
        place = f"{path}.{key}"
        if key == "name":
            continue
        if key not in known:
            problems.add(place, f"{name} has no hyper-parameter {key!r}; {closest(key, known)}")
            continue
        hint = hints.get(key, Any)
        nested = registry.nested_kind(hint)
        if nested and registry.takes_list(hint) and isinstance(item, list | tuple):
            chosen[key] = tuple(parse_plugin(nested, one, f"{place}[{n}]", problems) for n, one in enumerate(item))
        elif nested and isinstance(item, str | Mapping) and registry.takes_one(hint):
            chosen[key] = parse_plugin(nested, item, place, problems)
        else:
            chosen[key] = parse_value(hint, item, place, problems)
    return PluginSpec(kind, name, chosen)


def as_dict(config: Any) -> Any:
    """The canonical plain form of a configuration: every key present, ready for YAML or JSON."""
    if isinstance(config, PluginSpec):
        return config.as_dict()
    if dataclasses.is_dataclass(config):
        return {item.name: as_dict(getattr(config, item.name)) for item in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {key: as_dict(item) for key, item in config.items()}
    if isinstance(config, list | tuple):
        return [as_dict(item) for item in config]
    return str(config) if isinstance(config, Path) else config


def plugins_in(config: Any) -> Iterator[PluginSpec]:
    """Every plugin that a configuration names, in the order of its keys."""
    if isinstance(config, PluginSpec):
        yield config
    elif dataclasses.is_dataclass(config):
        for item in dataclasses.fields(config):
            yield from plugins_in(getattr(config, item.name))
    elif isinstance(config, list | tuple):
        for item in config:
            yield from plugins_in(item)


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with dotted keys; an empty one has none."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flat |= flatten(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def by_path(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves by path, so that `selector: coreset`, `selector.name: coreset` and `selector: {name: coreset}` agree."""
    return {path.removesuffix(".name"): value for path, value in flatten(tree).items()}


def lies_in(path: str, section: str) -> bool:
    """Whether a dotted path is this one, or lies below it."""
    return f"{path}.".startswith(f"{section}.")


def set_path(tree: dict[str, Any], path: str, value: Any) -> None:
    """Sets a dotted path in nested mappings; a plugin's shorthand on the way becomes its mapping.

    A key that is itself a dotted path, as in `parameters:`, is found under its whole name.

    Raises:
        ConfigError: a list or a number is on the way.
    """
    rest = path
    while True:
        dotted = (key for key in tree if isinstance(key, str) and "." in key and lies_in(rest, key))
        key = next(dotted, rest.partition(".")[0])
        rest = rest[len(key) + 1 :]
        if not rest:
            tree[key] = value
            return
        below = tree.get(key)
        if isinstance(below, str):
            below = {"name": below}
        if not isinstance(below, Mapping | None):
            shown = cut(repr(below), SHOWN)
            raise ConfigError([f"{path}: {key} is {shown}, which has nothing below; set all of it"])
        tree[key] = dict(below or {})
        tree = tree[key]


SHOWN = 60
"""So many characters of a value are shown."""


def read_yaml(file: Path) -> Any:
    """A YAML file's content, read safely: mappings with text keys, lists, texts, numbers, true, false and null.

    Raises:
        ConfigError: the file is missing, unreadable, not YAML or more than that.
    """
    try:
        with file.open(encoding="utf-8") as stream:
            text = stream.read(MAX_CHARACTERS + 1)
        if len(text) > MAX_CHARACTERS:
            raise ConfigError([f"{file}: longer than {MAX_CHARACTERS:,} characters; is this the right file?"])
        content = parse_yaml(text)
    except ConfigError:
        raise
    except FileNotFoundError:
        near = (
            closest(file.name, [p.name for p in file.parent.glob("*.yaml")])
            if file.parent.is_dir()
            else "no such folder"
        )
        raise ConfigError([f"{file}: no such file; {near}"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: cannot be read: {error}"]) from None
    except ValueError as error:
        raise ConfigError([f"{file}: {error}"]) from None
    return content


MAX_CHARACTERS = 500_000
"""Of a YAML file: PyYAML reads some 50,000 a second."""


def plain(content: Any) -> Any:
    """A copy of what a program wrote, as a YAML file would hold it.

    Raises:
        ConfigError: no YAML file could hold it.
    """
    try:
        return parse_yaml(to_yaml(content))
    except ValueError as error:
        raise ConfigError([str(error)]) from None


def content_of(source: Path | Mapping[str, Any]) -> tuple[Any, str]:
    """What a YAML file holds, or a copy of a mapping that could stand in one; and its name for messages.

    Raises:
        ConfigError: the file cannot be read, or there is more than plain values.
    """
    return (read_yaml(source), str(source)) if isinstance(source, Path) else (plain(source), "")


def parse_overrides(given: list[str]) -> dict[str, Any]:
    """The `PATH=VALUE` settings of a command line, the value read as YAML, as dotted path -> value.

    Raises:
        ConfigError: one is not of that form.
    """
    overrides: dict[str, Any] = {}
    for override in given:
        path, equals, value = override.partition("=")
        if not equals or not path:
            raise ConfigError([f"--set {override}: expected PATH=VALUE, such as trial.pretrain.epochs=5"])
        overrides.pop(path, None)  # the last of two counts, and counts last
        try:
            overrides[path] = parse_yaml(value)
        except ValueError as error:
            raise ConfigError([f"--set {override}: {error}"]) from None
    return overrides
