"""A trial as written becomes a `TrialConfig`: recipes laid under it, plugins tried, every mistake named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from harness.config import recipes
from harness.config.checks import (
    check_classifiers,
    check_encoder,
    check_features,
    check_labels,
    check_mode,
    check_selection,
    check_teacher,
    check_what_selector_reads,
    gives_features,
    try_plugins,
)
from harness.config.label_free import check_without_labels, has_labels
from harness.config.schema import ConfigError, Problems, as_dict, content_of, parse, plain, set_path
from harness.config.trial import ClassifierConfig, TrialConfig

RECIPE = "recipe"
"""The key of a trial that names a recipe; it is resolved, so that a TrialConfig does not hold it."""

Recipes = Mapping[str, Mapping[str, Any]]
"""Name -> a trial's mapping, complete with defaults but for what the data set decides (`FEATURES`)."""


def parse_trial(value: Any, path: str, problems: Problems, own: Recipes | None = None) -> TrialConfig | None:
    """A trial's mapping as a TrialConfig, with everything checked that needs no data.

    Args:
        value: the mapping.
        path: its place, for messages.
        problems: notes what is wrong.
        own: recipes that are known already; others are read from their files.
    """
    before, given = len(problems.found), value
    value = over_features(over_recipe(value, path, problems, own or {}))
    config = parse(TrialConfig, value, path, problems, beside=(RECIPE,))
    if config is None or len(problems.found) > before:
        return None
    _check_unnamed_heads(value or {}, path, problems)
    check_encoder(config, path, problems)
    if has_labels(config):
        check_labels(config, path, problems)
        check_classifiers(config, path, problems)
        check_mode(config, path, problems)
        check_what_selector_reads(config, path, problems)
        check_selection(config, path, problems)
        check_teacher(config, path, problems)
    else:
        check_without_labels(config, path, problems)
    check_features(config, path, problems)
    if config.compute.device == "cuda" and not torch.cuda.is_available():
        problems.add(
            f"{path}.compute.device", "cuda was asked for, but this machine has no CUDA device; use cpu or auto"
        )
    try_plugins(config, path, problems)
    if len(problems.found) == before:
        return config
    _tell_of_recipe(given, path, problems, before, own or {})
    return None


def _tell_of_recipe(value: Any, path: str, problems: Problems, before: int, own: Recipes) -> None:
    """Names the recipe in what is wrong with it by itself and stayed so, of the problems since so many."""
    name = value.get(RECIPE) if isinstance(value, Mapping) else None
    if not isinstance(name, str):
        return
    alone = Problems(problems.file)
    parse_trial(own[name] if name in own else recipe_trial(name, "", Problems()), path, alone)
    lines, problems.found = problems.found[before:], problems.found[:before]
    for line in lines:
        said = line.removeprefix(f"{problems.file}: ")
        problems.add(*((f"{path}.{RECIPE}", f"{name}: {said}") if line in alone.found else ("", said)))


def parse_settings(value: Any, path: str, problems: Problems, own: Recipes | None = None) -> TrialConfig | None:
    """A trial's mapping as a TrialConfig, each setting checked by itself: its name, its type, its range."""
    value = over_features(over_recipe(value, path, problems, own or {}))
    return parse(TrialConfig, value, path, problems, beside=(RECIPE,))


def _check_unnamed_heads(value: Mapping[str, Any], path: str, problems: Problems) -> None:
    """Settings of a classifier without a name, which the default one would ignore."""
    default = ClassifierConfig()
    teacher = ("teacher.classifier", (value.get("teacher") or {}).get("classifier"))
    heads = [("classifier", value.get("classifier")), teacher, *_numbered("beside", value.get("beside"))]
    for place, head in heads:
        ignored = sorted(default.unread() & head.keys()) if isinstance(head, Mapping) and "name" not in head else []
        if ignored:
            unread = " and ".join(ignored)
            problems.add(
                f"{path}.{place}", f"{default.name}, the default, reads no {unread}; give the name of a head that does"
            )


def _numbered(key: str, items: Any) -> list[tuple[str, Any]]:
    return [(f"{key}[{number}]", item) for number, item in enumerate(items or ())]


def over_recipe(value: Any, path: str, problems: Problems, own: Recipes) -> Any:
    """A trial's mapping laid over that of its recipe, if it names one."""
    value = _with_heads_as_mappings(with_heads_apart(value))
    if not isinstance(value, Mapping) or RECIPE not in value:
        return value
    name = value[RECIPE]
    value = {key: item for key, item in value.items() if key != RECIPE}
    if name is None:
        return value
    known = own.get(name) if isinstance(name, str) else None
    base = recipe_trial(name, f"{path}.{RECIPE}", problems) if known is None else known
    return value if base is None else recipes.merged(base, value)


