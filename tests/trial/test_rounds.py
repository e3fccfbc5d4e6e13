"""The rounds of a trial: what is counted, what selectors may know and return, what the accuracies add up to."""

from __future__ import annotations

import base64
import gc
import types
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from trials import Bench, configure

from harness.api import Images, Pool, Selector
from harness.config.trial import LabelsConfig
from harness.data.oracle import Oracle
from harness.data.splits import Data
from harness.metrics import area_under_curve
from harness.records.hits import unpack_hits
from harness.trial import run as trial
from harness.trial.context import Context
from harness.trial.rounds import Rounds, start_pool
from harness.trial.runtime import Runtime


@pytest.fixture
def bench(cache, tmp_path):
    return Bench(cache, tmp_path / "stages")


def labels_rows(rows: Any) -> list[Any]:
    return [row for row in rows if row[0] == "labels"]


# ---------------------------------------------------------------- counting


def test_each_round_uses_exactly_its_labels(bench):
    rows, totals = bench.run(configure())
    assert [(kind, step) for kind, step, *_ in rows] == [
        ("epoch", 1),
        ("epoch", 2),
        ("labels", 20),
        ("labels", 30),
        ("labels", 40),
    ]
    assert [metrics["labels/used"] for _, _, metrics, _ in labels_rows(rows)] == [20, 30, 40]
    assert totals["labels/used"] == 40
    assert totals["labels/val"] == labels_rows(rows)[0][2]["labels/val"] > 0
    picks = [details.selected for *_, details in labels_rows(rows)[1:]]
    assert [len(set(positions)) for positions in picks] == [10, 10]
    assert not set(picks[0]) & set(picks[1])
    assert rows[2][3].selected is None


@pytest.mark.parametrize(
    "settings",
    [
        {"classifier": ["linear", "knn"]},
        {"classifier": {"name": "finetune", "epochs": 1}},
        {"mode": "joint", "classifier": [{"name": "finetune", "epochs": 1}, "knn"]},
    ],
)
def test_hits_are_the_images_that_each_accuracy_counts(bench, settings):
    rows, _ = bench.run(configure(**settings, ssl_method={"name": "simclr", "hidden_dim": 8}), with_test=True)
    *_, last = labels_rows(rows)
    hits = unpack_hits(base64.b64decode(last[3].hits))
    measured = [name for name in last[2] if name.partition("/")[2].startswith("accuracy") and name[:5] != "train"]
    assert sorted(hits) == sorted(measured)
    assert len({one.images for one in hits.values()}) == 2  # validation and test
    for _, labels, metrics, _ in labels_rows(rows):
        for name in measured:
            assert hits[name].after(labels).mean() == pytest.approx(metrics[name])


def test_hits_name_the_images_whatever_the_seed_and_are_none_without_the_test_set(bench):
    def images(**settings):
        rows, _ = bench.run(configure(labels={"start": 20, "rounds": 0}, ssl_method="none", **settings), with_test=True)
        return unpack_hits(base64.b64decode(labels_rows(rows)[0][3].hits))["test/accuracy"].images

    assert images() == images(data={"fraction": 0.3}) != images(data={"split_seed": 1})
    rows, _ = bench.run(configure())
    assert all(details.hits is None for *_, details in rows)


def test_all_labels_and_cold_starts(bench):
    rows, totals = bench.run(configure(labels={"start": "all"}, ssl_method="none"))
    size = totals["labels/used"]
    assert [(kind, step) for kind, step, *_ in rows] == [("labels", size)]
    assert size == round(0.15 * 1294)
    rows, totals = bench.run(configure(labels={"start": 0, "budget": 15, "rounds": 1}, ssl_method="none"))
    assert [(kind, step) for kind, step, *_ in rows] == [("labels", 15)]
    assert totals["labels/used"] == 15


def test_each_round_of_a_list_of_budgets_buys_its_own(bench):
    labels = {"start": 0, "budget": [5, 5, 20]}
    rows, totals = bench.run(configure(labels=labels, ssl_method="none", selector="typiclust"))
    assert [step for _, step, *_ in rows] == [5, 10, 30]
    assert [len(details.selected) for *_, details in rows] == [5, 5, 20]
    accuracies = [metrics["val/accuracy"] for _, _, metrics, _ in rows]
    first, second, third = accuracies
    assert totals["val/aubc"] == pytest.approx((5 * (first + second) / 2 + 20 * (second + third) / 2) / 25)
    assert configure(labels=labels).labels.total == 30


