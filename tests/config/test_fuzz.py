"""Hostile and broken question files: each is a plan or one clear line per mistake, soon and in little memory."""

from __future__ import annotations

import contextlib
import copy
import random
import resource
import signal
import time
from pathlib import Path

import pytest
import yaml
from test_trial_config import ODD, _mutate, _places

from baselines import BUILTINS
from harness.config.plan import load_plan
from harness.config.schema import ConfigError
from harness.plugins import registry

ROOT = Path(__file__).parents[2]
SPACES = sorted((ROOT / "search_spaces").rglob("*.yaml"))

SECONDS = 30.0
"""More than the longest plan takes on a busy machine, and less than a person takes for a hang."""

GROWTH = 400 * 2**20
"""Bytes by which the peak of the process may grow over all files."""

PIECES = [
    "\t", "\n", "  ", " ", ":", "- ", "{", "}", "[", "]", "&a ", "*a", "<<: *a", "!!python/name:os.system ", "!!int ",
    "|", ">", "#", "---\n", "%YAML 9.9\n", "'", '"', "\u2028", "é", "日本語", "\u202e", "\ufeff", "\x00", "\x85",
    "\U0001f600", "1e400", "-.inf", ".nan", "0x" + "f" * 400, "1_000", "9" * 5000, "0o777", "12:30:45", "~",
    "2020-01-01", "null", "?", "9223372036854775808", "-0.0", "1e-400", "\\", "@", "`", "{a: " * 60,
    "[" * 200, "values",
]  # fmt: skip

HUGE = [
    10**9, 10**12, 10**18, 10**30, 2**31, 2**63, -(10**18), 1e308, 1e-308, [1] * 5000, list(range(3000)), "x" * 100_000,
    {str(number): number for number in range(2000)},
]  # fmt: skip


def mutated_text(text: str, rng: random.Random) -> str:
    """Characters, pieces and lines removed, put in, doubled and exchanged."""
    for _ in range(rng.randint(1, 4)):
        kind = rng.randrange(6)
        at = rng.randrange(len(text) + 1)
        lines = text.split("\n")
        line = rng.randrange(len(lines))
        if kind == 0:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + rng.randint(1, 30) :]
        elif kind == 2:
            lines.insert(rng.randrange(len(lines) + 1), lines[line])
            text = "\n".join(lines)
        elif kind == 3:
            lines[line] = " " * rng.randint(0, 9) + lines[line].lstrip()
            text = "\n".join(lines)
        elif kind == 4:
            del lines[line : line + rng.randint(1, 5)]
            text = "\n".join(lines)
        else:
            text = text[:at]
    return text


def mutated_tree(text: str, rng: random.Random) -> str:
    """Values of other types, sizes and places in the tree that the text is."""
    tree = yaml.safe_load(text)
    for _ in range(rng.randint(1, 3)):
        places = _places(tree)
        if not places:
            break
        if rng.random() < 0.5:
            container, key = rng.choice(places)
            container[key] = copy.deepcopy(rng.choice([*HUGE, *ODD]))
        elif rng.random() < 0.2:
            container, key = rng.choice(places)
            for _ in range(rng.choice([5, 50, 200])):
                container[key] = {"name": container[key]} if rng.random() < 0.5 else [container[key]]
        else:
            _mutate(tree, rng)
            tree = copy.deepcopy(tree)  # without aliases
    with contextlib.suppress(RecursionError):
        return yaml.safe_dump(tree, allow_unicode=True)
    return text


class TooLongError(BaseException):
    """Not an Exception: nothing on the way may take it for a mistake of the file's."""


def too_long(*_: object) -> None:
    raise TooLongError


def verdict(file: Path, text: str) -> str:
    """`plan` or `refused`; anything else than a plan or a ConfigError of clear lines fails."""
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    problems: list[str] = []
    try:
        load_plan(file, {})
    except ConfigError as error:
        problems = error.problems
        assert problems
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    for problem in problems:
        assert problem.startswith(str(file)), problem
        assert "\n" not in problem, problem
        assert problem.removeprefix(str(file)).strip(": "), problem
    return "refused" if problems else "plan"


