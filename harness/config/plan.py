"""A search-space file becomes a plan: what is asked, what is searched, what is confirmed.

Everything that can be wrong with the file is found here, before anything starts.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from harness.config.checks import check_measured, gives_features, goals_of
from harness.config.comment import opening_comment, question_in
from harness.config.conditions import check_conditions
from harness.config.confirmation import Confirm
from harness.config.headroom import Headroom, bounds_of
from harness.config.label_free import check_measured_without_labels, has_labels
from harness.config.parsing import (
    RECIPE,
    Recipes,
    apply_overrides,
    parse_recipes,
    parse_trial,
    recipe_trial,
)
from harness.config.reading import check_read, check_told_apart
from harness.config.reference import check_confirmed, check_reference
from harness.config.resources import Resources, check_custom
from harness.config.schema import Problems, as_dict, content_of, parse, setting
from harness.config.search import MOST_OF_GP, EarlyTerminate, Objective, SamplerName, check_objectives, check_one_scale
from harness.config.settings import check_each_setting, complete_settings
from harness.config.space import CASE, Assignment, Parameter, Space, lookup, parse_cases, parse_parameters
from harness.config.tasks import MAX_TRIALS, Candidate, Phase, Seeds, SeedSplit, Task, mapped
from harness.config.verdicts import Verdicts, name_of
from harness.files import unusable_name
from harness.messages import closest
from harness.metrics import LABEL_FREE

OF_WANDB = ("program", "command", "entity", "project", "controller", "job", "image_uri")
"""Keys of W&B's sweeps that say where they run and who sees them."""


@dataclass(frozen=True)
class SweepSettings:
    """The simple keys of a search-space file."""

    name: str = setting("sweep", "of the sweep and its folder; the file's name if left out")
    description: str = setting("", "the question; the file's opening comment if left out")
    method: Literal["grid", "random", "bayes"] = setting(
        "grid", "grid: every combination; random: run_cap draws; bayes: run_cap suggestions of Optuna's `sampler`"
    )
    metric: tuple[Objective, ...] = setting((Objective(),), "one, or several objectives")
    run_cap: int | None = setting(None, "configurations tried by random and bayes", low=1, high=10_000)
    sampler: SamplerName = setting(
        "tpe",
        f"of bayes, by Optuna: tpe, gp (Gaussian process), cmaes, nsga2; auto: gp for up to {MOST_OF_GP} "
        "configurations of numbers alone and one metric, else tpe",
    )
    early_terminate: EarlyTerminate = EarlyTerminate()
    seeds: tuple[int, ...] | Seeds = setting(
        (0,), "of the search, or of a grid that is measured at once; or a mapping, which may split the data anew", low=0
    )
    confirm: Confirm | None = setting(None, "the second phase")
    reference: dict | None = setting(None, "the configuration that the others are compared with")
    worth: float | None = setting(
        None,
        "the smallest difference that matters, in the metric's unit; less is called equivalent; 0.01, one point, for "
        "accuracies if left out",
        above=0,
    )
    headroom: Headroom | None = setting(None, "an upper bound of what selectors can gain, beside a grid of them")
    resources: Resources = Resources()
    portrait: bool | int = setting(
        True,
        "maps, neighbours and views for the report, of each confirmed configuration under its first seed, or of the "
        "best of a search that nothing confirms; some seconds each, in no total; a number: of images on the map",
        low=0,
        high=50_000,
    )
    log_model: Literal["best", "all", "none"] = setting(
        "none",
        "the encoders that are kept in `models/` and logged in MLflow: of the best trial, or of all confirmed ones",
    )
    system_metrics: bool = setting(
        False, "CPU, memory, disk, network and GPU of the machine that runs the sweep, in MLflow"
    )