@pytest.mark.parametrize(
    "labels", [{"start": 20, "budget": 100, "rounds": 2}, {"start": 20, "budget": [20, 180]}, {"start": 9999}]
)
def test_a_budget_beyond_the_pool_is_a_clear_error(bench, labels):
    with pytest.raises(ValueError, match=r"labels: start \d+ .* but the pool has 194; use at most 194"):
        bench.run(configure(labels=labels))


def test_the_budget_may_be_the_whole_pool(bench):
    config = configure(labels={"start": 94, "budget": 50, "rounds": 2}, ssl_method="none", selector="coreset")
    rows, _ = bench.run(config)
    assert [step for _, step, *_ in rows] == [94, 144, 194]


# ---------------------------------------------------------------- selectors


class Spy(Selector):
    """Takes the first unlabelled images, and lets the test look at the pool."""

    supports_cold_start: ClassVar[bool] = True
    seen: ClassVar[list[Pool]] = []

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        self.seen.append(pool)
        return pool.unlabeled[:budget]


class Misbehaving(Selector):
    """Answers wrongly, in a way of choice."""

    def __init__(self, *, way: str = "repeats"):
        self.way = way

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Any:
        answer = pool.unlabeled[:budget].clone()
        if self.way == "repeats":
            answer[1] = answer[0]
        if self.way == "labelled":
            answer[0] = pool.labeled[0]
        if self.way == "beyond":
            answer[0] = len(pool.images)
        if self.way == "negative":
            answer[0] -= len(pool.images)
        return {
            "int32": answer.int(),
            "too few": answer[1:],
            "too many": pool.unlabeled[: budget + 1],
            "matrix": answer[None],
            "list": answer.tolist(),
            "nothing": None,
        }.get(self.way, answer)


@pytest.fixture
def spied():
    Spy.seen.clear()
    yield Spy.seen
    Spy.seen.clear()


@pytest.mark.parametrize(
    "way",
    ["repeats", "labelled", "beyond", "negative", "int32", "too few", "too many", "matrix", "list", "nothing"],
)
def test_an_answer_that_breaks_the_contract_is_refused(bench, way):
    config = configure(selector={"name": "test_rounds:Misbehaving", "way": way}, ssl_method="none")
    with pytest.raises(ValueError, match=r"selector 'test_rounds:Misbehaving' returned"):
        bench.run(config)


def test_the_pool_is_what_the_contract_says(bench, spied):
    config = configure(selector="test_rounds:Spy", ssl_method="none")
    rows, _ = bench.run(config)
    assert [(len(pool.labeled), len(pool.unlabeled)) for pool in spied] == [(20, 174), (30, 164)]
    for pool in spied:
        assert torch.equal(torch.cat([pool.labeled, pool.unlabeled]).sort().values, torch.arange(194))
        for positions in (pool.labeled, pool.unlabeled):
            assert torch.equal(positions, positions.sort().values)
        assert pool.labels.shape == pool.labeled.shape
        assert pool.features.shape[0] == 194
        assert pool.logits.shape == (194, 10)
        assert pool.features.device.type == pool.logits.device.type == "cpu"
    assert rows[1][3].selected == spied[0].unlabeled[:10].tolist()
    _, oracle = trial.load_data(config, bench.folders.cache, with_test=False)
    assert torch.equal(spied[1].labels, oracle.reveal(spied[1].labeled))


