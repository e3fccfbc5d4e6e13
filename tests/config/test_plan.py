"""A file becomes a plan: candidates, their names, both phases, and the form that is kept."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from harness.config import plan as plan_module
from harness.config.parsing import parse_trial
from harness.config.plan import Plan, load_plan
from harness.config.schema import ConfigError, parse_overrides
from harness.metrics import PER_ROUND
from harness.sweep import preflight
from harness.trial.run import load_data

GRID = """
# Question: which selector?
#   Asked for a test.
# Run: it
trial:
  labels: {start: 20, budget: 10, rounds: 1}
parameters:
  selector: {values: [random, {name: coreset}]}
  pretrain.epochs: {values: [1, 2]}
"""

RENAMED = """
method: random
run_cap: 6
metric: [{name: val/accuracy}, {name: time/total_seconds}]
seeds: [3, 4]
early_terminate: {type: asha}
confirm: {top: 2, seeds: [5, 6], references: [{ssl_method.name: none}, {ssl_method.name: none}]}
reference: {ssl_method.name: none}
trial:
  ssl_method: simclr
  augmentation: {first: blur}
parameters:
  ssl_method.name: {values: [simclr]}
  ssl_method.temperature: {min: 0.1, max: 0.9, distribution: log_uniform_values, when: {ssl_method.name: simclr}}
  pretrain.batch_size: {min: 16, max: 64, q: 16, distribution: q_uniform}
  augmentation.second: {values: [crop, {name: noise, std: 0.2}]}
"""

CASES = """
trial: {ssl_method: {name: simclr, temperature: 0.3}}
cases:
  untrained: {ssl_method.name: none, ssl_method: none}
  simclr: {}
