"""From a plugin's name to its class: built-ins, entry points, `module:Class`.

A plugin is named in a configuration by its name (`coreset`), by a mapping (`{name: coreset, ...}`) or by
`module:Class`. Third parties publish theirs under the entry-point groups `selbench.<kind>`.

A name that ends in `/` is that of a `Family`: `torchvision/` offers `torchvision/resnet50` and many more.

Beside its own hyper-parameters a plugin has those of its kind, such as `weights` and `freeze` of every backbone:
`harness/plugins/shared.py`.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

from baselines import BUILTINS
from harness import api, code
from harness.messages import cause_of, closest
from harness.plugins.shared import own_defaults, preparation

CONTRACTS: dict[str, type] = {
    "datasets": api.Dataset,
    "augmentations": api.Augmentation,
    "backbones": api.Backbone,
    "ssl_methods": api.SSLMethod,
    "selectors": api.Selector,
}
"""Each kind of plugin and the class it must derive from."""


@dataclass(frozen=True)
class PluginSpec:
    """A plugin as a configuration names it: its kind, its name and the hyper-parameters that were set."""

    kind: str
    name: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The canonical mapping: `name` and every hyper-parameter, defaults filled in, also those of nested plugins."""
        plugin = find_plugin(self.kind, self.name)
        chosen = {**defaults(plugin), **self.hyperparameters}
        chosen |= _named_plugins(plugin, chosen)
        return {"name": self.name} | {key: _plain(value) for key, value in chosen.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, PluginSpec):
        return value.as_dict()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


@cache
def installed(kind: str) -> tuple[EntryPoint, ...]:
    """What packages of others offer of a kind, read once."""
    return tuple(entry_points(group=f"selbench.{kind}"))


def plugin_names(kind: str) -> list[str]:
    """Every name that can be used for this kind, built-in or installed; a family is one, `torchvision/<name>`."""
    return sorted(f"{name}<name>" if name.endswith("/") else name for name in _registered(kind))


def _registered(kind: str) -> list[str]:
    """The names of plugins and families that are registered, each once."""
    return list(dict.fromkeys([*BUILTINS[kind], *(point.name for point in installed(kind))]))


def _prefix(kind: str, name: str) -> str | None:
    """The name of the family (`torchvision/`) that this name belongs to, if any."""
    prefix, slash, _ = name.partition("/")
    return prefix + slash if slash and prefix + slash in _registered(kind) else None


def _family(kind: str, prefix: str) -> type[api.Family]:
    """The class of a family.

    Raises:
        ValueError: as of `find_plugin`.
    """
    target = _target(kind, prefix)
    family: type[api.Family] = _load(kind, prefix, target)
    if not issubclass(family, api.Family):
        raise ValueError(f"{kind[:-1]} {prefix!r}: {target} does not derive from harness.api.Family")
    return family


def members(kind: str) -> list[str]:
    """The names of all members of families of this kind that can be imported: `torchvision/resnet50`, ..."""
    names: list[str] = []
    for prefix in (name for name in _registered(kind) if name[-1] == "/"):
        try:
            names += [prefix + member for member in _family(kind, prefix).members()]
        except ValueError:  # somebody's module that fails is named where it is asked for
            continue
    return names


def providers(kind: str, name: str) -> list[str]:
    """Who offers `name`: "selbench" for a built-in, "distribution (module:Class)" for an installed one."""
    registered = {name, _prefix(kind, name)}
    offered = ["selbench"] if registered & BUILTINS[kind].keys() else []
    for point in installed(kind):
        if point.name in registered:
            offered.append(f"{point.dist.name if point.dist else 'unknown'} ({point.value})")
    return offered


def find_plugin(kind: str, name: str) -> type:
    """The class of a plugin.

    Raises:
        ValueError: no such plugin, offered by two providers, not importable, not of this kind, or with a constructor
            whose hyper-parameters cannot be set.
    """
    if ":" in name:
        return _load(kind, name, name)
    offered = providers(kind, name)
    if not offered:
        raise ValueError(f"no {kind[:-1]} {name!r}; {closest(name, plugin_names(kind), unlisted=members(kind))}")
    if len(offered) > 1:
        raise ValueError(f"{kind[:-1]} {name!r} is offered by {' and by '.join(offered)}; use module:Class")
    if prefix := _prefix(kind, name):
        return _find_member(kind, prefix, name)
    return _load(kind, name, _target(kind, name))


def _target(kind: str, name: str) -> str:
    """The `module:Class` that a name stands for, or that of its family."""
    if ":" in name:
        return name
    name = _prefix(kind, name) or name
    return BUILTINS[kind].get(name) or next(point.value for point in installed(kind) if point.name == name)