def test_a_selector_cannot_change_what_the_trial_knows(bench, monkeypatch):
    def scribble(self: Any, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        answer = pool.unlabeled[:budget].clone()
        for part in (pool.labels, pool.labeled, pool.unlabeled, pool.features, pool.logits):
            part.zero_()
        return answer

    config = configure(selector="test_rounds:Spy", ssl_method="none")
    honest, _ = bench.run(config)
    monkeypatch.setattr(Spy, "select", scribble)
    cheated, _ = Bench(bench.folders.cache, bench.folders.stages.parent / "other").run(config)
    assert [row[2]["val/accuracy"] for row in cheated] == [row[2]["val/accuracy"] for row in honest]
    assert [row[3] for row in cheated] == [row[3] for row in honest]


@pytest.mark.parametrize("stratified", [False, True])
def test_every_selector_starts_from_the_same_pool_of_a_seed(cache, tmp_path, monkeypatch, stratified):
    starts: dict[int, list[Tensor]] = {0: [], 1: []}

    def remembered(labels: LabelsConfig, seed: int, oracle: Oracle) -> Tensor:
        starts[seed].append(start_pool(labels, seed, oracle))
        return starts[seed][-1]

    monkeypatch.setattr("harness.trial.run.start_pool", remembered)
    for seed in starts:
        for selector in ("random", "coreset", "entropy"):
            config = configure(selector=selector, ssl_method="none", labels__stratified=stratified, labels__rounds=1)
            Bench(cache, tmp_path / f"{selector}{seed}").run(config, seed)
    for found in starts.values():
        assert all(torch.equal(found[0], other) for other in found)
    assert not torch.equal(starts[0][0], starts[1][0])


# ---------------------------------------------------------------- honesty


def reachable(root: Any) -> Iterator[Any]:
    """Everything that can be reached from an object: attributes, closures, containers; not modules and types."""
    seen: dict[int, Any] = {}
    waiting = [root]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, types.ModuleType | type | types.FrameType):
            continue
        seen[id(item)] = item
        yield item
        if isinstance(item, types.FunctionType):  # not its globals: those are the module's
            waiting += [item.__closure__, item.__defaults__, item.__kwdefaults__, item.__dict__]
        else:
            waiting += gc.get_referents(item)


class Cheat(Selector):
    """Searches everything it can reach for labels that were not paid for."""

    supports_cold_start: ClassVar[bool] = True
    found: ClassVar[list[str]] = []
    visited: ClassVar[list[int]] = []
    hidden: ClassVar[dict[str, Tensor]] = {}

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        # What honest selectors read is computed first, so that whatever it leaves behind is searched too.
        read = [pool.features, pool.ssl_loss()]
        if len(pool.labeled):
            read += [pool.logits, pool.augmented_logits(1)]
        count = 0
        for item in reachable(pool):
            count += 1
            if isinstance(item, Oracle | Data | Context | Rounds):
                self.found.append(type(item).__name__)
            if isinstance(item, Tensor) and item.dim() == 1 and len(item) > len(pool.labels):
                for name, labels in self.hidden.items():
                    if len(item) == len(labels) and torch.equal(item.long(), labels):
                        self.found.append(name)
        self.visited.append(count)
        return pool.unlabeled[:budget]


@pytest.mark.parametrize("head", ["linear", "knn", "svm", "finetune"])
@pytest.mark.parametrize("start", [0, 20])
def test_nothing_a_selector_can_reach_holds_hidden_labels(bench, monkeypatch, head, start):
    config = configure(
        selector="test_rounds:Cheat",
        classifier={"name": head, "epochs": 1},
        pretrain={"epochs": 1, "batch_size": 64},
        labels={"start": start, "budget": 10, "rounds": 2},
    )
    data, oracle = trial.load_data(config, bench.folders.cache, with_test=True)
    assert data.test_labels is not None
    prepared = torch.cat([oracle.reveal(torch.arange(len(data.pool))), data.val_labels, data.test_labels])
    Cheat.hidden = {
        "pool": prepared[: len(data.pool)],
        "val": data.val_labels,
        "test": data.test_labels,
    }
    Cheat.found.clear(), Cheat.visited.clear()
    bench.run(config, with_test=True)
    assert Cheat.found == []
    assert len(Cheat.visited) == 2
    assert min(Cheat.visited) > 200, "the search reached hardly anything"


def memory_of(item: Any) -> bytes:
    """All bytes that a tensor or an array stands in, also those of what it is a view of; nothing of other things."""
    if isinstance(item, Tensor):
        storage = item.untyped_storage()
        return torch.empty(0, dtype=torch.uint8).set_(storage).numpy().tobytes()
    while isinstance(item, np.ndarray) and isinstance(item.base, np.ndarray):
        item = item.base
    return item.tobytes() if isinstance(item, np.ndarray) else b""


PARTS = ("pool", "val", "test")


class Peek(Selector):
    """Searches everything it can reach for images that are not the pool's, and for what an encoder says of them."""

    hidden: ClassVar[dict[str, set[bytes]]] = {}
    found: ClassVar[set[str]] = set()
    searched: ClassVar[list[int]] = []

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        read = [pool.features, pool.logits, pool.ssl_loss(1), pool.augmented_logits(1)]
        contents = {memory_of(part) for part in read}
        for item in reachable(pool):
            gathered = item[torch.arange(len(item))] if isinstance(item, Images) else item
            contents.add(memory_of(gathered))
        self.searched.append(sum(map(len, contents)))
        for name, secrets in self.hidden.items():
            others = secrets - self.hidden["pool"]
            if any(secret in content for content in contents for secret in (others or secrets)):
                self.found.add(name)
        return pool.unlabeled[:budget]