"""


def read(tmp_path: Path, text: str, *overrides: str) -> Plan:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    return load_plan(file, parse_overrides(list(overrides)))


def names(plan: Plan) -> list[str]:
    return [candidate.configuration for candidate in plan.candidates]


def test_a_grid_without_confirm_is_measured_at_once(tmp_path):
    plan = read(tmp_path, GRID, "seeds=[1, 2]")
    tasks = plan.first_tasks()
    assert not plan.searches
    assert [task.seed for task in tasks] == [1, 2] * 4
    assert {task.phase for task in tasks} == {"confirm"}
    assert [task.trial_id for task in tasks[:2]] == [f"confirm-{names(plan)[0]}-s{seed}" for seed in (1, 2)]
    assert len({task.trial_id for task in tasks}) == 8
    assert plan.confirm_tasks([]) == []


def test_a_grid_with_confirm_is_a_search(tmp_path):
    plan = read(tmp_path, GRID, "confirm={top: 1, seeds: [5]}")
    assert plan.searches
    assert {task.phase for task in plan.first_tasks()} == {"search"}


def test_each_confirmed_configuration_leaves_one_portrait(tmp_path):
    plan = read(tmp_path, GRID, "seeds=[3, 1]")
    assert [task.seed for task in plan.first_tasks() if task.portrait] == [3] * 4
    off = read(tmp_path, GRID, "seeds=[3, 1]", "portrait=false")
    assert not any(task.portrait for task in off.first_tasks())
    assert (plan.as_dict()["portrait"], off.as_dict()["portrait"]) == (True, False)
    searched = read(tmp_path, GRID, "confirm={seeds: [8, 7]}")
    assert not any(task.portrait for task in searched.first_tasks())
    confirmed = searched.confirm_tasks([candidate.parameters for candidate in searched.candidates[:2]])
    assert [task.seed for task in confirmed if task.portrait] == [8, 8]
    with pytest.raises(ConfigError, match="time/portrait_seconds is measured in some trials only"):
        read(tmp_path, GRID, "metric={name: time/portrait_seconds}")
    with pytest.raises(ConfigError, match=r"portrait: expected .*, not 'yes please'"):
        read(tmp_path, GRID, "portrait=yes please")


def test_seeds_may_split_the_data_anew_and_stay_paired(tmp_path):
    same, fresh = read(tmp_path, GRID, "seeds=[1, 2]"), read(tmp_path, GRID, "seeds={values: [1, 2], split: fresh}")
    assert (same.split, fresh.split) == ("same", "fresh")
    assert same.seeds == fresh.seeds == (1, 2)
    assert [task.trial_id for task in same.first_tasks()] == [task.trial_id for task in fresh.first_tasks()]
    assert {task.trial.data.split_seed for task in same.first_tasks()} == {0}
    assert [task.trial.data.split_seed for task in fresh.first_tasks()] == [1, 2] * 4
    moved = read(tmp_path, GRID, "seeds={values: [1, 2], split: fresh}", "trial.data.split_seed=10")
    assert [task.trial.data.split_seed for task in moved.first_tasks()] == [11, 12] * 4
    whole = [
        replace(task.trial, data=task.candidate.trial.data) == task.candidate.trial for task in fresh.first_tasks()
    ]
    assert all(whole), "nothing but the split differs from the configuration"
    searched = read(tmp_path, RENAMED, "seeds={values: [3], split: fresh}")
    confirmed = searched.confirm_tasks([searched.candidates[0].parameters])
    assert [task.trial.data.split_seed for task in confirmed] == [5, 6, 5, 6]


@pytest.mark.parametrize(
    "seeds",
    ["[1, 2]", "{values: [1, 2], split: fresh}", "{split: fresh}", "{values: [4]}", "{max: 9, until: resolved}",
     "{max: 9, until: resolved, block: 4, split: fresh}"],
)  # fmt: skip
def test_seeds_are_kept_so_that_they_mean_the_same_again(tmp_path, seeds):
    plan = read(tmp_path, GRID, f"seeds={seeds}")
    again = load_plan(plan.as_dict(), {})
    assert (again.seeds, again.split, again.block) == (plan.seeds, plan.split, plan.block)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("{split: frsh}", "seeds.split: expected .*'fresh'"),
        ("{values: [1, 1]}", r"seeds: \[1, 1\] must be one or more different numbers"),
        ("{values: [-1]}", r"seeds.values\[0\]: -1 is below"),
        ("{seeds: [1]}", "seeds.seeds: no such key; known: block, max, split, until, values"),
        ("{max: 9}", r"seeds: max and until go together: seeds: \{max: 30, until: resolved\}"),
        ("{until: resolved}", "seeds: max and until go together"),
        ("{max: 9, until: resolvd}", "seeds.until: expected .*; did you mean 'resolved'"),
        ("{max: 9, until: resolved, values: [7]}", "seeds: values has no meaning beside max: the seeds are 0 to 8"),
        ("{max: 4, until: resolved}", "seeds: block: 5 is more than max, 4"),
        *(
            (
                f"{{max: {number}, until: resolved}}",
                f"seeds: max: {number} is more than the 100,000 trials that a sweep",
            )
            for number in (100_001, 10**9, 10**30)
        ),
        ("{max: 9, until: resolved, block: 2}", "seeds.block: 2 is below the smallest valid value 3"),
    ],
)
def test_seeds_that_cannot_be_are_refused(tmp_path, seeds, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, GRID, f"seeds={seeds}")


def test_seeds_until_resolved_are_those_of_a_comparison_and_at_most_so_many(tmp_path):
    plan = read(tmp_path, GRID, "seeds={max: 9, until: resolved}")
    assert plan.seeds == tuple(range(9))
    assert plan.block == 5
    assert len(plan.first_tasks()) == 4 * 9
    assert "confirm: 4 configurations x 9 seeds, at most: 5 at a time until resolved" in preflight.preview(plan)
    with pytest.raises(ConfigError, match=r"seeds.until: is for a grid without `confirm`"):
        read(tmp_path, GRID, "seeds={max: 9, until: resolved}", "confirm={seeds: [10]}")


def test_fresh_splits_do_not_show_a_search_what_is_tested_later(tmp_path, cache):
    fresh = "seeds={split: fresh}"
    preflight.check_data(read(tmp_path, GRID, fresh), cache)  # a comparison: nothing is chosen
    with pytest.raises(ConfigError, match=r"seeds.split: digits has no test images of its own, .* leave `confirm` out"):
        preflight.check_data(read(tmp_path, GRID, fresh, "confirm={seeds: [8, 7]}"), cache)


SPLITS = [
    ("data.split_seed: {values: [0, 1]}", "{}", True),
    ("data.test: {values: [100, 400]}", "{}", True),
    ("pretrain.epochs: {values: [1, 2]}", "{confirm: {references: [{data.split_seed: 3}], seeds: [9]}}", True),
    ("data.val: {values: [0.1, 0.2]}", "{}", False),
    ("data.fraction: {values: [0.5, 1.0]}", "{}", False),
    ("data.imbalance: {values: [null, {kind: exponential, ratio: 5}]}", "{}", False),
]


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
@pytest.mark.parametrize(("varied", "more", "refused"), SPLITS)
def test_no_search_sees_what_another_of_its_trials_is_tested_by(tmp_path, cache, method, varied, more, refused):
    search = "" if method == "grid" else f"method: {method}\nrun_cap: 2\n"
    text = f"{search}trial: {{labels: {{start: 20}}}}\nparameters: {{{varied}}}"
    asked = {"confirm": {"seeds": [9]}} | yaml.safe_load(more)
    plan = load_plan(yaml.safe_load(text) | asked, {})
    if refused:
        said = (
            "data: digits has no test images of its own, and several test sets of it would show .* one data.split_seed"
        )
        with pytest.raises(ConfigError, match=said):
            preflight.check_data(plan, cache)
    else:
        preflight.check_data(plan, cache)
    if method == "grid" and "confirm" not in more:
        preflight.check_data(load_plan(yaml.safe_load(text), {}), cache)  # a comparison: nothing is chosen


def test_the_data_of_a_seed_are_those_of_every_configuration(tmp_path, cache):
    plan = read(tmp_path, GRID, "seeds={values: [1, 2], split: fresh}", "trial.data.fraction=0.2")
    data = {task.trial_id: load_data(task.trial, cache, with_test=True) for task in plan.first_tasks()}
    of_seed = {
        seed: {parts.fingerprint for name, (parts, _) in data.items() if name.endswith(f"-s{seed}")} for seed in (1, 2)
    }
    assert all(len(fingerprints) == 1 for fingerprints in of_seed.values())
    assert of_seed[1] != of_seed[2]
    tested = [{image.numpy().tobytes() for image in parts.test[torch.arange(50)]} for parts, _ in data.values()]
    assert tested[0] == tested[2] != tested[1]


def test_ids_name_the_configuration_however_it_is_written(tmp_path):
    short = read(tmp_path, "trial: {selector: coreset, pretrain: {lr: 1.0, epochs: 3}}")
    long = read(tmp_path, "trial: {pretrain: {epochs: 3, lr: 1}, selector: {name: coreset}, labels: {start: all}}")
    other = read(tmp_path, "trial: {selector: coreset, pretrain: {lr: 1.0, epochs: 4}}")
    assert names(short) == names(long) != names(other)
    assert re.fullmatch(r"[0-9a-f]{8}", names(short)[0])
    assert names(read(tmp_path, GRID)) == names(read(tmp_path, GRID))


def test_ids_do_not_depend_on_what_else_is_searched(tmp_path):
    alone = read(tmp_path, GRID, "parameters.pretrain.epochs.values=[2]")
    assert set(names(alone)) < set(names(read(tmp_path, GRID)))


def test_the_second_phase_runs_references_first_and_nothing_twice(tmp_path):
    plan = read(tmp_path, RENAMED)
    reference, best = {"ssl_method.name": "none"}, plan.candidates[0].parameters
    same = {"ssl_method": "simclr", **best}
    tasks = plan.confirm_tasks([best, reference, same])
    assert [task.seed for task in tasks] == [5, 6, 5, 6]
    assert {task.phase for task in tasks} == {"confirm"}
    expected = [plan.candidate(reference).configuration, plan.candidate(best).configuration]
    assert [task.candidate.configuration for task in tasks[::2]] == expected
    assert tasks[0].candidate.trial.ssl_method.name == "none"


def test_the_description_is_the_opening_comment(tmp_path):
    text = GRID.lstrip()
    assert read(tmp_path, text).description == "Which selector? Asked for a test."
    assert read(tmp_path, text, "description=Why?").description == "Why?"
    assert read(tmp_path, text).name == "space"


@pytest.mark.parametrize("text", [GRID, RENAMED, CASES, "trial: {}"])
def test_what_is_kept_reads_back_as_the_same_plan(tmp_path, text):
    plan = read(tmp_path, text)
    kept = yaml.safe_dump(plan.as_dict(), sort_keys=False)
    again = read(tmp_path, kept)
    assert [(c.parameters, c.configuration) for c in again.candidates] == [
        (c.parameters, c.configuration) for c in plan.candidates
    ]
    assert again.as_dict() == plan.as_dict()
    assert [t.trial_id for t in again.confirm_tasks([])] == [t.trial_id for t in plan.confirm_tasks([])]


SELECTORS = "selector: {values: [random, margin]}"
GIVEN = """
trial: {backbone: given, labels: {start: 20, budget: 10, rounds: 1}}
"""
FILES = "dataset: {values: [{name: embeddings, path: a.npz}, {name: embeddings, path: b.npz}]}"


@pytest.mark.parametrize(
    "varied",
    [
        f"parameters: {{{FILES}, {SELECTORS}}}",
        f"parameters: {{{SELECTORS}, {FILES}}}\nmethod: bayes\nrun_cap: 2",
        f"parameters: {{{SELECTORS}, data.val: {{values: [0.3], when: {{selector: margin}}}}, {FILES}}}",
        "cases: {a: {dataset: {name: embeddings, path: a.npz}}, b: {backbone: dcnn3}}",
    ],
)
def test_a_trial_that_fits_with_what_always_varies_alone_is_judged_with_it(tmp_path, varied):
    plan = read(tmp_path, GIVEN + varied)
    assert {one.trial.labels.rounds for one in plan.some_candidates()} == {1}
    again = load_plan(json.loads(json.dumps(plan.as_dict())), {})
    assert again.as_dict() == plan.as_dict()
    assert [c.configuration for c in again.some_candidates()] == [c.configuration for c in plan.some_candidates()]


@pytest.mark.parametrize(
    ("varied", "problems"),
    [
        (f"parameters: {{{SELECTORS}}}", ["trial.backbone: given takes features, and digits gives images"]),
        (
            f"parameters: {{{FILES}}}".replace("[{", "[digits, {"),
            ["parameters.dataset.values[0]: trial.backbone: given takes features, and digits gives images"],
        ),
        (
            f"parameters: {{{FILES}}}".replace("}]", "}, digits]"),
            ["parameters.dataset.values[2]: trial.backbone: given takes features, and digits gives images"],
        ),
        (f"parameters: {{{FILES}, pretrain.epoch: {{values: [1]}}}}", ["parameters.pretrain.epoch"]),
        (
            f"parameters: {{{FILES}, dataset.path: {{values: [c.npz], when: {{selector: margin}}}}}}",
            ["parameters.dataset.path.when: never holds"],
        ),
    ],
)
def test_what_does_not_fit_in_a_trial_that_exists_is_said_once(tmp_path, varied, problems):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, GIVEN + varied)
    found = [problem.partition("space.yaml: ")[2] for problem in caught.value.problems]
    assert len(found) == len(problems)
    assert all(map(str.startswith, found, problems))


def test_what_is_kept_is_resolved(tmp_path):
    kept = read(tmp_path, RENAMED).as_dict()
    assert kept["trial"]["classifier"]["epochs"] == 100
    assert kept["trial"]["augmentation"]["first"]["name"] == "blur"
    assert kept["trial"]["ssl_method"] == "simclr", "another method has other defaults"
    assert [metric["goal"] for metric in kept["metric"]] == ["maximize", "minimize"]


def test_random_candidates_differ_and_end_where_the_space_does(tmp_path):
    assert len(set(names(read(tmp_path, RENAMED)))) == 6
    text = "method: random\nrun_cap: 5000\nparameters: {pretrain.epochs: {values: [1, 2, 3]}}"
    plan = read(tmp_path, text)
    assert sorted(candidate.parameters["pretrain.epochs"] for candidate in plan.candidates) == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (
            "trial: {labels: {start: 20, budget: 10, rounds: 1}}\nconfirm: {references: [{selector: random}]}\n"
            "parameters: {selector: {values: [random, coreset]}}",
            2,
        ),
        ("method: bayes\nrun_cap: 5\nparameters: {pretrain.epochs: {min: 1, max: 9}}", 2),
    ],
)
def test_a_configuration_is_parsed_once(tmp_path, monkeypatch, text, number):
    parsed = []
    monkeypatch.setattr(plan_module, "parse_trial", lambda *given: parsed.append(given[0]) or parse_trial(*given))
    plan = read(tmp_path, text)
    assert len(plan.some_candidates()) >= number
    preflight.preview(plan)
    plan.confirm_tasks([])
    assert len(parsed) == number + 1  # and the trial that they vary


@pytest.mark.parametrize("name", PER_ROUND)
def test_what_is_measured_in_every_round_is_no_goal(tmp_path, name):
    with pytest.raises(ConfigError, match=f"{name} is measured in every round, not once"):
        read(tmp_path, GRID, f"metric={{name: {name}}}")


def test_bayes_has_no_candidates_in_advance(tmp_path):
    plan = read(tmp_path, RENAMED, "method=bayes")
    assert plan.candidates == ()
    assert plan.searches


def test_preflight_names_the_configuration_whose_budget_does_not_fit(tmp_path):
    plan = read(tmp_path, GRID, "parameters={labels.budget: {values: [10, 9999]}}")
    with pytest.raises(ConfigError) as caught:
        preflight.check_data(plan, tmp_path / "data")
    (problem,) = caught.value.problems
    assert "budget 9999" in problem
    assert "use at most" in problem


def test_preflight_refuses_a_batch_larger_than_the_pool(tmp_path):
    with pytest.raises(ConfigError, match=r"pretrain.batch_size: 99999 is more than the pool has; use at most 1294"):
        preflight.check_data(read(tmp_path, "trial: {pretrain: {batch_size: 99999}}"), tmp_path / "data")


def test_preflight_refuses_crops_that_the_backbone_does_not_take_in_every_configuration(tmp_path):
    crops = "[{name: crop, size: 4}, {name: pair, first: flip, second: {name: crop, size: 4}}, flip]"
    plan = read(tmp_path, GRID, f"parameters={{augmentation: {{values: {crops}}}}}")
    with pytest.raises(ConfigError) as caught:
        preflight.check_data(plan, tmp_path / "data")
    assert len(caught.value.problems) == 2
    assert all("augmentation: view 0 is 4x4, which DCNN3 does not take" in line for line in caught.value.problems)


def test_preflight_refuses_a_resolution_that_the_backbone_does_not_take(tmp_path):
    text = "trial: {pretrain: {resolutions: [0.5, 1.0]}, ssl_method: METHOD, backbone: BACKBONE}"
    with pytest.raises(ConfigError, match=r"trial: pretrain.resolutions: 0.5 of 8x8 is 4x4, which DCNN3 does not take"):
        preflight.check_data(
            read(tmp_path, text.replace("METHOD", "simclr").replace("BACKBONE", "dcnn3")), tmp_path / "data"
        )
    for method, backbone in [("simclr", "wide_resnet28"), ("none", "dcnn3")]:  # any size; nothing is pre-trained
        plan = read(tmp_path, text.replace("METHOD", method).replace("BACKBONE", backbone))
        assert len(preflight.check_data(plan, tmp_path / "data")) == 1


def test_preflight_refuses_a_backbone_that_does_not_take_the_images(tmp_path):
    """Whether 8x8 pixels suffice is known when the data is there: until then the network may be right."""
    plan = read(tmp_path, "trial: {backbone: torchvision/inception_v3}")
    with pytest.raises(ConfigError, match=r"backbone 'torchvision/inception_v3': it cannot take images of 8x8"):
        preflight.check_data(plan, tmp_path / "data")


def test_preflight_opens_every_data_set_of_a_bayes_search(tmp_path):
    plan = read(
        tmp_path,
        "method: bayes\nrun_cap: 3\nparameters: {data.val: {values: [0.1, 0.2]}, pretrain.lr: {min: 0.1, max: 0.2}}",
    )
    prepared = preflight.check_data(plan, tmp_path / "data")
    assert sorted({len(data.val) for _, data in prepared}) == [144, 288]


def test_the_preview_counts_shared_stages(tmp_path):
    text = preflight.preview(read(tmp_path, GRID, "seeds=[0, 1]"))
    assert text.splitlines()[0].endswith(": grid, judged by test/accuracy")
    assert "4 configurations x 2 seeds" in text
    assert "4 pre-trainings for 8 trials that need one (4 shared)" in text
    assert "16 classifier trainings" in text


FIRST_LABELS = "labels.start: {values: [20, 0]}"
COMBINATIONS = {
    "values": f"parameters: {{{FIRST_LABELS}, classifier.name: {{values: [logistic, ridge]}}, {SELECTORS}}}",
    "a case": f"cases: {{a: {{labels.start: 20}}, b: {{labels.start: 0}}}}\nparameters: {{{SELECTORS}}}",
    "a condition": f"parameters: {{{FIRST_LABELS}, pretrain.epochs: {{values: [1, 2]}}, "
    "selector: {values: [random, margin], when: {pretrain.epochs: 2}}}",
}
ENDS = {
    "an end": "parameters: {labels.start: {min: 0, max: 20}, pretrain.lr: {min: 0.01, max: 0.1}, "
    "selector: {values: [random, margin]}}",
    "too many to look at all": f"parameters: {{{FIRST_LABELS}, {SELECTORS}, "
    + ", ".join(f"{name}: {{min: 0.01, max: 0.1}}" for name in (
        "pretrain.lr", "pretrain.weight_decay", "classifier.weight_decay", "classifier.lr", "data.val",
        "ssl_method.temperature", "pretrain.momentum", "data.fraction")) + "}",
}  # fmt: skip
ROUND = "trial: {labels: {start: 20, budget: 20, rounds: 1}, classifier: linear}\n"


@pytest.mark.parametrize("method", ["grid", "bayes", "random"])
@pytest.mark.parametrize("varied", [*COMBINATIONS, *ENDS])
def test_a_combination_that_makes_no_trial_is_refused_whatever_the_method(tmp_path, method, varied):
    if method == "grid" and varied in ENDS:
        pytest.skip("a grid has no ranges")
    cap = "" if method == "grid" else "run_cap: 20\n" if method == "random" else "run_cap: 1\n"
    text = (COMBINATIONS | ENDS)[varied]
    if method == "random" and varied == "an end":
        text = text.replace("min: 0, max: 20", "min: 0, max: 1")
    question = f"{ROUND}method: {method}\n{cap}{text}"
    if method == "bayes" and varied in ENDS:
        assert read(tmp_path, question).probes  # which has no `when` for a range; it leaves out what makes no trial
        return
    with pytest.raises(ConfigError, match=r"parameters \{.*\}: trial.labels.start: .*margin.* cannot start without"):
        read(tmp_path, question)
    read(tmp_path, f"{ROUND}method: {method}\n{cap}{text.replace('margin', 'coreset')}")


JOINT = """
confirm: {seeds: [1]}
early_terminate: {type: asha}
trial:
  mode: joint
  labels: {start: 20, budget: 10, rounds: 1}
  classifier: {name: finetune}
