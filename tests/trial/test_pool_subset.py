"""`pool_subset`: every selector can be shown a draw of the pool; nothing is computed for the rest."""

from typing import ClassVar

import pytest
import torch
from trials import configure, results, rounds_of

from baselines.backbones.dcnn3 import DCNN3
from harness.api import CONDITIONAL_PARTS, Selector
from harness.config.schema import ConfigError
from harness.plugins import registry
from harness.seeding import derive, generator
from harness.trial import models
from harness.trial import run as trial
from harness.trial.selection import shown_rows
from harness.trial.stages import StageCache


class Spy(Selector):
    """Takes the last unlabelled images, lets the test look at the pool, and reads what the test wants read."""

    supports_cold_start = True
    seen: ClassVar[list] = []
    reading: ClassVar = staticmethod(lambda pool: None)

    def select(self, pool, budget, *, rng):
        self.seen.append((pool, self.reading(pool)))
        return pool.unlabeled[-budget:]


@pytest.fixture
def spied(monkeypatch):
    monkeypatch.setattr(Spy, "seen", [])
    return Spy.seen


def spy(**settings):
    return configure(selector={"name": "test_pool_subset:Spy", **settings}, ssl_method="none")


def expected_rows(labeled, number, size, n=194, seed=0):
    """The labelled positions and a draw of the others, sorted."""
    others = torch.tensor([row for row in range(n) if row not in set(labeled.tolist())])
    rng = generator(derive(seed, f"select/{number}"), "pool_subset")
    return torch.cat([labeled, others[torch.randperm(len(others), generator=rng)[:size]]]).sort().values


