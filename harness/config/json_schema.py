"""The dialect of search spaces as a JSON schema, from the dataclasses that read it, so that editors complete it."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from harness.config import plan, recipes, space
from harness.config.schema import as_dict
from harness.config.trial import ClassifierConfig, TeacherConfig, TrialConfig
from harness.plugins import registry
from harness.plugins.registry import PluginSpec

Schema = dict[str, Any]
PLAIN: dict[Any, Schema] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    str: {"type": "string"},
    Path: {"type": "string"},
    dict: {"type": "object"},
    type(None): {"type": "null"},
    None: {"type": "null"},
}


def schema() -> Schema:
    """The schema of a search-space file, draft 7; plugins are those that are installed here and can be used."""
    definitions: dict[str, Schema] = {kind: _plugin(kind) for kind in registry.CONTRACTS}
    top = _section(plan.SweepSettings, definitions)
    trial = {"$ref": f"#/definitions/{TrialConfig.__name__}"}
    _section(TrialConfig, definitions)
    definitions |= {"parameter": _parameter(), "settings": _by_path({}), "parameters": _by_path(_ref("parameter"))}
    sections: dict[str, Schema] = {
        "recipes": {"type": ["object", "null"], "additionalProperties": trial},
        "trial": trial,
        "cases": {"type": ["object", "null"], "additionalProperties": _ref("settings")},
        "parameters": {"anyOf": [_ref("parameters"), {"type": "null"}]},
    }
    top["properties"] |= {key: _about(sections[key], help) for key, help in plan.QUESTION_SECTIONS.items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "selbench search space",
        **top,
        "definitions": definitions,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _about(value: Schema, help: str | None) -> Schema:
    """A schema with a description; beside a reference draft 7 reads nothing."""
    about = {"description": help} if help else {}
    return {"allOf": [value], **about} if "$ref" in value else {**value, **about}


def _section(cls: Any, definitions: dict[str, Schema]) -> Schema:
    """A dataclass as an object of its fields; those that it holds are added to the definitions, and it is, too."""
    hints = typing.get_type_hints(cls)
    section: Schema = {"type": ["object", "null"], "description": (inspect.getdoc(cls) or "").partition("\n")[0]}
    section |= {"properties": {}, "additionalProperties": False}
    for item in dataclasses.fields(cls):
        value = _about(_value(hints[item.name], item.metadata, definitions), item.metadata.get("help"))
        if item.default in (..., dataclasses.MISSING):
            section.setdefault("required", []).append(item.name)
        elif not dataclasses.is_dataclass(item.default) or isinstance(item.default, PluginSpec):
            value["default"] = item.default.name if isinstance(item.default, PluginSpec) else as_dict(item.default)
        section["properties"][item.name] = value
    if cls is TrialConfig:
        _shorthand(section["properties"])
    if cls is TeacherConfig:
        section["properties"]["classifier"] = _about(_head(), None)
    definitions[cls.__name__] = section
    return section


def _shorthand(properties: dict[str, Schema]) -> None:
    """What a trial may write beside its keys: a recipe, a classifier's name alone, several classifiers."""
    one = _head()
    properties["classifier"] = _about({"anyOf": [*one["anyOf"], {"type": "array", "items": one, "minItems": 1}]}, None)
    properties["beside"]["anyOf"] = [{"type": "array", "items": one}, _ref(ClassifierConfig.__name__)]
    known = [entry["name"] for entry in recipes.describe_recipes()]
    files = {"type": "string", "pattern": r"\.ya?ml(/|$)"}
    own = {"type": "string", "description": "of `recipes` of this file"}
    properties["recipe"] = {"anyOf": [{"enum": known}, files, own, {"type": "null"}], "description": "settings below"}


def _head() -> Schema:
    """A classifier, or its name alone."""
    names = {"enum": list(typing.get_args(typing.get_type_hints(ClassifierConfig)["name"]))}
    return {"anyOf": [names, _ref(ClassifierConfig.__name__)]}