@dataclass(frozen=True, kw_only=True)
class Plan(SweepSettings):
    """A sweep, checked.

    Attributes:
        seeds: of the search, or of a grid that is measured at once.
        split: what an interval covers: seeds on the "same" split, or seeds and splits, "fresh" for each.
        block: so many seeds are added between two looks at what is known; None: all run.
        tree: the `trial:` section as given, several heads apart.
        recipes: those that the trial, the search or its references name, complete with defaults.
        space: what varies.
        header: the file's opening comment, as it stands there.
        candidates: the configurations of a grid or random search, in order; empty for bayes.
        probes: of bayes, a configuration for each value of each parameter.
        references: those of `confirm`.
        bounds: upper bounds of what the selectors of a grid can gain.
    """

    tree: Mapping[str, Any]
    recipes: Recipes
    space: Space
    seeds: tuple[int, ...] = (0,)
    split: SeedSplit = "same"
    block: int | None = None
    header: str = ""
    candidates: tuple[Candidate, ...] = ()
    probes: tuple[Candidate, ...] = ()
    references: tuple[Candidate, ...] = ()
    bounds: tuple[Candidate, ...] = ()

    @property
    def searches(self) -> bool:
        """Whether there is a search to confirm; a grid without `confirm` is measured on the test set at once."""
        return self.method != "grid" or self.confirm is not None

    @property
    def watched(self) -> Objective | None:
        """The metric by which early stopping judges an epoch: the first, if epochs have it; else `WATCHED` are it."""
        return self.metric[0] if self.metric[0].name in LABEL_FREE else None

    @property
    def judging_seed(self) -> int | None:
        """The seed by whose epochs early stopping judges a configuration, before its others run; None: it does not."""
        return None if self.early_terminate.type == "none" else self.seeds[0]

    @property
    def growing(self) -> str:
        """The path below the trial that says how many rounds there are."""
        return f"labels.{'budget' if isinstance(lookup(self.space.trial, 'labels.budget'), list) else 'rounds'}"

    def candidate(self, assignment: Assignment) -> Candidate:
        """The configuration of an assignment.

        Raises:
            ConfigError: it makes no valid trial.
        """
        problems = Problems()
        trial = parse_trial(self.space.apply(self.tree, assignment), "trial", problems, self.recipes)
        problems.raise_any()
        assert trial is not None
        return Candidate(assignment, trial, lookup(self.space.trial, self.growing))

    def checked(self, assignment: Assignment) -> Candidate:
        """The configuration of an assignment that may be run.

        Raises:
            ConfigError: it makes no valid trial, or one that does not measure what is asked.
        """
        candidate, problems = self.candidate(assignment), Problems()
        labeled, goals = has_labels(candidate.trial), _goals(self)
        check = check_measured if labeled else check_measured_without_labels
        goals = goals_of(candidate.trial, goals, self.searches) if labeled else goals
        check(candidate.trial, goals, self.judging_seed is not None, "", problems)
        problems.raise_any()
        return candidate

    def first_tasks(self) -> list[Task]:
        """The trials of a grid or random search: every configuration under every seed, seeds varying fastest."""
        phase: Phase = "search" if self.searches else "confirm"
        return [self.task(candidate, seed, phase) for candidate in self.candidates for seed in self.seeds]

    def confirm_tasks(self, best: list[Assignment]) -> list[Task]:
        """The trials of the second phase: the references and the best of the search, under the fresh seeds."""
        if not self.confirm:
            return []
        unique: dict[str, Candidate] = {}
        for candidate in [*self.references, *map(self.candidate, best)]:
            unique.setdefault(candidate.configuration, candidate)
        return [self.task(candidate, seed, "confirm") for candidate in unique.values() for seed in self.confirm.seeds]

    def headroom_tasks(self) -> list[Task]:
        """The trials of the upper bounds, under the seeds of what they bound, or the first block of these."""
        seeds = self.seeds[: self.block]
        return [self.task(candidate, seed, "headroom") for candidate in self.bounds for seed in seeds]

    def task(self, candidate: Candidate, seed: int, phase: Phase) -> Task:
        """A trial; of each confirmed configuration that under the first seed leaves a portrait."""
        first = (self.confirm.seeds if self.confirm else self.seeds)[0]
        return Task(candidate, seed, phase, phase == "confirm" and seed == first and mapped(self.portrait), self.split)

    def some_candidates(self) -> tuple[Candidate, ...]:
        """All configurations that are known in advance, or some that between them have every value."""
        return (*(self.candidates or self.probes), *self.references)

    def as_dict(self) -> dict[str, Any]:
        """The resolved form, as `space.yaml` keeps it."""
        settings = {item.name: as_dict(getattr(self, item.name)) for item in fields(SweepSettings)}
        return settings | {
            "metric": [{"name": objective.name, "goal": objective.direction} for objective in self.metric],
            "seeds": self._seeds_asked(),
            "reference": settings["reference"] or None,
            "recipes": dict(self.recipes) if self._builds_on_recipes else None,
            "trial": self._resolved_trial(),
            "cases": {name: dict(case) for name, case in self.space.cases.items()} or None,
            "parameters": {p.path: p.as_dict() for p in self.space.parameters if p.path != CASE},
        }

    def _seeds_asked(self) -> Any:
        if self.block is not None:
            return Seeds(max=len(self.seeds), until="resolved", block=self.block, split=self.split).as_asked()
        return Seeds(self.seeds, self.split).as_asked() if self.split == "fresh" else list(self.seeds)

    @property
    def _builds_on_recipes(self) -> bool:
        """Whether what is varied may choose a recipe or be laid over one: a section, a plugin, or its name.

        Single values are not, so that the recipe of a search over these can be written out.
        """

        def merges(path: str) -> bool:
            last = path.rpartition(".")[2]
            return path == RECIPE or last in ("name", "kind") or isinstance(lookup(self.space.trial, path), Mapping)

        compared = [*(self.confirm.references if self.confirm else ()), self.reference or {}]
        return bool(self.recipes) and any(merges(path) for path in self._varied().union(*compared))

    @property
    def _mixes_features(self) -> bool:
        """Whether some configurations read features, which have other defaults than images."""
        return len({gives_features(one.trial.dataset) for one in self.some_candidates()}) > 1

    def _varied(self) -> set[str]:
        """The paths that parameters and cases set."""
        return {p.path for p in self.space.parameters} | {path for case in self.space.cases.values() for path in case}

    def _resolved_trial(self) -> dict[str, Any]:
        """The trial with every default, but for plugins that the search renames: another one has other defaults.

        Where the search builds on recipes, the trial as given: these hold the defaults. So where it fits with what
        varies alone, which decides about them.
        """
        if self._builds_on_recipes or not self.space.alone or self._mixes_features:
            return json.loads(json.dumps(self.tree))
        resolved: dict[str, Any] = json.loads(json.dumps(self.space.trial))
        resolved.pop(RECIPE, None)
        for path in self._varied():
            section, _, last = path.rpartition(".")
            if last == "name" and section:
                *parents, key = section.split(".")
                above = lookup(resolved, ".".join(parents)) if parents else resolved
                given = lookup(self.tree, section)
                if given is not None:
                    above[key] = given
                else:
                    above.pop(key, None)
        return resolved


