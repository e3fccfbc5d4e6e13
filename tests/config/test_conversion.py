"""Values as the types that plugins annotate their hyper-parameters with."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import pytest

from harness.api import Augmentation, Selector
from harness.config.conversion import NOT_ONE, convert
from harness.config.plan import load_plan
from harness.config.schema import ConfigError
from harness.plugins import registry


class Metric(enum.Enum):
    """What a distance is."""

    L1 = "l1"
    L2 = "l2"


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (Sequence[float], [1, 3], (1.0, 3.0)),
        (Iterable[int], [1, 3], (1, 3)),
        (list[str], ["a"], ["a"]),
        (list[str], "a", NOT_ONE),
        (Sequence[int], [1, "3"], NOT_ONE),
        (tuple, [1, "a"], (1, "a")),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[int, str], ["a", 1], NOT_ONE),
        (tuple[float, float], [1], NOT_ONE),
        (tuple[float, float], [1, 2, 3], NOT_ONE),
        (tuple[float, ...], [1, 2, 3], (1.0, 2.0, 3.0)),
        (tuple[tuple[int, float], ...], [[1, 2], [3, 4]], ((1, 2.0), (3, 4.0))),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (Mapping[str, Sequence[int]], {"a": [1]}, {"a": (1,)}),
        (dict[str, float], {"a": "b"}, NOT_ONE),
        (dict, [1], NOT_ONE),
        (int | None, None, None),
        (float | Literal["auto"], "auto", "auto"),
        (float | Literal["auto"], "rest", NOT_ONE),
        (bool, 1, NOT_ONE),
        (int, True, NOT_ONE),
        (Any, {"a": [1]}, {"a": [1]}),
        (set[int], [1, 2], [1, 2]),
        (Metric, "l1", "l1"),
        (Callable[[int], int], "f", "f"),
    ],
)
def test_a_value_is_converted_or_is_not_one(hint, value, expected):
    got = convert(hint, value)
    assert got is NOT_ONE if expected is NOT_ONE else (got == expected and type(got) is type(expected))


class Hinted(Selector):
    """Takes what plugins of others take.

    Args:
        weights: of two things.
        named: by name.
        metric: which.
    """

    def __init__(
        self,
        *,
        weights: Sequence[float] = (1.0, 2.0),
        named: Mapping[str, int] | None = None,
        metric: Metric = Metric.L1,
    ):
        self.weights, self.named, self.metric = weights, named, Metric(metric)

    def select(self, pool, budget, *, rng):
        """The first."""
        return pool.unlabeled[:budget]


def test_a_plugin_takes_its_own_kinds_of_values_and_they_are_kept():
    selector = {"name": f"{__name__}:Hinted", "weights": [1, 3], "named": {"a": 1}, "metric": "l2"}
    plan = load_plan({"trial": {"selector": selector, "labels": {"start": 20, "budget": 5, "rounds": 1}}}, {})
    spec = plan.candidates[0].trial.selector
    built = registry.build(spec)
    assert (built.weights, built.named, built.metric) == ((1.0, 3.0), {"a": 1}, Metric.L2)
    assert load_plan(plan.as_dict(), {}).candidates[0].trial.selector.as_dict() == spec.as_dict()
    with pytest.raises(ConfigError, match="weights: expected a list, not 1"):
        load_plan({"trial": {"selector": {**selector, "weights": 1}}}, {})


LISTS = {
    "tuple": tuple[Augmentation | str, ...],
    "list": list[Augmentation | str],
    "sequence": Sequence[Augmentation | str],
    "iterable": Iterable[Augmentation | str],
    "or_none": Sequence[Augmentation | str] | None,
    "or_one": Augmentation | str | tuple[Augmentation | str, ...],
}


@pytest.mark.parametrize("hint", LISTS)
def test_plugins_in_any_kind_of_list_are_checked_and_built(hint):
    class Chain(Augmentation):
        """Some after others.

        Args:
            parts: of it.
        """

        def __init__(self, *, parts=()):
            self.parts = parts

        def __call__(self, images, *, rng):
            """As they are."""
            return images

    Chain.__init__.__annotations__["parts"] = LISTS[hint]
    Chain.__qualname__ = name = f"Chain_{hint}"
    globals()[name] = Chain

    def ask(parts):
        return load_plan({"trial": {"augmentation": {"name": f"{__name__}:{name}", "parts": parts}}}, {})

    built = registry.build(ask(["crop", {"name": "noise", "std": 0.5}]).candidates[0].trial.augmentation)
    assert [type(part).__name__ for part in built.parts] == ["Crop", "Noise"]
    assert built.parts[1].std == 0.5
    with pytest.raises(ConfigError, match=r"parts\[1\].*no augmentation 'corp'; did you mean 'crop'"):
        ask(["crop", "corp"])
    with pytest.raises(ConfigError, match=r"parts\[0\].noise: .*no hyper-parameter 'noise'"):
        ask([{"name": "noise", "noise": 1}])
    if hint == "or_one":
        assert type(registry.build(ask("crop").candidates[0].trial.augmentation).parts).__name__ == "Crop"


def test_a_mapping_is_called_one():
    with pytest.raises(ConfigError, match="named: expected a mapping or null, not 1"):
        load_plan({"trial": {"selector": {"name": f"{__name__}:Hinted", "named": 1}}}, {})