TUNED = {"name": "finetune", "epochs": 1}


@pytest.mark.parametrize(
    ("mode", "classifier"),
    [
        ("pretrain", {"name": "linear"}),
        ("pretrain", {"name": "knn", "representation": "raw"}),
        ("pretrain", TUNED),
        ("joint", TUNED),
    ],
)
def test_nothing_a_selector_can_reach_holds_images_but_the_pools(bench, monkeypatch, mode, classifier):
    config = configure(selector="test_rounds:Peek", mode=mode, classifier=classifier, pretrain__epochs=1)
    data, _ = trial.load_data(config, bench.folders.cache, with_test=True)
    assert data.test is not None
    pixels = {name: images[torch.arange(len(images))] for name, images in vars(data).items() if name in PARTS}
    Peek.hidden = {name: {row.numpy().tobytes() for row in part} for name, part in pixels.items()}
    for name, part in pixels.items():
        Peek.hidden[f"{name} as numbers"] = {row.numpy().tobytes() for row in part.flatten(1).float() / 255}
    forward = Runtime.forward

    def noting(self: Runtime, module: Any, images: Images, *view: Any) -> Tensor:
        outputs = forward(self, module, images, *view)
        for name in PARTS[1:]:
            if torch.equal(images[torch.arange(len(images))], pixels[name]):
                told = {row.numpy().tobytes() for row in outputs if row.any()}
                Peek.hidden[f"what is said of {name}"] = Peek.hidden.get(f"what is said of {name}", set()) | told
        return outputs

    monkeypatch.setattr(Runtime, "forward", noting)
    Peek.found.clear(), Peek.searched.clear()
    bench.run(config, with_test=True)
    assert len(Peek.searched) == 2
    assert "pool" in Peek.found, "the search reached hardly anything"
    assert {name for name in Peek.found if not name.startswith("pool")} == set()


def test_the_search_for_labels_finds_them_where_they_are(bench):
    """The check above is tried on a pool that leaks."""
    config = configure()
    data, oracle = trial.load_data(config, bench.folders.cache, with_test=True)

    class Leaky:
        def features(self) -> Tensor:
            return oracle.reveal(torch.arange(len(oracle)))

    pool = Pool(data.pool, torch.arange(0), torch.arange(194), torch.arange(0), 10, Leaky())  # type: ignore[arg-type]
    assert not any(isinstance(item, Oracle) for item in reachable(pool.images))

    class Closed:
        def __init__(self) -> None:
            self.features = lambda: oracle.used

    closed = Pool(data.pool, torch.arange(0), torch.arange(194), torch.arange(0), 10, Closed())  # type: ignore[arg-type]
    assert any(isinstance(item, Oracle) for item in reachable(closed))


def test_a_selector_that_asks_the_model_before_there_is_one_is_told(bench, monkeypatch):
    monkeypatch.setattr(Spy, "select", lambda self, pool, budget, rng: pool.logits)
    with pytest.raises(ValueError, match="no classifier has been trained yet"):
        bench.run(configure(selector="test_rounds:Spy", labels={"start": 0, "budget": 5, "rounds": 1}))


# ---------------------------------------------------------------- the area under the curve


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([(10, 0.5)], 0.5),
        ([(10, 0.5), (20, 0.5), (90, 0.5)], 0.5),
        ([(0, 0.0), (100, 1.0)], 0.5),
        ([(100, 0.4), (200, 0.6), (400, 0.8)], (50 + 140) / 300),
    ],
)
def test_areas_by_hand(curve, expected):
    assert area_under_curve(curve) == pytest.approx(expected)


def test_totals_hold_the_last_rounds_scores_and_the_areas(bench):
    rows, totals = bench.run(configure(), with_test=True)
    curve = labels_rows(rows)
    for split in ("val", "test"):
        points = [(step, metrics[f"{split}/accuracy"]) for _, step, metrics, _ in curve]
        assert totals[f"{split}/aubc"] == pytest.approx(area_under_curve(points))
        assert totals[f"{split}/accuracy"] == points[-1][1]
    _, single = bench.run(configure(labels={"start": 20}))
    assert "val/aubc" not in single