FEATURES = {"backbone": "given", "ssl_method": "none", "augmentation": "identity"}
"""What lies under a trial whose data set gives features, in place of the defaults, which are for images."""


def over_features(value: Any) -> Any:
    """A trial's mapping laid over `FEATURES`, if its data set gives these."""
    if not isinstance(value, Mapping) or not gives_features(value.get("dataset")):
        return value
    return recipes.merged(FEATURES, value)


def recipe_trial(name: Any, path: str, problems: Problems) -> dict[str, Any] | None:
    """The settings of a recipe, as `Recipes` hold them; None, and noted problems, where there are none."""
    if not isinstance(name, str):
        problems.add(path, f"expected a recipe's name, or the path of a recipe file, not {name!r}")
        return None
    try:
        file, recipe, variant = recipes.find_recipe(name)
    except ConfigError as error:
        for problem in error.problems:
            problems.add(path, problem)
        return None
    except ValueError as error:
        problems.add(path, str(error))
        return None
    inside = Problems(str(file))
    settings = _settings_of_recipe(recipe.tree(variant), f"variants.{variant}.trial" if variant else "trial", inside)
    for problem in inside.found:
        problems.add(path, problem)
    return None if inside.found else settings


def parse_recipes(value: Any, path: str, problems: Problems) -> Recipes:
    """The `recipes:` section of a search space, name -> a trial's mapping; problems are noted."""
    if value is not None and not isinstance(value, Mapping):
        problems.add(path, f"expected a mapping from names to settings of a trial, not {value!r}")
        return {}
    return {name: _settings_of_recipe(tree, f"{path}.{name}", problems) for name, tree in (value or {}).items()}


def _settings_of_recipe(tree: Any, path: str, problems: Problems) -> dict[str, Any]:
    """Settings with defaults beside them. What cannot go together is looked for in the trials that build on them."""
    config = parse_settings(tree, path, problems)
    given = over_recipe(tree, path, Problems(), {})
    complete = as_dict(config) if config else {}
    return {key: item for key, item in complete.items() if key not in FEATURES or (given and key in given)}


def with_heads_apart(value: Any) -> Any:
    """Settings of a trial in which `classifier: [a, b]` is written as `classifier: a` and `beside: [b]`."""
    given = value.get("classifier") if isinstance(value, Mapping) else None
    if not isinstance(given, list) or not given or "beside" in value:
        return value
    return {**value, "classifier": given[0], "beside": given[1:]}


def _with_heads_as_mappings(value: Any) -> Any:
    """A trial's mapping in which no classifier is given by its name alone."""
    if not isinstance(value, Mapping):
        return value
    value = dict(value)
    if isinstance(value.get("classifier"), str):
        value["classifier"] = {"name": value["classifier"]}
    if isinstance(value.get("teacher"), Mapping) and isinstance(value["teacher"].get("classifier"), str):
        value["teacher"] = {**value["teacher"], "classifier": {"name": value["teacher"]["classifier"]}}
    if isinstance(value.get("beside"), list):
        value["beside"] = [{"name": item} if isinstance(item, str) else item for item in value["beside"]]
    return value


def apply_overrides(content: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Sets what lies at dotted paths of a question, in order, as if the file said so; then writes its heads apart.

    What lies below a list of heads is the first one's; another list takes the place of all.

    Raises:
        ConfigError: there is nothing below which a path leads, or a value that no file could hold.
    """
    for path, value in overrides.items():
        if path == "trial.classifier" and isinstance(value, list) and isinstance(content.get("trial"), Mapping):
            content["trial"] = {key: of for key, of in content["trial"].items() if key != "beside"}
        if path.startswith(("trial.classifier.", "trial.beside")):
            content["trial"] = with_heads_apart(content.get("trial"))
        set_path(content, path, plain(value))
    if "trial" in content:
        content["trial"] = with_heads_apart(content["trial"])


def read_trial(source: Path | Mapping[str, Any], overrides: Mapping[str, Any]) -> TrialConfig:
    """The trial of a search space, or that part alone.

    Args:
        source: a YAML file, or its content.
        overrides: dotted path, such as `trial.pretrain.epochs` -> value.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    content, name = content_of(source)
    problems = Problems(name)
    if not isinstance(content, dict):
        problems.add("", f"expected a mapping, not {type(content).__name__}")
        problems.raise_any()
    tree = content if "trial" in content else {"trial": content}
    for path in overrides:
        if path.partition(".")[0] not in tree:
            problems.add(
                path, "one trial has no such setting; its own lie below `trial`, such as trial.pretrain.epochs"
            )
    problems.raise_any()
    apply_overrides(tree, overrides)
    own = parse_recipes(tree.get("recipes"), "recipes", problems)
    config = parse_trial(tree["trial"], "trial", problems, own)
    problems.raise_any()
    assert config is not None
    return config
