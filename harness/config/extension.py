"""Whether a question contains another one: what grows, and what would make the trials of before others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.config.parsing import RECIPE, over_recipe
from harness.config.plan import Plan
from harness.config.schema import SHOWN, Problems, as_dict, parse
from harness.config.space import CASE, Assignment, Parameter, Space
from harness.config.trial import LabelsConfig, TrialConfig
from harness.messages import cut

MISSING = object()


@dataclass
class Comparison:
    """What differs between a question and the one that was asked before, a line each: `key: old -> new`.

    Attributes:
        grown: what was asked before is still asked.
        refused: trials of before would not be those of now.
    """

    grown: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def add(self, key: str, old: Any, new: Any, *, grows: bool, why: str = "") -> None:
        """Notes a key, where it differs."""
        if old != new:
            change = f"{key}: {_shown(old)} -> {_shown(new)}"
            if grows:
                self.grown.append(change)
            else:
                self.refused.append(f"{change}, {why}" if why else change)


def compare_questions(old: Plan, new: Plan) -> Comparison:
    """Compares two questions; keys that only say how trials are run and shown may differ at will."""
    compared = Comparison()
    compared.add("method", old.method, new.method, grows=False)
    compared.add("metric", _goals(old), _goals(new), grows=False)
    compared.add("seeds", list(old.seeds), list(new.seeds), grows=_begins(old.seeds, new.seeds))
    compared.add("seeds.split", old.split, new.split, grows=False)
    for key in ("seeds.block", "seeds.max") if old.block or new.block else ():
        before, now = ((one.block if key == "seeds.block" else len(one.seeds)) for one in (old, new))
        compared.add(key, before, now, grows=False, why="and looks are planned in advance")
    for path, before, now in _differences(as_dict(old.space.trial), as_dict(new.space.trial), "trial"):
        compared.add(path, before, now, grows=_adds_rounds(path, before, now))
    for name in old.recipes.keys() & new.recipes.keys():
        for path, before, now in _differences(old.recipes[name], new.recipes[name], f"recipes.{name}"):
            compared.add(path, before, now, grows=False)
    _compare_spaces(old, new, compared)
    compared.add("early_terminate", as_dict(old.early_terminate), as_dict(new.early_terminate), grows=False)
    if old.run_cap and new.run_cap:
        compared.add("run_cap", old.run_cap, new.run_cap, grows=old.run_cap < new.run_cap)
    _compare_confirmations(old, new, compared)
    if not compared.refused:
        _check_trials(old, new, compared)
    return compared


def labels_asked(question: Mapping[str, Any], assignment: Assignment) -> int | None:
    """How many labels a trial of a configuration has at its end.

    Args:
        question: content of `space.yaml`.
        assignment: the configuration.

    Returns:
        None where it has all, or the question does not say it.
    """
    labels = parse(LabelsConfig, _asked(question, assignment, "labels") or {}, "", Problems())
    return labels.total if labels else None


def section_asked(question: Mapping[str, Any], assignment: Assignment, section: str) -> Any:
    """A section of a configuration's trial with its defaults, as far as these are known here.

    Args:
        question: content of `space.yaml`.
        assignment: the configuration.
        section: such as `backbone`.
    """
    given = _asked(question, assignment, section)
    trial = parse(TrialConfig, {} if given is None else {section: given}, "", Problems())
    return as_dict(trial)[section] if trial else given


def settings_of(question: Mapping[str, Any], assignment: Assignment) -> Assignment:
    """The settings of a configuration, those of its case among them."""
    return (question.get("cases") or {}).get(assignment.get(CASE), {}) | assignment


def _asked(question: Mapping[str, Any], assignment: Assignment, section: str) -> Any:
    """A section of a configuration's trial as the question and its recipe give it."""
    settings = settings_of(question, assignment)
    settings = {path: value for path, value in settings.items() if path.partition(".")[0] in (section, RECIPE)}
    trial = {key: value for key, value in (question.get("trial") or {}).items() if key in (section, RECIPE)}
    whole = over_recipe(Space((), trial).apply(trial, settings), "", Problems(), question.get("recipes") or {})
    return whole.get(section)


def _adds_rounds(path: str, before: Any, now: Any) -> bool:
    """Whether a difference is that of more rounds: a larger number, or a list of budgets that goes on."""
    if path == "trial.labels.budget":
        return isinstance(before, list) and isinstance(now, list) and _begins(before, now)
    return path == "trial.labels.rounds" and before < now