QUESTION_SECTIONS = {
    "recipes": "recipes of this file: name -> settings of a trial, complete or not",
    "trial": "the fixed part: an ordinary trial",
    "cases": "named combinations: name -> settings by dotted path below the trial; they vary together",
    "parameters": "what varies: dotted path below the trial -> its values or its range",
}
"""The other keys of a search-space file, and what each holds."""

QUESTION_KEYS = (*(item.name for item in fields(SweepSettings)), *QUESTION_SECTIONS)


def load_plan(source: Path | Mapping[str, Any], overrides: Mapping[str, Any]) -> Plan:
    """Reads and checks a search space.

    Args:
        source: a YAML file, or its content.
        overrides: dotted path of a leaf, such as `trial.pretrain.epochs` -> value.

    Raises:
        ConfigError: everything that is wrong, each with file and path.
    """
    content, name = content_of(source)
    problems = Problems(name)
    if not isinstance(content, dict):
        problems.add("", f"expected a mapping with keys {', '.join(QUESTION_KEYS)}, not {type(content).__name__}")
        problems.raise_any()
    apply_overrides(content, overrides)
    if isinstance(source, Path):
        content.setdefault("name", source.stem)
    settings = parse(SweepSettings, _simple_keys(content, problems), "", problems)
    if settings is None:
        problems.raise_any()
    assert settings is not None
    sound = not problems.found  # else a setting that was misread has its default, which nothing else is judged by
    recipes = _recipes(content, settings, problems)
    space = _space(content, settings.method if sound else "random", recipes, problems)
    paths = [parameter.path for parameter in space.parameters]
    _check_settings(settings, problems)
    if sound:
        varies = bool(content.get("parameters") or content.get("cases"))
        _check_together(settings, paths, varies, problems)
    problems.raise_any()
    header = opening_comment(source) if isinstance(source, Path) else ""
    seeds = _seeds_of(settings)
    given = vars(settings) | {"description": settings.description or question_in(header)}
    given |= {"seeds": seeds.all, "split": seeds.split, "block": seeds.block if seeds.until else None}
    plan = Plan(**given, tree=content.get("trial") or {}, recipes=recipes, space=space, header=header)
    plan = _with_candidates(plan, problems)
    problems.raise_any()
    if plan.judging_seed is not None:
        check_one_scale([candidate.trial for candidate in plan.candidates or plan.probes], problems)
    known = [candidate.parameters for candidate in plan.some_candidates()]
    check_reference(plan.reference or {}, known, () if plan.method == "grid" else space.parameters, problems)
    if plan.confirm:
        stops = plan.judging_seed is not None
        check_confirmed(plan.reference or {}, plan.confirm, plan.candidates, problems, stops=stops)
    problems.raise_any()
    return plan