def _find_member(kind: str, prefix: str, name: str) -> type:
    family = _family(kind, prefix)
    known, refused = [prefix + member for member in family.members()], family.refused()
    if known and name.removeprefix(prefix) in refused:
        raise ValueError(f"{kind[:-1]} {name!r} is not offered: {refused[name.removeprefix(prefix)]}")
    if known and name not in known:
        raise ValueError(f"no {kind[:-1]} {name!r}; {closest(name, known)}")
    try:
        return family.member(name.removeprefix(prefix))
    except ValueError as error:
        raise ValueError(f"{kind[:-1]} {name!r}: {error}") from error


def _load(kind: str, name: str, target: str) -> Any:
    """The class at `module:Class`."""
    singular = kind[:-1]
    module_name, _, class_name = target.partition(":")
    if "/" in module_name or module_name.endswith(".py"):
        nearest = ".".join(part for part in Path(module_name).with_suffix("").parts if part.isidentifier())
        wanted = "a module is named as in an import, its folder being the current one or in PYTHONPATH"
        raise ValueError(f"{singular} {name!r}: {wanted}; did you mean '{nearest}:{class_name}'?")
    try:
        plugin = getattr(code.load_module(module_name), class_name)
    except Exception as error:  # a plugin's module may fail in any way; the others stay usable
        raise ValueError(f"{singular} {name!r} cannot be imported from {target!r}: {cause_of(error)}") from error
    if not (inspect.isclass(plugin) and issubclass(plugin, CONTRACTS[kind])):
        raise ValueError(f"{singular} {name!r}: {target} does not derive from harness.api.{CONTRACTS[kind].__name__}")
    if problem := constructor_problem(plugin):
        raise ValueError(f"{singular} {name!r}: {problem}")
    return plugin


def constructor_problem(plugin: Any) -> str | None:
    """Why the hyper-parameters of a class cannot be set, if so: one without a default, or not by keyword alone."""
    parameters = _parameters(plugin)
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    given = num_given(plugin)
    if len(positional) != given:
        return (
            f"the constructor takes {positional} by position, {given} expected; "
            "hyper-parameters are keyword-only, after a `*`"
        )
    without = next((p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty), None)
    return f"hyper-parameter {without.name!r} has no default; give it one" if without else None


def num_given(plugin: type) -> int:
    """How many arguments the harness gives the constructor: an image shape, a backbone, a number of classes."""
    if issubclass(plugin, api.SupervisedMethod):
        return 2
    return int(issubclass(plugin, api.Backbone | api.SSLMethod))


@cache
def _parameters(function: Any) -> tuple[inspect.Parameter, ...]:
    return tuple(inspect.signature(function).parameters.values())


@cache
def _keywords(function: Any) -> Mapping[str, Any]:
    return MappingProxyType({p.name: p.default for p in _parameters(function) if p.kind is p.KEYWORD_ONLY})


def shared(plugin: type) -> dict[str, Any]:
    """The hyper-parameters that every plugin of its kind has, with their default values."""
    prepare = preparation(plugin)
    return dict(_keywords(prepare)) | own_defaults(plugin) if prepare else {}


def defaults(plugin: type) -> dict[str, Any]:
    """A plugin's hyper-parameters with their default values: its keyword-only constructor arguments and its kind's."""
    return dict(_keywords(plugin)) | shared(plugin)


@cache
def hints(plugin: type) -> Mapping[str, Any]:
    """The resolved type of each hyper-parameter that has one."""
    resolved = argument_types(plugin.__init__)  # type: ignore[misc]
    if prepare := preparation(plugin):
        resolved |= argument_types(prepare)
    return MappingProxyType({name: resolved[name] for name in defaults(plugin) if name in resolved})


def argument_types(function: Any) -> dict[str, Any]:
    """The resolved type of each annotated argument; Any where it names what only type checkers import."""
    function = inspect.unwrap(function)
    resolved: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        alone = SimpleNamespace(__annotations__={name: annotation})
        try:
            resolved |= typing.get_type_hints(alone, function.__globals__)
        except Exception:  # what is written there may fail in any way
            resolved[name] = Any
    return resolved


COLLECTIONS: Mapping[Any, type] = {tuple: tuple, list: list, Sequence: tuple, Collection: tuple, Iterable: tuple}
"""Type of a list of values -> what the list becomes."""


def nested_kind(annotation: Any) -> str | None:
    """The kind of plugin that a hyper-parameter of this type takes, if any.

    Of `first: Augmentation | str`, and of `views: tuple[Augmentation | str, ...]`, which takes a list of them.
    """
    options = typing.get_args(annotation)
    if not options:
        return next((kind for kind, contract in CONTRACTS.items() if contract is annotation), None)
    return next(filter(None, map(nested_kind, options)), None)


def takes_list(annotation: Any) -> bool:
    """Whether a hyper-parameter of this type may take a list."""
    return any((typing.get_origin(option) or option) in COLLECTIONS for option in _options(annotation))


