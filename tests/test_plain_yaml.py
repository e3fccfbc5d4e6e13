"""YAML as it is read here: a key stands once, 1e-3 is a number, and there is one reader."""

import ast
import random
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import yaml

from harness.config.plan import load_plan
from harness.config.recipes import load_recipe
from harness.config.schema import ConfigError, parse_overrides
from harness.plain_yaml import parse_yaml, to_yaml
from harness.records.names import label
from harness.records.rows import mapping
from harness.sweep import command
from harness.trial.__main__ import main as trial_main

ROOT = Path(__file__).parents[1]

REPEATED = {
    "at the top": ("seeds: [0]\ntrial: {}\nseeds: [7]\n", "seeds", 1, 3),
    "in a section": (
        "trial:\n  pretrain: {epochs: 1}\n  labels:\n    start: 20\n  pretrain: {lr: 0.5}\n",
        "pretrain",
        2,
        5,
    ),
    "in braces": ("trial: {pretrain: {lr: 0.1,\n  epochs: 3, lr: 0.5}}\n", "lr", 1, 2),
    "in one line": ("trial: {a: 1, a: 1}\n", "a", 1, 1),
    "in a list": ("confirm:\n  references:\n    - x: 1\n    - y: 1\n      z: 2\n      y: 3\n", "y", 4, 6),
    "in quotes": ("a: 1\n'b': 1\n\"a\": 2\n", "a", 1, 3),
    "in what is merged": ("a: &a\n  x: 1\n  x: 2\nb: {<<: *a}\n", "x", 2, 3),
    "a merge": ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n", "<<", 3, 4),
    "null": ("trial:\nname: q\ntrial:\n", "trial", 1, 3),
}


@pytest.mark.parametrize("case", REPEATED)
def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path, case, capsys):
    text, key, first, second = REPEATED[case]
    told = f"line {second}: the key '{key}' is there already, in line {first}"
    file = tmp_path / "question.yaml"
    file.write_text(text)
    for read in (lambda: load_plan(file, {}), lambda: load_recipe(file), lambda: mapping(file)):
        with pytest.raises(ValueError, match=r"question\.yaml") as caught:
            read()
        assert told in str(caught.value)
    for main in (command.main, trial_main):
        assert main([str(file), *(["--dry-run"] if main is command.main else [])]) == 2
        assert told in capsys.readouterr().err


def test_a_key_that_stands_twice_in_a_setting_is_refused():
    with pytest.raises(ConfigError, match=r"--set trial.*the key 'epochs' is there already"):
        parse_overrides(["trial.pretrain={epochs: 1, epochs: 2}"])


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n", {"x": 3, "y": 2}),
        ("a: &a {x: 1, y: 2}\nb: {x: 3, <<: *a}\n", {"x": 3, "y": 2}),
        ("a: &a {x: 1}\nc: &c {x: 2, y: 3}\nb: {<<: [*a, *c], z: 4}\n", {"x": 1, "y": 3, "z": 4}),
        ("a: &a {x: 1}\nc: &c {<<: *a, x: 2}\nb: {<<: *c, x: 3}\n", {"x": 3}),
        ("a: &a {x: 1}\nd: {c: &c {<<: *a, x: 2}}\nb: {<<: *c}\n", {"x": 2}),
        ("a: [{x: 1}, {x: 1}]\nb: {x: {x: {x: 1}}}\n", {"x": {"x": {"x": 1}}}),
    ],
)
def test_what_is_merged_may_be_said_again(text, content):
    assert parse_yaml(text)["b"] == content


NUMBERS = {"1e-3": 1e-3, "1e3": 1e3, "1E-3": 1e-3, "-1e-3": -1e-3, "+1e+3": 1e3, "1.e3": 1e3, ".5e1": 5.0,
           "1.5E+2": 150.0, "0e0": 0.0, "1e-05": 1e-5, "0.1": 0.1, "3": 3, "1.0e-05": 1e-5, ".5": 0.5}  # fmt: skip
TEXTS = [
    "e3",
    "1e",
    "1e-",
    "1e3x",
    "x1e3",
    "1 e3",
    "1e3.5",
    "1e-3e-3",
    "--1e3",
    "1e3-4",
    "+e3",
    ".e3",
    "'1e-3'",
    '"1e3"',
]


@pytest.mark.parametrize("text", NUMBERS)
@pytest.mark.parametrize("around", ["{}", "[{}]", "{{a: {}}}", "- {}\n", "a: {} # b\n"])
def test_a_number_is_a_number_however_it_is_written(around, text):
    content = parse_yaml(around.format(text))
    while isinstance(content, dict | list):
        (content,) = content.values() if isinstance(content, dict) else content
    assert (type(content), content) == (type(NUMBERS[text]), NUMBERS[text])


@pytest.mark.parametrize("text", TEXTS)
def test_what_only_looks_like_one_stays_a_text(text):
    assert parse_yaml(text) == text.strip("'\"")


def test_what_is_written_is_read_again():
    rng = random.Random(0)
    texts = ["".join(rng.choices("0123456789eE.+-_xab ~#", k=rng.randint(1, 6))) for _ in range(5000)]
    texts += [*NUMBERS, *TEXTS, "yes", "no", "null", "", "0010", "12:30", "2020-01-01"]
    assert [text for text in texts if parse_yaml(to_yaml({"a": [text]})) != {"a": [text]}] == []
    for number in (1e-5, 1e300, -0.0, 5, 1e16, float("inf")):
        assert repr(parse_yaml(to_yaml(number))) == repr(number)
    assert list(parse_yaml(to_yaml({"b": 1, "a": 2}))) == ["b", "a"]


