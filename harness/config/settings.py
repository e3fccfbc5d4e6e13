"""The settings of a question's trial, each by itself, whatever varies: names, types, ranges; and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.config.parsing import RECIPE, Recipes, over_recipe, parse_settings
from harness.config.recipes import merged
from harness.config.schema import Problems, as_dict, lies_in
from harness.config.space import Space, lookup
from harness.config.trial import TrialConfig


def check_each_setting(space: Space, given: Any, recipes: Recipes, problems: Problems) -> None:
    """Notes names, types and ranges of the trial that are wrong, also where a parameter sets something else.

    What a plugin that a parameter or a case names may take is looked at in its combinations.
    """
    own = Problems(problems.file)
    parse_settings(given, "trial", own, recipes)
    varied = {p.path for p in space.parameters} | {path for case in space.cases.values() for path in case}
    if RECIPE in varied and isinstance(given, Mapping):
        for name in recipes:
            under = Problems(problems.file)
            parse_settings({**given, RECIPE: name}, "trial", under, recipes)
            own.found = [line for line in own.found if line in under.found]
    for line in own.found:
        place = line.removeprefix(f"{problems.file}: ").partition(": ")[0].removeprefix("trial.")
        if not any(_decides(path, place, given) for path in varied):
            problems.found.append(line)


def _decides(path: str, place: str, given: Any) -> bool:
    """Whether what lies at a place of the trial is right or wrong by the name, or the kind, that a path sets."""
    section, _, last = path.rpartition(".")
    if last not in ("name", "kind") or not section or place == section or not lies_in(place, section):
        return False
    return place != path or lookup(given, path) is None


def complete_settings(given: Mapping[str, Any], recipes: Recipes) -> dict[str, Any]:
    """A trial's mapping over its recipe with every default, as far as these are known of one that may be none."""
    problems = Problems()
    config = parse_settings(given, "trial", problems, recipes)
    if config and not problems.found:
        return dict(as_dict(config))
    return dict(merged(as_dict(TrialConfig()), over_recipe(given, "trial", Problems(), recipes)))
