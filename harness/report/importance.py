"""How much each searched parameter matters, by Optuna's functional ANOVA."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

Choice = bool | int | float | str


def importances(
    parameters: Sequence[Mapping[str, Any]], values: Sequence[float], domains: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """Hutter et al.'s (2014) functional ANOVA: the share of the variance of a forest's predictions by each parameter.

    Args:
        parameters: of each configuration: path -> value; what some lack is left out.
        values: the objective of each.
        domains: path -> `{"min": ..., "max": ..., "distribution": ...}` of continuous ones; others take the values
            that occur.

    Returns:
        Path -> share, largest first, summing to 1; empty where fewer than two parameters vary.
    """
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    distributions: dict[str, BaseDistribution] = {}
    for path in set.intersection(*(set(one) for one in parameters)):
        domain = domains.get(path, {})
        if "min" in domain:
            log = "log" in str(domain.get("distribution", ""))
            distributions[path] = FloatDistribution(float(domain["min"]), float(domain["max"]), log=log)
            continue
        choices = sorted({_choice(one[path]) for one in parameters}, key=str)
        if len(choices) > 1:
            distributions[path] = CategoricalDistribution(choices)
    if len(distributions) < 2 or len(set(values)) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        for one, value in zip(parameters, values, strict=True):
            chosen = {path: _value(one[path], one_of) for path, one_of in distributions.items()}
            study.add_trial(optuna.trial.create_trial(params=chosen, distributions=distributions, value=value))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _value(value: Any, distribution: Any) -> Choice:
    return float(value) if hasattr(distribution, "low") else _choice(value)


def _choice(value: Any) -> Choice:
    return value if isinstance(value, bool | int | float | str) else str(value)
