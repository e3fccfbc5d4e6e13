"""The oracle counts what it reveals, and nothing that a selector can reach holds the other labels."""

import copy
import gc
import pickle
import types
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.datasets.digits import Digits
from harness.api import Pool
from harness.data.oracle import BudgetExceeded, Oracle, stratified_draw
from harness.data.splits import Splitting, open_data
from harness.seeding import generator

LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])


def rng(seed=0):
    return generator(seed, "test")


def test_reveal_counts_each_label_once():
    oracle = Oracle(LABELS, 3, budget=4)
    assert oracle.reveal(torch.tensor([5, 0, 5])).tolist() == [2, 0, 2]
    assert oracle.used == 2
    assert oracle.reveal(torch.tensor([0, 1])).tolist() == [0, 1]
    assert oracle.used == 3
    assert oracle.reveal(torch.tensor([], dtype=torch.int64)).tolist() == []
    assert oracle.used == 3


def test_budget_is_exact_and_a_refusal_reveals_nothing():
    oracle = Oracle(LABELS, 3).with_budget(3)
    oracle.reveal(torch.tensor([0, 1]))
    with pytest.raises(BudgetExceeded, match="2 new labels asked for with 2 of a budget of 3 used") as caught:
        oracle.reveal(torch.tensor([1, 2, 3]))
    assert (caught.value.asked, caught.value.used, caught.value.budget) == (2, 2, 3)
    assert oracle.used == 2
    assert oracle.reveal(torch.tensor([3])).tolist() == [0]
    assert oracle.used == oracle.budget == 3


def test_a_repetition_within_one_request_costs_nothing():
    assert Oracle(LABELS, 3, budget=1).reveal(torch.tensor([1, 1])).tolist() == [1, 1]


def test_without_a_budget_everything_can_be_revealed():
    oracle = Oracle(LABELS, 3)
    assert oracle.budget is None
    assert torch.equal(oracle.reveal(torch.arange(8)), LABELS)
    assert oracle.class_counts.tolist() == [4, 2, 2]


def test_the_budget_is_set_once_and_fits_the_pool():
    oracle = Oracle(LABELS, 3, budget=0)
    with pytest.raises(ValueError, match="budget is 0 and cannot be changed to 5"):
        oracle.with_budget(5)
    with pytest.raises(BudgetExceeded):
        oracle.reveal(torch.tensor([0]))
    with pytest.raises(ValueError, match=r"9 labels is not in 0 \.\. 8"):
        Oracle(LABELS, 3, budget=9)


@pytest.mark.parametrize("indices", [torch.tensor([8]), torch.tensor([-1]), torch.tensor([[0]]), torch.tensor([0.0])])
def test_reveal_refuses_what_is_not_a_position(indices):
    oracle = Oracle(LABELS, 3)
    with pytest.raises(ValueError, match="position"):
        oracle.reveal(indices)
    assert oracle.used == 0


def test_the_oracle_keeps_its_own_copy():
    labels = LABELS.clone()
    oracle = Oracle(labels, 3)
    labels[:] = 0
    oracle.reveal(torch.arange(8))[:] = 0
    assert torch.equal(oracle.reveal(torch.arange(8)), LABELS)


def test_labels_do_not_leave_through_repr_pickle_or_copy():
    oracle = Oracle(LABELS, 3, budget=5)
    assert repr(oracle) == "Oracle(num_images=8, num_classes=3, used=0, budget=5)"
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            leave(oracle)


def test_uniform_start_is_sorted_distinct_free_and_repeatable():
    oracle = Oracle(LABELS, 3, budget=0)
    start = oracle.draw_start(5, stratified=False, rng=rng())
    assert start.dtype == torch.int64
    assert start.tolist() == sorted(set(start.tolist()))
    assert oracle.used == 0
    assert torch.equal(start, oracle.draw_start(5, stratified=False, rng=rng()))
    drawn = Counter(i for seed in range(400) for i in oracle.draw_start(4, stratified=False, rng=rng(seed)).tolist())
    assert all(150 < drawn[i] < 250 for i in range(8))  # 200 expected, standard deviation 10


@pytest.mark.parametrize("size", [0, 9, -1])
@pytest.mark.parametrize("stratified", [True, False])
def test_impossible_start_sizes_are_refused(size, stratified):
    with pytest.raises(ValueError, match=str(size)):
        Oracle(LABELS, 3).draw_start(size, stratified=stratified, rng=rng())