def _simple_keys(content: dict[str, Any], problems: Problems) -> dict[str, Any]:
    for key in content:
        if key not in QUESTION_KEYS:
            of_wandb = "; a key of W&B's service: leave it out" if key in OF_WANDB else ""
            problems.add(str(key), f"no such key{of_wandb or f'; {closest(key, QUESTION_KEYS)}'}")
    return {key: value for key, value in content.items() if key in QUESTION_KEYS and key not in QUESTION_SECTIONS}


def _recipes(content: Mapping[str, Any], settings: SweepSettings, problems: Problems) -> Recipes:
    """The recipes that the file names, its own before others; one with mistakes is reported where it is used."""
    own = parse_recipes(content.get("recipes"), "recipes", problems)
    sections = [content.get("trial"), settings.reference, *(settings.confirm.references if settings.confirm else ())]
    cases, parameters = content.get("cases"), content.get("parameters")
    sections += cases.values() if isinstance(cases, Mapping) else []
    chosen = [section.get(RECIPE) for section in sections if isinstance(section, Mapping)]
    about = parameters.get(RECIPE) if isinstance(parameters, Mapping) else None
    values = about.get("values", [about.get("value")]) if isinstance(about, Mapping) else []
    chosen += values if isinstance(values, list) else []
    names = dict.fromkeys(name for name in chosen if isinstance(name, str))
    trees = {name: own.get(name) or recipe_trial(name, "", Problems()) for name in names}
    return {name: tree for name, tree in trees.items() if tree}


def _space(content: Mapping[str, Any], method: str, recipes: Recipes, problems: Problems) -> Space:
    given = {} if content.get("trial") is None else content["trial"]
    parameters = parse_parameters(content.get("parameters"), "parameters", method, problems)
    cases = parse_cases(content.get("cases"), "cases", problems)
    if not cases and any(parameter.path == CASE for parameter in parameters):
        problems.add(f"parameters.{CASE}", "there are no `cases`; written beside `parameters`, they vary by themselves")
    if cases:
        parameters = (Parameter(CASE, tuple(cases)), *parameters)
    space = Space(parameters, given if isinstance(given, Mapping) else {}, cases)
    check_each_setting(space, given, recipes, problems)
    if not isinstance(given, Mapping):
        return space
    chosen = {RECIPE: given[RECIPE]} if RECIPE in given else {}
    under = {name: complete_settings({**given, RECIPE: name}, recipes) for name in recipes}
    alone = parse_trial(given, "trial", Problems(), recipes)
    complete = as_dict(alone) if alone else complete_settings(given, recipes)
    return replace(space, trial=complete | chosen, under=under, alone=alone is not None)


def _seeds_of(settings: SweepSettings) -> Seeds:
    return settings.seeds if isinstance(settings.seeds, Seeds) else Seeds(settings.seeds)


def _check_settings(settings: SweepSettings, problems: Problems) -> None:
    """What a setting must be by itself."""
    if why := unusable_name(settings.name):
        problems.add("name", why)
    check_objectives(settings.metric, problems)
    seeds = _seeds_of(settings).all
    if len(set(seeds)) != len(seeds) or not seeds:
        problems.add("seeds", f"{list(seeds)} must be one or more different numbers")
    check_custom(settings.resources.custom or {}, problems)


def _check_together(settings: SweepSettings, paths: Sequence[str], varies: bool, problems: Problems) -> None:
    """What settings ask of each other."""
    if _seeds_of(settings).until and (settings.method != "grid" or settings.confirm):
        problems.add("seeds.until", "is for a grid without `confirm`: a search does not compare with a reference")
    if settings.method != "grid" and settings.run_cap is None:
        problems.add("run_cap", f"method {settings.method} needs a number of configurations to try")
    if settings.sampler != "tpe" and settings.method != "bayes":
        problems.add("sampler", f"is for method bayes; with {settings.method} leave it out")
    if settings.sampler == "cmaes" and len(settings.metric) > 1:
        problems.add("sampler", "cmaes improves one metric; use nsga2 or tpe for several")
    if settings.method != "grid" and not varies:
        problems.add("parameters", f"method {settings.method} needs at least one parameter")
    if settings.method == "grid" and settings.run_cap is not None:
        problems.add("run_cap", "a grid runs every combination; leave it out, or use method random")
    if settings.headroom and (settings.method != "grid" or settings.confirm):
        problems.add("headroom", "bounds what the selectors of a grid without `confirm` can gain")
    if settings.early_terminate.type != "none" and settings.method == "grid" and settings.confirm is None:
        problems.add("early_terminate", "a grid without `confirm` is a comparison, in which every trial must finish")
    if settings.confirm:
        settings.confirm.check(_seeds_of(settings).all, paths, problems)


