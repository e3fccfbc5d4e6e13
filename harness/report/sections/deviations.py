"""How the methods of a sweep deviate from their papers, as their recipes and their own documentation say."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from markupsafe import Markup

from baselines import BUILTINS
from harness.report.model import Report
from harness.report.page.document import prose
from harness.report.section import Heading, Section

PLUGINS = {"ssl_method": "ssl_methods", "selector": "selectors", "augmentation": "augmentations"}
"""Keys of a trial whose plugins come from papers -> kind of plugin."""


def deviations(report: Report) -> Section | None:
    """The recipes' deviations, and what the methods that were used say of themselves."""
    section = Section("Methods and their papers", "methods")
    for name in _named(report, "recipe"):
        section.parts += _recipe(name)
    methods = [(kind, name) for key, kind in PLUGINS.items() for name in _named(report, key)]
    described = [(name, text) for kind, name in methods if (text := description(kind, name))]
    if described:
        section.parts.append(Heading("In their own words"))
        items = [
            Markup("<dt>{}</dt><dd>{}</dd>").format(name, Markup("").join(map(_paragraph, text)))
            for name, text in described
        ]
        section.parts.append(Markup('<dl class="methods">{}</dl>').format(Markup("").join(items)))
    return section if section.parts else None


def _paragraph(text: str) -> Markup:
    return Markup("<p>{}</p>").format(prose(text.replace("``", "`")))


def _named(report: Report, key: str) -> list[str]:
    """The values of a key such as `ssl_method` in the trial, its recipes, the cases, the parameters and references."""
    space = report.space
    confirm = space.get("confirm") or {}
    settings = [
        space.get("trial") or {},
        *(space.get("recipes") or {}).values(),
        *(space.get("cases") or {}).values(),
        *(confirm.get("references") or []),
        *(entry.parameters for entry in [*report.confirmed, *report.searched]),
    ]
    named: list[Any] = []
    for setting in settings:
        named += [setting[path] for path in (key, f"{key}.name") if path in setting]
    return list(dict.fromkeys(_plugin_names(named)))


def _plugin_names(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        name = value.get("name") if isinstance(value, Mapping) else value
        if isinstance(name, str):
            yield name


def _recipe(name: str) -> list[Any]:
    """What a recipe says; nothing of one that is no longer to be found."""
    from harness.config import recipes
    from harness.config.schema import ConfigError

    try:
        _, recipe, _ = recipes.find_recipe(name)
    except (ValueError, ConfigError):
        return []
    items = Markup("").join(Markup("<li>{}</li>").format(prose(text)) for text in recipe.deviations)
    return [
        Heading(f"Recipe {name}"),
        f"{recipe.description} {recipe.source}.",
        *([recipe.settings] if recipe.settings else []),
        *([Markup("<p>How it deviates:</p><ul>{}</ul>").format(items)] if recipe.deviations else []),
    ]


def description(kind: str, name: str) -> list[str]:
    """The paragraphs of a plugin's docstring before its arguments, read without importing it.

    Only modules of the baselines and those that an entry point registered are looked into: to look for `package.module`
    imports `package`, and the folder of a report may be a stranger's.

    Its first names the paper; where it names none (`none`, a helper without a source) there is nothing to deviate from
    and the list is empty, as it is for a plugin that is not installed here.
    """
    target = name if ":" in name else BUILTINS[kind].get(name) or _installed(kind, name)
    module, _, class_name = target.partition(":")
    try:
        spec = find_spec(module) if _is_known(module) else None
    except (ImportError, ValueError):
        return []
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return []
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            text = inspect.cleandoc(ast.get_docstring(node) or "").partition("\n\nArgs:")[0]
            paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
            return paragraphs if "http" in text else []
    return []


def _installed(kind: str, name: str) -> str:
    return next((point.value for point in entry_points(group=f"selbench.{kind}") if point.name == name), "")


def _is_known(module: str) -> bool:
    registered = (point.module for kind in BUILTINS for point in entry_points(group=f"selbench.{kind}"))
    return module.partition(".")[0] == "baselines" or module in registered