def largest_remainder(counts, size):
    """Hamilton's method in exact integers, where no tie and no bound interferes."""
    total = sum(counts)
    quotas = [size * count // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda k: -(size * counts[k] % total))
    for k in by_remainder[: size - sum(quotas)]:
        quotas[k] += 1
    return quotas


@pytest.mark.parametrize(("counts", "size"), [([50, 30, 20], 10), ([61, 23, 17], 20), ([100, 7, 211, 43], 77)])
def test_stratified_quotas_are_largest_remainders(counts, size):
    labels = torch.cat([torch.full((count,), k) for k, count in enumerate(counts)])[torch.randperm(sum(counts))]
    drawn = stratified_draw(labels, size, rng=rng())
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert torch.bincount(labels[drawn]).tolist() == largest_remainder(counts, size)


def test_stratified_draw_has_every_class_and_leaves_what_it_is_told_to():
    labels = torch.cat([torch.zeros(1000), torch.ones(2), torch.full((3,), 2)]).long()
    assert torch.bincount(labels[stratified_draw(labels, 3, rng=rng())]).tolist() == [1, 1, 1]
    assert torch.bincount(labels[stratified_draw(labels, 20, rng=rng())]).tolist() == [18, 1, 1]
    assert torch.bincount(labels[stratified_draw(labels, 1002, rng=rng(), leave=1)]).tolist() == [999, 1, 2]
    with pytest.raises(ValueError, match="nearest: 1002"):
        stratified_draw(labels, 1003, rng=rng(), leave=1)
    with pytest.raises(ValueError, match="nearest: 3"):
        stratified_draw(labels, 2, rng=rng())
    with pytest.raises(ValueError, match="class 1 has 2 images and at least 3 are needed"):
        stratified_draw(labels, 3, rng=rng(), leave=2)


def test_stratified_draw_favours_no_class_in_ties():
    labels = torch.arange(4).repeat(10)
    extra = Counter()
    for seed in range(200):
        counts = torch.bincount(labels[stratified_draw(labels, 5, rng=rng(seed))])
        extra[int(counts.argmax())] += 1
    assert all(extra[k] > 25 for k in range(4))  # 50 expected, standard deviation 6


class Model:
    """A pool's model that knows images alone."""

    def features(self) -> Tensor:
        return torch.zeros(3, 2)


class LeakingModel(Model):
    """One that closes over the labels, as a careless harness would."""

    def __init__(self, labels):
        self.accuracy = lambda predicted: (predicted == labels).float().mean()


def leaks(root, hidden):
    """Everything reachable from `root` that holds one of the `hidden` label vectors, as an array or a list."""
    secrets = [labels.numpy().astype(np.int64).tobytes() for labels in hidden]
    found, seen, todo = [], set(), [root]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, types.ModuleType | type | types.BuiltinFunctionType):
            continue
        seen.add(id(item))
        if isinstance(item, Tensor | np.ndarray | list | tuple) and holds(item, secrets):
            found.append(item)
        # Of a function only the namespaces of this project: torch's lead everywhere.
        outside = isinstance(item, types.FunctionType) and not (item.__module__ or "").startswith(
            ("harness", "baselines", "test")
        )
        todo += [part for part in gc.get_referents(item) if not (outside and part is item.__globals__)]
    return found


def holds(item, secrets):
    try:
        values = np.asarray(item.detach().cpu() if isinstance(item, Tensor) else item)
    except (ValueError, TypeError, RuntimeError):
        return False
    if values.dtype.kind not in "iuf" or values.size * 8 not in {len(secret) for secret in secrets}:
        return False
    return values.astype(np.int64).tobytes() in secrets


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return open_data(
        Digits(), "digits", Splitting(), cache=tmp_path_factory.mktemp("cache"), with_test=False, device="cpu"
    )


def pool_of(data, oracle, model):
    labeled = oracle.draw_start(20, stratified=True, rng=rng())
    mask = torch.ones(len(oracle), dtype=torch.bool)
    mask[labeled] = False
    unlabeled = mask.nonzero().flatten()
    pool = Pool(data.pool, labeled, unlabeled, oracle.reveal(labeled), data.num_classes, model)
    labels = oracle._labels  # the test alone may look
    return pool, [labels, labels[unlabeled]]


def test_no_hidden_label_is_reachable_from_the_pool_or_the_data(digits):
    data, oracle = digits
    pool, hidden = pool_of(data, oracle, Model())
    assert leaks((data, pool, 10, rng()), hidden) == []


@pytest.mark.slow
def test_the_leak_test_finds_a_leak(digits):
    data, oracle = digits
    _, hidden = pool_of(data, oracle, Model())
    for model in (LeakingModel(hidden[0]), LeakingModel(hidden[1].tolist()), LeakingModel(oracle)):
        pool, _ = pool_of(data, oracle, model)
        assert leaks(pool, hidden)