# --- refusals ---


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ({"name": "random", "pool_subset": 9}, "trial.selector.pool_subset: 10 images cannot be chosen from 9; use at"),
        ({"name": "random", "pool_subset": 0}, "trial.selector: selector 'random': pool_subset = 0 is not >= 1"),
        ({"name": "random", "pool_subset": "many"}, "trial.selector.pool_subset: expected a whole number or null"),
        (
            {"name": "random", "pool_subet": 99},
            "trial.selector.pool_subet: random has no .* did you mean 'pool_subset'",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(selector, message):
    with pytest.raises(ConfigError, match=message):
        configure(selector=selector)


def test_a_subset_as_large_as_the_budget_is_accepted():
    assert configure(selector={"name": "coreset", "pool_subset": 10}).selector.hyperparameters == {"pool_subset": 10}


# --- what is shown, and what comes back ---


def test_rows_are_the_labelled_ones_and_a_uniform_draw():
    is_unlabeled = torch.ones(40, dtype=torch.bool)
    is_unlabeled[[3, 20, 39]] = False
    counts = torch.zeros(40)
    for seed in range(400):
        rows = shown_rows(is_unlabeled, 10, generator(seed, "test"))
        assert torch.equal(rows, rows.unique())
        assert len(rows) == 13
        counts[rows] += 1
    assert counts[~is_unlabeled].tolist() == [400] * 3
    share = counts[is_unlabeled] / 400
    assert (share - 10 / 37).abs().max() < 4 * (10 / 37 * 27 / 37 / 400) ** 0.5  # four standard deviations


def test_a_subset_of_everything_is_everything():
    is_unlabeled = torch.arange(9) > 2
    assert shown_rows(is_unlabeled, None, generator(0, "test")) is None
    assert shown_rows(is_unlabeled, 6, generator(0, "test")) is None
    assert len(shown_rows(is_unlabeled, 5, generator(0, "test"))) == 8


@pytest.mark.parametrize("classifier", ["linear", "finetune"])
def test_the_pool_is_a_part_of_the_whole_and_picks_are_mapped_back(fresh, spied, classifier, monkeypatch):
    def reading(pool):
        passes = pool.stochastic_logits(2), pool.augmented_logits(2)
        return pool.features, pool.logits, [part.shape for part in passes]

    monkeypatch.setattr(Spy, "reading", staticmethod(reading))
    settings = {"backbone__dropout": 0.2, "classifier": {"name": classifier, "epochs": 1}}
    where = {"selector": {"name": "test_pool_subset:Spy"}, "ssl_method": "none", **settings}
    fresh().run(configure(**where))
    wholes = list(spied)
    spied.clear()
    where["selector"]["pool_subset"] = 30
    bench = fresh()
    rows, _ = bench.run(configure(**where))
    data, oracle = trial.load_data(configure(**where), bench.folders.cache, with_test=False)
    (whole, (features, logits, _)), *_ = wholes  # of the second round the models differ
    labeled = whole.labeled
    for number, (pool, (shown_features, shown_logits, shapes)) in enumerate(spied, start=1):
        shown = expected_rows(labeled, number, 30)
        assert (len(pool.labeled), len(pool.unlabeled)) == (len(labeled), 30)
        assert torch.equal(shown[pool.labeled], labeled)
        assert torch.equal(pool.labels, oracle.reveal(labeled))
        assert torch.equal(pool.images[torch.arange(len(shown))], data.pool[shown])
        if number == 1:
            assert torch.allclose(shown_features, features[shown], atol=1e-6)
            assert torch.allclose(shown_logits, logits[shown], atol=1e-5)
        assert shapes == [(2, len(shown), 10)] * 2
        picks = shown[pool.unlabeled[-10:]]
        assert rounds_of(rows)[number][3].selected == picks.tolist()
        labeled = torch.cat([labeled, picks]).sort().values


def test_every_round_draws_anew_and_a_seed_draws_the_same(fresh, spied):
    first, _ = fresh().run(spy(pool_subset=30))
    again, _ = fresh().run(spy(pool_subset=30))
    other, _ = fresh().run(spy(pool_subset=30), seed=1)
    assert results(first) == results(again) != results(other)
    images = [{pool.images[torch.tensor([row])].numpy().tobytes() for row in pool.unlabeled} for pool, _ in spied[:2]]
    assert len(images[0] & images[1]) < 20


@pytest.mark.parametrize("selector", ["random", "coreset"])
def test_a_subset_of_the_whole_pool_changes_nothing(fresh, selector):
    rows, _ = fresh().run(configure(selector=selector, ssl_method="none"))
    same, _ = fresh().run(configure(selector={"name": selector, "pool_subset": 500}, ssl_method="none"))
    assert results(rows) == results(same)


def test_all_labels_of_a_subset_may_be_bought(fresh):
    config = configure(selector={"name": "badge", "pool_subset": 10}, ssl_method="none")
    rows, _ = fresh().run(config)
    assert [step for kind, step, *_ in rows if kind == "labels"] == [20, 30, 40]


# --- cost ---


@pytest.fixture
def encoded(monkeypatch):
    """How many images the encoder sees while a selector reads the parts of its pool, part by part."""
    seen = []
    forward = DCNN3.forward

    def counting(self, images):
        if seen:
            seen[-1][1] += len(images)
        return forward(self, images)

    def reading(pool):
        for name in ("features", "logits"):
            if name != "logits" or len(pool.labeled):
                seen.append([name, 0])
                getattr(pool, name)
        if Spy.has_loss:
            seen.append(["ssl_loss", 0])
            pool.ssl_loss(1)
        for name in ("stochastic_logits", "augmented_logits"):
            if len(pool.labeled):
                seen.append([name, 0])
                getattr(pool, name)(3)
        seen.append(["after", 0])

    monkeypatch.setattr(DCNN3, "forward", counting)
    monkeypatch.setattr(Spy, "reading", staticmethod(reading))
    monkeypatch.setattr(Spy, "has_loss", True, raising=False)
    return seen


def read(encoded):
    return {name: count for name, count in encoded if name != "after"}


def costs(fresh, encoded, **settings):
    selector = {"name": "test_pool_subset:Spy", "pool_subset": 30}
    fresh().run(configure(selector=selector, labels__rounds=1, pretrain__epochs=1, **settings))
    return read(encoded)


@pytest.mark.usefixtures("spied")
def test_a_fine_tuned_model_answers_for_the_subset_alone(fresh, encoded):
    found = costs(fresh, encoded, classifier={"name": "finetune", "epochs": 1}, backbone__dropout=0.2)
    # SimCLR's loss has two views; 20 labelled images and 30 others are shown. Dropout is the last layer: one pass for
    # all samples, after one image that tells.
    assert found == {"features": 50, "logits": 50, "ssl_loss": 100, "stochastic_logits": 51, "augmented_logits": 150}


@pytest.mark.usefixtures("spied")
def test_a_fixed_head_reads_what_is_there_and_passes_cost_the_subset(fresh, encoded):
    found = costs(fresh, encoded, backbone__dropout=0.2)
    assert found == {"features": 0, "logits": 0, "ssl_loss": 100, "stochastic_logits": 1, "augmented_logits": 150}


@pytest.mark.usefixtures("spied")
def test_a_cold_start_encodes_the_subset_alone_where_nothing_else_needs_the_pool(fresh, encoded, monkeypatch):
    monkeypatch.setattr(Spy, "has_loss", False)
    labels = {"start": 0, "budget": 10, "rounds": 1}
    tuned = costs(fresh, encoded, labels=labels, ssl_method="none", classifier={"name": "finetune", "epochs": 1})
    assert tuned == {"features": 30}
    encoded.clear()
    assert costs(fresh, encoded, labels=labels, ssl_method="none") == {"features": 0}  # a head needs all, so they are


def test_every_conditional_part_is_tried_above():
    assert CONDITIONAL_PARTS - {"companion_outputs", "images"} == {"stochastic_logits", "augmented_logits", "ssl_loss"}


def test_what_a_companion_says_is_computed_for_the_subset_alone(fresh, monkeypatch):
    seen = []
    outputs = models.PoolOutputs.companion_outputs
    monkeypatch.setattr(
        models.PoolOutputs, "companion_outputs", lambda self: seen.append(len(found := outputs(self))) or found
    )
    selector = {"name": "learning_loss", "pool_subset": 30}
    classifier = {"name": "finetune", "epochs": 1}
    rows, _ = fresh().run(configure(selector=selector, classifier=classifier, ssl_method="none"))
    assert seen == [50, 60]
    assert len(rows[-1][3].selected) == 10


# --- stages ---


@pytest.fixture
def keys(monkeypatch):
    """The keys of the stages that are asked for: kind -> the last one."""
    asked = {}
    run = StageCache.run

    def noting(self, kind, key, *rest, **options):
        asked[kind] = dict(key)
        return run(self, kind, key, *rest, **options)

    monkeypatch.setattr(StageCache, "run", noting)
    return asked


def test_no_subset_is_the_same_spelled_or_not(fresh, keys):
    config = configure(selector="random", ssl_method="none", labels__rounds=1)
    fresh().run(config)
    spelled = configure(selector={"name": "random", "pool_subset": None}, ssl_method="none", labels__rounds=1)
    assert keys["select"]["selector"] == config.selector.as_dict() == spelled.selector.as_dict()
    assert registry.defaults(registry.find_plugin("selectors", "random")) == {"pool_subset": None, "normalize": None}


def test_a_subset_is_part_of_the_selections_name_and_not_of_the_companions_training(fresh, keys):
    classifier = {"name": "finetune", "epochs": 1}
    where = {"classifier": classifier, "ssl_method": "none", "labels__rounds": 1}
    fresh().run(configure(selector={"name": "learning_loss", "pool_subset": 30}, **where))
    assert keys["select"]["selector"]["pool_subset"] == 30
    assert not {"pool_subset", "normalize"} & keys["train"]["companion"].keys()
