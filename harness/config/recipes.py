"""Recipes: named settings of a trial, `baselines/recipes/<name>.yaml` or a file of your own, that a trial builds on.

A trial's `recipe: moco_v2` lays what the user wrote over the recipe's `trial:` section (`merged`). A file may hold
variants, such as the same method for a small encoder; `recipe: moco_v2/small` lays that one over the recipe first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import baselines
from harness.config.schema import ConfigError, Problems, flatten, parse, read_yaml, setting
from harness.messages import closest

FOLDER = Path(baselines.__file__).parent / "recipes"


@dataclass(frozen=True)
class Variant:
    """The recipe under other circumstances; its settings win over the recipe's."""

    description: str = setting("", "one sentence: when to use it")
    settings: str = setting("", "where the values come from")
    trial: dict = setting(..., "settings of a trial")


@dataclass(frozen=True)
class Recipe:
    """The content of a recipe file."""

    description: str = setting("", "one sentence")
    source: str = setting("", "paper and link")
    settings: str = setting("", "what the source's settings are, and where the values here come from")
    deviations: tuple[str, ...] = setting((), "sentences: how it differs from the paper and its code, and why")
    trial: dict = setting(..., "settings of a trial")
    variants: dict | None = setting(None, "name -> variant")

    def tree(self, variant: str | None) -> dict[str, Any]:
        """The trial's mapping, of a variant or without one."""
        return merged(self.trial, self.variants[variant].trial) if variant and self.variants else self.trial


def recipe_names() -> list[str]:
    """The recipes that come with selbench."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def find_recipe(name: str) -> tuple[Path, Recipe, str | None]:
    """The file of a recipe, its content, and the variant that was asked for.

    Args:
        name: `moco_v2`, a path that ends in `.yaml`, or either with `/variant`.

    Raises:
        ValueError: no such recipe or variant.
        ConfigError: the file cannot be read, or everything that is wrong with it.
    """
    parts = re.fullmatch(r"(?P<file>.+\.ya?ml|[^/]+)(/(?P<variant>[^/]+))?", name)
    if not parts:
        raise ValueError(f"no recipe {name!r}; {closest(name, recipe_names())}")
    file = Path(parts["file"])
    if file.suffix not in (".yaml", ".yml"):
        if parts["file"] not in recipe_names():
            raise ValueError(f"no recipe {name!r}; {closest(parts['file'], recipe_names())}")
        file = FOLDER / f"{parts['file']}.yaml"
    recipe = load_recipe(file)
    variant, known = parts["variant"], recipe.variants or {}
    if variant and variant not in known:
        raise ValueError(f"recipe {parts['file']!r} has no variant {variant!r}; {closest(variant, known)}")
    return file, recipe, variant


def load_recipe(file: Path) -> Recipe:
    """Reads and checks a recipe file; its `trial:` is checked where trials are.

    Raises:
        ConfigError: everything that is wrong, each with file and path.
    """
    problems = Problems(str(file))
    recipe = parse(Recipe, read_yaml(file), "", problems)
    if recipe is None:
        problems.raise_any()
    assert recipe is not None
    variants: dict[str, Variant] = {}
    for name, item in (recipe.variants or {}).items():
        variant = parse(Variant, item, f"variants.{name}", problems)
        if variant:
            variants[name] = variant
    for place, section in [("", recipe), *((f"variants.{name}.", variant) for name, variant in variants.items())]:
        if "recipe" in section.trial:
            problems.add(f"{place}trial.recipe", "a recipe builds on no other; write a variant of that one instead")
    problems.raise_any()
    return replace(recipe, variants=variants)


def merged(base: Any, over: Any) -> Any:
    """Settings laid over those of a recipe.

    What is given wins. Mappings merge key by key, unless both name something (a plugin, a classifier; by `kind`, an
    imbalance) and not the same: then the one that is given replaces the other whole. A name alone is short for a
    mapping with that name. A section that is left empty says nothing.
    """
    if isinstance(base, Mapping):
        if isinstance(over, str) and "name" in base:
            over = {"name": over}
        elif over is None and "kind" not in base:
            return base
    elif isinstance(base, str) and isinstance(over, Mapping):
        base = {"name": base}
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    if any(key in base and key in over and base[key] != over[key] for key in ("name", "kind")):
        return over
    return {**base, **{key: merged(base[key], item) if key in base else item for key, item in over.items()}}


def describe_recipes() -> list[dict[str, Any]]:
    """Every recipe and variant, in the form of `registry.describe_plugins`; `hyperparameters` are what it sets."""
    listed = []
    for name in recipe_names():
        entry: dict[str, Any] = {"kind": "recipes", "name": name, "provider": "selbench"}
        try:
            recipe = load_recipe(FOLDER / f"{name}.yaml")
        except ConfigError as error:
            listed.append(entry | {"summary": "", "hyperparameters": {}, "error": str(error)})
            continue
        about = {"source": recipe.source, "deviations": list(recipe.deviations)}
        listed.append(entry | {"summary": recipe.description, "hyperparameters": flatten(recipe.trial)} | about)
        for variant, section in (recipe.variants or {}).items():
            changed = {"summary": section.description, "hyperparameters": flatten(recipe.tree(variant))}
            listed.append(entry | {"name": f"{name}/{variant}"} | changed | about)
    return listed