def fuzz(tmp_path: Path, seed: int, number: int) -> dict[str, int]:
    """How many of so many files are plans and how many are refused; a file that fails is left in `tmp_path`."""
    rng = random.Random(seed)
    texts = [file.read_text() for file in SPACES]
    counts = {"plan": 0, "refused": 0}
    longest = 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    handler = signal.getsignal(signal.SIGALRM)
    try:
        for position in range(number):
            text = rng.choice(texts)
            text = mutated_text(text, rng) if rng.random() < 0.5 else mutated_tree(text, rng)
            started = time.perf_counter()
            counts[verdict(tmp_path / f"{seed}_{position}.yaml", text)] += 1
            longest = max(longest, time.perf_counter() - started)
            (tmp_path / f"{seed}_{position}.yaml").unlink()
    finally:
        signal.signal(signal.SIGALRM, handler)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(f"{number} files: {counts}, the longest took {longest:.2f} s, the peak grew by {grown / 2**20:.0f} MB")
    assert grown < GROWTH
    return counts


def test_broken_questions_are_plans_or_clear_lines(tmp_path):
    counts = fuzz(tmp_path, seed=1, number=60)
    assert min(counts.values()) > 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2, 12))
def test_two_thousand_broken_questions_are_plans_or_clear_lines(tmp_path, seed):
    counts = fuzz(tmp_path, seed, number=200)
    assert min(counts.values()) > 10  # both happen: about one in ten is a plan


BOMBS = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{new}: &{new} [{','.join(9 * ['*' + old])}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "merged aliases": "trial: &a {labels: {start: 20}}\n"
    + "".join(f"p{n}: &m{n} {{<<: [{','.join(['*a'] * 9)}]}}\n" for n in range(9)),
    "nested lists": "trial: " + "[" * 50_000,
    "nested mappings": "trial: " + "{a: " * 50_000,
    "indented mappings": "\n".join(" " * depth + "a:" for depth in range(3_000)),
    "a grid of a billion": "parameters: {"
    + ", ".join(f"{key}: {{values: {list(range(1, 101))}}}" for key in ("pretrain.epochs", "pretrain.batch_size"))
    + ", labels.start: {values: [" + ", ".join(map(str, range(1, 101))) + "]}, pretrain.patience: {values: ["
    + ", ".join(map(str, range(1, 1001))) + "]}}",
    "a large grid": "parameters: {pretrain.epochs: {values: [" + ", ".join(map(str, range(1, 64)))
    + "]}, labels.start: {values: [" + ", ".join(map(str, range(1, 33))) + "]}}",
    "a million seeds": "seeds: [" + ", ".join(map(str, range(1_000_000))) + "]",
    "a wide network": "trial: {backbone: {name: dcnn3, width: 100000000000}}",
    "a wide projection": "trial: {ssl_method: {name: simclr, projection_dim: 1000000000000000}}",
    "a long queue": "trial: {ssl_method: {name: moco_v2, queue_size: 1000000000000}}",
    "a deep network": "trial: {backbone: {name: vit, depth: 1000000000}}",
    "a deep projector": "trial: {ssl_method: {name: simclr, depth: 1000000000}}",
    "a deep decoder": "trial: {backbone: vit, ssl_method: {name: mae, decoder_depth: 1000000000}}",
    "a billion rounds": "trial: {labels: {start: 10, budget: 1, rounds: 1000000000}}",
    "huge images": "trial: {dataset: {name: image_folder, size: 1000000000}}",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_or_planned_soon_and_in_little_memory(tmp_path, bomb):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started = time.perf_counter()
    outcome = verdict(tmp_path / "bomb.yaml", BOMBS[bomb])
    print(bomb, outcome, f"{time.perf_counter() - started:.2f} s")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < GROWTH


SECTIONS = {
    "augmentations": "augmentation",
    "backbones": "backbone",
    "selectors": "selector",
    "ssl_methods": "ssl_method",
}


@pytest.mark.parametrize("kind", SECTIONS)
def test_no_number_of_a_plugin_takes_the_memory(tmp_path, kind):
    """A billion in the place of each whole number: of layers, heads, parts, views, steps or images."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for name in (name for name in BUILTINS[kind] if not name.endswith("/")):
        values = registry.defaults(registry.find_plugin(kind, name))
        for setting, value in values.items():
            if isinstance(value, int) and not isinstance(value, bool):
                plugin = {"name": name, setting: 10**9}
                verdict(tmp_path / "huge.yaml", yaml.safe_dump({"trial": {SECTIONS[kind]: plugin}}))
                grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
                assert grown < GROWTH, plugin