def _with_candidates(plan: Plan, problems: Problems) -> Plan:
    """The plan with every configuration that is known in advance, and of bayes with one for each value."""
    check_conditions(plan.space, problems)
    problems.raise_any()
    verdicts, space, goals = Verdicts(plan.space, plan.checked), plan.space, _goals(plan)
    references = _references(plan, verdicts, problems)
    if plan.method == "grid":
        try:
            assignments, complete = space.grid(), True
        except ValueError as error:
            problems.add("parameters", str(error))
            assignments, complete = space.combinations(), False
    else:  # a draw of few may miss values
        drawn = _distinct_draws(plan) if plan.method == "random" else []
        known = all(parameter.values for parameter in space.parameters)  # else what is left may be most of a range
        assignments, complete = drawn if plan.method == "random" else space.combinations() if known else [], False
    valid = verdicts.candidates(assignments)
    if plan.method == "grid" and complete and len(valid) == len(assignments):
        probes = []
    else:
        probes = verdicts.values(assignments, complete, problems)
        problems.raise_any()
        verdicts.combinations(assignments, problems)
        problems.raise_any()
    combined = () if plan.method == "grid" else _combined(verdicts, probes, space)
    check_read(space.parameters, itertools.chain(valid, combined), goals, problems)
    problems.raise_any()
    if plan.method == "bayes":
        return replace(plan, probes=_once(probes), references=references)
    candidates = _different(plan, valid, problems)
    bounds = bounds_of(candidates, plan.headroom, problems) if plan.headroom else ()
    return replace(plan, candidates=candidates, references=references, bounds=bounds)


def _references(plan: Plan, verdicts: Verdicts, problems: Problems) -> tuple[Candidate, ...]:
    valid: list[Candidate] = []
    for number, reference in enumerate(plan.confirm.references if plan.confirm else ()):
        place = f"confirm.references[{number}]"
        if plan.space.knows_case(reference, place, problems):
            valid += verdicts.candidates([reference])
            for line in verdicts.wrong(reference):
                problems.add(place, line)
    return tuple(valid)


def _combined(verdicts: Verdicts, probes: Sequence[Candidate], space: Space) -> Iterator[Candidate]:
    """Single values, then combinations of them and of the ends of ranges, those that make a trial."""
    yield from probes
    for assignment in space.combinations():
        yield from verdicts.candidates([assignment])


def _once(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    return tuple({name_of(one.parameters): one for one in candidates}.values())


def _different(plan: Plan, candidates: Sequence[Candidate], problems: Problems) -> tuple[Candidate, ...]:
    """The candidates without those that make the same trial as one before them, which no combination of a grid may."""
    if plan.method == "grid":
        check_told_apart(candidates, _goals(plan), problems)
    different: dict[str, Candidate] = {}
    for candidate in candidates:
        different.setdefault(candidate.configuration, candidate)
    if len(different) * len(plan.seeds) > MAX_TRIALS:
        configurations = f"{len(different):,} configurations"
        problems.add("seeds", f"{configurations} x {len(plan.seeds):,} seeds are more than {MAX_TRIALS:,} trials")
    return tuple(different.values())


def _goals(plan: Plan) -> list[str]:
    return [objective.name for objective in plan.metric]


def _distinct_draws(plan: Plan) -> list[Assignment]:
    """Up to run_cap different random assignments; fewer where the space has no more."""
    assert plan.run_cap is not None
    distinct: dict[str, Assignment] = {}
    repeated = 0
    for assignment in plan.space.draws(seed=plan.seeds[0]):
        name = name_of(assignment)
        repeated = repeated + 1 if name in distinct else 0
        distinct.setdefault(name, assignment)
        # Of n equally likely assignments one stays unseen over 20 n repetitions with probability e^-20.
        if len(distinct) == plan.run_cap or repeated > 20 * len(distinct):
            break
    return list(distinct.values())