def takes_one(annotation: Any) -> bool:
    """Whether a hyper-parameter of this type may take a plugin that stands alone."""
    return any(nested_kind(option) and not takes_list(option) for option in _options(annotation))


def _options(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    return typing.get_args(annotation) if is_union else (annotation,)


def _named_plugins(plugin: type, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the chosen hyper-parameters that name plugins, as a PluginSpec (`first: crop`) or a tuple of them."""
    named: dict[str, Any] = {}
    for name, hint in hints(plugin).items():
        kind, value = nested_kind(hint), chosen[name]
        if kind and takes_list(hint) and isinstance(value, list | tuple):
            named[name] = tuple(as_spec(kind, item) if _is_name(item) else item for item in value)
        elif kind and _is_name(value):
            named[name] = as_spec(kind, value)
    return named


def _is_name(value: Any) -> bool:
    """Whether it stands for a plugin that has yet to be built."""
    return isinstance(value, str | Mapping | PluginSpec)


def classes(spec: PluginSpec) -> list[type]:
    """The class of a plugin and those of the plugins among its hyper-parameters: the code that it runs."""
    return [find_plugin(inner.kind, inner.name) for inner in _with_nested(spec)]


def sources(*specs: PluginSpec) -> list[code.Root]:
    """Where the code of plugins and of those among their hyper-parameters begins, for `harness.code.code_of`.

    Their classes, and the modules that their names lead to, which may have them from elsewhere.
    """
    every = [inner for spec in specs for inner in _with_nested(spec)]
    modules = [_target(inner.kind, inner.name).partition(":")[0] for inner in every]
    return [*(find_plugin(inner.kind, inner.name) for inner in every), *modules]


def _with_nested(spec: PluginSpec) -> list[PluginSpec]:
    plugin = find_plugin(spec.kind, spec.name)
    nested = _named_plugins(plugin, {**defaults(plugin), **spec.hyperparameters})
    every = [inner for value in nested.values() for inner in (value if isinstance(value, tuple) else (value,))]
    return [spec, *(deeper for inner in every if isinstance(inner, PluginSpec) for deeper in _with_nested(inner))]


def build(spec: PluginSpec, *positional: Any) -> Any:
    """Constructs a plugin and prepares it; hyper-parameters that are plugins themselves are constructed first.

    Raises:
        ValueError: an unknown hyper-parameter or a value that the plugin refuses.
    """
    plugin = find_plugin(spec.kind, spec.name)
    known = defaults(plugin)
    unknown = sorted(set(spec.hyperparameters) - set(known))
    if unknown:
        raise ValueError(f"{spec.name} has no hyper-parameter {unknown[0]!r}; {closest(unknown[0], known)}")
    chosen = {**known, **spec.hyperparameters}
    chosen |= {name: _built(value) for name, value in _named_plugins(plugin, chosen).items()}
    settings = {name: chosen.pop(name) for name in shared(plugin)}
    try:
        built = plugin(*positional, **chosen)
        if prepare := preparation(plugin):
            prepare(built, **settings)
        return built
    except ValueError as error:
        raise ValueError(f"{spec.kind[:-1]} {spec.name!r}: {error}") from error


def _built(value: Any) -> Any:
    """A nested plugin, or a tuple of them, where only its name is given."""
    if isinstance(value, tuple):
        return tuple(map(_built, value))
    return build(value) if isinstance(value, PluginSpec) else value


def as_spec(kind: str, value: str | Mapping[str, Any] | PluginSpec) -> PluginSpec:
    """`coreset` and `{name: coreset, ...}` as a PluginSpec.

    Raises:
        ValueError: there is no name.
    """
    if isinstance(value, PluginSpec):
        return value
    if isinstance(value, str):
        return PluginSpec(kind, value)
    rest = dict(value) if isinstance(value, Mapping) else {}
    name = rest.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"{value!r} names no {kind[:-1]}; {closest('', plugin_names(kind))}")
    return PluginSpec(kind, name, rest)


def describe_plugins() -> list[dict[str, Any]]:
    """Every plugin as `{kind, name, provider, summary, hyperparameters}`; one that fails says so in `error`."""
    listed = []
    for kind in CONTRACTS:
        for name in plugin_names(kind):
            entry: dict[str, Any] = {"kind": kind, "name": name, "provider": " and ".join(providers(kind, name))}
            try:
                prefix = _prefix(kind, name)
                plugin: Any = _family(kind, prefix) if prefix else find_plugin(kind, name)
                entry["summary"] = (inspect.getdoc(plugin) or "").partition("\n")[0]
                entry["hyperparameters"] = {key: _plain(value) for key, value in defaults(plugin).items()}
            except ValueError as error:
                entry |= {"summary": "", "hyperparameters": {}, "error": str(error)}
            listed.append(entry)
    return listed