def test_a_question_means_the_same_however_its_numbers_are_written(tmp_path):
    question = """
trial: {{classifier: linear, pretrain: {{epochs: 1, lr: {0}}}, labels: {{start: 20}}}}
reference: {{classifier.lr: {1}}}
parameters:
  classifier.lr: {{values: [{1}, 0.5]}}
  ssl_method.temperature: {{values: [{2}, 0.2], when: {{pretrain.lr: {0}, classifier.lr: [{1}]}}}}
"""
    plans = []
    for number, written in enumerate(
        [("0.001", "0.01", "0.1"), ("1e-3", "1E-2", "1e-1"), ("+1.0e-03", ".1e-1", "10e-2")]
    ):
        file = tmp_path / f"{number}.yaml"
        file.write_text(question.format(*written))
        plans.append(load_plan(file, parse_overrides(["name=q", f"trial.pretrain.weight_decay={written[0]}"])))
    dotted, *others = plans
    assert len(dotted.candidates) == 3
    for plan in others:
        assert plan == dotted
        assert plan.as_dict() == dotted.as_dict()
        assert [c.configuration for c in plan.candidates] == [c.configuration for c in dotted.candidates]
        assert [label(c.parameters) for c in plan.candidates] == [label(c.parameters) for c in dotted.candidates]


def test_a_text_is_no_number(tmp_path):
    file = tmp_path / "q.yaml"
    file.write_text("trial: {classifier: {lr: '1e-3'}}\n")
    with pytest.raises(ConfigError, match=r"classifier.lr: expected a number .*, not '1e-3'; leave out the quotes"):
        load_plan(file, {})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("no", "yes, no, on, off, true and false as true or false"),
        ("on", "yes, no, on, off, true and false as true or false"),
        ("true", "yes, no, on, off, true and false as true or false"),
        ("1e3", "1.0, 1e3 and .inf as numbers"),
        ("1.50", "1.0, 1e3 and .inf as numbers"),
        ("null", "null, ~ and nothing at all as null"),
        ("~", "null, ~ and nothing at all as null"),
    ],
)
def test_what_yaml_reads_otherwise_where_a_text_belongs_is_told_to_be_quoted(tmp_path, written, read):
    """As it was written, which nobody knows any more: no other text is offered."""
    file = tmp_path / "q.yaml"
    hint = re.escape(f"; if a text is meant, put it in quotes, letter for letter (YAML reads {read})")
    texts = [f"trial: {{data: {{imbalance: {{kind: step, classes: [{written}], keep: 1}}}}}}"]
    texts += [] if "null" in read else [f"name: {written}"]  # that one is a question without a name
    for text in texts:
        file.write_text(text)
        with pytest.raises(ConfigError, match=hint):
            load_plan(file, {})


def test_numbers_that_begin_with_0_and_minutes_with_seconds_are_texts():
    content = parse_yaml("[0010, 0001, 007, -010, 1:30, 0, 10, -1, 0x1f, 0b11, 1_000, 0.5, 00.5]")
    assert content == ["0010", "0001", "007", "-010", "1:30", 0, 10, -1, 31, 3, 1000, 0.5, 0.5]
    assert parse_yaml(to_yaml(content)) == content
    assert yaml.safe_load(to_yaml(content)) == content, "other readers understand them too"


def test_one_module_reads_and_writes_yaml():
    users = []
    for file in [
        *(ROOT / "harness").rglob("*.py"),
        *(ROOT / "baselines").rglob("*.py"),
        *(ROOT / "benchmarks").glob("*"),
    ]:
        if file.suffix == ".py":
            for node in ast.walk(ast.parse(file.read_text())):
                named = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
                named.append(getattr(node, "module", None) or "")
                if any(name.partition(".")[0] in ("yaml", "ruamel") for name in named):
                    users.append(file.relative_to(ROOT).as_posix())
    assert users == ["harness/plain_yaml.py"]


def test_every_committed_file_reads_as_before_but_for_its_numbers():
    files = [
        *(ROOT / "search_spaces").rglob("*.yaml"),
        *(ROOT / "baselines").rglob("*.yaml"),
        *(ROOT / "results").rglob("*.yaml"),
    ]
    assert len(files) > 20

    def as_numbers(value):
        if isinstance(value, dict):
            return {key: as_numbers(item) for key, item in value.items()}
        if isinstance(value, list):
            return [as_numbers(item) for item in value]
        try:
            return float(value) if isinstance(value, str) and "e" in value.lower() else value
        except ValueError:
            return value

    for file in files:
        assert parse_yaml(file.read_text("utf-8")) == as_numbers(yaml.safe_load(file.read_text("utf-8"))), file


def test_what_a_program_computes_stands_as_the_value_that_it_is():
    given = OrderedDict(
        a=np.float64(0.5), b=[np.int64(3), np.float32(0.25)], c=Path("data/x"), d=np.str_("x"), e=np.bool_(True)
    )
    assert parse_yaml(to_yaml(given)) == {"a": 0.5, "b": [3, 0.25], "c": str(Path("data/x")), "d": "x", "e": True}
    for odd in (np.zeros(2), object()):
        with pytest.raises(ValueError, match="neither a text"):
            to_yaml({"a": odd})