def _value(hint: Any, metadata: Mapping[str, Any], definitions: dict[str, Schema]) -> Schema:
    """What may stand at a key of this type and range."""
    if hint is PluginSpec:
        return _ref(metadata["kind"])
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        _section(hint, definitions)
        return _ref(hint.__name__)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return {"enum": list(inner)}
    if isinstance(hint, types.UnionType) or origin is typing.Union:
        return {"anyOf": [_value(option, metadata, definitions) for option in inner]}
    if origin in (tuple, list):
        kinds = [_value(one, metadata, definitions) for one in dict.fromkeys(inner) if one is not Ellipsis]
        item = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        listed = {"type": "array", "items": item}
        return {"anyOf": [listed, item]} if dataclasses.is_dataclass(inner[0]) else listed
    if metadata.get("auto"):
        number = _value(hint, {**metadata, "auto": False}, definitions)
        return {"anyOf": [number, {"const": "auto"}]}
    limits = {"low": "minimum", "high": "maximum", "above": "exclusiveMinimum"}
    ranged = {word: metadata[key] for key, word in limits.items() if metadata.get(key) is not None}
    return {**PLAIN.get(hint, {}), **(ranged if hint in (int, float) else {})}


def _plugin(kind: str) -> Schema:
    """A plugin of a kind: its name, a mapping with its name and hyper-parameters, or these alone, of the default."""
    everything: dict[str, Schema] = {}
    named: list[Schema] = []
    elsewhere = {"type": "string", "pattern": "^[^/]+/.+|:"}  # a member of a family, or `module:Class`
    usable = [entry for entry in registry.describe_plugins() if entry["kind"] == kind and "error" not in entry]
    families = [entry for entry in usable if entry["name"].endswith("<name>")]
    for entry in usable:
        if entry in families:
            continue
        cls = registry.find_plugin(kind, entry["name"])
        own = {key: _hyperparameter(cls, key, default) for key, default in entry["hyperparameters"].items()}
        everything |= {key: {} for key in own}
        name = {"const": entry["name"], "description": entry["summary"]}
        named.append(_mapping({"name": name, **own}, ["name"]))
    everything |= {key: {} for entry in families for key in entry["hyperparameters"]}
    names = [option["properties"]["name"]["const"] for option in named]
    other = {"type": "object", "properties": {"name": elsewhere}, "required": ["name"]}
    return {"anyOf": [{"enum": names}, elsewhere, *named, other, _mapping(everything, [])]}


def _mapping(properties: dict[str, Schema], required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _hyperparameter(cls: type, name: str, default: Any) -> Schema:
    hint = registry.hints(cls).get(name, Any)
    nested = registry.nested_kind(hint)
    if nested and registry.takes_list(hint):
        several = {"type": "array", "items": _ref(nested)}
        others = [_ref(nested)] if registry.takes_one(hint) else []
        others += [PLAIN[type(None)]] if type(None) in typing.get_args(hint) else []
        return {**({"anyOf": [several, *others]} if others else several), "default": default}
    return {**(_about(_ref(nested), None) if nested else _value(hint, {}, {})), "default": default}


def _parameter() -> Schema:
    """One thing that varies."""
    values: dict[str, Schema] = {
        "values": {"type": "array", "minItems": 1},
        "value": {},
        "distribution": {"enum": list(space.DISTRIBUTIONS)},
        "min": PLAIN[float],
        "max": PLAIN[float],
        "q": PLAIN[float],
        "when": {"type": "object"},
    }
    return _mapping({key: _about(values[key], help) for key, help in space.PARAMETER_KEYS.items()}, [])


def _by_path(value: Schema) -> Schema:
    """A mapping from dotted paths below the trial; below a plugin its own hyper-parameters say what there is."""
    paths = dict.fromkeys(_paths(TrialConfig), value) | {space.RECIPE: value}
    plugins = "|".join(path.replace(".", r"\.") for path in _paths(TrialConfig, plugins=True))
    below = {rf"^({plugins})\.[^.]+(\..+)?$": value}
    return {"type": "object", "properties": paths, "patternProperties": below, "additionalProperties": False}


def _paths(cls: Any, prefix: str = "", *, plugins: bool = False) -> Iterator[str]:
    """The dotted paths of all keys below a section, or of those that name a plugin."""
    hints = typing.get_type_hints(cls)
    for item in dataclasses.fields(cls):
        path, hint = f"{prefix}{item.name}", hints[item.name]
        if not plugins or hint is PluginSpec:
            yield path
        for option in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(option) and option is not PluginSpec and typing.get_origin(hint) is not tuple:
                yield from _paths(option, f"{path}.", plugins=plugins)