parameters:
  joint.weight: {values: [0.1, 0.5]}
"""


def test_early_stopping_of_joint_training_needs_validation_in_between(tmp_path):
    with pytest.raises(ConfigError, match=r"early_terminate sees nothing of joint training; .*validate_every to 1"):
        read(tmp_path, JOINT)
    assert len(read(tmp_path, JOINT, "trial.joint.validate_every=2").candidates) == 2
    assert len(read(tmp_path, JOINT, "early_terminate.type=none").candidates) == 2


SEVERAL = {
    "dataset": "parameters: {dataset: {values: [digits, cifar10]}, pretrain.lr: {values: [0.1, 0.2]}}",
    "data": "parameters: {data.fraction: {values: [0.5, 0.9]}}",
    "mode": "trial: {joint: {validate_every: 1}, classifier: finetune, ssl_method: moby, labels: {start: 20}}\n"
    "parameters: {mode: {values: [pretrain, joint]}}",
    "dataset and data": "cases: {a: {dataset: digits}, b: {dataset: cifar10, data.split_seed: 3}}",
}


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
@pytest.mark.parametrize("varied", SEVERAL)
def test_early_stopping_compares_epochs_of_one_scale_alone(tmp_path, method, varied):
    cap = "" if method == "grid" else "run_cap: 4\n"
    text = f"method: {method}\n{cap}confirm: {{seeds: [7]}}\n{SEVERAL[varied]}"
    problem = rf"early_terminate: .* one scale, and {varied} var\w+; make a sweep of each, or use type: none"
    for rule in ("asha", "median"):
        with pytest.raises(ConfigError, match=problem):
            read(tmp_path, f"{text}\nearly_terminate: {{type: {rule}}}")
    read(tmp_path, text)


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
def test_early_stopping_compares_seeds_on_fresh_splits_and_leaves_references_alone(tmp_path, method):
    cap = "" if method == "grid" else "run_cap: 2\n"
    more = "early_terminate: {type: asha}\nparameters: {pretrain.lr: {values: [0.1, 0.2]}}\n"
    confirm = "confirm: {seeds: [7], references: [{data.fraction: 0.5}]}\nseeds: {values: [0, 1], split: fresh}\n"
    assert read(tmp_path, f"method: {method}\n{cap}{more}{confirm}").judging_seed == 0


def test_what_is_kept_in_mlflow(tmp_path):
    plan = read(tmp_path, GRID)
    assert (plan.log_model, plan.system_metrics) == ("none", False)
    plan = read(tmp_path, GRID, "log_model=best", "system_metrics=true")
    assert (plan.as_dict()["log_model"], plan.as_dict()["system_metrics"]) == ("best", True)
    with pytest.raises(ConfigError, match=r"log_model: expected best \| all \| none.*did you mean 'best'"):
        read(tmp_path, GRID, "log_model=bests")


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ("simlcr", "there is no case 'simlcr'; did you mean 'simclr'?"),
        ({"name": ["simclr"]}, "there is no case {'name': ['simclr']}; known: simclr, untrained"),
        (None, "there is no case None; known: simclr, untrained"),
    ],
)
def test_a_reference_names_a_case_that_there_is(tmp_path, case, problem):
    phase = {"top": 1, "seeds": [1], "references": [{"case": case}]}
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"{CASES}\nmethod: random\nrun_cap: 2\nseeds: [0]\nconfirm: {json.dumps(phase)}\n")
    assert [problem.partition(": ")[2] for problem in caught.value.problems] == [
        f"confirm.references[0].case: {problem}"
    ]


def test_a_reference_may_be_a_case(tmp_path):
    phase = {"top": 1, "seeds": [1], "references": [{"case": "untrained"}]}
    plan = read(tmp_path, f"{CASES}\nmethod: random\nrun_cap: 2\nseeds: [0]\nconfirm: {json.dumps(phase)}\n")
    assert plan.references[0].trial.ssl_method.name == "none"


HEADROOM = """
headroom: {batches: 8}
seeds: [0, 1]
trial: {labels: {start: 20, budget: 10, rounds: 1}, classifier: ridge, data: {val: 50}}
"""


def test_selectors_that_differ_in_nothing_else_share_an_upper_bound(tmp_path):
    plan = read(tmp_path, HEADROOM + f"parameters: {{{SELECTORS}, pretrain.epochs: {{values: [1, 2]}}}}")
    tasks = plan.headroom_tasks()
    assert [(task.trial.pretrain.epochs, task.seed) for task in tasks] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert {task.phase for task in tasks} == {"headroom"}
    assert tasks[0].candidate.parameters == {"pretrain.epochs": 1, "headroom": "best of 8 batches"}
    bound = tasks[0].candidate.bound
    assert bound is not None
    assert [spec.name for spec in bound.selectors] == ["random", "margin"]
    names = {task.trial_id for task in [*tasks, *plan.first_tasks()]}
    assert len(names) == len(tasks) + len(plan.first_tasks())
    more = read(tmp_path, HEADROOM.replace("8", "9") + f"parameters: {{{SELECTORS}}}")
    assert more.bounds[0].configuration not in {candidate.configuration for candidate in plan.bounds}
    assert "headroom: 2 upper bounds x 2 seeds, the best of 8 batches" in preflight.preview(plan)
    assert not read(tmp_path, HEADROOM.replace("headroom: {batches: 8}", "") + f"parameters: {{{SELECTORS}}}").bounds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("parameters: {pretrain.epochs: {values: [1, 2]}}", "two configurations or more that differ in their selector"),
        (f"parameters: {{{SELECTORS}}}\nconfirm: {{seeds: [7]}}", "a grid without `confirm`"),
        (f"parameters: {{{SELECTORS}, classifier.name: {{values: [finetune]}}}}", "needs a frozen encoder"),
        (f"parameters: {{{SELECTORS}, data.val: {{values: [0]}}}}\nmetric: {{name: pretrain/rankme}}", "data.val is 0"),
        (f"parameters: {{{SELECTORS}, headroom.batches: {{values: [3]}}}}", "no such key"),
    ],
)
def test_what_can_have_no_upper_bound_is_refused(tmp_path, text, said):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, HEADROOM + text)
    assert said in str(error.value)
