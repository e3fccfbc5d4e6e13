"""A question whose `reference` is none of its configurations is refused, and the report finds the one that is."""

from __future__ import annotations

from typing import Any

import pytest
from sweep_folder import SweepFolder

from harness.config.plan import Plan, load_plan
from harness.config.schema import ConfigError
from harness.report.read import read_report

SELECTORS = {"selector": {"values": ["random", {"name": "coreset", "pool_subset": 500}]}}
TRIAL = {"labels": {"start": 20, "budget": 20, "rounds": 1}}
SEARCH = {"method": "bayes", "run_cap": 4}
RATES = {"pretrain.lr": {"min": 0.1, "max": 0.9}, **SELECTORS}


def ask(reference: dict[str, Any] | None, **question: Any) -> Plan:
    return load_plan({"trial": TRIAL, "parameters": SELECTORS, "reference": reference, **question}, {})


FITTING = [
    {"selector": "random"},
    {"selector.name": "random"},
    {"selector": {"name": "coreset"}},
    {"selector": {"name": "coreset", "pool_subset": 500}},
    {"selector.pool_subset": 500},
]
STRANGE = [
    ({"selector": "randm"}, "reference.selector: no configuration has 'randm'; did you mean 'random'?"),
    ({"selector.name": 3}, "reference.selector: no configuration has 3; known: coreset, random"),
    ({"selecter": "random"}, "reference.selecter: no parameter sets it; did you mean 'selector'?"),
    ({"case": "x"}, "reference.case: no parameter sets it; known: selector, selector.pool_subset"),
    ({"backbone": "dcnn3", "selector": "random"}, "reference.backbone: no parameter sets it; "),
    (
        {"selector": {"name": "random", "pool_subset": 500}},
        "reference: no configuration has all of {'selector': 'random', ",
    ),
]


@pytest.mark.parametrize("reference", FITTING)
def test_a_reference_is_a_part_of_a_configuration(reference):
    assert ask(reference).reference == reference


@pytest.mark.parametrize(("reference", "said"), STRANGE)
def test_a_reference_that_no_configuration_is(reference, said):
    with pytest.raises(ConfigError) as caught:
        ask(reference)
    (problem,) = caught.value.problems
    assert problem.startswith(said)


def test_a_reference_among_those_of_the_second_phase():
    asked = {"confirm": {"seeds": [7], "references": [{"selector": "badge"}]}}
    assert ask({"selector": "badge"}, **asked).reference == {"selector": "badge"}
    with pytest.raises(ConfigError, match="no configuration has 'badg'; did you mean 'badge'"):
        ask({"selector": "badg"}, **asked)


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
def test_a_reference_of_a_search_that_is_confirmed_is_confirmed_itself(method):
    search = {"method": method} | ({} if method == "grid" else {"run_cap": 2})
    for references in ([], [{"selector": "badge"}]):
        with pytest.raises(ConfigError) as caught:
            ask({"selector": "random"}, **search, confirm={"seeds": [7], "references": references})
        said = (
            "reference: {'selector': 'random'} is confirmed only if it is among the best; add it to confirm.references"
        )
        assert caught.value.problems == [said]
    for reference in ({"selector": "random"}, {"selector.name": "random"}, None):
        confirmed = {"seeds": [7], "references": [{"selector": "badge"}, {"selector": "random", "pretrain.epochs": 9}]}
        assert ask(reference, **search, confirm=confirmed).reference == reference


FOUR = {"selector": {"values": ["random", "margin", "entropy", "coreset"]}, "classifier.lr": {"values": [0.01, 0.001]}}
OF_EACH = {"distinct": ["selector"], "seeds": [7]}
STOPS = {"early_terminate": {"type": "asha"}}
CONFIRMED = [  # whether a reference is confirmed whatever comes out best, and what of the question decides it
    (True, {"selector": "random"}, OF_EACH | {"top": 4}, {}),
    (False, {"selector": "random"}, OF_EACH | {"top": 3}, {}),  # of four selectors the three best
    (False, {"selector": "random"}, OF_EACH | {"top": 1}, {}),
    (False, {"selector": "random", "classifier.lr": 0.01}, OF_EACH | {"top": 8}, {}),  # it may lose to random at .001
    (True, {"selector": "random", "classifier.lr": 0.01}, {"top": 8, "seeds": [7]}, {}),
    (False, {"selector": "random", "classifier.lr": 0.01}, {"top": 7, "seeds": [7]}, {}),
    (True, {"selector": "random"}, {"top": 7, "seeds": [7]}, {}),  # six are of other selectors
    (False, {"selector": "random"}, {"top": 6, "seeds": [7]}, {}),
    (False, {"selector": "random"}, OF_EACH | {"top": 4}, STOPS),  # both of its trials may be stopped
    (False, {"selector": "random"}, {"top": 8, "seeds": [7]}, STOPS),
    (False, {"selector": "random"}, OF_EACH | {"top": 4}, {"method": "bayes", "run_cap": 8}),  # it need not try it
    (True, {"selector": "random"}, {"top": 1, "seeds": [7]}, STOPS | {
        "parameters": FOUR | {"selector": {"values": ["random"]}}}),  # whatever is the best is it
    (True, {"selector": "badge"}, OF_EACH | {"top": 1, "references": [{"selector": "badge"}]}, STOPS),
]  # fmt: skip


@pytest.mark.parametrize(("sure", "reference", "confirm", "question"), CONFIRMED)
def test_a_reference_is_accepted_where_it_is_confirmed_whatever_is_best(sure, reference, confirm, question):
    trial = TRIAL | {"classifier": {"name": "linear"}}
    asked = {"method": "grid", "trial": trial, "parameters": FOUR, "confirm": confirm} | question
    if sure:
        assert ask(reference, **asked).reference == reference
    else:
        with pytest.raises(ConfigError, match="is confirmed only if it is among the best"):
            ask(reference, **asked)


def test_a_reference_of_a_search_is_within_its_values_and_ranges():
    for reference in ({"selector": "coreset", "pretrain.lr": 0.3}, {"pretrain.lr": 0.1}):
        assert ask(reference, **SEARCH, parameters=RATES).reference == reference
    for rate in (0.95, "fast", True):
        with pytest.raises(ConfigError, match=f"reference.pretrain.lr: no configuration has {rate!r}; "):
            ask({"pretrain.lr": rate}, **SEARCH, parameters=RATES)


@pytest.mark.parametrize("reference", [*FITTING, *(reference for reference, _ in STRANGE)])
def test_the_report_finds_what_the_question_may_name(tmp_path, reference):
    sweep = SweepFolder(tmp_path / "s", reference=reference)
    for candidate in ask(None).candidates:
        sweep.trial(candidate.configuration, 1, candidate.parameters, {20: 0.5})
    notes = read_report(sweep.path).notes
    assert any("is the reference" in note for note in notes) == (reference not in FITTING)


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_what_a_search_may_draw_can_be_the_reference(method):
    search = SEARCH | {"method": method, "run_cap": 1}
    parameters = RATES | {"pretrain.epochs": {"min": 1, "max": 9}, "pretrain.batch_size": {"values": [16, 32]}}
    for reference in ({"pretrain.batch_size": 16}, {"pretrain.batch_size": 32}, {"pretrain.epochs": 2}):
        assert ask(reference, parameters=parameters, **search).reference == reference
    for reference in ({"pretrain.batch_size": 48}, {"pretrain.epochs": 2.5}):
        with pytest.raises(ConfigError, match="no configuration has"):
            ask(reference, parameters=parameters, **search)
