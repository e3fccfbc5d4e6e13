"""A trial as a whole: the same seed gives the same rows, stages are shared, the test set stays closed."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from trials import SMALL, configure, results

from baselines.backbones.dcnn3 import DCNN3
from baselines.datasets.digits import Digits
from harness import api
from harness.api import UNKNOWN, Source, Split, SSLMethod
from harness.metrics import known, step_kind
from harness.plugins import registry
from harness.trial import __main__, pretraining
from harness.trial import run as trial

VARIANTS: dict[str, dict[str, Any]] = {
    "simclr, coreset": {"selector": "coreset"},
    "entropy on an mlp": {"selector": "entropy", "classifier": {"name": "mlp", "epochs": 2}},
    "finetune": {"selector": "margin", "classifier": {"name": "finetune", "epochs": 2, "augmentation": "flip"}},
    "svm": {"ssl_method": "none", "classifier": {"name": "svm"}, "labels__rounds": 1},
    "t-SNE": {
        "ssl_method": "none",
        "classifier": {"name": "knn", "representation": "tsne", "dims": 10},
        "labels__rounds": 1,
    },
    "half precision": {"compute": {"device": "cpu", "precision": "bfloat16"}, "labels__rounds": 1},
}


# ---------------------------------------------------------------- determinism


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_seed_gives_the_same_rows_whatever_ran_before(fresh, variant):
    config = configure(**VARIANTS[variant])
    first, _ = fresh().run(config, seed=7, with_test=True)
    fresh().run(configure(selector="ual", labels={"start": 0, "budget": 12, "rounds": 1}), seed=3)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)  # noqa: NPY002 - what a careless plugin may have done
    again, _ = fresh().run(config, seed=7, with_test=True)
    assert results(first) == results(again)
    other, _ = fresh().run(config, seed=8, with_test=True)
    assert results(first) != results(other)


def test_the_order_of_trials_and_shared_stages_do_not_matter(fresh):
    configs = [configure(selector=name) for name in ("random", "coreset", "entropy", "ual")]
    alone = [results(fresh().run(config)[0]) for config in configs]
    forth, back = fresh(), fresh()
    assert [results(forth.run(config)[0]) for config in configs] == alone
    assert [results(back.run(config)[0]) for config in reversed(configs)] == alone[::-1]


def test_reading_the_test_set_changes_nothing_else(fresh):
    closed, _ = fresh().run(configure())
    opened, _ = fresh().run(configure(), with_test=True)
    for (*_, without, _), (*_, with_, _) in zip(results(closed), results(opened), strict=True):
        assert without == {name: value for name, value in with_.items() if not name.startswith("test/")}


def test_the_global_generators_are_left_as_they_were(fresh):
    torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate()
    fresh().run(configure())
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


# ---------------------------------------------------------------- stages


def test_a_second_run_is_all_cached_and_reports_the_same_seconds(fresh):
    bench = fresh()
    first, totals = bench.run(configure(selector="coreset"))
    second, again = bench.run(configure(selector="coreset"))
    assert results(first) == results(second)
    stages = ("stage/pretrain_cached", "stage/select_cached", "stage/train_cached")
    cached = [row[2][name] for row in first for name in stages if name in row[2]] + [totals["stage/pretrain_cached"]]
    assert set(cached) == {0.0}
    cached = [row[2][name] for row in second for name in stages if name in row[2]] + [again["stage/pretrain_cached"]]
    assert len(cached) == 3 + 2 + 1
    assert set(cached) == {1.0}
    for name in ("time/pretrain_seconds", "time/select_seconds", "time/train_seconds"):
        assert again[name] == totals[name] > 0
    assert [row[2] for row in second if row[0] == "epoch"] == [row[2] for row in first if row[0] == "epoch"]


def test_selectors_share_one_pretraining_and_seeds_do_not(fresh):
    bench = fresh()
    for selector in ("random", "coreset", "entropy"):
        _, totals = bench.run(configure(selector=selector))
        assert totals["stage/pretrain_cached"] == float(selector != "random")
    assert len(list((bench.folders.stages / "pretrain").iterdir())) == 1
    bench.run(configure(), seed=1)
    assert len(list((bench.folders.stages / "pretrain").iterdir())) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"data__fraction": 0.2},
        {"data__split_seed": 1},
        {"data__normalize": False},
        {"backbone__width": 5},
        {"ssl_method__temperature": 0.1},
        {"augmentation__second": "blur"},
        {"augmentation__second": {"name": "noise", "std": 0.11}},
        {"pretrain__lr": 0.01},
        {"compute__precision": "bfloat16"},
    ],
)
def test_whatever_shapes_the_encoder_makes_another_stage(fresh, change):
    bench = fresh()
    short = {"labels": {"start": 20}, "pretrain__epochs": 1}
    bench.run(configure(**short))
    _, totals = bench.run(configure(**short, **change))
    assert totals["stage/pretrain_cached"] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"data__normalize": False},
        {"ssl_method__temperature": 0.1},
        {"selector": {"name": "high_ssl_loss"}},
        {"augmentation__second": "blur"},
        {"labels__budget": 11},
    ],
)
def test_whatever_a_selector_can_see_makes_another_selection(fresh, change):
    """Also with an encoder that was never trained, whose own name says less."""
    bench = fresh()
    base = {"pretrain__epochs": 0, "selector": "low_ssl_loss", "labels": {"start": 20, "budget": 10, "rounds": 1}}
    bench.run(configure(**base))
    rows, _ = bench.run(configure(**base | change))
    assert rows[-1][2]["stage/select_cached"] == 0
    own, _ = fresh().run(configure(**base | change))
    assert results(rows) == results(own)


# ---------------------------------------------------------------- the test set, and other parts


def test_the_test_set_is_not_opened_unless_asked_for(fresh, monkeypatch, cache):
    bench = fresh()
    bench.run(configure(), with_test=True)  # decodes
    images: list[Tensor] = []
    gather = api.Images.__getitem__

    def watch(self: Any, index: Tensor) -> Tensor:
        found = gather(self, index)
        images.append(found.flatten(1))
        return found

    monkeypatch.setattr(api.Images, "__getitem__", watch)
    opened, _ = trial.load_data(configure(), cache, with_test=True)
    assert opened.test is not None
    secret = {row.numpy().tobytes() for row in opened.test[torch.arange(len(opened.test))].flatten(1)}
    images.clear()
    rows, totals = fresh().run(configure(classifier={"name": "finetune", "epochs": 1}))
    read = {row.numpy().tobytes() for batch in images for row in batch}
    assert len(read) > 100
    assert not read & secret
    assert not any(name.startswith("test/") for *_, metrics, _ in rows for name in metrics)
    assert not any(name.startswith("test/") for name in totals)
    closed, _ = trial.load_data(configure(), cache, with_test=False)
    assert closed.test is None
    assert closed.test_labels is None


def new_method(name: str, *num_classes: int) -> SSLMethod:
    return registry.build(registry.as_spec("ssl_methods", name), DCNN3((1, 8, 8), width=2), *num_classes)


def test_unlabelled_extra_images_join_pretraining(fresh, monkeypatch):
    opened = Digits.open

    def open_with_extra(self: Digits) -> Source:
        source = opened(self)
        extra = Split(50, lambda start, stop: torch.full((stop - start, *source.image_shape), 9, dtype=torch.uint8))
        return Source(source.image_shape, source.class_names, {**source.splits, "unlabeled": extra})

    monkeypatch.setattr(Digits, "open", open_with_extra)
    monkeypatch.setattr(Digits, "identity", lambda self: "digits with extra images")
    bench = fresh()
    loaded, oracle = trial.load_data(configure(), bench.folders.cache, with_test=False)
    start = torch.arange(20)
    joined, labels = pretraining.learnt_from(new_method("simclr"), loaded, oracle, start)
    assert labels is None
    _, labels = pretraining.learnt_from(new_method("supcon", 10), loaded, oracle, start)
    assert torch.equal(labels[:20], oracle.reveal(start))
    assert labels[20:].tolist() == [UNKNOWN] * 224
    assert (len(joined), len(loaded.pool), len(oracle)) == (244, 194, 194)
    everything = joined[torch.arange(244)]
    assert torch.equal(everything[:194], loaded.pool[torch.arange(194)])
    assert bool((everything[194:] == 9).all())
    config = configure(pretrain={"epochs": 1, "batch_size": 240}, labels={"start": "all"})  # more than the pool
    _, totals = bench.run(config)
    assert totals["labels/used"] == 194


# ---------------------------------------------------------------- what is reported


def test_every_metric_is_known_in_range_and_on_its_axis(fresh):
    rows, totals = fresh().run(configure(selector="coreset"), with_test=True)
    for kind, _, metrics, details in rows:
        json.dumps(asdict(details))
        for name, value in metrics.items():
            assert known(name).low <= value <= known(name).high, name
            assert step_kind(name) == kind
    for name, value in totals.items():
        assert known(name).low <= value <= known(name).high, name
    assert totals["memory/peak_bytes"] > 50e6
    parts = [totals[f"time/{part}_seconds"] for part in ("pretrain", "encode", "select", "train", "evaluate")]
    assert totals["time/total_seconds"] == pytest.approx(sum(parts))
    assert totals["time/wall_seconds"] >= max(parts)
    matrix = torch.tensor(rows[-1][3].confusion_matrix["matrix"])
    assert rows[-1][3].confusion_matrix["split"] == "test"
    assert float(matrix.diagonal().sum() / matrix.sum()) == pytest.approx(rows[-1][2]["test/accuracy"])


# ---------------------------------------------------------------- the command line


def command(tmp_path: Path, cache: Path, tree: Any, *arguments: str) -> int:
    file = tmp_path / "trial.yaml"
    file.write_text(yaml.safe_dump(tree))
    return __main__.main([str(file), "--cache", str(cache), "--stages", str(tmp_path / "stages"), *arguments])


@pytest.mark.parametrize("wrapped", [True, False])
def test_the_command_prints_one_line_per_record(tmp_path, cache, capsys, wrapped):
    tree = {"method": "grid", "trial": SMALL} if wrapped else SMALL
    assert command(tmp_path, cache, tree, "--set", "trial.pretrain.epochs=1", "--test") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["step_kind"], line["step"]) for line in lines] == [
        ("epoch", 1), ("labels", 20), ("labels", 30), ("labels", 40), ("labels", 40),
    ]  # fmt: skip
    assert lines[-1]["metrics"]["test/accuracy"] == lines[-2]["metrics"]["test/accuracy"]
    assert "time/total_seconds" in lines[-1]["metrics"]
    ((data, code),) = {(line["data"], line["code"]) for line in lines}
    assert len(data) == len(code) == 12


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"selector": "corset"}, "trial.selector: no selector 'corset'; did you mean 'coreset'?"),
        ([1], "expected a mapping"),
        ({"trial": None, "labels": {}}, ""),
        ({"labels": {"start": 5000}}, "the pool has 1294; use at most 1294"),
        ({"dataset": {"name": "image_folder", "path": "nowhere"}}, "nowhere"),
    ],
)
def test_a_users_mistake_is_a_message_and_exit_2(tmp_path, cache, capsys, tree, words):
    if tree == {"trial": None, "labels": {}}:
        tree = {"trial": {"labels": {"start": 0}}}
        words = "nothing to train on"
    assert command(tmp_path, cache, tree) == 2
    assert words in capsys.readouterr().err


def test_a_divergence_is_a_message_and_exit_1(tmp_path, cache, capsys):
    tree = {**SMALL, "pretrain": {"epochs": 2, "lr": 1e30, "batch_size": 64}}
    assert command(tmp_path, cache, tree) == 1
    assert "try a smaller pretrain.lr" in capsys.readouterr().err


FORGETFUL = """
import torch
from harness.api import Dataset, Source, Split

class Forgetful(Dataset):
    def __init__(self, *, brightness: int = 10):
        self.brightness = brightness

    def identity(self):
        return "the same whatever the brightness"

    def open(self):
        images = torch.full((40, 1, 8, 8), self.brightness, dtype=torch.uint8)
        return Source((1, 8, 8), ("a", "b"), {"train": Split(40, lambda i, j: images[i:j], torch.arange(40) % 2)})
"""


def test_a_data_set_that_forgets_a_setting_in_its_identity_is_decoded_again(tmp_path, monkeypatch):
    (tmp_path / "forgetful.py").write_text(FORGETFUL)
    monkeypatch.syspath_prepend(str(tmp_path))
    means = []
    for brightness in (10, 50, 10):
        dataset = {"name": "forgetful:Forgetful", "brightness": brightness}
        data, _ = trial.load_data(configure(dataset=dataset, data={"val": 0.2, "test": 0.2}), tmp_path, with_test=False)
        means.append(round(data.mean[0] * 255))
    assert means == [10, 50, 10]