def _goals(plan: Plan) -> list[dict[str, str]]:
    return [{"name": objective.name, "goal": objective.direction} for objective in plan.metric]


def _begins(old: Sequence[Any], new: Sequence[Any]) -> bool:
    """Whether the new ones begin with the old ones: the first seed draws what a search tries."""
    return list(new[: len(old)]) == list(old)


def _compare_spaces(old: Plan, new: Plan, compared: Comparison) -> None:
    """Cases and parameters: a grid and Bayesian search may get more of either; what a random one draws would differ."""
    random, why = new.method == "random", "and a random search draws from all of them"
    cases, more = old.space.cases, new.space.cases
    for name in [*cases, *(name for name in more if name not in cases)]:
        before, now = (dict(of[name]) if name in of else MISSING for of in (cases, more))
        added = before is MISSING and bool(cases)  # without cases before, no trial of before had one
        compared.add(f"cases.{name}", before, now, grows=added and not random, why=why if added else "")
    parameters, others = ({p.path: p for p in plan.space.parameters if p.path != CASE} for plan in (old, new))
    for path in [*parameters, *(path for path in others if path not in parameters)]:
        if path in parameters and path in others:
            before, now = parameters[path], others[path]
            grows = not random and _contains(now, before, ranges=new.method == "bayes")
            compared.add(f"parameters.{path}", before.as_dict(), now.as_dict(), grows=grows, why=why if random else "")
        else:
            before, now = (of[path].as_dict() if path in of else MISSING for of in (parameters, others))
            compared.add(f"parameters.{path}", before, now, grows=False)
    if random and not compared.refused:
        compared.add("parameters", list(parameters), list(others), grows=False, why="and a random search draws in turn")


def _contains(now: Parameter, before: Parameter, *, ranges: bool) -> bool:
    """Whether every value of a parameter is still one of it, under the same condition."""
    if now.when != before.when or bool(now.values) != bool(before.values):
        return False
    if now.values:
        values = {_name(value) for value in now.values}
        return all(_name(value) in values for value in before.values)
    alike = (now.distribution, now.step) == (before.distribution, before.step)
    anchored = now.step is None or now.low == before.low  # steps are counted from the lower end
    return ranges and alike and anchored and now.low <= before.low and before.high <= now.high


def _name(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _compare_confirmations(old: Plan, new: Plan, compared: Comparison) -> None:
    """The second phase: it may be added to a search, and get more of all that it has."""
    before, now = old.confirm, new.confirm
    if before is None or now is None:
        grid = "a grid without `confirm` has read the test set" if not old.searches else ""
        added = before is None and old.searches
        compared.add("confirm", as_dict(before), as_dict(now), grows=added, why=grid)
        return
    compared.add("confirm.top", before.top, now.top, grows=before.top < now.top)
    compared.add("confirm.distinct", list(before.distinct), list(now.distinct), grows=True)
    compared.add("confirm.seeds", list(before.seeds), list(now.seeds), grows=_begins(before.seeds, now.seeds))
    names = {_name(reference) for reference in now.references}
    kept = all(_name(reference) in names for reference in before.references)
    compared.add("confirm.references", list(before.references), list(now.references), grows=kept)


def _check_trials(old: Plan, new: Plan, compared: Comparison) -> None:
    """Every configuration of before, known by what makes its trial, is one of now."""
    now = {one.configuration: one.parameters for one in new.candidates}
    others = {one.configuration for one in new.references}
    same = [now.get(one.configuration) == one.parameters for one in old.candidates]
    same += [one.configuration in others for one in old.references]
    for one, stays in zip((*old.candidates, *old.references), same, strict=True):
        if not stays:
            compared.add(f"the trial of {_shown(one.parameters)}", one.configuration, MISSING, grows=False)
            return


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """The paths at which two nested mappings differ; of plugins with different names, the names."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        if old != new:
            yield path, old, new
    elif old.get("name") != new.get("name"):
        yield path, old.get("name", old), new.get("name", new)
    else:
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(key, MISSING), new.get(key, MISSING), f"{path}.{key}")


def _shown(value: Any) -> str:
    """A value in few characters."""
    return "nothing" if value is MISSING else cut(json.dumps(value, default=str), SHOWN)
